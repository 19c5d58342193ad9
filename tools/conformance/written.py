"""Memory that is read before anything has been written to it, on whatever way: a thread's own and threadgroup memory."""

from __future__ import annotations

from tools.conformance.flow import Flow, Key, related, written_by
from tools.conformance.ir import Instruction, Module
from tools.conformance.report import Finding


def unwritten_findings(module: Module, flow: Flow) -> list[Finding]:
    """Reads that no write comes before. A write at an index that is not known counts for the whole variable."""
    writes = {id(i): _writes(flow, i) for b in flow.function.blocks.values() for i in b.instructions}
    bits: dict[Key, int] = {}
    for keys in writes.values():
        for key in keys:
            bits.setdefault(key, 1 << len(bits))
    by_root: dict[str, list[Key]] = {}
    for key in bits:
        by_root.setdefault(key[0], []).append(key)
    before = _reaching(flow, {k: sum(bits[key] for key in set(v)) for k, v in writes.items()})
    found = []
    for name, block in flow.function.blocks.items():
        state = before[name]
        for i in block.instructions:
            for root, at in _reads(module, flow, i):
                mask = sum(bits[key] for key in by_root.get(root, ()) if related(key[1], at))
                if not state & mask:
                    file, line = module.place(i.debug)
                    found.append(Finding(file, line, *_words(root)))
            for key in writes[id(i)]:
                state |= bits[key]
    return found


def _words(root: str) -> tuple[str, str]:
    if root.startswith("@"):
        name = root.strip('@"').rsplit(".", 1)[-1]
        return "unwritten-threadgroup", f"threadgroup memory {name} is read before any thread has written it; write it first"
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


def _writes(flow: Flow, i: Instruction) -> list[Key]:
    if i.op == "store":
        pointers = [i.operands[1]]
    elif i.op == "call":
        pointers = [i.operands[0]] if i.callee.startswith("@llvm.mem") else written_by(i)
        if "simdgroup_store" in i.callee:
            pointers = [i.operands[1]]
    else:
        return []
    return [key for p in pointers for key in flow.value(p).targets]


def _reads(module: Module, flow: Flow, i: Instruction) -> list[Key]:
    """What an instruction surely reads: nothing where a pointer may lead to two places."""
    if i.op == "load":
        pointer = i.operands[0]
    elif i.op == "call" and (i.callee.startswith(("@llvm.memcpy", "@llvm.memmove")) or "simdgroup_load" in i.callee):
        pointer = i.operands[1]
    else:
        return []
    targets = flow.value(pointer).targets
    if len(targets) != 1:
        return []
    (root, at), = targets
    return [] if root.startswith("@") and root not in module.shared else [(root, at)]
