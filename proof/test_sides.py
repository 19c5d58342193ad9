"""Metal reads one text and the host another in five headers: each has a test that runs it on either side.

Nothing else in metal/ depends on who reads it: there is no ``#if``. The host's form of a header defines that header's
guard, so that Metal's is skipped; here a compiler is asked which of the two it read.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from proof.cuda import build
from tests.kernels.libraries import METAL, ROOT, compiler, generator

pytestmark = pytest.mark.host_kernels

EVERY_CASE = "tests/ops/test_host_isas.py::test_kernels_of_every_isa_are_the_references"
EMULATED = "proof/cuda/test_cuda.py::test_every_named_case_emulated"
LANGUAGE = "tests/kernels/test_language.py::"


@dataclass(frozen=True)
class Sides:
    """The host's forms of a header, and the tests that run Metal's and the host's."""

    host: tuple[str, ...]
    metal_test: str
    host_test: str


SIDES = {
    "language": Sides(
        ("host/msl.h", "host/collectives_host.h"),
        EMULATED,
        "tests/kernels/test_strict_right.py::test_simd_functions",
    ),
    "tuning": Sides(("host/tuning_host.h",), EMULATED, EVERY_CASE),
    "scan": Sides(("host/scan_host.h",), EMULATED, f"{LANGUAGE}test_scans_are_the_loops_they_stand_for"),
    "rows": Sides(("host/rows_host.h",), EMULATED, EVERY_CASE),
    "tile": Sides(("host/tile_host.h",), EMULATED, f"{LANGUAGE}test_products_are_the_loops_they_stand_for"),
}


def test_nothing_in_metal_asks_who_reads_it() -> None:
    for path in METAL.glob("[!.]*"):
        found = re.findall(r"^[ \t]*#[ \t]*(if\w*|el\w+)\b[ \t]*(.*)$", path.read_text(), re.M)
        guard = [("ifndef", f"NERF_METAL_{path.stem.upper()}_H")]
        assert found == (guard if path.suffix == ".h" else []), path.name
        assert "__METAL_VERSION__" not in path.read_text(), path.name


def test_the_host_has_these_forms_and_no_others() -> None:
    texts = "".join(path.read_text() for path in (ROOT / "csrc").rglob("*.h"))
    skipped = set(re.findall(r"^#define NERF_METAL_(\w+)_H$", texts, re.M))
    assert skipped == {name.upper() for name in SIDES}


@pytest.mark.parametrize("name", SIDES)
def test_each_side_is_run_by_a_test_that_is_there(name: str) -> None:
    for test in (SIDES[name].metal_test, SIDES[name].host_test):
        file, _, function = test.partition("::")
        assert re.search(rf"^def {function}\(", (ROOT / file).read_text(), re.M), test


@pytest.mark.parametrize("name", SIDES)
def test_what_a_side_defines_is_called(name: str) -> None:
    """Else no test that runs every kernel would run it."""
    text = "".join(path.read_text() for path in METAL.glob("[!.]*") if path.stem != name)
    for function in re.findall(r"^inline \w+ (\w+)\(", (METAL / f"{name}.h").read_text(), re.M):
        assert re.search(rf"\b{function}\b", text), function


def read(command: list[str], unit: Path) -> set[str]:
    """The files that a compiler took text from."""
    done = subprocess.run(
        [compiler(), "-std=c++17", "-E", "-w", "-x", "c++", *command, str(unit)],
        capture_output=True,
        text=True,
        check=True,
    )
    file, found = "", set()
    for line in done.stdout.splitlines():
        if marker := re.match(r'# \d+ "(.*?)"', line):
            file = marker[1]
        elif line.strip():
            found.add(str(Path(file).resolve()))
    return found


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """What units are made of, by who reads them."""
    folder = tmp_path_factory.mktemp("sides")
    generator().main(METAL, folder)
    build.write(METAL, folder)
    stems = ("composite", "hashgrid", "mlp")  # which read all of them
    include = [f"-I{path}" for path in (ROOT / "csrc", METAL, folder)]
    strict = ["-DNERF_METAL_STRICT=1", "-DNERF_METAL_ISA=strict"]
    cuda = [f"-I{build.HERE / 'emulation'}", *build.include_flags(folder, METAL)]
    units = [folder / f"kernels_{stem}.cpp" for stem in stems]
    return {
        "host": set().union(*(read([*include, "-DNERF_METAL_ISA=baseline"], unit) for unit in units)),
        "strict": set().union(*(read([*include, *strict], unit) for unit in units)),
        "cuda": set().union(*(read(cuda, folder / f"{stem}.cu") for stem in stems)),
    }


@pytest.mark.parametrize("name", [name for name in SIDES if name != "language"])
def test_each_reader_takes_one_side(taken: dict[str, set[str]], name: str) -> None:
    metals, hosts = str(METAL / f"{name}.h"), {str(ROOT / "csrc" / form) for form in SIDES[name].host}
    for reader in ("host", "strict"):
        assert metals not in taken[reader] and hosts <= taken[reader]
    assert metals in taken["cuda"] and not hosts & taken["cuda"]


def test_the_language_is_metals_for_cuda_and_the_hosts_for_the_host(taken: dict[str, set[str]]) -> None:
    assert str(METAL / "language.h") in taken["cuda"]
    assert str(METAL / "language.h") not in taken["host"] | taken["strict"]


INSTANCES = """
#define device
#define kernel
{}
template <typename T, bool SIMD>
kernel void f(device T* a)
{{
    a[0] = SIMD ? T(1) : T(2);
}}
INSTANTIATE(f_f32, f, float, false);
INSTANTIATE(f_i32, f, int, true);
"""


def test_metals_form_of_an_instance_makes_a_function(tmp_path: Path) -> None:
    """What the other readers redefine or leave out: the macro that names a template's instances on a Mac."""
    definition = re.search(r"^#define INSTANTIATE.*?[^\\]$", (METAL / "language.h").read_text(), re.M | re.S)
    assert definition is not None
    (tmp_path / "f.cpp").write_text(INSTANCES.format(definition[0]))
    command = [compiler(), "-std=c++14", "-S", "-Wno-attributes", str(tmp_path / "f.cpp"), "-o", "-"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert {"_Z1fIfLb0EEvPT_:", "_Z1fIiLb1EEvPT_:"} <= set(text.split())
    names = subprocess.run([compiler(), "-E", str(tmp_path / "f.cpp")], capture_output=True, text=True, check=True)
    assert '[[host_name("f_f32")]] kernel decltype(f<float, false>)'.replace("kernel ", "") in names.stdout
