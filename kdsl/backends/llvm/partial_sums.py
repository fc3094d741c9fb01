"""Reductions in vector loops: one partial result a lane, combined behind the loops that leave the cell alone.

    for i in range(N // 16):                %sums = alloca <16 x float>, set to -0.0
        for j in vectorize(range(16)):      ... %sums += A[i * 16 + j], lane by lane
            acc += A[i * 16 + j]            behind the loop over i: acc += the lanes of %sums, as a tree

LLVM keeps the vector in a register. A cell of an array is touched only if a term came, as in the program.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdsl.backends.llvm import memory
from kdsl.backends.llvm.lanes import Lanes, identity, reduce
from kdsl.backends.llvm.types import value_type
from kdsl.backends.llvm.uniformity import is_vector, lane_count
from kdsl.backends.llvm.wide import operand
from kdsl.dtypes import DType
from kdsl.ir.nodes import Accumulate, Alloc, Atomic, Body, Expr, Let, Load, Loop, Return, Stmt, Store, Var
from kdsl.ir.walk import exprs, stmt_bodies, stmts, subexprs

if TYPE_CHECKING:
    from kdsl.backends.llvm.statements import Statements

Cell = tuple[str, tuple[Expr, ...], int]
"""A buffer's name, the index of the cell, and the number of lanes that add to it."""


@dataclass(frozen=True, slots=True)
class Sum:
    """The stack slots of a vector of partial results, and of whether there was a term ("": not asked)."""

    op: str
    dtype: DType
    slot: str
    touched: str


@contextmanager
def partial_sums(statements: Statements, loop: Loop) -> Iterator[None]:
    """While `loop` is emitted, keeps partial results for the cells that it only reduces into."""
    x = statements.x
    b = x.b
    opened: dict[Cell, Sum] = {}
    for cell, op in _cells(loop).items():
        buffer = x.buffers[cell[0]]
        if cell in statements.sums or buffer.shared:
            continue
        t, ty = buffer.dtype, value_type(buffer.dtype)
        found = Sum(op, t, b.alloca(f"<{cell[2]} x {ty}>", 64), b.alloca("i1", 1) if cell[1] else "")
        b.do(f"store {operand(cell[2], ty, identity(op, t))}, ptr {found.slot}, align 64")
        if found.touched:
            b.do(f"store i1 false, ptr {found.touched}, align 1")
        opened[cell] = found
    statements.sums |= opened
    yield
    for cell, found in opened.items():
        del statements.sums[cell]
        if b.open:
            _combine(statements, cell, found)


def add(lanes: Lanes, s: Accumulate, value: str, found: Sum) -> None:
    """Adds the lanes that are on to the partial results."""
    b, ty = lanes.b, value_type(found.dtype)
    before = b.value(f"load {lanes.vector(ty)}, ptr {found.slot}, align 64")
    after = lanes.where(lanes.mask, ty, lanes.wide.binary(s.op, found.dtype, before, value), before)
    b.do(f"store {lanes.operand(ty, after)}, ptr {found.slot}, align 64")
    if found.touched:
        on = lanes.x.active or "true"
        was = b.value(f"load i1, ptr {found.touched}, align 1")
        b.do(f"store i1 {b.value(f'or i1 {was}, {on}')}, ptr {found.touched}, align 1")


def _combine(statements: Statements, cell: Cell, found: Sum) -> None:
    x, (name, index, count) = statements.x, cell
    b, t, end = x.b, found.dtype, ""
    if found.touched:
        some, end = b.fresh("sum"), b.fresh("end")
        b.cbr(b.value(f"load i1, ptr {found.touched}, align 1"), some, end)
        b.block(some)
    row = b.value(f"load <{count} x {value_type(t)}>, ptr {found.slot}, align 64")
    total = reduce(x, count, found.op, t, row)
    buffer = x.buffers[name]
    pointer = x.place(buffer, index, (), None)
    old = memory.load(x.arith, buffer, pointer)
    memory.store(x.arith, buffer, pointer, x.arith.binary(found.op, t, old, total))
    if end:
        b.br(end)
        b.block(end)


def _cells(loop: Loop) -> dict[Cell, str]:
    """The cells that the loop's vector loops reduce into, by one operator, and nothing else in it touches."""
    if not any(is_vector(s) for s in (loop, *stmts(loop.body))):
        return {}
    inside = list(stmts(loop.body))
    for s in inside:
        if isinstance(s, Return) or (isinstance(s, Loop) and s.mark is not None and not is_vector(s)):
            return {}
    bound = {loop.var} | {s.var for s in inside if isinstance(s, Loop)}
    bound |= {s.name for s in inside if isinstance(s, Alloc)}
    busy = set()
    for e in (*exprs(loop.body), *subexprs(loop.lo), *subexprs(loop.hi), *subexprs(loop.step)):
        match e:
            case Load(buffer=name):
                busy.add(name)
            case Let(name=name):
                bound.add(name)
            case _:
                pass
    found: dict[str, tuple[Cell, str]] = {}
    for s, count in _with_lanes(loop.body, lane_count(loop) if is_vector(loop) else 0):
        match s:
            case Accumulate(checked=()) if count and s.buffer not in bound and _invariant(s.index, bound):
                cell = (s.buffer, s.index, count)
                if found.setdefault(s.buffer, (cell, s.op)) != (cell, s.op):
                    busy.add(s.buffer)
            case Store() | Accumulate():
                busy.add(s.buffer)
            case Atomic():
                busy |= {s.buffer, s.old}
            case _:
                pass
    return {cell: op for name, (cell, op) in found.items() if name not in busy}


def _with_lanes(body: Body, count: int) -> Iterator[tuple[Stmt, int]]:
    """The statements of `body`, each with the number of lanes that it runs on (0: in no vector loop)."""
    for s in body:
        yield s, count
        inner = lane_count(s) if isinstance(s, Loop) and is_vector(s) else count
        for nested in stmt_bodies(s):
            yield from _with_lanes(nested, inner)


def _invariant(index: tuple[Expr, ...], bound: set[str]) -> bool:
    """Whether an index reads no memory and none of the names that the loop binds."""
    for i in index:
        for e in subexprs(i):
            if isinstance(e, Load) or (isinstance(e, Var) and e.name in bound):
                return False
    return True
