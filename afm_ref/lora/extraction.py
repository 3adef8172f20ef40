"""From a full fine-tune to an adapter: the best low-rank approximation of what it changed."""

from collections.abc import Iterable

import jax
import numpy as np

from ..containers import map_matrices, matrices
from ..weights import Params, leaf_name
from .adapter import TARGETS, LoRA, as_array, checked_rank, checked_targets

RESTS = ("refuse", "base", "tuned")


def extract(
    base: Params,
    tuned: Params,
    rank: int | None,
    targets: Iterable[str] = TARGETS,
    rest: str = "refuse",
) -> Params:
    """Return the adapter that comes nearest to a full fine-tune, by the SVD of each
    matrix's change.

        tuned - base = U S V^T,   B = U_R S_R^1/2,   A = S_R^1/2 V_R^T,   scale 1
        error^2 = sum_{i>R} s_i^2

    rank None takes each matrix's full rank, which is exact. What is not targeted (gains,
    embeddings) must be equal in both ("refuse", ValueError), or is that of "base" or of
    "tuned". Both must hold their layers in the same containers (ValueError).

    Source: Eckart and Young 1936 [standard].
    Test: tests/lora/test_adapter.py::test_full_rank_extraction_is_the_fine_tune,
        tests/lora/test_adapter.py::test_extraction_error_is_what_eckart_and_young_say
    """
    targets, rank = checked_targets(targets), rank if rank is None else checked_rank(rank)
    if rest not in RESTS:
        raise ValueError(f"rest must be one of {RESTS}, got {rest!r}")
    before, after = matrices(base), matrices(tuned)
    if before.keys() != after.keys():
        raise ValueError("base and fine-tune must hold their layers in the same containers")
    if rest == "refuse":
        _check_rest(base, tuned, targets)

    def beside(name, w, numbers):
        if name not in targets:
            return w
        w1, w0 = (as_array(m[name, numbers[0]], name, numbers) for m in (after, before))
        dtype = np.float64 if w0.dtype == np.float64 else np.float32
        change = np.subtract(w1, w0, dtype=np.float64)
        return LoRA(w0, *(m.astype(dtype) for m in factors(change, rank)), 1.0)

    return map_matrices(base if rest == "base" else tuned, beside)


def _check_rest(base, tuned, targets):
    """Raise ValueError where anything but the targets differs."""

    def others(params):
        kept = map_matrices(params, lambda name, w, numbers: None if name in targets else w)
        return jax.tree_util.tree_leaves_with_path(kept)

    for (path, mine), (_, theirs) in zip(others(base), others(tuned), strict=True):
        if not np.array_equal(mine, theirs):
            raise ValueError(
                f"{leaf_name(path)} differs between base and fine-tune, and an adapter of these targets cannot hold "
                "that: pass rest='base' to drop the difference or rest='tuned' to keep the fine-tune's"
            )


def factors(change: np.ndarray, rank: int | None):
    """Return (A [..., R, in], B [..., out, R]) with B A the best approximation of change
    [..., out, in].

    Filled up with zeros where there are fewer singular values than `rank`.
    """
    u, s, vt = np.linalg.svd(change, full_matrices=False)
    R = s.shape[-1] if rank is None else rank
    root = np.sqrt(s[..., :R])
    a, b = root[..., :, None] * vt[..., :R, :], u[..., :, :R] * root[..., None, :]
    lead, missing = [(0, 0)] * (a.ndim - 2), (0, R - a.shape[-2])
    return np.pad(a, [*lead, missing, (0, 0)]), np.pad(b, [*lead, (0, 0), missing])
