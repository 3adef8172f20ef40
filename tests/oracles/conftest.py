"""What these tests need: the extra `oracles`. With AFM_REF_ORACLES=required the root conftest.py fails what skips."""

import logging
import warnings

import pytest


@pytest.fixture(scope="session")
def transformers():
    """transformers with torch, or a skip. Warnings of their own imports are theirs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("torch", "transformers"):
            pytest.importorskip(name, reason="pip install -e .[oracles]")
        import transformers
    transformers.utils.logging.disable_progress_bar()
    return transformers


@pytest.fixture(scope="session")
def mlx_lm():
    """mlx-lm's afm7, or a skip."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("mlx.core", "mlx_lm.models.afm7"):
            pytest.importorskip(name, reason="pip install -e .[oracles]")


@pytest.fixture(scope="session")
def kmeans1d():
    """kmeans1d, or a skip."""
    return pytest.importorskip("kmeans1d", reason="pip install -e .[oracles]")


@pytest.fixture(scope="session")
def coremltools():
    """coremltools with torch, or a skip. It logs that it does not know this torch, and every block of a matrix."""
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("torch", "coremltools"):
            pytest.importorskip(name, reason="pip install -e .[oracles]")
        import coremltools.optimize.torch.palettization
    yield coremltools
    logging.disable(logging.NOTSET)
