"""Elementwise expressions over arrays, and assignment to slices."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence

from kdsl.frontend_ast import core, facts
from kdsl.frontend_ast.base import Base
from kdsl.frontend_ast.frames import EXPR, Array, Index, Value, View
from kdsl.source import Loc


class Elementwise(Base):
    """Broadcasting, slice assignment, and the loops that they become."""

    def broadcast(self, values: Sequence[Array], loc: Loc | None) -> Index:
        """The common shape of several arrays, as NumPy broadcasts them."""
        rank = max(len(v.shape) for v in values)
        shape: list[core.Expr] = [core.Num(1)] * rank
        for v in values:
            for n, extent in enumerate(v.shape):
                at = rank - len(v.shape) + n
                if facts.constant(shape[at]) == 1:
                    shape[at] = extent
                elif facts.constant(extent) != 1:
                    self.require_equal(
                        shape[at],
                        extent,
                        f"arrays of different extents in dimension {at} cannot be combined",
                        loc,
                        "K0219",
                    )
        return tuple(shape)

    def elementwise(
        self, values: Sequence[Value], f: Callable[[list[core.Expr]], core.Expr], node: ast.AST
    ) -> Value:
        """`f` on scalars, or on each element when some of the values are arrays."""
        arrays = [v for v in values if isinstance(v, Array) and (v.shape or not isinstance(v, View))]
        if not arrays:
            return f([self.scalar(v, node) for v in values])
        fixed: list[Value] = []
        for v in values:
            if isinstance(v, Array):
                fixed.append(v)
            else:
                e = self.scalar(v, node)
                fixed.append(self.temp(e) if facts.has_load(e) else e)
        shape = self.broadcast(arrays, self.loc(node))

        def elem(index: Index) -> core.Expr:
            return f(
                [
                    v.elem(_fit(v.shape, index)) if isinstance(v, Array) else self.scalar(v, node)
                    for v in fixed
                ]
            )

        return Array(shape, elem)

    def assign_slice(self, target: View, value: Value, node: ast.AST, op: str | None = None) -> None:
        """`target[...] = value`, or `op=`, element by element, as if the value were copied first."""
        loc = self.loc(node)
        if isinstance(value, EXPR):
            scalar = self.temp(value) if facts.has_load(value) else value
            value = Array((), lambda index: scalar)
        if not isinstance(value, Array):
            self.error("K0210", f"an array's elements cannot be set to {self.describe(value)}", node)
        rank = len(target.shape)
        if len(value.shape) > rank:
            self.error(
                "K0219",
                f"a value of rank {len(value.shape)} does not fit into `{target.text}` of rank {rank}",
                node,
                help="index the value so that the ranks agree",
            )
        for n, extent in enumerate(value.shape):
            at = rank - len(value.shape) + n
            if facts.constant(extent) != 1:
                self.require_equal(
                    extent, target.shape[at],
                    f"dimension {at} of `{target.text}` and of the value assigned to it must agree",
                    loc, "K0219", "slice both to the same number of elements",
                )  # fmt: skip
        source = value

        def store(index: Index) -> core.Stmt:
            place = target.place(index)
            e = source.elem(_fit(source.shape, index))
            if op is not None:
                e = core.Bin(op, core.Load(target.buffer, place, loc), e, loc)
            return core.Store(target.buffer, place, e, op is not None, loc)

        if self._reads_elsewhere(target, source):
            copy = self._copy(source, loc)
            source = copy
        self.out.append(self.nest("s", target.shape, store, loc))

    def nest(self, name: str, shape: Index, make: Callable[[Index], core.Stmt], loc: Loc | None) -> core.Stmt:
        """Loops over all indices of `shape` around `make(index)`: variables `name0`, `name1`, ..."""
        loops = [core.LoopVar(f"{name}{n}", None, loc, extent) for n, extent in enumerate(shape)]
        s = make(tuple(core.LoopRef(loop, loc) for loop in loops))
        for loop, extent in reversed(list(zip(loops, shape))):
            s = core.For(loop, core.Num(0, loc=loc), extent, core.Num(1, loc=loc), [s], loc)
        return s

    def _reads_elsewhere(self, target: View, source: Array) -> bool:
        """Whether the value reads elements of the target's array that the assignment may have changed."""
        if isinstance(source, View) and source.buffer is target.buffer and source is target:
            return False
        probe = tuple(core.LoopRef(core.LoopVar("probe", None)) for _ in target.shape)
        written = tuple(facts.untested(i) for i in target.place(probe))
        found: list[core.Load] = []
        facts.loads(source.elem(_fit(source.shape, probe)), found)
        own = {facts.key(p) for p in probe}
        for load in found:
            if not self._may_share(load.buffer, target.buffer):
                continue
            if load.buffer is target.buffer:
                index = [facts.untested(i) for i in load.index]
                if [facts.key(i) for i in index] == [facts.key(i) for i in written]:
                    continue
                if any(_never_equal(a, b, own) for a, b in zip(index, written)):
                    continue
            return True
        return False

    def _may_share(self, a: core.Buffer, b: core.Buffer) -> bool:
        return a is b or (a.param and b.param and a.name in self.may_alias and b.name in self.may_alias)

    def _copy(self, source: Array, loc: Loc | None) -> View:
        probe = tuple(core.LoopRef(core.LoopVar("probe", None)) for _ in source.shape)
        shape = tuple(known for e in source.shape if (known := _sizes_only(e)) is not None)
        if len(shape) < len(source.shape):
            self.error(
                "K0220",
                "the value reads elements that this assignment writes, and a copy of it has no known size",
                loc,
                label="its extent is not known before the kernel runs",
                help="loop over the elements, or copy them into a local array of fixed shape first",
            )
        buffer = core.Buffer("copy", core.Like(source.elem(probe)), shape, loc=loc)
        self.out.append(core.Alloc(buffer, loc))
        self.out.append(
            self.nest(
                "s", source.shape, lambda index: core.Store(buffer, index, source.elem(index), loc=loc), loc
            )
        )
        return View.of(buffer, shape, lambda index: index, "copy", whole=True)

    def local_shape(self, shape: Sequence[core.Expr], loc: Loc | None) -> Index:
        """The extents of a local array, which must be made of sizes and constants."""
        out = []
        for e in map(facts.raw_length, shape):
            known = _sizes_only(e)
            if known is None:
                self.error(
                    "K0220",
                    "the shape of a local array must be made of sizes and constants",
                    e.loc or loc,
                    label="not known before the kernel runs",
                    help="use the largest extent that can occur, and a part of the array",
                )
            out.append(known)
        return tuple(out)


def _sizes_only(e: core.Expr) -> core.Expr | None:
    """`e` with variables replaced by their values where these are made of sizes; None when it is not."""
    match e:
        case core.Ref() if e.var.shape_value is not None:
            return e.var.shape_value
        case core.Bin():
            a, b = _sizes_only(e.a), _sizes_only(e.b)
            new: core.Expr | None = core.Bin(e.op, a, b, e.loc) if a is not None and b is not None else None
        case core.Cast():
            x = _sizes_only(e.x)
            new = core.Cast(x, e.to, e.loc) if x is not None else None
        case _:
            new = e
    return new if new is not None and facts.is_shape(new) else None


def _fit(shape: Index, index: Index) -> Index:
    """The index into an array of `shape` that broadcasts to `index`."""
    tail = index[len(index) - len(shape) :]
    return tuple(core.Num(0) if facts.constant(e) == 1 else i for e, i in zip(shape, tail))


def _never_equal(a: core.Expr, b: core.Expr, own: set[facts.Key]) -> bool:
    """Whether two index expressions that do not use the loops of the assignment differ by a constant."""
    pa, pb = facts.poly(a), facts.poly(b)
    if any(atom in own for p in (pa, pb) for monomial in p for atom in monomial):
        return False
    difference = facts.poly_add(pa, facts.poly_scale(pb, -1))
    return bool(difference) and set(difference) == {()}
