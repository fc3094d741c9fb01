"""The rules that every `Func` keeps between passes, checked in one walk.

`verify(func)` raises `InvalidIR` with the statement and the broken rule: a pass broke it, not the user.
"""

from __future__ import annotations

import keyword
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NoReturn, get_args

from kdsl.dtypes import DType, bool_, f32, i64, u32, u64
from kdsl.ir.builtins import TABLE
from kdsl.ir.nodes import (
    Accumulate,
    Alloc,
    ArrayParam,
    Assert,
    Atomic,
    Barrier,
    Binary,
    BinaryOp,
    Body,
    Break,
    Call,
    Cast,
    Compare,
    CompareOp,
    Const,
    Continue,
    Expr,
    Func,
    If,
    Let,
    Load,
    Logic,
    Loop,
    Mark,
    MarkKind,
    Memory,
    Prefetch,
    Print,
    Return,
    Select,
    Stmt,
    Store,
    Unary,
    Var,
    While,
)
from kdsl.ir.numbers import round_float
from kdsl.ir.printer import print_expr, print_head
from kdsl.ir.walk import subexprs

MAX_DEPTH = 150
"""Levels of an expression (a chain of `Let`s is one): passes, the printer and the parser recurse."""
MAX_NESTING = 80
"""Levels of an expression that are not the first operand of an operator, and of nested statements.
CPython's parser reads at most 200 open parentheses and 100 levels of indentation."""

AXES = tuple(f"{level}.{axis}" for level in ("grid", "block") for axis in "xyz")


class InvalidIR(AssertionError):
    """A broken `rule` of the IR, and the statement where (None: in the header)."""

    def __init__(self, func: Func, rule: str, stmt: Stmt | None) -> None:
        self.rule = rule
        self.stmt = stmt
        where = (
            "" if stmt is None else f"\n    {print_head(stmt)}" + (f"\n    ({stmt.loc})" if stmt.loc else "")
        )
        super().__init__(f"invalid IR in `{func.name}`: {rule}{where}")


def verify(func: Func) -> None:
    """Raises `InvalidIR` for the first broken rule in program order."""
    _Verifier(func).run()


@dataclass(frozen=True, slots=True)
class _Buffer:
    dtype: DType
    rank: int
    written: bool


_FLOAT_OPS = frozenset(("+", "-", "*", "/", "//", "%", "min", "max"))
_INT_OPS = frozenset(get_args(BinaryOp)) - {"/"}
_BOOL_OPS = frozenset(("&", "|", "^", "+", "*"))


def _legal(op: str, t: DType) -> bool:
    """Whether `t op t` is defined."""
    return op in (_FLOAT_OPS if t.is_float else _INT_OPS if t.is_int else _BOOL_OPS)


@dataclass(slots=True)
class _Verifier:
    func: Func
    scope: dict[str, DType | _Buffer] = field(default_factory=dict)
    ids: set[int] = field(default_factory=set)
    stmt: Stmt | None = None
    loops: int = 0
    depth: int = 0

    def fail(self, rule: str) -> NoReturn:
        raise InvalidIR(self.func, rule, self.stmt)

    # -------------------------------------------------------------- header

    def run(self) -> None:
        func = self.func
        self.identifier(func.name)
        for name in func.sizes:
            self.bind(name, i64)
        for p in func.params:
            if isinstance(p, ArrayParam):
                self.bind(p.name, _Buffer(p.dtype, len(p.shape), p.written))
                for dim in p.shape:
                    for symbol in dim.terms:
                        if symbol not in func.sizes:
                            self.fail(f"the shape of `{p.name}` uses `{symbol}`, which is not in `sizes`")
                if p.result and not p.written:
                    self.fail(f"the result `{p.name}` is not marked as written")
            else:
                self.bind(p.name, p.dtype)
        results = [isinstance(p, ArrayParam) and p.result for p in func.params]
        if results != sorted(results):
            self.fail("results must come last among the parameters")
        arrays = {p.name for p in func.arrays}
        for name in func.options.may_alias:
            if name not in arrays:
                self.fail(f"`may_alias` names `{name}`, which is no array parameter")
        for c in func.conditions:
            self.want(self.expr(c.expr, 1, 1), bool_, "a call condition")
            for e in subexprs(c.expr):
                if isinstance(e, Load):
                    self.fail(f"the call condition `{print_expr(c.expr)}` reads the buffer `{e.buffer}`")
        self.body(func.body)

    def identifier(self, name: str) -> None:
        if not (name.isidentifier() and not keyword.iskeyword(name)):
            self.fail(f"{name!r} is not an identifier")

    def bind(self, name: str, meaning: DType | _Buffer) -> None:
        self.identifier(name)
        if name in self.scope:
            self.fail(f"the name `{name}` is bound twice on one path")
        self.scope[name] = meaning

    @contextmanager
    def inside(self, name: str, meaning: DType) -> Iterator[None]:
        self.bind(name, meaning)
        yield
        del self.scope[name]

    # ---------------------------------------------------------- statements

    def body(self, body: Body) -> None:
        self.depth += 1
        if self.depth > MAX_NESTING:
            self.fail(f"statements are nested more than {MAX_NESTING} levels deep")
        if not isinstance(body, tuple):
            self.fail("a body is not a tuple")
        local = []
        for s in body:
            self.stmt = s
            if s.id in self.ids:
                self.fail(f"the statement id {s.id} occurs twice")
            self.ids.add(s.id)
            if isinstance(s, Alloc):
                local.append(s.name)
            self.statement(s)
        for name in local:
            del self.scope[name]
        self.depth -= 1

    def statement(self, s: Stmt) -> None:
        match s:
            case Loop():
                self.loop(s)
            case While():
                self.want(self.root(s.cond), bool_, "the condition of a while")
                self.loops += 1
                self.body(s.body)
                self.loops -= 1
            case If():
                self.want(self.root(s.cond), bool_, "the condition of an if")
                self.body(s.then)
                self.body(s.orelse)
            case Break() | Continue():
                if not self.loops:
                    self.fail(f"`{print_head(s)}` stands outside of a loop")
            case Return() | Barrier():
                pass
            case Alloc():
                self.alloc(s)
            case Store() | Accumulate() | Atomic():
                self.write(s)
            case Prefetch():
                self.access(s.buffer, s.index, (), 0, 0)
                if not s.index:
                    self.fail(f"a prefetch of `{s.buffer}`, which is a scalar")
                if any(isinstance(x, Load) for e in s.index for x in subexprs(e)):
                    self.fail(f"the index of a prefetch of `{s.buffer}` reads memory")
            case Assert():
                self.want(self.root(s.cond), bool_, "the condition of an assert")
                if not isinstance(s.message, str):
                    self.fail("the message of an assert is not a string")
            case Print():
                for item in s.items:
                    if isinstance(item, Expr):
                        self.root(item)
                    elif not isinstance(item, str):
                        self.fail(f"print cannot write {item!r}")
            case _:
                self.fail(f"unknown statement {type(s).__name__}")

    def loop(self, s: Loop) -> None:
        for e, what in ((s.lo, "start"), (s.hi, "end"), (s.step, "step")):
            self.want(self.root(e), i64, f"the {what} of a range")
        if s.mark is not None:
            self.mark(s.mark)
        with self.inside(s.var, i64):
            self.loops += 1
            self.body(s.body)
            self.loops -= 1

    def mark(self, mark: Mark) -> None:
        if mark.kind not in get_args(MarkKind):
            self.fail(f"unknown loop mark {mark.kind!r}")
        if mark.kind == "bind" and mark.axis not in AXES:
            self.fail(f"a loop is bound to {mark.axis!r}, which is none of {', '.join(AXES)}")
        if mark.kind != "bind" and mark.axis:
            self.fail(f"a {mark.kind} mark has the axis {mark.axis!r}")
        if (mark.kind == "tensorize") != (mark.instruction is not None):
            self.fail(f"a {mark.kind} mark has {'no' if mark.instruction is None else 'an'} instruction")

    def alloc(self, s: Alloc) -> None:
        for e in s.shape:
            self.want(self.root(e), i64, f"an extent of `{s.name}`")
            for part in subexprs(e):
                if isinstance(part, Load) or (isinstance(part, Var) and part.name not in self.func.sizes):
                    self.fail(f"the shape of `{s.name}` depends on `{print_expr(part)}`, which is no size")
        if s.memory not in get_args(Memory):
            self.fail(f"unknown memory {s.memory!r}")
        self.bind(s.name, _Buffer(s.dtype, len(s.shape), True))

    def write(self, s: Store | Accumulate | Atomic) -> None:
        value = self.root(s.value)
        buffer = self.access(s.buffer, s.index, s.checked, 1, 1)
        self.writable(s.buffer, buffer)
        if value != buffer.dtype:
            self.fail(f"the value is {value}, but `{s.buffer}` holds {buffer.dtype}")
        match s:
            case Accumulate():
                if s.op not in ("+", "*", "min", "max") or not _legal(s.op, value):
                    self.fail(f"accumulating by `{s.op}` is not defined for {value}")
            case Atomic():
                if s.op not in ("+", "min", "max") or value == bool_:
                    self.fail(f"an atomic `{s.op}` is not defined for {value}")
                if s.old:
                    old = self.buffer(s.old)
                    self.writable(s.old, old)
                    if old.rank != 0 or old.dtype != value:
                        self.fail(f"the old value needs a rank-0 buffer of {value}: `{s.old}` is not one")
            case Store():
                pass

    def writable(self, name: str, buffer: _Buffer) -> None:
        if not buffer.written:
            self.fail(f"the array parameter `{name}` is stored to but not marked as written")

    # --------------------------------------------------------- expressions

    def root(self, e: Expr) -> DType:
        return self.expr(e, 1, 1)

    def want(self, got: DType, wanted: DType, what: str) -> None:
        if got != wanted:
            self.fail(f"{what} is {got}, not {wanted}")

    def buffer(self, name: str) -> _Buffer:
        found = self.scope.get(name)
        if not isinstance(found, _Buffer):
            self.fail(f"`{name}` is {'not bound' if found is None else 'no buffer'} here")
        return found

    def access(
        self, name: str, index: tuple[Expr, ...], checked: tuple[int, ...], depth: int, nesting: int
    ) -> _Buffer:
        buffer = self.buffer(name)
        if not isinstance(index, tuple) or len(index) != buffer.rank:
            self.fail(f"`{name}` has rank {buffer.rank} but is accessed with {len(index)} indices")
        for e in index:
            self.want(self.expr(e, depth + 1, nesting + 1), i64, f"an index of `{name}`")
        if checked:
            if not all(0 <= d < buffer.rank for d in checked):
                self.fail(f"`checked` {checked} of `{name}` names a dimension that it does not have")
            if any(a >= b for a, b in pairwise(checked)):
                self.fail(f"`checked` {checked} of `{name}` is not ascending")
        return buffer

    def expr(self, e: Expr, depth: int, nesting: int) -> DType:
        """The dtype of a valid expression. `depth` and `nesting` count the levels above it."""
        if depth > MAX_DEPTH or nesting > MAX_NESTING:
            self.fail(
                f"an expression is nested more than {MAX_NESTING} ({MAX_DEPTH} on the left) levels deep"
            )
        match e:
            case Const():
                self.const(e)
                return e.type
            case Var():
                found = self.scope.get(e.name)
                if not isinstance(found, DType):
                    self.fail(
                        f"`{e.name}` is {'not bound' if found is None else 'a buffer, no variable,'} here"
                    )
                self.want(e.type, found, f"the use of `{e.name}`")
                return found
            case Load():
                buffer = self.access(e.buffer, e.index, e.checked, depth, nesting)
                self.want(e.type, buffer.dtype, f"the load of `{e.buffer}`")
                return e.type
            case Unary():
                return self.unary(e, self.expr(e.x, depth + 1, nesting + 1))
            case Binary() | Compare():
                a = self.expr(e.a, depth + 1, nesting)
                b = self.expr(e.b, depth + 1, nesting + 1)
                return self.two(e, a, b)
            case Logic():
                for x, inner in ((e.a, nesting), (e.b, nesting + 1)):
                    self.want(self.expr(x, depth + 1, inner), bool_, f"an operand of `{e.op}`")
                if e.op not in ("and", "or"):
                    self.fail(f"unknown operator {e.op!r}")
                return bool_
            case Select():
                self.want(self.expr(e.cond, depth + 1, nesting + 1), bool_, "the condition of a select")
                a = self.expr(e.a, depth + 1, nesting + 1)
                b = self.expr(e.b, depth + 1, nesting + 1)
                if a != b:
                    self.fail(f"the choices of a select are {a} and {b}")
                return a
            case Cast():
                self.expr(e.x, depth + 1, nesting + 1)
                return e.type
            case Call():
                return self.call(e, [self.expr(a, depth + 1, nesting + 1) for a in e.args])
            case Let():
                return self.let(e, depth, nesting)
            case _:
                self.fail(f"unknown expression {type(e).__name__}")

    def const(self, e: Const) -> None:
        t, value = e.type, e.value
        if t.is_float:
            if type(value) is not float:
                self.fail(f"the {t} constant {value!r} is not a float")
            if value == value and round_float(value, t) != value:
                self.fail(f"the constant {value!r} is not rounded to {t}")
        elif t.is_int:
            if type(value) is not int:
                self.fail(f"the {t} constant {value!r} is not an int")
            if not t.min <= value <= t.max:
                self.fail(f"the constant {value} is out of the range of {t}")
        elif type(value) is not bool:
            self.fail(f"the bool_ constant {value!r} is not a bool")

    def unary(self, e: Unary, x: DType) -> DType:
        legal = {"-": x.is_float or x.is_int, "~": x.is_int, "not": x == bool_}
        if not legal.get(e.op, False):
            self.fail(f"`{e.op}` is not defined for {x}")
        return x

    def two(self, e: Binary | Compare, a: DType, b: DType) -> DType:
        if a != b:
            self.fail(f"the operands of `{e.op}` are {a} and {b}")
        if isinstance(e, Compare):
            if e.op not in get_args(CompareOp):
                self.fail(f"unknown operator {e.op!r}")
            return bool_
        if not _legal(e.op, a):
            self.fail(f"`{e.op}` is not defined for {a}")
        return a

    def call(self, e: Call, args: list[DType]) -> DType:
        row = TABLE.get(e.fn)
        if row is None:
            self.fail(f"unknown function `{e.fn}`")
        if len(args) != row.arity:
            self.fail(f"`{e.fn}` takes {row.arity} arguments, not {len(args)}")
        first = args[0]
        if any(a != first for a in args):
            self.fail(f"the arguments of `{e.fn}` have types {', '.join(map(str, args))}")
        match row.rule:
            case "float" | "float->bool":
                allowed, result = first.is_float, first if row.rule == "float" else bool_
            case "number":
                allowed, result = first.is_int or (first.is_float and e.fn != "ipow"), first
            case "any" if e.fn == "bitcast":
                numbers = bool_ not in (first, e.type)
                allowed, result = numbers and first.bits == e.type.bits, e.type
            case "any" if e.fn == "within":
                allowed, result = first == i64 and isinstance(e.args[2], Const), i64
            case "any":
                allowed, result = first == u64, u32 if e.fn == "random_bits" else f32
        if not allowed:
            self.fail(f"`{e.fn}` to {e.type} is not defined for {first}")
        self.want(e.type, result, f"the result of `{e.fn}`")
        return result

    def let(self, e: Let, depth: int, nesting: int) -> DType:
        names = []
        body: Expr = e
        while isinstance(body, Let):
            self.bind(body.name, self.expr(body.value, depth + 1, nesting + 1))
            names.append(body.name)
            body = body.body
        result = self.expr(body, depth + 1, nesting + 1)
        for name in names:
            del self.scope[name]
        return result
