"""Writing scenes: what comes back, and that nothing of a person's is lost."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from nerf_metal.data import Scene, Split, load_blender, write_scene
from nerf_metal.data import write as write_module
from nerf_metal.util.errors import InputError


def _same(a: Split, b: Split) -> None:
    assert torch.equal(a.images, b.images)
    assert torch.equal(a.c2w, b.c2w)
    assert (a.names, a.has_alpha) == (b.names, b.has_alpha)
    assert b.intrinsics.fl_x == pytest.approx(a.intrinsics.fl_x, rel=1e-12)


def _tree(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_round_trip(small: Scene, tmp_path: Path) -> None:
    write_scene(small, tmp_path / "new" / "toy")
    back = load_blender(tmp_path / "new" / "toy", splits=("train", "val", "test"))
    _same(small.splits["train"], back.splits["train"])
    _same(small.splits["test"], back.splits["test"])
    assert back.splits["val"].names == [f"test/r_{i}" for i in (0, 1, 3, 4)]
    write_scene(back, tmp_path / "new" / "again")  # val and test share images
    assert _tree(tmp_path / "new" / "again").keys() == _tree(tmp_path / "new" / "toy").keys()
    assert (back.near, back.far, back.aabb.tolist()) == (small.near, small.far, small.aabb.tolist())
    assert {p.name for p in (tmp_path / "new").iterdir()} == {"toy", "again"}  # nothing left beside it


def test_round_trip_of_opaque_images_and_hidden_noise(folder: Path, tmp_path: Path) -> None:
    noise = load_blender(folder)  # colours under transparent pixels included
    opaque = noise.splits["train"].images.clone()
    opaque[..., 3] = 255
    noise.splits["train"] = dataclasses.replace(noise.splits["train"], images=opaque, has_alpha=False)
    write_scene(noise, tmp_path / "copy")
    back = load_blender(tmp_path / "copy")
    for name in ("train", "test"):
        _same(noise.splits[name], back.splits[name])


def test_an_existing_folder_is_kept_unless_told_otherwise(small: Scene, tmp_path: Path) -> None:
    target = tmp_path / "mine"
    target.mkdir()
    (target / "thesis.txt").write_text("dear")
    with pytest.raises(InputError, match=r"directory must .* empty, got .*mine with files.*; "):
        write_scene(small, target)
    with pytest.raises(InputError, match=r"directory must .*, got .*mine without transforms_train.json"):
        write_scene(small, target, overwrite=True)
    assert _tree(tmp_path) == {"mine/thesis.txt": b"dear"}
    (target / "thesis.txt").rename(target / "transforms_train.json")
    (target / "old.png").write_text("old")
    write_scene(small, target, overwrite=True)
    assert not (target / "old.png").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]
    (tmp_path / "empty").mkdir()
    write_scene(small, tmp_path / "empty")
    assert _tree(tmp_path / "empty") == _tree(target)


def test_a_folder_that_fills_up_meanwhile_is_kept(
    small: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "mine"
    target.mkdir()
    monkeypatch.setattr(write_module, "_write_files", lambda *_: (target / "thesis.txt").write_text("dear"))
    with pytest.raises(InputError, match=r"directory .*, got .*mine \(Directory not empty\); "):
        write_scene(small, target)
    assert _tree(tmp_path) == {"mine/thesis.txt": b"dear"}


@pytest.mark.parametrize("step", ["write", "rename"])
def test_a_failure_half_way_leaves_everything_as_it_was(
    small: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    target = tmp_path / "mine"
    target.mkdir()
    (target / "transforms_train.json").write_text("dear")
    if step == "write":

        def fail(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(write_module, "_write_transforms", fail)
    else:
        rename = Path.rename

        def fail_fresh(self: Path, to: Path) -> Path:
            if self.name == "fresh":
                raise PermissionError(13, "Permission denied")
            return rename(self, to)

        monkeypatch.setattr(Path, "rename", fail_fresh)
    with pytest.raises(InputError, match=r"directory .*, got .*mine \((No space|Permission).*; "):
        write_scene(small, target, overwrite=True)
    assert _tree(tmp_path) == {"mine/transforms_train.json": b"dear"}


def test_destinations_that_cannot_be_written(small: Scene, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("dear")
    with pytest.raises(InputError, match=r"directory .*, got the file .*file; "):
        write_scene(small, tmp_path / "file", overwrite=True)
    with pytest.raises(InputError, match=r"directory .*, got .* \(.*\); "):
        write_scene(small, tmp_path / "file" / "toy")
    assert _tree(tmp_path) == {"file": b"dear"}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(small: Scene, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(InputError, match=r"directory must be writable, .*Permission denied"):
            write_scene(small, tmp_path / "toy")
    finally:
        tmp_path.chmod(0o700)


def test_scenes_that_the_format_cannot_hold(small: Scene, tmp_path: Path) -> None:
    train = small.splits["train"]

    def with_train(**changes: Any) -> Scene:
        return dataclasses.replace(small, splits={"train": dataclasses.replace(train, **changes)})

    shifted = dataclasses.replace(train.intrinsics, cx=7.0)
    with pytest.raises(InputError, match=r"intrinsics of 'train' .*, got Intr"):
        write_scene(with_train(intrinsics=shifted), tmp_path / "toy")
    for name in ("../../out", "/out", "", "a.png"):
        with pytest.raises(InputError, match=f"image names .*, got '{name}'"):
            write_scene(with_train(names=["train/a", "train/b", name]), tmp_path / "toy")
    for name in ("./a", "A"):
        with pytest.raises(InputError, match=f"image names .*, got '{name}' for two"):
            write_scene(with_train(names=["a", "b", name]), tmp_path / "toy")
    assert not list(tmp_path.iterdir())


def test_split_checks_its_parts(small: Scene) -> None:
    train = small.splits["train"]
    with pytest.raises(InputError, match=r"images of 'train' must be uint8 \(3, 16, 16, 4\) .* got torch.float32"):
        dataclasses.replace(train, images=train.images.float())
    with pytest.raises(InputError, match=r"images of 'train' .* got torch.uint8 \(2, 16, 16, 4\)"):
        dataclasses.replace(train, images=train.images[:2])
    with pytest.raises(InputError, match=r"c2w of 'train' must be float32 \(3, 4, 4\), got torch.float64"):
        dataclasses.replace(train, c2w=train.c2w.double())
