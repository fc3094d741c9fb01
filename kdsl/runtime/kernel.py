"""The objects that `@kdsl.kernel` and `@kdsl.func` make of a Python function.

A call of a kernel, from the fastest to the slowest way:

    entry    machine code for one signature, newest first; what it does not take goes to the next one
      v
    slow     Python: converts arguments, finds the program of their signature (and, with schedule="auto", of
      |      their sizes), compiles it if need be
      v
    program  checks sizes, overlap and conditions; runs; returns new arrays

Each kernel has a class of its own, whose `__call__` is the newest entry (a C function) or the slow path, so a
call costs what the C function costs. This module is imported by `import kdsl` and loads no compiler.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from types import FunctionType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from kdsl.forks import whole
from kdsl.runtime.targets import check_name, default_name, resolve

if TYPE_CHECKING:
    from kdsl.frontend_ast.source import KernelSource
    from kdsl.ir.nodes import Func, Instruction
    from kdsl.runtime.arguments import Arguments
    from kdsl.runtime.auto import Variant
    from kdsl.runtime.compile import Request
    from kdsl.runtime.explanation import Explanation
    from kdsl.runtime.program import EntryMaker, Program
    from kdsl.runtime.scheduling import Given, Recipe
    from kdsl.runtime.seen import Seen
    from kdsl.sched.schedule import Schedule
    from kdsl.target import Target

P = ParamSpec("P")
R = TypeVar("R")

CHAIN = 4
"""Number of entries that are tried before the slow path: the newest ones."""


class _OfFunction:
    """What is made of a Python function and looks like it."""

    __kdsl_source__: KernelSource
    __wrapped__: Callable[..., Any]
    __name__: str
    __qualname__: str

    def __init__(self, source: KernelSource) -> None:
        self.__kdsl_source__ = source
        self.__wrapped__ = source.fn
        self.__name__ = source.fn.__name__
        self.__qualname__ = source.fn.__qualname__
        self.__module__ = source.fn.__module__
        self.__doc__ = source.fn.__doc__

    @property
    def name(self) -> str:
        """The name in messages, dumps and artifacts."""
        return self.__kdsl_source__.name

    @property
    def source(self) -> str:
        """The text of the Python function, its decorators included."""
        return self.__kdsl_source__.text


class Kernel(_OfFunction, Generic[P]):
    """A Python function that is compiled for the arguments of its calls.

    `kernel(...)` runs compiled code; `kernel.py(...)` runs the function itself on the same arguments.
    """

    target: str
    """The name of the target that calls run on."""

    def __init__(
        self, source: KernelSource, target: str | None = None, schedule: Given | None = None
    ) -> None:
        super().__init__(source)
        self._schedule = schedule
        self._scheduled: dict[Given, Kernel[P]] = {}
        self._variants: dict[Any, list[Variant]] = {}
        self._chosen_target = target
        self.target = target or default_name()
        self._target: Target | None = None
        self._programs: dict[Any, Program] = {}
        self._requests: dict[Any, Request] = {}
        self._makers: list[EntryMaker] = []
        self._last: Request | None = None
        self._lock = threading.RLock()
        self._seen: dict[Any, tuple[Seen, Request]] = {}
        self._siblings: dict[str, Kernel[P]] = {}

    def __new__(
        cls, source: KernelSource, target: str | None = None, schedule: Given | None = None
    ) -> Kernel[P]:
        on_device = (target or default_name()).startswith("vulkan")
        call = cls._device_call if on_device else cls._slow_call
        own = type(cls.__name__, (cls,), {"__module__": cls.__module__, "__call__": call})
        return object.__new__(own)

    if TYPE_CHECKING:

        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Any:
            """Runs the kernel on these arguments; compiles it first if their types are new."""

    # -- what a user asks of a kernel

    def py(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Runs the body as ordinary Python on the same arguments: `pdb`, `print` and coverage work."""
        from kdsl.runtime.pymode import run

        return run(self.__kdsl_source__, args, kwargs)

    def on(self, target: str) -> Kernel[P]:
        """The same kernel on another target (`kdsl.devices()` lists them)."""
        target = check_name(target)
        if target == self.target:
            return self
        with whole, self._lock:
            if target not in self._siblings:
                other: Kernel[P] = Kernel(self.__kdsl_source__, target, self._schedule)
                other._siblings = self._siblings
                self._siblings.setdefault(self.target, self)
                self._siblings[target] = other
            return self._siblings[target]

    @whole
    def schedule(self, *args: Any, **kwargs: Any) -> Schedule:
        """A schedule to work on, with the steps that the kernel has already.

        Its loop nest is that of the annotated types and contiguous arrays, or of these arguments; of the last
        call where the annotations leave types open. With `schedule="auto"` the steps are those for the sizes
        of these arguments; without arguments those that were stored last.
        """
        from kdsl.frontend_ast import build
        from kdsl.runtime.inspection import default_signature, has_default_signature
        from kdsl.runtime.scheduling import Launcher, started

        if not args and not kwargs and has_default_signature(self.__kdsl_source__):
            signature = default_signature(self.__kdsl_source__)
        else:
            signature = self._request(args, kwargs).signature
        func = build(self.__kdsl_source__, signature)
        recipe = self._recipe(func, args, kwargs)
        return started(recipe, func, Launcher.of(self._unscheduled(), signature))

    def with_schedule(self, schedule: Given) -> Kernel[P]:
        """A kernel that always runs by `schedule`: a Schedule, or a function from one to another.

        "auto": by the best schedule that `kdsl.autotune` has stored for sizes like those of the call; where
        there is none, by one that a cost model chooses.
        """
        from kdsl.runtime.scheduling import checked_recipe

        recipe = checked_recipe(schedule)
        with whole, self._lock:
            if recipe not in self._scheduled:
                self._scheduled[recipe] = Kernel(self.__kdsl_source__, self._chosen_target, recipe)
            return self._scheduled[recipe]

    def _recipe(self, func: Func, args: Sequence[Any] = (), kwargs: Mapping[str, Any] = {}) -> Recipe | None:
        """The schedule for these arguments; without arguments the one for `func` whatever the sizes."""
        if self._schedule != "auto":
            return self._schedule
        from kdsl.runtime.arguments import arguments
        from kdsl.runtime.auto import newest, recipe

        if args or kwargs:
            return recipe(self, arguments(self.__kdsl_source__, args, kwargs, self.target))
        return newest(func, self._resolved())

    def _choose_anew(self) -> None:
        """What `schedule="auto"` has chosen is chosen again at the next call."""
        for kernel in {
            id(k): k for k in (self, *self._scheduled.values(), *self._siblings.values())
        }.values():
            if kernel._schedule == "auto":
                with whole, kernel._lock:
                    kernel._programs, kernel._requests, kernel._variants, kernel._makers = {}, {}, {}, []
                    kernel._call_by(Kernel._slow_call)

    def _unscheduled(self) -> Kernel[P]:
        return self if self._schedule is None else Kernel(self.__kdsl_source__, self._chosen_target)

    @whole
    def ir(self, *args: Any, **kwargs: Any) -> str:
        """The loop nest before lowering: for these arguments, else the last call's, else the annotations'."""
        from kdsl.ir.printer import print_func
        from kdsl.runtime.compile import front

        return print_func(front(self._request(args, kwargs)))

    @whole
    def llvm(self, *args: Any, **kwargs: Any) -> str:
        """LLVM assembly after LLVM's passes; arguments as for `ir`."""
        from kdsl.runtime.inspection import llvm_text

        return llvm_text(self._request(args, kwargs))

    @whole
    def asm(self, *args: Any, **kwargs: Any) -> str:
        """Machine code as assembly; arguments as for `ir`."""
        from kdsl.runtime.inspection import asm_text

        return asm_text(self._request(args, kwargs))

    @whole
    def spirv(self, *args: Any, **kwargs: Any) -> str:
        """What runs on a Vulkan device, as SPIR-V assembly; arguments as for `ir`."""
        from kdsl.runtime.inspection import spirv_text

        return spirv_text(self._request(args, kwargs))

    @property
    def __kdsl_instruction__(self) -> Instruction:
        """For `tensorize`: the kernel's body can take the place of a loop that does the same."""
        from kdsl.runtime.instruction import software

        return software(self)

    @whole
    def explain(self, *args: Any, **kwargs: Any) -> Explanation:
        """How each loop is lowered, why, and what it costs: `Schedule.explain` of the kernel's schedule."""
        call = bool(args) or any(p.name in kwargs for p in self.__kdsl_source__.params)
        schedule = self.schedule(*args, **kwargs) if call else self.schedule()
        found: Explanation = schedule.explain(*args, **kwargs)
        return found

    def __repr__(self) -> str:
        params = ", ".join(
            p.name if p.annotation is None else f"{p.name}: {_annotation_text(p.annotation)}"
            for p in self.__kdsl_source__.params
        )
        on = "" if self.target == "cpu" else f" on {self.target}"
        return f"<kdsl kernel {self.name}({params}){on}>"

    def _repr_html_(self) -> str:
        import textwrap

        from kdsl.sched.html import source_page

        how = {None: "in program order", "auto": "with the best schedule known"}
        chosen = self._schedule if self._schedule is None or isinstance(self._schedule, str) else ""
        subtitle = f"on {self.target}, {how.get(chosen, 'with a schedule')}"
        return source_page(self.name, subtitle, textwrap.dedent(self.source))

    def __reduce__(self) -> tuple[Any, ...]:
        from kdsl.runtime.pickling import reduce_source

        return rebuild_kernel, (*reduce_source(self.__kdsl_source__), self._chosen_target, self._schedule)

    # -- calling

    def _slow_call(self, *args: Any, **kwargs: Any) -> Any:
        """The way of a call that no entry took."""
        from kdsl.runtime.arguments import arguments

        given = arguments(self.__kdsl_source__, args, kwargs, self.target)
        return self._program(given)(given.for_ir())

    def _device_call(self, *args: Any, **kwargs: Any) -> Any:
        """A call on a Vulkan device: at once where it is like one before, else as `_slow_call`."""
        from kdsl.frontend_ast.signature import ConstArg
        from kdsl.runtime.arguments import arguments
        from kdsl.runtime.seen import KEPT, call_key

        key = None if kwargs else call_key(args)
        found = None if key is None else self._seen.get(key)
        if found is not None:
            again, self._last = found
            done, value = again(args)
            if done:
                return value
        given = arguments(self.__kdsl_source__, args, kwargs, self.target)
        program = self._program(given)
        value = program(given.for_ir())
        if key is not None and found is None and program.again is not None:
            positions = [n for n, a in enumerate(given.signature) if not isinstance(a, ConstArg)]
            seen = program.again(program, positions, given.for_ir())
            if seen is not None and self._last is not None:
                if len(self._seen) >= KEPT:
                    self._seen.clear()
                self._seen[key] = seen, self._last
        return value

    def _program(self, given: Arguments) -> Program:
        """The program for a call's signature; two threads that need the same one wait for one compilation."""
        if self._schedule == "auto":
            return self._variant(given)
        found = self._programs.get(given.key)
        if found is None:
            with whole, self._lock:
                found = self._programs.get(given.key)
                if found is None:
                    found = self._compile(given)
        self._last = self._requests[given.key]
        return found

    def _variant(self, given: Arguments) -> Program:
        """The program that `schedule="auto"` has for a call's signature and sizes."""
        from kdsl.runtime.auto import variant

        with whole, self._lock:
            known = self._variants.setdefault(given.key, [])
            found = variant(self, given, known)
            if found not in known:
                known.append(found)
                if found.request.entry:
                    self._add_entry(found.program)
        self._last = found.request
        return found.program

    def _compile(self, given: Arguments) -> Program:
        from kdsl.runtime.compile import Request, program

        assert self._schedule != "auto"
        request = Request(self.__kdsl_source__, given.signature, self._resolved(), self._schedule)
        found = program(request)
        self._requests[given.key] = request
        self._programs[given.key] = found
        if request.entry:
            self._add_entry(found)
        return found

    def _add_entry(self, program: Program) -> None:
        """Puts the program's entry before the others; the oldest one beyond `CHAIN` goes."""
        if program.make_entry is None:
            return
        makers = [program.make_entry, *self._makers][:CHAIN]
        entry: Any = self._slow_call
        for make in reversed(makers):
            entry = make(entry)
            if entry is None:
                return
        self._makers = makers
        # A Python function in a class would get the kernel as its first argument; a C function does not.
        self._call_by(staticmethod(entry) if isinstance(entry, FunctionType) else entry)

    def _call_by(self, entry: Any) -> None:
        """Calls of this kernel go to `entry`.

        The old one has to live until the class knows the new one: giving back its code lets other threads
        run, and CPython's cache of methods would still hand it to them, without a reference.
        """
        own = type(self)
        old = own.__dict__["__call__"]
        own.__call__ = entry  # type: ignore[method-assign]
        del old

    def _resolved(self) -> Target:
        if self._target is None:
            self._target = resolve(self.target)
        return self._target

    def _request(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request:
        """What `ir`, `llvm` and `asm` show: for these arguments, else the last call, else the annotations."""
        from kdsl.runtime.arguments import arguments
        from kdsl.runtime.compile import Request
        from kdsl.runtime.inspection import default_signature

        if not args and not kwargs:
            if self._last is not None:
                return self._last
            signature = default_signature(self.__kdsl_source__)
        else:
            signature = arguments(self.__kdsl_source__, args, kwargs, self.target).signature
        chosen = self._schedule
        if chosen == "auto":
            from kdsl.frontend_ast import build

            chosen = self._recipe(build(self.__kdsl_source__, signature), args, kwargs)
        return Request(self.__kdsl_source__, signature, self._resolved(), chosen)


class Function(_OfFunction, Generic[P]):
    """A device function: inlined where kernels call it; called from Python, it runs as Python."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Runs the function as Python, its arguments cast to their annotated types."""
        from kdsl.runtime.pymode import run

        return run(self.__kdsl_source__, args, kwargs)

    py = __call__

    def __repr__(self) -> str:
        return f"<kdsl func {self.name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        from kdsl.runtime.pickling import reduce_source

        return rebuild_function, reduce_source(self.__kdsl_source__)


# ------------------------------------------------------------------- decorators


@overload
def kernel(fn: Callable[P, R], /) -> Kernel[P]: ...


@overload
def kernel(
    *,
    name: str | None = None,
    target: str | None = None,
    strict: bool = False,
    fastmath: bool = False,
    bounds: str = "checked",
    may_alias: tuple[str, ...] = (),
    schedule: Given | None = None,
) -> Callable[[Callable[P, R]], Kernel[P]]: ...


def kernel(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    target: str | None = None,
    strict: bool = False,
    fastmath: bool = False,
    bounds: str = "checked",
    may_alias: tuple[str, ...] = (),
    schedule: Given | None = None,
    **unknown: Any,
) -> Any:
    """Makes a kernel of a Python function: `@kdsl.kernel` or `@kdsl.kernel(option=…)`.

    `strict`: no fused multiply-add and no reordering, the same bits everywhere. `fastmath`: floats may be
    reassociated and are taken to be finite. `bounds="unchecked"`: indices that depend on data are not tested.
    `may_alias`: arguments that may share memory. `target`: where it runs, instead of `KDSL_TARGET`.
    `schedule`: how it runs, as for `Kernel.with_schedule`.
    `name`: the name in messages, dumps and artifacts.
    """

    def decorate(fn: Callable[..., Any]) -> Kernel[Any]:
        # What a first call needs loads here, once: it is not the call's time then.
        from kdsl.runtime import arguments, compile  # noqa: F401
        from kdsl.runtime.options import kernel_source

        source = kernel_source(fn, name, strict, fastmath, bounds, may_alias, unknown)
        chosen = None if target is None else check_name(target)
        if schedule is None:
            return Kernel(source, chosen)
        from kdsl.runtime.scheduling import checked_recipe

        return Kernel(source, chosen, checked_recipe(schedule))

    return decorate if fn is None else decorate(fn)


@overload
def func(fn: Callable[P, R], /) -> Function[P]: ...


@overload
def func(*, name: str | None = None) -> Callable[[Callable[P, R]], Function[P]]: ...


def func(fn: Callable[..., Any] | None = None, /, *, name: str | None = None) -> Any:
    """Makes a device function of a Python function: kernels can call it, and inline it."""

    def decorate(fn: Callable[..., Any]) -> Function[Any]:
        from kdsl.frontend_ast.source import KernelSource

        return Function(KernelSource(fn, "func", name))

    return decorate if fn is None else decorate(fn)


def rebuild_kernel(*state: Any) -> Kernel[Any]:
    """Unpickles a kernel."""
    from kdsl.runtime.pickling import rebuild_source

    *source, target, schedule = state
    return Kernel(rebuild_source(*source), target, schedule)


def rebuild_function(*state: Any) -> Function[Any]:
    """Unpickles a device function."""
    from kdsl.runtime.pickling import rebuild_source

    return Function(rebuild_source(*state))


def _annotation_text(annotation: Any) -> str:
    return str(annotation.__name__) if isinstance(annotation, type) else repr(annotation)
