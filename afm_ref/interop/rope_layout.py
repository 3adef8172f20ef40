"""From one RoPE layout to the other: the same model with the channels of each head in
another order.
"""

import dataclasses

import numpy as np

from afm_ref.config import AFMConfig
from afm_ref.containers import Remat, Stacked
from afm_ref.lora.adapter import LoRA
from afm_ref.weights import Layer, Params


def rope_permutation(head_dim: int, layout: str) -> np.ndarray:
    """Return the old channel that becomes each channel of a head, on the way to that
    layout: [H].

        to half_split:  0, 2, 4, ..., 1, 3, 5, ...        to interleaved:  0, H/2, 1, H/2 + 1, ...

    Source: the permutation in transformers' Llama conversion script [standard].
    Test: tests/interop/test_golden.py::test_logits_do_not_change
    """
    if layout not in ("interleaved", "half_split"):
        raise ValueError(f"layout must be 'interleaved' or 'half_split', got {layout!r}")
    pairs = np.arange(head_dim).reshape((-1, 2) if layout == "half_split" else (2, -1))
    return pairs.T.reshape(-1)


def permute_rope_layout(
    params: Params, cfg: AFMConfig, layout: str
) -> tuple[Params, AFMConfig]:
    """Return (params, cfg) of the same function, with RoPE's pairs laid out as
    "interleaved" or "half_split".

        wq, wk: rows permuted within each head        q_norm, k_norm: gains permuted alike

    Scores are dot products over a head's channels, so the order of channels is free as long
    as queries and keys agree; values and the output projection stay. Works on NumPy and JAX
    arrays and on stacked layers; the inverse is the same call with the other layout. An
    adapter's base and B are permuted alike; other weights that are no plain arrays raise
    ValueError.

    Source: the permutation in transformers' Llama conversion script [standard].
    Test: tests/interop/test_golden.py::test_logits_do_not_change
    """
    order = rope_permutation(cfg.head_dim, layout)
    if layout == cfg.rope_layout:
        return params, cfg
    return params._replace(layers=_each(params.layers, order)), dataclasses.replace(
        cfg, rope_layout=layout
    )


def _each(layers, order):
    if isinstance(layers, Layer):
        return _permuted(layers, order)
    if isinstance(layers, Stacked | Remat):
        return type(layers)(_each(*layers, order))
    if isinstance(layers, tuple | list):
        return tuple(_each(layer, order) for layer in layers)
    raise ValueError(
        f"cannot permute layers in a {type(layers).__name__}: permute before wrapping them"
    )


def _permuted(layer, order):
    def rows(name, w):
        if w is None:
            return None
        if isinstance(w, LoRA):  # the rows of B are those of the matrix B A
            return dataclasses.replace(w, base=rows(name, w.base), b=rows(name, w.b))
        if not hasattr(w, "__array_namespace__"):
            raise ValueError(
                f"{name} is a {type(w).__name__}: merge it into a plain array before permuting"
            )
        return w.reshape(*w.shape[:-2], -1, len(order), w.shape[-1])[..., order, :].reshape(
            w.shape
        )

    def gains(g):
        return None if g is None else g[..., order]

    return layer._replace(
        wq=rows("wq", layer.wq),
        wk=rows("wk", layer.wk),
        q_norm=gains(layer.q_norm),
        k_norm=gains(layer.k_norm),
    )
