"""proof.mutations: each fault can still be made, in what it means."""

from __future__ import annotations

import dataclasses
import re

import pytest

from proof.mutations.__main__ import MUTATIONS, ROOT, Mutation


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_fault_can_be_made_and_its_test_exists(mutation: Mutation) -> None:
    text = (ROOT / mutation.file).read_text(encoding="utf-8")
    assert mutation.made(text) == text.replace(mutation.old, mutation.new, 1) or mutation.occurrence
    assert mutation.made(text) != text
    file, _, test = mutation.test.partition("::")
    assert re.search(rf"^def {test}\(", (ROOT / file).read_text(encoding="utf-8"), re.M)


def test_every_barrier_is_dropped_once() -> None:
    dropped = {m.made((ROOT / m.file).read_text()) for m in MUTATIONS if "barrier" in m.name}
    assert len(dropped) == sum(path.read_text().count("barrier(") for path in (ROOT / "metal").glob("*.[hm]*"))


def test_a_text_that_is_not_there_or_not_alone_is_refused() -> None:
    mutation = dataclasses.replace(MUTATIONS[0], old="a", new="b", occurrence=None)
    for text in ("", "a a"):
        with pytest.raises(SystemExit, match=r"must hold 'a', once"):
            mutation.made(text)
    second = dataclasses.replace(mutation, occurrence=1)
    assert second.made("a a") == "a b"
    with pytest.raises(SystemExit, match="must hold"):
        second.made("a")
