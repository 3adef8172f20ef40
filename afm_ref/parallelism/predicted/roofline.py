"""What a training step should take on a machine that is not here: a roofline.

    step = max(compute (1 + bubble), traffic that hides) + traffic that it waits for

Compute is the sum over a layer's operations of the larger of FLOPs / peak and bytes / HBM
bandwidth; what is sent is `traffic`'s. Nothing is fitted: the distance to public step times
is shown, not tuned away. Products and what travels are bfloat16; weights and optimizer
state are float32.
"""

from typing import NamedTuple

from ...config import TPU_PEAK_FLOPS, train_flops_per_token
from ..compiled.collectives import sent
from ..mesh import check_slices
from ..sharded.plan import Plan
from .memory import F32, held_bytes, held_parameters
from .traffic import bytes_by_axis

BF16 = 2


class Chip(NamedTuple):
    """A chip's peaks; bandwidths are bytes a second one way, of two links a torus axis."""

    name: str
    flops: float  # bfloat16
    hbm_bytes: float
    hbm_bandwidth: float
    link_bandwidth: float
    dcn_bandwidth: float  # this chip's share of the network between slices
    torus_axes: int
    source: str


V5P = Chip(
    "TPU v5p", TPU_PEAK_FLOPS["v5p"], 95 * 2**30, 2765e9, 100e9, 6.25e9, 3,
    "Google Cloud's v5p page: 459 TFLOP/s, 95 GiB, 2765 GB/s, ICI 1200 GB/s both ways over 6 links, DCN 50 Gbit/s "
    "[confirmed]",
)  # fmt: skip
V4 = Chip(
    "TPU v4", TPU_PEAK_FLOPS["v4"], 32 * 2**30, 1228e9, 50e9, 6.25e9, 3,
    "275 TFLOP/s [confirmed]; 32 GiB, 1228 GB/s, 6 links of 50 GB/s each way, DCN as v5p's [recalled]",
)  # fmt: skip
CHIPS = {"v5p": V5P, "v4": V4}


class Estimate(NamedTuple):
    """One step by one plan: seconds by mesh axis, hidden or not, and bytes a chip."""

    compute_s: float
    communication_s: dict[str, float]
    exposed_s: float  # what of the communication the step waits for
    bubble: float  # idle over busy time of a pipeline
    step_s: float
    mfu: float
    sent_bytes: dict[str, float]  # by one chip, along each mesh axis
    memory: dict[str, float]

    @property
    def idle_s(self) -> float:
        """What a chip waits for the other stages of its pipeline."""
        return self.compute_s * self.bubble

    @property
    def memory_bytes(self) -> float:
        """All that lies on one chip at the worst moment."""
        return sum(self.memory.values())


def step(plan: Plan, B: int, T: int, chip: Chip, *, slices: int = 1) -> Estimate:
    """Return the estimate of one training step on a batch [B, T] over the whole mesh.

    slices: parts joined by the slow network, crossed by "data" alone.

    Overlap, our assumption: gathers of the next layer's weights and sums of the last
    layer's gradients hide behind compute; sums of activations (model), keys and values
    (seq) and stage borders (pipe) do not. Axes of the mesh share the torus evenly.
    ValueError if the batch or the slices do not fit the mesh.

    Source: roofline, Williams et al. 2009; Huang et al. 2019 (GPipe), the bubble
        [standard].
    Test: tests/parallelism/test_predicted.py::test_pure_data_parallel_by_hand
    """
    shape = plan.shape
    check_slices(shape, slices)
    compute = compute_s(plan, B, T, chip)
    traffic = bytes_by_axis(plan, B, T, BF16)
    # of one mesh axis: two links for each torus axis that it gets
    used = sum(size > 1 for size in shape.sizes)
    bandwidth = 2 * chip.link_bandwidth * max(1, chip.torus_axes // max(used, 1))
    seconds = {axis: size / bandwidth for axis, size in traffic.items()}
    seconds["data"] += _between_slices_s(plan, chip, slices)
    hidden = seconds["data"] + seconds["fsdp"]
    exposed = seconds["model"] + seconds["seq"] + seconds["pipe"]
    bubble = (shape.pipe - 1) / plan.microbatches
    busy = compute * (1 + bubble)
    step_s = max(busy, hidden) + exposed
    mfu = train_flops_per_token(plan.cfg, T) * B * T / (step_s * shape.size * chip.flops)
    waits = exposed + max(0.0, hidden - busy)
    return Estimate(
        compute, seconds, waits, bubble, step_s, mfu, traffic, held_bytes(plan, B, T, BF16)
    )


def compute_s(plan: Plan, B: int, T: int, chip: Chip) -> float:
    """Return the seconds that one chip computes, each operation by FLOPs or bytes.

    A product of tokens with a matrix takes the longer of its FLOPs and its bytes, once
    forward, twice backward, once more with remat. Norms, rotations and gates only move
    bytes, as the optimizer does, which reads weight, gradient and two moments and writes
    three.

    Source: roofline, Williams et al. 2009 [standard].
    Test: tests/parallelism/test_predicted.py::test_large_products_run_at_peak_and_small_ones_at_the_memory
    """
    cfg, shape = plan.cfg, plan.shape
    tokens = B * T / (shape.data * shape.fsdp * shape.seq)  # of one chip
    D, F, V = cfg.d_model, cfg.d_ff / shape.model, cfg.vocab_size / shape.model
    q = cfg.n_heads * cfg.head_dim / shape.model
    kv = cfg.n_kv_heads * cfg.head_dim / shape.model

    def product(read, write):
        numbers = tokens * read + read * write + tokens * write
        flops = 2 * tokens * read * write
        return max(flops / chip.flops, BF16 * numbers / chip.hbm_bandwidth)

    def elementwise(*widths):
        return BF16 * tokens * sum(widths) / chip.hbm_bandwidth

    # scores and weighted values: 2 + 2 FLOPs a channel and key, T/2 keys on average
    attention = max(2 * tokens * T * q / chip.flops, elementwise(2 * q, 2 * kv))
    layer = 2 * product(D, q) + 2 * product(D, kv) + attention + 3 * product(D, F)
    # read and write: two norms and two residual sums (10 D), rope and qk-norm (4 q + 4 kv),
    # the gate (3 F)
    layer += elementwise(10 * D, 4 * q, 4 * kv, 3 * F)
    head = product(D, V) + elementwise(2 * V)
    update = 7 * F32 * sum(held_parameters(plan).values()) / chip.hbm_bandwidth
    return cfg.n_layers / shape.pipe * layer * (4 if plan.remat else 3) + head * 3 + update


def _between_slices_s(plan, chip, slices):
    """Gradients are scattered inside a slice first; each chip sums its share across."""
    share = BF16 * sum(held_parameters(plan).values()) / (plan.shape.data / slices)
    return sent("all-reduce", share, slices) / chip.dcn_bandwidth
