"""Expressions: each `emit` appends what computes a value and gives its name.

`a if c else b`, `and`, `or` are branches with a phi when the operand that may not run could fault or
touch memory that the program would not touch, and a plain `select` otherwise:

    br i1 %c, label %then1, label %else2          %v3 = select i1 %c, float %a, float %b
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from kdsl.analysis.evaluated import nonzero, unconditional_loads
from kdsl.backends.base import FaultKind
from kdsl.backends.llvm import memory
from kdsl.backends.llvm.arith import Arith
from kdsl.backends.llvm.builder import Builder
from kdsl.backends.llvm.joined import joined
from kdsl.backends.llvm.memory import Buffer
from kdsl.backends.llvm.types import literal, value_type
from kdsl.dtypes import i64
from kdsl.ir.faults import part_name
from kdsl.ir.nodes import Binary, Call, Cast, Compare, Const, Expr, Let, Load, Logic, Select, Unary, Var
from kdsl.ir.walk import expr_children
from kdsl.source import Loc

SiteNumber = Callable[[FaultKind, str, int, Loc | None], int]


@dataclass(slots=True)
class Expressions:
    """Emits expressions into `b`. `vars` and `buffers` map names in scope.

    `site(kind, text, dim, loc)` gives the number that a fault reports. With `exact` set, `+ - *` on i64 and
    narrowing to i64 must not overflow: when they do, the function ends with the number that `site` gives.
    `active`, if any, is an i1: while it is false nothing faults and only scratch memory is touched.
    """

    b: Builder
    arith: Arith
    site: SiteNumber
    exact: bool = False
    active: str = ""
    vars: dict[str, str] = field(default_factory=dict)
    buffers: dict[str, Buffer] = field(default_factory=dict)
    scratch: str = ""

    def emit(self, e: Expr) -> str:
        """Appends the code of `e`; gives the name (or literal) of its value."""
        match e:
            case Const():
                return literal(e.value, e.type)
            case Var():
                return self.vars[e.name]
            case Load():
                pointer = self.place(self.buffers[e.buffer], e.index, e.checked, e.loc)
                return memory.load(self.arith, self.buffers[e.buffer], pointer)
            case Unary():
                if self.exact and e.op == "-" and e.dtype == i64:
                    return self._exact("-", "0", self.emit(e.x), e.loc)
                return self.arith.unary(e.op, e.dtype, self.emit(e.x))
            case Binary():
                return self._binary(e)
            case Compare():
                return self.arith.compare(e.op, e.a.dtype, self.emit(e.a), self.emit(e.b))
            case Logic():
                return self._logic(e)
            case Select():
                return self._select(e)
            case Cast():
                return self.arith.cast(self.emit(e.x), e.x.dtype, e.type)
            case Call():
                return self._call(e)
            case Let():
                return self._let(e)
        raise AssertionError(f"unknown expression {type(e).__name__}")

    def place(
        self, buffer: Buffer, index: tuple[Expr, ...], checked: tuple[int, ...], loc: Loc | None
    ) -> str:
        """The address of `buffer[index]`, after the tests of the dimensions `checked`."""
        if not checked:
            buffer, index = joined(self, buffer, index)
        return self.element(buffer, [self.emit(i) for i in index], checked, loc)

    def element(self, buffer: Buffer, index: list[str], checked: tuple[int, ...], loc: Loc | None) -> str:
        """The address of `buffer[index]`, after the tests of the dimensions `checked`."""
        for dim in checked:
            inside = self.b.value(f"icmp ult i64 {index[dim]}, {buffer.extents[dim]}")
            number = self.site("index", buffer.name, dim, loc)
            self.b.guard(self.when_active(inside), number, index=index[dim], extent=buffer.extents[dim])
        pointer = memory.address(self.b, buffer, index)
        if not self.active or (buffer.local and not index):
            return pointer
        if not self.scratch:
            self.scratch = self.b.alloca("i64", 8)
        return self.b.value(f"select i1 {self.active}, ptr {pointer}, ptr {self.scratch}")

    def when_active(self, ok: str) -> str:
        """`ok`, or true while nothing is active."""
        if not self.active:
            return ok
        return self.b.value(f"select i1 {self.active}, i1 {ok}, i1 true")

    def _binary(self, e: Binary) -> str:
        x, y = self.emit(e.a), self.emit(e.b)
        if self.exact and e.op in ("+", "-", "*") and e.dtype == i64:
            return self._exact(e.op, x, y, e.loc)
        if e.op in ("//", "%") and e.dtype.is_int and not nonzero(e.b):
            ty = value_type(e.dtype)
            ok = self.when_active(self.b.value(f"icmp ne {ty} {y}, 0"))
            self.b.guard(ok, self.site("zero_division", "", 0, e.loc))
            if self.active:
                y = self.b.value(f"select i1 {self.active}, {ty} {y}, {ty} 1")
        return self.arith.binary(e.op, e.dtype, x, y)

    def _exact(self, op: str, x: str, y: str, loc: Loc | None) -> str:
        result, fits = self.arith.overflowing(op, x, y)
        self.b.guard(fits, self.site("memory", "", 0, loc))
        return result

    def _call(self, e: Call) -> str:
        args = [self.emit(a) for a in e.args]
        t = e.args[0].dtype
        if e.fn == "within":
            inside = self.when_active(self.inside(args[0], args[1]))
            self.b.guard(inside, self.part_site(e), index=args[0], extent=args[1])
            return args[0]
        if e.fn != "ipow":
            return self.arith.call(e.fn, t, args, e.type)
        exponent = e.args[1]
        if t.kind == "int" and not (isinstance(exponent, Const) and exponent.value >= 0):
            ok = self.b.value(f"icmp sge {value_type(t)} {args[1]}, 0")
            exponent_i64 = self.arith.cast(args[1], t, i64)
            ok = self.when_active(ok)
            self.b.guard(ok, self.site("negative_power", "", 0, e.loc), index=exponent_i64)
        return self.arith.power(t, args[0], args[1])

    def inside(self, index: str, extent: str) -> str:
        """Whether `0 <= index < extent`, for an extent that may be negative."""
        below = self.b.value(f"icmp slt i64 {index}, {extent}")
        return self.b.value(f"and i1 {self.b.value(f'icmp sge i64 {index}, 0')}, {below}")

    def part_site(self, e: Call) -> int:
        """The number that a failing `within` reports."""
        dim = e.args[2]
        assert isinstance(dim, Const)
        return self.site("index", part_name(e.loc), int(dim.value), e.loc)

    def _let(self, e: Let) -> str:
        """Inlined functions keep their order of operations, in fastmath too: only contraction is allowed."""
        with self._flags(self.arith.inline_flags):
            self.vars[e.name] = self.emit(e.value)
            result = self.emit(e.body)
        del self.vars[e.name]
        return result

    @contextmanager
    def _flags(self, flags: str) -> Iterator[None]:
        before = self.arith.flags
        self.arith.flags = flags
        yield
        self.arith.flags = before

    def _logic(self, e: Logic) -> str:
        x = self.emit(e.a)
        other = "false" if e.op == "and" else "true"
        if self.can_run_anyway(e.b, unconditional_loads(e.a)):
            y = self.emit(e.b)
            return self.b.value(
                f"select i1 {x}, i1 {y}, i1 false" if e.op == "and" else f"select i1 {x}, i1 true, i1 {y}"
            )
        more, end, before = self.b.fresh("more"), self.b.fresh("end"), self.b.label
        self.b.cbr(x, *((more, end) if e.op == "and" else (end, more)))
        self.b.block(more)
        y = self.emit(e.b)
        last = self.b.label
        self.b.br(end)
        self.b.block(end)
        return self.b.value(f"phi i1 [ {other}, %{before} ], [ {y}, %{last} ]")

    def _select(self, e: Select) -> str:
        cond, ty = self.emit(e.cond), value_type(e.dtype)
        known = unconditional_loads(e.cond)
        if self.can_run_anyway(e.a, known) and self.can_run_anyway(e.b, known):
            return self.b.value(f"select i1 {cond}, {ty} {self.emit(e.a)}, {ty} {self.emit(e.b)}")
        then, orelse, end = self.b.fresh("then"), self.b.fresh("else"), self.b.fresh("end")
        self.b.cbr(cond, then, orelse)
        arms = []
        for label, arm in ((then, e.a), (orelse, e.b)):
            self.b.block(label)
            value = self.emit(arm)
            arms.append(f"[ {value}, %{self.b.label} ]")
            self.b.br(end)
        self.b.block(end)
        return self.b.value(f"phi {ty} {', '.join(arms)}")

    def can_run_anyway(self, e: Expr, known: frozenset[Load]) -> bool:
        """Whether `e` may be computed where the program would not: it cannot fault and is cheap.

        A load may only when it reads a local scalar or the very element that is read in any case: the
        proof that an index lies inside may rest on the condition.
        """
        match e:
            case Load():
                return e in known or (not e.index and self.buffers[e.buffer].local)
            case Binary() if e.op in ("//", "%"):
                if e.dtype.is_float or not nonzero(e.b):
                    return False
            case Binary() if self.exact:
                return False
            case Call() if e.fn in ("ipow", "fmod", "within"):
                return False
        return all(self.can_run_anyway(c, known) for c in expr_children(e))
