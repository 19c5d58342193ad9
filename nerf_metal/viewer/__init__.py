"""A web page to move through a field, while it trains and after; by viser (``pip install 'nerf-metal[view]'``).

``axes`` converts cameras, ``render_loop`` decides what is rendered next and how sharply, ``picture`` makes it what the
page shows, ``scene_graph`` draws cameras and box, ``controls``, ``camera_path`` and ``status`` are the panel,
``server`` serves the page, ``viewer`` puts them together, ``training`` lets it look on while a run trains.
"""
