"""Settings of every test run, made before anything imports JAX or afm_ref."""

import os
import signal

import pytest

from tools import environment, typechecker

environment.prepare()  # notebook kernels and subprocesses inherit it

import jax  # noqa: E402
from hypothesis import HealthCheck, Phase, settings  # noqa: E402

from tests import compiling  # noqa: E402

# Meshes need devices: one CPU passes for eight. It must be said before the first array is made, whoever makes it.
jax.config.update("jax_num_cpu_devices", 8)

# A job in a script's background ignores Ctrl-C, and so would the processes that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Every annotated shape of the package is checked at each call. It stays installed for the whole run.
typechecker.install("afm_ref")

settings.register_profile(
    "afm_ref", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "no_shrink", settings.get_profile("afm_ref"), phases=[Phase.explicit, Phase.reuse, Phase.generate]
)
settings.load_profile(os.environ.get("AFM_REF_HYPOTHESIS", "afm_ref"))  # tools.mutate only asks whether it fails

# Tests of what was compiled, and of processes that must give the same bits as this one.
COMPILED_AS_SHIPPED = ("parallelism/", "config/", "oracles/", "training/test_resume.py")
ORACLES_REQUIRED = os.environ.get("AFM_REF_ORACLES") == "required"


@pytest.fixture(autouse=True, scope="module")
def _compile_quickly(request, tmp_path_factory):
    """Save a third of the time: values hardly depend on it. Not where the compiled program itself is looked at."""
    if any(f"/tests/{place}" in request.path.as_posix() for place in COMPILED_AS_SHIPPED):
        yield
    else:
        base = tmp_path_factory.getbasetemp()
        workers_share = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
        # tools.mutate names one for all its runs: most programs have no fault in them
        with compiling.quickly(os.environ.get("AFM_REF_COMPILED", workers_share / "compiled")):
            yield


@pytest.fixture(autouse=True)
def _strict_dtypes(request):
    """Let the model's own tests fail where dtypes mix, for that is where float64 creeps in.

    Only there: optax raises a float to an integer array, which strict promotion refuses. Ranks may be promoted
    everywhere: a gain [D] times x [B, T, D] is meant, and the shapes in signatures catch what is not.
    """
    strict = "/tests/transformer/" in request.path.as_posix()
    with jax.numpy_dtype_promotion("strict" if strict else "standard"):
        yield


def pytest_configure(config):
    """Draw without a window, and build matplotlib's font cache now, not on a compared cell's stderr."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.font_manager


def pytest_collection_modifyitems(items):
    """Mark what stands in tests/oracles, so that `-m oracles` selects it."""
    for item in items:
        if "/tests/oracles/" in item.path.as_posix():
            item.add_marker(pytest.mark.oracles)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Where the oracles are required (AFM_REF_ORACLES=required, as in CI) a skipped comparison is a failed one."""
    report = yield
    if ORACLES_REQUIRED and report.skipped and item.get_closest_marker("oracles") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, but AFM_REF_ORACLES=required: {call.excinfo.value}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    """The same for a whole module that skips itself (pytest.importorskip)."""
    report = yield
    if ORACLES_REQUIRED and report.skipped and "tests/oracles" in collector.nodeid:
        report.outcome = "failed"
        report.longrepr = f"{collector.nodeid} was skipped, but AFM_REF_ORACLES=required: {report.longrepr}"
    return report
