"""The house: every shader has its whole trail, and no file has outgrown one sitting."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
STEMS = sorted(path.stem for path in (ROOT / "metal").glob("*.metal"))
TRAIL = (
    "nerf_metal/ops/{}.py",
    "nerf_metal/reference/{}.py",
    "nerf_metal/selftest/{}.py",
    "tests/ops/test_{}.py",
    "benchmarks/bench_{}.py",
)
LONGEST = 500  # lines; past it a file is two files
WIDEST = 120  # columns


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("place", TRAIL)
def test_every_shader_has_its_op_reference_test_and_benchmark(stem: str, place: str) -> None:
    assert (ROOT / place.format(stem)).is_file(), f"metal/{stem}.metal lacks {place.format(stem)}"


def test_every_op_and_reference_has_a_shader() -> None:
    known = {*STEMS, "__init__", "checks", "random"}  # helpers of the rooms
    for room in ("ops", "reference"):
        assert {path.stem for path in (ROOT / "nerf_metal" / room).glob("*.py")} <= known


def test_no_file_is_too_long_to_read() -> None:
    own = [
        path
        for folder in ("metal", "csrc", "cmake", "nerf_metal", "tests", "benchmarks", "proof")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".cpp", ".h", ".metal")
    ]
    assert len(own) > 40  # the search found the tree
    too_long = {str(p.relative_to(ROOT)): n for p in own if (n := len(p.read_text().splitlines())) > LONGEST}
    assert not too_long


def test_one_folder_of_tests_reads_real_captures() -> None:
    """They are not part of the project: every other test makes what it reads."""
    pattern = re.compile(r"\.\./shared|[\"']shared[\"']\s*[/,]|shared/dat[a]")
    named = {str(p.relative_to(ROOT)) for p in (ROOT / "tests").rglob("*.py") if pattern.search(p.read_text())}
    assert named == {"tests/captures/captures.py"}


def test_no_line_of_a_shader_or_of_c_is_wider_than_the_others_may_be() -> None:
    """clang-format leaves what stands in a kernel alone; ruff looks at Python."""
    own = [
        path
        for path in ROOT.rglob("*")
        if path.suffix in (".metal", ".h", ".cpp", ".cu") and not {"build", ".venv"} & set(path.relative_to(ROOT).parts)
    ]
    assert {".metal", ".h", ".cpp"} <= {path.suffix for path in own} and len(own) > 60
    too_wide = [
        f"{path.relative_to(ROOT)}:{n}"
        for path in own
        for n, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if len(line) > WIDEST
    ]
    assert not too_wide


def test_package_version_is_the_project_version() -> None:
    import tomllib

    import nerf_metal

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == nerf_metal.__version__


def test_every_room_is_described() -> None:
    """CONTRIBUTING.md says in one sentence what belongs in each room of the package."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    rooms = [path.parent.name for path in (ROOT / "nerf_metal").glob("*/__init__.py")]
    assert len(rooms) > 10 and not [room for room in rooms if f"| `nerf_metal/{room}/` | " not in text]


def test_arguments_of_the_checks_go_to_pytest() -> None:
    """A selection by ``-m`` takes the place of the two runs of pytest; each tier has its own checks."""
    from tests.__main__ import checks

    def runs(tier: str, *arguments: str) -> list[list[str]]:
        return [command[3:] for name, command in checks(tier, "site", list(arguments)) if name.startswith("pytest")]

    assert runs("all") == [["-m", "not slow"], ["-m", "slow", "tests"], ["-m", "slow", "proof"]]
    assert runs("all", "-x") == [["-m", "not slow", "-x"], ["-m", "slow", "-x"]]
    assert runs("all", "-m", "not slow", "tests/ops") == [["-m", "not slow", "tests/ops"]]
    assert runs("smoke", "-x") == [["-m", "smoke", "tests/smoke", "-x"]]
    assert runs("lint") == runs("docs") == []
    assert [name for name, _ in checks("docs", "site", [])] == ["docs"]
