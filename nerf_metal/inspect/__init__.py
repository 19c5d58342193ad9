"""The check of a scene before training: its facts, likely mistakes with advice, and a picture of its cameras."""

from __future__ import annotations

from nerf_metal.inspect.facts import list_facts
from nerf_metal.inspect.mistakes import Mistake, find_mistakes
from nerf_metal.inspect.plot import is_ours, plot_cameras

__all__ = ["Mistake", "find_mistakes", "is_ours", "list_facts", "plot_cameras"]
