"""`check`: a claim of a notebook that is tested each time the notebook runs."""

import numpy as np


def check(
    claim: str,
    ok,
    tolerance: float | None = None,
    reason: str = "",
    between: tuple | None = None,
) -> None:
    """Print the claim with a tick if it holds; raise AssertionError if it does not.

    ok is one of
    - True or False;
    - a difference (number or array) with a `tolerance`: its largest absolute entry may be
      at most that;
    - a number with `between=(low, high)`.

    `reason` says where the tolerance or range comes from. A number ends the line in three
    digits, as " [measured 3.1e-07]": the one thing in it that may differ between machines,
    which nbval is told to leave out (tools/measured.cfg). NaN never passes.
    """
    if not claim:
        raise ValueError("check needs a claim: a sentence that says what must hold")
    if tolerance is not None and between is not None:
        raise ValueError("check takes a tolerance or a range, not both")
    if between is not None:
        low, high = between
        measured = float(np.asarray(ok))
        passed, allowed = bool(low <= measured <= high), f"between {low:g} and {high:g}"
    elif tolerance is not None:
        measured = float(np.max(np.abs(np.asarray(ok, dtype=np.float64)), initial=0.0))
        passed, allowed = bool(measured <= tolerance), f"difference at most {tolerance:g}"
    elif isinstance(ok, bool | np.bool_):
        measured, passed, allowed = None, bool(ok), ""
    else:
        raise TypeError(
            f"check({claim!r}) got {type(ok).__name__}: give True or False, or a number with tolerance= or between="
        )
    detail = "; ".join(filter(None, (allowed, reason)))
    if not passed:
        shown = "" if measured is None else f"\n    measured: {measured:.3g}"
        wanted = f"\n    expected: {detail}" if detail else ""
        raise AssertionError(
            f"this does not hold: {claim}{shown}{wanted}\n"
            "    If you changed a cell above, undo it or restart the kernel and run all cells in order."
        )
    size = "" if measured is None else f" [measured {measured:.3g}]"
    print(f"✓ {claim}" + (f" ({detail})" if detail else "") + size)
