"""The SVD of a fine-tune against Eckart and Young, by singular values and by rivals of the same rank."""

import jax
import numpy as np
import pytest

from afm_ref import lora
from afm_ref.containers import map_matrices
from afm_ref.lora.extraction import factors
from afm_ref.weights import Params
from tests.lora.models import base_params, float64, stacked


def tuned_of(base: Params, seed=0, size=0.1):
    """Return the params with every matrix changed by full-rank noise."""
    rng = np.random.default_rng(seed)
    return map_matrices(base, lambda n, w, i: (w + size * rng.standard_normal(w.shape)).astype(w.dtype))


@pytest.mark.parametrize("container", [lambda p: p, stacked])
def test_full_rank_extraction_is_the_fine_tune(container):
    base = float64(container(base_params()))
    tuned = tuned_of(base)
    extracted = lora.extract(base, tuned, rank=None)
    for mine, theirs in zip(jax.tree.leaves(lora.merge(extracted)), jax.tree.leaves(tuned), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-11, atol=1e-12)


def test_extraction_error_is_what_eckart_and_young_say():
    rng = np.random.default_rng(0)
    change = rng.standard_normal((9, 13))
    singular = np.sqrt(np.linalg.eigvalsh(change @ change.T)[::-1])  # not by the SVD that is under test
    for rank in range(1, 12):  # those above the full one are filled with zeros
        a, b = factors(change, rank)
        assert (a.shape, b.shape) == ((rank, 13), (9, rank))
        error = np.linalg.norm(change - b @ a)
        assert error == pytest.approx(np.sqrt((singular[rank:] ** 2).sum()), rel=1e-9, abs=1e-12)
        assert np.linalg.matrix_rank(b @ a) == min(rank, 9)


def test_the_rest_is_refused_dropped_or_kept():
    base = base_params()
    tuned = tuned_of(base)._replace(final_norm=base.final_norm + 1)
    assert lora.extract(base, tuned, rank=2, rest="base").final_norm is base.final_norm
    kept = lora.extract(base, tuned, rank=2, rest="tuned", targets=("wq",))
    assert kept.final_norm is tuned.final_norm and kept.layers[1].wo is tuned.layers[1].wo
    assert kept.layers[1].wq.base is base.layers[1].wq
    for other, settings, why in (
        (tuned, {}, "final_norm differs between base and fine-tune"),
        (tuned_of(base), dict(targets=("wq",)), r"layers.0.wk differs"),
        (tuned, dict(rest="mine"), "rest must be"),
        (tuned, dict(rank=0), "rank must be a whole number of at least 1"),
        (stacked(tuned), {}, "in the same containers"),
    ):
        with pytest.raises(ValueError, match=why):
            lora.extract(base, other, **{"rank": 2} | settings)
