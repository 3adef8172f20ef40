"""The bytes that each device sends in a training step, collective by collective.

A step here is one value and gradient of the loss. The optimizer adds the sums of its norms,
which the compiler makes: a number for each block of weights.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

from ...config import layer_parameters
from ..compiled.collectives import sent
from ..mesh import AXES
from ..sharded.plan import Plan
from .memory import held_parameters, tables


class Term(NamedTuple):
    """One kind of collective of a step, for one reason."""

    what: str  # the reason, in words
    kind: str  # as in collectives.KINDS
    # the axes of the mesh that it runs over, and the devices along each
    axes: dict[str, int]
    # the larger side as one device holds it: what is gathered, or not yet scattered
    whole_bytes: float
    count: float  # times a step

    @property
    def bytes_sent(self) -> float:
        """The bytes that one device sends for it in a step, by the ring algorithms."""
        return self.count * sent(self.kind, self.whole_bytes, math.prod(self.axes.values()))


def bytes_sent(
    plan: Plan, B: int, T: int, width: int = 4, documents: bool = False
) -> dict[str, float]:
    """Return {kind of collective: bytes one device sends} in a step on [B, T] tokens.

    It is the sum of `terms`, comparable with collectives.by_kind of the compiled program.
    """
    table = {}
    for term in terms(plan, B, T, width, documents):
        if term.bytes_sent:
            table[term.kind] = table.get(term.kind, 0) + term.bytes_sent
    return table


def bytes_by_axis(plan: Plan, B: int, T: int, width: int = 2) -> dict[str, float]:
    """Return {axis of the mesh: bytes one device sends along it}, in all as `bytes_sent`.

    A collective over several axes runs along the last of them first, and along the others
    with what is left to sum:

        all-reduce over data and seq     2 (s-1)/s W along seq,   2 (d-1)/d W/s along data
    """
    table = dict.fromkeys(AXES, 0.0)
    for term in terms(plan, B, T, width):
        whole = term.whole_bytes
        for axis in reversed(AXES):
            if axis in term.axes:
                table[axis] += term.count * sent(term.kind, whole, term.axes[axis])
                whole /= term.axes[axis]
    return table


def terms(
    plan: Plan, B: int, T: int, width: int = 4, documents: bool = False
) -> list[Term]:
    """Return the collectives of a step and why each is there, of numbers of `width` bytes.

    With d, f, p, s, m devices along data, fsdp, pipe, seq, model; l = L/p layers a device;
    M microbatches and u = (M+P-1)/M, how much longer a pipeline runs than its work; A =
    B/(d f) T/s D numbers, the residual stream; r = 1 with remat, else 0:

        copies' gradients  all-reduce over d s for matrices, d f s for gains
        fsdp               a layer's matrices / m:  all-gather l u M (1 + [zero 3]) times,
                           reduce-scatter l u M (zero 1: both l);  the embedding: both once
        model              all-reduce (4 + r) l u A, and 2 A at the ends;  3 numbers a token
          "norm"           all-gather (4 + 2 r) l u A, reduce-scatter (4 + r) l u A;  2 A
        seq                K = 2 B/(d f) T H heads/m
          "gather"         all-gather (1 + r) l u K, reduce-scatter l u K
          "ring"           permute (2 + r) (s-1)/s l u K
        pipe               permute 2 u A

    Source: Shoeybi et al. 2019, Korthikanti et al. 2022, Rajbhandari et al. 2020, counted
        for our code [standard].
    Test: tests/parallelism/test_grid.py::test_bytes_sent_equal_the_formula
    """
    plan.order(B, T)
    step = _Counts(plan, B, T, width)
    return [
        *step.copies(),
        *step.fsdp(),
        *step.model(),
        *step.sequence(documents),
        *step.pipe(),
        *step.loss(),
    ]


class _Counts:
    """The terms, and the sizes that they are made of."""

    def __init__(self, plan, B, T, width):
        self.plan, self.shape, self.width, self.T = plan, plan.shape, width, T
        self.rows = B // (plan.shape.data * plan.shape.fsdp)  # of one device
        self.tokens = self.rows * T // plan.shape.seq
        # numbers of a microbatch
        self.stream = self.tokens // plan.microbatches * plan.cfg.d_model
        self.ticks = plan.microbatches + plan.shape.pipe - 1
        self.layers = plan.cfg.n_layers // plan.shape.pipe
        self.runs = self.layers * self.ticks  # a layer runs so often, on a microbatch
        self.remat = int(plan.remat)

    def term(self, what, kind, axes, numbers, count=1, width=None):
        groups = {axis: getattr(self.shape, axis) for axis in axes.split()}
        return Term(what, kind, groups, numbers * (width or self.width), count)

    def copies(self) -> Iterator[Term]:
        """Gradients of the weights that several devices hold in copies."""
        axes = {
            "matrices": "data seq",
            "embedding": "data seq pipe",
            "gains": "data fsdp seq",
        }
        for part, numbers in held_parameters(self.plan).items():
            yield self.term(
                f"gradients, {part}",
                "all-reduce",
                axes.get(part, "data fsdp seq pipe"),
                numbers,
            )

    def fsdp(self) -> Iterator[Term]:
        """Weights gathered, their gradients scattered."""
        of_layer, zero, model = (
            layer_parameters(self.plan.cfg),
            self.plan.zero,
            self.shape.model,
        )
        matrices, embedding = (
            (of_layer["attention"] + of_layer["ffn"]) // model,
            tables(self.plan) // model,
        )
        uses = self.layers if zero == 1 else self.runs
        yield self.term(
            "weights, layers",
            "all-gather",
            "fsdp",
            matrices,
            uses * (2 if zero == 3 else 1),
        )
        yield self.term("weights, embedding", "all-gather", "fsdp", embedding)
        yield self.term("gradients, layers", "reduce-scatter", "fsdp", matrices, uses)
        yield self.term("gradients, embedding", "reduce-scatter", "fsdp", embedding)

    def model(self) -> Iterator[Term]:
        """Activations of tensor parallelism, and gradients of gains used differently."""
        ends, D, r = self.stream * self.plan.microbatches, self.plan.cfg.d_model, self.remat
        head_gains = layer_parameters(self.plan.cfg)["norms"] - 2 * D
        yield self.term(
            "gradients, gains of the heads", "all-reduce", "model", head_gains, self.runs
        )
        kinds = {"all-reduce": 4 + r}
        if self.plan.sequence == "norm":
            kinds = {"all-gather": 4 + 2 * r, "reduce-scatter": 4 + r}
            yield self.term("gradients, gains", "all-reduce", "model", 2 * D, self.runs)
            yield self.term("gradients, last gain", "all-reduce", "model", D)
        for kind, count in kinds.items():
            yield self.term(
                "activations, layers", kind, "model", self.stream, count * self.runs
            )
            yield self.term("activations, embedding and head", kind, "model", ends, 2)
        yield self.term(
            "three numbers a token for the loss", "all-reduce", "model", self.tokens, 3
        )

    def sequence(self, documents) -> Iterator[Term]:
        """Keys and values over the parts of the sequence, and which of them may be seen."""
        cfg, n, r = self.plan.cfg, self.shape.seq, self.remat
        # numbers of k and v
        part = (
            2
            * self.stream
            // cfg.d_model
            * cfg.n_kv_heads
            * cfg.head_dim
            // self.shape.model
        )
        if self.plan.sequence == "gather":
            yield self.term(
                "keys and values", "all-gather", "seq", part * n, (1 + r) * self.runs
            )
            yield self.term("their gradients", "reduce-scatter", "seq", part * n, self.runs)
        elif self.plan.sequence == "ring":
            hops = (n - 1) * (2 + r) * self.runs
            yield self.term(
                "keys, values, their gradients", "collective-permute", "seq", part, hops
            )
        else:
            return
        labels = self.T + (self.rows * self.T if documents else 0)
        yield self.term("positions and documents", "all-gather", "seq", labels, width=4)

    def pipe(self) -> Iterator[Term]:
        """Activations between stages, and their gradients back; in the bubble too."""
        yield self.term(
            "activations between stages",
            "collective-permute",
            "pipe",
            self.stream,
            2 * self.ticks,
        )

    def loss(self) -> Iterator[Term]:
        """The sum, over the stages too, and the count."""
        width = max(self.width, 4)
        yield self.term(
            "sum of the loss", "all-reduce", "data fsdp seq pipe", 1, width=width
        )
        yield self.term("count", "all-reduce", "data fsdp seq", 1, width=width)
