"""Read clang's unoptimised LLVM code: functions, blocks, instructions, and the line of text each comes from."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_NAME = r'(?:"[^"]+"|[\w.$-]+)'
_LABEL = re.compile(rf"^({_NAME}):")
_DEFINE = re.compile(rf"^define .*?@({_NAME})\((.*)\)")
_RESULT = re.compile(rf"^\s+(?:(%{_NAME}) = )?(?:tail |musttail |notail )?([a-z]+)\b\s*(.*)$")
_DEBUG = re.compile(r", !dbg (!\d+)")
_METADATA = re.compile(r"^(!\d+) = (.*)$")
_CALL = re.compile(rf"([%@]{_NAME})\((.*)\)")
ANYWHERE = 1 << 40  # more bytes than any variable has


@dataclass(frozen=True)
class Instruction:
    """One instruction: what it defines, its operands (values and constants, labels left out), and its place."""

    result: str
    op: str
    operands: tuple[str, ...]
    text: str
    debug: str
    callee: str = ""
    arguments: tuple[str, ...] = ()  # of a call, as written
    size: int = 0  # bytes that a load or a store moves
    shift: tuple[int, int] = (0, 0)  # of getelementptr: from which byte on, and within how many (0: just there)


@dataclass
class Block:
    """Instructions without a branch between them, and where the last one leads."""

    name: str
    instructions: list[Instruction] = field(default_factory=list)
    successors: tuple[str, ...] = ()


@dataclass
class Function:
    """A function of the module with its blocks in order, the first its entry."""

    name: str
    kernel: bool
    parameters: tuple[str, ...]
    blocks: dict[str, Block]


@dataclass
class Module:
    """Functions, the sizes of threadgroup variables in bytes, and the metadata that places instructions."""

    functions: dict[str, Function]
    shared: dict[str, int]
    metadata: dict[str, str]
    names: dict[str, str] = field(default_factory=dict)  # of files that were read under another

    def place(self, debug: str) -> tuple[str, int]:
        """File and line of an instruction, in the function it was written in."""
        entry = self.metadata.get(debug, "")
        line = re.search(r"line: (\d+)", entry)
        scope = re.search(r"scope: (!\d+)", entry)
        return self._file(scope[1] if scope else ""), int(line[1]) if line else 0

    def _file(self, scope: str) -> str:
        entry = self.metadata.get(scope, "")
        found = re.search(r"\bfile: (!\d+)", entry)
        if found is None:
            return ""
        text = self.metadata[found[1]]
        name, folder = re.search(r'filename: "([^"]*)"', text), re.search(r'directory: "([^"]*)"', text)
        path = os.path.normpath(os.path.join(folder[1] if folder else "", name[1] if name else ""))
        return self.names.get(path, path)


def split_top(text: str) -> list[str]:
    """Cut at the commas that stand in no bracket and no quotes."""
    parts, depth, start, quoted = [], 0, 0, False
    for i, c in enumerate(text):
        if c == '"':
            quoted = not quoted
        elif quoted:
            continue
        elif c in "([{<":
            depth += 1
        elif c in ")]}>":
            depth -= 1
        elif c == "," and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
    return [*parts, text[start:].strip()] if text.strip() else []


def parse_module(text: str, names: dict[str, str] | None = None) -> Module:
    """A module as clang prints it; ``names`` says what a file is called."""
    functions: dict[str, Function] = {}
    metadata: dict[str, str] = {}
    types: dict[str, str] = {}
    shared: dict[str, str] = {}
    current: Function | None = None
    block: Block | None = None
    lines = iter(text.splitlines())
    for line in lines:
        if current is None:
            if match := _METADATA.match(line):
                metadata[match[1]] = match[2]
            elif line.startswith("define") and "@__clang_ocl_kern_imp_" in line:
                next(end for end in lines if end == "}")  # clang 21 and later: each kernel again, as a plain function
            elif match := _DEFINE.match(line):
                parameters = tuple(part.split()[-1] for part in split_top(match[2]))
                current = Function(match[1], "spir_kernel" in line, parameters, {})
                block = None
            elif match := re.match(rf"(%{_NAME}) = type (.*)$", line):
                types[match[1]] = match[2]
            elif match := re.match(
                rf"(@{_NAME}) = .*addrspace\(3\) global (.*?) (?:undef|poison|zeroinitializer)", line
            ):
                shared[match[1]] = match[2]
        elif line == "}":
            functions[current.name] = current
            current = None
        elif match := _LABEL.match(line):
            block = current.blocks.setdefault(match[1], Block(match[1]))
        elif match := _RESULT.match(line):
            if block is None:
                block = current.blocks.setdefault("entry", Block("entry"))
            if match[2] == "switch":
                line = line.rstrip() + " ".join(_until_bracket(lines))
            instruction = _parse(match[1] or "", match[2], line, types)
            block.instructions.append(instruction)
            if match[2] in ("br", "switch"):
                block.successors = tuple(label[1:] for label in re.findall(rf"label (%{_NAME})", line))
    return Module(functions, {name: size_of(kind, types) for name, kind in shared.items()}, metadata, names or {})


def _until_bracket(lines: Iterator[str]) -> list[str]:
    cases = []
    for line in lines:
        cases.append(line.strip())
        if line.strip().startswith("]"):
            break
    return cases


def _parse(result: str, op: str, line: str, types: dict[str, str]) -> Instruction:
    debug = _DEBUG.search(line)
    place = debug[1] if debug else ""
    text = line.split(", !dbg ")[0].split(", !tbaa")[0].split(", !srcloc")[0].strip()
    body = text.split(" = ", 1)[1] if result else text
    if op == "call":
        called = _CALL.search(body)
        arguments = tuple(split_top(called[2])) if called else ()
        operands = tuple(map(_operand, arguments))
        return Instruction(result, op, operands, text, place, called[1] if called else "", arguments)
    if op == "phi":
        parts = re.findall(r"\[ ([^,]+), (%[^\]]+) \]", body)
        return Instruction(result, op, tuple(p.strip() for pair in parts for p in pair), text, place)
    if op in ("br", "switch"):
        condition = re.match(r"(?:br|switch) i\d+ (\S+), label", body)
        return Instruction(result, op, (condition[1],) if condition else (), text, place)
    parts = split_top(body)
    size, shift = 0, (0, 0)
    if op == "store":
        operands = (_operand(parts[0]), _operand(parts[1]))
        size = size_of(re.sub(r"^store (?:volatile )?", "", parts[0])[: -len(parts[0].split()[-1]) - 1], types)
    elif op == "load":
        operands = (_operand(parts[1]),)
        size = size_of(re.sub(r"^load (?:volatile )?", "", parts[0]), types)
    elif op == "alloca":
        operands = ()
    elif op == "getelementptr":
        operands = tuple(map(_operand, parts[1:]))
        shift = _shift(re.sub(r"^getelementptr (?:inbounds |nuw |nusw )*", "", parts[0]), operands[1:], types)
    else:
        operands = tuple(_operand(part.split(" to ")[0]) for part in parts)
    return Instruction(result, op, operands, text, place, size=size, shift=shift)


def _shift(kind: str, indices: tuple[str, ...], types: dict[str, str]) -> tuple[int, int]:
    """How far a getelementptr leads; from one element of an array, or by an index not known, anywhere in the array."""
    if indices[0] != "0":
        return 0, ANYWHERE
    offset = 0
    for index in indices[1:]:
        kind = types.get(kind, kind)
        if match := re.fullmatch(r"[\[<](\d+) x (.*)[\]>]", kind):
            kind = match[2]
            if index.startswith("%"):
                return offset, int(match[1]) * size_of(kind, types)
            offset += int(index) * size_of(kind, types)
        else:
            members = split_top(kind.strip("<>{ }"))
            offset = _offsets(members, types)[int(index)] + offset
            kind = members[int(index)]
    return offset, 0


def _operand(part: str) -> str:
    """The value of ``type value``; of an expression of constants the variable it is about."""
    variable = re.search(rf"@{_NAME}", part)
    return variable[0] if variable else part.split()[-1] if part.split() else ""


def size_of(kind: str, types: dict[str, str]) -> int:
    """Bytes of a type: scalars of 1 to 8, vectors (of 3 as of 4), arrays, structs with their padding."""
    return _layout(kind.strip(), types)[0]


def _layout(kind: str, types: dict[str, str]) -> tuple[int, int]:
    """Size and alignment."""
    if kind in types:
        return _layout(types[kind], types)
    if match := re.fullmatch(r"\[(\d+) x (.*)\]", kind):
        size, align = _layout(match[2], types)
        return int(match[1]) * size, align
    if match := re.fullmatch(r"<(\d+) x (.*)>", kind):
        size = _layout(match[2], types)[0] * (4 if match[1] == "3" else int(match[1]))
        return size, size
    if match := re.fullmatch(r"<?\{(.*)\}>?", kind):
        members = split_top(match[1])
        widest = max((_layout(member, types)[1] for member in members), default=1)
        end = _offsets(members, types)[-1]
        return (end + widest - 1) // widest * widest, widest
    scalars = {"half": 2, "float": 4, "double": 8}
    size = scalars.get(kind) or (max(1, int(kind[1:]) // 8) if re.fullmatch(r"i\d+", kind) else 8)
    return size, size


def _offsets(members: list[str], types: dict[str, str]) -> list[int]:
    """Where each member of a struct begins, and where the last one ends."""
    offsets, end = [], 0
    for member in members:
        size, align = _layout(member, types)
        offsets.append((end + align - 1) // align * align)
        end = offsets[-1] + size
    return [*offsets, end]
