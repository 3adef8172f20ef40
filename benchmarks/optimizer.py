"""One update of Apple's optimizer against optax's AdamW behind a clip of the global norm, in turn.

    python -m benchmarks.optimizer [--rounds N] [--plot [FILE]]

The gradients are given, so this is the optimizer alone, on the 5.5M float32 parameters of benchmarks.train. Each of
their updates must read gradient, weight and two means and write three of them: 7 numbers a parameter, and one more
reading for the norm. That traffic, at the rate of a large copy, is the peak.
"""

from . import _common
from .train import DIMS

UPDATES = 5  # a call
BYTES_PER_PARAMETER = 4 * (1 + 7)


def updates(optimizer, params, grads):
    """Return a call that makes some updates and waits for the weights."""
    import jax
    import jax.numpy as jnp
    import optax

    def update(params, state, grads):
        new, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, new), state

    update = jax.jit(update, donate_argnums=(0, 1))
    weights = jax.tree.map(lambda x: jnp.array(x, copy=True), params)
    state = [weights, optimizer.init(weights)]

    def call():
        for _ in range(UPDATES):
            state[:] = update(*state, grads)
        jax.block_until_ready(state)

    return call


def copy_bytes_per_s(size_bytes=1 << 27, repeats=3):
    """Return how fast JAX reads and writes memory: the best of a few sums of two arrays into one of them."""
    import jax
    import jax.numpy as jnp

    a, b = (jnp.ones(size_bytes // 4, jnp.float32) for _ in range(2))
    add = jax.jit(jnp.add)
    add(a, b).block_until_ready()
    return 3 * size_bytes / min(_common.seconds(lambda: add(a, b).block_until_ready()) for _ in range(repeats))


def main():
    """Run the comparison and print its line."""
    args = _common.arguments(__doc__, rounds=15)
    import importlib.metadata

    import jax
    import jax.numpy as jnp
    import optax

    from afm_ref.config import AFMConfig, parameters
    from afm_ref.pretraining import afm_optimizer, mup_scales, warmup_cosine
    from afm_ref.transformer import init

    cfg = AFMConfig(**DIMS)
    params = init(cfg, 0)
    grads = jax.tree.map(lambda x: jnp.asarray(0.01 * x), params)
    schedule = warmup_cosine(100, 10_000)
    adamw = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3, weight_decay=1e-4))
    line = _common.compare(
        "afm_optimizer_vs_clipped_adamw",
        updates(afm_optimizer(0.01, schedule, update_scale=mup_scales(cfg)), params, grads),
        updates(adamw, params, grads),
        unit="parameters/s",
        work_per_call=UPDATES * parameters(cfg)["total"],
        rounds=args.rounds,
        peaks=(copy_bytes_per_s,),
        cost_per_work=BYTES_PER_PARAMETER,
        optax=importlib.metadata.version("optax"),
    )
    _common.plot([line], args.plot, "benchmark_optimizer.png")


if __name__ == "__main__":
    _common.prepare()
    main()
