"""Each fault can still be made, in what it means; and every claim of docs/proof.md has one."""

from __future__ import annotations

import dataclasses
import re

import pytest

from proof.mutations.table import MUTATIONS, ROOT, Mutation


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_fault_can_be_made_and_its_test_exists(mutation: Mutation) -> None:
    text = (ROOT / mutation.file).read_text(encoding="utf-8")
    assert mutation.made(text) == text.replace(mutation.old, mutation.new, 1) or mutation.occurrence is not None
    assert mutation.made(text) != text
    file, _, test = mutation.test.partition("::")
    assert re.search(rf"^def {test.partition('[')[0]}\(", (ROOT / file).read_text(encoding="utf-8"), re.M)


def test_a_text_that_is_not_there_or_not_alone_is_refused() -> None:
    mutation = dataclasses.replace(MUTATIONS[0], old="a", new="b", occurrence=None)
    for text in ("", "a a"):
        with pytest.raises(SystemExit, match=r"must hold 'a', once"):
            mutation.made(text)
    second = dataclasses.replace(mutation, occurrence=1)
    assert second.made("a a") == "a b"
    with pytest.raises(SystemExit, match="must hold"):
        second.made("a")


def test_every_claim_names_its_mutations_and_every_mutation_its_claim() -> None:
    text = (ROOT / "docs" / "proof.md").read_text(encoding="utf-8").partition("\n## ")[0]
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 8
    known = {mutation.name for mutation in MUTATIONS}
    named = [set(re.findall(r"`([a-z0-9-]+)`", row.split(" | ")[3])) for row in rows]
    assert all(named)
    assert set().union(*named) == known
