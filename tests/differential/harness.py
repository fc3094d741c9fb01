"""Runs a program given as text on every target and compares what it leaves and raises, bit for bit."""

from __future__ import annotations

import itertools
import linecache
import re
from typing import Any

import numpy as np

import kdsl
from tests.check import TARGETS, clone, is_float, run

_numbers = itertools.count(1)

PRELUDE = "\n".join(
    (
        "import math",
        "import kdsl",
        "from kdsl import bool_, f16, f32, f64, bf16, i8, i16, i32, i64, u8, u16, u32, u64",
        'N, M, K = kdsl.sizes("N M K")',
        "",
        "",
    )
)


def load(text: str) -> dict[str, Any]:
    """The namespace after executing `text`, whose lines `linecache` knows."""
    filename = f"<program {next(_numbers)}>"
    source = PRELUDE + text
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    space: dict[str, Any] = {"__name__": "program"}
    exec(compile(source, filename, "exec", dont_inherit=True), space)
    return space


Outcome = tuple[str, tuple[Any, ...]]


def outcome(kernel: Any, target: str, args: list[Any]) -> Outcome:
    """("", results and arguments after the call), or (the kind of fault, nothing).

    A condition on sizes is tested at the call by compiled code, where Python meets the index. "refused":
    bounds were proved for scalars whose arithmetic does not wrap, and here it would.
    """
    actual = [clone(a) for a in args]
    try:
        value = run(kernel, target, *actual)
    except (IndexError, kdsl.ArgumentError) as error:
        return "refused" if re.search("` (does not fit|is too large for index)", str(error)) else "index", ()
    except kdsl.TargetError:
        return "refused", ()
    except ZeroDivisionError:
        return "zero", ()
    except AssertionError:
        return "assertion", ()
    results = value if isinstance(value, tuple) else () if value is None else (value,)
    return "", (*results, *(a for a in actual if isinstance(a, np.ndarray)))


def same_bits(a: Any, b: Any) -> bool:
    """Equal dtype, shape and bits; any NaN equals any other."""
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if not is_float(a.dtype):
        return bool(np.array_equal(a, b))
    a, b = a.astype(np.float64), b.astype(np.float64)
    return bool(np.all(((a == b) & (np.signbit(a) == np.signbit(b))) | (np.isnan(a) & np.isnan(b))))


def agree(text: str, args: list[Any], name: str = "program", targets: tuple[str, ...] = TARGETS) -> None:
    """Fails, showing the program, unless all targets do the same as the first."""
    kernel = load(text)[name]
    reference = outcome(kernel, targets[0], args)
    for target in targets[1:]:
        other = outcome(kernel, target, args)
        if other[0] == "refused":
            continue
        if reference[0] != other[0]:
            raise AssertionError(
                _report(text, args, f"{targets[0]}: {reference[0]!r}, {target}: {other[0]!r}")
            )
        for number, (want, got) in enumerate(zip(reference[1], other[1])):
            if not same_bits(want, got):
                what = f"value {number}\n{targets[0]}: {want!r}\n{target}: {got!r}"
                raise AssertionError(_report(text, args, what))


def _report(text: str, args: list[Any], what: str) -> str:
    shown = "\n".join(repr(a) for a in args)
    return f"{what}\n\n{text}\narguments:\n{shown}"
