"""Affine programs run instance by instance in Python: the oracle for questions of legality.

A statement's value is a hash of what it read, so that two orders give equal memory only when each statement
reads what it should. Accumulates add (or take the maximum), so that their order does not show.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from kdsl.dtypes import bool_
from kdsl.ir.nodes import (
    Accumulate,
    Binary,
    Body,
    Compare,
    Const,
    Expr,
    Func,
    If,
    Load,
    Logic,
    Loop,
    Stmt,
    Store,
    Unary,
    Var,
)
from kdsl.ir.walk import subexprs

Env = Mapping[str, int]
Cell = tuple[object, ...]
Memory = dict[Cell, int]
Path = tuple[int, ...]


def evaluate(e: Expr, env: Env) -> int:
    """An integer or boolean expression without loads."""
    match e:
        case Const():
            return int(e.value)
        case Var():
            return env[e.name]
        case Unary(op="-"):
            return -evaluate(e.x, env)
        case Binary():
            a, b = evaluate(e.a, env), evaluate(e.b, env)
            return {
                "+": lambda: a + b,
                "-": lambda: a - b,
                "*": lambda: a * b,
                "//": lambda: a // b,
                "%": lambda: a % b,
                "min": lambda: min(a, b),
                "max": lambda: max(a, b),
            }[e.op]()
        case Compare():
            a, b = evaluate(e.a, env), evaluate(e.b, env)
            return {"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b, "==": a == b, "!=": a != b}[e.op]
        case Logic():
            a = evaluate(e.a, env)
            return evaluate(e.b, env) if bool(a) == (e.op == "and") else a
        case _:
            raise AssertionError(type(e).__name__)


@dataclass(frozen=True)
class Instance:
    """One execution of a statement. `path`: places in bodies and loop values (signed), alternating."""

    stmt: Store | Accumulate
    env: dict[str, int]
    path: Path

    def reads(self) -> list[Cell]:
        return [
            (e.buffer, *[evaluate(i, self.env) for i in e.index])
            for e in subexprs(self.stmt.value)
            if isinstance(e, Load)
        ]

    def cell(self) -> Cell:
        return (self.stmt.buffer, *[evaluate(i, self.env) for i in self.stmt.index])

    def value(self, memory: Memory) -> int:
        read = tuple([memory.get(c, initial(c)) for c in self.reads()])
        return mixed(read)

    def apply(self, memory: Memory, value: int) -> None:
        cell = self.cell()
        if isinstance(self.stmt, Store):
            memory[cell] = value
            return
        old = memory.get(cell, initial(cell))
        memory[cell] = old + value if self.stmt.op == "+" else max(old, value)


@cache
def initial(cell: Cell) -> int:
    """What an untouched cell holds."""
    return hash(("cell", *cell)) % 1_000_003


@cache
def mixed(read: tuple[int, ...]) -> int:
    """A value that depends on everything read and on its order."""
    out = 17
    for r in read:
        out = (out * 1_000_033 + r) % 998_244_353
    return out


def instances(func: Func, sizes: Env) -> Iterator[Instance]:
    """All instances in program order."""

    def walk(body: Body, env: dict[str, int], path: Path, at: int) -> Iterator[Instance]:
        for s in body:
            yield from statement(s, env, path, at)
            at += weight(s)

    def statement(s: Stmt, env: dict[str, int], path: Path, at: int) -> Iterator[Instance]:
        match s:
            case Loop():
                step = evaluate(s.step, env)
                sign = 1 if step > 0 else -1
                for v in range(evaluate(s.lo, env), evaluate(s.hi, env), step):
                    yield from walk(s.body, {**env, s.var: v}, (*path, at, sign * v), 0)
            case If():
                assert s.cond.dtype == bool_
                if evaluate(s.cond, env):
                    yield from walk(s.then, env, path, at + 1)
                else:
                    yield from walk(s.orelse, env, path, at + 1 + sum(map(weight, s.then)))
            case Store() | Accumulate():
                yield Instance(s, env, (*path, at))
            case _:
                raise AssertionError(type(s).__name__)

    yield from walk(func.body, dict(sizes), (), 0)


def weight(s: Stmt) -> int:
    """The places that a statement takes in the innermost loop's body."""
    return 1 + sum(map(weight, (*s.then, *s.orelse))) if isinstance(s, If) else 1


def run(order: Iterable[Instance]) -> Memory:
    """Memory after running the instances one by one."""
    memory: Memory = {}
    for instance in order:
        instance.apply(memory, instance.value(memory))
    return memory


def run_lockstep(func: Func, sizes: Env, depth: int, lanes: int | None, loop: Loop) -> Memory:
    """Memory after running the loop at nesting `depth` in lockstep, `lanes` iterations at once."""

    def key(x: Instance) -> Path:
        at = 2 * depth - 1
        if len(x.path) <= at or loop.var not in x.env:
            return x.path
        lo, step = evaluate(loop.lo, x.env), evaluate(loop.step, x.env)
        chunk = (x.env[loop.var] - lo) // step // lanes if lanes else 0
        return (*x.path[:at], chunk, *x.path[at + 1 :])

    groups: dict[Path, list[Instance]] = {}
    for x in instances(func, sizes):
        groups.setdefault(key(x), []).append(x)
    memory: Memory = {}
    for _, group in sorted(groups.items()):
        values = [x.value(memory) for x in group]
        for x, value in zip(group, values):
            x.apply(memory, value)
    return memory


def conflict(a: Instance, b: Instance, strict: bool = False) -> bool:
    """True when the two must stay in order."""
    if a.cell() in b.reads() or b.cell() in a.reads():
        return True
    if a.cell() != b.cell():
        return False
    both = isinstance(a.stmt, Accumulate) and isinstance(b.stmt, Accumulate)
    if both and a.stmt.op == b.stmt.op:  # type: ignore[union-attr]
        return strict
    return True
