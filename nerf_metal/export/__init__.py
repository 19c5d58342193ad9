"""What leaves a run: camera paths, frames, films, meshes, point clouds."""
