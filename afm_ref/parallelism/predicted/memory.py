"""What lies on one device in a training step, by formula."""

from ...config import layer_parameters
from ..sharded.plan import Plan

F32 = 4  # bytes of a weight and of each of the optimizer's two moments


def held_parameters(plan: Plan) -> dict[str, int]:
    """Return the numbers of the weights that one device holds between steps, by part.

    On f, p, m devices along fsdp, pipe and model: L/p layers' matrices and the embedding,
    over f m, and gains that are whole.
    """
    cfg, shape, layer = plan.cfg, plan.shape, layer_parameters(plan.cfg)
    layers, cut = cfg.n_layers // shape.pipe, shape.fsdp * shape.model
    return {
        "matrices": layers * (layer["attention"] + layer["ffn"]) // cut,
        "embedding": tables(plan) // cut,
        "gains": layers * layer["norms"],
        "last gain": cfg.d_model,
    }


def tables(plan: Plan) -> int:
    """Return the numbers of the embedding, and of an output head of its own."""
    return plan.cfg.vocab_size * plan.cfg.d_model * (1 if plan.cfg.tie_embeddings else 2)


def held_bytes(
    plan: Plan, B: int, T: int, width: int = 2, fused_attention: bool = True
) -> dict[str, float]:
    """Return {part: bytes of one device} at the worst moment of a step.

    Of one device: held, the sum of `held_parameters`; layer and table, one layer's matrices
    and the embedding, each / model; its layers; its tokens (in a pipeline those of the
    bubble too); kept, of `kept_per_token`. `width` bytes a number but for the state:

        weights        4 held, and width held for a copy where width is not 4
        optimizer      2 (4 held)
        gradients      held, and once more where an all-reduce makes a summed copy
        gathered       fsdp: 2 table, for it and its gradient, and of the layers 2 layer
                       (zero 3), (layers + 1) layer (zero 2), 2 layers layer (zero 1)
        activations    tokens layers kept, with remat tokens layers D (D / model with
                       "norm"), and the larger of the logits, tokens 3 V / model, and with
                       remat one layer, tokens kept

    All parts are taken as alive at once, and no temporary of the compiler is counted.
    Small explicit programs compiled for CPUs take from 18% less to 6% more; AFM-on-device by
    annotation 12% to 86% more on CPUs, 6% to 50% more on TPUs.

    Source: Rajbhandari et al. 2020 section 3 (states), Korthikanti et al. 2022 section 4
        (activations) [standard].
    Test: tests/parallelism/test_predicted.py::test_memory_formula_beside_the_compiled_program
    """
    plan.order(B, T)
    cfg, shape, layer = plan.cfg, plan.shape, layer_parameters(plan.cfg)
    held = sum(held_parameters(plan).values())
    layers = cfg.n_layers // shape.pipe
    matrices = (layer["attention"] + layer["ffn"]) / shape.model
    of_layers = {1: 2 * layers, 2: layers + 1, 3: 2}[plan.zero] * matrices
    gathered = 2 * tables(plan) / shape.model + of_layers
    tokens = B * T / (shape.data * shape.fsdp * shape.seq)
    ticks = (plan.microbatches + shape.pipe - 1) / plan.microbatches
    kept = kept_per_token(plan, T, fused_attention)
    stream = cfg.d_model / (shape.model if plan.sequence == "norm" else 1)
    between_passes = tokens * ticks * layers * (stream if plan.remat else kept)
    at_work = max(
        3 * tokens * cfg.vocab_size / shape.model,
        tokens / plan.microbatches * kept * plan.remat,
    )
    return {
        "weights": (F32 + (width if width < F32 else 0)) * held,
        "gradients": width * held * (2 if shape.data * shape.seq > 1 else 1),
        "optimizer": 2 * F32 * held,
        "activations": width * (between_passes + at_work),
        "gathered": width * gathered if shape.fsdp > 1 else 0.0,
    }


def kept_per_token(plan: Plan, T: int, fused_attention: bool = False) -> float:
    """Return the numbers that the backward pass of a block keeps of each token.

        9 D + (4 N H + 4 K H + 7 F + 2 N S) / model

    S: keys seen at once, T, in a ring T / seq. 9 D: the stream before both norms, their
    quotients, and what wq, wk, wv, w_gate and w_up read. 4 N H: q before its norm, its
    quotient, q scaled, what wo reads. 4 K H: k before its norm, its quotient, k, v. 7 F: gate,
    up, four steps of silu(gate), what w_down reads. 2 N S: exponentials and weights.

    Fused attention keeps no scores, as if S were 0.

    Source: Korthikanti et al. 2022 section 4, counted for our own block [standard].
    Test: tests/parallelism/test_predicted.py::test_what_a_block_keeps_is_what_jax_says
    """
    cfg, m = plan.cfg, plan.shape.model
    keys = T // plan.shape.seq if plan.sequence == "ring" else T
    heads = cfg.head_dim * (cfg.n_heads + cfg.n_kv_heads)
    scores = 0 if fused_attention else 2 * cfg.n_heads * keys
    return 9 * cfg.d_model + (4 * heads + 7 * cfg.d_ff + scores) / m
