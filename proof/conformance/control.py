"""Which branches decide whether a block runs: control dependence (Ferrante, Ottenstein and Warren 1987)."""

from __future__ import annotations

from proof.conformance.ir import Function

EXIT = ""  # where every return leads; no block has this name


def control_dependences(function: Function) -> dict[str, set[str]]:
    """For each block the blocks whose last branch decides whether, or how often, it runs."""
    successors = {name: block.successors or (EXIT,) for name, block in function.blocks.items()}
    order = _backwards(successors)
    for name in successors:  # an endless loop leads nowhere: as if it could end
        if name not in order:
            successors[name] = (*successors[name], EXIT)
            order = _backwards(successors)
    above = _post_dominators(successors, order)
    dependences: dict[str, set[str]] = {name: set() for name in successors}
    for name, targets in successors.items():
        for target in targets if len(set(targets)) > 1 else ():
            at = target
            while at != above[name]:
                dependences[at].add(name)
                at = above[at]
    return dependences


def _backwards(successors: dict[str, tuple[str, ...]]) -> dict[str, int]:
    """Blocks that reach the exit, numbered in post-order of the reversed graph."""
    predecessors: dict[str, list[str]] = {EXIT: []}
    for name, targets in successors.items():
        for target in targets:
            predecessors.setdefault(target, []).append(name)
    order: dict[str, int] = {}
    seen = {EXIT}
    stack = [(EXIT, iter(predecessors[EXIT]))]
    while stack:
        name, rest = stack[-1]
        following = next((p for p in rest if p not in seen), None)
        if following is None:
            order[name] = len(order)
            stack.pop()
        else:
            seen.add(following)
            stack.append((following, iter(predecessors.get(following, []))))
    return order


def _post_dominators(successors: dict[str, tuple[str, ...]], order: dict[str, int]) -> dict[str, str]:
    """The nearest block that every way out of a block goes through (Cooper, Harvey and Kennedy 2001)."""
    above = {EXIT: EXIT}
    names = sorted((n for n in order if n != EXIT), key=order.__getitem__, reverse=True)
    changed = True
    while changed:
        changed = False
        for name in names:
            known = [target for target in successors[name] if target in above]
            nearest = known[0]
            for other in known[1:]:
                while nearest != other:
                    if order[nearest] < order[other]:
                        nearest = above[nearest]
                    else:
                        other = above[other]
            if above.get(name) != nearest:
                above[name] = nearest
                changed = True
    return above
