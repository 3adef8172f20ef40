"""From a full fine-tune to an adapter: the best low-rank approximation of what it changed."""

from collections.abc import Iterable

import numpy as np

from ..containers import map_matrices, matrices
from ..weights import Params
from .adapter import TARGETS, LoRA, as_array, checked_targets


def extract(
    base: Params, tuned: Params, rank: int | None, targets: Iterable[str] = TARGETS
) -> Params:
    """Return the adapter that comes nearest to a full fine-tune, by the SVD of each
    matrix's change.

        tuned - base = U S V^T,   B = U_R S_R^1/2,   A = S_R^1/2 V_R^T,   scale 1
        error^2 = sum_{i>R} s_i^2

    rank None takes each matrix's full rank, which is exact. The targets are those of base
    with the adapter beside them; all else (other matrices, gains, embeddings) is that of
    tuned. Both must hold their layers in the same containers.

    Source: Eckart and Young 1936 [standard].
    Test: tests/lora/test_extraction.py::test_full_rank_extraction_is_the_fine_tune,
        tests/lora/test_extraction.py::test_extraction_error_is_what_eckart_and_young_say
    """
    targets, originals = checked_targets(targets), matrices(base)

    def beside(name, w, numbers):
        if name not in targets:
            return w
        original = originals[name, numbers[0]]
        after, before = (
            np.asarray(as_array(m, name, numbers), np.float64) for m in (w, original)
        )
        dtype = np.float64 if original.dtype == np.float64 else np.float32
        a, b = (m.astype(dtype) for m in factors(after - before, rank))
        return LoRA(original, a, b, 1.0)

    return map_matrices(tuned, beside)


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
