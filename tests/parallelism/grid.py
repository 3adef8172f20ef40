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
# With UNTIED every axis, every way to cut the sequence and every stage of ZeRO in three programs; the rest is slow.
QUICK = ("fsdp-zigzag-model", "pipe-fsdp-gather")
UNTIED = {"untied": ("data=2,fsdp=2,model=2", {"sequence": "norm", "zero": 2})}

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
    compiled: Any


def remember(optimizer):
    """Return the optimizer with the gradients it was given in its state: the step is compiled once for both."""

    def update(grads, state, params):
        updates, inner = optimizer.update(grads, state[0], params)
        return updates, (inner, grads)

    return optax.GradientTransformation(lambda params: (optimizer.init(params), params), update)


def optimizer(cfg=CFG):
    """Return Apple's, with scales that differ between leaves and a limit that some blocks reach."""
    return remember(afm_optimizer(0.3, warmup_cosine(2, 10), update_clip=0.5, update_scale=mup_scales(cfg, base_dim=8)))


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


def plan_of(name, cfg=CFG):
    """Return the plan of a case."""
    mesh, options = (CASES | UNTIED)[name]
    return Plan(cfg, mesh, **options)


@functools.cache
def single(cfg=CFG):
    """Return the run of the plain model on one device; its layers are stacked only to be compiled once for all."""
    stacked = params64(cfg)
    stacked = jax.tree.map(jnp.asarray, stacked._replace(layers=containers.group(stacked.layers)[0]))
    run = _run(stacked, lambda p, b: losses.next_token(p, b, cfg), batch, cfg)
    grads, change = (tree._replace(layers=containers.ungroup(tree.layers)) for tree in (run.grads, run.change))
    return run._replace(grads=grads, change=change)


@functools.cache
def sharded(name, cfg=CFG):
    """Return the run of a case."""
    plan = plan_of(name, cfg)
    run = _run(place(params64(cfg), plan), NextToken(plan), lambda step: place_batch(batch(step), plan), cfg)
    return run._replace(grads=unplace(run.grads), change=unplace(run.change))


def _run(params, loss, batches, cfg):
    step, before = training.make_step(loss, optimizer(cfg)), jax.tree.map(np.asarray, params)
    trainable, frozen = training.split(params)
    state = optimizer(cfg).init(jax.tree.map(jnp.copy, trainable))
    lowered = step.lower(trainable, state, frozen, batches(0))
    compiled, found = collectives.compile_and_count(lowered, collectives.QUICK)
    values, grads, places = [], None, _places(trainable)
    for i in range(STEPS):
        trainable, state, metrics = compiled(trainable, state, frozen, batches(i))
        values.append(float(metrics["loss"]))
        grads = jax.tree.map(np.asarray, state[1]) if grads is None else grads
    moved = [path for path, where in _places(trainable).items() if where != places[path]]
    change = jax.tree.map(lambda new, old: np.asarray(new) - old, trainable, before)
    ours = tuple(c for c in found if c.op_name.split("/")[-1].startswith(OURS))
    return Run(values, grads, change, ours, tuple(c for c in found if c not in ours), moved, compiled)


def _places(tree):
    return {leaf_name(path): leaf.sharding for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
