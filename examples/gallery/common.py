"""What the files of the gallery share: options, comparison with a reference, timing in turn."""

from __future__ import annotations

import argparse
import importlib
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import kdsl

Array = np.ndarray[Any, Any]
random = np.random.default_rng(0)


def options(
    doc: str, size: int, meaning: str, targets: tuple[str, ...] = ("cpu", "vulkan")
) -> argparse.Namespace:
    """`--size`, `--target`, `--repeat` and `--threads` of the command line; `doc` is the file's docstring."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=size, help=f"{meaning} (default {size})")
    parser.add_argument("--target", default="cpu", choices=targets)
    parser.add_argument("--repeat", type=int, default=9, help="timed runs; the median counts (default 9)")
    parser.add_argument(
        "--threads", type=int, default=kdsl.get_num_threads(), help="of the CPU (default: all)"
    )
    found = parser.parse_args()
    kdsl.set_num_threads(found.threads)
    return found


def scipy(part: str) -> Any:
    """The module `scipy.PART`; ends the program where SciPy is not installed."""
    try:
        return importlib.import_module(f"scipy.{part}")
    except ImportError:
        raise SystemExit(
            "this program compares with SciPy, which is not installed: pip install scipy"
        ) from None


def normal(*shape: int) -> Array:
    """Random numbers around 0, f32."""
    return random.standard_normal(shape, dtype=np.float32)


def there(target: str, *arrays: Array) -> tuple[Any, ...]:
    """The arrays as kernels on `target` take them without a copy: NumPy's on a CPU, else on the device."""
    return arrays if target == "cpu" else tuple(kdsl.to_device(a, target) for a in arrays)


def here(array: Any) -> Array:
    """The elements as a NumPy array."""
    return array if isinstance(array, np.ndarray) else array.numpy()


def agree(name: str, result: Any, expected: Array, rtol: float = 1e-4, atol: float = 1e-5) -> None:
    """Ends the program where the result is not the expected one."""
    found = here(result)
    if not np.allclose(found, expected, rtol, atol):
        error = np.abs(found.astype(np.float64) - expected).max()
        raise SystemExit(f"{name}: wrong result, largest error {error:.3g}")


def race(target: str, repeat: int, runs: Mapping[str, Callable[[], object]]) -> None:
    """Times all in turn, in this process, and prints medians beside the first one's, the reference."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for round_ in range(repeat + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if target != "cpu":
                kdsl.synchronize(target)
            if round_:  # the first one compiles, and touches the memory
                times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(t) for name, t in times.items()}
    reference = next(iter(medians))
    for name, median in medians.items():
        faster = (
            "" if name == reference else f"   {medians[reference] / median:6.2f} x as fast as {reference}"
        )
        print(f"{name:<20}{1e3 * median:10.3f} ms{faster}")
    print("results agree")
