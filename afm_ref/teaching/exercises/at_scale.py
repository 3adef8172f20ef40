"""Chapter 4's exercises: a program's bytes, MFU, the smallest shard, when a sum hides."""

from ...config import AFM_ON_DEVICE, AFM_TINY
from .registry import Case, exercise

# rounds of n - 1 hops, each of a chunk W / n
KINDS = {"all-gather": 1, "reduce-scatter": 1, "all-reduce": 2}


def _hops(found, *, loops=True, rounds=True, whole=False):
    """Add up what one device sends, hop by hop; the switches make the usual mistakes."""
    total = 0.0
    for kind, n_bytes, n, trips in found:
        for _ in range(trips if loops else 1):
            for _ in range((KINDS[kind] if rounds else 1) * (n - 1)):
                total += n_bytes if whole else n_bytes / n
    return total


@exercise("4.1", "bytes of a program with a loop", "easy", 5)
def sent_bytes():
    """Three programs: lists of (kind, whole bytes, devices, times executed)."""
    programs = (
        [("all-gather", 1024, 4, 3)],
        [("all-gather", 4096, 8, 26), ("all-reduce", 4, 8, 1)],
        [
            ("all-gather", 800, 4, 5),
            ("reduce-scatter", 800, 4, 5),
            ("all-reduce", 640, 2, 1),
        ],
    )
    for found in programs:
        mistakes = (
            (
                _hops(found, loops=False),
                "the text shows a loop's body once, but it runs `times` times",
            ),
            (
                _hops(found, rounds=False),
                "an all-reduce is a reduce-scatter AND an all-gather",
            ),
            (_hops(found, whole=True), "a hop carries a chunk of W/n bytes, not all of W"),
            (
                sum(KINDS[k] * w * t for k, w, n, t in found),
                "a chunk makes n - 1 hops to visit n devices",
            ),
        )
        yield Case({"found": found}, _hops(found), mistakes)


def _step_flops(cfg, tokens, seq_len, *, backward=2, attention=True):
    """Add up products layer by layer: 2 FLOPs a multiply-add, attention over T/2 keys."""
    D, H = cfg.d_model, cfg.head_dim
    total = cfg.vocab_size * D
    for _ in range(cfg.n_layers):
        total += D * H * (2 * cfg.n_heads + 2 * cfg.n_kv_heads) + 3 * D * cfg.d_ff
        total += 2 * cfg.n_heads * H * seq_len / 2 if attention else 0
    return 2 * total * (1 + backward) * tokens


@exercise("4.2", "how busy are 1024 chips?", "medium", 10)
def utilization():
    """AXLearn's public run among the cases."""
    for cfg, T, tokens, step_s, chips, peak in (
        (AFM_ON_DEVICE, 4096, 2**23, 0.80, 1024, 459e12),
        (AFM_ON_DEVICE, 4096, 2**23, 1.48, 512, 459e12),
        (AFM_TINY, 256, 2**12, 0.5, 1, 1e11),
    ):
        able = step_s * chips * peak
        mistakes = (
            (
                _step_flops(cfg, tokens, T, backward=0) / able,
                "training is three forward passes' work, not one",
            ),
            (
                _step_flops(cfg, tokens, T, attention=False) / able,
                "scores and weighted values are products, too",
            ),
            (
                _step_flops(cfg, tokens, T) / (step_s * peak),
                "all chips together could have worked",
            ),
            (
                100 * _step_flops(cfg, tokens, T) / able,
                "a fraction of 1 is asked, not percent",
            ),
        )
        arguments = dict(
            cfg=cfg, seq_len=T, tokens=tokens, step_s=step_s, chips=chips, peak_flops=peak
        )
        yield Case(arguments, _step_flops(cfg, tokens, T) / able, mistakes)


def _smallest(fits):
    fsdp = 1
    while not fits(fsdp):
        fsdp *= 2
    return fsdp


@exercise("4.3", "the smallest shard that fits", "medium", 10)
def smallest_fsdp():
    """Double the shards until everything fits."""
    for n_parameters, model, hbm, other in (
        (2_737_739_264, 1, 16 * 2**30, 6 * 2**30),
        (33_437_798_400, 4, 32 * 2**30, 20 * 2**30),
        (1000, 1, 20_000, 1_000),
    ):
        held = 16 * n_parameters / model
        right = _smallest(
            lambda fsdp, held=held, hbm=hbm, other=other: held / fsdp + other <= hbm
        )
        mistakes = (
            (
                _smallest(lambda f, h=held, b=hbm: h / f <= b),
                "other_bytes must fit beside the state",
            ),
            (
                _smallest(lambda f, h=held, b=hbm, o=other: h / 4 / f + o <= b),
                "16 bytes a parameter, not 4",
            ),
            (
                _smallest(lambda f, h=held * model, b=hbm, o=other: h / f + o <= b),
                "model already cuts every matrix",
            ),
            (
                _smallest(lambda f, h=held, b=hbm, o=other: (h + o) / f <= b),
                "fsdp does not cut other_bytes",
            ),
        )
        arguments = dict(
            n_parameters=n_parameters, model=model, hbm_bytes=hbm, other_bytes=other
        )
        yield Case(arguments, right, mistakes)


@exercise("4.4", "when does the sum of gradients hide?", "hard", 15)
def tokens_to_hide():
    """Bisect the number of tokens: compute grows with it, the all-reduce does not."""
    P = 1e9

    def fewest(n, peak, bandwidth, rounds=2, flops=6, width=2):
        sum_s = rounds * (n - 1) / n * width * P / bandwidth
        low, high = 0, 10**9
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (
                (low, middle) if flops * P * middle / peak >= sum_s else (middle, high)
            )
        return high

    for n, peak, bandwidth in ((1024, 459e12, 600e9), (8, 275e12, 6.25e9), (2, 1e12, 1e9)):
        mistakes = (
            (
                fewest(n, peak, bandwidth, flops=2),
                "a training step takes 6 FLOPs a parameter and token, not 2",
            ),
            (fewest(n, peak, bandwidth, rounds=1), "an all-reduce sends 2 (n-1)/n W"),
            (fewest(n, peak, bandwidth, width=4), "bfloat16 gradients have 2 bytes"),
            (fewest(n, peak, bandwidth) - 1, "round up: the sum must hide wholly"),
        )
        arguments = dict(n=n, peak_flops=peak, bandwidth_bytes_per_s=bandwidth)
        yield Case(arguments, fewest(n, peak, bandwidth), mistakes)
