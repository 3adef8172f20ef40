"""Array annotations that cost nothing: jaxtyping's where it is installed, plain
placeholders where it is not.

The core must import with NumPy alone, so shapes in signatures may not force jaxtyping on a
reader.
"""

from typing import Any

# a numpy.ndarray, a jax.Array or a tracer: the code asks only for the array API
Array = Any

try:
    from jaxtyping import Bool, Float, Int, UInt
except ImportError:  # pragma: no cover - exercised by tests/workshop/test_repository.py in a bare environment

    class _Shapeless:
        """Stands in for Float[Array, "B T D"]: any subscript is Any."""

        def __class_getitem__(cls, item):
            return Any

    Bool = Float = Int = UInt = _Shapeless

__all__ = ["Array", "Bool", "Float", "Int", "UInt"]
