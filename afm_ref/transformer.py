"""The one forward function of AFM, for NumPy and JAX alike.

    hidden  = embed -> blocks -> final norm                         [B, T, D]
    forward = hidden -> the embedding's other end                   [B, T, V]

Three things can be exchanged without touching it: the weights (see ops), the container of layers, and the way to
attend. All state is in NamedTuples, which JAX takes as trees without being imported here.
"""

import sys
from typing import Any, NamedTuple

import numpy as np

from . import ops
from ._typing import Array, Bool, Float, Int
from .config import AFMConfig


class Layer(NamedTuple):
    """One block's weights. Matrices are [out, in]; any of them may be a weight with `.apply` instead."""

    attention_norm: Any  # [D]
    wq: Any  # [N*H, D]
    wk: Any  # [K*H, D], or None: attend with the keys and values of the last layer that has them
    wv: Any  # [K*H, D], or None
    wo: Any  # [D, N*H]
    q_norm: Any  # [H], or None without qk-norm
    k_norm: Any  # [H], or None
    ffn_norm: Any  # [D]
    w_gate: Any  # [F, D]
    w_up: Any  # [F, D]
    w_down: Any  # [D, F]


class Params(NamedTuple):
    """All weights of a model."""

    embed: Any  # [V, D]
    layers: Any  # a tuple of Layer, or a container: anything with .run(step, stream, cache)
    final_norm: Any  # [D]
    unembed: Any = None  # [V, D] when the output head is not tied to the embedding


class Stream(NamedTuple):
    """What flows from block to block: the residual stream, and the newest keys and values."""

    x: Any  # [B, T, D]
    kv: Any = None


def init(cfg: AFMConfig, seed: int) -> Params:
    """Return fresh float32 NumPy weights: matrices normal with std 1/sqrt(fan_in), gains one.

    The tied embedding is read as the output matrix, whose fan-in is D: logits start near unit size.

    Source: AXLearn common.model_config (fan-in scaled normal) [inferred].
    Test: tests/transformer/test_transformer.py::test_init_scales_by_fan_in
    """
    rng = np.random.default_rng(seed)

    def matrix(out_dim, in_dim):
        return rng.standard_normal((out_dim, in_dim), dtype=np.float32) * np.float32(in_dim**-0.5)

    def gain(dim):
        return np.ones(dim, np.float32)

    D, H, F = cfg.d_model, cfg.head_dim, cfg.d_ff
    q_dim, kv_dim = cfg.n_heads * H, cfg.n_kv_heads * H

    def layer():
        return Layer(
            attention_norm=gain(D),
            wq=matrix(q_dim, D),
            wk=matrix(kv_dim, D),
            wv=matrix(kv_dim, D),
            wo=matrix(D, q_dim),
            q_norm=gain(H) if cfg.qk_norm else None,
            k_norm=gain(H) if cfg.qk_norm else None,
            ffn_norm=gain(D),
            w_gate=matrix(F, D),
            w_up=matrix(F, D),
            w_down=matrix(D, F),
        )

    embed = matrix(cfg.vocab_size, D)
    layers = tuple(layer() for _ in range(cfg.n_layers))
    return Params(embed, layers, gain(D), None if cfg.tie_embeddings else matrix(cfg.vocab_size, D))


class Causal:
    """Attend to the tokens at the same or an earlier position, within the same document if documents are given.

    documents: [B, T] integers. An attend has two halves, so that a cache, a gather or a ring can come between
    them: `keys` says what is attended to, the call attends.

    Source: TR24 section 2 (decoder-only); masking between packed documents is our choice [ours].
    Test: tests/transformer/test_transformer.py::test_the_future_does_not_reach_the_past
    """

    def __init__(self, documents: Int[Array, "B T"] | None = None):
        self.documents = documents

    def keys(self, k, v, positions, cache=None):
        """Return ((k, v, key positions), cache): k, v [B, T, K, H]."""
        return (k, v, positions), cache

    def mask(self, positions: Int[Array, "#B T"], key_positions: Int[Array, "#B S"]) -> Bool[Array, "#B T S"]:
        """Return which keys each query may see."""
        allowed = positions[:, :, None] >= key_positions[:, None, :]
        if self.documents is not None:
            allowed = allowed & (self.documents[:, :, None] == self.documents[:, None, :])
        return allowed

    def __call__(self, q: Float[Array, "B T N H"], kv, positions) -> Float[Array, "B T N H"]:
        """Return each query's average of the values it may see."""
        k, v, key_positions = kv
        return ops.attention(q, k, v, self.mask(positions, key_positions))


def qkv(x: Float[Array, "B T D"], layer: Layer, cfg: AFMConfig, positions):
    """Return queries [B, T, N, H], keys and values [B, T, K, H] (None, None for a layer without them).

        q = norm_q(rope(W_q x)),   k = norm_k(rope(W_k x)),   v = W_v x

    The norm comes before the rotation when cfg.qk_norm is "before_rope". A gain per channel does not commute with
    the rotation, so the two differ as soon as the gains leave one.

    Source: TR24 section 2 (QK normalisation); the order from AXLearn and mlx-lm afm7 [inferred].
    Test: tests/interop/test_golden.py::test_logits_equal_golden
    """

    def heads(w):
        y = ops.linear(x, w)  # -1: a device may hold only some of the heads
        return y.reshape(*y.shape[:2], -1, cfg.head_dim)

    def norm_and_rotate(y, gain):
        if cfg.qk_norm == "before_rope":
            y = ops.rms_norm(y, gain, cfg.norm_eps)
        y = ops.rope(y, positions, cfg.rope_theta, cfg.rope_layout)
        return ops.rms_norm(y, gain, cfg.norm_eps) if cfg.qk_norm == "after_rope" else y

    q = norm_and_rotate(heads(layer.wq), layer.q_norm)
    if layer.wk is None:
        return q, None, None
    return q, norm_and_rotate(heads(layer.wk), layer.k_norm), heads(layer.wv)


def block(stream: Stream, layer: Layer, cfg: AFMConfig, positions, attend, cache=None):
    """Return (stream, cache) after one block: attention, then feed-forward, each added to the residual stream.

        x <- x + W_o attend(q, k, v)          q, k, v from norm(x)
        x <- x + swiglu(norm(x))

    Source: TR24 section 2 (pre-norm decoder) [confirmed].
    Test: tests/interop/test_golden.py::test_logits_equal_golden
    """
    x, kv = stream
    q, k, v = qkv(ops.rms_norm(x, layer.attention_norm, cfg.norm_eps), layer, cfg, positions)
    if k is not None:
        kv, cache = attend.keys(k, v, positions, cache)
    elif kv is None:
        raise ValueError("a layer without wk and wv comes before any layer that has them: nothing to attend to")
    out = attend(q, kv, positions)  # [B, T, N, H]
    x = x + ops.linear(out.reshape(*out.shape[:2], -1), layer.wo)
    x = x + ops.swiglu(ops.rms_norm(x, layer.ffn_norm, cfg.norm_eps), layer.w_gate, layer.w_up, layer.w_down)
    return Stream(x, kv), cache


def run_layers(layers, step, stream: Stream, cache=None):
    """Return (stream, cache) after all layers: a container runs itself, a tuple is looped.

    step(stream, layer, cache) -> (stream, cache) is a block with everything but the layer filled in.
    """
    if hasattr(layers, "run"):
        return layers.run(step, stream, cache)
    if isinstance(layers, Layer):
        return step(stream, layers, cache)
    caches = []
    for i, layer in enumerate(layers):
        stream, new = run_layers(layer, step, stream, None if cache is None else cache[i])
        caches.append(new)
    return stream, None if cache is None else tuple(caches)


class Stacked(NamedTuple):
    """Layers of equal structure with their leaves stacked, [L, ...]: one `lax.scan`, compiled once for all."""

    layer: Layer

    def run(self, step, stream, cache=None):
        """Return (stream, cache); the cache has the leading axis L as well."""
        import jax

        def body(x, item):
            layer, layer_cache = item
            new, layer_cache = step(Stream(x, stream.kv), layer, layer_cache)
            return new.x, layer_cache

        x, cache = jax.lax.scan(body, stream.x, (self.layer, cache))
        # A scan hands on no keys: a layer that reuses them must follow one that is not stacked.
        return Stream(x, stream.kv if self.layer.wk is None else None), cache


class Remat(NamedTuple):
    """Layers whose activations are computed again in the backward pass instead of kept (over Stacked, on CPU)."""

    layers: Any

    def run(self, step, stream, cache=None):
        """Return (stream, cache), the same numbers as without it."""
        import jax

        return run_layers(self.layers, jax.checkpoint(step), stream, cache)


def group(layers: tuple) -> tuple:
    """Return the layers with every run of two or more of equal structure, shapes and dtypes stacked."""
    import itertools

    import jax

    def kind(layer):
        leaves, tree = jax.tree.flatten(layer)
        return tree, tuple((leaf.shape, leaf.dtype) for leaf in leaves)

    def stack(*leaves):
        return leaves[0].__array_namespace__().stack(leaves)

    runs = [list(run) for _, run in itertools.groupby(layers, key=kind)]
    return tuple(Stacked(jax.tree.map(stack, *run)) if len(run) > 1 else run[0] for run in runs)


def ungroup(layers) -> tuple:
    """Return the single layers inside any container, in order: it undoes `group`."""
    if isinstance(layers, Layer):
        return (layers,)
    if isinstance(layers, Stacked):
        import jax

        L = jax.tree.leaves(layers.layer)[0].shape[0]
        return tuple(jax.tree.map(lambda leaf, i=i: leaf[i], layers.layer) for i in range(L))
    inner = getattr(layers, "layers", layers)
    if not isinstance(inner, tuple | list):
        raise ValueError(
            f"cannot take the layers out of a {type(layers).__name__}: use the model before it was wrapped"
        )
    return tuple(one for item in inner for one in ungroup(item))


def hidden(
    params: Params,
    tokens: Int[Array, "B T"],
    cfg: AFMConfig,
    positions: Int[Array, "#B T"] | None = None,
    attend=None,
    cache=None,
):
    """Return (x [B, T, D] after the final norm, cache).

    positions default to 0 .. T-1; attend to Causal(). Token ids outside 0 .. V-1 raise ValueError wherever their
    values can be seen, that is outside jit: inside, an array library would clamp or wrap them in silence.
    """
    check_tokens(tokens, cfg)
    if positions is None:
        positions = np.arange(tokens.shape[1], dtype=np.int32)[None]
    attend = Causal() if attend is None else attend

    def step(stream, layer, layer_cache):
        return block(stream, layer, cfg, positions, attend, layer_cache)

    stream, cache = run_layers(params.layers, step, Stream(ops.lookup(tokens, params.embed)), cache)
    return ops.rms_norm(stream.x, params.final_norm, cfg.norm_eps), cache


def logits(params: Params, x: Float[Array, "*batch D"]) -> Float[Array, "*batch V"]:
    """Return the unnormalised log-probability of every token, from hidden states after the final norm.

        logits = E x          with E the embedding itself when tied

    Source: TR24 section 2 (shared input/output embedding) [confirmed].
    Test: tests/interop/test_golden.py::test_logits_equal_golden
    """
    return ops.linear(x, params.embed if params.unembed is None else params.unembed)


def forward(
    params: Params, tokens: Int[Array, "B T"], cfg: AFMConfig, positions=None, attend=None
) -> Float[Array, "B T V"]:
    """Return the logits of the next token at every position: `logits` of `hidden`."""
    return logits(params, hidden(params, tokens, cfg, positions, attend)[0])


def check_tokens(tokens, cfg: AFMConfig):
    """Raise ValueError or TypeError unless tokens are a non-empty [B, T] of integers in 0 .. V-1."""
    if getattr(tokens, "ndim", None) != 2 or 0 in tokens.shape:
        raise ValueError(
            f"tokens must be a non-empty array [B, T], got shape {getattr(tokens, 'shape', type(tokens).__name__)}; "
            "wrap one sequence as np.array([ids])"
        )
    if not np.issubdtype(tokens.dtype, np.integer):
        raise TypeError(f"tokens must be integers, got {tokens.dtype}")
    jax = sys.modules.get("jax")
    if jax is not None and isinstance(tokens, jax.core.Tracer):
        return
    low, high = int(tokens.min()), int(tokens.max())
    if low < 0 or high >= cfg.vocab_size:
        raise ValueError(
            f"token ids run from {low} to {high}, but this model knows 0 .. {cfg.vocab_size - 1}: "
            "was the text encoded with another tokenizer?"
        )
