"""The limits that Python states are those of the shaders."""

from __future__ import annotations

import re
from pathlib import Path

from nerf_metal.util.limits import MOST_CASCADES

SHADER = Path(__file__).parents[2] / "metal" / "traverse_ray.h"


def test_the_most_cascades_are_those_of_the_shader() -> None:
    found = re.search(r"TRAVERSE_(?:LEVELS|CASCADES) = (\d+)u;", SHADER.read_text())
    assert found and int(found[1]) == MOST_CASCADES
