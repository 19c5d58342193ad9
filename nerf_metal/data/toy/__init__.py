"""The built-in scene: solids, a ray tracer, and a toy locomotive."""
