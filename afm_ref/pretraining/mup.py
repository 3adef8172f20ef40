"""muP-simple: which weights learn slower in a wider model, and by how much."""

from collections.abc import Callable

from ..config import MATRICES, AFMConfig


def mup_scales(cfg: AFMConfig, base_dim: int = 768) -> Callable[[str], float]:
    """Return path -> factor of the learning rate: of attention and FFN matrices, 1 for the
    rest.

        scale = min(1, base_dim / d_model)          0.25 at d_model 3072

    The path is a leaf's, such as "layers.3.wq". For `afm_optimizer` as `update_scale`.

    Source: TR24 section 3.2 (muP-simple) [confirmed]; base_dim, cap and list of matrices
        from AXLearn [inferred].
    Test: tests/pretraining/test_optimizer.py::test_mup_scales
    """
    return on_matrices(min(1.0, base_dim / cfg.d_model))


def on_matrices(scale) -> Callable[[str], float]:
    """Return path -> this factor for attention and FFN matrices, 1 for the rest."""
    return lambda path: scale if set(MATRICES) & set(path.split(".")) else 1.0
