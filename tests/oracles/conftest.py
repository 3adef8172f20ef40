"""What these tests need: the extra `oracles`. With AFM_REF_ORACLES=required the root conftest.py fails what skips."""

import importlib.util
import logging
import warnings

import pytest


def found(*names):
    """Return the last of these modules; skip where a package is missing. Warnings of their own imports are theirs.

    A package that is there and cannot be imported is an error, and so is a submodule that it lacks.
    """
    if not all(importlib.util.find_spec(name.partition(".")[0]) for name in names):
        pytest.skip("pip install -e .[oracles]")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [importlib.import_module(name) for name in names][-1]


session = pytest.fixture(scope="session")


@session
def transformers():
    module = found("torch", "transformers")
    module.utils.logging.disable_progress_bar()
    return module


peft, trl = session(lambda transformers: found("peft")), session(lambda transformers: found("trl"))
mlx_lm, kmeans1d = session(lambda: found("mlx.core", "mlx_lm.models.afm7")), session(lambda: found("kmeans1d"))


@session
def coremltools():
    """It logs that it does not know this torch, and every block of a matrix."""
    logging.disable(logging.WARNING)
    yield found("torch", "coremltools", "coremltools.optimize.torch.palettization")
    logging.disable(logging.NOTSET)
