"""What adapters cost: parameters and bytes, from the shapes alone."""

from collections.abc import Iterable

from ..config import AFMConfig, matrix_shapes, parameters
from .adapter import TARGETS, checked_targets


def adapter_parameters(cfg: AFMConfig, rank: int, targets: Iterable[str] = TARGETS) -> int:
    """Return how many numbers an adapter has.

        sum over layers and matrices of R (in + out)

    AFM-on-device at rank 16: 22,417,408, in 16 bits 44.8 MB.

    Source: BLOG24 ("tens of megabytes" at rank 16) [confirmed]; the count is ours [ours].
    Test: tests/lora/test_adapter.py::test_on_device_counts
    """
    shapes = matrix_shapes(cfg)
    return cfg.n_layers * sum(rank * sum(shapes[name]) for name in checked_targets(targets))


def training_bytes(
    cfg: AFMConfig, rank: int | None, weight_bytes: float = 4.0
) -> dict[str, float]:
    """Return the bytes that training holds beside activations: weights, gradients and the
    optimizer's two moments.

        full: 4 P + 4 P + 8 P          LoRA: weight_bytes P + 4 p + 4 p + 8 p

    P are all parameters, p the adapter's; rank None is full fine-tuning, in float32.

    Source: Hu et al. 2021 section 4.2 (no optimizer states for W0) [standard].
    Test: tests/lora/test_adapter.py::test_training_bytes_are_those_of_the_arrays
    """
    P = parameters(cfg)["total"]
    p = P if rank is None else adapter_parameters(cfg, rank)
    base = 4.0 * P if rank is None else weight_bytes * P
    adapter = 0.0 if rank is None else 4.0 * p
    return {"base": base, "adapter": adapter, "gradients": 4.0 * p, "moments": 8.0 * p}
