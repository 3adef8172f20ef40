"""16-bit values against float64: whatever is squared, summed or exponentiated must not be so in 16 bits.

In float16 the square of 256 is infinite; in bfloat16 a sum of ones stops at 256.
"""

import math

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from afm_ref import losses, ops, training, transformer
from afm_ref.config import AFMConfig
from afm_ref.containers import Stacked, Stream
from afm_ref.generation import sampling
from afm_ref.lora.adapter import LoRA
from afm_ref.parallelism.mesh import MeshShape, make_mesh
from afm_ref.parallelism.sharded import manual, pipelining
from afm_ref.parallelism.simulator import cluster
from afm_ref.post_training import losses as preference_losses
from afm_ref.post_training import reward_model
from afm_ref.post_training.rows import Padded, sequence_log_probs
from afm_ref.pretraining import afm_optimizer
from afm_ref.pretraining.losses import next_token_z
from afm_ref.pretraining.pruning import Masked
from afm_ref.pretraining.pruning.criteria import by_activation, by_magnitude
from afm_ref.quantization import palettize
from afm_ref.quantization.bits.sensitivity import input_moments
from afm_ref.quantization.palette.quantizers import int8
from afm_ref.quantization.recovery import kl_divergence
from afm_ref.rlhf import advantages
from afm_ref.rlhf import mdloo as rl_losses
from afm_ref.weights import Layer

F16, BF16 = np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)
ULP = {F16: 2.0**-10, BF16: 2.0**-7}  # the distance of neighbours above 1; rounding errs by half of it
pytestmark = pytest.mark.parametrize("dtype", [F16, BF16], ids=["float16", "bfloat16"])
XPS = pytest.mark.parametrize("xp", [np, jnp], ids=["numpy", "jax"])


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def exact(x):
    return np.asarray(x).astype(np.float64)


def assert_rounded(y, want, dtype, roundings=1):
    """Assert that y, of that dtype, is want but for so many roundings to it; 1e-5 is float32's own part."""
    assert y.dtype == dtype
    np.testing.assert_allclose(exact(y), want, rtol=roundings * ULP[dtype] / 2 + 1e-5, atol=1e-5 * np.abs(want).max())


def compiled(xp, function):
    """Return the function as JAX runs it, in one program (an eager call compiles one an operation); NumPy as it is."""
    return jax.jit(function) if xp is jnp else function


@XPS
def test_norm_and_softmax(xp, dtype):
    sizes = ((4, 300), (3072, 1), (4096, 1000))
    pairs = [((size * normal(2, D)).astype(dtype), normal(D, seed=1).astype(dtype)) for D, size in sizes]
    found = compiled(xp, lambda pairs: [ops.rms_norm(*pair, 1e-6) for pair in pairs])(pairs)
    for got, (x, gain) in zip(found, pairs, strict=True):
        want = exact(x) / np.sqrt((exact(x) ** 2).mean(-1, keepdims=True) + 1e-6) * exact(gain)
        assert_rounded(got, want, dtype)
    scores = [z.astype(dtype) for z in (np.zeros((2, 1000)), normal(2, 3072), 1000 * normal(2, 600))]
    found = compiled(xp, lambda scores: [ops.softmax(z) for z in scores])(scores)
    for got, z in zip(found, scores, strict=True):
        want = np.exp(exact(z) - exact(z).max(-1, keepdims=True))
        assert got.dtype == dtype
        smallest = 2.0**-25 if dtype == F16 else 2.0**-126  # below, the dtype (and float32) has nothing
        want = want / want.sum(-1, keepdims=True)
        np.testing.assert_allclose(exact(got), want, rtol=0.51 * ULP[dtype], atol=smallest)


@XPS
def test_activations_keep_their_dtype(xp, dtype):
    x = (3 * normal(2, 5, 4, 8)).astype(dtype)
    want = exact(x) / (1 + np.exp(-exact(x)))
    adapter = LoRA(*(normal(8, 8, seed=i).astype(dtype) for i in range(3)), 0.3)

    def activations(x, adapter):
        return ops.silu(x), ops.rope(x, np.arange(5)[None], 1e4, "interleaved"), ops.linear(x, adapter)

    silu, *others = compiled(xp, activations)(x, adapter)
    assert_rounded(silu, want, dtype)
    assert [y.dtype for y in others] == [dtype] * 2


@XPS
def test_products_are_summed_in_float32(xp, dtype):
    linear = compiled(xp, ops.linear)
    x, w = normal(5, 4096).astype(dtype), normal(7, 4096, seed=1).astype(dtype)
    assert_rounded(linear(x, w), exact(x) @ exact(w).T, dtype)
    # half way the sum is 20 million: float16 ends at 65504
    up, down = (np.full((1, 2048), s * 100.0) for s in (1, -1))
    x, w = np.full((1, 4096), 100.0).astype(dtype), np.concatenate([up, down], axis=1).astype(dtype)
    assert linear(x, w).item() == 0


@XPS
def test_attention_over_600_keys_of_size_1000(xp, dtype):
    T, S = 3, 640
    v = (1000 * normal(1, S, 1, 8)).astype(dtype)
    mask = np.ones((1, T, S), bool)
    attention = compiled(xp, lambda q, k, v: ops.attention(q, k, v, mask))
    alike = np.full((1, T, 2, 8), 1000, dtype), np.full((1, S, 1, 8), 1000, dtype)
    got = attention(*alike, v)  # equal scores of 2.8 million: the mean of the values
    want = np.broadcast_to(exact(v).mean(1)[:, None], got.shape)
    # each weight is rounded once: the mean moves by half an ulp of the weights times the mean size of the values
    np.testing.assert_allclose(exact(got), want, atol=ULP[dtype] * np.abs(exact(v)).mean())
    q, k = (4 * normal(1, T, 2, 8)).astype(dtype), (4 * normal(1, S, 1, 8, seed=2)).astype(dtype)
    scores = np.einsum("btnh,bskh->btns", exact(q), exact(k)) / math.sqrt(8)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    got, want = attention(q, k, v), np.einsum("btns,bskh->btnh", weights, exact(v))
    assert got.dtype == dtype
    np.testing.assert_allclose(exact(got), want, atol=ULP[dtype] * np.abs(exact(v)).max())


@XPS
def test_log_probabilities_entropies_and_divergences(xp, dtype):
    zeros = np.zeros((600, 2000), dtype)
    found = compiled(xp, losses.token_log_probs)(zeros, np.zeros(600, np.int32))
    assert found.dtype == np.float32
    np.testing.assert_allclose(exact(found), -math.log(2000), rtol=1e-6)
    z = (4 * normal(3, 2000)).astype(dtype)
    log_q = exact(z) - exact(z).max(-1, keepdims=True)
    log_q -= np.log(np.exp(log_q).sum(-1, keepdims=True))
    got = compiled(xp, kl_divergence)(zeros[:3], z)
    assert got.dtype == np.float32
    np.testing.assert_allclose(exact(got), (-math.log(2000) - log_q).mean(-1), rtol=1e-5)


CFG = AFMConfig(d_model=16, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=8, d_ff=16, vocab_size=50)


def model(dtype, cfg=CFG, seed=0):
    return jax.tree.map(lambda w: w.astype(dtype), transformer.init(cfg, seed))


@XPS
def test_losses_of_600_positions(xp, dtype):
    params = model(dtype)._replace(embed=np.zeros((50, 16), dtype))  # uniform
    ids = np.zeros((2, 600), np.int32)
    batch = losses.Batch(ids, ids, np.ones((2, 600), dtype))
    both = losses.next_token, next_token_z  # log Z is log 50, too
    found = compiled(xp, lambda params, batch: [loss(params, batch, CFG) for loss in both])(params, batch)
    for loss, (total, count) in zip(both, found, strict=True):
        penalty = 1e-6 * math.log(50) ** 2 if loss is next_token_z else 0
        assert count == 1200 and total.dtype == count.dtype == np.float32
        assert math.isclose(total, 1200 * (math.log(50) + penalty), rel_tol=1e-5)
    rows = Padded(np.zeros((2, 640), np.int32), np.broadcast_to(np.arange(640) >= 40, (2, 640)), np.array([640, 640]))
    got = compiled(xp, lambda params, rows: sequence_log_probs(params, rows, CFG))(params, rows)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, -600 * math.log(50), rtol=1e-6)


def test_scores_of_preferences_and_returns(dtype):
    h = np.array([-300.0, 0.25, 300.0]).astype(dtype)
    np.testing.assert_allclose(preference_losses.dpo(h, 0.1), np.log1p(np.exp(-0.1 * exact(h))), rtol=1e-5)
    np.testing.assert_allclose(preference_losses.ipo(h, 0.5), (exact(h) - 1) ** 2, rtol=1e-6)
    log_rho = np.array([0.01, -0.02, 0.03]).astype(dtype)  # the terms cancel to 1e-4
    x = exact(log_rho)
    np.testing.assert_allclose(rl_losses.bregman(log_rho), np.exp(x) * x - np.exp(x) + 1, rtol=1e-2)
    np.testing.assert_allclose(rl_losses.k3(log_rho), np.exp(-x) - 1 + x, rtol=1e-2)
    ones = np.ones((1, 600), dtype)
    kept = -0.01 * ones
    ratio = rl_losses.mdloo_per_token(kept, 0 * kept, np.ones(1, np.float32), 0.0)
    np.testing.assert_allclose(ratio, np.exp(exact(kept).sum(-1)), rtol=1e-4)
    assert advantages.returns_to_go(np.zeros(1), ones, 1.0)[0, 0] == -600
    rewards = np.array([[60000.0, 60000.0, 59968.0]]).astype(dtype)
    want = 1.5 * (exact(rewards) - exact(rewards).mean())
    np.testing.assert_allclose(advantages.leave_one_out(rewards), want, rtol=1e-3, atol=1e-3)


@XPS
def test_reward_heads_on_states_of_size_1000(xp, dtype):
    """The last token decides; a final norm with gain 1000 behind layers that add nothing makes its state known."""
    cfg = AFMConfig(d_model=3072, n_layers=1, n_heads=1, n_kv_heads=1, head_dim=2, d_ff=2, vocab_size=8)
    found = reward_model.init_reward_model(transformer.init(cfg, 0), cfg)
    silent = found.params.layers[0]._replace(wo=np.zeros((3072, 2), np.float32), w_down=np.zeros((3072, 2), np.float32))
    params = jax.tree.map(lambda w: w.astype(dtype), found.params._replace(layers=(silent,)))
    params = params._replace(final_norm=np.full(3072, 1000, dtype))
    row = exact(params.embed)[3]
    e = exact((1000 * row / np.sqrt((row**2).mean() + cfg.norm_eps)).astype(dtype))
    rows = Padded(np.array([[1, 2, 3]], np.int32), np.array([[False, True, True]]), np.array([3]))
    read = reward_model.read if xp is np else jax.jit(reward_model.read, static_argnums=2)
    found = jax.tree.map(lambda w: w.astype(dtype), found)
    got = read(found._replace(params=params), rows, cfg)
    assert np.abs(e).max() > 1000 and got.rewards.dtype == np.float32
    # 3072 terms, each off by half an ulp of e at most (where a rounding fell to the other side), at random
    error = ULP[dtype] * math.sqrt(3072) * np.abs(e * exact(found.preference)).mean()
    np.testing.assert_allclose(exact(got.rewards), e @ exact(found.preference), atol=error)


def test_optimizers_take_gradients_of_size_300(dtype):
    """After the first step every normalised update has size 1, whatever the gradient's."""
    params = {"w": jnp.ones((3072, 4), dtype)}
    sign = np.sign(normal(3072, 4))
    grads = {"w": jnp.asarray((300 * sign).astype(dtype))}
    assert math.isclose(training.global_norm(grads), 300 * math.sqrt(3072 * 4), rel_tol=1e-5)
    apple = afm_optimizer(0.5, lambda t: 1.0, 0.0, skip_norm=math.inf)
    start = jax.eval_shape(apple.init, params)
    change, state = jax.jit(lambda g, w: apple.update(g, apple.init(w), w))(grads, params)
    assert {leaf.dtype for leaf in jax.tree.leaves((*start[1:], *state[1:]))} == {np.dtype(np.float32)}
    assert_rounded(change["w"], -0.5 * 0.05 * sign, dtype)
    scale = 300 / (300 * math.sqrt(3072 * 4))  # what clipping the norm to 1 leaves
    np.testing.assert_allclose(state.v["w"], 0.05 * scale**2, rtol=1e-5)


def test_gradients_are_sums_over_many_positions(dtype):
    """A token that occurs 4096 times, a gain and a mask over 4096 positions: the gradient is 4096 times one's."""
    scores = jnp.asarray([0.5, 0.0, 1.0], np.float32)
    w = jnp.asarray([[1.0, 2.0, 4.0]], dtype)

    def gradients(n):
        uses = (
            (jnp.ones((1, 2), dtype), lambda table: ops.lookup(jnp.zeros((4, n), jnp.int32), table)),
            (jnp.ones(2, dtype), lambda gain: ops.rms_norm(jnp.ones((4, n, 2), dtype), gain, 1e-12)),
            (scores, lambda z: ops.linear(jnp.ones((4, n, 3), dtype), Masked(w, z, jnp.float32(1.0), 1))),
        )
        return [jax.grad(lambda x, f=f: f(x).astype(np.float32).sum())(x) for x, f in uses]

    many, few = jax.jit(gradients, static_argnums=0)(1024), jax.jit(gradients, static_argnums=0)(1)
    assert many[0].tolist() == [[4096, 4096]] and many[1].tolist() == [4096, 4096]
    np.testing.assert_allclose(many[2], 1024 * few[2], rtol=1e-5)


def test_microbatches_of_a_pipeline_add_up(dtype):
    """512 microbatches of one row each: a weight's gradient is their sum."""
    mesh = make_mesh(MeshShape(pipe=2))
    layers = Stacked(Layer(*[None] * 7, None, jnp.ones((2, 1, 1), dtype), None, None))

    def total(layers):
        def local(layers):
            stream = Stream(manual.vary(jnp.ones((512, 1, 1), dtype), ("pipe",)))
            y = pipelining.Pipeline((layers,), 512).run(step, stream)[0].x
            return jax.lax.psum(jnp.where(pipelining.is_last(), y.astype(np.float32).sum(), 0), "pipe")

        cut = jax.sharding.PartitionSpec("pipe")
        specs = jax.tree.map(lambda _: cut, layers)
        return jax.shard_map(local, mesh=mesh, in_specs=(specs,), out_specs=jax.sharding.PartitionSpec())(layers)

    def step(stream, layer, cache):
        return Stream(stream.x @ layer.w_gate.T), cache

    assert jax.jit(jax.grad(total))(layers).layer.w_gate.ravel().tolist() == [512, 512]


def test_products_of_fake_devices(dtype):
    devices = cluster.Cluster(data=1)
    x, w = (devices.place(np.ones(shape, dtype), axes) for shape, axes in (((4, 3072), "TD"), ((3072, 2), "DF")))
    product = cluster.einsum("TD,DF->TF", x, w).value()
    assert product.dtype == dtype and exact(product).tolist() == [[3072] * 2] * 4


@XPS
def test_weights_in_few_bits_do_not_overflow(xp, dtype):
    """A palette near 1 and integers up to 127 stand for small weights: their products with x are large."""
    matrix, x = (1e-3 * normal(32, 3072)).astype(np.float32), (1000 * normal(2, 3072, seed=1)).astype(dtype)
    weights = [palettize(matrix, 4), int8(matrix)]
    found = compiled(xp, lambda x, weights: [ops.linear(x, w) for w in weights])(x, weights)
    for w, got in zip(weights, found, strict=True):
        assert_rounded(got, exact(x) @ w.dense(np.float64).T, dtype)


def test_nucleus_and_draws(dtype):
    z = (-np.arange(256) / 64).astype(dtype)[None]  # exact in both, all different
    p = np.exp(exact(z))
    p /= p.sum()
    for top_p in (0.5, 0.9, 0.99):
        kept = int((np.cumsum(p) - p < top_p).sum())
        assert int(np.isfinite(sampling.keep_top_p(jnp.asarray(z), top_p)).sum()) == kept
    keys, at = sampling.row_keys(0, 1), jnp.arange(1)
    draw = jax.jit(jax.vmap(lambda i, logits: sampling.draw(logits, keys, at + i), (0, None)))
    few, many = (draw(jnp.arange(40), jnp.zeros((1, 4096), kind)).tolist() for kind in (dtype, np.float32))
    assert few == many  # noise rounded to 16 bits has ties, which the first token wins


def test_criteria_and_sensitivities(dtype):
    cfg = AFMConfig(d_model=64, n_layers=1, n_heads=1, n_kv_heads=1, head_dim=2, d_ff=3, vocab_size=8)
    params = model(dtype, cfg)
    layer = params.layers[0]._replace(w_gate=np.full((3, 64), 300, dtype))
    matrices = (layer.w_gate, 1), (layer.w_up, 1), (layer.w_down, 0)
    lengths = [np.linalg.norm(exact(w), axis=axis) for w, axis in matrices]
    np.testing.assert_allclose(by_magnitude(params._replace(layers=(layer,)))[0], np.prod(lengths, 0), rtol=1e-5)

    def batch(T):  # one token everywhere: all positions are alike, and means do not depend on T
        return losses.Batch(np.ones((2, T), np.int32), np.ones((2, T), np.int32), np.ones((2, T), np.float32))

    many, one = (by_activation(params, batch(T), cfg)[0] for T in (600, 1))
    assert many.dtype == np.float32
    np.testing.assert_allclose(many, one, rtol=4 * ULP[dtype])
    ones = [batch(T)._replace(weights=np.ones((2, T), dtype)) for T in (600, 1)]  # bfloat16 counts to 256
    many, one = (input_moments(params, cfg, [each], progress=False) for each in ones)
    for key in many:
        np.testing.assert_allclose(many[key], one[key], rtol=4 * ULP[dtype], atol=1e-6)
