"""The bytes that each device sends in a training step, collective by collective.

A step here is one value and gradient of the loss. The optimizer adds the sums of its norms,
which the compiler makes: a number for each block of weights.
"""

import math
from collections import Counter
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
    table = Counter()
    for term in terms(plan, B, T, width, documents):
        table[term.kind] += term.bytes_sent
    return dict(+table)  # without the kinds that send nothing


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
    shape, M = plan.shape, plan.microbatches
    ticks = M + shape.pipe - 1  # the bubble's as well
    rows = B // (shape.data * shape.fsdp)  # of one device
    tokens = rows * T // shape.seq
    stream = tokens // M * plan.cfg.d_model  # numbers of a microbatch: A / M

    def term(what, kind, axes, numbers, count=1, width=width):
        groups = {axis: getattr(shape, axis) for axis in axes.split()}
        return Term(what, kind, groups, numbers * width, count)

    runs = plan.cfg.n_layers // shape.pipe * ticks  # of layers, each on a microbatch
    scalar, labels = max(width, 4), T + (rows * T if documents else 0)
    return [
        *_of_weights(plan, runs, term),
        *_of_activations(plan, stream, runs, term),
        term("three numbers a token for the loss", "all-reduce", "model", tokens, 3),
        *_of_sequences(plan, tokens // M, labels, runs, term),
        # forward, and the gradients back
        term("activations between stages", "collective-permute", "pipe", stream, 2 * ticks),
        term("sum of the loss", "all-reduce", "data fsdp seq pipe", 1, width=scalar),
        term("count", "all-reduce", "data fsdp seq", 1, width=scalar),
    ]


def _of_weights(plan, runs, term):
    """Gradients of what the devices hold in copies; slices gathered, gradients scattered."""
    held, layer, m = held_parameters(plan), layer_parameters(plan.cfg), plan.shape.model
    matrices, embedding = (layer["attention"] + layer["ffn"]) // m, tables(plan) // m
    uses = plan.cfg.n_layers // plan.shape.pipe if plan.zero == 1 else runs
    gathers = uses * (2 if plan.zero == 3 else 1)
    return [
        term("gradients, matrices", "all-reduce", "data seq", held["matrices"]),
        term("gradients, embedding", "all-reduce", "data seq pipe", held["embedding"]),
        term("gradients, gains", "all-reduce", "data fsdp seq", held["gains"]),
        term("gradients, last gain", "all-reduce", "data fsdp seq pipe", held["last gain"]),
        term("weights, layers", "all-gather", "fsdp", matrices, gathers),
        term("weights, embedding", "all-gather", "fsdp", embedding),
        term("gradients, layers", "reduce-scatter", "fsdp", matrices, uses),
        term("gradients, embedding", "reduce-scatter", "fsdp", embedding),
    ]


def _of_activations(plan, stream, runs, term):
    """Tensor parallelism's, and gradients of gains that the devices use differently."""
    D, r = plan.cfg.d_model, int(plan.remat)
    heads = layer_parameters(plan.cfg)["norms"] - 2 * D
    yield term("gradients, gains of the heads", "all-reduce", "model", heads, runs)
    kinds = {"all-reduce": 4 + r}
    if plan.sequence == "norm":
        kinds = {"all-gather": 4 + 2 * r, "reduce-scatter": 4 + r}
        yield term("gradients, gains", "all-reduce", "model", 2 * D, runs)
        yield term("gradients, last gain", "all-reduce", "model", D)
    for kind, count in kinds.items():
        yield term("activations, layers", kind, "model", stream, count * runs)
        whole = stream * plan.microbatches
        yield term("activations, embedding and head", kind, "model", whole, 2)


def _of_sequences(plan, tokens, labels, runs, term):
    """Keys and values over the parts of the sequence, and which of them may be seen."""
    if plan.sequence not in ("gather", "ring"):
        return []
    cfg, n, r = plan.cfg, plan.shape.seq, int(plan.remat)
    part = 2 * tokens * cfg.n_kv_heads * cfg.head_dim // plan.shape.model  # of k and v
    seen = term("positions and documents", "all-gather", "seq", labels, width=4)
    if plan.sequence == "gather":
        return [
            term("keys and values", "all-gather", "seq", part * n, (1 + r) * runs),
            term("their gradients", "reduce-scatter", "seq", part * n, runs),
            seen,
        ]
    hops, what = (n - 1) * (2 + r) * runs, "keys, values, their gradients"
    return [term(what, "collective-permute", "seq", part, hops), seen]
