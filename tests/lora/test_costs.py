"""Counts against Apple's published sizes and against real arrays."""

import jax

from afm_ref import lora, training
from afm_ref.config import AFM_ON_DEVICE
from afm_ref.lora.costs import adapter_parameters, training_bytes
from afm_ref.pretraining import afm_optimizer, warmup_cosine
from tests.lora.models import CFG, base_params


def test_on_device_counts():
    """Per layer R (2 x 6144 + 2 x 4096 + 3 x 11136) = R 53,888, worked out by hand."""
    assert adapter_parameters(AFM_ON_DEVICE, 16) == 26 * 16 * 53_888 == 22_417_408
    assert adapter_parameters(AFM_ON_DEVICE, 16, lora.ATTENTION) * 2 == 17_039_360  # bytes in 16 bits


def test_training_bytes_are_those_of_the_arrays():
    for rank in (None, 3):
        params = base_params() if rank is None else lora.attach(base_params(), rank=rank)
        weights, _ = training.split(params, None if rank is None else lora.trainable)
        state = jax.eval_shape(afm_optimizer(0.01, warmup_cosine(0, 10)).init, weights)
        predicted = training_bytes(CFG, rank)
        count = lambda tree: sum(4 * leaf.size for leaf in jax.tree.leaves(tree))  # noqa: E731
        assert predicted["base"] + predicted["adapter"] == count(params)
        assert predicted["gradients"] == count(weights)
        assert predicted["moments"] == count((state.v, state.m))
