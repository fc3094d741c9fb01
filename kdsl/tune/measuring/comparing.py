"""Whether two runs gave the same results: integers exactly, floats within a few units in the last place."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

ULPS = 16.0
"""Units in the last place of the array's largest element: room for contraction and the order of sums."""
EPS = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}
"""The distance from 1 to the next number."""


def difference(got: Array, want: Array, terms: float, exact: bool = False) -> str | None:
    """Where `got` is not `want`; None where they agree.

    `terms` is how many operations go into an element: the errors of so many roundings add up as their square
    root. `exact` asks for the same bits (all NaN are one).
    """
    if want.dtype.name not in EPS:
        wrong = got != want
    elif exact:
        with np.errstate(invalid="ignore"):
            wrong = ~((got == want) | (np.isnan(got) & np.isnan(want)))
    else:
        if np.array_equal(got, want):
            return None
        wide = np.dtype(np.float64 if want.dtype.name == "float64" else np.float32)
        with np.errstate(all="ignore"):
            g: Any = got.astype(wide, copy=False)
            w: Any = want.astype(wide, copy=False)
            whole = np.isfinite(w)
            scale = float(np.max(np.abs(w), initial=0.0, where=whole))
            allowed = ULPS * max(1.0, terms) ** 0.5 * EPS[want.dtype.name] * scale
            near = np.abs(g - w) <= allowed
            wrong = ~((whole & near) | (g == w) | (np.isnan(g) & np.isnan(w)))
    if not wrong.any():
        return None
    at = tuple(int(i) for i in np.argwhere(wrong)[0])
    count = int(np.count_nonzero(wrong))
    where = f"[{', '.join(map(str, at))}]"
    return f"{count} of {want.size} elements, the first at {where}: {got[at]!s} instead of {want[at]!s}"
