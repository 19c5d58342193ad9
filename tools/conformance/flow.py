"""How far each value of a kernel is the same for its threads: an abstract interpretation of the inlined code.

A value is the same in the threadgroup, or in each SIMD-group, or it numbers the threads (32 k + lane, so that its 32nd
part is the same in a SIMD-group again), or it varies. Memory of a thread is followed by variable and member; what device
and threadgroup memory give is as uniform as the address. A write counts as varying where a varying branch decides on it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tools.conformance.control import control_dependences
from tools.conformance.ir import Function, Instruction

NOTHING, GROUP, SIMD, NUMBER, VARIES = range(-1, 4)
SIMD_WIDTH = 32
Key = tuple[str, tuple[str, ...]]  # a variable, and constant indices into it

ATTRIBUTE_LEVELS = {
    "threadgroup_position_in_grid": GROUP,
    "simdgroup_index_in_threadgroup": SIMD,
    "thread_position_in_grid": NUMBER,  # where it has one dimension
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
    targets: frozenset[Key] = frozenset()

    def joined(self, other: Value) -> Value:
        return Value(join(self.level, other.level), self.targets | other.targets)


UNKNOWN = Value()
CONSTANT = Value(GROUP)


def related(a: tuple[str, ...], b: tuple[str, ...]) -> bool:
    """Whether one place contains the other."""
    n = min(len(a), len(b))
    return a[:n] == b[:n]


class Flow:
    """The values of one kernel, and how uniformly each of its blocks is reached."""

    def __init__(self, function: Function, levels: tuple[int, ...]) -> None:
        self.function = function
        self.values = {name: Value(level) for name, level in zip(function.parameters, levels, strict=True)}
        self.memory: dict[str, dict[tuple[str, ...], Value]] = {}
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
            return Value(GROUP, frozenset({(operand, ())}))
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

    def under(self, level: int, block: str) -> int:
        """The level of something that happens only in this block. In a SIMD-group that comes as a whole, numbers remain."""
        control = self.control[block]
        return level if level == NUMBER and control <= SIMD else max(level, control)

    def _step(self, i: Instruction, block: str) -> None:
        if i.op == "store":
            self._write(i.operands[1], (), self.value(i.operands[0]), block)
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

    def _write(self, pointer: str, path: tuple[str, ...], value: Value, block: str) -> None:
        to = self.value(pointer)
        level = self.under(value.level if to.level <= GROUP else join(value.level, to.level), block)
        for root, at in to.targets:
            if not root.startswith("@"):
                members = self.memory.setdefault(root, {})
                before = members.get(at + path, UNKNOWN)
                after = before.joined(Value(level, value.targets))
                if after != before:
                    members[at + path] = after
                    self.changed = True

    def read(self, pointer: Value) -> Value:
        """What lies where a pointer leads."""
        found = UNKNOWN
        for root, at in pointer.targets:
            if root.startswith("@"):
                found = found.joined(CONSTANT)
            for path, value in self.memory.get(root, {}).items():
                if related(path, at):
                    found = found.joined(value)
        return found if pointer.level <= GROUP else Value(join(found.level, pointer.level), found.targets)

    def _result(self, i: Instruction, block: str) -> Value:
        if i.op == "alloca":
            return Value(GROUP, frozenset({(i.result, ())}))
        if i.op == "load":
            pointer = self.value(i.operands[0])
            if "ptr addrspace(1)" in _address(i.text) or "ptr addrspace(2)" in _address(i.text):
                return Value(VARIES if pointer.level == NUMBER else pointer.level)
            return self.read(pointer)
        operands = [self.value(o) for o in i.operands]
        if i.op == "getelementptr":
            return _element(operands, i.operands)
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
            if len(self.function.blocks[source].successors) > 1:
                deciders.append(source)
            level = max((self.branch_level(d) for d in deciders), default=GROUP)
            found = found.joined(self.value(value))
            found = Value(found.level if level <= GROUP else join(found.level, level), found.targets)
        return found

    def _call(self, i: Instruction, block: str) -> None:
        name = library_name(i.callee)
        if i.callee.startswith(("@llvm.memcpy", "@llvm.memmove")):
            self._copy(i.operands[0], i.operands[1], block)
            return
        if i.callee.startswith("@llvm.memset"):
            self._write(i.operands[0], (), CONSTANT, block)
            return
        found = UNKNOWN
        for operand in i.operands:
            value = self.value(operand)
            found = found.joined(value if not value.targets else self.read(value))
        level = max(found.level, GROUP)
        if name.startswith(_SELF):
            level = VARIES
        elif name.startswith((*_SAME_IN_SIMD, "simdgroup_", "make_filled")):  # a matrix belongs to its SIMD-group
            level = SIMD
        elif level == NUMBER:
            level = VARIES
        if i.result:
            self._set(i.result, Value(level))
        for operand in written_by(i):
            self._write(operand, (), Value(level), block)

    def _copy(self, to: str, source: str, block: str) -> None:
        pointer = self.value(source)
        if not pointer.targets or any(root.startswith("@") for root, _ in pointer.targets):
            self._write(to, (), Value(pointer.level), block)
        for root, at in pointer.targets:
            for path, value in list(self.memory.get(root, {}).items()):
                if related(path, at):
                    level = value.level if pointer.level <= GROUP else join(value.level, pointer.level)
                    self._write(to, path[len(at) :], Value(level, value.targets), block)


def written_by(call: Instruction) -> list[str]:
    """The operands through which a function of the library writes to a thread's memory."""
    pairs = zip(call.operands, call.arguments, strict=True)
    return [o for o, written in pairs if re.match(r"ptr (?!addrspace|.*byval)", written)]


def _address(text: str) -> str:
    return text.split(",")[-2] if "align" in text else text


def _element(values: list[Value], operands: tuple[str, ...]) -> Value:
    """A pointer moved by indices: into a member where all are constant, else anywhere in what it leads to."""
    level = GROUP
    for value in values:
        level = value.level if level <= GROUP else join(level, value.level)
    first, *rest = operands[1:]
    path: list[str] = []
    for index in rest if first == "0" else []:
        if index.startswith("%"):
            break
        path.append(index)

    def moved(at: tuple[str, ...]) -> tuple[str, ...]:
        return at + tuple(path) if first == "0" else at[:-1]  # from one element of an array to any

    if level == NUMBER:
        level = VARIES
    return Value(level, frozenset((root, () if root.startswith("@") else moved(at)) for root, at in values[0].targets))


def _numbering(i: Instruction, first: int) -> int:
    """What becomes of the threads' numbers; only operations with a constant on the right keep anything."""
    right = i.operands[1]
    if first != NUMBER or not re.fullmatch(r"-?\d+", right):
        return VARIES
    n = int(right)
    whole = n % SIMD_WIDTH == 0 and n > 0
    if i.op == "icmp":
        compare = i.text.split("icmp ")[1].split()[0]
        same = whole if compare in ("ult", "uge", "slt", "sge") else compare in ("ugt", "ule", "sgt", "sle") and (n + 1) % SIMD_WIDTH == 0
        return SIMD if same else VARIES
    if (i.op == "udiv" and whole) or (i.op == "lshr" and n >= 5) or (i.op == "and" and n % SIMD_WIDTH == 0):
        return SIMD
    if (i.op in ("add", "sub", "urem") and n % SIMD_WIDTH == 0) or (i.op == "add" and n == 0):
        return NUMBER
    return VARIES
