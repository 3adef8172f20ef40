"""The collectives of a compiled program, from its HLO text, and the bytes they send.

    program -> computations -> instructions;  a loop's body counts as often as it runs

XLA for CPUs turns bf16 collectives into f32 after partitioning, so sizes are read from the
dump after the SPMD partitioner: give `of` what `jax.jit(f).lower(...)` returns. A compiled
program, or its text, is read as it is.
"""

import math
import re
import tempfile
from pathlib import Path
from typing import NamedTuple

from ...training.step import QUICK
from . import hlo

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


class Collective(NamedTuple):
    """One collective of a program as one device sees it, executed `count` times a run.

    operand_bytes and result_bytes are one execution's; bytes_sent is all executions'.
    """

    kind: str
    operand_bytes: int
    result_bytes: int
    group_size: int
    count: int
    op_name: str = ""  # where it comes from in the Python program, if the text says so

    @property
    def bytes_sent(self) -> float:
        """Return the bytes that one device sends for it in one run of the program."""
        whole = max(self.operand_bytes, self.result_bytes)
        return self.count * sent(self.kind, whole, self.group_size)


def sent(kind: str, whole_bytes: float, group_size: int) -> float:
    """Return the bytes that each of group_size devices sends, by the ring algorithms.

        all-gather, reduce-scatter, all-to-all    (n-1)/n whole_bytes
        all-reduce                              2 (n-1)/n whole_bytes
        permute                                           whole_bytes

    whole_bytes: the larger side as one device holds it, so the gathered result, or the
    operand before it is scattered; for an all-to-all and a permute the local array. A group
    of one sends nothing.

    Source: facts of ring algorithms, Patarasuk and Yuan 2009 [standard].
    Test: tests/parallelism/test_simulator.py::test_bytes_are_the_closed_forms
    """
    if kind not in KINDS:
        raise ValueError(f"unknown collective {kind!r}: give one of {KINDS}")
    if group_size < 1:
        raise ValueError(f"a group of {group_size} devices: give at least 1")
    if kind == "collective-permute":
        return whole_bytes if group_size > 1 else 0
    rounds = 2 if kind == "all-reduce" else 1
    return rounds * (group_size - 1) * whole_bytes / group_size


def of(program) -> tuple[Collective, ...]:
    """Return the collectives of one run of a program, in the order of its text.

    program: HLO text, a compiled program, or a lowered one, which is compiled, and read
    where bf16 is still bf16. Loops multiply; of a conditional's branches the one that sends
    most counts. ValueError without an entry, or if a loop does not say how often it runs.
    """
    if hasattr(program, "compile"):
        return compile_and_count(program, QUICK)[1]
    text = program if isinstance(program, str) else program.as_text()
    module = hlo.Module(text)
    return tuple(_inside(module, module.entry))


def compile_and_count(lowered, options: dict | None = None):
    """Return (compiled, collectives after the SPMD partitioner) of a lowered program.

    options go to the compiler, such as QUICK.
    """
    compiled, text = partitioned(lowered, options)
    return compiled, of(text)


def partitioned(lowered, options: dict | None = None):
    """Return (compiled, HLO text after the SPMD partitioner) of a lowered program.

    On one device there is nothing to partition: the text is the compiled program's.
    """
    with tempfile.TemporaryDirectory() as folder:
        dump = {"xla_dump_to": folder, "xla_dump_hlo_pass_re": "spmd-partitioning"}
        compiled = lowered.compile(compiler_options=dump | (options or {}))
        dumps = sorted(Path(folder).glob("*after_spmd-partitioning*.txt"))
        return compiled, dumps[-1].read_text() if dumps else compiled.as_text()


def total_bytes(collectives) -> float:
    """Return the bytes that one device sends in one run, all collectives together."""
    return sum(c.bytes_sent for c in collectives)


def by_kind(collectives) -> dict[str, dict[str, float]]:
    """Return {kind: {"count": executions, "bytes_sent": bytes}} of those that occur."""
    table = {}
    for c in collectives:
        row = table.setdefault(c.kind, {"count": 0, "bytes_sent": 0})
        row["count"] += c.count
        row["bytes_sent"] += c.bytes_sent
    return table


def _inside(module, computation):
    """Yield the collectives of one run of a computation, and of its calls."""
    for one in module.computations.get(computation, {}).values():
        opcode, called = one.opcode.removesuffix("-start"), hlo.called(one.attributes)
        if opcode.endswith(("-update", "-done")):
            continue  # asynchronous: counted at its start
        if opcode in KINDS:
            yield _collective(module, computation, one, opcode)
        elif opcode == "while":
            if inner := tuple(_inside(module, called[0])):
                trips = hlo.trips(module.computations, one, computation, called[0])
                yield from (c._replace(count=c.count * trips) for c in inner)
        elif opcode == "fusion" and "all-reduce-scatter" in one.attributes:
            # as TPUs write it, with the slice to keep
            for c in _inside(module, called[0]):
                part = c.operand_bytes // c.group_size
                yield c._replace(kind="reduce-scatter", result_bytes=part)
        elif opcode == "conditional":
            yield from max(
                (tuple(_inside(module, name)) for name in called),
                key=total_bytes,
                default=(),
            )
        else:
            for name in called:
                yield from _inside(module, name)


def _collective(module, computation, instruction, kind):
    operand = sum(
        hlo.type_bytes(module.computations[computation][name].type)
        for name in instruction.operands
    )
    n = _group_size(kind, instruction.attributes, module.n_devices)
    result = {"all-gather": operand * n, "reduce-scatter": operand // n}.get(kind, operand)
    said = hlo.type_bytes(instruction.type)
    # a TPU may round float32 sums to 16 bits at once
    least = result // 2 if kind == "all-reduce" else result
    # a start's type holds its operand as well
    if instruction.opcode == kind and not least <= said <= result:
        raise ValueError(
            f"{instruction.name}: {kind} of {operand} bytes over {n} devices should give {result} bytes, but the "
            f"text says {said}: a syntax of replica_groups that this reader does not know?"
        )
    op_name = re.search(r'op_name="([^"]*)"', instruction.attributes)
    return Collective(kind, operand, result, n, 1, op_name[1] if op_name else "")


def _group_size(kind, attributes, n_devices):
    """Return the devices of one group, from a list, an iota, or axes of a mesh."""
    if kind == "collective-permute":
        listed = re.search(r"source_target_pairs=\{((?:\{\d+,\d+\},?)*)\}", attributes)
        pairs = re.findall(r"(\d+),(\d+)", listed[1])
        # all that take part
        return len({device for a, b in pairs if a != b for device in (a, b)}) or 1
    # [groups,size]<=[...]T(...)
    if found := re.search(r"replica_groups=\[(\d+),(\d+)\]<=", attributes):
        return int(found[2])
    # mesh['x'=2,'y'=4] {'y'}
    if found := re.search(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}", attributes):
        sizes = dict(re.findall(r"'?([\w.]+)'?=(\d+)", found[1]))
        # 'y':(2)2 is a part of an axis
        axes = re.findall(r"'?([\w.]+)'?(?::\(\d+\)(\d+))?(?:,|$)", found[2])
        return math.prod(int(part or sizes[axis]) for axis, part in axes)
    groups = re.search(r"replica_groups=\{((?:\{[\d,]*\},?)*)\}", attributes)
    listed = re.findall(r"\{([\d,]+)\}", groups[1]) if groups else []
    # {} is everyone
    return max((len(group.split(",")) for group in listed), default=n_devices)
