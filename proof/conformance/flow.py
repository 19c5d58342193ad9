"""How far each value of a kernel is the same for its threads: an abstract interpretation of the inlined code.

A value is the same in the threadgroup, or in each SIMD-group, or it numbers the threads (32 k + lane, so that its 32nd
part is the same in a SIMD-group again), or it varies. A thread's own memory is followed by variable and byte; what
device and threadgroup memory give is as uniform as the address. A write varies where a varying branch decides on it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from proof.conformance.control import control_dependences
from proof.conformance.ir import ANYWHERE, Function, Instruction

NOTHING, GROUP, SIMD, NUMBER, VARIES = range(-1, 4)
SIMD_WIDTH = 32
Place = tuple[str, int, int]  # a variable, and which bytes of it a pointer may lead to: [first, last], both ends

ATTRIBUTE_LEVELS = {
    "threadgroup_position_in_grid": GROUP,
    "simdgroup_index_in_threadgroup": SIMD,
    "thread_position_in_grid": NUMBER,  # where it has one dimension: taking a component leaves nothing known
    "thread_position_in_threadgroup": NUMBER,
    "thread_index_in_threadgroup": NUMBER,
    "thread_index_in_simdgroup": VARIES,
}
_LIBRARY = re.compile(r"@_ZN5metal(\d+)(\w+)")
_SAME_IN_SIMD = ("simd_sum", "simd_product", "simd_broadcast")  # whatever they are given
_SELF = ("simd_prefix", "simd_shuffle", "atomic_")  # differ from thread to thread, whatever they are given


def library_name(callee: str) -> str:
    """The name of a function of namespace metal, empty for others."""
    match = _LIBRARY.match(callee)
    return match[2][: int(match[1])] if match else ""


def is_collective(name: str) -> bool:
    """Whether the threads of a SIMD-group or a threadgroup must call it together."""
    return name.startswith(("simd_", "simdgroup_", "threadgroup_barrier"))


def join(a: int, b: int) -> int:
    """Two ways a value can come about."""
    if a == b or b == NOTHING:
        return a
    if a == NOTHING:
        return b
    return VARIES if NUMBER in (a, b) else max(a, b)


@dataclass(frozen=True)
class Value:
    """How uniform, and where it points, if to a thread's own or to threadgroup memory."""

    level: int = NOTHING
    targets: frozenset[Place] = frozenset()

    def joined(self, other: Value) -> Value:
        return Value(join(self.level, other.level), self.targets | other.targets)


UNKNOWN = Value()
CONSTANT = Value(GROUP)


def span(place: Place, size: int) -> tuple[int, int]:
    """The bytes that an access of this size may touch."""
    return place[1], place[2] + size


def overlap(a: tuple[int, int], b: tuple[int, int]) -> bool:
    """Whether two spans of bytes have one in common."""
    return a[0] < b[1] and b[0] < a[1]


class Flow:
    """The values of one kernel, and how uniformly each of its blocks is reached."""

    def __init__(self, function: Function, levels: tuple[int, ...]) -> None:
        self.function = function
        self.values = {name: Value(level) for name, level in zip(function.parameters, levels, strict=True)}
        self.memory: dict[str, dict[tuple[int, int], Value]] = {}
        self.dependences = control_dependences(function)
        self.control = dict.fromkeys(function.blocks, GROUP)
        self.changed = True
        while self.changed:
            self.changed = False
            for name, block in function.blocks.items():
                for instruction in block.instructions:
                    self._step(instruction, name)
            self._update_control()

    def value(self, operand: str) -> Value:
        """What is known of an operand."""
        if operand.startswith("%"):
            return self.values.get(operand, UNKNOWN)
        if operand.startswith("@"):
            return Value(GROUP, frozenset({(operand, 0, ANYWHERE)}))
        return CONSTANT

    def branch_level(self, block: str) -> int:
        """How uniformly the block's last branch is taken, by those who reach it."""
        operands = self.function.blocks[block].instructions[-1].operands
        level = self.value(operands[0]).level if operands else GROUP
        return VARIES if level == NUMBER else level

    def _update_control(self) -> None:
        again = True
        while again:
            again = False
            for name, deciders in self.dependences.items():
                level = max((max(self.branch_level(d), self.control[d]) for d in deciders), default=GROUP)
                if level > self.control[name]:
                    self.control[name] = level
                    again = self.changed = True

    def _step(self, i: Instruction, block: str) -> None:
        if i.op == "store":
            self._write(self.value(i.operands[1]), i.size, self.value(i.operands[0]), block)
        elif i.op == "call":
            self._call(i, block)
        elif i.result:
            self._set(i.result, self._result(i, block))

    def _set(self, name: str, value: Value) -> None:
        before = self.values.get(name, UNKNOWN)
        after = before.joined(value)
        if after != before:
            self.values[name] = after
            self.changed = True

    def _write(self, to: Value, size: int, value: Value, block: str) -> None:
        level = max(_at(to, value.level), self.control[block])  # where SIMD-groups come as a whole, numbers remain
        for place in to.targets:
            if not place[0].startswith("@"):
                members = self.memory.setdefault(place[0], {})
                before = members.get(span(place, size), UNKNOWN)
                after = before.joined(Value(level, value.targets))
                if after != before:
                    members[span(place, size)] = after
                    self.changed = True

    def read(self, pointer: Value, size: int) -> Value:
        """What lies where a pointer leads."""
        found = UNKNOWN
        for place in pointer.targets:
            if place[0].startswith("@"):
                found = found.joined(CONSTANT)
            for written, value in self.memory.get(place[0], {}).items():
                if overlap(written, span(place, size)):
                    found = found.joined(value)
        return Value(_at(pointer, found.level), found.targets)

    def _result(self, i: Instruction, block: str) -> Value:
        if i.op == "alloca":
            return Value(GROUP, frozenset({(i.result, 0, 0)}))
        if i.op == "load":
            pointer = self.value(i.operands[0])
            if "ptr addrspace(1)" in _address(i.text) or "ptr addrspace(2)" in _address(i.text):
                return Value(VARIES if pointer.level == NUMBER else pointer.level)
            return self.read(pointer, i.size)
        operands = [self.value(o) for o in i.operands]
        if i.op == "getelementptr":
            return _element(operands, i.shift)
        if i.op == "phi":
            return self._merge(i, block)
        found = UNKNOWN
        for value in operands:
            found = found.joined(value)
        if len(operands) == 2 and NUMBER in (operands[0].level, operands[1].level):
            return Value(_numbering(i, operands[0].level))
        return found

    def _merge(self, i: Instruction, block: str) -> Value:
        """A phi: also as the branches are that decide where it is reached from."""
        found = UNKNOWN
        for value, label in zip(i.operands[::2], i.operands[1::2], strict=True):
            source = label[1:]
            deciders = [d for d in self.dependences[source] if d not in self.dependences[block]]
            level = max((self.branch_level(d) for d in deciders), default=GROUP)
            found = found.joined(self.value(value))
            found = Value(found.level if level <= GROUP else join(found.level, level), found.targets)
        return found

    def _call(self, i: Instruction, block: str) -> None:
        name = library_name(i.callee)
        if i.callee.startswith(("@llvm.memcpy", "@llvm.memmove")):
            self._copy(i, block)
            return
        if i.callee.startswith("@llvm.memset"):
            self._write(self.value(i.operands[0]), copied(i), CONSTANT, block)
            return
        found = UNKNOWN
        for operand in i.operands:
            value = self.value(operand)
            found = found.joined(value if not value.targets else self.read(value, ANYWHERE))
        level = max(found.level, GROUP)
        if name.startswith(_SELF):
            level = VARIES
        elif name.startswith((*_SAME_IN_SIMD, "simdgroup_", "make_filled")):  # a matrix belongs to its SIMD-group
            level = SIMD
        elif level == NUMBER:
            level = VARIES
        if i.result:
            self._set(i.result, Value(level))

    def _copy(self, i: Instruction, block: str) -> None:
        """A struct as a whole: each of its parts keeps what is known of it."""
        to, source, size = self.value(i.operands[0]), self.value(i.operands[1]), copied(i)
        if not source.targets or any(root.startswith("@") for root, _, _ in source.targets):
            self._write(to, size, Value(source.level), block)
        for root, first, last in source.targets:
            for (begin, end), value in list(self.memory.get(root, {}).items()):
                if first != last or begin < first or end > first + size:  # not a part of what is copied
                    part = to if overlap((begin, end), (first, last + size)) else UNKNOWN
                    length = size
                else:
                    moved = ((r, a + begin - first, b + begin - first) for r, a, b in to.targets)
                    part, length = Value(to.level, frozenset(moved)), end - begin
                self._write(part, length, Value(_at(source, value.level), value.targets), block)


def copied(call: Instruction) -> int:
    """Bytes that memcpy or memset writes."""
    return int(call.operands[2]) if call.operands[2].isdigit() else ANYWHERE


def written_by(call: Instruction) -> list[str]:
    """The operands through which a function of the library writes to a thread's memory."""
    if not library_name(call.callee):
        return []
    pairs = zip(call.operands, call.arguments, strict=True)
    return [o for o, written in pairs if re.match(r"ptr (?!addrspace|.*byval)", written)]


def _address(text: str) -> str:
    return text.split(",")[-2] if "align" in text else text


def _at(pointer: Value, level: int) -> int:
    """The level of what lies at an address: by a thread's number lies anything."""
    if pointer.level <= GROUP:
        return level
    return VARIES if pointer.level == NUMBER else join(level, pointer.level)


def _element(values: list[Value], shift: tuple[int, int]) -> Value:
    """A pointer moved: by so many bytes, or to somewhere within so many."""
    level = GROUP
    for value in values:
        level = value.level if level <= GROUP else join(level, value.level)
    offset, extent = shift
    moved = set()
    for root, first, last in values[0].targets:
        if extent == ANYWHERE or root.startswith("@"):
            moved.add((root, 0, ANYWHERE))
        elif first == last:
            moved.add((root, first + offset, first + offset + extent))
        else:
            moved.add((root, first, last))  # one of the elements, and some byte of it
    return Value(level, frozenset(moved))


def _numbering(i: Instruction, first: int) -> int:
    """What becomes of the threads' numbers; only operations with a constant on the right keep anything."""
    right = i.operands[1]
    if first != NUMBER or not re.fullmatch(r"-?\d+", right):
        return VARIES
    n = int(right)
    whole = n % SIMD_WIDTH == 0 and n > 0
    if i.op == "icmp":
        compare = i.text.split("icmp ")[1].split()[0]
        below = compare in ("ult", "uge", "slt", "sge") and whole
        up_to = compare in ("ugt", "ule", "sgt", "sle") and (n + 1) % SIMD_WIDTH == 0
        return SIMD if below or up_to else VARIES
    if (i.op == "udiv" and whole) or (i.op == "lshr" and n >= 5) or (i.op == "and" and n % SIMD_WIDTH == 0):
        return SIMD
    if (i.op in ("add", "sub", "urem") and n % SIMD_WIDTH == 0) or (i.op == "add" and n == 0):
        return NUMBER
    return VARIES
