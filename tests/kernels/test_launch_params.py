"""Argument structs that the launcher refuses, and in which words: csrc/launcher/arguments.cpp."""

from __future__ import annotations

import pytest
import torch

from nerf_metal import kernels
from tests.kernels.test_launch_messages import HUGE, INTERSECT, PARAMS, tensors

pytestmark = pytest.mark.host_kernels


def test_params_by_name() -> None:
    with pytest.raises(ValueError, match=rf"\[{INTERSECT}\] params must be \['disparity', .*\], got \['n_rays'\]"):
        kernels.launch(INTERSECT, tensors(), {"n_rays": 4}, (4,), backend="host")


@pytest.mark.parametrize("change", [{"n_rays": -1}, {"n_rays": 2**32}, {"t_far": 1e39}, {"n_rays": 0.5}])
def test_params_that_do_not_fit(change) -> None:
    with pytest.raises(ValueError, match=rf"^\[{INTERSECT}\] params must fit 32 bits each: .*, got "):
        kernels.launch(INTERSECT, tensors(), PARAMS | change, (4,), backend="host")


def test_params_in_any_order() -> None:
    one, two = tensors(), tensors()
    kernels.launch(INTERSECT, one, PARAMS, (4,), backend="host")
    kernels.launch(INTERSECT, two, dict(reversed(PARAMS.items())), (4,), backend="host")
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    wrong = {("rays" if name == "n_rays" else name): value for name, value in PARAMS.items()}
    with pytest.raises(ValueError, match=rf"\[{INTERSECT}\] params must be \[.*'n_rays'.*\], got \[.*'rays'.*\]"):
        kernels.launch(INTERSECT, one, wrong, (4,), backend="host")


def test_params_that_are_no_names() -> None:
    wrong = {(5 if name == "seed" else name): value for name, value in PARAMS.items()}
    with pytest.raises(ValueError, match=rf"\[{INTERSECT}\] params must be \[.*\], got \[5, 'disparity', .*\]"):
        kernels.launch(INTERSECT, tensors(), wrong, (4,), backend="host")


@pytest.mark.parametrize("value", [HUGE, torch.ones(3, 3), "two\nlines", object(), None])
def test_params_that_no_line_can_hold(value) -> None:
    with pytest.raises(
        ValueError, match=rf"^\[{INTERSECT}\] params must fit 32 bits each: n_rays is uint, got "
    ) as caught:
        kernels.launch(INTERSECT, tensors(), PARAMS | {"n_rays": value}, (4,), backend="host")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_params_that_change_while_they_are_read() -> None:
    """The object that is asked for its number leaves the dict, which held it; the message still names it. Where it is
    gone by then, AddressSanitizer sees it (proof/sanitizers)."""

    class Leaving:
        def __index__(self) -> int:
            params.clear()
            raise TypeError

        def __repr__(self) -> str:
            return "Leaving"

    params: dict = {**PARAMS, "n_rays": Leaving()}
    with pytest.raises(ValueError, match=r"n_rays is uint, got Leaving$"):
        kernels.launch(INTERSECT, tensors(), params, (4,), backend="host")


def test_params_that_are_gone_after_the_first() -> None:
    """Names of the dict's own, as those of this module's text live on."""

    class Last:
        def __index__(self) -> int:
            params.clear()
            return 4

    params: dict = {"".join(list(name)): value for name, value in PARAMS.items()}
    params["n_rays"] = Last()
    with pytest.raises(ValueError, match=r"params must be \['disparity', .*\], got \[\]$"):
        kernels.launch(INTERSECT, tensors(), params, (4,), backend="host")


def test_params_that_are_interrupted() -> None:
    class Interrupted:
        def __index__(self) -> int:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kernels.launch(INTERSECT, tensors(), PARAMS | {"n_rays": Interrupted()}, (4,), backend="host")
    with pytest.raises(KeyboardInterrupt):
        kernels.launch(INTERSECT, tensors(), PARAMS, (Interrupted(),), backend="host")
