"""One update: weights split into what is trained and what is frozen, the compiled step."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ..ops import wide
from ..weights import leaf_name

# Of the CPU's compiler, for programs that run a few times only. Of a training step of 4
# layers compiling takes half the CPU seconds, and running 2.5 times as long.
QUICK = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}


class TrainState(NamedTuple):
    """All that changes from step to step, apart from the history."""

    step: int  # steps done
    trainable: Any
    optimizer: Any


def merge(trainable, frozen):
    """Return the full tree: the trainable leaf where there is one, else the frozen one."""
    return jax.tree.map(
        lambda t, f: f if t is None else t, trainable, frozen, is_leaf=lambda x: x is None
    )


def where(keep: Callable[[str], bool]):
    """Return a `select` for fit: float leaves whose path, as "layers.3.wq", satisfies
    `keep`.
    """

    def select(params):
        def choose(path, leaf):
            return leaf if _is_float(leaf) and keep(leaf_name(path)) else None

        return jax.tree_util.tree_map_with_path(choose, params)

    return select


def _is_float(leaf):
    return jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)


def split(params, select=None):
    """Return (trainable, frozen), each None where the other has a leaf; None selects all
    floats.
    """
    trainable = (select or where(lambda path: True))(params)
    leaves = jax.tree_util.tree_leaves_with_path(trainable)
    if not leaves:
        raise ValueError("select chose no weights: nothing to train")
    for path, leaf in leaves:
        if not _is_float(leaf):
            raise TypeError(
                f"select chose {leaf_name(path)} of dtype {leaf.dtype}: only float weights can be trained"
            )
    frozen = jax.tree.map(
        lambda t, p: p if t is None else None,
        trainable,
        params,
        is_leaf=lambda x: x is None,
    )
    return trainable, frozen


def global_norm(tree):
    """Return the root of the sum of all squares in a tree, taken in float32 at least."""
    return optax.tree.norm(jax.tree.map(wide, tree))


def make_step(loss, optimizer, placed=None, options=None):
    """Return the jitted update (trainable, state, frozen, batch) -> (trainable, state,
    metrics).

    placed, (trainable, optimizer state) as they lie on several devices, keeps them lying
    so. options are the compiler's, such as QUICK.
    """

    def step(trainable, opt_state, frozen, batch):
        def total(trainable):
            return loss(merge(trainable, frozen), batch)

        (loss_sum, count), grads = jax.value_and_grad(total, has_aux=True)(trainable)
        grads = jax.tree.map(lambda g: (g / count).astype(g.dtype), grads)
        updates, opt_state = optimizer.update(grads, opt_state, trainable)
        changed = jnp.any(jnp.stack([jnp.any(u != 0) for u in jax.tree.leaves(updates)]))
        metrics = {
            "loss": loss_sum / count,
            "count": count,
            "grad_norm": global_norm(grads),
            "changed": changed,
        }
        return optax.apply_updates(trainable, updates), opt_state, metrics

    # The compiler may lay its outputs out anew: a resumed run would differ from a whole
    # one.
    kept = None if placed is None else (*jax.tree.map(lambda x: x.sharding, placed), None)
    return jax.jit(
        step, donate_argnums=(0, 1), out_shardings=kept, compiler_options=options
    )
