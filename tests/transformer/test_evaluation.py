"""Measures against closed forms."""

import math

import numpy as np
import pytest

from afm_ref import evaluation, losses, transformer
from afm_ref.config import AFMConfig

CFG = AFMConfig(8, 1, 2, 1, 4, 8, 32)


def uniform_batches(n, T=5):
    tokens = np.zeros((2, T), np.int32)
    weights = np.ones((2, T), np.float32)
    weights[:, -1] = 0
    return [losses.Batch(tokens, tokens, weights)] * n


def test_a_uniform_model_needs_log2_V_bits_a_token():
    params = transformer.init(CFG, 0)
    params = params._replace(embed=np.zeros_like(params.embed))
    # 3 batches x 2 rows x 4 weighted tokens of 5 bits, over 12 bytes
    got = evaluation.bits_per_byte(params, CFG, uniform_batches(3), n_bytes=12, progress=False)
    assert math.isclose(got, 24 * 5 / 12, rel_tol=1e-6)


def test_nothing_to_evaluate_is_refused():
    params = transformer.init(CFG, 0)
    with pytest.raises(ValueError, match="no batches"):
        evaluation.bits_per_byte(params, CFG, [], n_bytes=3, progress=False)
    with pytest.raises(ValueError, match="n_bytes"):
        evaluation.bits_per_byte(params, CFG, uniform_batches(1), n_bytes=0, progress=False)


def test_interval_against_a_table_of_t():
    # n = 3, s = 1: 4.303 / sqrt(3), from any printed table of Student's t at 2 degrees of freedom
    mean, low, high = evaluation.mean_interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert high - mean == pytest.approx(4.3027 / math.sqrt(3), rel=1e-4)
    assert mean - low == pytest.approx(high - mean)
    with pytest.raises(ValueError, match="at least 2"):
        evaluation.mean_interval([1.0])
