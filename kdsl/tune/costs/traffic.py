"""Bytes that cross between the levels of the caches, from the footprints of loops.

A loop whose footprint fits moves each of its cells once. One that does not fit, but whose single iterations
do, keeps from one iteration to the next what both touch. Any other moves what its body moves, each time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil

from kdsl.ir.nodes import Accumulate, Alloc, Atomic, Body, Expr, Func, If, Load, Loop, Stmt, Store, Var
from kdsl.ir.walk import stmt_bodies, stmt_exprs, stmts, subexprs
from kdsl.tune.costs.machine import Machine
from kdsl.tune.ranges import Range, after, middle, range_of, trips

LINE = 64
FULL = 0.9
"""The part of a cache that data of one loop can count on."""

SERVED = {
    "store": {"wide": 1.4, "line": 1.35, "lines": 1.0, "half lines": 1.2},
    "both": {"wide": 1.07, "line": 1.07, "lines": 1.07, "half lines": 1.0},
    "load": {"wide": 1.1, "line": 1.1, "lines": 1.05, "half lines": 1.0},
}
"""How much longer bytes take to or from memory than in the best order: of arrays that are only stored, or
loaded and stored, or only loaded; in vectors wider than a line, of one, or several one after another."""

PAGE = 4096
JUMP = 400.0
"""Bytes that memory could have served while it finds the next piece, a page away."""
PARTS = 3 * LINE
"""What a piece counts for that is a part of a line: the other parts come from the cache, in turn with those
of other rows, whose lines are fetched at the same time."""

Box = list[Range]
"""A range of each subscript."""
Footprint = dict[str, float]
"""Bytes by array, in whole lines."""


@dataclass(frozen=True, slots=True)
class _Site:
    buffer: str
    index: tuple[Expr, ...]
    write: bool
    loops: tuple[int, ...]
    """The ids of the loops around it."""


@dataclass(slots=True)
class Memory:
    """The arrays of a function and what its statements touch, for these sizes."""

    func: Func
    sizes: Mapping[str, int]
    machine: Machine
    shapes: dict[str, tuple[float, ...]] = field(default_factory=dict)
    bytes_each: dict[str, int] = field(default_factory=dict)
    locals: dict[str, Alloc] = field(default_factory=dict)
    spans: dict[int, Range] = field(default_factory=dict)
    counts: dict[int, float] = field(default_factory=dict)
    _sites: dict[int, list[_Site]] = field(default_factory=dict)
    _vars: dict[int, str] = field(default_factory=dict)
    all_bytes: float = 0.0
    """The footprint of the function."""

    def __post_init__(self) -> None:
        for p in self.func.arrays:
            self.shapes[p.name] = tuple([float(max(0, d.evaluate(self.sizes))) for d in p.shape])
            self.bytes_each[p.name] = p.dtype.bytes
        start = {n: (float(v), float(v)) for n, v in self.sizes.items()}
        self._walk(self.func.body, start, ())
        self.all_bytes = sum(self.footprint(self.func.body, self._inside(self.func.body)).values())

    def _walk(self, body: Body, known: dict[str, Range], loops: tuple[int, ...]) -> list[_Site]:
        found: list[_Site] = []
        for s in body:
            here: list[_Site] = []
            if isinstance(s, Alloc):
                ends = [range_of(e, known) for e in s.shape]
                shape = tuple([64.0 if r is None else max(0.0, r[1]) for r in ends])
                self.shapes[s.name], self.bytes_each[s.name], self.locals[s.name] = shape, s.dtype.bytes, s
            if isinstance(s, (Store, Accumulate, Atomic)) and s.index:
                here.append(_Site(s.buffer, s.index, True, loops))
                if not isinstance(s, Store):
                    here.append(_Site(s.buffer, s.index, False, loops))
            for e in stmt_exprs(s) if not isinstance(s, Loop) else ():
                for x in subexprs(e):
                    if isinstance(x, Load) and x.index:
                        here.append(_Site(x.buffer, x.index, False, loops))
            if isinstance(s, Loop):
                count, span = trips(s, known)
                self.spans[s.id], self.counts[s.id], self._vars[s.id] = span, count, s.var
                here += self._walk(s.body, {**known, s.var: span}, (*loops, s.id))
            else:
                for inner in stmt_bodies(s):
                    here += self._walk(inner, known, loops)
            known = dict(after(s, known))
            self._sites[s.id] = here
            found += here
        return found

    # -- footprints

    def resident(self, name: str, registers: int = 32, vector_bytes: int = 64) -> bool:
        """Whether an array lives in registers, as far as it is of the size for that."""
        s = self.locals.get(name)
        if s is None:
            return False
        total = self.bytes_each[name]
        for extent in self.shapes[name]:
            total = int(total * extent)
        constant = not any(hasattr(x, "name") for e in s.shape for x in subexprs(e))
        return not s.shape or (constant and (s.memory == "register" or total <= 2 * registers * vector_bytes))

    def footprint(self, body: Sequence[Stmt], running: frozenset[int]) -> Footprint:
        """The bytes that statements touch while the loops `running` run and the others stand still."""
        boxes: dict[str, list[Box]] = {}
        for s in body:
            for site in self._sites[s.id]:
                if not self.resident(site.buffer):
                    self._add(boxes.setdefault(site.buffer, []), site.buffer, self._box(site, running))
        return {name: sum([self._bytes(name, box) for box in found]) for name, found in boxes.items()}

    def _add(self, boxes: list[Box], name: str, box: Box) -> None:
        """Adds a box of an array: as one with another where that is no more than the two, as in a stencil.

        The two operands of `A @ A` are rows here and columns there, and stay apart.
        """
        for n, old in enumerate(boxes):
            if len(old) != len(box):
                continue
            both = [(min(a[0], b[0]), max(a[1], b[1])) for a, b in zip(old, box)]
            if self._bytes(name, both) <= self._bytes(name, old) + self._bytes(name, box):
                boxes[n] = both
                return
        boxes.append(box)

    def _box(self, site: _Site, running: frozenset[int]) -> Box:
        known: dict[str, Range] = {n: (float(v), float(v)) for n, v in self.sizes.items()}
        for n in site.loops:
            span = self.spans[n]
            still = middle(span)
            known[self._vars[n]] = span if n in running else (float(int(still)), float(int(still)))
        out = []
        for e, extent in zip(site.index, self.shapes.get(site.buffer, ())):
            r = range_of(e, known)
            low, high = r if r is not None else (0.0, extent - 1)
            out.append((max(0.0, min(low, extent - 1)), max(0.0, min(high, extent - 1))))
        return out

    def _bytes(self, name: str, box: Sequence[Range]) -> float:
        each = self.bytes_each[name]
        extents = [high - low + 1 for low, high in box]
        # Rows that are touched from end to end follow each other without a gap.
        run = float(each)
        shape = self.shapes[name]
        rest = list(zip(extents, shape))
        while rest:
            extent, whole = rest.pop()
            run *= extent
            if extent < whole:
                break
        total = float(ceil(run / LINE) * LINE)
        for extent, _ in rest:
            total *= extent
        return total

    # -- traffic

    def into(self, body: Sequence[Stmt], level: int) -> Footprint:
        """The bytes of each array that cache `level` (0: L1) takes in and gives back in one execution.

        Calls follow each other: what fits as a whole is there already.
        """
        size = self.machine.caches[level] * FULL
        if self.all_bytes <= size:
            return {}
        moved = self._moved(body, size)
        written = {x.buffer for x in stmts(tuple(body)) if isinstance(x, (Store, Accumulate, Atomic))}
        return {name: b * (2 if name in written else 1) for name, b in moved.items()}

    def served(self, s: Stmt) -> dict[str, float]:
        """How much longer the bytes of each array take in a statement than in the best order of accesses: it
        depends on the first vectors that touch it."""
        out: dict[str, float] = {}
        every = [x for x in stmts((s,)) if isinstance(x, Loop)]
        marks = {x.id: x.mark.kind for x in every if x.mark is not None}
        copies: dict[int, float] = {}
        for x in every:
            for y in x.body:
                inner = y.then[0] if isinstance(y, If) and y.then else y
                if isinstance(inner, Loop):
                    unrolled = x.mark is not None and x.mark.kind == "unroll"
                    copies[inner.id] = copies.get(x.id, 1.0) * self.counts[x.id] if unrolled else 1.0
        for x in every:
            if x.mark is None or x.mark.kind != "vectorize":
                continue
            sites = self._sites[x.id]
            loaded = {site.buffer for site in sites if not site.write}
            for site in sites:
                kind = "load" if not site.write else "both" if site.buffer in loaded else "store"
                form = _form(self.counts[x.id] * self.bytes_each[site.buffer], copies.get(x.id, 1.0))
                if site.buffer not in out:
                    out[site.buffer] = SERVED[kind][form] * self._jumps(site, marks)
        for x in every:
            for site in self._sites[x.id]:
                if site.buffer not in out:
                    out[site.buffer] = self._jumps(site, marks)
        return out

    def _jumps(self, site: _Site, marks: Mapping[int, str]) -> float:
        """How much longer it takes when each iteration takes a short piece of another row."""
        shape = self.shapes.get(site.buffer, ())
        if len(shape) < 2:
            return 1.0
        rows = [{y.name for y in subexprs(e) if isinstance(y, Var)} for e in site.index]
        # The loops of one piece: those in vectors or written out, and those that go on in the row.
        inside = list(site.loops)
        while inside and (
            marks.get(inside[-1]) in ("unroll", "vectorize") or self._vars[inside[-1]] in rows[-1]
        ):
            inside.pop()
        if not inside or not any(self._vars[inside[-1]] in names for names in rows):
            return 1.0
        low, high = self._box(site, frozenset(site.loops[len(inside) :]))[-1]
        each = self.bytes_each[site.buffer]
        piece, row = (high - low + 1) * each, shape[-1] * each
        if row < 2 * piece:
            return 1.0
        return 1.0 + JUMP / (piece if piece >= LINE else PARTS) * min(1.0, row / PAGE)

    def _moved(self, body: Sequence[Stmt], size: float) -> Footprint:
        whole = self.footprint(body, self._inside(body))
        if sum(whole.values()) <= size:
            return whole
        out: Footprint = {}
        for s in body:
            for name, b in self._moved_by(s, size).items():
                out[name] = out.get(name, 0.0) + b
        return out

    def _moved_by(self, s: Stmt, size: float) -> Footprint:
        if isinstance(s, If):
            return self._moved((*s.then, *s.orelse), size)
        if not isinstance(s, Loop):
            return self.footprint((s,), self._inside(stmt_bodies(s)[0]) if stmt_bodies(s) else frozenset())
        count = self.counts[s.id]
        inside = self._inside(s.body)
        once = self.footprint(s.body, inside)
        if sum(once.values()) <= size:
            whole = self.footprint(s.body, inside | {s.id})
            if sum(whole.values()) <= size:
                return whole
            return {name: min(b, once[name] * count) if b > once[name] else b for name, b in whole.items()}
        return {name: b * count for name, b in self._moved(s.body, size).items()}

    def _inside(self, body: Sequence[Stmt]) -> frozenset[int]:
        return frozenset(s.id for s in stmts(tuple(body)) if isinstance(s, Loop))


def _form(bytes_each: float, copies: float) -> str:
    """The order in which vectors go through memory, as `SERVED` calls it."""
    if bytes_each > LINE:
        return "wide"
    if copies < 4:
        return "line"
    return "lines" if bytes_each == LINE else "half lines"
