"""Collectives that not all threads reach, or that they call with different places: read from the inlined code."""

from __future__ import annotations

from proof.conformance.flow import GROUP, SIMD, Flow, is_collective, library_name, written_by
from proof.conformance.ir import Instruction, Module
from proof.conformance.report import Finding


def divergence_findings(module: Module, flow: Flow) -> list[Finding]:
    """What is wrong with the collectives of one kernel."""
    found = []
    for name, block in flow.function.blocks.items():
        for call in block.instructions:
            collective = library_name(call.callee)
            if not is_collective(collective):
                continue
            allowed = GROUP if collective == "threadgroup_barrier" else SIMD
            file, line = module.place(call.debug)
            if flow.control[name] > allowed:
                where = _decider(module, flow, name, allowed)
                group = "threadgroup" if allowed == GROUP else "SIMD-group"
                found.append(
                    Finding(
                        file,
                        line,
                        "divergent-collective",
                        f"{collective} is not reached by all threads of a {group} alike, by the branch at {where}; "
                        "call it where the condition is the same for all of them",
                    )
                )
            found += _varying_arguments(flow, call, collective, file, line)
    return found


def _decider(module: Module, flow: Flow, block: str, allowed: int) -> str:
    """The branch that divides the threads."""
    seen, queue = {block}, [block]
    while queue:
        for decider in sorted(flow.dependences[queue.pop(0)]):
            if flow.branch_level(decider) > allowed:
                file, line = module.place(flow.function.blocks[decider].instructions[-1].debug)
                return f"{file.rsplit('/', 1)[-1]}:{line}"
            if decider not in seen:
                seen.add(decider)
                queue.append(decider)
    return "?"


def _varying_arguments(flow: Flow, call: Instruction, collective: str, file: str, line: int) -> list[Finding]:
    """Lanes and distances, and the places of matrices, must be the same in a SIMD-group."""
    if collective in ("simd_broadcast", "simd_shuffle_down") or collective in ("simdgroup_load", "simdgroup_store"):
        arguments = call.operands[1:]
    else:
        return []
    matrices = written_by(call)
    if all(flow.value(a).level <= SIMD for a in arguments if a not in matrices):
        return []
    message = f"{collective} has an argument that varies within a SIMD-group; give all lanes the same place"
    return [Finding(file, line, "varying-argument", message)]
