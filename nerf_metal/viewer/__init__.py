"""A web page that shows a field from a moving camera, also during training (``pip install 'nerf-metal[view]'``).

The page is served by viser. The modules:

- ``viewer``: the page as a whole; it puts the other modules together.
- ``training``: the page during a training run.
- ``server``: serves the page.
- ``live_picture``: decides which picture is rendered next, and how sharp it is.
- ``picture``: converts rendered pixels into a picture for the page.
- ``axes``: converts cameras between the page and nerf_metal.
- ``scene_graph``: draws the cameras and the box.
- ``controls``, ``camera_path`` and ``status``: the parts of the panel.
"""
