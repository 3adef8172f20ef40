"""Chapter 7's exercises: a program's bytes, MFU, the smallest shard, when a sum hides."""

from bisect import bisect_left
from functools import partial

from ...config import AFM_ON_DEVICE, AFM_TINY
from .registry import exercise

# rounds of n - 1 hops, each of a chunk W / n
KINDS = {"all-gather": 1, "reduce-scatter": 1, "all-reduce": 2}
PROGRAMS = (  # lists of (kind, whole bytes, devices, times executed)
    ([("all-gather", 1024, 4, 3)],),
    ([("all-gather", 4096, 8, 26), ("all-reduce", 4, 8, 1)],),
    (
        [
            ("all-gather", 800, 4, 5),
            ("reduce-scatter", 800, 4, 5),
            ("all-reduce", 640, 2, 1),
        ],
    ),
)


@exercise("7.1", "bytes of a program with a loop", "easy", 5, PROGRAMS)
def sent_bytes(found):
    """Add up what one device sends in three programs, hop by hop."""
    return _hops(found), {
        "the text shows a loop's body once, but it runs `times` times": _hops(
            found, loops=False
        ),
        "an all-reduce is a reduce-scatter AND an all-gather": _hops(found, rounds=False),
        "a hop carries a chunk of W/n bytes, not all of W": _hops(found, whole=True),
        "a chunk makes n - 1 hops to visit n devices": sum(
            KINDS[k] * w * t for k, w, n, t in found
        ),
    }


def _hops(found, *, loops=True, rounds=True, whole=False):
    """Add up what one device sends, hop by hop; the switches make the usual mistakes."""
    total = 0.0
    for kind, n_bytes, n, trips in found:
        hops = (trips if loops else 1) * (KINDS[kind] if rounds else 1) * (n - 1)
        total += sum(n_bytes if whole else n_bytes / n for _ in range(hops))
    return total


RUNS = (
    (AFM_ON_DEVICE, 4096, 2**23, 0.80, 1024, 459e12),
    (AFM_ON_DEVICE, 4096, 2**23, 1.48, 512, 459e12),
    (AFM_TINY, 256, 2**12, 0.5, 1, 1e11),
)


@exercise("7.2", "how busy are 1024 chips?", "medium", 10, RUNS)
def utilization(cfg, seq_len, tokens, step_s, chips, peak_flops):
    """AXLearn's public run among the cases."""
    flops = partial(_step_flops, cfg, tokens, seq_len)
    able = step_s * chips * peak_flops
    return flops() / able, {
        "training is three forward passes' work, not one": flops(backward=0) / able,
        "scores and weighted values are products, too": flops(attention=False) / able,
        "all chips together could have worked": flops() / (step_s * peak_flops),
        "a fraction of 1 is asked, not percent": 100 * flops() / able,
    }


def _step_flops(cfg, tokens, seq_len, *, backward=2, attention=True):
    """Add up products layer by layer: 2 FLOPs a multiply-add, attention over T/2 keys."""
    D, H = cfg.d_model, cfg.head_dim
    total = cfg.vocab_size * D
    for _ in range(cfg.n_layers):
        total += D * H * (2 * cfg.n_heads + 2 * cfg.n_kv_heads) + 3 * D * cfg.d_ff
        total += 2 * cfg.n_heads * H * seq_len / 2 if attention else 0
    return 2 * total * (1 + backward) * tokens


MODELS = (
    (2_737_739_264, 1, 16 * 2**30, 6 * 2**30),
    (33_437_798_400, 4, 32 * 2**30, 20 * 2**30),
    (1000, 1, 20_000, 1_000),
)


@exercise("7.3", "the smallest shard that fits", "medium", 10, MODELS)
def smallest_fsdp(n_parameters, model, hbm_bytes, other_bytes):
    """Double the shards until everything fits."""

    def smallest(held, other=other_bytes, cut=0):
        fsdp = 1
        while (held + cut) / fsdp + other > hbm_bytes:
            fsdp *= 2
        return fsdp

    held = 16 * n_parameters / model
    return smallest(held), {
        "other_bytes must fit beside the state": smallest(held, other=0),
        "16 bytes a parameter, not 4": smallest(held / 4),
        "model already cuts every matrix": smallest(held * model),
        "fsdp does not cut other_bytes": smallest(held, other=0, cut=other_bytes),
    }


CLUSTERS = ((1024, 459e12, 600e9), (8, 275e12, 6.25e9), (2, 1e12, 1e9))


@exercise("7.4", "when does the sum of gradients hide?", "hard", 15, CLUSTERS)
def tokens_to_hide(n, peak_flops, bandwidth_bytes_per_s):
    """Bisect the number of tokens: compute grows with it, the all-reduce does not."""

    def fewest(rounds=2, flops=6, width=2):  # all for one parameter
        sum_s = rounds * (n - 1) / n * width / bandwidth_bytes_per_s
        return bisect_left(
            range(10**9), sum_s, key=lambda tokens: flops * tokens / peak_flops
        )

    return fewest(), {
        "a training step takes 6 FLOPs a parameter and token, not 2": fewest(flops=2),
        "an all-reduce sends 2 (n-1)/n W": fewest(rounds=1),
        "bfloat16 gradients have 2 bytes": fewest(width=4),
        "round up: the sum must hide wholly": fewest() - 1,
    }
