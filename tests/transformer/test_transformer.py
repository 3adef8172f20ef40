"""The forward function: what it must not see, what may be exchanged in it, what it refuses; the loss by definition."""

import dataclasses
import math
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afm_ref import evaluation, losses, ops
from afm_ref import transformer as tf
from afm_ref.config import AFM_TINY, AFMConfig
from afm_ref.containers import Remat, Stacked, group, ungroup
from tests.post_training.models import float64, params64

OPTIONS = "qk_norm", "rope_layout", "tie_embeddings"
CFG = AFMConfig(d_model=24, n_layers=3, n_heads=6, n_kv_heads=2, head_dim=4, d_ff=32, vocab_size=19)

RANGES = [1, 2, 3], [1, 2, 3, 4], [2, 4, 10], [1, 2, 3], [3, 8, 24], ["after_rope", "before_rope", None]
configs = st.builds(
    lambda K, G, H, L, D, *rest: AFMConfig(D, L, K * G, K, H, 2 * D, 23, **dict(zip(OPTIONS, rest))),
    *map(st.sampled_from, (*RANGES, ["interleaved", "half_split"], [True, False])),
)


def tokens(B=2, T=7, cfg=CFG, seed=0):
    return np.random.default_rng(seed).integers(0, cfg.vocab_size, (B, T)).astype(np.int32)


def agrees_with_float64(forward, cfg, B, T, seed):
    params, t = tf.init(cfg, seed), tokens(B, T, cfg, seed)
    exact, got = tf.forward(float64(params), t, cfg), forward(params, t, cfg)
    assert (exact.dtype, got.dtype, exact.shape) == (np.float64, np.float32, (B, T, cfg.vocab_size))
    # float32 drifts by eps per rounding, growing like the root of the roundings that one logit depends on: a chain of
    # about 6 matrix products a layer, each a sum over at most max(D, F, N H) terms.
    roundings = 6 * cfg.n_layers * max(cfg.d_model, cfg.d_ff, cfg.n_heads * cfg.head_dim)
    atol = 4 * np.finfo(np.float32).eps * np.sqrt(roundings) * max(1.0, np.abs(exact).max())
    np.testing.assert_allclose(np.asarray(got), exact, atol=atol, rtol=0)


@settings(max_examples=20)
@given(configs, st.integers(1, 3), st.integers(1, 9), st.integers(0, 5))
def test_numpy_64_and_numpy_32_agree(cfg, B, T, seed):
    agrees_with_float64(tf.forward, cfg, B, T, seed)


def test_numpy_64_and_jax_agree():
    for sizes, rest, B, T in (
        ((24, 1, 6, 3, 4, 48, 23), ("after_rope", "interleaved", True), 3, 9),
        ((8, 2, 2, 2, 2, 16, 23), ("before_rope", "half_split", False), 1, 1),
        ((3, 1, 4, 1, 10, 6, 23), (None, "half_split", True), 2, 5),
    ):
        cfg = AFMConfig(*sizes, **dict(zip(OPTIONS, rest)))
        agrees_with_float64(jax.jit(tf.forward, static_argnums=2), cfg, B, T, seed=0)


@pytest.mark.slow
@settings(max_examples=12)
@given(configs, st.integers(1, 3), st.integers(1, 9), st.integers(0, 5))
def test_numpy_64_and_jax_agree_on_any_config(cfg, B, T, seed):
    agrees_with_float64(jax.jit(tf.forward, static_argnums=2), cfg, B, T, seed)


@settings(max_examples=10)
@given(configs, st.integers(1, 6), st.integers(0, 5))
def test_the_future_does_not_reach_the_past(cfg, t, seed):
    params, a = float64(tf.init(cfg, seed)), tokens(1, 8, cfg, seed)
    b = np.where(np.arange(8) < t, a, (a + 1) % cfg.vocab_size)
    before, after = tf.forward(params, a, cfg), tf.forward(params, b, cfg)
    np.testing.assert_allclose(before[:, :t], after[:, :t], rtol=1e-9, atol=1e-12)
    assert np.abs(before[:, t] - after[:, t]).max() > 1e-9  # and the present does


def test_documents_in_one_row_do_not_see_each_other():
    params, t = float64(tf.init(CFG, 0)), tokens(1, 9)
    documents = np.array([[0, 0, 0, 0, 1, 1, 1, 1, 1]])
    packed = tf.forward(params, t, CFG, attend=tf.Causal(documents))
    for part in (slice(0, 4), slice(4, 9)):  # RoPE sees distances alone, so a document needs no positions of its own
        np.testing.assert_allclose(packed[:, part], tf.forward(params, t[:, part], CFG), rtol=1e-9, atol=1e-11)


class LookingAhead(tf.Causal):
    def mask(self, positions, key_positions):
        return positions[:, :, None] <= key_positions[:, None, :]


def test_blocks_of_queries_are_all_at_once():
    """In order and shuffled, with documents, in NumPy and inside jit, which knows only positions given as NumPy's."""
    rng, T = np.random.default_rng(0), 45
    q, k, v = (rng.normal(size=(2, T, heads, 4)) for heads in (6, 2, 2))
    of_jit = jax.jit(lambda q, k, v, positions: tf.Causal(queries=16)(q, (k, v, positions), positions))
    for positions in (np.arange(T)[None], rng.permutation(T)[None], np.array([np.arange(T), rng.permutation(T)])):
        kv, documents = (k, v, positions), rng.integers(0, 3, (2, T))
        for queries in (2, 7, 44, 200):  # at least, and at least a sixteenth of all
            for attend in (tf.Causal(None, queries), tf.Causal(documents, queries), LookingAhead(None, queries)):
                whole = ops.attention(q, k, v, attend.mask(positions, positions))
                np.testing.assert_allclose(attend(q, kv, positions), whole, rtol=0, atol=1e-14)
        known = jax.jit(lambda q, k, v, p=positions: tf.Causal(queries=16)(q, (k, v, p), p))(q, k, v)
        wanted = ops.attention(q, k, v, tf.Causal().mask(positions, positions))
        for got in (known, of_jit(q, k, v, positions)):
            np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5)


def test_positions_matter_only_by_their_differences():
    params, t = float64(tf.init(CFG, 0)), tokens()
    shifted = tf.forward(params, t, CFG, positions=np.arange(7)[None] + 1000)
    np.testing.assert_allclose(shifted, tf.forward(params, t, CFG), rtol=1e-8, atol=1e-10)
    stretched = tf.forward(params, t, CFG, positions=2 * np.arange(7)[None])
    assert np.abs(stretched - tf.forward(params, t, CFG)).max() > 1e-3


def test_init_scales_by_fan_in():
    params = tf.init(AFM_TINY, 0)
    layer = params.layers[0]
    for matrix, fan_in in ((layer.wq, 192), (layer.w_down, 576), (params.embed, 192)):
        # the sample's own error is 1 / sqrt(2 n) of the std, below 0.5% here; five of these
        assert matrix.std() == pytest.approx(fan_in**-0.5, rel=5 / np.sqrt(2 * matrix.size))
    assert all((gain == 1).all() for gain in (layer.attention_norm, layer.q_norm, params.final_norm))


def test_init_is_a_function_of_its_seed():
    same, other = tf.init(CFG, 3), tf.init(CFG, 4)
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, same, tf.init(CFG, 3))))
    assert not np.array_equal(same.embed, other.embed)
    assert not np.array_equal(same.layers[0].wq, same.layers[1].wq)


TWO = dataclasses.replace(CFG, n_layers=2)


@pytest.fixture(scope="module")
def uncontained():
    """(a loss of the layers, two layers, its value, its gradients)"""
    params, t = tf.init(TWO, 0), tokens(1, 5)

    def loss(layers):
        return (tf.forward(params._replace(layers=layers), t, TWO) ** 2).mean()

    with jax.numpy_dtype_promotion("strict"):
        return loss, params.layers, *jax.jit(jax.value_and_grad(loss))(params.layers)


@pytest.mark.parametrize(
    "wrap", [pytest.param(group, marks=pytest.mark.slow), lambda layers: Remat(group(layers)), Remat]
)
def test_containers_change_neither_values_nor_gradients(wrap, uncontained):
    loss, layers, want, want_grad = uncontained
    got, got_grad = jax.jit(jax.value_and_grad(lambda layers: loss(wrap(layers))))(layers)
    np.testing.assert_allclose(got, want, rtol=1e-5)
    for a, b in zip(jax.tree.leaves(got_grad), jax.tree.leaves(want_grad)):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_group_stacks_only_runs_of_equal_layers():
    layers = tf.init(CFG, 0).layers
    narrow = layers[1]._replace(w_gate=layers[1].w_gate[:16], w_up=layers[1].w_up[:16], w_down=layers[1].w_down[:, :16])
    kinds = [type(x) for x in group((layers[0], layers[2], narrow, layers[0]))]
    assert kinds == [Stacked, tf.Layer, tf.Layer]
    compiled = jax.jit(lambda p: tf.forward(p, tokens(), CFG)).lower(tf.init(CFG, 0)._replace(layers=group(layers)))
    assert "while" in compiled.as_text()  # a scan, not three copies


def test_ungroup_undoes_every_container():
    layers = tf.init(CFG, 0).layers
    for wrapped in (layers, group(layers), Remat(group(layers)), (layers[0], Remat(group(layers[1:])))):
        same = jax.tree.map(np.array_equal, ungroup(wrapped), layers)
        assert all(jax.tree.leaves(same))
    with pytest.raises(ValueError, match="cannot walk layers in a str"):
        ungroup("layers")


def test_remat_computes_the_activations_again():
    params = jax.tree.map(jnp.asarray, tf.init(CFG, 0))

    def kept(wrap):
        loss = lambda layers: tf.forward(params._replace(layers=wrap(layers)), tokens(), CFG).sum()  # noqa: E731
        residuals = jax.eval_shape(lambda layers: jax.vjp(loss, layers)[1], params.layers)
        return sum(np.prod(a.shape) for a in jax.tree.leaves(residuals))

    assert kept(lambda layers: Remat(group(layers))) < 0.5 * kept(group)


def test_a_layer_without_keys_reuses_the_newest_ones():
    params = float64(tf.init(CFG, 0))
    first, second, third = params.layers
    reuse = third._replace(wk=None, wv=None, k_norm=None)
    watch = mock.Mock(wraps=tf.Causal())
    tf.forward(params._replace(layers=(first, second, reuse)), tokens(), CFG, attend=watch)
    keys = [call.args[1][0] for call in watch.call_args_list]
    assert keys[2] is keys[1] and keys[1] is not keys[0]
    with pytest.raises(ValueError, match="nothing to attend to"):
        tf.forward(params._replace(layers=(reuse, first)), tokens(), CFG)


def test_bad_tokens_are_refused_in_words():
    for bad, error, match in (
        (np.array([1, 2, 3]), ValueError, r"\[B, T\]"),
        (np.zeros((2, 0), np.int32), ValueError, "non-empty"),
        (np.array([[1.0, 2.0]]), (TypeError, ValueError), "integers|int"),
        (np.array([[0, 19]]), ValueError, "0 .. 18"),
        (np.array([[-1, 3]]), ValueError, "-1"),
        (jnp.array([[0, 19]]), ValueError, "tokenizer"),
    ):
        with pytest.raises(error, match=match):
            tf.check_tokens(bad, CFG)


def test_forward_checks_its_tokens():
    with pytest.raises(ValueError, match="token ids run from 0 to 500"):
        tf.forward(tf.init(CFG, 0), np.array([[0, 500]]), CFG)


def batch(B=2, T=6, seed=0):
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, CFG.vocab_size, (B, T + 1)).astype(np.int32)
    weights = (rng.random((B, T)) < 0.7).astype(np.float32)
    documents = np.sort(rng.integers(0, 3, (B, T)), axis=1).astype(np.int32)
    return losses.Batch(tokens[:, :-1], tokens[:, 1:], weights, documents)


def test_token_log_probs_closed_form():
    # p = (1, 2, 5) / 8 whatever constant is added, also one that overflows exp
    for shift in (0.0, 5000.0, -5000.0):
        logits = np.log([[1.0, 2.0, 5.0]] * 3) + shift
        got = losses.token_log_probs(logits, np.array([0, 1, 2]))
        np.testing.assert_allclose(got, np.log([1 / 8, 2 / 8, 5 / 8]), rtol=1e-11)


def test_next_token_equals_its_definition():
    b, p = batch(), params64(cfg=CFG)
    total, count = losses.next_token(p, b, CFG)
    want = 0.0
    for row in range(2):
        for doc in np.unique(b.documents[row]):  # a document alone sees exactly what it may see in the pack
            at = np.flatnonzero(b.documents[row] == doc)
            z = tf.forward(p, b.tokens[row : row + 1, at], CFG)[0]
            log_p = z - np.log(np.exp(z).sum(-1, keepdims=True))
            want -= sum(b.weights[row, t] * log_p[i, b.targets[row, t]] for i, t in enumerate(at))
    assert math.isclose(total, want, rel_tol=1e-10)
    assert count == b.weights.sum()


def test_gradients_equal_finite_differences():
    """Along a random direction in every leaf, in float64: central differences of JAX's own gradient."""
    with jax.enable_x64(True):
        cfg = dataclasses.replace(CFG, n_layers=1)
        b, p = batch(), params64(cfg=cfg)
        b = b._replace(weights=b.weights.astype(np.float64))
        # gains away from one, so that the norms' own gradients are not special
        rng, loss = np.random.default_rng(1), lambda p: losses.next_token(p, b, cfg)[0]
        p = jax.tree.map(lambda a: a + 0.1 * rng.standard_normal(a.shape), p)
        flat, tree = jax.tree.flatten(p)
        grads = list(map(np.asarray, jax.tree.leaves(jax.jit(jax.grad(loss))(p))))
        h = 1e-5  # error h^2 = 1e-10 from the third derivative, 1e-16 / h = 1e-11 from rounding
        for i, (leaf, grad) in enumerate(zip(flat, grads)):
            direction = rng.standard_normal(leaf.shape)
            shifted = [flat[:i] + [leaf + s * h * direction] + flat[i + 1 :] for s in (1, -1)]
            up, down = (loss(jax.tree.unflatten(tree, leaves)) for leaves in shifted)
            numeric = (up - down) / (2 * h)
            assert numeric == pytest.approx(float((grad * direction).sum()), rel=1e-6, abs=1e-7)


UNIFORM = tf.init(CFG, 0)._replace(embed=np.zeros((19, 24), np.float32))
TOKENS = np.zeros((2, 5), np.int32)
BATCH = losses.Batch(TOKENS, TOKENS, np.float32([[1, 1, 1, 1, 0]] * 2))


def test_a_uniform_model_needs_log2_V_bits_a_token():
    # 3 batches x 2 rows x 4 weighted tokens, over 12 bytes
    got = evaluation.bits_per_byte(UNIFORM, CFG, [BATCH] * 3, n_bytes=12, progress=False)
    assert math.isclose(got, 24 * math.log2(19) / 12, rel_tol=1e-6)


def test_nothing_to_evaluate_is_refused():
    for batches, n_bytes, why in (([], 3, "no batches"), ([BATCH], 0, "n_bytes")):
        with pytest.raises(ValueError, match=why):
            evaluation.bits_per_byte(UNIFORM, CFG, batches, n_bytes=n_bytes, progress=False)


def test_a_bound_is_the_lower_of_that_over_runs_and_over_records():
    """Runs .1, .2, .3: t(2, .95) = 2.920 by the table, se .1 / sqrt(3); records 0 and .4: 1.645 x .4 / 2."""
    runs = np.repeat(np.array([[0.1], [0.2], [0.3]]), 4, axis=1)
    assert evaluation.mean_and_bound(runs) == pytest.approx((0.2, 0.2 - 2.920 * 0.1 / 3**0.5), abs=1e-3)
    records = np.tile([0.0, 0.4], (3, 1))
    se = 0.4 / 2**0.5 / 2**0.5
    assert evaluation.mean_and_bound(records) == pytest.approx((0.2, 0.2 - 1.645 * se))
    for bad in ((1, 3), (3, 1)):
        with pytest.raises(ValueError, match="at least 2 runs of at least 2 records"):
            evaluation.mean_and_bound(np.zeros(bad))


def test_interval_against_a_table_of_t():
    # n = 3, s = 1: 4.303 / sqrt(3), from any printed table of Student's t at 2 degrees of freedom
    mean, low, high = evaluation.mean_interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert high - mean == pytest.approx(4.3027 / math.sqrt(3), rel=1e-4)
    assert mean - low == pytest.approx(high - mean)
    with pytest.raises(ValueError, match="at least 2"):
        evaluation.mean_interval([1.0])
