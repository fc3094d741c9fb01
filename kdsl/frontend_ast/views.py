"""Arrays as views: subscripts, slices, transposes, reshapes."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kdsl.frontend_ast import core, facts
from kdsl.frontend_ast.elementwise import Elementwise
from kdsl.frontend_ast.frames import Array, Index, Static, Tuple, Value, View


@dataclass(eq=False, repr=False)
class _Slice:
    """Indices `lo`, `lo + step`, ...: `extent` of them."""

    lo: core.Expr
    step: int
    extent: core.Expr


class Views(Elementwise):
    """Subscripts and array attributes."""

    # ---- subscripts

    def subscript(self, array: Value, node: ast.Subscript) -> Value:
        """`array[...]`: an element when every dimension has an index, else a view."""
        if isinstance(array, Tuple):
            at = facts.constant(self.scalar_expr(node.slice, "an index"))
            if at is None or not -len(array.items) <= at < len(array.items):
                self.error(
                    "K0213",
                    "a tuple's index must be a constant in range",
                    node.slice,
                    help="pass the numbers as an array to index them at run time",
                )
            return array.items[at]
        if not isinstance(array, Array):
            self.error(
                "K0214",
                f"{self.describe(array)} cannot be indexed",
                node,
                help="only arrays and tuples have [...]",
            )
        if not isinstance(array, View):
            self.error(
                "K0214",
                "an array expression cannot be indexed",
                node,
                help="index its operands: A[i] + B[i] instead of (A + B)[i]",
            )
        parts = self.index_parts(array, node)
        if len(parts) == len(array.shape) and not any(isinstance(p, _Slice) for p in parts):
            index = self.tested(array, [p for p in parts if not isinstance(p, _Slice)], node.value)
            return core.Load(array.buffer, array.place(index), self.loc(node))
        return self.sliced(array, parts, node)

    def index_parts(self, view: View, node: ast.Subscript) -> list[core.Expr | _Slice]:
        """The index of each dimension that is given one; `...` is filled up."""
        rank = len(view.shape)
        nodes = list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]
        dots = [n for n, x in enumerate(nodes) if isinstance(x, ast.Constant) and x.value is Ellipsis]
        if len(dots) > 1:
            self.error("K0213", "an index can have one `...`", node, help="write `:` for each dimension")
        if dots:
            full: list[ast.expr | None] = list(nodes)
            full[dots[0] : dots[0] + 1] = [None] * max(0, rank - len(nodes) + 1)
        else:
            full = list(nodes)
        if len(full) == 1 and full[0] is not None and not isinstance(full[0], ast.Slice):
            # A captured tuple of indices counts as its items.
            value = self.expr(full[0])
            if isinstance(value, Tuple):
                self._check_rank(view, len(value.items), node)
                return [self._element(view, d, v, node.slice) for d, v in enumerate(value.items)]
            self._check_rank(view, 1, node)
            return [self._element(view, 0, value, full[0])]
        self._check_rank(view, len(full), node)
        makes: list[Callable[[], Value]] = []
        layout: list[tuple[int, ast.expr | None, int]] = []
        for dim, item in enumerate(full):
            if item is None:
                layout.append((dim, None, 0))
            elif isinstance(item, ast.Slice):
                bounds = [b for b in (item.lower, item.upper, item.step) if b is not None]
                makes += [lambda b=b: self.expr(b) for b in bounds]  # type: ignore[misc]
                layout.append((dim, item, len(bounds)))
            else:
                makes.append(lambda item=item: self.expr(item))  # type: ignore[misc]
                layout.append((dim, item, 1))
        values = self.operands(makes)
        parts: list[core.Expr | _Slice] = []
        at = 0
        for dim, item, count in layout:
            given = values[at : at + count]
            at += count
            if item is None:
                parts.append(_Slice(core.Num(0), 1, view.shape[dim]))
            elif isinstance(item, ast.Slice):
                parts.append(self._slice(view, dim, item, given))
            else:
                parts.append(self._element(view, dim, given[0], item))
        return parts

    def _check_rank(self, view: View, count: int, node: ast.Subscript) -> None:
        rank = len(view.shape)
        items = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        for item in items:
            if isinstance(item, ast.Constant) and item.value is None:
                self._element(view, 0, Static(None), item)
        if count > rank:
            self.error(
                "K0215",
                f"`{view.text}` has {rank} dimension{'s' * (rank != 1)} but is indexed with {count}",
                node,
                help=f"write {view.text}[{', '.join('ijklmnop'[:rank]) or '()'}]",
            )

    def _element(self, view: View, dim: int, value: Value, node: ast.AST) -> core.Expr:
        if isinstance(value, Static) and value.value is None:
            self.error(
                "K0213", "`None` cannot be an index", node, help="views keep the dimensions of their array"
            )
        e = self.scalar(value, node, "an index")
        at = facts.constant(e) if facts.is_shape(e) else None
        if at is None:
            return e
        extent = facts.constant(view.shape[dim])
        if extent is not None and not -extent <= at < extent:
            self.error(
                "K0216",
                f"index {at} is outside dimension {dim} of `{view.text}`, which has {extent} elements",
                node,
                help=f"valid indices are 0 to {extent - 1}" if extent else "the array is empty",
            )
        if at >= 0:
            return core.Num(at, loc=e.loc)
        return facts.sub(view.shape[dim], core.Num(-at, loc=e.loc))

    def tested(self, view: View, index: Sequence[core.Expr], node: ast.AST) -> Index:
        """`index` with the tests that it lies in `view`, written as `node`, where those of its array do not
        say so."""
        if view.whole:
            return tuple(index)
        out = []
        own = _own_dimensions(view)
        for dim, i in enumerate(index):
            known = dim in own or _lies_inside(i, core.Num(1), view.shape[dim])
            out.append(i if known else self._within(view, dim, i, node))
        return tuple(out)

    def _within(self, view: View, dim: int, index: core.Expr, node: ast.AST) -> core.Expr:
        return core.Fn("within", (index, view.shape[dim], core.Num(dim)), loc=self.loc(node))

    def _slice(self, view: View, dim: int, node: ast.Slice, given: Sequence[Value]) -> _Slice:
        left = list(given)
        lower = self.scalar(left.pop(0), node.lower, "a slice bound") if node.lower is not None else None
        upper = self.scalar(left.pop(0), node.upper, "a slice bound") if node.upper is not None else None
        step = 1
        if node.step is not None:
            known = facts.constant(self.scalar(left.pop(0), node.step, "a slice step"))
            if known is None or known == 0:
                self.error(
                    "K0217",
                    "the step of a slice must be a constant that is not 0",
                    node.step,
                    help="loop over the elements",
                )
            step = known
        extent = view.shape[dim]
        backward = step < 0
        lo = self._bound(
            view, dim, lower, node.lower, facts.sub(extent, core.Num(1)) if backward else core.Num(0)
        )
        hi = self._bound(view, dim, upper, node.upper, core.Num(-1) if backward else extent)
        span = facts.sub(lo, hi) if backward else facts.sub(hi, lo)
        if abs(step) != 1:
            count = facts.constant(span)
            if count is not None:
                span = core.Num(-(-count // abs(step)))
            else:
                span = core.Bin("//", facts.add(span, core.Num(abs(step) - 1)), core.Num(abs(step)))
        return _Slice(self.frozen(lo, "lo"), step, self.frozen(span, "extent"))

    def _bound(
        self, view: View, dim: int, e: core.Expr | None, node: ast.expr | None, default: core.Expr
    ) -> core.Expr:
        """A slice bound; constant negative ones count from the end. Computed ones are used as they are:
        where Python would clamp, an element that is touched outside is an IndexError."""
        if e is None:
            return default
        extent = view.shape[dim]
        at = facts.constant(e) if facts.is_shape(e) else None
        if at is not None:
            e = core.Num(at, loc=e.loc)
            if at < 0:
                e = facts.sub(extent, core.Num(-at, loc=e.loc))
            known, size = facts.constant(e), facts.constant(extent)
            if known is not None and (known < 0 or (size is not None and known > size)):
                self.error(
                    "K0216",
                    f"slice bound {at} is outside dimension {dim} of `{view.text}`"
                    + (f", which has {size} elements" if size is not None else ""),
                    node,
                    help="slices are not clamped to the array: write the bound that is meant",
                )
            return e
        return (
            e
            if isinstance(e, (core.SizeVar, core.LoopRef)) or facts.is_shape(e)
            else core.Cast(e, "index", e.loc)
        )

    def sliced(self, view: View, parts: list[core.Expr | _Slice], node: ast.AST) -> View:
        """The view with each part applied to one dimension; further dimensions are whole."""
        rest = [_Slice(core.Num(0), 1, s) for s in view.shape[len(parts) :]]
        all_parts: list[core.Expr | _Slice] = [
            p if isinstance(p, _Slice) else (p if facts.stable(p) else self._index_temp(p))
            for p in [*self._tested_indices(view, parts, node), *rest]
        ]
        outer = set() if view.whole else set(range(len(view.shape))) - _own_dimensions(view)
        leaves = {dim for dim in outer if _may_leave(all_parts[dim], view.shape[dim])}
        shape = tuple(p.extent for p in all_parts if isinstance(p, _Slice))

        def place(index: Index) -> Index:
            given = iter(index)
            out: list[core.Expr] = []
            for p in all_parts:
                if isinstance(p, _Slice):
                    at = next(given)
                    if p.step == 1:
                        out.append(facts.add(p.lo, at))
                    elif p.step < 0:
                        out.append(facts.sub(p.lo, facts.mul(core.Num(-p.step), at)))
                    else:
                        out.append(facts.add(p.lo, facts.mul(core.Num(p.step), at)))
                else:
                    out.append(p)
            inner = [self._within(view, d, i, node) if d in leaves else i for d, i in enumerate(out)]
            return view.place(tuple(inner))

        return View.of(view.buffer, shape, place, ast.unparse(node), whole=view.whole and parts == [])

    def _tested_indices(
        self, view: View, parts: list[core.Expr | _Slice], node: ast.AST
    ) -> list[core.Expr | _Slice]:
        """`parts` with its indices tested against `view`."""
        at = [d for d, p in enumerate(parts) if not isinstance(p, _Slice)]
        written = node.value if isinstance(node, ast.Subscript) else node
        whole = [p if not isinstance(p, _Slice) else core.Num(0) for p in parts]
        tested = self.tested(view, whole, written)
        return [tested[d] if d in at else p for d, p in enumerate(parts)]

    def _index_temp(self, e: core.Expr) -> core.Expr:
        return self.temp(core.Cast(e, "index", e.loc), "at")

    # ---- attributes and methods

    def array_attribute(self, array: View, name: str, node: ast.Attribute) -> Value | None:
        """`A.shape`, `A.ndim`, `A.size`, `A.T`, `A.dtype`; None for any other name."""
        match name:
            case "shape":
                return Tuple(tuple(facts.length(e) for e in array.shape))
            case "ndim":
                return core.Num(len(array.shape), loc=self.loc(node))
            case "size":
                return self.element_count([facts.length(e) for e in array.shape])
            case "dtype":
                return Static(array.buffer.dtype)
            case "T":
                place = array.place
                return View.of(
                    array.buffer, array.shape[::-1], lambda index: place(index[::-1]), ast.unparse(node)
                )
            case _:
                return None

    def element_count(self, shape: Sequence[core.Expr]) -> core.Expr:
        total: core.Expr = core.Num(1)
        for extent in shape:
            total = facts.mul(total, extent)
        return total

    def reshape(self, array: View, args: list[Value], node: ast.Call) -> View:
        """`A.reshape(...)` of a whole contiguous array: the same elements in C order."""
        if not array.whole or not array.buffer.contiguous:
            self.error(
                "K0218",
                f"`{array.text}` cannot be reshaped: it is not a whole contiguous array",
                node,
                help="reshape before slicing, or copy it into a local array"
                if not array.whole
                else "pass np.ascontiguousarray(...), or index it with the old shape",
            )
        if len(args) == 1 and isinstance(args[0], Tuple):
            args = list(args[0].items)
        shape = [self.frozen(self.scalar(a, node, "an extent")) for a in args]
        total = self.element_count(array.shape)
        open_dims = [n for n, e in enumerate(shape) if facts.constant(e) == -1]
        if len(open_dims) > 1:
            self.error("K0218", "one extent at most can be -1", node, help="give the others")
        if open_dims:
            others = self.element_count([e for n, e in enumerate(shape) if n != open_dims[0]])
            exact = _quotient(total, others)
            shape[open_dims[0]] = (
                exact if exact is not None else core.Bin("//", total, others, self.loc(node))
            )
        self.require_equal(
            self.element_count(shape), total, f"reshape of `{array.text}` must keep the number of elements",
            self.loc(node), "K0218",
        )  # fmt: skip
        groups = _groups(shape, array.shape)
        place = array.place

        def flat(index: Index) -> Index:
            out: list[core.Expr] = []
            for new, old in groups:
                linear: core.Expr = core.Num(0)
                for n in new:
                    linear = facts.add(facts.mul(linear, shape[n]), index[n])
                inner: list[core.Expr] = []
                for n in reversed(old):
                    if n == old[0]:
                        inner.append(linear)
                    else:
                        inner.append(core.Bin("%", linear, array.shape[n]))
                        linear = core.Bin("//", linear, array.shape[n])
                out += reversed(inner)
            return place(tuple(out))

        return View.of(array.buffer, tuple(shape), flat, ast.unparse(node))


def _own_dimensions(view: View) -> set[int]:
    """The dimensions of `view` that are whole dimensions of its array: the array's test is theirs."""
    probe = tuple(core.LoopRef(core.LoopVar("probe", None)) for _ in view.shape)
    found = [(facts.poly(at), facts.poly(e)) for at, e in zip(view.place(probe), view.buffer.shape)]
    wanted = [(facts.poly(p), facts.poly(e)) for p, e in zip(probe, view.shape)]
    return {dim for dim, pair in enumerate(wanted) if pair in found}


def _lies_inside(index: core.Expr, count: core.Expr, extent: core.Expr, step: int = 1) -> bool:
    """Whether `index`, `index + step`, ... (`count` of them) are seen to be from 0 to `extent - 1`."""
    found = _loop_and_offset(index)
    if found is not None:
        loop, offset = found
        if loop.extent is None or loop.first + offset < 0:
            return False
        end = facts.add(loop.extent, core.Num(offset))
        rooms = [facts.constant(core.Bin("-", e, end)) for e in (extent, facts.length(extent))]
        return any(room is not None and room >= 0 for room in rooms)
    first = facts.poly(index)
    last = facts.poly_add(first, facts.poly_scale(facts.poly_add(facts.poly(count), {(): -1}), step))
    low, high = (first, last) if step > 0 else (last, first)
    room = facts.poly_add(facts.poly(extent), facts.poly_scale(high, -1))
    return low.keys() <= {()} and room.keys() <= {()} and low.get((), 0) >= 0 and room.get((), 0) >= 1


def _loop_and_offset(e: core.Expr) -> tuple[core.LoopVar, int] | None:
    """The loop and the number when `e` is a loop variable plus a Python number."""
    match e:
        case core.LoopRef():
            return e.loop, 0
        case core.Bin(op="+" | "-" as op, a=core.LoopRef(loop=loop), b=core.Num(value=int(n), dtype=None)):
            return loop, n if op == "+" else -n
        case core.Bin(op="+", a=core.Num(value=int(n), dtype=None), b=core.LoopRef(loop=loop)):
            return loop, n
        case _:
            return None


def _may_leave(part: core.Expr | _Slice, extent: core.Expr) -> bool:
    """Whether elements of a slice may lie outside the dimension that it is taken of."""
    return isinstance(part, _Slice) and not _lies_inside(part.lo, part.extent, extent, part.step)


def _quotient(total: core.Expr, part: core.Expr) -> core.Expr | None:
    """`total / part` when it is a constant or `part` is one factor of the product `total`, else None."""
    t, p = facts.constant(total), facts.constant(part)
    if t is not None and p is not None:
        return core.Num(t // p) if p else None
    if p == 1:
        return total
    if isinstance(total, core.Bin) and total.op == "*":
        for x, y in ((total.a, total.b), (total.b, total.a)):
            if facts.key(x) == facts.key(part):
                return y
    return None


def _groups(new: Sequence[core.Expr], old: Sequence[core.Expr]) -> list[tuple[list[int], list[int]]]:
    """Runs of dimensions of the two shapes with equal products, as short as can be proved."""
    out: list[tuple[list[int], list[int]]] = []
    a: list[int] = []
    b: list[int] = []
    pa: facts.Poly = {(): 1}
    pb: facts.Poly = {(): 1}
    i = j = 0
    while i < len(new) or j < len(old):
        if i < len(new) and (len(a) <= len(b) or j == len(old)):
            a.append(i)
            pa = facts.poly_mul(pa, facts.poly(new[i]))
            i += 1
        else:
            b.append(j)
            pb = facts.poly_mul(pb, facts.poly(old[j]))
            j += 1
        if a and b and pa == pb:
            out.append((a, b))
            a, b, pa, pb = [], [], {(): 1}, {(): 1}
    if a or b:
        if out and not (a and b):
            last = out.pop()
            a, b = last[0] + a, last[1] + b
        out.append((a, b))
    return out
