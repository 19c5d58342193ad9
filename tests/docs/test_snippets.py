"""Every snippet of README.md, CONTRIBUTING.md and docs/ runs as it stands.

A ``python`` block runs. The blocks of one page share their names, so that a block may build on those above it, which
the reader has seen too; nothing else is set up for them.

A command of a ``shell`` block, or within a sentence, is read by the parser of the program itself. In a shell block
``nerf-metal`` also really runs, in a folder with a small scene and a small run. What would take long is shortened by
the options in `SHORTER`, which are appended to the command; what does not run here stands in `NOT_RUN` with the reason.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import itertools
import json
import re
import runpy
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import tyro

from nerf_metal.cli import COMMANDS, main
from nerf_metal.data.scene import Scene
from nerf_metal.data.write import write_scene
from tests.__main__ import TIERS
from tests.conftest import cube_split
from tests.docs.pages import PAGES, ROOT, blocks, commands, included, inline_commands, name

LANGUAGES = {"python", "shell", "text", "json", "cpp", "toml", "yaml"}
TINY_NETWORKS = "--hidden-width 16 --batch-rays 16 --num-samples 4 --num-importance 4 --batch-samples 2048"
SHORTER = {
    # Every option that a page gives is still read and checked; the options here come last and so win.
    "train": f"--steps 2 --eval-views 1 --device cpu {TINY_NETWORKS}",
    "render": "--width 8",
    "export": "--resolution 16 --threshold 0.01 --points 100 --overwrite",
    "make-scene": "--resolution 8 --train-views 2 --test-views 1",
}
FILM = "--seconds 0.1 --no-video"  # appended to a render along a path of ours
NOT_RUN = {
    # The first words of a command, and why it does not run in a test. The commands of nerf-metal among them are parsed.
    "nerf-metal view": "serves a page until Ctrl-C; tests/viewer opens it in a browser",
    "nerf-metal doctor --full": "takes minutes; tests/selftest runs its parts",
    "python3 -m venv": "makes an environment; .ci/run runs this very line of README.md",
    "pip": "installs packages, from the network",
    "xcode-select": "macOS only, installs Apple's compiler",
    "apt": "Debian only, installs packages as the administrator",
    "export": "sets a variable of the reader's shell",
    "pre-commit": "writes into the reader's .git; tests/docs/test_files.py runs the commands of its hooks",
    "mkdocs": "tests/docs/test_site.py builds the pages",
    "ruff": "rewrites the working tree; python -m tests runs its checks",
    "git": "changes the working tree",
}
SCENES = ("DIR", "lego", "fox", "fern", "tumbler_colmap")
OWN_PARSERS = ("benchmarks.", "proof.")  # modules whose main() has an argparse parser

Words = tuple[str, ...]


def of_shell(page: Path) -> list[Words]:
    return [words for block in blocks(page) if block.language == "shell" for words in commands(block.text)]


def of_nerf_metal(words: Words) -> Words | None:
    """The words behind ``nerf-metal``, however it is called; None where another program is."""
    if words[0] == "nerf-metal":
        return words[1:]
    if words[:3] == ("python", "-m", "nerf_metal"):
        return words[3:]
    return ("train", *words[3:]) if words[:3] == ("python", "-m", "nerf_metal.train") else None


def not_run(words: Words) -> str | None:
    """The reason why a command does not run here, or None."""
    text = " ".join(words) + " "
    return next((why for start, why in NOT_RUN.items() if text.startswith(start + " ")), None)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the pages' commands name: scenes of 14 views of 16 x 16 pixels, and a run of 2 steps."""
    folder = tmp_path_factory.mktemp("pages")
    splits = {"train": cube_split("train", 14, 16, 0.0), "test": cube_split("test", 2, 16, 0.3)}
    box = torch.tensor([[-1.5] * 3, [1.5] * 3])
    write_scene(Scene("cube", "test", splits, box, 2.0, 6.0, []), folder / "DIR")
    for scene in SCENES[1:]:
        (folder / scene).symlink_to("DIR")
    (folder / "examples").symlink_to(ROOT / "examples")
    with contextlib.chdir(folder):
        options = f"--data DIR --preset small --downscale 1 --out runs/RUN {SHORTER['train']}"
        assert main(["train", *options.split(), "--quiet"]) == 0
    pose = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 4, 0, 0, 0, 1]
    path = {"fps": 24, "camera_path": [{"camera_to_world": pose, "fov": 40, "aspect": 1}], "is_cycle": False}
    path |= {"render_width": 8, "render_height": 8}
    (folder / "runs/RUN/camera_paths").mkdir()
    (folder / "runs/RUN/camera_paths/my.json").write_text(json.dumps(path))
    (folder / "RUN").symlink_to("runs/RUN")
    return folder


@pytest.fixture
def in_sandbox(sandbox: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(sandbox)
    monkeypatch.syspath_prepend(str(sandbox))  # as for a program that runs in this folder: examples.voxel_grid
    return sandbox


class ParsedError(Exception):
    """The parser has read all words."""


@contextlib.contextmanager
def only_parsing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Within it, a program ends as soon as its parser has taken the words; the parser's own exit is an error."""

    def ending(parse: Callable[..., object]) -> Callable[..., object]:
        def wrapped(*args: object, **options: object) -> object:
            parse(*args, **options)
            raise ParsedError

        return wrapped

    with monkeypatch.context() as patched:
        patched.setattr(tyro, "cli", ending(tyro.cli))
        patched.setattr(argparse.ArgumentParser, "parse_args", ending(argparse.ArgumentParser.parse_args))
        try:
            yield
        except ParsedError:
            pass
        except SystemExit as end:
            assert end.code in (0, None), f"the parser refused it: {end.code}"


def test_every_block_says_its_language() -> None:
    """A block without one would run nowhere."""
    unknown = [f"{name(p)}:{b.line} {b.language!r}" for p in PAGES for b in blocks(p) if b.language not in LANGUAGES]
    assert not unknown


def test_the_readme_shows_the_example_as_it_is() -> None:
    """GitHub includes no files, so README.md has a copy."""
    shown = [block.text for block in blocks(ROOT / "README.md") if "examples/own_nerf.py" in block.text]
    assert shown == [(ROOT / "examples" / "own_nerf.py").read_text()], "copy examples/own_nerf.py into README.md"


PYTHON_PAGES = [page for page in PAGES if any(block.language == "python" for block in blocks(page))]


@pytest.mark.parametrize("page", PYTHON_PAGES, ids=name)
def test_python_blocks_run(page: Path, in_sandbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict[str, object] = {"__name__": "snippet"}
    module = type(sys)("snippet")  # dataclasses look for the module of their class
    module.__dict__.update(names)
    monkeypatch.setitem(sys.modules, "snippet", module)
    monkeypatch.setattr(sys, "argv", ["snippet", "2"])  # a program that takes a number of steps does two
    torch.manual_seed(0)
    for block in blocks(page):
        if block.language == "python":
            code = "\n" * block.line + included(block.text)  # so that a traceback has the page's own line
            exec(compile(code, str(page), "exec"), module.__dict__)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_are_parsed(page: Path, in_sandbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for words in [*of_shell(page), *inline_commands(page)]:
        _parse(words, monkeypatch)


def _parse(words: Words, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = of_nerf_metal(words)
    if ours is not None:
        if ours[0] in COMMANDS:
            with only_parsing(monkeypatch):
                main(ours)
                pytest.fail(f"{' '.join(words)}: nothing was parsed")
        else:
            assert main(ours) == 0, " ".join(words)
    elif words[:3] == ("python", "-m", "pytest"):
        _parse_pytest(words[3:])
    elif words[:3] == ("python", "-m", "tests"):
        assert words[3:4] == () or words[3] in (*TIERS, "-m"), f"{words}: tests/__main__.py has {TIERS}"
        _parse_pytest(words[3:])
    elif words[:2] == ("python", "-m") and words[2].startswith(OWN_PARSERS):
        assert importlib.util.find_spec(words[2]) is not None, f"there is no module {words[2]}"
        monkeypatch.setattr(sys, "argv", list(words[2:]))
        for name in (words[2], f"{words[2]}.__main__"):  # else python warns that it runs twice
            monkeypatch.delitem(sys.modules, name, raising=False)
        with only_parsing(monkeypatch):
            runpy.run_module(words[2], run_name="__main__", alter_sys=True)
    elif words[:3] == ("python", "-m", "tests.clang_format"):
        assert importlib.util.find_spec(words[2]) is not None
    elif words[0] == "nox":
        sessions = re.findall(r"^def (\w+)\(session", (ROOT / "noxfile.py").read_text(), re.M)
        assert words[1] == "-s" and set(words[2:]) <= set(sessions), f"{words}: noxfile.py has {sessions}"
    else:
        assert not_run(words), f"{' '.join(words)}: teach this test the program, or list it in NOT_RUN with the reason"


def _parse_pytest(words: Words) -> None:
    """The paths and the markers exist; what ``-k`` finds is pytest's to say, by an exit code of its own."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    markers = {marker.split(":")[0] for marker in project["markers"]}
    options = dict(itertools.pairwise(words))
    assert set(re.findall(r"\w+", options.get("-m", ""))) <= markers | {"not", "and", "or"}
    for word in words:
        if "/" in word or word in ("tests", "benchmarks", "proof"):
            assert (ROOT / word).exists(), f"there is no {word}"


@pytest.mark.parametrize("page", [page for page in PAGES if any(map(of_nerf_metal, of_shell(page)))], ids=name)
def test_commands_run(page: Path, in_sandbox: Path, tmp_path: Path, plain_plots: None) -> None:
    """In the page's order: a command may use what one above it wrote."""
    for number, words in enumerate(of_shell(page)):
        ours = of_nerf_metal(words)
        if ours and not not_run(words):
            assert _run(ours, tmp_path / str(number)) == 0, " ".join(words)


def _run(words: Words, out: Path) -> int:
    """Run a command, shortened, and return its exit code. What it writes without being told where goes to ``out``."""
    extra = SHORTER.get(words[0], "").split()
    given = set(words)
    if words[0] == "make-scene":
        words = ("make-scene", str(out), *words[2:])  # DIR is the scene of the other commands
    if words[0] == "train" and "--resume" in given:
        extra = ["--steps", "3"]  # one more than the run has; what is fixed in a run stays
    elif words[0] == "train":
        # The built-in scene takes seconds to make; tests/train trains on it.
        extra += ["--downscale", "1", *([] if "--data" in given else ["--data", "DIR"])]
        extra += [] if "--out" in given else ["--out", str(out)]
        extra += ["--no-view"] if "--view" in given else []
    if words[0] == "render":
        extra += ["--out", str(out), *(FILM.split() if given & {"orbit", "spiral", "interpolate"} else [])]
    if "--help" in given:
        extra = []
    try:
        return main([*words, *extra])
    except SystemExit as end:  # tyro's own, for --help and for words that it refuses
        return int(end.code or 0)
