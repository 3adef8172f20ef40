"""Ways to attend when a device of the axis "seq" holds a part of each sequence.

    GatheredKeys  all keys and values are gathered, then attention as ever
    Ring          keys and values travel round; the softmax is completed part by part

Queries, keys and values are local: [B, T / devices, heads, H]. Masking goes by position,
never by index, so any order of the tokens works; the zigzag order gives every device the
same work.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ... import ops
from ..._typing import Array, Float, Int
from .manual import SEQUENCE, all_gather, index


class Local:
    """Causal attention over whole sequences, which a pipeline gives a few rows at a time.

    In the place of a cache the pipeline gives the first row of its microbatch.
    """

    def __init__(
        self, documents: Int[Array, "B part"] | None, positions: Int[Array, "#B part"]
    ):
        self.documents = self.all_documents = documents
        self.all_positions = positions

    def keys(self, k, v, positions, cache=None):
        """Return ((k, v, documents of the queries, documents of all keys), cache)."""
        rows = (self.documents, self.all_documents)
        if cache is not None:
            rows = _part(rows, cache, len(k), axis=0)
        return (k, v, *rows), cache

    def __call__(self, q, kv, positions):
        """Return each query's average of the values it may see."""
        k, v, documents, all_documents = kv
        mask = visible(positions, self.all_positions, documents, all_documents)
        return ops.attention(q, k, v, mask)


def visible(positions, key_positions, documents=None, key_documents=None):
    """Return the keys that each query may see, [#B, T, S]: earlier ones of its document."""
    allowed = positions[:, :, None] >= key_positions[:, None, :]
    if documents is None:
        return allowed
    return allowed & (documents[:, :, None] == key_documents[:, None, :])


class Parted(Local):
    """What both ways over a cut sequence share: the positions and documents of all of it.

    They are gathered once, not in every layer: small integers.
    """

    def __init__(self, documents, positions):
        super().__init__(documents, positions)
        labels = (positions, documents)
        self.all_positions, self.all_documents = all_gather(labels, "seq", SEQUENCE)


class GatheredKeys(Parted):
    """Attend to all keys and values, gathered from the devices of seq.

        k, v = all-gather over T of the parts;   their gradients return by reduce-scatter

    K and V are small beside the queries' work where heads share keys (3 to 1 in AFM).

    Source: context parallelism with gathered keys, Llama 3 (2024) section 3.3.2 [standard].
    Test: tests/parallelism/test_ring_attention.py::test_attention_over_a_cut_sequence_equals_the_whole
    """

    def keys(self, k, v, positions, cache=None):
        """Return ((k, v of all, documents of the queries, of the keys), cache)."""
        k, v = all_gather((k, v), "seq", SEQUENCE)
        return super().keys(k, v, positions, cache)


class Partial(NamedTuple):
    """A softmax average over the keys seen so far, all scaled by exp(-top)."""

    top: Any  # [B, T, N, 1]  the largest score
    total: Any  # [B, T, N, 1]  sum of exp(score - top)
    out: Any  # [B, T, N, H]  sum of exp(score - top) * value


class Ring(Parted):
    """Attend to the keys and values of one device after another, as they come round.

        step r: device i attends to the part of device i - r and passes it on to i + 1

    Two averages over different keys become one over both (see `combine`), so no device ever
    holds all keys' scores. Blocks of keys that lie wholly in the queries' future are
    skipped. A block is a part of the sequence; in zigzag order, where a part is two chunks
    far from each other, a chunk: then every device does the same work in a step.

    Source: Liu et al. 2023 (ring attention) [standard]; the skip: ours [ours].
    Test: tests/parallelism/test_ring_attention.py::test_attention_over_a_cut_sequence_equals_the_whole
    """

    def __init__(self, documents, positions, zigzag: bool):
        super().__init__(documents, positions)
        self.chunks = 2 if zigzag else 1

    def __call__(
        self, q: Float[Array, "B part N H"], kv, positions
    ) -> Float[Array, "B part N H"]:
        """Return each query's average of the values it may see, wherever they lie."""
        k, v, documents, all_documents = kv
        n, me = jax.lax.axis_size("seq"), index("seq")
        onward = [(i, (i + 1) % n) for i in range(n)]

        # the backward pass computes the scores again, step by step, instead of keeping all
        # of them
        @jax.checkpoint
        def attend(keys, seen, r):
            # where the part that is here now begins in the gathered arrays
            home = (me - r) % n * k.shape[1]
            labels = _part((self.all_positions, all_documents), home, k.shape[1])
            return self._attend((q, positions, documents), (*keys, *labels), seen)

        def step(carry, r):
            keys, seen = carry
            keys = jax.lax.ppermute(keys, "seq", onward)
            return (keys, attend(keys, seen, r)), None

        seen = attend((k, v), nothing(q), 0)
        if n > 1:
            (_, seen), _ = jax.lax.scan(step, ((k, v), seen), jnp.arange(1, n))
        return (seen.out / seen.total).astype(q.dtype)

    def _attend(self, queries, keys, seen):
        """Return the partial averages with the keys taken in, chunk by chunk."""
        done = []
        for mine, partial in zip(_cut(queries, self.chunks), _cut(seen, self.chunks)):
            for theirs in _cut(keys, self.chunks):
                partial = _take_in(partial, mine, theirs)
            done.append(partial)
        return jax.tree.map(lambda *chunks: jnp.concatenate(chunks, axis=SEQUENCE), *done)


def _take_in(partial, queries, keys):
    (q, positions, documents), (k, v, key_positions, key_documents) = queries, keys

    def attend():
        mask = visible(positions, key_positions, documents, key_documents)
        return combine(partial, partial_attention(q, k, v, mask))

    return jax.lax.cond(positions.max() >= key_positions.min(), attend, lambda: partial)


def _cut(tree, n):
    """Return n trees, each leaf cut in n along T."""
    return [
        jax.tree.map(lambda leaf, i=i: jnp.split(leaf, n, axis=SEQUENCE)[i], tree)
        for i in range(n)
    ]


def _part(tree, start, size, axis=SEQUENCE):
    return jax.tree.map(
        lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, start, size, axis), tree
    )


def nothing(q) -> Partial:
    """Return the average over no keys: `combine` leaves any other unchanged by it."""
    zero = jnp.zeros_like(ops.wide(q))
    return Partial(zero[..., :1] + ops.MASKED, zero[..., :1], zero)


def partial_attention(q: Float[Array, "B T N H"], k, v, mask) -> Partial:
    """Return the average over these keys, unfinished.

        top = max score_s;  total = sum exp(score_s - top);  out = sum exp(score_s - top) v

    The scores are those of ops.attention, all in float32 at least; where the mask allows no
    key, total and out are 0.

    Source: Milakov and Gimelshein 2018 (online softmax) [standard].
    Test: tests/parallelism/test_ring_attention.py::test_parts_combine_to_the_whole_softmax
    """
    (B, T, N, H), K = q.shape, k.shape[2]
    q, k, v = (ops.wide(x) for x in (q, k, v))
    scores = jnp.einsum("btkgh,bskh->btkgs", q.reshape(B, T, K, N // K, H) * H**-0.5, k)
    allowed = mask[:, :, None, None]
    scores = jnp.where(allowed, scores, ops.MASKED)
    top = jax.lax.stop_gradient(scores.max(-1, keepdims=True))
    weights = jnp.where(allowed, jnp.exp(scores - top), 0)
    out = jnp.einsum("btkgs,bskh->btkgh", weights, v)
    total = weights.sum(-1, keepdims=True)
    return Partial(*(leaf.reshape(B, T, N, -1) for leaf in (top, total, out)))


def combine(a: Partial, b: Partial) -> Partial:
    """Return the parts of two sets of keys as those of both.

        top = max(top_a, top_b);  total = e^(top_a - top) total_a + e^(top_b - top) total_b

    Source: Milakov and Gimelshein 2018 (online softmax) [standard].
    Test: tests/parallelism/test_ring_attention.py::test_parts_combine_to_the_whole_softmax
    """
    top = jnp.maximum(a.top, b.top)
    scale_a, scale_b = jnp.exp(a.top - top), jnp.exp(b.top - top)
    return Partial(
        top, scale_a * a.total + scale_b * b.total, scale_a * a.out + scale_b * b.out
    )


def sequence_order(T: int, n: int, zigzag: bool = False) -> np.ndarray:
    """Return the positions in the order in which n devices hold them: [T].

        contiguous  device i holds chunk i of n
        zigzag      device i holds chunks i and 2n - 1 - i of 2n: an early and a late one

    Source: zigzag ring attention, Llama 3 (2024) section 3.3.2 [standard].
    Test: tests/parallelism/test_ring_attention.py::test_zigzag_order_by_hand
    """
    parts = 2 * n if zigzag else n
    if T % parts:
        raise ValueError(
            f"{T} positions cannot be cut into {parts} equal chunks ({'zigzag, ' if zigzag else ''}seq={n}): "
            f"take T a multiple of {parts}"
        )
    chunks = np.arange(T, dtype=np.int32).reshape(parts, -1)
    if zigzag:
        chunks = chunks[[chunk for i in range(n) for chunk in (i, 2 * n - 1 - i)]]
    return chunks.reshape(-1)


def ring_work(T: int, n: int, zigzag: bool = False) -> np.ndarray:
    """Return the (query, key) pairs of each device in each step: [devices, steps].

    A block that is not skipped is computed whole. A step costs the largest number of its
    column: in all n (T/n)^2 in contiguous order, (2 n + 1)/4 (T/n)^2 in zigzag order.
    """
    chunks = sequence_order(T, n, zigzag).reshape(n, 2 if zigzag else 1, -1)

    def pairs(queries, keys):
        return sum(len(q) * len(k) for q in queries for k in keys if q.max() >= k.min())

    return np.array(
        [[pairs(chunks[i], chunks[(i - r) % n]) for r in range(n)] for i in range(n)]
    )
