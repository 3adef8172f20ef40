"""Weights for serving: adapters whose scale is data, and a batch in which every row uses another adapter.

What differs between adapters are values, never shapes or settings, so that one compiled program serves all of them.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from .. import ops
from .adapter import in_dtype


@dataclasses.dataclass(frozen=True, eq=False)
class Served:
    """A weight with one adapter, as `LoRA`, but with a scale that is data: adapters of any scale share a program.

        y = W0 x + scale B (A x)

    Source: Hu et al. 2021 equation 3 [standard].
    Test: tests/lora/test_bank.py::test_served_alone_equals_the_adapter_itself
    """

    base: Any
    a: Any  # [R, in]
    b: Any  # [out, R]
    scale: Any  # a float32 number

    @property
    def shape(self):
        """Return the shape of the whole matrix, [out, in]."""
        return self.base.shape

    def apply(self, x):
        """Return the base's output plus the adapter's."""
        a, b = in_dtype(self.a, x.dtype), in_dtype(self.b, x.dtype)
        scale = jnp.asarray(self.scale, x.dtype)
        return ops.linear(x, self.base) + scale * ops.linear(ops.linear(x, a), b)


@dataclasses.dataclass(frozen=True, eq=False)
class Mixed:
    """A weight with several adapters, of which each row of the batch uses the one that its index names.

        y_bt = W0 x_bt + scale_e B_e (A_e x_bt),   e = index_b          E slots, one of them all zeros: the base alone

    The base is multiplied once for the whole batch. The thin matrices of a row are gathered, and all rows multiplied
    as a batch of small products.

    Source: Chen et al. 2023 (Punica), section 4 [standard]; that Apple mixes adapters in a batch is not stated [ours].
    Test: tests/lora/test_bank.py::test_a_mixed_batch_equals_each_request_alone
    """

    base: Any
    a: Any  # [E, R, in]
    b: Any  # [E, out, R]
    scale: Any  # [E] float32
    index: Any  # [B] int32

    @property
    def shape(self):
        """Return the shape of the whole matrix, [out, in]."""
        return self.base.shape

    def apply(self, x):
        """Return W x for x: [B, ..., in], whose first axis is that of index."""
        a, b = (in_dtype(m[self.index], x.dtype) for m in (self.a, self.b))  # [B, R, in], [B, out, R]
        rows = x.reshape(x.shape[0], -1, x.shape[-1])  # [B, T, in]
        thin = jnp.einsum("bti,bri->btr", rows, a) * self.scale[self.index].astype(x.dtype)[:, None, None]
        y = jnp.einsum("btr,bor->bto", thin, b)
        return ops.linear(x, self.base) + y.reshape(*x.shape[:-1], b.shape[1])


for cls in (Served, Mixed):
    jax.tree_util.register_dataclass(cls, data_fields=[field.name for field in dataclasses.fields(cls)], meta_fields=[])
