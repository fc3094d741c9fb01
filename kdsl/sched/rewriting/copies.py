"""The copy of a staged region: the loops that fill it and those that empty it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from kdsl.analysis.affine import Form, symbol
from kdsl.analysis.regions import Range
from kdsl.ir.nodes import Body, Compare, Expr, If, Load, Logic, Loop, Select, Stmt, Store
from kdsl.ir.printer import print_expr
from kdsl.sched.edit import Edit
from kdsl.sched.rewriting.arith import const, sub, var
from kdsl.sched.rewriting.arrays import Array
from kdsl.sched.rewriting.layout import Arranged, Arrangement
from kdsl.sched.rewriting.tree import Place


@dataclass(frozen=True, slots=True)
class Stage:
    """What is asked for: a copy `name` of `source` in the body of the loop at `place`."""

    edit: Edit
    place: Place
    source: Array
    name: str
    layout: Arrangement


@dataclass(frozen=True, slots=True)
class Plan:
    """A proved copy. `read`: it is filled first; `written`: the box to copy back, None when nothing is.

    `below`, `above`: for each dimension, whether the box may reach out of the array there.
    """

    stage: Stage
    box: tuple[Range, ...]
    written: tuple[Range, ...] | None
    read: bool
    below: tuple[bool, ...]
    above: tuple[bool, ...]
    memory: Arranged = field(init=False)

    def __post_init__(self) -> None:
        extents = tuple([r.extent for r in self.box])
        arranged = Arranged(self.stage.layout, extents, self.stage.source.atoms)
        object.__setattr__(self, "memory", arranged)

    def expr(self, form: Form) -> Expr:
        """A form as an expression, its atoms put back."""
        return self.memory.expr(form)

    def region_text(self) -> str:
        """The box's extents, for messages."""
        return " x ".join(print_expr(self.expr(r.extent), True) for r in self.box)

    def relative(self, dim: int, index: Expr) -> Expr:
        """The index counted from the start of the box."""
        lo = self.box[dim].lo
        form = self.stage.source.atoms.form(index, None)
        return sub(index, self.expr(lo)) if form is None else self.expr(form - lo)

    # ------------------------------------------------------------------ copies

    def copy_in(self) -> Body:
        """The loops that fill the copy, in the order of its memory."""
        return self._in_layout("", True) if self.read else ()

    def copy_out(self) -> Body:
        """The loops that copy back what was written."""
        if self.written is None:
            return ()
        if self.written == self.box:
            return self._in_layout("w", False)
        loops, at = [], []
        for n, (mine, all_) in enumerate(zip(self.written, self.box)):
            loop = self._loop(f"w{n}", mine.extent)
            loops.append(loop)
            at.append(self.expr(symbol(loop.var) + mine.lo - all_.lo))
        order = self.memory.placed(at, loops)
        return self._nest(loops, self._tests(at, loops), self._leaf(at, order, False))

    def _in_layout(self, tag: str, inward: bool) -> Body:
        layout = self.stage.layout
        loops = [self._loop(f"{tag}{n}", extent) for n, extent in enumerate(self.memory.shape)]
        by_part = [loops[layout.order.index(n)] for n in range(len(loops))]
        at: list[Expr] = []
        extra: list[tuple[Expr, set[str]]] = []
        parts = iter(by_part)
        for r, t in zip(self.box, layout.tile):
            if t is None:
                at.append(var(next(parts).var))
                continue
            outer, inner = next(parts).var, next(parts).var
            x = self.expr(symbol(outer) * t + symbol(inner))
            at.append(x)
            if any(c % t for c in r.extent.terms.values()):
                extra.append((Compare("<", x, self.expr(r.extent)), {outer, inner}))
        tests = [*extra, *self._tests(at, loops)]
        place = tuple([var(loop.var) for loop in loops])
        fill = layout.fill if inward else None
        if fill is None or not tests:
            return self._nest(loops, tests, self._leaf(at, place, inward))
        inside = tests[0][0]
        for test, _ in tests[1:]:
            inside = Logic("and", inside, test)
        leaf = self._leaf(at, place, True)
        return self._nest(loops, [], replace(leaf, value=Select(inside, leaf.value, fill)))

    def _loop(self, tag: str, extent: Form) -> Loop:
        at = self.stage.place.loop
        return Loop(f"{self.stage.name}_{tag}", const(0), self.expr(extent), const(1), (), loc=at.loc)

    def _tests(self, at: Sequence[Expr], loops: Sequence[Loop]) -> list[tuple[Expr, set[str]]]:
        """What holds inside the array, each with the loop variables that it needs."""
        out: list[tuple[Expr, set[str]]] = []
        variables = {loop.var for loop in loops}
        for n, x in enumerate(at):
            index = self._index(n, x)
            form = self.stage.source.atoms.form(x, None)
            assert form is not None
            used = form.names() & variables
            if self.below[n]:
                out.append((Compare("<=", const(0), index), used))
            if self.above[n]:
                out.append((Compare("<", index, self.expr(self.stage.source.shape[n])), used))
        return out

    def _index(self, dim: int, x: Expr) -> Expr:
        form = self.stage.source.atoms.form(x, None)
        assert form is not None
        return self.expr(self.box[dim].lo + form)

    def _leaf(self, at: Sequence[Expr], place: tuple[Expr, ...], inward: bool) -> Store:
        source, loc = self.stage.source, self.stage.place.loop.loc
        index = tuple([self._index(n, x) for n, x in enumerate(at)])
        if inward:
            return Store(self.stage.name, place, Load(source.name, index, source.dtype), loc=loc)
        return Store(source.name, index, Load(self.stage.name, place, source.dtype), loc=loc)

    def _nest(self, loops: Sequence[Loop], tests: Sequence[tuple[Expr, set[str]]], leaf: Stmt) -> Body:
        """The loops around `leaf`, each test as far out as it can stand."""
        body: Body = (leaf,)
        left = list(tests)
        for n in range(len(loops) - 1, -1, -1):
            outer = {loop.var for loop in loops[:n]}
            for test in [t for t in reversed(left) if not t[1] <= outer]:
                body = (If(test[0], body, loc=loops[n].loc),)
                left.remove(test)
            body = (replace(loops[n], body=body),)
        for test in left:
            body = (If(test[0], body, loc=loops[0].loc),)
        return body
