"""The pictures that can be rendered of a frame."""

OUTPUTS = {
    "rgb": ("",),
    "depth": ("depth", "depth_colors"),
    "opacity": ("opacity",),
    "normals": ("normals",),
}
"""The outputs by name, and for each the subfolders of its pictures. A video shows the pictures of the last one."""
