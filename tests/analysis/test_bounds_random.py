"""Random nests, run by the interpreter (which tests every access) at all small sizes.

- An access that is not tested in place never faults when the conditions hold.
- When a condition fails, the kernel without conditions does fault.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdsl.dtypes import f64, i32, i64, sizes
from kdsl.errors import ArgumentError, KernelAssertionError, KernelIndexError
from kdsl.ir.interpreter import run
from kdsl.ir.nodes import (
    Accumulate,
    Alloc,
    ArrayParam,
    Assert,
    Atomic,
    Binary,
    Body,
    Break,
    Cast,
    Compare,
    Const,
    Continue,
    Expr,
    Func,
    If,
    Let,
    Load,
    Logic,
    Loop,
    Return,
    ScalarParam,
    Select,
    Stmt,
    Store,
    Unary,
    Var,
    While,
)
from kdsl.ir.printer import print_func
from kdsl.ir.verify import verify
from kdsl.ir.walk import exprs, stmts
from kdsl.passes.bounds import bounds
from kdsl.passes.simplify import simplify
from kdsl.source import Loc

M, N = sizes("M N")
ARRAYS = {"A": (N,), "B": (N + 1, M), "C": (M + N,), "I": (M,)}
LOCALS = {"T": (Binary("+", Var("N", i64), Const(2, i64)),), "S": (Const(3, i64),)}
RANKS = {"A": 1, "B": 2, "C": 1, "T": 1, "S": 1}


def const(value: int) -> Const:
    return Const(value, i64)


@dataclass
class Maker:
    """Draws a kernel. Every access has a line of its own."""

    draw: st.DrawFn
    names: list[str] = field(default_factory=lambda: ["N", "M"])
    scalars: list[str] = field(default_factory=list)
    line: int = 0
    counter: int = 0
    loops: int = 0

    def pick(self, *choices: str) -> str:
        return self.draw(st.sampled_from(choices))

    def number(self, lo: int, hi: int) -> int:
        return self.draw(st.integers(lo, hi))

    def loc(self) -> Loc:
        self.line += 1
        return Loc("<random>", self.line)

    def fresh(self, stem: str) -> str:
        self.counter += 1
        return f"{stem}{self.counter}"

    def atom(self) -> Expr:
        kind = self.pick("name", "name", "name", "const", "scalar", "k", "n32", "data")
        if kind == "scalar" and self.scalars:
            return Load(self.draw(st.sampled_from(self.scalars)), (), i64)
        if kind == "k":
            return Var("k", i64)
        if kind == "n32":
            return Cast(Var("n32", i32), i64)
        if kind == "data" and self.number(0, 3) == 0:
            return Load("I", (self.index(0),), i64, loc=self.loc())
        if kind == "const":
            return const(self.number(-1, 4))
        return Var(self.draw(st.sampled_from(self.names)), i64)

    def index(self, depth: int = 2) -> Expr:
        kind = self.pick(
            *("atom", "atom", "+c", "+c", "+", "-", "*", "//", "%", "min", "max", "select", "let", "*v"),
            *("bits", "shift", "narrow", "%v"),
        )
        if depth == 0 or kind == "atom":
            return self.atom()
        a = self.index(depth - 1)
        match kind:
            case "+c":
                return Binary("+", a, const(self.number(-2, 2)))
            case "*":
                return Binary("*", const(self.number(-2, 3)), a)
            case "*v":
                return Binary("*", a, self.atom())
            case "bits":
                op = self.draw(st.sampled_from(("&", "|", "^")))
                return Binary(op, a, self.draw(st.sampled_from((const(3), const(1), self.atom()))))
            case "shift":
                return Binary(self.draw(st.sampled_from(("<<", ">>"))), a, const(self.number(0, 2)))
            case "narrow":
                return Cast(Binary("-", Cast(a, i32), Var("n32", i32)), i64)
            case "%v":
                divisor = Binary("max", self.atom(), const(1))
                return Binary(self.draw(st.sampled_from(("%", "//"))), a, divisor)
            case "//" | "%":
                return Binary("//" if kind == "//" else "%", a, const(self.number(1, 3)))
            case "select":
                return Select(self.cond(depth - 1), a, self.index(depth - 1))
            case "let":
                name = self.fresh("x")
                return Let(name, a, Binary("+", Var(name, i64), Unary("-", Var(name, i64))))
            case "-":
                return Binary("-", a, self.index(depth - 1))
            case "min":
                return Binary("min", a, self.index(depth - 1))
            case "max":
                return Binary("max", a, self.index(depth - 1))
            case _:
                return Binary("+", a, self.atom())

    def cond(self, depth: int = 2) -> Expr:
        kind = self.pick("cmp", "cmp", "and", "or", "not")
        if depth == 0 or kind == "cmp":
            op = self.draw(st.sampled_from(("<", "<=", "==", "!=", ">", ">=")))
            return Compare(op, self.index(1), self.index(0))
        if kind == "not":
            return Unary("not", self.cond(depth - 1))
        return Logic("and" if kind == "and" else "or", self.cond(depth - 1), self.cond(depth - 1))

    def place(self) -> tuple[str, tuple[Expr, ...]]:
        buffer = self.draw(st.sampled_from(sorted(RANKS)))
        return buffer, tuple([self.index() for _ in range(RANKS[buffer])])

    def statement(self, depth: int) -> list[Stmt]:
        kinds = ["access", "access", "scalar", "set"]
        if depth:
            kinds += ["loop", "loop", "loop", "if", "exit", "while", "assert"]
        match self.pick(*kinds):
            case "loop":
                return [self.loop(depth)]
            case "while":
                return self.while_loop(depth)
            case "if":
                return [
                    If(self.cond(), self.body(depth - 1), self.body(depth - 1) if self.number(0, 1) else ())
                ]
            case "exit":
                leave: Stmt = Return()
                if self.loops:
                    leave = self.draw(st.sampled_from((Break(), Continue(), Continue(), Return())))
                return [If(self.cond(), (leave,))]
            case "assert":
                return [Assert(self.cond(), "no")]
            case "scalar":
                name = self.fresh("j")
                start = self.index()
                self.scalars.append(name)
                return [Alloc(name, i64, ()), Store(name, (), start)]
            case "set" if self.scalars:
                name = self.draw(st.sampled_from(self.scalars))
                if self.number(0, 1):
                    return [Accumulate("+", name, (), self.index())]
                return [Store(name, (), self.index())]
            case _:
                buffer, index = self.place()
                if self.number(0, 2):
                    source, at = self.place()
                    value: Expr = Load(source, at, f64, loc=self.loc())
                    return [Store(buffer, index, value, loc=self.loc())]
                return [Accumulate("+", buffer, index, Const(1.0, f64), loc=self.loc())]

    def body(self, depth: int) -> Body:
        scalars = list(self.scalars)
        out = [s for _ in range(self.number(1, 3)) for s in self.statement(depth)]
        self.scalars = scalars
        return tuple(out)

    def loop(self, depth: int) -> Loop:
        lo, hi, step = self.index(1), self.index(1), self.draw(st.sampled_from((1, 1, 1, 2, 3, -1, -2)))
        if self.pick("plain", "plain", "any") == "plain":
            lo, hi, step = const(self.number(0, 1)), self.index(1), 1
        var = self.fresh("i")
        self.names.append(var)
        self.loops += 1
        body = self.body(depth - 1)
        self.loops -= 1
        self.names.remove(var)
        return Loop(var, lo, hi, const(step), body)

    def while_loop(self, depth: int) -> list[Stmt]:
        """Counts a scalar of its own up, first or last in the body."""
        name = self.fresh("w")
        start = self.index(1)
        count = Load(name, (), i64)
        step = Store(name, (), Binary("+", count, const(self.number(1, 2))))
        self.names, names = [*self.names], self.names
        self.loops, loops = 0, self.loops  # a Continue could skip the step
        buffer, index = "A", (count,)
        body: Body = (Accumulate("+", buffer, index, Const(1.0, f64), loc=self.loc()), *self.body(depth - 1))
        self.names, self.loops = names, loops
        body = (step, *body) if self.number(0, 1) else (*body, step)
        limit = Compare("<", count, Binary("min", self.index(1), const(6)))
        return [Alloc(name, i64, ()), Store(name, (), start), While(limit, body)]


@st.composite
def kernels(draw: st.DrawFn) -> Func:
    maker = Maker(draw)
    arrays = [ArrayParam(n, i64 if n == "I" else f64, shape, written=n != "I") for n, shape in ARRAYS.items()]
    body: list[Stmt] = []
    for name, shape in LOCALS.items():
        extent = shape[0]
        body.append(Alloc(name, f64, shape))
        zero = f"zero_{name}"
        fill = Store(name, (Var(zero, i64),), Const(0.0, f64), loc=maker.loc())
        body.append(Loop(zero, const(0), extent, const(1), (fill,)))
    body += maker.body(3)
    params = (*arrays, ScalarParam("k", i64), ScalarParam("n32", i32))
    return Func("random", params, tuple(body), ("M", "N"))


def outcome(func: Func, m: int, n: int, k: int, n32: int, data: list[int]) -> Exception | None:
    shapes = {name: tuple(s.evaluate({"M": m, "N": n}) for s in shape) for name, shape in ARRAYS.items()}
    arrays = {name: np.zeros(shape, np.float64) for name, shape in shapes.items() if name != "I"}
    arrays["I"] = np.array(data[:m], np.int64)
    try:
        run(func, arrays, {"k": k, "n32": n32}, {"M": m, "N": n})
    except (ArgumentError, KernelIndexError, KernelAssertionError) as e:
        return e
    return None


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    kernels(), st.lists(st.integers(-2, 5), min_size=4, max_size=4), st.integers(-2, 4), st.integers(-2, 4)
)
def test_what_is_not_tested_does_not_fault(func: Func, data: list[int], k: int, n32: int) -> None:
    verify(func)
    func = simplify(func)
    safe = bounds(func)
    verify(safe)
    tested = {
        (node.loc.line, dim)
        for node in [*exprs(safe.body), *stmts(safe.body)]
        if isinstance(node, (Load, Store, Accumulate, Atomic)) and node.loc
        for dim in node.checked
    }
    for m, n in product(range(4), range(4)):
        found = outcome(safe, m, n, k, n32, data)
        where = f"M={m}, N={n}, k={k}, n32={n32}, I={data}\n{print_func(safe)}"
        if isinstance(found, ArgumentError):
            plain = outcome(func, m, n, k, n32, data)
            assert isinstance(plain, KernelIndexError), f"refused for nothing: {found.title}\n{where}"
        elif isinstance(found, KernelIndexError):
            assert found.loc is not None
            dim = int(found.title.split("dimension ")[1].split()[0])
            assert (found.loc.line, dim) in tested, (
                f"{found.title} was not tested (line {found.loc.line})\n{where}"
            )
