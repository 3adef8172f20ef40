"""The run-time type checker of the tests: every shape that a signature of the package names, at each call."""

import inspect
import typing

import jaxtyping
from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int may stand for a float, as PEP 484 has it


def install(package: str) -> None:
    """Have whatever is imported from `package` hereafter checked.

    jaxtyping's hook wraps every function and class; nine of ten name no array, and wrapping those as well took a fifth
    of the CPU seconds of four rooms.
    """
    every = jaxtyping.jaxtyped

    def with_shapes(**options):
        return lambda what: every(what, **options) if names_an_array(what) else what

    jaxtyping.jaxtyped = with_shapes  # the hook writes this name above each definition
    jaxtyping.install_import_hook(package, f"{__name__}.check")


def names_an_array(what) -> bool:
    """Whether an annotation of a function, or of a class's fields, has a shape in it."""
    return any(map(_has_a_shape, inspect.get_annotations(inspect.unwrap(what)).values()))


def _has_a_shape(annotation) -> bool:
    if isinstance(annotation, type) and issubclass(annotation, jaxtyping.AbstractArray):
        return True
    return any(map(_has_a_shape, typing.get_args(annotation)))
