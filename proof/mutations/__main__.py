"""Faults put in on purpose, each of which a named test must find: ``python -m proof.mutations [NAME ...]``.

A copy of the tree is built once (two minutes on two cores), then each fault is made in it, what it touches is built
again, its test must fail, and the fault is taken back. Prints a table; exit code 1 where a fault went unseen.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from proof.mutations.table import MUTATIONS, ROOT, Mutation


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
    """Whether a test, collected and not skipped, passes in the copy."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", test]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    # pytest could not run it; a crash, or the double's own code, is a failure
    if done.returncode in (2, 3, 4, 5) or (done.returncode == 0 and " passed" not in done.stdout.splitlines()[-1]):
        raise SystemExit(f"[mutations] {test} must run, got:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == 0


def try_out(mutation: Mutation, tree: Path, build: Build | None) -> bool:
    """Whether the mutation's test fails with it; with a build the copy's extension is built anew before."""
    path = tree / mutation.file
    text = path.read_text(encoding="utf-8")
    path.write_text(mutation.made(text), encoding="utf-8")
    try:
        if build is not None:
            build.make()
        return not test_passes(tree, mutation.test)
    finally:
        path.write_text(text, encoding="utf-8")


def main() -> int:
    """Try every mutation named, or all: those that need no build last, on a copy built anew."""
    parser = argparse.ArgumentParser(prog="python -m proof.mutations", description=__doc__)
    known = [mutation.name for mutation in MUTATIONS]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(known)}; all by default")
    names = parser.parse_args().names or known
    if unknown := [name for name in names if name not in known]:
        parser.error(f"NAME must be one of {', '.join(known)}; got {unknown[0]}")
    asked = [mutation for mutation in MUTATIONS if mutation.name in names]
    missed, built = 0, False
    with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
        tree = Path(folder)
        copy_tree(tree)
        build = Build(tree)
        build.make()
        runnable = [mutation for mutation in asked if mutation.needs is None or shutil.which(mutation.needs)]
        for test in dict.fromkeys(mutation.test for mutation in runnable):
            if not test_passes(tree, test):
                raise SystemExit(f"[mutations] {test} must pass before a fault is made")
        for mutation in sorted(asked, key=lambda mutation: not mutation.builds):
            if mutation not in runnable:
                print(f"{'not run':8}{mutation.name:44}needs {mutation.needs}", flush=True)
                continue
            if built and not mutation.builds:
                build.make()  # as it was
            found = try_out(mutation, tree, build if mutation.builds else None)
            built = mutation.builds
            missed += not found
            print(f"{'found' if found else 'MISSED':8}{mutation.name:44}{mutation.test}", flush=True)
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
