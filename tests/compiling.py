"""Compiling in tests that run programs a few times only: each once, and quickly."""

import contextlib
from unittest import mock

import jax
from jax._src import compiler
from jax.experimental.compilation_cache import compilation_cache

CACHE = "jax_compilation_cache_dir"
# Fusions by the older emitters: less than half the time of compiling (10.2 s -> 4.5 s in tests/training/test_fit.py).
# The option belongs to a jit, and tests compile what the package jits: hence the patch, of a name that jax may move.
EMITTERS = {"xla_cpu_use_fusion_emitters": False}


@contextlib.contextmanager
def quickly(folder):
    """Let JAX compile each program once for all runs, keep it in a folder, and leave out most optimizations."""
    original = compiler.get_compile_options

    def options(*args, env_options_overrides=None, **more):
        return original(*args, env_options_overrides=EMITTERS | dict(env_options_overrides or {}), **more)

    with (
        once(folder, jax_disable_most_optimizations=(True, False)),
        mock.patch.object(compiler, "get_compile_options", options),
    ):
        yield


@contextlib.contextmanager
def once(folder, **more):
    """Let JAX compile each program once for all runs, as shipped, and keep it in a folder: the same bits each time."""
    options = {  # what it is, and what it was
        CACHE: (str(folder), getattr(jax.config, CACHE)),
        "jax_persistent_cache_min_compile_time_secs": (0, jax.config.jax_persistent_cache_min_compile_time_secs),
        **more,
    }
    _set({name: value for name, (value, _) in options.items()})
    try:
        yield
    finally:
        _set({name: before for name, (_, before) in options.items()})


def _set(options):
    for name, value in options.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()  # or it would go on in the other folder
