"""From a full fine-tune to an adapter: the best low-rank approximation of what it changed."""

from collections.abc import Iterable

import jax
import numpy as np

from ..layers import map_matrices, matrices, ungroup
from ..weights import Layer, Params
from .adapter import TARGETS, LoRA, as_array, checked_targets


def extract(
    base: Params, tuned: Params, rank: int | None, targets: Iterable[str] = TARGETS, rest: str = "refuse"
) -> Params:
    """Return the base with the adapter that comes nearest to a full fine-tune, by the SVD of each matrix's change.

        tuned - base = U S V^T,   B = U_R S_R^1/2,   A = S_R^1/2 V_R^T,   scale 1          error^2 = sum_{i>R} s_i^2

    No matrix of rank R is nearer (Eckart and Young). rank None takes each matrix's full rank, which is exact; a
    matrix with fewer singular values than `rank` is filled up with zeros. What is not targeted (gains, embeddings)
    must be equal in both ("refuse"), or is taken from the "base" or from "tuned". Both must hold their layers in the
    same containers.

    Source: Eckart and Young 1936 [standard].
    Test: tests/lora/test_extraction.py::test_full_rank_extraction_is_the_fine_tune,
        tests/lora/test_extraction.py::test_extraction_error_is_what_eckart_and_young_say
    """
    targets = checked_targets(targets)
    if rest not in ("refuse", "base", "tuned"):
        raise ValueError(f"rest must be 'refuse', 'base' or 'tuned', got {rest!r}")
    if rank is not None and rank < 1:
        raise ValueError(f"rank must be at least 1, or None for full rank, got {rank!r}")
    if rest == "refuse":
        _check_rest(base, tuned, targets)
    theirs = matrices(tuned)

    def beside(name, w, numbers):
        other = theirs[name, numbers[0]]
        if name not in targets:
            return other if rest == "tuned" else w
        wide, mine = (np.asarray(as_array(m, name, numbers), np.float64) for m in (other, w))
        dtype = np.float64 if w.dtype == np.float64 else np.float32
        a, b = (m.astype(dtype) for m in factors(wide - mine, rank))
        return LoRA(w, a, b, 1.0)

    return map_matrices(_with_rest(base, tuned) if rest == "tuned" else base, beside)


def factors(change: np.ndarray, rank: int | None):
    """Return (A [..., R, in], B [..., out, R]) with B A the best approximation of change [..., out, in]."""
    u, s, vt = np.linalg.svd(change, full_matrices=False)
    R = s.shape[-1] if rank is None else rank
    root = np.sqrt(s[..., :R])
    a, b = root[..., :, None] * vt[..., :R, :], u[..., :, :R] * root[..., None, :]
    missing = R - a.shape[-2]
    none = [(0, 0)] * (a.ndim - 2)
    return (
        (np.pad(a, [*none, (0, missing), (0, 0)]), np.pad(b, [*none, (0, 0), (0, missing)])) if missing > 0 else (a, b)
    )


def _check_rest(base, tuned, targets):
    """Raise ValueError where anything but the targets differs."""
    for name in ("embed", "final_norm", "unembed"):
        _check_equal(name, getattr(base, name), getattr(tuned, name))
    for i, (mine, theirs) in enumerate(zip(ungroup(base.layers), ungroup(tuned.layers), strict=True)):
        for name in sorted(set(Layer._fields) - set(targets)):
            pairs = zip(jax.tree.leaves(getattr(mine, name)), jax.tree.leaves(getattr(theirs, name)), strict=True)
            for a, b in pairs:
                _check_equal(f"layers.{i}.{name}", a, b)


def _check_equal(name, mine, theirs):
    if not (mine is None and theirs is None) and not np.array_equal(mine, theirs):
        raise ValueError(
            f"{name} differs between base and fine-tune, and an adapter of these targets cannot hold that: pass "
            "rest='base' to drop the difference or rest='tuned' to keep the fine-tune's"
        )


def _with_rest(base, tuned):
    """Return base's matrices among everything else of tuned."""
    mine = matrices(base)
    return map_matrices(tuned, lambda name, w, numbers: mine[name, numbers[0]])
