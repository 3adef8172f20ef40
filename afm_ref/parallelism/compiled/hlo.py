"""XLA's text of a program as data: its computations, and how often a loop runs."""

import math
import re
from typing import NamedTuple

_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) (?:\(.*\) -> .*)?\{$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*)$")
_ARRAY = re.compile(r"\b([a-z]+\d*\w*)\[([\d,<=\s]*)\]")
_CALLS = re.compile(
    r"\b(?:calls|to_apply|body|(?:branch|true|false)_computations?)=(\{[^}]*\}|[%\w.\-]+)"
)
_TRIPS = re.compile(r'known_trip_count"?[:=]\{"?n"?:"?(\d+)')


class Instruction(NamedTuple):
    """One line of a computation: NAME = TYPE OPCODE(OPERANDS), ATTRIBUTES."""

    name: str
    type: str
    opcode: str
    operands: tuple[str, ...]  # their names
    attributes: str
    root: bool


class Module:
    """The computations of an HLO text by name, each a dict of its instructions by name."""

    def __init__(self, text: str):
        self.computations, self.entry, current = {}, None, {}
        counts = r"\b(?:replica_count|num_partitions)=(\d+)"
        sizes = re.findall(counts, text.partition("\n")[0])
        self.n_devices = math.prod(map(int, sizes))
        for line in text.splitlines():
            if found := _HEADER.match(line):
                current = self.computations.setdefault(found[2], {})
                if found[1]:
                    self.entry = found[2]
            elif found := _INSTRUCTION.match(line):
                current[found[2]] = _instruction(*found.groups())
        if self.entry is None:
            raise ValueError(
                "no ENTRY computation: give the HLO text of a whole module, as compiled.as_text() does"
            )


def trips(computations, loop: Instruction, computation: str, body: str) -> int:
    """Return how often a loop runs: as it says, or as `for i in range(start, stop, step)`.

    start, stop and step are read from the loop. ValueError when it is no such loop.
    """
    if known := _TRIPS.search(loop.attributes):
        return int(known[1])
    condition = computations[re.search(r"\bcondition=%?([\w.\-]+)", loop.attributes)[1]]
    outer, inner = computations[computation], computations[body]
    init = outer[loop.operands[0]].operands
    try:
        test = _root(condition)
        counter, stop = (_source(condition, name) for name in test.operands)
        start = _source(outer, init[_index(counter)])
        add = _source(inner, _root(inner).operands[_index(counter)])
        steps = (_source(inner, name) for name in add.operands)
        (step,) = (found for found in steps if found.opcode == "constant")
        if stop.opcode == "get-tuple-element":
            stop = _source(outer, init[_index(stop)])
        if "direction=LT" not in test.attributes or add.opcode != "add":
            raise ValueError("not a counted loop")
        return len(range(*(int(found.attributes) for found in (start, stop, step))))
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise ValueError(
            f"the loop {loop.name} holds collectives, but its text does not say how often it runs: count only "
            "programs whose loops have a fixed length (scan, or fori_loop with integer bounds)"
        ) from error


def _instruction(root, name, rest):
    """Split `TYPE opcode(operands), attributes`, whose parentheses may nest."""
    end = _balanced(rest) if rest.startswith("(") else rest.index(" ")
    opcode, paren, tail = rest[end:].strip().partition("(")
    close = _balanced(paren + tail) - 1
    inside, attributes = tail[: close - 1], tail[close:]
    # "%x", "f32[8]{0} %x", or "x" where names bear no mark
    operands = re.findall(r"%([\w.\-]+)", inside) or re.findall(
        r"[\w.\-]+", re.sub(r"/\*.*?\*/", "", inside)
    )
    if opcode == "constant":
        operands, attributes = (), inside
    return Instruction(name, rest[:end], opcode, tuple(operands), attributes, bool(root))


def _balanced(text):
    """Return the position just after the parenthesis that closes the first character."""
    depth = 0
    for i, character in enumerate(text):
        depth += (character in "({[") - (character in ")}]")
        if depth == 0:
            return i + 1
    raise ValueError(f"unbalanced parentheses in HLO text: {text[:80]!r}")


def type_bytes(type_text: str) -> int:
    """Return the bytes of all arrays named in a type: bf16[8,32]{1,0} is 512."""
    bits = 0
    for dtype, shape in _ARRAY.findall(type_text):
        width = re.match(r"[a-z]+(\d+)", dtype)
        if width or dtype == "pred":
            size = math.prod(map(int, re.findall(r"\d+", shape)))
            bits += size * (int(width[1]) if width else 8)
    return -(-bits // 8)


def called(attributes: str) -> list[str]:
    """Return the names of the computations that an instruction runs."""
    # one name, or {several}
    return re.findall(r"[\w.\-]+", " ".join(_CALLS.findall(attributes)))


def _root(computation):
    return next(instruction for instruction in computation.values() if instruction.root)


def _source(computation, name):
    """Return the instruction of this name, or the one that it is a plain copy of."""
    while (instruction := computation[name]).opcode in ("copy", "bitcast"):
        (name,) = instruction.operands
    return instruction


def _index(instruction):
    return int(re.search(r"index=(\d+)", instruction.attributes)[1])
