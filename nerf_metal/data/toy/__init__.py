"""The scene that the package makes itself: solids, a ray tracer, a locomotive."""
