"""Exports of a trained run: camera paths, frames, films, meshes and point clouds."""
