"""Chapter 7's exercises: a sum of parts, days of a run, the smallest shard, how many slices."""

from functools import partial

from ...config import AFM_ON_DEVICE, AFM_TINY
from .registry import exercise

SUMS = ((4096, 2, 4), (5.5e9, 8, 256), (960, 3, 2))  # whole bytes, data, fsdp


@exercise("7.1", "what should the sum have sent?", "medium", 10, SUMS)
def sum_of_parts(whole_bytes, data, fsdp):
    """Add up what one device sends, hop by hop."""

    def hops(n, n_bytes, rounds):
        return sum(n_bytes / n for _ in range(rounds * (n - 1)))

    first, part = hops(fsdp, whole_bytes, 1), whole_bytes / fsdp
    return first + hops(data, part, 2), {
        "that is the all-reduce over all devices: most of it is sliced away": hops(
            data * fsdp, whole_bytes, 2
        ),
        "after the first sum a device has only a part, whole_bytes / fsdp": first
        + hops(data, whole_bytes, 2),
        "an all-reduce is a reduce-scatter AND an all-gather": first + hops(data, part, 1),
        "along fsdp nobody needs the whole sum: reduce-scatter": 2 * first
        + hops(data, part, 2),
        "the groups along data must add their sums, too": first,
    }


RUNS = (
    (AFM_ON_DEVICE, 4096, 10**12, 0.40, 1024, 459e12),
    (AFM_ON_DEVICE, 8192, 10**11, 0.35, 512, 275e12),
    (AFM_TINY, 256, 2**26, 0.5, 1, 1e11),
)


@exercise("7.2", "how many days?", "medium", 10, RUNS)
def run_days(cfg, seq_len, tokens, mfu, chips, peak_flops):
    """FLOPs of all layers, over what so many busy chips do in a day."""
    flops = partial(_step_flops, cfg, tokens, seq_len)
    a_day = 24 * 3600 * mfu * chips * peak_flops
    return flops() / a_day, {
        "training is three forward passes' work, not one": flops(backward=0) / a_day,
        "scores and weighted values are products, too": flops(attention=False) / a_day,
        "a chip at this MFU does less than its peak": flops() * mfu / a_day,
        "all chips work together": flops() * chips / a_day,
        "days are asked, not hours": 24 * flops() / a_day,
        "days are asked, not seconds": 24 * 3600 * flops() / a_day,
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


NETWORKS = ((2**24, 275e12, 6.25e9), (2**22, 459e12, 6.25e9), (123_456, 1e14, 1e10))


@exercise("7.4", "how many slices?", "hard", 15, NETWORKS)
def most_slices(batch_tokens, peak_flops, dcn_bandwidth):
    """Add slices while the sum still hides; all for one parameter and one chip a slice."""

    def most(rounds=2, flops=8, width=2, whole=False):
        slices = 1
        while True:
            n = slices + 1
            share = 1 if whole else (n - 1) / n
            sum_s = rounds * share * width / dcn_bandwidth
            if flops * batch_tokens / n / peak_flops < sum_s:
                return slices
            slices = n

    return most(), {
        "layers are recomputed: 8 FLOPs a parameter and token, not 6": most(flops=6),
        "an all-reduce is a reduce-scatter AND an all-gather": most(rounds=1),
        "16-bit gradients have 2 bytes": most(width=4),
        "a chip sends (n - 1)/n of its share twice, not all of it": most(whole=True),
        "with that many the sum does not hide any more": most() + 1,
    }
