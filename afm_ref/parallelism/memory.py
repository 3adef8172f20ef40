"""The bytes that a training step holds on one device, by formula."""

import math

import jax
import numpy as np

from ..config import layer_parameters
from .placing import abstract
from .plan import Plan, check_batch


def memory(plan: Plan, B: int, T: int, bytes_per_number: int = 4) -> dict[str, float]:
    """Return {part: bytes a device holds} at the peak of a training step with two numbers of optimizer state a weight.

    With P the weights of one device, W a layer's matrices / m, E the embedding / m, l its layers, n its tokens (in a
    pipeline those of the bubble too), the numbers are

        weights, optimizer    P,  2 P
        gradients             P,  and P once more where an all-reduce makes a summed copy
        gathered              fsdp:  the embedding and its gradient 2 E, and of the layers' weights and gradients
                                     2 W (zero 3),  (l + 1) W (zero 2),  2 l W (zero 1)
        activations           n l a;   with remat n l D (D/m with "norm")
        at work               the larger of the logits, 3 V/m a token, and with remat one layer, a a token

        a = 9 D + (4 N H + 4 K H + 7 F + 2 N S)/m

    is what the backward pass of our block keeps of a token, S the keys that it sees at a time: T, or T/s in a ring.
    All parts but the last are taken as alive at once, and no temporary of the compiler is counted. Beside arguments +
    temporaries of programs compiled for the CPU it lay between 18% below and 22% above.

    Source: Korthikanti et al. 2022 section 4 (counting activations) [standard]; the counts are of our own block [ours].
    Test: tests/parallelism/test_memory.py::test_memory_formula_beside_the_compiled_program
    """
    check_batch(plan, B, T)
    shape, cfg, zero = plan.shape, plan.cfg, plan.zero
    weights = sum(_local(leaf) for leaf in jax.tree.leaves(abstract(plan, np.float32)))
    copied = 2 if shape.data * shape.seq > 1 else 1
    layers = cfg.n_layers // shape.pipe
    per_layer = layer_parameters(cfg)
    matrices = (per_layer["attention"] + per_layer["ffn"]) / shape.model
    tables = cfg.vocab_size * cfg.d_model * (1 if cfg.tie_embeddings else 2) / shape.model
    gathered = 2 * tables + {1: 2 * layers, 2: layers + 1, 3: 2}[zero] * matrices if shape.fsdp > 1 else 0
    tokens = B * T / (shape.data * shape.fsdp * shape.seq)
    micro = tokens / plan.microbatches
    through = micro * (plan.microbatches + shape.pipe - 1)  # with the bubble
    a = kept_per_token(plan, T)
    stream = cfg.d_model / (shape.model if plan.sequence == "norm" else 1)
    numbers = {
        "weights": weights,
        "optimizer": 2 * weights,
        "gradients": copied * weights,
        "gathered": gathered,
        "activations": through * layers * (stream if plan.remat else a),
        "at work": max(3 * tokens * cfg.vocab_size / shape.model, micro * a * plan.remat),
    }
    return {part: count * bytes_per_number for part, count in numbers.items()}


def kept_per_token(plan: Plan, T: int) -> float:
    """Return the numbers that the backward pass of a block keeps of each token, a in `memory`.

    Source: counted for our own block [ours].
    Test: tests/parallelism/test_memory.py::test_what_a_block_keeps_is_what_jax_says
    """
    cfg, m = plan.cfg, plan.shape.model
    keys = T // plan.shape.seq if plan.sequence == "ring" else T
    heads = cfg.head_dim * (cfg.n_heads + cfg.n_kv_heads)
    return 9 * cfg.d_model + (4 * heads + 7 * cfg.d_ff + 2 * cfg.n_heads * keys) / m


def _local(leaf):
    return math.prod(leaf.sharding.shard_shape(leaf.shape))
