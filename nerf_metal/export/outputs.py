"""The pictures that can be rendered of a frame."""

OUTPUTS = {
    "rgb": ("",),
    "depth": ("depth", "depth_colors"),
    "opacity": ("opacity",),
    "normals": ("normals",),
}
"""By the name of an output: the folders of its pictures inside the film's folder. A video shows the last one's."""
