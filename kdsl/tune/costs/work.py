"""What the loops of a scheduled function start in each iteration, in cycles of each kind of port.

Loops that are written out or vectors are part of the iteration of the loop around them: what they load again
counts once, sums that stay in registers are neither loaded nor stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, gcd

from kdsl.ir.nodes import (
    Accumulate,
    Alloc,
    Atomic,
    Binary,
    Body,
    Call,
    Cast,
    Compare,
    Const,
    Expr,
    Func,
    If,
    Load,
    Logic,
    Loop,
    Prefetch,
    Select,
    Stmt,
    Store,
    Unary,
    Var,
    While,
)
from kdsl.ir.walk import expr_children, stmt_exprs, stmts, subexprs
from kdsl.target import Target
from kdsl.tune.costs.execution import Around, Loops, Work, overlapped, running, vector_of
from kdsl.tune.costs.pressure import MATH, pressure
from kdsl.tune.costs.traffic import Memory
from kdsl.tune.nests import steps, stride, uses
from kdsl.tune.ranges import range_of

WAYS, PAGE = 8, 4096
"""Lines with the same place in the first-level cache of the usual CPU, and the bytes between them."""
LARGE = 1024
"""Bytes of a row from which elements below each other count as far apart."""
HALF = 32
"""Bytes of the widest vectors of which two start in a cycle."""
LATENCY = 4.0
"""Cycles until a sum of floats can take its next term."""
APART = 3.0
"""Cycles for one element of an array for registers when vectors do not lie along it: it is in memory then."""
THROUGH_MEMORY = 12.0
"""Cycles until a sum in memory can take its next term."""
DIVISION, INTEGER_DIVISION, BY_CONSTANT = 8.0, 12.0, 4.0
UNROLLED_BY_COMPILER = 4.0
"""How much faster simple loops get that the compiler turns into vectors by itself."""


@dataclass(slots=True)
class Worker:
    """Counts the work of a function for these sizes."""

    func: Func
    target: Target
    sizes: Mapping[str, int]
    memory: Memory

    def trips(self, s: Loop) -> float:
        return self.memory.counts[s.id]

    def weight(self, s: Loop) -> float:
        """A measure of the work of one iteration: its innermost statements."""
        total = 0.0
        for x in s.body:
            total += self.trips(x) * self.weight(x) if isinstance(x, Loop) else 1.0
            if isinstance(x, If):
                total += sum([self.trips(y) * self.weight(y) for y in x.then if isinstance(y, Loop)])
        return total

    def body(self, body: Body, loops: Loops = ()) -> Work:
        """One execution of statements, `overlapped` filled in."""
        inside, own = self._parts(body, loops)
        return inside + overlapped(own)

    def _parts(self, body: Body, loops: Loops) -> tuple[Work, Work]:
        """The work of loops, and what stands outside of these, in one execution."""
        inside, own = Work(), Work()
        for s in body:
            a, b = self._stmt(s, loops)
            inside, own = inside + a, own + b
        return inside, own

    def _stmt(self, s: Stmt, loops: Loops) -> tuple[Work, Work]:
        match s:
            case Loop():
                return self._loop(s, loops)
            case While():
                inside, own = self._parts(s.body, loops)
                return (inside + overlapped(own + self._exprs(s, loops))) * 16.0, Work()
            case If():
                one, two = self._parts(s.then, loops), self._parts(s.orelse, loops)
                part = 0.5 if any(isinstance(x, Load) for x in subexprs(s.cond)) else 1.0
                test = self._expr(s.cond, loops) if part < 1 else Work(issued=0.2)
                return (one[0] + two[0]) * part, (one[1] + two[1]) * part + test
            case _:
                return Work(), self._leaf(s, loops)

    def _loop(self, s: Loop, loops: Loops) -> tuple[Work, Work]:
        trips = self.trips(s)
        kind = s.mark.kind if s.mark is not None else "loop"
        if kind in ("unroll", "tensorize"):
            inside, own = self._parts(s.body, (*loops, Around(s, "unroll", trips)))
            return inside * trips, own * trips
        if kind == "vectorize":
            return self._parts(s.body, (*loops, Around(s, "vector", trips, self._ragged(s, loops))))
        here = (*loops, Around(s, "loop", trips))
        inside, own = self._parts(s.body, here)
        own += Work(issued=2.0, iterations=1.0)
        own += pressure(s, self.memory.counts, self.target)
        wait = self._chain(s)
        each = overlapped(own, wait)
        if self._through_memory(s):
            each += Work(overlapped=max(0.0, THROUGH_MEMORY - inside.overlapped - each.overlapped))
        if self._simple(s, loops):
            each *= 1 / UNROLLED_BY_COMPILER
        return (inside + each) * trips, Work()

    def _ragged(self, s: Loop, loops: Loops) -> float:
        """The part of the vectors that end early, where these stand in a loop of their own."""
        if not loops or loops[-1].kind != "loop" or len(s.body) != 1 or not isinstance(s.body[0], If):
            return 0.0
        test = s.body[0].cond
        if not isinstance(test, Compare) or loops[-1].loop.var not in {
            x.name for x in subexprs(test) if isinstance(x, Var)
        }:
            return 0.0
        known = {n: (float(v), float(v)) for n, v in self.sizes.items()}
        for around in (*loops, Around(s, "vector", 0.0)):
            known[around.loop.var] = self.memory.spans[around.loop.id]
        a, b = range_of(test.a, known), range_of(test.b, known)
        if a is None or b is None or a[1] < b[0]:
            return 0.0
        return 1.0 / max(1.0, loops[-1].trips)

    def _simple(self, s: Loop, loops: Loops) -> bool:
        """A loop of program order that a compiler makes a vector of."""
        if any(isinstance(x, (Loop, If, While, Accumulate)) for x in s.body) or any(
            a.kind == "vector" for a in loops
        ):
            return False
        calls = (x for y in stmts(s.body) for e in stmt_exprs(y) for x in subexprs(e))
        accesses = [
            x for y in stmts(s.body) for e in stmt_exprs(y) for x in subexprs(e) if isinstance(x, Load)
        ]
        targets = [x for x in stmts(s.body) if isinstance(x, Store)]
        if any(isinstance(x, Call) for x in calls) or any(stride(x, s.var, self.sizes) != 1 for x in targets):
            return False
        written = {x.buffer for x in targets}
        return all(stride(x, s.var, self.sizes) in (0, 1) and x.buffer not in written for x in accesses)

    # -- statements

    def _leaf(self, s: Stmt, loops: Loops) -> Work:
        if isinstance(s, (Alloc, Prefetch)):
            return Work(issued=0.5 if isinstance(s, Prefetch) else 0.0)
        total = Work()
        if isinstance(s, (Store, Accumulate, Atomic)):
            total += self._expr(s.value, loops, fused=isinstance(s, Accumulate) and s.op == "+")
            if isinstance(s, Accumulate):
                total += self._op(s.value.dtype.bytes, loops, 1.0)
            return total + self._target(s, loops)
        return total + self._exprs(s, loops)

    def _exprs(self, s: Stmt, loops: Loops) -> Work:
        total = Work(issued=1.0)
        for e in stmt_exprs(s):
            total += self._expr(e, loops)
        return total

    def _target(self, s: Store | Accumulate | Atomic, loops: Loops) -> Work:
        vector = vector_of(loops)
        bytes_each = s.value.dtype.bytes
        if not s.index or self.memory.resident(s.buffer):
            if vector is not None and isinstance(s, Accumulate) and not uses(s, vector.loop.var):
                run = running(loops)
                # A tree at the end of the loop that sums, or for each sum.
                if run is None or uses(s, run.loop.var):
                    return Work(arith=6.0, issued=6.0)
            if vector is not None and s.index and uses(s, vector.loop.var) and not self._along(s, vector):
                return Work(stores=vector.trips * APART, loads=vector.trips * APART, gathered=vector.trips)
            return Work()
        often = self._hoisted(s, loops, stores=True)
        if vector is None:
            n, cost = 1.0, 1.0
        else:
            step = stride(s, vector.loop.var, self.sizes)
            n = float(ceil(vector.trips * bytes_each / self.target.vector_bytes))
            cost = 1.0 if step == 1 else 1.0 / n if step == 0 else 1.5 * vector.trips / n
        port = 0.5 if vector is None else self._port(vector, bytes_each)
        stores = 2 * n * cost * often * port
        loads = n * cost * often * port if isinstance(s, (Accumulate, Atomic)) else 0.0
        if isinstance(s, Atomic):
            stores += 20.0
        if isinstance(s, Accumulate) and vector is not None and not uses(s, vector.loop.var):
            stores += 1.0
        return Work(stores=stores, loads=loads, issued=(n + (n if loads else 0)) * often)

    def _expr(self, e: Expr, loops: Loops, fused: bool = False) -> Work:
        total = Work()
        for x in expr_children(e):
            if not isinstance(e, Load):
                total += self._expr(x, loops)
        match e:
            case Load():
                total += self._load(e, loops)
            case Binary(op="/"):
                total += self._op(e.dtype.bytes, loops, DIVISION) * self._shared(e, loops)
            case Binary(op="//" | "%"):
                cost = BY_CONSTANT if isinstance(e.b, Const) else INTEGER_DIVISION
                total += self._op(e.dtype.bytes, loops, cost) * self._shared(e, loops)
            case Binary(op="*") if fused and e.dtype.is_float:
                pass
            case Binary() | Compare() | Logic() | Select() | Unary() | Cast() if not _address(e):
                total += self._op(max(e.dtype.bytes, 1), loops, 1.0)
            case Call():
                cost = MATH.get(e.fn, 4.0) * (2 if e.dtype.bytes == 8 else 1)
                total += (self._op(e.dtype.bytes, loops, cost) + Work(calls=1.0)) * self._shared(e, loops)
            case _:
                pass
        return total

    def _shared(self, e: Expr, loops: Loops) -> float:
        """The part of the copies that compute `e` anew: those of loops written out that it depends on."""
        inside = list(subexprs(e))
        if any(isinstance(x, Load) and not x.index for x in inside):
            return 1.0
        names = {x.name for x in inside if isinstance(x, Var)}
        part = 1.0
        for around in reversed(loops):
            if around.kind == "loop":
                break
            if around.kind == "unroll" and around.loop.var not in names:
                part /= max(1.0, around.trips)
        return part

    def _op(self, bytes_each: int, loops: Loops, cost: float) -> Work:
        vector = vector_of(loops)
        if vector is None:
            return Work(arith=0.5 * cost, issued=max(1.0, cost / 2))
        n = ceil(vector.trips * bytes_each / self.target.vector_bytes)
        return Work(arith=n * cost * self._port(vector, bytes_each), issued=n * cost)

    def _port(self, vector: Around, bytes_each: int) -> float:
        """Cycles of all ports for one register: those of more than 32 bytes take two of them."""
        return 1.0 if min(vector.trips * bytes_each, self.target.vector_bytes) > HALF else 0.5

    def _load(self, a: Load, loops: Loops) -> Work:
        vector = vector_of(loops)
        if not a.index or self.memory.resident(a.buffer):
            if vector is not None and uses(a, vector.loop.var) and not self._along(a, vector):
                return Work(loads=vector.trips * APART, gathered=vector.trips)
            return Work()
        often = self._hoisted(a, loops)
        if vector is None or not uses(a, vector.loop.var):
            if vector is not None and vector.ragged:
                # Behind the last whole vector each lane asks for itself.
                often += vector.trips * 2 * vector.ragged
            data = any(isinstance(x, Load) for i in a.index for x in subexprs(i))
            often *= self._crowded(a, loops)
            return Work(loads=0.5 * often, issued=often) + (Work(loads=0.5, issued=2.0) if data else Work())
        n = float(ceil(vector.trips * a.type.bytes / self.target.vector_bytes))
        if stride(a, vector.loop.var, self.sizes) == 1:
            return Work(loads=n * often * self._port(vector, a.type.bytes), issued=0.5 * n * often)
        each = vector.trips * often * self._apart(a, vector)
        return Work(loads=1.5 * each, issued=1.5 * vector.trips * often, gathered=vector.trips * often)

    def _along(self, a: Load | Store | Accumulate | Atomic, vector: Around) -> bool:
        return stride(a, vector.loop.var, self.sizes) == 1

    def _crowded(self, a: Load, loops: Loops) -> float:
        """How much slower rows come that are loaded side by side, more than the first cache has places
        for: addresses a page apart share `WAYS` places."""
        for around in loops:
            if around.kind == "unroll" and uses(a, around.loop.var):
                gap = int(self._row_bytes(a, around.loop.var))
                if gap and around.trips > WAYS * (PAGE // gcd(gap, PAGE)):
                    return 4.0
        return 1.0

    def _row_bytes(self, a: Load, var: str) -> float:
        """Bytes between one iteration of `var` and the next; 0 where that is not known."""
        total = 0.0
        row = float(a.type.bytes)
        moves = steps(a, var, self.sizes)
        for move, extent in reversed(list(zip(moves, self.memory.shapes.get(a.buffer, ())))):
            if move is None:
                return 0.0
            total += move * row
            row *= extent
        return total

    def _apart(self, a: Load, vector: Around) -> float:
        """How much slower elements come that lie rows apart, more of them than their places in the first
        cache: a few where rows are some power of two."""
        row = int(self._row_bytes(a, vector.loop.var))
        return 5.0 if row >= LARGE and vector.trips > WAYS * (PAGE // gcd(row, PAGE)) else 1.0

    def _hoisted(self, a: Load | Store | Accumulate | Atomic, loops: Loops, stores: bool = False) -> float:
        """How often in each execution: loops written out in which the cell stays do it once; so does the loop
        around these, unless it is written there."""
        often = 1.0
        for around in reversed(loops):
            if uses(a, around.loop.var) and around.kind == "loop":
                return often
            if around.kind == "loop":
                changed = not stores and a.buffer in _buffers_written(around.loop)
                return often if changed else often / max(1.0, around.trips)
            if around.kind == "unroll" and not uses(a, around.loop.var):
                often /= max(1.0, around.trips)
        return often

    # -- whole loops

    def _chain(self, s: Loop) -> float:
        """Cycles from one iteration to the next for sums that stay in it."""
        longest = 0.0
        names = {s.var}

        def visit(body: Body, copies: float, around: tuple[Loop, ...]) -> None:
            nonlocal longest
            for x in body:
                if isinstance(x, Loop):
                    if x.mark is not None and x.mark.kind in ("unroll", "vectorize"):
                        n = self.trips(x) if x.mark.kind == "unroll" else 1.0
                        visit(x.body, copies * n, (*around, x))
                elif isinstance(x, If):
                    visit(x.then, copies, around)
                    visit(x.orelse, copies, around)
                elif isinstance(x, Accumulate) and not any(uses(x, n) for n in names) and x.buffer not in own:
                    apart = 1.0
                    for loop in around:
                        if loop.mark is not None and loop.mark.kind == "unroll" and uses(x, loop.var):
                            apart *= self.trips(loop)
                    wait = LATENCY if x.value.dtype.is_float else 1.0
                    longest = max(longest, wait * copies / apart)
                elif (
                    isinstance(x, Store) and not x.index and x.buffer not in own and _reads(x.value, x.buffer)
                ):
                    longest = max(longest, LATENCY * _depth(x.value))

        own = {x.name for x in stmts(s.body) if isinstance(x, Alloc)}
        visit(s.body, 1.0, ())
        return longest

    def _through_memory(self, s: Loop) -> bool:
        """Whether inner loops add to cells in memory that are the same in each iteration."""
        inner = [x for x in stmts(s.body) if isinstance(x, Loop)]
        run = [x for x in inner if x.mark is None or x.mark.kind == "parallel"]
        sums = [y for x in run for y in stmts(x.body) if isinstance(y, Accumulate) and y.index]
        return any(not uses(y, s.var) and not self.memory.resident(y.buffer) for y in sums)


def _buffers_written(loop: Loop) -> set[str]:
    return {x.buffer for x in stmts(loop.body) if isinstance(x, (Store, Accumulate, Atomic))}


def _reads(e: Expr, buffer: str) -> bool:
    return any(isinstance(x, Load) and x.buffer == buffer for x in subexprs(e))


def _depth(e: Expr) -> int:
    return max([_depth(x) for x in expr_children(e)], default=0) + (
        0 if isinstance(e, (Load, Const, Var)) else 1
    )


def _address(e: Expr) -> bool:
    """Arithmetic on loop variables and sizes, which addressing does."""
    return e.dtype.name == "i64" and not any(isinstance(x, Load) for x in subexprs(e))
