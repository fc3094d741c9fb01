"""Replaces calls of "math" builtins by their definitions, so that back ends meet primitives only.

```
exp(A[i] + b)   ->   let exp_x = A[i] + b in <body of exp's definition, names made fresh>
```
f16 and bf16 arguments are converted to f32, and the result is rounded back once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from kdsl.dtypes import DType, f32
from kdsl.ir.builtins import TABLE
from kdsl.ir.definition import Definition, Resolver
from kdsl.ir.nodes import Alloc, Body, Call, Cast, Const, Expr, Func, Let, Loop, Stmt, Var
from kdsl.ir.walk import map_expr_children, map_stmt, stmt_exprs, stmts, subexprs
from kdsl.source import Loc


def expand_math(func: Func, resolve: Resolver) -> Func:
    """`func` with primitives only. `resolve` gives each definition for f32, f64 or (random numbers) u64."""
    calls = [e for s in stmts(func.body) for root in stmt_exprs(s) for e in subexprs(root) if _is_math(e)]
    if not calls:
        return func
    expander = _Expander(resolve, _names(func))

    def on_body(body: Body) -> Body:
        new: list[Stmt] = [map_stmt(s, expander.expand, on_body) for s in body]
        return body if all(a is b for a, b in zip(body, new)) else tuple(new)

    return replace(func, body=on_body(func.body))


def _is_math(e: Expr) -> bool:
    return isinstance(e, Call) and TABLE[e.fn].kind == "math"


def _names(func: Func) -> set[str]:
    """Every name that `func` binds."""
    names = {p.name for p in func.params} | set(func.sizes)
    for s in stmts(func.body):
        match s:
            case Loop():
                names.add(s.var)
            case Alloc():
                names.add(s.name)
            case _:
                pass
        for root in stmt_exprs(s):
            names.update(e.name for e in subexprs(root) if isinstance(e, Let))
    return names


@dataclass(slots=True)
class _Expander:
    resolve: Resolver
    taken: set[str]
    memo: dict[tuple[str, DType], Definition] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)

    def expand(self, e: Expr) -> Expr:
        """`e` with all math calls in it replaced."""
        if isinstance(e, Let):
            return _map_lets(e, self.expand, self.expand)
        e = map_expr_children(e, self.expand)
        if not (isinstance(e, Call) and _is_math(e)):
            return e
        if any(a.dtype.is_float and a.dtype.bits < 32 for a in e.args):
            args = tuple([Cast(a, f32, loc=e.loc) for a in e.args])
            return Cast(self._inline(e.fn, args, e.loc), e.type, loc=e.loc)
        return self._inline(e.fn, e.args, e.loc)

    def _inline(self, fn: str, args: tuple[Expr, ...], loc: Loc | None) -> Expr:
        definition = self._definition(fn, args[0].dtype)
        assert len(args) == len(definition.params), fn
        renamed: dict[str, Expr] = {}
        bound: list[tuple[str, Expr]] = []
        for param, arg in zip(definition.params, args):
            assert param.dtype == arg.dtype, f"{fn}: {param.name} is {param.dtype}, the argument {arg.dtype}"
            if isinstance(arg, (Var, Const)):
                renamed[param.name] = arg
            else:
                name = self._fresh(f"{fn}_{param.name}")
                bound.append((name, arg))
                renamed[param.name] = Var(name, param.dtype, loc=loc)
        body = self._instance(definition.body, renamed, fn, loc)
        for name, arg in reversed(bound):
            body = Let(name, arg, body, loc=loc)
        return body

    def _definition(self, fn: str, dtype: DType) -> Definition:
        """The definition with the math functions that it calls expanded too."""
        key = fn, dtype
        if key not in self.memo:
            found = self.resolve(fn, dtype)
            self.memo[key] = replace(found, body=self.expand(found.body))
        return self.memo[key]

    def _instance(self, e: Expr, renamed: dict[str, Expr], fn: str, loc: Loc | None) -> Expr:
        """A copy of a definition's expression: parameters replaced, `Let` names fresh, places the call's."""

        def copy(e: Expr) -> Expr:
            match e:
                case Var():
                    return renamed[e.name]
                case Const():
                    return e
                case Let():
                    return _map_lets(e, copy, copy, rename, loc)
                case _:
                    return replace(map_expr_children(e, copy), loc=loc)

        def rename(let: Let) -> str:
            prefix = "" if let.name.startswith(f"{fn}_") else f"{fn}_"
            name = self._fresh(prefix + let.name)
            renamed[let.name] = Var(name, let.value.dtype, loc=loc)
            return name

        return copy(e)

    def _fresh(self, stem: str) -> str:
        name = stem
        while name in self.taken:
            self.numbers[stem] = number = self.numbers.get(stem, 1) + 1
            name = f"{stem}_{number}"
        self.taken.add(name)
        return name


def _map_lets(
    let: Let,
    on_value: Callable[[Expr], Expr],
    on_body: Callable[[Expr], Expr],
    rename: Callable[[Let], str] = lambda let: let.name,
    loc: Loc | None = None,
) -> Expr:
    """A chain of `Let`s rebuilt, at `loc` if given, without recursion along the chain (dozens of links)."""
    chain: list[tuple[Let, str, Expr]] = []
    e: Expr = let
    while isinstance(e, Let):
        value = on_value(e.value)
        chain.append((e, rename(e), value))
        e = e.body
    body = on_body(e)
    for link, name, value in reversed(chain):
        same = name == link.name and value is link.value and body is link.body
        body = link if same else Let(name, value, body, loc=loc or link.loc)
    return body
