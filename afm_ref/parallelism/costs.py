"""What a training step should take on a machine that is not here: a roofline of time, and memory, for every mesh.

    step = max(compute, traffic that hides behind it) + traffic that it waits for,   all times 1 + the pipeline's bubble

Compute is the sum over a layer's operations of the larger of FLOPs / peak and bytes / HBM bandwidth. Nothing is
fitted: the distance to public step times is shown, not tuned away. Products and what travels are bfloat16; weights
and optimizer state are float32.
"""

import dataclasses

from ..config import TPU_PEAK_FLOPS, AFMConfig, layer_parameters, parameters, train_flops_per_token
from .collectives import sent
from .mesh import AXES, MeshShape

BF16, F32 = 2, 4


@dataclasses.dataclass(frozen=True)
class Chip:
    """A chip's peaks. Bandwidths are bytes a second in one direction; `links` run along a torus, two for each axis."""

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


@dataclasses.dataclass(frozen=True)
class Estimate:
    """One step on one mesh: seconds, and bytes a chip. communication_s is each mesh axis's, hidden or not."""

    shape: MeshShape
    compute_s: float
    communication_s: dict[str, float]
    exposed_s: float  # what of the communication the step waits for
    bubble: float  # idle over busy time of a pipeline
    step_s: float
    mfu: float
    sent_bytes: dict[str, float]  # by one chip, along each mesh axis
    memory: dict[str, float]

    @property
    def memory_bytes(self) -> float:
        """All that lies on one chip at the worst moment."""
        return sum(self.memory.values())


def step(
    cfg: AFMConfig,
    shape: MeshShape,
    batch: int,
    seq_len: int,
    chip: Chip,
    *,
    zero: int = 3,
    remat: bool = True,
    slices: int = 1,
    microbatches: int | None = None,
    fused_attention: bool = True,
) -> Estimate:
    """Return the estimate of one training step of `batch` sequences over the whole mesh.

    zero: what the fsdp axis cuts (1 optimizer, 2 and gradients, 3 and weights). remat: each layer runs its forward
    pass twice. slices: parts joined by the slow network, crossed by "data" alone. microbatches: of a pipeline, 4 for
    each stage unless given. fused_attention: the T x T scores stay on chip, as in flash attention.

    Overlap, our assumption: gathers of the next layer's weights and sums of the last layer's gradients hide behind
    compute; sums of activations (model), keys and values (seq) and stage borders (pipe) do not. Axes of the mesh
    share the torus evenly. ValueError if the mesh does not divide the model or the batch, with the reasons.

    Source: roofline, Williams et al. 2009; Megatron-LM, ZeRO and GPipe traffic formulas [standard]; overlap [ours].
    Test: tests/parallelism/test_costs.py::test_pure_data_parallel_by_hand
    """
    if problems := misfits(cfg, shape, batch, seq_len, slices):
        raise ValueError(f"mesh {shape} does not fit: " + "; ".join(problems))
    microbatches = microbatches or (4 * shape.pipe if shape.pipe > 1 else 1)
    compute = compute_s(cfg, shape, batch, seq_len, chip, remat=remat) + _update_s(cfg, shape, chip, zero)
    traffic = sent_bytes(cfg, shape, batch, seq_len, zero=zero, remat=remat)
    seconds = {axis: traffic[axis] / _bandwidth(shape, chip) for axis in AXES}
    seconds["data"] += _between_slices_s(cfg, shape, chip, slices)
    hidden, exposed = seconds["data"] + seconds["fsdp"], seconds["model"] + seconds["seq"] + seconds["pipe"]
    bubble = (shape.pipe - 1) / microbatches
    busy = max(compute, hidden) + exposed
    step_s = busy * (1 + bubble)
    flops = train_flops_per_token(cfg, seq_len) * batch * seq_len
    memory = memory_bytes(cfg, shape, batch, seq_len, zero=zero, remat=remat, fused_attention=fused_attention)
    return Estimate(
        shape, compute, seconds, exposed + max(0.0, hidden - compute), bubble, step_s,
        flops / (step_s * shape.size * chip.flops), traffic, memory,
    )  # fmt: skip


def compute_s(cfg: AFMConfig, shape: MeshShape, batch: int, seq_len: int, chip: Chip, *, remat: bool = True) -> float:
    """Return the seconds that one chip computes: for each operation the larger of its FLOPs' and its bytes' time.

    A matrix product [M, K] x [K, N] takes max(2 M K N / peak, 2 (M K + K N + M N) / HBM bandwidth), once forward,
    twice backward, once more with remat. Norms, rotations and gates only move bytes.

    Source: roofline, Williams et al. 2009 [standard]; passes over elementwise arrays counted by us [ours].
    Test: tests/parallelism/test_costs.py::test_large_products_run_at_peak_and_small_ones_at_the_memory
    """
    M = batch * seq_len / (shape.data * shape.fsdp * shape.seq)  # tokens of one chip
    D, F, V = cfg.d_model, cfg.d_ff / shape.model, cfg.vocab_size / shape.model
    q, kv = cfg.n_heads * cfg.head_dim / shape.model, cfg.n_kv_heads * cfg.head_dim / shape.model

    def product(K, N):
        return max(2 * M * K * N / chip.flops, BF16 * (M * K + K * N + M * N) / chip.hbm_bandwidth)

    def elementwise(*widths):
        return BF16 * M * sum(widths) / chip.hbm_bandwidth

    attention = max(2 * M * seq_len * q / chip.flops, BF16 * M * 2 * (q + kv) / chip.hbm_bandwidth)
    layer = 2 * product(D, q) + 2 * product(D, kv) + attention + 3 * product(D, F)
    # read and write: two norms and two residual sums (10 D), rope and qk-norm (4 q + 4 kv), the gate (3 F)
    layer += elementwise(10 * D, 4 * q, 4 * kv, 3 * F)
    head = product(D, V) + elementwise(2 * V)
    return cfg.n_layers / shape.pipe * layer * (4 if remat else 3) + head * 3


def _update_s(cfg, shape, chip, zero):
    """The optimizer reads weight, gradient and two moments and writes three: 28 bytes of HBM a parameter."""
    return 7 * F32 * _cut(cfg, shape, zero >= 1) / chip.hbm_bandwidth


def sent_bytes(cfg: AFMConfig, shape: MeshShape, batch: int, seq_len: int, *, zero: int = 3, remat: bool = True):
    """Return the bytes that one chip sends in a step along each axis of the mesh, by ring algorithms.

        data    all-reduce of the gradients, 2 (n-1)/n
        fsdp    gathers of the weights and one reduce-scatter of the gradients: 3 (n-1)/n for ZeRO-3, else 2 (n-1)/n
        model   all-reduces of [B, T, D]: 2 a layer forward, 2 backward, 1 again with remat, 2 at the embedding
        seq     all-gather of keys and values, again with remat, reduce-scatter of theirs; all-reduce of gradients
        pipe    [B, T, D] at the stage's border, forward and backward

    Source: Rajbhandari et al. 2020 (ZeRO), Narayanan et al. 2021 (Megatron-LM) [standard].
    Test: tests/parallelism/test_costs.py::test_traffic_equals_the_compiled_programs
    """
    weights = parameters(cfg)["total"] / (shape.model * shape.pipe)
    B, T = batch / (shape.data * shape.fsdp), seq_len / shape.seq
    stream, layers = B * T * cfg.d_model * BF16, cfg.n_layers / shape.pipe
    kv = 2 * B * seq_len * cfg.n_kv_heads * cfg.head_dim / shape.model * BF16
    times_gathered = {1: 1, 2: 1, 3: 2 if remat else 1}[zero]
    gradients = BF16 * weights / shape.fsdp  # what is left to sum after fsdp's reduce-scatter
    fsdp = (times_gathered + 1) * sent("all-gather", BF16 * weights, shape.fsdp)
    model = (4 + remat) * layers * sent("all-reduce", stream, shape.model) + 2 * sent("all-reduce", stream, shape.model)
    seq = (2 + remat) * layers * sent("all-gather", kv, shape.seq) + sent("all-reduce", gradients, shape.seq)
    pipe = 2 * stream if shape.pipe > 1 else 0.0
    return {"data": sent("all-reduce", gradients, shape.data), "fsdp": fsdp, "pipe": pipe, "seq": seq, "model": model}


def memory_bytes(
    cfg: AFMConfig,
    shape: MeshShape,
    batch: int,
    seq_len: int,
    *,
    zero: int = 3,
    remat: bool = True,
    fused_attention: bool = True,
) -> dict[str, float]:
    """Return the bytes on one chip at the worst moment of a step, by what they hold.

        weights 4 and a bfloat16 copy of 2, gradients 2, optimizer 8 bytes a parameter, cut as `zero` says
        activations    the stream at each layer's border, one layer's inner ones (all layers' without remat), logits
        gathered       two layers' weights and the embedding, where fsdp cuts weights

    Source: Rajbhandari et al. 2020 section 3 (states); our count of activations [ours].
    Test: tests/parallelism/test_topologies.py::test_memory_against_the_compiler
    """
    M = batch * seq_len / (shape.data * shape.fsdp * shape.seq)
    D, F = cfg.d_model, cfg.d_ff / shape.model
    heads = (cfg.n_heads + 2 * cfg.n_kv_heads) * cfg.head_dim / shape.model
    inner = BF16 * M * (4 * D + 3 * heads + 4 * F)
    if not fused_attention:
        inner += 3 * BF16 * M * seq_len * cfg.n_heads / shape.model  # scores, weights, their gradient
    layers = cfg.n_layers / shape.pipe
    logits = (BF16 + F32) * M * cfg.vocab_size / shape.model
    layer = BF16 * sum(layer_parameters(cfg).values()) / shape.model
    embedding = BF16 * cfg.vocab_size * D / shape.model
    return {
        "weights": (F32 + BF16) * _cut(cfg, shape, zero == 3),
        "gradients": BF16 * _cut(cfg, shape, zero >= 2),
        "optimizer": 2 * F32 * _cut(cfg, shape, zero >= 1),
        "activations": BF16 * M * D * layers + max(inner, logits) + (0 if remat else inner * (layers - 1)),
        "gathered": 2 * layer + embedding if zero == 3 and shape.fsdp > 1 else 0.0,
    }


def misfits(cfg: AFMConfig, shape: MeshShape, batch: int, seq_len: int, slices: int = 1) -> list[str]:
    """Return why the mesh cannot run this model and batch, one sentence for each reason; [] when it can."""
    checks = [
        (batch, shape.data * shape.fsdp, "data x fsdp = {n} does not divide the batch of {whole} sequences"),
        (seq_len, shape.seq, "seq={n} does not divide {whole} tokens"),
        (cfg.n_kv_heads, shape.model, "model={n} does not divide {whole} key/value heads"),
        (cfg.d_ff, shape.model, "model={n} does not divide the FFN's {whole} channels"),
        (cfg.vocab_size, shape.model, "model={n} does not divide the vocabulary of {whole}"),
        (cfg.d_model, shape.fsdp, "fsdp={n} does not divide the model dimension of {whole}"),
        (cfg.n_layers, shape.pipe, "pipe={n} does not divide {whole} layers"),
        (shape.data, slices, "{n} slices do not divide data={whole}, the only axis that crosses between slices"),
    ]
    return [text.format(n=n, whole=whole) for whole, n, text in checks if whole % n]


def _cut(cfg, shape, by_fsdp):
    """Parameters on one chip."""
    return parameters(cfg)["total"] / (shape.model * shape.pipe * (shape.fsdp if by_fsdp else 1))


def _bandwidth(shape, chip):
    """Bytes a second that one chip sends along one mesh axis: two links for each torus axis that it gets."""
    used = sum(size > 1 for size in shape.sizes)
    return 2 * chip.link_bandwidth * max(1, chip.torus_axes // max(used, 1))


def _between_slices_s(cfg, shape, chip, slices):
    """Inside a slice the gradients are scattered over its data axis first, so each chip sums its share across."""
    share = BF16 * _cut(cfg, shape, True) / (shape.data / slices)
    return sent("all-reduce", share, slices) / chip.dcn_bandwidth
