"""The files that other programs read: citation, changelog, issue forms, hooks, constraints."""

from __future__ import annotations

import re
import shlex
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.docs.pages import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def test_the_citation_is_of_this_version() -> None:
    """The fields that the Citation File Format 1.2.0 requires, and what must agree with pyproject.toml."""
    citation = load(ROOT / "CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
    assert all(author.get("name") or author.get("family-names") for author in citation["authors"])
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])


def test_the_changelog_has_this_version() -> None:
    """In the form of Keep a Changelog: versions, and the kinds of change under each."""
    text = (ROOT / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## \[(.+?)\]", text, re.M)
    assert versions[0] == "Unreleased" and PROJECT["version"] in versions
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.+)$", text, re.M)) <= kinds


@pytest.mark.parametrize("form", [form for form in FORMS if form.name != "config.yml"], ids=lambda form: form.name)
def test_issue_forms_are_whole(form: Path) -> None:
    """What GitHub asks of a form: name, description, body; an id once, a label for each field."""
    content = load(form)
    assert content["name"] and content["description"] and content["body"]
    fields = [item for item in content["body"] if item["type"] != "markdown"]
    assert {item["type"] for item in fields} <= {"input", "textarea", "dropdown", "checkboxes"}
    identifiers = [item["id"] for item in fields]
    assert fields and len(set(identifiers)) == len(identifiers)
    assert all(item["attributes"]["label"] for item in fields)


def test_one_form_takes_the_report_of_a_mac() -> None:
    assert any("nerf_metal_doctor.json" in form.read_text() for form in FORMS)


def test_hooks_run_the_commands_of_the_checks() -> None:
    """Each tool of ``python -m tests lint`` is a local hook: the versions are those of constraints.txt."""
    from tests.__main__ import lint

    repositories = load(ROOT / ".pre-commit-config.yaml")["repos"]
    assert [repository["repo"] for repository in repositories] == ["local"]
    hooks = repositories[0]["hooks"]
    assert len({hook["id"] for hook in hooks}) == len(hooks)
    entries = {tuple(shlex.split(hook["entry"])[:4]) for hook in hooks}
    for _, command in lint():
        tool = Path(command[0]).name if command[1:2] != ["-m"] else command[2]
        assert any(tool in entry for entry in entries), f"no hook runs {tool}"


def test_constraints_pin_everything_that_the_tests_need() -> None:
    """Also what the requirements require: otherwise the README's test command proves another set each day."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {canonicalize_name(line.split("==")[0]) for line in lines if not line.startswith("#")}
    extras = PROJECT["optional-dependencies"]
    todo = [Requirement(r) for r in (*PROJECT["dependencies"], *extras["test"], *extras["all"])]
    seen: set[tuple[str, str]] = set()
    missing = set()
    while todo:
        wanted = todo.pop()
        if wanted.name == "nerf-metal":
            todo += [Requirement(r) for extra in wanted.extras for r in extras[extra]]
            continue
        missing |= {wanted.name} - {name for name in [wanted.name] if canonicalize_name(name) in pinned}
        for extra in ("", *wanted.extras):
            if (wanted.name, extra) in seen:
                continue
            seen.add((wanted.name, extra))
            try:
                required = metadata.requires(wanted.name) or []
            except metadata.PackageNotFoundError:
                continue  # of another platform
            parsed = [Requirement(r) for r in required]
            todo += [r for r in parsed if r.marker is None or r.marker.evaluate({"extra": extra})]
    assert len(seen) > 40 and not missing
