"""What these tests need: the extra `oracles`. With AFM_REF_ORACLES=required the root conftest.py fails what skips."""

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
