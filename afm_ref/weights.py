"""The tree of a model's weights, and the list of their shapes that everything else is made
from.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .config import AFMConfig, matrix_shapes


class Layer(NamedTuple):
    """One block's weights. Matrices are [out, in]; any of them may be a weight with
    `.apply` instead.
    """

    attention_norm: Any  # [D]
    wq: Any  # [N*H, D]
    # [K*H, D], or None: attend with the keys and values of the last layer that has them
    wk: Any
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


def weight(cls):
    """Make a class a frozen dataclass and, where JAX is installed, a tree of its fields of
    type Any; the others are settings.
    """
    cls = dataclasses.dataclass(frozen=True, eq=False)(cls)
    try:
        import jax
    except ImportError:  # NumPy alone runs the model
        return cls
    leaves, settings = [], []
    for field in dataclasses.fields(cls):
        (leaves if field.type is Any else settings).append(field.name)
    if not leaves:
        raise TypeError(f"{cls.__name__} needs a field of type Any, its array")
    return jax.tree_util.register_dataclass(cls, leaves, settings)


def leaf_name(path) -> str:
    """Return the key path of a leaf, as JAX has it, as text: "layers.3.wq"."""
    import jax

    return jax.tree_util.keystr(path, simple=True, separator=".")


def shaped(cfg: AFMConfig, array: Callable, lead: tuple = ()) -> Params:
    """Return a model with array(*shape) in place of every weight.

    lead: axes in front of every shape of a layer, for layers that are stacked; then
    `layers` holds one such layer.

    Source: TR24 section 2 and Table 1 [confirmed].
    Test: tests/config/test_config.py::test_counts_equal_the_sizes_of_real_arrays
    """
    D, H = cfg.d_model, cfg.head_dim

    def layer():
        shapes = matrix_shapes(cfg) | {"attention_norm": (D,), "ffn_norm": (D,)}
        if cfg.qk_norm:
            shapes |= {"q_norm": (H,), "k_norm": (H,)}
        made = {name: array(*lead, *shape) for name, shape in shapes.items()}
        return Layer(**{"q_norm": None, "k_norm": None} | made)

    embed = array(cfg.vocab_size, D)
    layers = (layer(),) if lead else tuple(layer() for _ in range(cfg.n_layers))
    return Params(
        embed, layers, array(D), None if cfg.tie_embeddings else array(cfg.vocab_size, D)
    )


def init(cfg: AFMConfig, seed: int) -> Params:
    """Return fresh float32 NumPy weights: matrices normal with std 1/sqrt(fan_in), gains
    one.

    The tied embedding is read as the output matrix, whose fan-in is D: logits start near
    unit size.

    Source: AXLearn common.model_config (fan-in scaled normal) [inferred].
    Test: tests/transformer/test_transformer.py::test_init_scales_by_fan_in
    """
    rng = np.random.default_rng(seed)

    def array(*shape):
        if len(shape) == 1:
            return np.ones(shape, np.float32)
        return rng.standard_normal(shape, dtype=np.float32) * np.float32(shape[-1] ** -0.5)

    return shaped(cfg, array)
