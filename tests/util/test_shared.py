"""What the rooms share: pictures, text, files."""

import json

import numpy as np
import pytest
import torch

from nerf_metal.util.atomic import write_json
from nerf_metal.util.pictures import to_uint8
from nerf_metal.util.text import wrap


@pytest.mark.parametrize("of", [torch.tensor, np.array])
def test_bytes_are_rounded_and_clamped(of):
    values = of([[-0.5, 0.0, 0.00195], [0.00197, 1.0, 7.0]])
    assert to_uint8(values).tolist() == [[0, 0, 0], [1, 255, 255]]
    assert to_uint8(values).dtype == np.uint8


def test_bytes_of_what_has_gradients_and_of_what_is_read_only():
    weights = torch.tensor([0.2], requires_grad=True)
    assert to_uint8(weights * 2).tolist() == [102]
    assert to_uint8(np.broadcast_to(np.array([0.4]), (2, 1))).tolist() == [[102], [102]]


def test_options_and_paths_stay_whole():
    lines = wrap("use --log2-table-size with " + "/a-b" * 30, "  - ", width=24)
    assert lines == ["  - use", "    --log2-table-size", "    with", "    " + "/a-b" * 30]


def test_json_that_is_not_finite_keeps_the_file(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": [1, 2.5]})
    with pytest.raises(ValueError, match="float"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": [1, 2.5]} and list(tmp_path.iterdir()) == [path]
