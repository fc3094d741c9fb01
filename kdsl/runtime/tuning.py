"""`kdsl.autotune`: from a kernel and a call's arguments to a tuning."""

from __future__ import annotations

import contextlib
import tempfile
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdsl.errors import ArgumentError, KdslError, TargetError
from kdsl.frontend_ast import build
from kdsl.ir.params import ArrayParam, ScalarParam
from kdsl.runtime.arguments import Arguments, arguments
from kdsl.runtime.auto import fingerprint, tuning_database
from kdsl.runtime.explain import sizes_of
from kdsl.runtime.scheduling import Launcher, Recipe, started
from kdsl.runtime.targets import check_name, resolve
from kdsl.runtime.threads import available, get_num_threads
from kdsl.runtime.tuning_executor import WORKER, ExecutorMeasuring
from kdsl.sched import Schedule
from kdsl.tune.classes import scalar_number
from kdsl.tune.measuring.building import Builder
from kdsl.tune.measuring.inputs import Array, Layout
from kdsl.tune.measuring.measure import Limits, Measurer
from kdsl.tune.measuring.problem import Problem
from kdsl.tune.measuring.workers import command
from kdsl.tune.result import Result
from kdsl.tune.searching.guiding import ModelGuide
from kdsl.tune.searching.search import STRATEGIES, Search, StrategyName
from kdsl.tune.session import Budget, Session
from kdsl.tune.showing.progress import Progress
from kdsl.tune.spaces.choice import pinned, user_sketch
from kdsl.tune.spaces.sketches import sketches
from kdsl.tune.spaces.space import Sketch

if TYPE_CHECKING:
    from kdsl.ir.nodes import Func
    from kdsl.runtime.kernel import Kernel
    from kdsl.target import Target

Space = Callable[..., Schedule] | Sketch | Sequence[Sketch]
"""What `space=` takes: a schedule function with choices, or sketches."""
WORKERS = 16
"""Processes that build and compile, at most: one for each core."""


def autotune(
    kernel: Kernel[Any],
    args: Sequence[Any] | Mapping[str, Any],
    target: str | None = None,
    trials: int | None = 200,
    seconds: float | None = 60.0,
    space: Space | None = None,
    executor: Executor | None = None,
    seed: int = 0,
    *,
    pins: Mapping[str, Any] | None = None,
    prefix: Recipe | None = None,
    strategy: StrategyName = "guided",
    resume: bool = True,
    limits: Limits | None = None,
    progress: bool | None = None,
) -> Result:
    """Searches for a fast schedule of `kernel` for a call with `args`, and stores the best one.

    `args` are the call's arguments, in order or by name; the arrays are not written. It ends after `seconds`
    or `trials` candidates (None: no limit; those of earlier tunings at these sizes count, unless `resume` is
    off), or by Ctrl-C, and gives the best so far.

    `space`: a function `def my_schedule(s, rows=kdsl.choice(4, 6))`, or sketches; without it the space is
    derived from the kernel. `prefix`: steps that are kept, on which the space builds. `pins` holds knobs by
    name: a value, or a list of values. `executor`: a `concurrent.futures.Executor` whose workers measure.
    `strategy`: "guided", "evolution" or "random". `seed` makes the search reproducible, but for the times.
    `progress`: a line on standard error; None: if that is a terminal. `limits`: see `kdsl.tune.Limits`.
    """
    _check(seconds, trials, strategy)
    asked = _Asked.of(kernel if target is None else kernel.on(check_name(target)), args)
    start = started(prefix, asked.func, asked.launcher)
    problem, limits, cores = asked.problem, limits or Limits(), min(WORKERS, available())
    with contextlib.ExitStack() as stack:
        measuring: Measurer | ExecutorMeasuring
        if executor is None:
            folder = tempfile.TemporaryDirectory(prefix="kdsl-tune-", ignore_cleanup_errors=True)
            at = Path(stack.enter_context(folder))
            problem.save(at, asked.arrays)
            measuring = Measurer(problem, at, command(WORKER), cores, limits, target=asked.fingerprint)
            stack.callback(measuring.close)
        else:
            measuring = ExecutorMeasuring(
                executor, uuid.uuid4().hex, problem, asked.arrays, limits, asked.fingerprint, asked.target
            )
        # The workers start meanwhile.
        found = pinned(_sketches(space, start, asked), pins or {})
        # A space that was derived is derived by the workers too; others are this process's alone.
        build_by = measuring if space is None else None
        builder = Builder(start, asked.target, problem.sizes, problem.threads, build_by)
        result = Session(
            problem,
            Schedule(asked.func, asked.launcher),
            asked.current,
            Search(found, seed, strategy, ModelGuide(builder, found, seed)),
            builder,
            measuring,
            tuning_database(),
            Budget(seconds, trials),
            Progress(asked.func.name, seconds, trials, progress),
            seed=seed,
            batch=2 * cores if executor is None else 4 * cores,
            resume=resume,
        ).run()
    kernel._choose_anew()
    return result


def _check(seconds: float | None, trials: int | None, strategy: str) -> None:
    if seconds is None and trials is None:
        raise ArgumentError(
            "K0805", "this tuning would never end", help="give `seconds`, `trials`, or both of them"
        )
    for name, value in (("seconds", seconds), ("trials", trials)):
        if value is not None and (isinstance(value, bool) or not value > 0):
            raise ArgumentError(
                "K0805", f"`{name}` cannot be {value!r}", help="give a number above 0, or None"
            )
    if strategy not in STRATEGIES:
        raise ArgumentError(
            "K0805",
            f"there is no strategy {strategy!r}",
            help="the strategies are " + ", ".join(f'"{s}"' for s in STRATEGIES),
        )


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a tuning is about. `fingerprint` is that of the target with the number of threads."""

    kernel: Kernel[Any]
    func: Func
    launcher: Launcher
    problem: Problem
    arrays: Mapping[str, Array]
    current: Schedule
    target: Target
    fingerprint: str

    @staticmethod
    def of(kernel: Kernel[Any], args: Sequence[Any] | Mapping[str, Any]) -> _Asked:
        target = resolve(kernel.target)
        if target.kind == "interpreter":
            raise TargetError(
                "K0807",
                f"{kernel.name} runs on the interpreter, which has no speed to tune",
                help='tune it for another target: kdsl.autotune(kernel, args, target="cpu")',
            )
        source = kernel.__kdsl_source__
        named = args if isinstance(args, Mapping) else {}
        given = arguments(source, () if isinstance(args, Mapping) else list(args), named, kernel.target)
        func = build(source, given.signature)
        values = _values(func, given)
        arrays = {p.name: values[p.name] for p in func.params if isinstance(p, ArrayParam) and not p.result}
        scalars = {p.name: scalar_number(values[p.name]) for p in func.params if isinstance(p, ScalarParam)}
        types = {p.name: p.dtype for p in func.arrays}
        threads = get_num_threads() if target.kind == "cpu" else 1
        problem = Problem(
            func,
            target.name,
            sizes_of(func, given),
            scalars,
            {name: Layout.of(array, types[name]) for name, array in arrays.items()},
            threads,
        )
        # What "auto" has found so far is in the database, and compared with as such.
        recipe = None if kernel._schedule == "auto" else kernel._schedule
        launcher = Launcher.of(kernel._unscheduled(), given.signature)
        current = started(recipe, func, launcher)
        return _Asked(kernel, func, launcher, problem, arrays, current, target, fingerprint(target))


def _values(func: Func, given: Arguments) -> dict[str, Any]:
    """The values of a call by name, arrays in this process's memory."""
    params = [p for p in func.params if not (isinstance(p, ArrayParam) and p.result)]
    return {p.name: v.numpy() if hasattr(v, "memory") else v for p, v in zip(params, given.for_ir())}


def _sketches(space: Space | None, start: Schedule, asked: _Asked) -> list[Sketch]:
    if isinstance(space, Sketch):
        return [space]
    if space is None:
        return sketches(start, asked.target, asked.problem.sizes, threads=asked.problem.threads)
    if callable(space):
        return [user_sketch(space)]
    found = list(space)
    if not found or not all(isinstance(s, Sketch) for s in found):
        raise KdslError(
            "K0802",
            "`space` is neither a schedule function nor a list of sketches",
            help="write def my_schedule(s, rows=kdsl.choice(4, 6)): ... return s",
        )
    return found
