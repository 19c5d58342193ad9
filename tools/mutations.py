"""Faults put in on purpose, each of which a named test must find: ``python -m tools.mutations [NAME ...]``.

A copy of the tree is built once, then each fault is made in it, what it touches is built
again, its test must fail, and the fault is taken back. Prints a table; exit code 1 where a fault went unseen.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Mutation:
    """One replacement in one file, of the text's only occurrence or of that with this index, and the test that must
    fail for it."""

    name: str
    file: str
    old: str
    new: str
    test: str
    builds: bool = True
    occurrence: int | None = None

    def made(self, text: str) -> str:
        """The file's text with the fault."""
        parts = text.split(self.old)
        at = self.occurrence or 0
        if len(parts) < at + 2 or (self.occurrence is None and len(parts) != 2):
            raise SystemExit(f"[mutations] {self.name}: {self.file} must hold {self.old!r}, once unless counted")
        return self.old.join(parts[: at + 1]) + self.new + self.old.join(parts[at + 1 :])


# Every barrier of the shaders, by file and index in it.
_BARRIERS = tuple(
    Mutation(
        f"shader-drops-barrier-{number}",
        f"metal/{name}.h",
        "simdgroup_barrier(mem_flags::mem_threadgroup);",
        "",
        "tests/ops/test_mlp_kernel.py::test_lane_order_changes_no_bit",
        occurrence=index,
    )
    for number, (name, index) in enumerate(
        [("mlp_simd", 0), ("mlp_simd", 1), ("mlp_simd", 2), ("mlp_simd_grad", 0), ("mlp_simd_grad", 1)], 1
    )
)
MUTATIONS = (
    Mutation(
        "launcher-shifts-buffer-indices",
        "csrc/metal/metal.cpp",
        "abi.set_tensor(kernel, i, e.tensors[i])",
        "abi.set_tensor(kernel, i + 1, e.tensors[i])",
        "tests/kernels/test_metal_encoding.py::test_arguments_of_the_calls",
    ),
    Mutation(
        "op-swaps-two-buffers",
        "nerf_metal/ops/march.py",
        "[*inputs, t_edges, *bounds]",
        "[inputs[1], inputs[0], *inputs[2:], t_edges, *bounds]",
        "tests/ops/test_march_kernel.py::test_edges_are_the_references",
        builds=False,
    ),
    Mutation(
        "host-orders-struct-members-otherwise",
        "cmake/generate.py",
        "for m, t in members)",
        "for m, t in reversed(members))",
        "tests/kernels/test_contract.py::test_structs_are_packed_as_the_shader_lays_them_out",
    ),
    Mutation(
        "host-forgets-the-storage-offset",
        "csrc/launcher/tensors.cpp",
        "number(data_ptr.call(tensor))",
        "number(data_ptr.call(untyped_storage.call(tensor)))",
        "tests/kernels/test_metal_encoding.py::test_kernel_runs_on_what_was_bound",
    ),
    Mutation(
        "op-forgets-an-offset",
        "nerf_metal/ops/composite.py",
        "return t_starts, t_ends, row",
        "return t_starts, t_ends.as_strided(t_ends.shape, t_ends.stride(), 0), row",
        "tests/kernels/test_metal_ops.py::test_views_of_one_tensor_of_edges_are_not_copied",
        builds=False,
    ),
    Mutation(
        "launcher-loses-a-handle",
        "csrc/metal/metal.cpp",
        "        abi.delete_tensor(handle_);",
        "        (void)handle_;",
        "tests/kernels/test_metal_encoding.py::test_order_of_the_calls",
    ),
    Mutation(
        "launcher-ignores-an-error",
        "csrc/metal/metal.cpp",
        "        e.code = code;",
        "        e.code = 0;",
        "tests/kernels/test_metal_failures.py::test_failure_of_every_call_of_every_kernel",
    ),
    Mutation(
        "launcher-keeps-the-interpreters-lock",
        "csrc/launcher/bindings.cpp",
        "    const py::gil_scoped_release unlocked;\n    metal::run",
        "    metal::run",
        "tests/kernels/test_metal_encoding.py::test_order_of_the_calls",
    ),
    *_BARRIERS,
)


def copy_tree(to: Path) -> None:
    """The files that git knows, as they are now."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, to / name)


class Build:
    """The copy's extension."""

    def __init__(self, tree: Path) -> None:
        import pybind11

        self.tree, self.folder = tree, tree / "build"
        self.module = f"_C{sysconfig.get_config_var('EXT_SUFFIX')}"
        options = [f"-DPython_EXECUTABLE={sys.executable}", f"-Dpybind11_DIR={pybind11.get_cmake_dir()}"]
        self.run("cmake", "-S", str(tree), "-B", str(self.folder), *options)

    def run(self, *command: str) -> None:
        if subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode != 0:
            raise SystemExit(f"[mutations] the copy must build; see above what {command[0]} says")

    def make(self) -> None:
        self.run("cmake", "--build", str(self.folder), "-j", "2")
        fresh = self.tree / "nerf_metal" / f".{self.module}"
        shutil.copy(self.folder / self.module, fresh)
        fresh.replace(self.tree / "nerf_metal" / self.module)


def test_passes(tree: Path, test: str) -> bool:
    """Whether a test, collected, passes in the copy."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", test]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    if done.returncode in (2, 3, 4, 5):  # pytest could not run it; a crash, or the double's own code, is a failure
        raise SystemExit(f"[mutations] {test} must run, got:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == 0


def try_out(mutation: Mutation, tree: Path, build: Build) -> bool:
    """Whether the mutation's test passes without it and fails with it."""
    path = tree / mutation.file
    text = path.read_text(encoding="utf-8")
    mutated = mutation.made(text)
    if not test_passes(tree, mutation.test):
        raise SystemExit(f"[mutations] {mutation.test} must pass before the fault is made")
    path.write_text(mutated, encoding="utf-8")
    try:
        if mutation.builds:
            build.make()
        return not test_passes(tree, mutation.test)
    finally:
        path.write_text(text, encoding="utf-8")
        if mutation.builds:
            build.make()


def main() -> int:
    """Try every mutation named, or all."""
    parser = argparse.ArgumentParser(prog="python -m tools.mutations", description=__doc__)
    known = [mutation.name for mutation in MUTATIONS]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(known)}; all by default")
    names = parser.parse_args().names or known
    if unknown := [name for name in names if name not in known]:
        parser.error(f"NAME must be one of {', '.join(known)}; got {unknown[0]}")
    missed = 0
    with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
        tree = Path(folder)
        copy_tree(tree)
        build = Build(tree)
        build.make()
        for mutation in MUTATIONS:
            if mutation.name in names:
                found = try_out(mutation, tree, build)
                missed += not found
                print(f"{'found' if found else 'MISSED':8}{mutation.name:40}{mutation.test}", flush=True)
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
