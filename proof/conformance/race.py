"""Threadgroup memory that a thread reads though another has written it, and no barrier came between.

Only where the places leave no doubt: one is written at the thread's own number and another read; chosen threads write
it, one of each SIMD-group perhaps, and all read it, or one many; a matrix is stored or loaded. The strict executor
finds the others when a kernel runs.
"""

from __future__ import annotations

from proof.conformance.flow import NUMBER, SIMD, VARIES, Flow, library_name
from proof.conformance.ir import Instruction, Module
from proof.conformance.report import Finding


def race_findings(module: Module, flow: Flow) -> list[Finding]:
    """Reads of one kernel that come too early."""
    stores = [
        (i, name)
        for name, block in flow.function.blocks.items()
        for i in block.instructions
        if _roots(module, flow, _written(i))
    ]
    bits = {id(i): 1 << n for n, (i, _) in enumerate(stores)}
    before = _pending(flow, bits)
    found = []
    for name, block in flow.function.blocks.items():
        state = before[name]
        for i in block.instructions:
            roots = _roots(module, flow, _read(i))
            for store, place in stores if roots and state else ():
                same = roots & _roots(module, flow, _written(store))
                if state & bits[id(store)] and same and _meets(flow, store, place, i, name):
                    file, line = module.place(i.debug)
                    written = module.place(store.debug)[1]
                    message = (
                        f"threadgroup memory written at line {written} is read with no barrier since, by other threads"
                    )
                    found.append(Finding(file, line, "race", f"{message}; wait at a barrier with mem_threadgroup"))
            state = _after(i, state, bits)
    return found


def _pending(flow: Flow, bits: dict[int, int]) -> dict[str, int]:
    """Writes that no barrier may have ended when a block begins."""
    blocks = flow.function.blocks
    before = dict.fromkeys(blocks, 0)
    queue = list(blocks)
    while queue:
        name = queue.pop()
        state = before[name]
        for i in blocks[name].instructions:
            state = _after(i, state, bits)
        for target in blocks[name].successors:
            if state & ~before[target]:
                before[target] |= state
                queue.append(target)
    return before


def _after(i: Instruction, state: int, bits: dict[int, int]) -> int:
    orders = library_name(i.callee) in ("threadgroup_barrier", "simdgroup_barrier") and i.operands[0] in ("2", "3")
    return 0 if orders else state | bits.get(id(i), 0)


def _written(i: Instruction) -> str:
    """The pointer that an instruction writes through, empty for none."""
    return i.operands[1] if i.op == "store" or library_name(i.callee) == "simdgroup_store" else ""


def _read(i: Instruction) -> str:
    if i.op == "load":
        return i.operands[0]
    return i.operands[1] if library_name(i.callee) == "simdgroup_load" else ""


def _roots(module: Module, flow: Flow, pointer: str) -> set[str]:
    """The threadgroup variables that a pointer leads to."""
    return {root for root, _, _ in flow.value(pointer).targets if root in module.shared} if pointer else set()


def _meets(flow: Flow, store: Instruction, at: str, load: Instruction, here: str) -> bool:
    """Whether a thread surely reads what another one writes."""
    if library_name(store.callee) or library_name(load.callee):
        return True
    to, source = flow.value(_written(store)).level, flow.value(_read(load)).level
    if to == NUMBER:
        return source == VARIES or (source <= SIMD and flow.control[here] <= SIMD)
    chosen = to <= SIMD and flow.control[at] == VARIES
    return chosen and (flow.control[here] <= SIMD or (to == SIMD and source == VARIES))
