"""Each operation against its definition, written another way."""

import math
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afm_ref import ops

F64 = 1e-12  # a few thousand roundings of 1e-16 at most
XPS = pytest.mark.parametrize("xp", [np, jnp], ids=["numpy", "jax"])


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def test_linear_is_einsum():
    x, w = normal(2, 3, 4), normal(5, 4, seed=1)
    np.testing.assert_allclose(ops.linear(x, w), np.einsum("bti,oi->bto", x, w), rtol=F64)


def test_a_weight_brings_its_own_way_to_be_applied():
    x, ways = normal(2, 3), dict(apply=lambda x: 2 * x, rms_norm=lambda x, eps: x + eps)
    weight = SimpleNamespace(lookup=lambda tokens: tokens[..., None] * np.ones(3), **ways)
    np.testing.assert_array_equal(ops.linear(x, weight), 2 * x)
    assert ops.lookup(np.array([[4]]), weight).tolist() == [[[4, 4, 4]]]
    np.testing.assert_array_equal(ops.rms_norm(x, weight, 0.5), x + 0.5)


def test_rms_norm_closed_form():
    # mean square of (3, 4) is 12.5; with eps 12.5 the root is exactly 5
    np.testing.assert_allclose(ops.rms_norm(np.array([3.0, 4.0]), np.array([10.0, 1.0]), 12.5), [6.0, 0.8], rtol=F64)


@pytest.mark.parametrize("layout", ["interleaved", "half_split"])
def test_rope_is_complex_multiplication(layout):
    H, theta, positions = 6, 100.0, np.array([[0, 3, 50]])
    x = normal(2, 3, 2, H)
    y = ops.rope(x, positions, theta, layout)
    for i in range(H // 2):
        a, b = (2 * i, 2 * i + 1) if layout == "interleaved" else (i, i + H // 2)
        turn = np.exp(1j * positions * theta ** (-2 * i / H))[:, :, None]
        want = (x[..., a] + 1j * x[..., b]) * turn
        np.testing.assert_allclose(y[..., a] + 1j * y[..., b], want, rtol=F64)


def loops(q, k, v, mask):
    """Attention by the definition: one query, one head, one key at a time."""
    B, T, N, H = q.shape
    out = np.zeros_like(q)
    for b in range(B):
        for t in range(T):
            for n in range(N):
                kv = n // (N // k.shape[2])
                keys = [s for s in range(k.shape[1]) if mask[min(b, mask.shape[0] - 1), t, s]]
                e = [math.exp(q[b, t, n] @ k[b, s, kv] / math.sqrt(H)) for s in keys]
                out[b, t, n] = sum(w * v[b, s, kv] for w, s in zip(e, keys)) / sum(e)
    return out


@settings(max_examples=15)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(0, 99))
def test_attention_equals_loops(B, T, K, G, seed):
    S, H = T + 2, 4
    q, k, v = normal(B, T, K * G, H, seed=seed), normal(B, S, K, H, seed=seed + 1), normal(B, S, K, H, seed=seed + 2)
    mask = np.random.default_rng(seed).random((B, T, S)) < 0.6
    mask[:, :, 0] = True
    np.testing.assert_allclose(ops.attention(q, k, v, mask), loops(q, k, v, mask), rtol=1e-10, atol=1e-12)


@XPS
def test_a_query_that_sees_nothing_is_finite(xp):
    q = k = v = np.ones((1, 2, 1, 4), np.float32)
    attention = jax.jit(ops.attention) if xp is jnp else ops.attention
    assert np.isfinite(attention(q, k, v, np.zeros((1, 2, 2), bool))).all()


@XPS
def test_softmax_survives_large_logits(xp):
    got = ops.softmax(xp.asarray([[1000.0, 1000.0, -1e30]], dtype=xp.float32))
    np.testing.assert_array_equal(np.asarray(got), [[0.5, 0.5, 0.0]])


def test_the_softmax_shift_has_no_gradient_to_lose():
    # The derivative of softmax is diag(p) - p p^T; a shift taken as a constant must not change it.
    z = np.float32([0.3, -1.0, 2.0])
    p = ops.softmax(z)
    np.testing.assert_allclose(jax.jit(jax.jacobian(ops.softmax))(z), np.diag(p) - np.outer(p, p), atol=1e-6)


def test_silu_closed_form():
    x = np.array([-800.0, -1.0, 0.0, 2.0, 800.0])
    want = [0.0, -1 / (1 + math.e), 0.0, 2 / (1 + math.exp(-2)), 800.0]
    np.testing.assert_allclose(ops.silu(x), want, rtol=1e-12, atol=1e-300)
    assert np.isfinite(jax.jit(jax.grad(lambda x: ops.silu(x).sum()))(np.float32(x))).all()


def test_swiglu_is_not_symmetric_in_its_halves():
    one = np.ones((1, 1))
    got = ops.swiglu(np.array([[2.0]]), one, 3 * one, 5 * one)
    np.testing.assert_allclose(got, [[5 * (2 / (1 + math.exp(-2))) * 6]], rtol=F64)
