"""`Schedule`: a kernel's loop nest and the steps that made it; a value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from kdsl.errors import ScheduleError
from kdsl.ir.nodes import Func
from kdsl.ir.printer import print_func
from kdsl.sched.primitive import PRIMITIVES
from kdsl.sched.primitives import (
    arranging,
    collapse,
    compute,
    fusion,
    kinds,
    loops,
    memory,
    pipelining,
    prefetching,
    privatisation,
    reductions,
    sizes,
    tensor,
)
from kdsl.sched.rewriting.tree import with_fresh_ids
from kdsl.sched.step import Step, from_json, to_json
from kdsl.sched.text import changes, nest_text, shortened
from kdsl.target import Target


class Launcher(Protocol):
    """What the run time lends to a schedule: running it and showing its code."""

    def __call__(self, schedule: Schedule, args: tuple[Any, ...], kwargs: Mapping[str, Any], /) -> Any:
        """Runs the kernel by `schedule` on a call's arguments."""

    def target(self) -> Target | None:
        """What it runs on, where steps depend on that: on the limits of a GPU."""

    def llvm(self, schedule: Schedule, /) -> str:
        """LLVM assembly."""

    def asm(self, schedule: Schedule, /) -> str:
        """Machine code as assembly."""

    def spirv(self, schedule: Schedule, /) -> str:
        """SPIR-V assembly."""

    def explain(self, schedule: Schedule, args: tuple[Any, ...], kwargs: Mapping[str, Any], /) -> Any:
        """How it is lowered and what it costs."""


@dataclass(slots=True)
class Made:
    """What steps made of schedules, these by their id (all are kept here), as long as it is `open`."""

    steps: dict[tuple[int, Step], Schedule | ScheduleError] = field(default_factory=dict)
    open: bool = True


class Schedule:
    """A function as the front end built it, and the steps taken since. Each step gives a new Schedule.

    `print(s)` shows the loop nest. A step that would change what the kernel computes raises `ScheduleError`.
    """

    __slots__ = ("_funcs", "_launcher", "_made", "_steps")

    def __init__(self, func: Func, launcher: Launcher | None = None) -> None:
        """The schedule of `func` without steps. `launcher` runs it when the schedule is called."""
        self._funcs: tuple[Func, ...] = (func,)
        self._steps: tuple[Step, ...] = ()
        self._launcher = launcher
        self._made: Made | None = None

    # -- primitives, one line each: their signature and documentation stand where they are declared

    split = loops.split
    tile = loops.tile
    reorder = loops.reorder
    collapse = collapse.collapse
    fuse = fusion.fuse
    fission = fusion.fission
    skew = loops.skew
    peel = loops.peel
    specialize = sizes.specialize
    assume = sizes.assume
    unroll = kinds.unroll
    vectorize = kinds.vectorize
    parallel = kinds.parallel
    bind = kinds.bind
    stage = memory.stage
    rfactor = reductions.rfactor
    privatize = privatisation.privatize
    expand = privatisation.expand
    set_layout = arranging.set_layout
    double_buffer = pipelining.double_buffer
    prefetch = prefetching.prefetch
    tensorize = tensor.tensorize
    compute_at = compute.compute_at
    inline = compute.inline

    # -- what there is

    @property
    def func(self) -> Func:
        """The function after all steps, before lowering."""
        return self._funcs[-1]

    @property
    def base(self) -> Func:
        """The function before the first step."""
        return self._funcs[0]

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps, in order."""
        return self._steps

    @property
    def target(self) -> Target | None:
        """The GPU whose limits the steps are held to; None when there is none."""
        return None if self._launcher is None else self._launcher.target()

    def ir(self) -> str:
        """The function after all steps, as text that the IR's parser reads."""
        return print_func(self.func)

    def __str__(self) -> str:
        unsafe = [f"# unsafe: {s}\n" for s in self._steps if s.unsafe]
        return "".join(unsafe) + nest_text(self.func)

    def __repr__(self) -> str:
        steps = len(self._steps)
        return f"<kdsl schedule of {self.func.name}: {steps} {'step' if steps == 1 else 'steps'}>"

    def history(self) -> History:
        """Each step with the loop nest after it; printing it shows what each step changes."""
        texts = ["start", *map(str, self._steps)]
        return History(zip(texts, map(nest_text, self._funcs)))

    # -- as text, and back

    def trace(self) -> str:
        """Python source of a function `schedule(s)` that takes these steps."""
        lines = [f"    s = {s}" for s in self._steps]
        return "\n".join(["def schedule(s):", *lines, "    return s", ""])

    def to_json(self) -> str:
        """The steps as JSON, for `from_json`."""
        return to_json(self.func.name, self._steps)

    @staticmethod
    def from_json(kernel: Any, text: str) -> Schedule:
        """The schedule of `kernel` (or of a `Func`) with the steps in a text that `to_json` made."""
        rows = from_json(text)
        start = Schedule(kernel) if isinstance(kernel, Func) else kernel.schedule()
        assert isinstance(start, Schedule)
        return start.replay(rows)

    def replay(self, rows: Sequence[tuple[str, Mapping[str, Any]]]) -> Schedule:
        """This schedule with more steps, given by name and arguments."""
        s = self
        for name, given in rows:
            if name not in PRIMITIVES:
                raise ScheduleError(
                    "K0303",
                    f"there is no primitive `{name}`",
                    help=f"the primitives are {', '.join(sorted(PRIMITIVES))}",
                )
            rest = dict(given)
            listed = name == "reorder" and isinstance(rest.get("loops"), (list, tuple))
            many = rest.pop("loops") if listed else ()
            s = getattr(s, name)(*many, **rest)
        return s

    # -- as a value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Schedule):
            return NotImplemented
        return self._steps == other._steps and self._funcs[0] == other._funcs[0] and self.func == other.func

    def __hash__(self) -> int:
        return hash((self.func.name, self._steps))

    def __reduce__(self) -> tuple[Any, ...]:
        rows = tuple((s.name, dict(s.args)) for s in self._steps)
        return _rebuild, (self.base, rows, self._launcher)

    def _with(self, step: Step, func: Func) -> Schedule:
        new = Schedule.__new__(Schedule)
        new._funcs = (*self._funcs, func)
        new._steps = (*self._steps, step)
        new._launcher = self._launcher
        new._made = self._made
        return new

    @contextmanager
    def remembering(self) -> Iterator[Schedule]:
        """This schedule, from which the same steps are made once as long as the context lasts: schedules that
        begin alike share what they share."""
        new = Schedule.__new__(Schedule)
        made = Made()
        new._funcs, new._steps, new._launcher, new._made = self._funcs, self._steps, self._launcher, made
        try:
            yield new
        finally:
            made.open = False
            made.steps.clear()

    def _taken(self, step: Step, take: Callable[[], Func]) -> Schedule:
        """This schedule with one step more, `take` being what it makes of the function."""
        made = self._made
        if made is None or not made.open:
            return self._with(step, take())
        found = made.steps.get((id(self), step))
        if found is None:
            try:
                found = self._with(step, take())
            except ScheduleError as refusal:
                found = refusal
            made.steps[id(self), step] = found
        if isinstance(found, ScheduleError):
            raise found.with_traceback(None)
        return found

    # -- running, showing

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Compiles (once for each schedule and signature) and runs on these arguments, as the kernel does."""
        return self._lent()(self, args, kwargs)

    def llvm(self) -> str:
        """LLVM assembly after LLVM's passes."""
        return self._lent().llvm(self)

    def asm(self) -> str:
        """Machine code as assembly."""
        return self._lent().asm(self)

    def spirv(self) -> str:
        """What a Vulkan device runs: SPIR-V assembly."""
        return self._lent().spirv(self)

    def explain(self, *args: Any, **kwargs: Any) -> Any:
        """How each loop is lowered, why, and what it costs: lanes, bytes, operations. Print it, or look at
        it in a notebook; its attributes are the data (`runtime.explanation.Explanation`).

        `explain()` counts in the sizes, `explain(M=…, N=…)` in numbers beside the roofline of this machine,
        `explain(A, B, C)` also measures a call; arrays that the kernel writes are copied for that.
        """
        return self._lent().explain(self, args, kwargs)

    def _lent(self) -> Launcher:
        if self._launcher is None:
            raise ScheduleError(
                "K0323",
                f"this schedule of `{self.func.name}` belongs to no kernel that could run it",
                help="start from the kernel: s = kernel.schedule()",
            )
        return self._launcher

    def _repr_html_(self) -> str:
        from kdsl.sched.html import schedule_page

        return schedule_page(self)


class History(tuple[tuple[str, str], ...]):
    """Pairs (step, loop nest after it)."""

    __slots__ = ()

    def __str__(self) -> str:
        """The nest before the first step, what each step changes, and the nest after the last one."""
        (title, nest), *rest = self
        parts = [f"# 0: {title}\n{nest}"]
        for n, (step, after) in enumerate(rest, 1):
            lines = shortened(list(changes(nest.split("\n"), after.split("\n"))))
            parts.append("\n".join([f"# {n}: {step}", *[f"{sign} {line}".rstrip() for sign, line in lines]]))
            nest = after
        if len(rest) > 1:
            parts.append(f"# the nest after {len(rest)} steps\n{nest}")
        return "\n\n".join(parts)

    def _repr_html_(self) -> str:
        from kdsl.sched.html import history_page

        return history_page(self)


def _rebuild(
    func: Func, rows: Sequence[tuple[str, Mapping[str, Any]]], launcher: Launcher | None
) -> Schedule:
    """Unpickles: ids of another process may be taken here, so that statements get new ones."""
    return Schedule(replace(func, body=with_fresh_ids(func.body)), launcher).replay(rows)
