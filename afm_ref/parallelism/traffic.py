"""What a plan costs by formula: the bytes that each device sends in a step, and the bytes that it holds.

A step here is one value and gradient of the loss. The optimizer adds the sums of its norms, which the compiler makes:
a number for each block of weights.
"""

from typing import NamedTuple

from ..config import layer_parameters
from . import collectives
from .plan import Plan, check_batch


class Term(NamedTuple):
    """One kind of collective of a step, for one reason."""

    what: str  # the reason, in words
    kind: str  # as in collectives.KINDS
    axes: tuple[str, ...]  # of the mesh; the group is their product
    whole_bytes: float  # the larger side as one device holds it: what is gathered, or not yet scattered
    group_size: int
    count: float  # times a step

    @property
    def bytes_sent(self) -> float:
        """The bytes that one device sends for it in a step, by the ring algorithms."""
        return self.count * collectives.sent(self.kind, self.whole_bytes, self.group_size)


def bytes_sent(plan: Plan, B: int, T: int, bytes_per_number: int = 4, documents: bool = False) -> dict[str, float]:
    """Return {kind of collective: bytes one device sends} for one value and gradient on a batch of B x T tokens.

    It is the sum of `terms`, comparable with collectives.by_kind of the compiled program.

    Source: ring algorithms, Patarasuk and Yuan 2009 [standard]; the counts follow from our own strategies [ours].
    Test: tests/parallelism/test_grid.py::test_bytes_sent_equal_the_formula
    """
    table = {}
    for term in terms(plan, B, T, bytes_per_number, documents):
        if term.bytes_sent:
            table[term.kind] = table.get(term.kind, 0) + term.bytes_sent
    return table


def terms(plan: Plan, B: int, T: int, bytes_per_number: int = 4, documents: bool = False) -> list[Term]:
    """Return the collectives of a step and why each is there.

    With d, f, p, s, m devices along data, fsdp, pipe, seq, model; l = L/p layers a device; M microbatches and
    u = (M+P-1)/M, how much longer a pipeline runs than its work; A = B/(d f) T/s D numbers, the residual stream;
    r = 1 with remat, else 0:

        gradients of copies   all-reduce over the axes that do not cut a weight: d s for matrices, d f s for gains
        fsdp, layers          all-gather l u M (1 + [zero 3]) times a layer's matrices / m, reduce-scatter l u M times
                              (with zero 1: both once);   the embedding both once
        model, activations    all-reduce (4 + r) l u A, and 2 A at the two ends;   three numbers a token for the loss
          "norm"              all-gather (4 + 2 r) l u A and reduce-scatter (4 + r) l u A, and 2 A of each at the ends
        seq, keys and values  K = 2 B/(d f) T H heads/m:  "gather"  all-gather (1 + r) l u K, reduce-scatter l u K
                              "ring"  permute (2 + r) (s-1)/s l u K
        pipe                  permute 2 u A

    Source: Shoeybi et al. 2019, Korthikanti et al. 2022, Rajbhandari et al. 2020, counted for our own code [ours].
    Test: tests/parallelism/test_grid.py::test_bytes_sent_equal_the_formula
    """
    check_batch(plan, B, T)
    step = _Step(plan, B, T, bytes_per_number)
    return [*step.copies(), *step.fsdp(), *step.model(), *step.sequence(documents), *step.pipe(), *step.loss()]


class _Step:
    """The sizes that the terms are made of."""

    def __init__(self, plan, B, T, width):
        self.plan, self.cfg, self.shape, self.width = plan, plan.cfg, plan.shape, width
        self.per_layer = layer_parameters(self.cfg)
        self.matrices = self.per_layer["attention"] + self.per_layer["ffn"]
        self.tables = self.cfg.vocab_size * self.cfg.d_model * (1 if self.cfg.tie_embeddings else 2)
        self.layers = self.cfg.n_layers // self.shape.pipe
        self.ticks = plan.microbatches + self.shape.pipe - 1
        self.tokens = B // (self.shape.data * self.shape.fsdp) * (T // self.shape.seq)  # of one device
        self.rows, self.T = B // (self.shape.data * self.shape.fsdp), T
        self.remat = int(plan.remat)
        self.runs = self.layers * self.ticks  # a layer runs so often, on a microbatch
        self.stream = self.tokens // plan.microbatches * self.cfg.d_model  # numbers of a microbatch

    def term(self, what, kind, axes, numbers, count=1, width=None):
        sizes = [getattr(self.shape, axis) for axis in axes]
        group = 1
        for size in sizes:
            group *= size
        return Term(what, kind, axes, numbers * (width or self.width), group, count)

    def copies(self):
        """Gradients of the weights that several devices hold in copies."""
        cut = self.shape.model * self.shape.fsdp
        gains = self.layers * self.per_layer["norms"]
        reduce = "all-reduce"
        yield self.term("gradients, matrices", reduce, ("data", "seq"), self.layers * self.matrices // cut)
        yield self.term("gradients, embedding", reduce, ("data", "seq", "pipe"), self.tables // cut)
        yield self.term("gradients, gains", reduce, ("data", "fsdp", "seq"), gains)
        yield self.term("gradients, last gain", reduce, ("data", "fsdp", "seq", "pipe"), self.cfg.d_model)

    def fsdp(self):
        """Weights gathered, their gradients scattered."""
        matrices, tables = self.matrices // self.shape.model, self.tables // self.shape.model
        once = self.plan.zero == 1
        uses = self.layers if once else self.runs
        gathers = uses * (2 if self.plan.zero == 3 else 1)
        yield self.term("weights, layers", "all-gather", ("fsdp",), matrices, gathers)
        yield self.term("weights, embedding", "all-gather", ("fsdp",), tables)
        yield self.term("gradients, layers", "reduce-scatter", ("fsdp",), matrices, uses)
        yield self.term("gradients, embedding", "reduce-scatter", ("fsdp",), tables)

    def model(self):
        """Activations of tensor parallelism, and the gradients of gains whose uses differ."""
        ends = self.stream * self.plan.microbatches
        runs, r = self.runs, self.remat
        head_gains = self.per_layer["norms"] - 2 * self.cfg.d_model
        yield self.term("gradients, gains of the heads", "all-reduce", ("model",), head_gains, runs)
        if self.plan.sequence == "norm":
            for kind, extra in (("all-gather", 2 * r), ("reduce-scatter", r)):
                yield self.term("activations, layers", kind, ("model",), self.stream, (4 + extra) * runs)
                yield self.term("activations, embedding and head", kind, ("model",), ends, 2)
            yield self.term("gradients, gains", "all-reduce", ("model",), 2 * self.cfg.d_model, runs)
            yield self.term("gradients, last gain", "all-reduce", ("model",), self.cfg.d_model)
        else:
            yield self.term("activations, layers", "all-reduce", ("model",), self.stream, (4 + r) * runs)
            yield self.term("activations, embedding and head", "all-reduce", ("model",), ends, 2)
        yield self.term("three numbers a token for the loss", "all-reduce", ("model",), self.tokens, 3)

    def sequence(self, documents):
        """Keys and values over the parts of the sequence, and which of them may be seen."""
        cfg, n = self.cfg, self.shape.seq
        if self.plan.sequence not in ("gather", "ring"):
            return
        numbers = (
            2 * self.stream // cfg.d_model * cfg.n_kv_heads * cfg.head_dim // self.shape.model
        )  # k and v of a part
        if self.plan.sequence == "gather":
            yield self.term("keys and values", "all-gather", ("seq",), numbers * n, (1 + self.remat) * self.runs)
            yield self.term("their gradients", "reduce-scatter", ("seq",), numbers * n, self.runs)
        else:
            times = (n - 1) * (2 + self.remat) * self.runs
            yield self.term("keys, values, their gradients", "collective-permute", ("seq",), numbers, times)
        labels = self.T + (self.rows * self.T if documents else 0)
        yield self.term("positions and documents", "all-gather", ("seq",), labels, width=4)

    def pipe(self):
        """Activations between stages, and their gradients back; in the bubble too."""
        yield self.term("activations between stages", "collective-permute", ("pipe",), self.stream, 2 * self.ticks)

    def loss(self):
        """The sum, over the stages too, and the count."""
        width = max(self.width, 4)
        yield self.term("sum of the loss", "all-reduce", ("data", "fsdp", "seq", "pipe"), 1, width=width)
        yield self.term("count", "all-reduce", ("data", "fsdp", "seq"), 1, width=width)
