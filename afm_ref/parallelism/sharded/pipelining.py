"""A container of layers that lie on consecutive devices, run by microbatches (GPipe)."""

from typing import Any

import jax
import jax.numpy as jnp

from ...containers import Remat, Stream, run_layers
from ...ops import wide
from ...weights import weight
from .manual import index, vary


@weight
class Pipeline:
    """Layers cut over pipe: device p runs the p-th part of them on every microbatch.

        tick t: stage p works on microbatch t - p and passes it on;   M + P - 1 ticks

    Only the last stage's result is the model's; the others return zeros, and a loss must
    count the last stage alone (`is_last`). The bubble, (P - 1) / (M + P - 1) of the time, is
    computed and thrown away: zeros before a stage's first microbatch, after its last the last
    one again. AD runs the same schedule backwards.

    Source: Huang et al. 2019 (GPipe) section 2.2 [standard].
    Test: tests/parallelism/test_strategies.py::test_pipeline_equals_the_layers_in_turn
    """

    layers: Any
    microbatches: int

    def run(self, step, stream: Stream, cache=None):
        """Return (stream, cache) after the layers of all stages, on the last stage."""
        B, M = stream.x.shape[0], self.microbatches
        if cache is not None or stream.kv is not None:
            raise ValueError(
                "a pipeline trains: it keeps no cache, and its first layer brings its own keys"
            )
        if B % M:
            raise ValueError(
                f"{B} sequences a device cannot be cut into {M} microbatches: make one divide the other"
            )
        stage, P = jax.lax.axis_index("pipe"), jax.lax.axis_size("pipe")
        todo = stream.x.reshape(M, B // M, *stream.x.shape[1:])
        onward = [(p, p + 1) for p in range(P - 1)]
        # Every microbatch adds to the gradient of the weights: in float32, as AD sums in
        # the dtype of what enters.
        layers = jax.tree.map(
            lambda w: wide(w) if jnp.issubdtype(w.dtype, jnp.floating) else w, self.layers
        )

        def tick(received, t):
            # the microbatch of this stage, any other in the bubble
            mine = jnp.clip(t - stage, 0, M - 1)
            x = jnp.where(stage == 0, todo[jnp.clip(t, 0, M - 1)], received)
            x = self._stage(step, layers, x, mine * (B // M))
            return jax.lax.ppermute(x, "pipe", onward), x

        start = vary(jnp.zeros_like(todo[0]), "pipe")
        _, done = jax.lax.scan(tick, start, jnp.arange(M + P - 1))
        x = jnp.where(stage == P - 1, done[P - 1 :], 0).reshape(stream.x.shape)
        return Stream(x), None

    def _stage(self, step, layers, x, first_row):
        """Return what this device's layers make of a microbatch."""
        n_layers = jax.tree.leaves(self.layers)[0].shape[0]
        # for the one stack in self.layers
        rows = (jnp.broadcast_to(first_row, (n_layers,)),)
        step = _tied(step) if isinstance(self.layers, Remat) else step
        layers = jax.tree.map(lambda w, like: w.astype(like.dtype), layers, self.layers)
        return run_layers(layers, step, Stream(x), rows)[0].x


def _tied(step):
    """Return the step tied to the microbatch: never kept for the backward pass.

    Otherwise JAX sees that gathering a layer's weights is the same in every tick, gathers
    those of all layers before the first one and keeps them: no ZeRO-3.
    """

    def tied(stream, layer, row):
        layer = jax.tree.map(
            lambda leaf: jax.lax.optimization_barrier((leaf, row))[0], layer
        )
        return step(stream, layer, row)

    return tied


def is_last():
    """Return whether this device is the last stage, whose result counts."""
    return index("pipe") == jax.lax.axis_size("pipe") - 1
