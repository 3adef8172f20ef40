"""The environment that tests and notebooks run in: set before JAX, BLAS or a kernel starts."""

import os

ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",  # the same numbers with and without an accelerator
    "NPROC": "2",  # threads of XLA's CPU client: the stated times are for two cores, NumPy on one
    "OMP_NUM_THREADS": "1",  # of NumPy: with two tests at a time, two threads each wait for one another
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",  # its threads and a later fork do not mix
    "HF_HUB_OFFLINE": "1",  # nothing is fetched while testing
    "TRANSFORMERS_OFFLINE": "1",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # kernels: no debugger warning on stderr
    "PYTHONHASHSEED": "0",
}


def prepare() -> None:
    """Set ENVIRONMENT in this process and thereby in those it starts; what the user has set stays."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
