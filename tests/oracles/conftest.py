"""What these tests need: the extra `oracles`. With AFM_REF_ORACLES=required the root conftest.py fails what skips."""

import logging
import warnings

import pytest


def found(*names):
    """Return the last of these modules, or skip. Warnings of their own imports are theirs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [pytest.importorskip(name, reason="pip install -e .[oracles]") for name in names][-1]


@pytest.fixture(scope="session")
def transformers():
    module = found("torch", "transformers")
    module.utils.logging.disable_progress_bar()
    return module


@pytest.fixture(scope="session")
def peft(transformers):
    return found("peft")


@pytest.fixture(scope="session")
def trl(transformers):
    return found("trl")


@pytest.fixture(scope="session")
def mlx_lm():
    return found("mlx.core", "mlx_lm.models.afm7")


@pytest.fixture(scope="session")
def kmeans1d():
    return found("kmeans1d")


@pytest.fixture(scope="session")
def coremltools():
    """It logs that it does not know this torch, and every block of a matrix."""
    logging.disable(logging.WARNING)
    yield found("torch", "coremltools", "coremltools.optimize.torch.palettization")
    logging.disable(logging.NOTSET)
