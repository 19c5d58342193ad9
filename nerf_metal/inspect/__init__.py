"""What a scene holds before it is trained on: facts, likely mistakes with advice, a picture of its cameras."""

from __future__ import annotations

from nerf_metal.inspect.facts import list_facts
from nerf_metal.inspect.mistakes import Finding, find_mistakes
from nerf_metal.inspect.plot import is_ours, plot_cameras

__all__ = ["Finding", "find_mistakes", "is_ours", "list_facts", "plot_cameras"]
