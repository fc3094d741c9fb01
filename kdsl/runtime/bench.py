"""The time of a kernel's calls on random arguments: `kdsl bench`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kdsl.analysis.cost import cost
from kdsl.analysis.counting import Count
from kdsl.frontend_ast import build
from kdsl.frontend_ast.signature import ConstArg, Signature
from kdsl.ir.nodes import ArrayParam, Func
from kdsl.runtime.device_array import to_device
from kdsl.runtime.device_timer import DeviceTimer
from kdsl.runtime.explanation import Quantity
from kdsl.runtime.threads import get_num_threads
from kdsl.runtime.typed import known_sizes, signature_of
from kdsl.tune.measuring.inputs import random_array

if TYPE_CHECKING:
    from kdsl.runtime.kernel import Kernel

SEED = 1
MOST_CALLS, FEWEST_CALLS = 10_000, 5
DEVICE_CALLS = 15


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of single calls, in ascending order."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def __str__(self) -> str:
        last = len(self.seconds) - 1
        low, high = self.seconds[round(0.05 * last)], self.seconds[round(0.95 * last)]
        return (
            f"{duration(self.median):>9}   median of {len(self.seconds)} calls, 90 % of them from "
            f"{duration(low)} to {duration(high)}"
        )


def bench(
    kernel: Kernel[Any],
    given: Mapping[str, str],
    sizes: Mapping[str, int],
    against: Callable[..., object] | None,
    seconds: float,
) -> str:
    """Times calls of `kernel` for `seconds`, and of `against` in turn with them; gives a report.

    `given` types what the annotations leave open; `sizes` has all sizes.
    """
    func, signature, values = _asked(kernel, given, sizes)
    args = random_arguments(func, signature, values)
    call = _call(kernel, args)
    start = time.perf_counter()
    call()
    first = time.perf_counter() - start
    times = _timed([call] if against is None else [call, lambda: against(*args)], seconds)
    return "\n".join(_report(kernel, func, values, args, first, times, against))


def arguments_for(kernel: Kernel[Any], given: Mapping[str, str], sizes: Mapping[str, int]) -> list[Any]:
    """Random arguments of a call; `given` and `sizes` as for `bench`."""
    func, signature, values = _asked(kernel, given, sizes)
    return random_arguments(func, signature, values)


def _asked(
    kernel: Kernel[Any], given: Mapping[str, str], sizes: Mapping[str, int]
) -> tuple[Func, Signature, dict[str, int]]:
    """The kernel's IR and signature for these types, and all sizes."""
    source = kernel.__kdsl_source__
    signature = signature_of(source, given)
    func = build(source, signature)
    return func, signature, known_sizes(func, sizes, all=True)


def _call(kernel: Kernel[Any], args: Sequence[Any]) -> Callable[[], object]:
    """A call that is waited for. Arrays of a Vulkan device are there before."""
    if not kernel.target.startswith("vulkan"):
        return lambda: kernel(*args)
    from kdsl.runtime.device_array import synchronize, to_device

    there = [to_device(a, kernel.target) if isinstance(a, np.ndarray) else a for a in args]

    def call() -> None:
        kernel(*there)
        synchronize(kernel.target)

    return call


def _report(
    kernel: Kernel[Any],
    func: Func,
    sizes: Mapping[str, int],
    args: list[Any],
    first: float,
    times: list[Times],
    against: Callable[..., object] | None,
) -> list[str]:
    costs = cost(func)
    moved = sum(
        [
            (row.touched_read + row.touched_written) * row.dtype.bytes
            for row in costs.arrays.values()
            if row.memory is None
        ],
        start=Count(),
    )
    threads = get_num_threads()
    where = kernel.target + (f", {threads} thread{'s' * (threads != 1)}" if kernel.target == "cpu" else "")
    shown = ", ".join(f"{name}={value}" for name, value in sizes.items())
    own = times[0].median
    lines = [f"{func.name} on {where}" + (f", {shown}" if shown else ""), f"time     {times[0]}"]
    lines.append(f"first    {duration(first):>9}   with its compilation, if the code was not cached")
    for label, count, unit in (("speed", costs.total_flops(), "Gflop/s"), ("memory", moved, "GB/s")):
        amount = Quantity.of(count, costs.atoms, costs.sizes, dict(sizes), "bytes" if unit == "GB/s" else "")
        if amount.value:
            what = "bytes that any schedule moves" if unit == "GB/s" else "flops"
            bound = "" if amount.bound == "exact" else f"{amount.bound} "
            lines.append(
                f"{label:8} {amount.value / own / 1e9:9.4g} {unit}, counting {bound}{amount.formula} {what}"
            )
    if kernel.target.startswith("vulkan"):
        lines.append(f"device   {duration(_device_seconds(kernel, args)):>9}   with its arrays on the device")
    if against is not None:
        name = getattr(against, "__name__", "the other")
        lines += [
            f"against  {times[1]}: {name}",
            f"ratio    {times[1].median / own:9.3g} times as fast as {name}",
        ]
    return lines


def _device_seconds(kernel: Kernel[Any], args: list[Any]) -> float:
    """The median of the times of calls with arrays that are on the device, by the device's clock."""
    there = [to_device(a, kernel.target) if isinstance(a, np.ndarray) else a for a in args]
    found = []
    for _ in range(DEVICE_CALLS):
        with DeviceTimer(kernel.target) as timer:
            kernel(*there)
        found.append(timer.elapsed_ms / 1e3)
    return statistics.median(found)


def random_arguments(func: Func, signature: Signature, sizes: Mapping[str, int]) -> list[Any]:
    """Arguments of a call: floats in [0, 1), integers below the smallest size, 1 for scalars."""
    rng = np.random.default_rng(SEED)
    limit = max(1, min(sizes.values(), default=1))
    params = iter([p for p in func.params if not (isinstance(p, ArrayParam) and p.result)])
    out: list[Any] = []
    for arg in signature:
        if isinstance(arg, ConstArg):
            out.append(arg.value)
            continue
        p = next(params)
        if isinstance(p, ArrayParam):
            shape = tuple([max(0, extent.evaluate(sizes)) for extent in p.shape])
            out.append(random_array(rng, p.dtype, shape, limit))
        else:
            out.append(p.dtype(1))
    return out


def _timed(contenders: list[Callable[[], object]], seconds: float) -> list[Times]:
    """Calls all of them in turn until the time is over, each at least `FEWEST_CALLS` times."""
    samples: list[list[float]] = [[] for _ in contenders]
    for run in contenders:
        run()
    until = time.perf_counter() + seconds
    while len(samples[0]) < FEWEST_CALLS or (
        time.perf_counter() < until and len(samples[0]) < MOST_CALLS * len(contenders)
    ):
        for run, into in zip(contenders, samples):
            start = time.perf_counter()
            run()
            into.append(time.perf_counter() - start)
    return [Times(tuple(sorted(s))) for s in samples]


def duration(seconds: float) -> str:
    """`seconds` with a unit that leaves one to three digits before the point."""
    for scale, unit in ((1e-9, "ns"), (1e-6, "us"), (1e-3, "ms")):
        if seconds < 1000 * scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds:.3g} s"
