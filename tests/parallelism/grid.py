"""The grid's strategies and its model, run once each; test_grid.py says what must hold."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from afm_ref import containers, losses, training, transformer
from afm_ref.config import AFMConfig
from afm_ref.parallelism.compiled import collectives
from afm_ref.parallelism.sharded.strategies import NextToken, Plan, place, place_batch, unplace
from afm_ref.pretraining import afm_optimizer, mup_scales, warmup_cosine
from afm_ref.weights import leaf_name

# Three queries a key head; every dimension another number where the cuts allow it.
CFG = AFMConfig(d_model=16, n_layers=4, n_heads=6, n_kv_heads=2, head_dim=4, d_ff=24, vocab_size=32)
B, T, STEPS = 8, 16, 3

# The strategies add the same numbers in another order. The longest chain of additions: the B T tokens, in each of L
# layers, there and back, D + N H + F + T numbers, and the vocabulary. Each addition rounds by half an eps.
CHAIN = B * T + 2 * CFG.n_layers * (16 + 24 + 24 + 16) + 32
ROUNDING = CHAIN * np.finfo(np.float64).eps / 2  # 1e-13; up to 5e-15 was seen

CASES = {
    "data": ("data=8", {}),
    "fsdp": ("fsdp=8", {}),
    "zero2": ("data=2,fsdp=4", {"zero": 2}),
    "zero1": ("data=2,fsdp=4", {"zero": 1}),
    "model": ("model=2", {}),
    "model-remat": ("model=2", {"remat": True}),
    "norm": ("model=2", {"sequence": "norm"}),
    "gather": ("seq=4", {"sequence": "gather"}),
    "ring": ("seq=4", {"sequence": "ring"}),
    "zigzag": ("seq=4", {"sequence": "ring", "zigzag": True}),
    "pipe": ("pipe=4", {"microbatches": 8}),
    "data-fsdp-model": ("data=2,fsdp=2,model=2", {}),
    "data-fsdp-norm": ("data=2,fsdp=2,model=2", {"sequence": "norm"}),
    "fsdp-zigzag-model": ("fsdp=2,seq=2,model=2", {"sequence": "ring", "zigzag": True}),
    "pipe-data-model": ("pipe=2,data=2,model=2", {}),
    "pipe-fsdp-seq": ("pipe=2,fsdp=2,seq=2", {"sequence": "gather"}),
    "pipe-fsdp-gather": ("pipe=2,fsdp=2,seq=2", {"sequence": "gather", "zero": 1}),
}
# With the untied model every axis, every way to cut the sequence and every stage of ZeRO; the rest is slow.
QUICK = ("fsdp-zigzag-model", "pipe-fsdp-gather")

# JAX's names of the collectives that we write, as XLA's metadata keeps them; the rest the compiler made.
OURS = ("psum", "pmax", "all_gather", "reduce_scatter", "ppermute")


class Run(NamedTuple):
    """What STEPS steps gave."""

    losses: list
    grads: Any  # of the first step, plain
    change: Any  # of the weights over all steps, plain
    ours: tuple  # collectives that the strategies wrote
    compilers: tuple  # collectives that the compiler added for the optimizer
    moved: list  # paths of arrays that did not stay where they lay


def remember(optimizer):
    """Return the optimizer with the gradients it was given in its state: the step is compiled once for both."""

    def update(grads, state, params):
        updates, inner = optimizer.update(grads, state[0], params)
        return updates, (inner, grads)

    return optax.GradientTransformation(lambda params: (optimizer.init(params), params), update)


# Apple's, with scales that differ between leaves and a limit that some blocks reach.
SCALES = mup_scales(CFG, base_dim=8)
OPTIMIZER = remember(afm_optimizer(0.3, warmup_cosine(2, 10), update_clip=0.5, update_scale=SCALES))


def params64(cfg=CFG):
    """Return float64 weights with gains that are no ones."""
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda a: a + 0.1 * rng.standard_normal(a.shape), transformer.init(cfg, 0))


def batch(step):
    """Return a packed batch: documents of several lengths, some targets without weight."""
    rng = np.random.default_rng(step)
    tokens = rng.integers(0, CFG.vocab_size, (B, T + 1)).astype(np.int32)
    documents = np.sort(rng.integers(0, 3, (B, T)), axis=1).astype(np.int32)
    return losses.Batch(tokens[:, :-1], tokens[:, 1:], (rng.random((B, T)) < 0.7).astype(np.float64), documents)


def plan_of(name):
    mesh, options = CASES[name]
    return Plan(CFG, mesh, **options)


def stacked(cfg=CFG):
    """Return the weights with layers stacked, only to be compiled once for all."""
    params = params64(cfg)
    return jax.tree.map(jnp.asarray, params._replace(layers=containers.group(params.layers)[0]))


LOSS = functools.partial(losses.next_token, cfg=CFG)


@functools.cache
def single():
    """Return the run of the plain model on one device."""
    with jax.enable_x64(True):
        return run(stacked(), LOSS, batch)


@functools.cache
def sharded(name):
    plan = plan_of(name)
    with jax.enable_x64(True):
        return run(place(params64(), plan), NextToken(plan), lambda step: place_batch(batch(step), plan), unplace)


def ours(found):
    return tuple(c for c in found if c.op_name.split("/")[-1].startswith(OURS))


def run(params, loss, batches, plain=containers.ungrouped, optimizer=OPTIMIZER, like=None):
    """Return what STEPS steps give; plain makes weights those of transformer.init."""
    step, before = training.make_step(loss, optimizer, like), jax.tree.map(np.asarray, params)
    trainable, frozen = training.split(params)
    state = optimizer.init(jax.tree.map(jnp.copy, trainable))
    lowered = step.lower(trainable, state, frozen, batches(0))
    compiled, found = collectives.compile_and_count(lowered, collectives.QUICK)
    values, grads, places = [], None, _places(trainable)
    for i in range(STEPS):
        trainable, state, metrics = compiled(trainable, state, frozen, batches(i))
        values.append(float(metrics["loss"]))
        grads = jax.tree.map(np.asarray, state[1]) if grads is None else grads
    moved = [path for path, where in _places(trainable).items() if where != places[path]]
    change = jax.tree.map(lambda new, old: np.asarray(new) - old, trainable, before)
    others = tuple(c for c in found if c not in ours(found))
    return Run(values, plain(grads), plain(change), ours(found), others, moved)


def check(got, want):
    """Losses, every gradient and every change of a weight, each within rounding of the leaf's largest entry."""
    np.testing.assert_allclose(got.losses, want.losses, rtol=ROUNDING)
    assert jax.tree.structure(got.grads) == jax.tree.structure(want.grads)
    of_all = zip(*(jax.tree.leaves(tree) for tree in (want.grads, got.grads, want.change, got.change)))
    for g, got_g, change, got_change in of_all:
        largest = np.abs(g).max()
        assert got_g.dtype == np.float64 and np.abs(got_g - g).max() <= ROUNDING * largest
        # RMSProp divides each entry by its own size: what rounds off the largest weighs more in the smallest.
        worst = largest / np.abs(g[g != 0]).min()
        assert np.abs(got_change - change).max() / np.abs(change).max() <= STEPS * ROUNDING * worst


def _places(tree):
    return {leaf_name(path): leaf.sharding for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
