"""What a function costs, from its text alone: operations, bytes, and how much memory each loop touches.

    for i in range(M):                      C[i, j] += A[i, k] * B[k, j]
        for j in range(N):                  2 * M * N * K flops
            for k in range(K):              A: 4 * M * N * K bytes read, 4 * M * K of them different

Counts are polynomials in the sizes (see `counting`). What depends on data counts as if it always ran.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from kdsl.analysis.counting import Atoms, Count, Dim, Nest, nonnegative
from kdsl.analysis.polynomials import ZERO, Number, Polynomial, constant, product, variable
from kdsl.dtypes import DType, Size
from kdsl.ir.nodes import (
    Accumulate,
    Alloc,
    Atomic,
    Binary,
    Body,
    Break,
    Call,
    Continue,
    Expr,
    Func,
    If,
    Load,
    Loop,
    Memory,
    Return,
    Select,
    Stmt,
    Store,
    While,
)
from kdsl.ir.walk import stmt_exprs, stmts, subexprs

Mode = Literal["read", "write"]

FLOPS = {"fma": 2, "sqrt": 1, "minimum": 1, "maximum": 1}
"""Functions that count as so many operations; others are counted as calls."""
FREE = frozenset(("abs", "floor", "ceil", "round", "trunc", "isnan", "isinf", "within", "bitcast", "select"))


NONE = Count()


@dataclass(frozen=True, slots=True)
class Traffic:
    """One array: elements read and written, and how many different ones that are. Times `dtype.bytes`: bytes.

    `memory` is None for an array of the caller's.
    """

    name: str
    dtype: DType
    read: Count = NONE
    written: Count = NONE
    touched_read: Count = NONE
    touched_written: Count = NONE
    touched: Count = NONE
    memory: Memory | None = None


@dataclass(frozen=True, slots=True)
class LoopCost:
    """One loop. `entered`: how often; `iterations`: of all entries together.

    `touched` has for each array the different elements of one execution of the loop, at most; `flops` of all.
    """

    entered: Count
    iterations: Count
    flops: Count
    touched: dict[str, Count]


@dataclass(frozen=True, slots=True)
class Cost:
    """A function. `flops` by type and operator, `calls` by function; `loops` by the loop's id."""

    sizes: tuple[str, ...]
    atoms: Atoms
    flops: dict[tuple[DType, str], Count]
    calls: dict[str, Count]
    arrays: dict[str, Traffic]
    loops: dict[int, LoopCost]

    def total_flops(self, dtype: DType | None = None) -> Count:
        """All floating-point operations (of one type)."""
        found = [c for (t, _), c in self.flops.items() if dtype is None or t == dtype]
        return sum(found, start=Count())

    def float_type(self) -> DType | None:
        """The type with the most operations; None when there are none."""
        kinds = {t for t, _ in self.flops}
        return max(kinds, key=lambda t: (_growth(self.total_flops(t).value), t.bytes), default=None)


_Index = tuple[Polynomial | None, ...]


@dataclass(frozen=True, slots=True)
class _Site:
    """One access, with the loops around it. `shape` is the buffer's: copies of a local may differ in it."""

    buffer: str
    shape: tuple[Polynomial, ...]
    mode: Mode
    index: _Index
    nest: Nest


def _growth(p: Polynomial) -> tuple[int, Number]:
    """How fast a count grows: its degree, and what multiplies the highest powers."""
    degree = max(map(len, p.terms), default=0)
    return degree, sum([c for m, c in p.terms.items() if len(m) == degree])


def cost(func: Func) -> Cost:
    """The cost of `func`, at any stage."""
    walk = _Walk(Atoms(), loose=any(isinstance(s, (Break, Continue, Return)) for s in stmts(func.body)))
    for p in func.arrays:
        if p.shape:
            walk.arrays[p.name] = Traffic(p.name, p.dtype)
            walk.shapes[p.name] = tuple([_size(d) for d in p.shape])
    walk.body(func.body, Nest(walk.atoms))
    return Cost(func.sizes, walk.atoms, walk.flops, walk.calls, walk.traffic(), walk.loops())


def _size(size: Size) -> Polynomial:
    return sum((variable(n) * c for n, c in size.terms.items()), start=constant(size.const))


@dataclass(slots=True)
class _Walk:
    atoms: Atoms
    loose: bool
    """Something may leave a loop early: counts are bounds."""
    flops: dict[tuple[DType, str], Count] = field(default_factory=dict)
    calls: dict[str, Count] = field(default_factory=dict)
    arrays: dict[str, Traffic] = field(default_factory=dict)
    shapes: dict[str, tuple[Polynomial, ...]] = field(default_factory=dict)
    """Of the arrays in scope."""
    sites: list[_Site] = field(default_factory=list)
    found: dict[int, tuple[Nest, list[Count], range]] = field(default_factory=dict)
    _simplified: dict[tuple[int, int, _Index], tuple[_Index, Nest]] = field(default_factory=dict)

    def body(self, body: Body, nest: Nest) -> Count:
        """Counts a body; gives its floating-point operations."""
        total = Count()
        for s in body:
            total += self.statement(s, nest)
        return total

    def statement(self, s: Stmt, nest: Nest) -> Count:
        times = self.times(nest)
        total = Count()
        for e in stmt_exprs(s):
            total += self.expression(e, nest, times)
        match s:
            case Alloc() if s.shape:
                self.arrays.setdefault(s.name, Traffic(s.name, s.dtype, memory=s.memory))
                shape = [self.atoms.polynomial(e) for e in s.shape]
                self.shapes[s.name] = tuple([ZERO if p is None else p for p in shape])
            case Store() | Accumulate() | Atomic():
                modes: tuple[Mode, ...] = ("write",) if isinstance(s, Store) else ("read", "write")
                for mode in modes:
                    self.access(s.buffer, mode, s.index, nest, times)
                if not isinstance(s, Store):
                    total += self.operation(s.value.dtype, s.op, 1, times)
            case Loop():
                inner = nest.entered(s)
                first = len(self.sites)
                inside = self.body(s.body, inner)
                counts = [times, self.times(inner), inside]
                self.found[s.id] = (nest, counts, range(first, len(self.sites)))
                total += inside
            case While():
                unknown = Dim(f"while {s.id}", ZERO, 1, self.atoms.unknown("iterations of `while`"))
                total += self.body(s.body, replace(nest, dims=(*nest.dims, unknown)))
            case If():
                total += self.body(s.then, nest.under(s.cond))
                total += self.body(s.orelse, nest.under(s.cond, otherwise=True))
            case _:
                pass
        return total

    def times(self, nest: Nest) -> Count:
        count = nest.total()
        return replace(count, bound="at most") if self.loose and count.bound == "exact" else count

    def expression(self, e: Expr, nest: Nest, times: Count) -> Count:
        """Counts what is evaluated, both arms of a choice included."""
        total = Count()
        chosen = [x for x in subexprs(e) if isinstance(x, Select)]
        maybe = {id(x) for s in chosen for arm in (s.a, s.b) for x in subexprs(arm)}
        for x in subexprs(e):
            often = replace(times, bound="at most") if id(x) in maybe else times
            match x:
                case Load():
                    self.access(x.buffer, "read", x.index, nest, often)
                case Binary(op="+" | "-" | "*" | "/" | "min" | "max"):
                    total += self.operation(x.dtype, x.op, 1, often)
                case Call() if x.fn in FLOPS:
                    total += self.operation(x.type, x.fn, FLOPS[x.fn], often)
                case Call() if x.fn not in FREE:
                    self.calls[x.fn] = self.calls.get(x.fn, Count()) + often
                case _:
                    pass
        return total

    def operation(self, t: DType, op: str, weight: int, times: Count) -> Count:
        if not t.is_float:
            return Count()
        self.flops[t, op] = self.flops.get((t, op), Count()) + times * weight
        return times * weight

    def access(self, buffer: str, mode: Mode, index: Sequence[Expr], nest: Nest, times: Count) -> None:
        if not index or buffer not in self.arrays:
            return
        row = self.arrays[buffer]
        if mode == "read":
            row = replace(row, read=row.read + times)
        else:
            row = replace(row, written=row.written + times)
        self.arrays[buffer] = row
        shape = self.shapes[buffer]
        self.sites.append(_Site(buffer, shape, mode, tuple(map(self.atoms.polynomial, index)), nest))

    # -- footprints

    def traffic(self) -> dict[str, Traffic]:
        out = {}
        for name, row in self.arrays.items():
            here = [s for s in self.sites if s.buffer == name]
            out[name] = replace(
                row,
                touched_read=self.footprint([s for s in here if s.mode == "read"], 0),
                touched_written=self.footprint([s for s in here if s.mode == "write"], 0),
                touched=self.footprint(here, 0),
            )
        return out

    def loops(self) -> dict[int, LoopCost]:
        out = {}
        for key, (nest, (entered, iterations, flops), numbers) in self.found.items():
            sites = [self.sites[n] for n in numbers]
            names = dict.fromkeys(s.buffer for s in sites)
            depth = len(nest.dims)
            touched = {b: self.footprint([s for s in sites if s.buffer == b], depth) for b in names}
            out[key] = LoopCost(entered, iterations, flops, touched)
        return out

    def footprint(self, sites: Sequence[_Site], depth: int) -> Count:
        """The different elements that `sites`, of one buffer, touch while the outer `depth` loops
        stand still: the most of all iterations of these.
        """
        shapes = list(dict.fromkeys(s.shape for s in sites))
        if len(shapes) != 1:
            parts = [self.footprint([s for s in sites if s.shape == shape], depth) for shape in shapes]
            return replace(sum(parts, start=Count()), bound="at most") if parts else Count()
        seen: dict[tuple[_Index, tuple[Dim, ...]], Nest] = {}
        for s in sites:
            clean, inner = self.simplified(s, depth)
            known_as = (clean, inner.dims)
            if known_as not in seen or inner.bound == "exact":
                seen[known_as] = inner
        outer = replace(sites[0].nest, dims=sites[0].nest.dims[:depth], tests=())
        found = [(index, nest) for (index, _), nest in seen.items()]
        counts = [_distinct(index, nest, outer, self.atoms) for index, nest in found]
        if len(counts) == 1 and counts[0] is not None and counts[0].bound == "exact":
            return counts[0]
        box = self.box(found, shapes[0], outer)
        for c in counts:
            if c is not None and c.bound == "exact" and c.value == box.value:
                return replace(c, where=c.where | box.where)
        return box

    def simplified(self, s: _Site, depth: int) -> tuple[_Index, Nest]:
        """The index of a site and its nest inside `depth` loops, after `Nest.simplified`."""
        key = id(s.nest), depth, s.index
        if key not in self._simplified:
            known = [p for p in s.index if p is not None]
            inner, moved = replace(s.nest, dims=s.nest.dims[depth:]).simplified(*known)
            gone = {d.name for d in s.nest.dims[depth:]} - {d.name for d in inner.dims}
            new = iter(moved)
            index = [None if p is None else next(new) for p in s.index]
            clean = tuple([None if p is None or self.atoms.names(p) & gone else p for p in index])
            self._simplified[key] = clean, inner
        return self._simplified[key]

    def box(self, found: Sequence[tuple[_Index, Nest]], shape: Sequence[Polynomial], outer: Nest) -> Count:
        """The number of elements in the least box around them that can be written down, at most the array."""
        where: frozenset[Polynomial] = frozenset().union(*[n.where for _, n in found])
        extents = [self.span(dim, found, whole, outer) or whole for dim, whole in enumerate(shape)]
        return Count(product(extents), "at most", where)

    def span(
        self, dim: int, found: Sequence[tuple[_Index, Nest]], whole: Polynomial, outer: Nest
    ) -> Polynomial | None:
        """The extent of the box in one dimension; None when it is not known to be less than the array's."""
        low: Polynomial | None = None
        high: Polynomial | None = None
        for index, nest in found:
            p = index[dim]
            least = None if p is None else nest.lowest(p)
            most = None if p is None else nest.lowest(p, highest=True)
            if least is None or most is None:
                return None
            low = least if low is None else self.extreme(low, least, -1)
            high = most if high is None else self.extreme(high, most, 1)
            if low is None or high is None:
                return None
        if low is None or high is None:
            return None
        extent = outer.lowest(high - low + 1, highest=True)
        if extent is None or self.atoms.names(extent) & {d.name for d in outer.dims}:
            return None
        known = nonnegative(whole - extent, self.atoms) or (extent.is_const and not whole.is_const)
        return extent if known else None

    def extreme(self, a: Polynomial, b: Polynomial, sign: int) -> Polynomial | None:
        """The greater (`sign` 1) or lesser one, if that is the same for all sizes."""
        if nonnegative((a - b) * sign, self.atoms):
            return a
        return b if nonnegative((b - a) * sign, self.atoms) else None


def _distinct(index: _Index, nest: Nest, outer: Nest, atoms: Atoms) -> Count | None:
    """The number of different cells; None when that is not just the number of iterations of some loops."""
    names = {d.name for d in nest.dims}
    known: set[str] = set()
    todo = []
    for p in index:
        if p is None or any(n in atoms.exprs and atoms.names(variable(n)) & names for n in p.names()):
            return None
        todo.append({n for n in p.names() if n in names and p.degree(n) == 1})
        if any(p.degree(n) > 1 for n in names):
            return None
    used = set().union(*todo)
    while todo:
        # A subscript in which one loop is new tells its iteration.
        fresh = next((t for t in todo if len(t - known) <= 1), None)
        if fresh is None:
            return None
        known |= fresh
        todo.remove(fresh)
    dims, where, bound = [], nest.where, nest.bound
    for dim in nest.dims:
        if dim.name in used:
            if (dim.first.names() | dim.count.names()) & (names - used):
                return None
            dims.append(dim)
            continue
        # A loop that has no iteration leaves cells untouched.
        least = nest.lowest(dim.count - 1)
        if least is None or not nonnegative(least, atoms, names | {d.name for d in outer.dims}):
            if least is not None and not atoms.names(least) & (names | {d.name for d in outer.dims}):
                where |= {least}
            else:
                bound = "at most"
    count = replace(nest, dims=tuple(dims)).total()
    most = outer.lowest(count.value, highest=True)
    if most is None or atoms.names(most) & {d.name for d in outer.dims}:
        return None
    return Count(most, bound, where | count.where)
