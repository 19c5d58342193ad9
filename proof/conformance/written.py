"""Memory that is read before anything has been written to it, on whatever way: a thread's own, a threadgroup's."""

from __future__ import annotations

from proof.conformance.flow import Flow, copied, library_name, overlap, span, written_by
from proof.conformance.ir import ANYWHERE, Instruction, Module
from proof.conformance.report import Finding

Span = tuple[str, int, int]  # bytes of a variable


def unwritten_findings(module: Module, flow: Flow) -> list[Finding]:
    """Reads that no write comes before. A write at an index that is not known counts for the whole array."""
    writes = {id(i): _writes(flow, i) for b in flow.function.blocks.values() for i in b.instructions}
    bits: dict[Span, int] = {}
    for spans in writes.values():
        for one in spans:
            bits.setdefault(one, 1 << len(bits))
    by_root: dict[str, list[Span]] = {}
    for one in bits:
        by_root.setdefault(one[0], []).append(one)
    before = _reaching(flow, {k: sum(bits[one] for one in set(v)) for k, v in writes.items()})
    found = []
    for name, block in flow.function.blocks.items():
        state = before[name]
        for i in block.instructions:
            for root, *read in _reads(module, flow, i):
                mask = sum(bits[one] for one in by_root.get(root, ()) if overlap(one[1:], (read[0], read[1])))
                if not state & mask:
                    file, line = module.place(i.debug)
                    found.append(Finding(file, line, *_words(root)))
            for one in writes[id(i)]:
                state |= bits[one]
    return found


def _words(root: str) -> tuple[str, str]:
    if root.startswith("@"):
        return "unwritten-threadgroup", "threadgroup memory is read before any thread has written to it; write it first"
    return "uninitialized", "a variable, or a member of one, is read that nothing was written to; give it a value first"


def _reaching(flow: Flow, writes: dict[int, int]) -> dict[str, int]:
    """The writes that may have happened when a block begins."""
    blocks = flow.function.blocks
    own = {}
    for name, block in blocks.items():
        own[name] = 0
        for i in block.instructions:
            own[name] |= writes[id(i)]
    before = dict.fromkeys(blocks, 0)
    queue = list(blocks)
    while queue:
        name = queue.pop()
        after = before[name] | own[name]
        for target in blocks[name].successors:
            if after & ~before[target]:
                before[target] |= after
                queue.append(target)
    return before


def _writes(flow: Flow, i: Instruction) -> list[Span]:
    size = ANYWHERE
    if i.op == "store":
        pointers, size = [i.operands[1]], i.size
    elif i.op == "call" and i.callee.startswith("@llvm.mem"):
        pointers, size = [i.operands[0]], copied(i)
    elif i.op == "call":
        pointers = [i.operands[1]] if library_name(i.callee) == "simdgroup_store" else written_by(i)
    else:
        return []
    return [(place[0], *span(place, size)) for p in pointers for place in flow.value(p).targets]


def _reads(module: Module, flow: Flow, i: Instruction) -> list[Span]:
    """What an instruction surely reads: nothing where a pointer may lead to two variables."""
    if i.op == "load":
        pointer, size = i.operands[0], i.size
    elif i.op == "call" and i.callee.startswith(("@llvm.memcpy", "@llvm.memmove")):
        pointer, size = i.operands[1], copied(i)
    elif i.op == "call" and library_name(i.callee) == "simdgroup_load":
        pointer, size = i.operands[1], ANYWHERE
    else:
        return []
    targets = flow.value(pointer).targets
    if len(targets) != 1:
        return []
    (place,) = targets
    return [] if place[0].startswith("@") and place[0] not in module.shared else [(place[0], *span(place, size))]
