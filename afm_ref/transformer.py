"""The one forward function of AFM, for NumPy and JAX alike.

    hidden  = embed -> blocks -> final norm                         [B, T, D]
    forward = hidden -> the embedding's other end                   [B, T, V]

Three things can be exchanged without touching it: the weights (see ops), the container of
layers, and the way to attend. All state is in NamedTuples, which JAX takes as trees without
being imported here.
"""

import sys

import numpy as np

from . import ops
from ._typing import Array, Bool, Float, Int
from .config import AFMConfig
from .containers import Stream, run_layers
from .weights import Layer, Params, init

__all__ = ["Causal", "block", "check_tokens", "forward", "hidden", "init", "logits", "qkv"]

# Queries that attend at a time, at least; a longer sequence is cut in 16 blocks, for each is
# compiled for itself. A block leaves out the keys after its last query: a training step
# takes 0.98, 0.80 and 0.41 of the time of all queries at once for T = 256, 1024 and 4096,
# and at 4096 half the memory (two AMD cores; the sizes of benchmarks.train). Blocks that
# leave out no key gain nothing.
QUERIES = 128


class Causal:
    """Attend to the tokens at the same or an earlier position, within the same document if
    documents are given.

    documents: [B, T] integers. queries: how many attend at a time, at least. An attend has
    two halves, so that a cache, a gather or a ring can come between them: `keys` says what
    is attended to, the call attends.

    Source: TR24 section 2 (decoder-only); masking between packed documents is our choice
        [ours].
    Test: tests/transformer/test_transformer.py::test_the_future_does_not_reach_the_past
    """

    def __init__(self, documents: Int[Array, "B T"] | None = None, queries: int = QUERIES):
        self.documents, self.queries = documents, queries

    def keys(self, k, v, positions, cache=None):
        """Return ((k, v, key positions), cache): k, v [B, T, K, H]."""
        return (k, v, positions), cache

    def mask(
        self, positions: Int[Array, "#B T"], key_positions: Int[Array, "#B S"]
    ) -> Bool[Array, "#B T S"]:
        """Return which keys each query may see."""
        allowed = positions[:, :, None] >= key_positions[:, None, :]
        if self.documents is not None:
            allowed = allowed & (self.documents[:, :, None] == self.documents[:, None, :])
        return allowed

    def __call__(
        self, q: Float[Array, "B T N H"], kv, positions
    ) -> Float[Array, "B T N H"]:
        """Return each query's average of the values it may see."""
        k, v, key_positions = kv
        mask, T = self.mask(positions, key_positions), q.shape[1]
        # inside jit only positions given as NumPy's are known; another mask may look ahead
        known = isinstance(positions, np.ndarray) and isinstance(key_positions, np.ndarray)
        if self.queries >= T or not known or type(self).mask is not Causal.mask:
            return ops.attention(q, k, v, mask)
        out, size = [], max(self.queries, T // 16)
        for t in range(0, T, size):
            block = slice(t, t + size)
            seen = (positions[:, block].max() >= key_positions).any(axis=0)
            n = 1 + int(np.flatnonzero(seen)[-1])
            out.append(ops.attention(q[:, block], k[:, :n], v[:, :n], mask[:, block, :n]))
        return q.__array_namespace__().concatenate(out, axis=1)


def qkv(x: Float[Array, "B T D"], layer: Layer, cfg: AFMConfig, positions):
    """Return queries [B, T, N, H], keys and values [B, T, K, H] (None, None for a layer
    without them).

        q = norm_q(rope(W_q x)),   k = norm_k(rope(W_k x)),   v = W_v x

    The norm comes before the rotation when cfg.qk_norm is "before_rope". A gain per channel
    does not commute with the rotation, so the two differ as soon as the gains leave one.

    Source: TR24 section 2 (QK normalisation); the order from AXLearn and mlx-lm afm7
        [inferred].
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
    """Return (stream, cache) after one block: attention, then feed-forward, each added to
    the residual stream.

        x <- x + W_o attend(q, k, v)          q, k, v from norm(x)
        x <- x + swiglu(norm(x))

    Source: TR24 section 2 (pre-norm decoder) [confirmed].
    Test: tests/interop/test_golden.py::test_logits_equal_golden
    """
    x, kv = stream
    q, k, v = qkv(
        ops.rms_norm(x, layer.attention_norm, cfg.norm_eps), layer, cfg, positions
    )
    if k is not None:
        kv, cache = attend.keys(k, v, positions, cache)
    elif kv is None:
        raise ValueError(
            "a layer without wk and wv comes before any layer that has them: nothing to attend to"
        )
    out = attend(q, kv, positions)  # [B, T, N, H]
    x = x + ops.linear(out.reshape(*out.shape[:2], -1), layer.wo)
    x = x + ops.swiglu(
        ops.rms_norm(x, layer.ffn_norm, cfg.norm_eps),
        layer.w_gate,
        layer.w_up,
        layer.w_down,
    )
    return Stream(x, kv), cache


def hidden(
    params: Params,
    tokens: Int[Array, "B T"],
    cfg: AFMConfig,
    positions: Int[Array, "#B T"] | None = None,
    attend=None,
    cache=None,
):
    """Return (x [B, T, D] after the final norm, cache).

    positions default to 0 .. T-1; attend to Causal(). Token ids outside 0 .. V-1 raise
    ValueError wherever their values can be seen, that is outside jit: inside, an array
    library would clamp or wrap them in silence.
    """
    check_tokens(tokens, cfg)
    if positions is None:
        positions = np.arange(tokens.shape[1], dtype=np.int32)[None]
    attend = Causal() if attend is None else attend

    def step(stream, layer, layer_cache):
        return block(stream, layer, cfg, positions, attend, layer_cache)

    stream, cache = run_layers(
        params.layers, step, Stream(ops.lookup(tokens, params.embed)), cache
    )
    return ops.rms_norm(stream.x, params.final_norm, cfg.norm_eps), cache


def logits(params: Params, x: Float[Array, "*batch D"]) -> Float[Array, "*batch V"]:
    """Return the unnormalised log-probability of every token, from hidden states after the
    final norm.

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
    """Raise ValueError or TypeError unless tokens are a non-empty [B, T] of integers in 0
    .. V-1.
    """
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
