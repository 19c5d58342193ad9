"""The watchdog: each fault is found from the numbers alone, named, and not cried over a healthy run."""

import dataclasses
import math

import pytest

from nerf_metal.train.lines import TrainLine
from nerf_metal.train.options import WATCHDOG_FAULTS, watchdog_policies
from nerf_metal.train.watchdog import Fault, Watchdog
from nerf_metal.util.errors import InputError

HEALTHY = TrainLine(
    step=0,
    loss=0.02,
    mse=0.01,
    blank_mse=0.1,
    grad_norm=0.02,
    empty_rays=0.3,
    opaque_rays=0.6,
    alpha=0.7,
    lost_moments=0.0,
)


def watchdog() -> Watchdog:
    return Watchdog(collapse_db=3.0, plateau_steps=1000)


def look(dog: Watchdog, first: int, last: int, **changes) -> Fault | None:
    """Lines from one step to another; the first fault, its step in the evidence."""
    for step in range(first, last + 1, 20):
        faults = dog.line(dataclasses.replace(HEALTHY, step=step, **changes))
        if faults:
            return dataclasses.replace(faults[0], evidence={**faults[0].evidence, "step": step})
    return None


def test_a_healthy_run_raises_nothing():
    dog = watchdog()
    assert not dog.good  # nothing is known yet
    for step in range(20, 5000, 20):
        mse = 0.1 * (step / 20) ** -0.7 * (1.2 if step % 3 else 0.8)
        norm = 0.02 * (4 if step % 7 else 1)
        assert dog.line(dataclasses.replace(HEALTHY, step=step, mse=mse, grad_norm=norm)) == []
        if step % 500 == 0:
            assert dog.evaluated(step, -10 * math.log10(mse) - 1, 10.5) is None
    assert dog.good


@pytest.mark.parametrize("name", ["loss", "mse", "grad_norm"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_not_finite(name, value):
    fault = look(watchdog(), 20, 20, **{name: value})
    assert fault.name == "non-finite" and str(value) in fault.sentence and fault.evidence["what"] == name


def test_collapse_of_an_evaluation():
    """The failed run's own numbers: 9.8, then 4.33 dB."""
    dog = watchdog()
    for psnr in (8.2, 9.8, 9.8 - 2.99):
        assert dog.evaluated(500, psnr, 5.0) is None
    fault = dog.evaluated(1500, 4.33, 9.5)
    assert fault.name == "collapse" and "from 9.80 to 4.33 dB" in fault.sentence
    assert fault.evidence == {"best_psnr": 9.8, "psnr": 4.33}


def test_collapse_of_the_rays_between_evaluations():
    """Found within a few lines; one outlier is not one, and 2 dB are not."""
    dog = watchdog()
    assert look(dog, 20, 400) is None
    assert look(dog, 420, 420, mse=0.05) is None and look(dog, 440, 800) is None
    assert look(dog, 820, 1400, mse=0.01 * 10**0.2) is None
    fault = look(dog, 1420, 2000, mse=0.05)
    assert fault.name == "collapse" and fault.evidence["step"] <= 1420 + 100
    assert fault.evidence["best_psnr"] == pytest.approx(20.0, abs=0.1)
    assert not dog.good


def test_rays_of_another_kind_are_no_collapse():
    dog = watchdog()
    look(dog, 20, 400)
    dog.forget_errors()
    assert look(dog, 420, 900, mse=0.05) is None


def test_plateau_of_the_rays():
    """After 1000 steps, not before; 0.5 dB above blank is enough not to be one; falling back to blank is one too."""
    fault = look(watchdog(), 20, 2000, mse=0.095)
    assert fault.name == "blank-plateau" and fault.evidence["step"] == 1000
    assert fault.evidence["blank_psnr"] == pytest.approx(10.0) and "10.22 dB" in fault.sentence
    assert look(watchdog(), 20, 2000, mse=0.1 * 10**-0.051) is None
    dog = watchdog()
    assert look(dog, 20, 400, mse=0.088) is None
    assert look(dog, 420, 3000, mse=0.099).evidence["step"] in range(1400, 1500)


def test_plateau_of_the_test_views_alone():
    """The rays learn, the views stay blank: another background, or other poses."""
    dog = watchdog()
    look(dog, 20, 1000)
    assert dog.evaluated(980, 10.6, 10.5) is None
    fault = dog.evaluated(1000, 10.9, 10.5)
    assert fault.name == "blank-plateau" and "another background" in fault.sentence
    assert fault.evidence["batch_psnr"] == pytest.approx(20.0)
    blank = watchdog()
    look(blank, 20, 980, mse=0.1)
    assert "another background" not in blank.evaluated(1000, 10.5, 10.5).sentence


def test_dead_and_saturated_density():
    """100 steps in a row; not where the pixels are empty, or all covered as photographs are."""
    fault = look(watchdog(), 20, 400, empty_rays=1.0, opaque_rays=0.0)
    assert fault.name == "dead-density" and fault.evidence["step"] == 100
    fault = look(watchdog(), 20, 400, empty_rays=0.0, opaque_rays=1.0)
    assert fault.name == "saturated-density" and fault.evidence["step"] == 100
    assert look(watchdog(), 20, 400, empty_rays=1.0, alpha=0.0) is None
    assert look(watchdog(), 20, 400, opaque_rays=1.0, alpha=1.0) is None
    dog = watchdog()
    assert look(dog, 20, 80, empty_rays=1.0) is None and not dog.good
    assert look(dog, 100, 100) is None and look(dog, 120, 180, empty_rays=1.0) is None


def test_exploding_gradients():
    """A hundred times the median, twice in a row; the explosion is no part of the median."""
    dog = watchdog()
    assert look(dog, 20, 400) is None
    assert look(dog, 420, 420, grad_norm=50.0) is None and look(dog, 440, 440) is None
    fault = look(dog, 460, 600, grad_norm=50.0)
    assert fault.name == "exploding-gradients" and fault.evidence["step"] == 480
    assert fault.evidence["median"] == pytest.approx(0.02) and "2.5e+03 times" in fault.sentence
    for step in range(500, 2500, 20):  # where the policy is to go on
        faults = dog.line(dataclasses.replace(HEALTHY, step=step, grad_norm=50.0))
    assert faults[0].evidence["median"] == pytest.approx(0.02)
    assert look(watchdog(), 20, 100, grad_norm=1e9) is None  # nothing to compare with yet


def test_faults_at_once_are_all_named():
    """None hides another, and each goes on counting while another shows."""
    dog = watchdog()
    look(dog, 20, 400)
    seen = [dog.line(dataclasses.replace(HEALTHY, step=s, mse=0.2, grad_norm=50.0)) for s in range(420, 1800, 20)]
    names = [[fault.name for fault in faults] for faults in seen]
    assert names[10] == ["exploding-gradients", "collapse"]
    assert names[-1] == ["exploding-gradients", "collapse", "blank-plateau"]


def test_nothing_is_expected_of_a_warm_up():
    dog = Watchdog(collapse_db=3.0, plateau_steps=1000, warmup_steps=5000)
    assert look(dog, 20, 5980, mse=0.1) is None and dog.evaluated(5980, 10.0, 10.0) is None
    assert look(dog, 6000, 6000, mse=0.1).name == dog.evaluated(6000, 10.0, 10.0).name == "blank-plateau"


def test_no_gradient_is_no_measure_for_gradients():
    dog = watchdog()
    assert look(dog, 20, 400, grad_norm=0.0) is None and look(dog, 420, 600, grad_norm=1e-6) is None


def test_moments_that_adam_cannot_have():
    dog = watchdog()
    assert look(dog, 20, 400, lost_moments=0.01) is None
    fault = look(dog, 420, 420, lost_moments=0.8)
    assert fault.name == "optimizer-reset" and "80% of Adam's" in fault.sentence
    assert look(dog, 440, 440) is None  # said once


def test_what_is_good_to_go_back_to():
    """Better than blank, and within 1 dB of the best, by the rays and by the test views."""
    dog = watchdog()
    look(dog, 20, 400)
    assert dog.good
    look(dog, 420, 1000, mse=0.0135)  # 1.3 dB
    assert not dog.good
    look(dog, 1020, 1600)
    assert dog.good
    for psnr, good in ((20.0, True), (19.1, True), (18.9, False), (20.5, True)):
        dog.evaluated(1600, psnr, 10.0)
        assert dog.good == good
    blank = watchdog()
    look(blank, 20, 400, mse=0.095)
    assert not blank.good


def test_state_goes_into_a_checkpoint_and_back():
    """A watchdog that goes back knows what it knew, and no more."""
    import json

    dog = watchdog()
    look(dog, 20, 400)
    dog.evaluated(400, 20.0, 10.0)
    saved = json.loads(json.dumps(dog.state()))
    look(dog, 420, 800, mse=0.0001)
    dog.evaluated(800, 40.0, 10.0)
    dog.load(saved)
    assert dog.state() == saved
    assert look(dog, 420, 800) is None and dog.evaluated(820, 19.0, 10.0) is None and dog.good
    look(dog, 820, 880, empty_rays=1.0)
    dog.load(saved)
    assert look(dog, 420, 480, empty_rays=1.0) is None  # what was in a row is over
    dog.load(saved)
    assert look(dog, 420, 460, grad_norm=50.0).name == "exploding-gradients"  # the norms before are known


def test_policies():
    """One for all, exceptions by name, and messages that say what is wrong."""
    assert watchdog_policies("stop") == dict.fromkeys(WATCHDOG_FAULTS, "stop")
    mixed = watchdog_policies("rollback, collapse=warn,blank-plateau=stop")
    assert (mixed["collapse"], mixed["blank-plateau"], mixed["non-finite"]) == ("warn", "stop", "rollback")
    with pytest.raises(InputError, match=r"--watchdog must be one of warn, rollback, stop, got bark; "):
        watchdog_policies("bark")
    with pytest.raises(InputError, match=r"--watchdog must have exceptions FAULT=POLICY of .*, got colapse=warn; "):
        watchdog_policies("stop,colapse=warn")
    with pytest.raises(InputError, match=r"--watchdog must be one of .*, got "):
        watchdog_policies("stop,collapse")
