"""Whatever happens to a checkpoint's files: it is seen, said, and the one before is used."""

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nerf_metal.train.checkpoint import find_checkpoint, load_optimizer, load_weights
from nerf_metal.util.errors import InputError
from tests.train.checkpoint.saving import SUFFIXES, contents, save, steps, trained, whole

BEST, MIDDLE, LAST = 100, 200, 300
PSNR = {BEST: 25.0, MIDDLE: 20.0, LAST: 21.0}
STATE = {"least_loss": 1e-09, "remark": "ü"}
FILES = st.tuples(st.sampled_from((BEST, LAST)), st.sampled_from(SUFFIXES))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Three checkpoints; tests put back what they break."""
    path = tmp_path_factory.mktemp("checkpoints")
    for step, psnr in PSNR.items():
        save(path, step, psnr=psnr, state=STATE)
    assert steps(path) == [BEST, MIDDLE, LAST]
    return path


def check_that_it_is_seen(folder: Path, name: str, damaged: bytes) -> None:
    """Put ``damaged`` in place of a file: last and best are those that are whole, and the file is named where it was
    passed over."""
    path, step = folder / name, int(name[5:13])
    before = path.read_bytes()
    try:
        path.write_bytes(damaged)
        for which, instead in (("last", {LAST: MIDDLE}.get(step, LAST)), ("best", {BEST: LAST}.get(step, BEST))):
            found = find_checkpoint(folder, which)
            assert found.step == instead
            looked_at = which == "best" or step == LAST
            assert len(found.notes) == looked_at
            if looked_at:
                assert found.notes[0].startswith(f"{name} is damaged: it")
                assert found.notes[0].endswith(f"; the checkpoint of step {instead} is used")
    finally:
        path.write_bytes(before)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(file=FILES, where=st.integers(0, 2**32))
def test_one_flipped_bit(folder, file, where):
    """Anywhere in any of the files."""
    name = f"step_{file[0]:08d}{file[1]}"
    data = bytearray((folder / name).read_bytes())
    bit = where % (8 * len(data))
    data[bit // 8] ^= 1 << bit % 8
    check_that_it_is_seen(folder, name, bytes(data))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(file=FILES, where=st.integers(0, 2**32))
def test_a_file_cut_off(folder, file, where):
    """At any byte."""
    name = f"step_{file[0]:08d}{file[1]}"
    data = (folder / name).read_bytes()
    check_that_it_is_seen(folder, name, data[: where % len(data)])


@pytest.mark.parametrize(("written", "flipped"), [(b"1e-09", b"1E-09"), (rb"\u00fc", rb"\u00Fc"), (b"\n}", b"\n\t}")])
def test_json_that_says_the_same(folder, written, flipped):
    """Only the spelling of a number, a letter or a blank has changed, but what did that can do worse."""
    name = f"step_{LAST:08d}.json"
    data = (folder / name).read_bytes()
    assert data.count(written) == 1
    check_that_it_is_seen(folder, name, data.replace(written, flipped))


@pytest.mark.parametrize("text", ["{", "[]", "{}", "null", '{"format": 2}', '{"format": []}', '{"format": "3"}'])
def test_json_that_is_no_checkpoints(folder, text):
    """Valid or not."""
    check_that_it_is_seen(folder, f"step_{LAST:08d}.json", text.encode())


def test_missing_renamed_and_swapped_files(tmp_path):
    """Files that are whole in themselves, but not this checkpoint's."""
    one, two = save(tmp_path, 1), save(tmp_path, 2, *trained(), psnr=5.0)
    weights = two.with_suffix(".safetensors")
    kept = weights.read_bytes()
    weights.unlink()
    found = find_checkpoint(tmp_path)
    assert found.step == 1
    assert found.notes == ("step_00000002.safetensors is missing; the checkpoint of step 1 is used",)
    weights.write_bytes(one.with_suffix(".optimizer.safetensors").read_bytes())
    assert "step_00000002.safetensors is damaged: it has " in find_checkpoint(tmp_path).notes[0]
    weights.write_bytes(kept)
    for suffix in SUFFIXES:
        two.with_suffix(suffix).rename((tmp_path / "step_00000003").with_suffix(suffix))
    assert "step_00000003.json is damaged: " in find_checkpoint(tmp_path).notes[0]


def test_none_is_whole(tmp_path):
    """One line that names what is damaged and says what to do."""
    one, two = save(tmp_path, 1), save(tmp_path, 2)
    one.with_suffix(".safetensors").unlink()
    two.write_bytes(b"{")
    message = (
        r"must hold an? (undamaged|good) checkpoint, got: step_00000002\.json is damaged: .* \(JSON.*\); "
        r"step_00000001\.safetensors is missing; restore one of them from a copy, or train again$"
    )
    for which in ("last", "best", "good"):
        with pytest.raises(InputError, match=message):
            find_checkpoint(tmp_path, which)


def test_damage_after_it_was_found(tmp_path):
    """Loading checks the very bytes that it uses."""
    model, optimizer = trained()
    path = save(tmp_path, 1, model, optimizer)
    found = whole(tmp_path)
    for suffix, load in ((".safetensors", load_weights), (".optimizer.safetensors", load_optimizer)):
        file = path.with_suffix(suffix)
        file.write_bytes(file.read_bytes()[:-1] + b"\xff")
        with pytest.raises(
            InputError, match=rf"{suffix} must be unchanged since it was saved, got: .*: its sha256 differs; try again"
        ):
            load(found, model, *([optimizer] if load is load_optimizer else []))


def test_damage_costs_no_whole_checkpoint(tmp_path):
    """A damaged one does not count among those that stay: neither as the best nor as one of the newest."""
    for step, psnr in PSNR.items():
        save(tmp_path, step, psnr=psnr)
    for step in (BEST, LAST):
        (tmp_path / f"step_{step:08d}.safetensors").write_bytes(b"")
    save(tmp_path, 250, psnr=9.0, good=False, keep=1)  # the run went on from 200, since 300 was damaged
    assert steps(tmp_path) == [BEST, MIDDLE, 250, LAST]  # the damaged ones are left to a person to judge
    assert (find_checkpoint(tmp_path).step, find_checkpoint(tmp_path, "best").step) == (250, MIDDLE)
    save(tmp_path, LAST, psnr=23.0, keep=1)
    assert steps(tmp_path) == [BEST, LAST]
    assert whole(tmp_path).step == LAST and find_checkpoint(tmp_path, "best").step == LAST


@pytest.mark.parametrize(("version", "advice"), [(4, r"newer than this one: pip install -U nerf-metal"), (1, "older")])
@pytest.mark.parametrize("sealed", [True, False])
def test_another_version_is_refused_and_left_alone(tmp_path, version, advice, sealed):
    """Neither passed over nor deleted, whether it has a checksum like ours or none."""
    save(tmp_path, 1)
    path = save(tmp_path, 2)
    about = json.loads(path.read_text())
    del about["checksum"]
    about["format"] = version
    if sealed:
        text = json.dumps(about, sort_keys=True, separators=(",", ":"))
        about["checksum"] = hashlib.sha256(text.encode()).hexdigest()
    path.write_text(json.dumps(about))
    with pytest.raises(
        InputError, match=rf"must have format 2 or 3, got {version}; use the version .* wrote it \({advice}"
    ):
        find_checkpoint(tmp_path)
    theirs = {name: data for name, data in contents(tmp_path).items() if name.startswith("step_00000002")}
    for step in (3, 4, 5):
        save(tmp_path, step)
    assert contents(tmp_path).items() > theirs.items()
    assert steps(tmp_path) == [2, 4, 5]
