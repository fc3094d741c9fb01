"""Generic traversals: children of a node, and rebuilding a node with mapped children.

A pass matches the nodes it changes and ends in `map_children` for the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from kdsl.ir.nodes import (
    Accumulate,
    Alloc,
    Assert,
    Atomic,
    Barrier,
    Binary,
    Body,
    Break,
    Call,
    Cast,
    Compare,
    Const,
    Continue,
    Expr,
    If,
    Let,
    Load,
    Logic,
    Loop,
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

ExprMap = Callable[[Expr], Expr]
BodyMap = Callable[[Body], Body]


def expr_children(e: Expr) -> tuple[Expr, ...]:
    """The direct subexpressions, in evaluation order."""
    match e:
        case Const() | Var():
            return ()
        case Load():
            return e.index
        case Unary() | Cast():
            return (e.x,)
        case Binary() | Compare() | Logic():
            return (e.a, e.b)
        case Select():
            return (e.cond, e.a, e.b)
        case Call():
            return e.args
        case Let():
            return (e.value, e.body)
        case _:
            raise AssertionError(f"unknown expression {type(e).__name__}")


def map_expr_children(e: Expr, f: ExprMap) -> Expr:
    """`e` with `f` applied to each direct subexpression; `e` itself when nothing changes."""
    old = expr_children(e)
    new = tuple([f(c) for c in old])
    if all(a is b for a, b in zip(old, new)):
        return e
    match e:
        case Load():
            return replace(e, index=new)
        case Unary() | Cast():
            return replace(e, x=new[0])
        case Binary() | Compare() | Logic():
            return replace(e, a=new[0], b=new[1])
        case Select():
            return replace(e, cond=new[0], a=new[1], b=new[2])
        case Call():
            return replace(e, args=new)
        case Let():
            return replace(e, value=new[0], body=new[1])
        case _:
            raise AssertionError(f"unknown expression {type(e).__name__}")


def subexprs(e: Expr) -> Iterator[Expr]:
    """`e` and all expressions below it, outermost first."""
    todo = [e]
    while todo:
        e = todo.pop()
        yield e
        todo += reversed(expr_children(e))


def stmt_exprs(s: Stmt) -> tuple[Expr, ...]:
    """The expressions that stand directly in a statement (not in nested statements)."""
    match s:
        case Loop():
            return (s.lo, s.hi, s.step)
        case While() | If():
            return (s.cond,)
        case Alloc():
            return s.shape
        case Store() | Accumulate() | Atomic():
            return (s.value, *s.index)
        case Prefetch():
            return s.index
        case Assert():
            return (s.cond,)
        case Print():
            return tuple(i for i in s.items if isinstance(i, Expr))
        case Break() | Continue() | Return() | Barrier():
            return ()
        case _:
            raise AssertionError(f"unknown statement {type(s).__name__}")


def stmt_bodies(s: Stmt) -> tuple[Body, ...]:
    """The statement bodies nested directly in `s`."""
    match s:
        case Loop() | While():
            return (s.body,)
        case If():
            return (s.then, s.orelse)
        case _:
            return ()


def map_stmt(s: Stmt, on_expr: ExprMap, on_body: BodyMap) -> Stmt:
    """`s` with `on_expr` applied to its own expressions and `on_body` to its nested bodies.

    Keeps id and loc; returns `s` itself when nothing changes.
    """
    own, bodies = stmt_exprs(s), stmt_bodies(s)
    es = [on_expr(e) for e in own]
    bs = [on_body(b) for b in bodies]
    if all(a is b for a, b in zip(own, es)) and all(a is b for a, b in zip(bodies, bs)):
        return s
    match s:
        case Loop():
            return replace(s, lo=es[0], hi=es[1], step=es[2], body=bs[0])
        case While():
            return replace(s, cond=es[0], body=bs[0])
        case If():
            return replace(s, cond=es[0], then=bs[0], orelse=bs[1])
        case Alloc():
            return replace(s, shape=tuple(es))
        case Store() | Accumulate() | Atomic():
            return replace(s, value=es[0], index=tuple(es[1:]))
        case Prefetch():
            return replace(s, index=tuple(es))
        case Assert():
            return replace(s, cond=es[0])
        case Print():
            new = iter(es)
            return replace(s, items=tuple([next(new) if isinstance(i, Expr) else i for i in s.items]))
        case _:
            raise AssertionError(f"unknown statement {type(s).__name__}")


def stmts(body: Body) -> Iterator[Stmt]:
    """All statements of `body` in program order, each before those nested in it."""
    todo = list(reversed(body))
    while todo:
        s = todo.pop()
        yield s
        for nested in reversed(stmt_bodies(s)):
            todo += reversed(nested)


def exprs(body: Body) -> Iterator[Expr]:
    """All expressions of `body`, nested statements and subexpressions included."""
    for s in stmts(body):
        for e in stmt_exprs(s):
            yield from subexprs(e)


def substitute(e: Expr, values: dict[str, Expr]) -> Expr:
    """`e` with each free `Var` named in `values` replaced. Let names are unique, so nothing is captured."""
    if isinstance(e, Var):
        return values.get(e.name, e)
    return map_expr_children(e, lambda c: substitute(c, values))
