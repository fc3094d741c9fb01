"""The oracle: runs any `Func` at any stage, slowly, and checks everything.

`Interpreter(func)` turns the tree into Python closures once; each takes the frame, a list with one slot a
name, and returns a value (expressions) or how control leaves (statements). Values are Python numbers;
`scalar_ops` says what each operator computes.

```
C[i] = A[i] * s    ->   def store(f): v = value(f); f[C][at(f)] = v
                        value = lambda f: mul(load(f), f[s])       load = lambda f: f[A].item(at(f))
```

All indices are tested. A local starts as poison: copying it is allowed, any other use is an error that
names the buffer. Results are kept like locals and copied to the caller's arrays at the end. Iterations of
parallel loops and lanes of vectors run one after the other, and are errors when they race (`ir.races`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from kdsl.dtypes import DType
from kdsl.ir import scalar_ops
from kdsl.ir.faults import condition_error, fault, uninitialised
from kdsl.ir.interpreter_exprs import (
    PRINT,
    RECORDER,
    ExprCompiler,
    Frame,
    Poison,
    Used,
    make,
)
from kdsl.ir.nodes import (
    Accumulate,
    Alloc,
    ArrayParam,
    Assert,
    Atomic,
    Barrier,
    Body,
    Break,
    Continue,
    Expr,
    Func,
    If,
    Loop,
    Prefetch,
    Print,
    Return,
    Stmt,
    Store,
    While,
)
from kdsl.ir.numbers import float_to_int, int_to_float, number_text, round_float, wrap
from kdsl.ir.races import Around, Lanes, Recorder, Touch, Turn, concurrent, varying

Run = Callable[[Frame], "str | None"]
"""A statement: None when control goes on to the next one, else "break", "continue" or "return"."""


def run(
    func: Func,
    arrays: Mapping[str, np.ndarray[Any, Any]],
    scalars: Mapping[str, Any],
    sizes: Mapping[str, int],
    *,
    on_print: Callable[[str], object] | None = None,
    races: bool = True,
) -> None:
    """Runs `func` once: see `Interpreter`."""
    Interpreter(func, races).run(arrays, scalars, sizes, on_print=on_print)


class Interpreter:
    """A `Func` (verified, math functions expanded) ready to run any number of times, from any thread.

    `races`: parallel iterations and vector lanes that meet are errors; otherwise marks are ignored.
    """

    def __init__(self, func: Func, races: bool = True) -> None:
        self.func = func
        c = _Compiler(races=races)
        c.watch.strict = func.options.strict
        self._sizes = [(name, c.name(name)) for name in func.sizes]
        self._scalars = [(p, c.name(p.name)) for p in func.params if not isinstance(p, ArrayParam)]
        self._arrays = [
            (
                p,
                c.buffer(
                    p.name,
                    "local" if p.result else "array",
                    len(p.shape),
                    p.name in func.options.may_alias,
                ),
            )
            for p in func.arrays
        ]
        self._conditions = [(c.expr(x.expr), x) for x in func.conditions]
        self._body = c.body(func.body)
        self._slots = c.slots

    def run(
        self,
        arrays: Mapping[str, np.ndarray[Any, Any]],
        scalars: Mapping[str, Any],
        sizes: Mapping[str, int],
        *,
        on_print: Callable[[str], object] | None = None,
    ) -> None:
        """Writes `arrays` in place (results too: the caller passes them, of the right shape and dtype).

        Raises the errors of `ir.faults` and `ir.races`: a failed call condition before anything is written,
        others after what ran before has been written. `on_print` gets each printed text, its end included.
        """
        f: Frame = [None] * self._slots
        f[PRINT] = on_print or (lambda text: print(text, end=""))
        f[RECORDER] = Recorder()
        for name, slot in self._sizes:
            f[slot] = int(sizes[name])
        for p, slot in self._scalars:
            f[slot] = as_value(scalars[p.name], p.dtype)
        for condition, what in self._conditions:
            if not condition(f):
                raise condition_error(what.title, what.loc, sizes)
        for a, b in self._arrays:
            array = arrays[a.name]
            shape = tuple(dim.evaluate(sizes) for dim in a.shape)
            assert array.shape == shape and array.dtype == a.dtype.np, f"{a.name}: {array.dtype}{array.shape}"
            if a.result:
                make(f, b, shape, Poison(a.name, a.loc))
            else:
                f[b.slot], f[b.extents] = array, shape
        self._body(f)
        for a, b in self._arrays:
            if a.result:
                cells = f[b.slot] if b.rank else [f[b.slot]]
                for at, value in zip(np.ndindex(arrays[a.name].shape), cells):
                    if not isinstance(value, Poison):
                        arrays[a.name][at] = value


def as_value(x: Any, dtype: DType) -> bool | int | float:
    """A Python or NumPy scalar as the number that stands for it, converted as `Cast` does."""
    if dtype.kind == "bool":
        return bool(x)
    whole = isinstance(x, (int, np.integer, np.bool_))
    if dtype.is_int:
        return wrap(int(x), dtype) if whole else float_to_int(float(x), dtype)
    return int_to_float(int(x), dtype) if whole else round_float(float(x), dtype)


@dataclass(slots=True)
class _Compiler(ExprCompiler):
    """Makes closures of statements."""

    races: bool = True

    def body(self, body: Body) -> Run:
        # `scope` is never popped: no name is bound twice on a path, so the last binding is the one in view.
        steps = [(self.stmt(s), s.loc) for s in body]

        def run_body(f: Frame) -> str | None:
            for step, loc in steps:
                try:
                    leave = step(f)
                except Used as used:
                    raise uninitialised(used.poison.buffer, used.poison.made, loc) from None
                if leave is not None:
                    return leave
            return None

        return run_body

    def stmt(self, s: Stmt) -> Run:
        self.watch.place += 1
        match s:
            case Loop():
                return self.concurrent(s) if self.races and concurrent(s) else self.loop(s)
            case While():
                return self.while_(s)
            case If():
                cond, then, orelse = self.expr(s.cond), self.body(s.then), self.body(s.orelse)
                return lambda f: then(f) if cond(f) else orelse(f)
            case Break():
                return lambda f: "break"
            case Continue():
                return lambda f: "continue"
            case Return():
                return lambda f: "return"
            case Alloc():
                return self.alloc(s)
            case Store():
                return self.store(s)
            case Accumulate() | Atomic():
                return self.update(s)
            case Prefetch():
                return self.prefetch(s)
            case Barrier():
                return lambda f: None
            case Assert():
                return self.assertion(s)
            case Print():
                return self.print(s)
            case _:
                raise AssertionError(f"unknown statement {type(s).__name__}")

    def loop(self, s: Loop) -> Run:
        bounds, slot = self.iterations(s), self.name(s.var)
        if self.in_lockstep:
            return self.counted(bounds, slot, s.body)
        body = self.body(s.body)

        def run_loop(f: Frame) -> str | None:
            for i in bounds(f):
                f[slot] = i
                leave = body(f)
                if leave == "break":
                    break
                if leave == "return":
                    return leave
            return None

        return run_loop

    def iterations(self, s: Loop) -> Callable[[Frame], range]:
        """The iterations of a loop."""
        lo, hi, step, loc = self.expr(s.lo), self.expr(s.hi), self.expr(s.step), s.loc

        def bounds(f: Frame) -> range:
            first, end, by = lo(f), hi(f), step(f)
            if by == 0:
                raise fault("zero_step", loc)
            return range(first, end, by)

        return bounds

    @property
    def in_lockstep(self) -> bool:
        """Whether a vector loop is around: then inner iterations are counted."""
        return any(a.lockstep for a in self.watch.around)

    @contextmanager
    def counting(self) -> Iterator[int]:
        """The scope of a loop's body in a vector: a slot for the number of the iteration."""
        watch, count = self.watch, self.fresh()
        watch.place += 1
        here = watch.place
        watch.places.append((here, count))
        watch.place = 0
        yield count
        watch.places.pop()
        watch.place = here

    def counted(self, bounds: Callable[[Frame], range], slot: int, inside: Body) -> Run:
        with self.counting() as count:
            body = self.body(inside)

        def run_counted(f: Frame) -> str | None:
            for n, i in enumerate(bounds(f)):
                f[count], f[slot] = n, i
                leave = body(f)
                if leave == "break":
                    break
                if leave == "return":
                    return leave
            return None

        return run_counted

    def concurrent(self, s: Loop) -> Run:
        """A loop whose iterations may run at the same time."""
        bounds, slot, watch = self.iterations(s), self.name(s.var), self.watch
        lockstep = s.mark is not None and s.mark.kind == "vectorize"
        around = Around(s, self.fresh(), len(watch.places), varying(s) if lockstep else frozenset())
        watch.around.append(around)
        body = self.body(s.body)
        watch.around.pop()
        lanes_slot = around.slot

        def run_lanes(f: Frame) -> str | None:
            f[lanes_slot] = lanes = Lanes(s)
            for i in bounds(f):
                f[slot] = lanes.lane = i
                leave = body(f)
                if leave == "break":
                    break
                if leave == "return":
                    return leave
            return None

        def run_parallel(f: Frame) -> str | None:
            recorder, run = f[RECORDER], object()
            outer = recorder.path
            if not outer:
                recorder.cells.clear()
            leave = None
            for i in bounds(f):
                f[slot] = i
                recorder.path = (*outer, Turn(run, s, i))
                leave = body(f)
                if leave in ("break", "return"):
                    break
            recorder.path = outer
            return "return" if leave == "return" else None

        return run_lanes if lockstep else run_parallel

    def while_(self, s: While) -> Run:
        if self.in_lockstep:
            return self.counted_while(s)
        cond, body = self.expr(s.cond), self.body(s.body)

        def run_while(f: Frame) -> str | None:
            while cond(f):
                leave = body(f)
                if leave == "break":
                    break
                if leave == "return":
                    return leave
            return None

        return run_while

    def counted_while(self, s: While) -> Run:
        with self.counting() as count:
            cond, body = self.expr(s.cond), self.body(s.body)

        def run_while(f: Frame) -> str | None:
            f[count] = 0
            while cond(f):
                leave = body(f)
                if leave == "break":
                    break
                if leave == "return":
                    return leave
                f[count] += 1
            return None

        return run_while

    def alloc(self, s: Alloc) -> Run:
        shape = [self.expr(e) for e in s.shape]
        poison = Poison(s.name, s.loc)
        b = self.buffer(s.name, "local", len(s.shape))
        token = b.token

        def run_alloc(f: Frame) -> None:
            make(f, b, tuple([max(0, extent(f)) for extent in shape]), poison)
            if token:
                f[RECORDER].locals += 1
                f[token] = -f[RECORDER].locals

        return run_alloc

    def store(self, s: Store) -> Run:
        value = self.expr(s.value)
        b = self.found(s.buffer)
        slot = b.slot
        noted = self.watched(b, s.index, s.loc, "write", s.value.dtype)
        if b.kind == "local" and b.rank == 0:

            def store_cell(f: Frame) -> None:
                f[slot] = value(f)
                if noted is not None:
                    noted(f)

            return store_cell
        at = noted or self.position(b, s.index, s.loc)
        if b.kind == "local":

            def store_local(f: Frame) -> None:
                v = value(f)
                f[slot][at(f)] = v

            return store_local

        def store_array(f: Frame) -> None:
            v = value(f)
            if v.__class__ is Poison:
                v.use()
            f[slot][at(f)] = v

        return store_array

    def update(self, s: Accumulate | Atomic) -> Run:
        value, b = self.expr(s.value), self.found(s.buffer)
        op, slot = scalar_ops.binary(s.op, s.value.dtype), b.slot
        write_old = self.write_old(s) if isinstance(s, Atomic) and s.old else None
        touch: Touch = "atomic" if isinstance(s, Atomic) or s.together else "update"
        noted = self.watched(b, s.index, s.loc, touch, s.value.dtype, s.op)
        if b.kind == "local" and b.rank == 0:

            def update_cell(f: Frame) -> None:
                v, before = value(f), f[slot]
                f[slot] = op(before, v)
                if noted is not None:
                    noted(f)
                if write_old:
                    write_old(f, before)

            return update_cell
        at, is_array = noted or self.position(b, s.index, s.loc), b.kind == "array"

        def update(f: Frame) -> None:
            v = value(f)
            key, cells = at(f), f[slot]
            before = cells.item(key) if is_array else cells[key]
            cells[key] = op(before, v)
            if write_old:
                write_old(f, before)

        return update

    def write_old(self, s: Atomic) -> Callable[[Frame, Any], None]:
        b = self.found(s.old)
        slot, is_array = b.slot, b.kind == "array"
        noted = self.watched(b, (), s.loc, "write", s.value.dtype)

        def write(f: Frame, v: Any) -> None:
            if noted is not None:
                noted(f)
            if is_array:
                f[slot][()] = v
            else:
                f[slot] = v

        return write

    def prefetch(self, s: Prefetch) -> Run:
        at = self.position(self.found(s.buffer), s.index, s.loc)

        def run_prefetch(f: Frame) -> None:
            at(f)

        return run_prefetch

    def assertion(self, s: Assert) -> Run:
        cond, loc, message = self.expr(s.cond), s.loc, s.message

        def run_assert(f: Frame) -> None:
            if not cond(f):
                raise fault("assertion", loc, text=message)

        return run_assert

    def print(self, s: Print) -> Run:
        texts = [self.text(i) for i in s.items]
        sep, end = s.sep, s.end

        def run_print(f: Frame) -> None:
            f[PRINT](sep.join([text(f) for text in texts]) + end)

        return run_print

    def text(self, item: str | Expr) -> Callable[[Frame], str]:
        if isinstance(item, str):
            return lambda f: item
        value, dtype = self.expr(item), item.dtype
        return lambda f: number_text(value(f), dtype)
