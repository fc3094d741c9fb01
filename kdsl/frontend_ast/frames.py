"""Values and names while a function body is elaborated."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from kdsl.dtypes import DType
from kdsl.frontend_ast import core
from kdsl.frontend_ast.source import KernelSource
from kdsl.source import Loc

Index = tuple[core.Expr, ...]


@dataclass(eq=False, repr=False)
class Static:
    """A compile-time object that is no number: a type, a function, a module, a string, None."""

    value: object


@dataclass(eq=False, repr=False)
class Method:
    """A method of an array value, waiting for its call."""

    array: Array
    name: str


@dataclass(eq=False, repr=False)
class Tuple:
    """Several values side by side."""

    items: tuple[Value, ...]


@dataclass(eq=False, repr=False)
class Array:
    """An elementwise expression over arrays: `elem` gives the element at an index of `shape`'s rank."""

    shape: Index
    elem: Callable[[Index], core.Expr]


@dataclass(eq=False, repr=False)
class View(Array):
    """Elements of one buffer in place: `place` maps an index of the view to one of the buffer.

    `whole`: all of the buffer in its own order. `text` is how the user wrote it.
    """

    buffer: core.Buffer = field(kw_only=True)
    place: Callable[[Index], Index] = field(kw_only=True)
    whole: bool = field(default=False, kw_only=True)
    text: str = field(default="", kw_only=True)

    @staticmethod
    def of(
        buffer: core.Buffer, shape: Index, place: Callable[[Index], Index], text: str, whole: bool = False
    ) -> View:
        """A view whose elements load from `buffer`."""
        return View(
            shape,
            lambda index: core.Load(buffer, place(index)),
            buffer=buffer,
            place=place,
            text=text,
            whole=whole,
        )


Value: TypeAlias = "core.Expr | Static | Method | Tuple | Array"

EXPR = (
    core.Num, core.SizeVar, core.LoopRef, core.Ref, core.Load, core.Un, core.Bin, core.Cmp, core.Logic,
    core.Pick, core.Cast, core.Fn, core.Let,
)  # fmt: skip


@dataclass(eq=False, repr=False)
class Poison:
    """A name whose array or constant differs between the paths that lead here."""

    why: str
    loc: Loc | None
    differs: bool = False


@dataclass(eq=False, repr=False)
class Binding:
    """What a name stands for at a point: a scalar variable, a running loop's variable, or a value.

    `argument`: an array argument or a compile-time constant, which cannot be rebound.
    """

    value: core.Variable | core.LoopVar | Value | Poison
    loc: Loc | None = None
    argument: bool = False


@dataclass(eq=False, repr=False)
class Result:
    """Where one returned value goes: an array, or a scalar variable (`declared`: its annotated dtype)."""

    array: View | None = None
    var: core.Variable | None = None
    declared: DType | None = None


@dataclass(eq=False, repr=False)
class Frame:
    """One running instance of a function: the kernel itself or an inlined call.

    `symbols` gives the value of each size symbol, `types` of each type variable. `block` is what `return`
    leaves (None: the kernel). `result_locals`: for a local array that is returned as it is, its place.
    `straight`: a function of assignments and one `return`, in which every assignment makes a new name.
    `leaves`: for each loop around this point, what `break` and `continue` leave (None: the loop itself).
    """

    source: KernelSource
    env: dict[str, Binding] = field(default_factory=dict)
    variables: dict[str, core.Variable] = field(default_factory=dict)
    symbols: dict[str, core.Expr] = field(default_factory=dict)
    types: dict[str, DType | core.Like] = field(default_factory=dict)
    overrides: dict[str, object] = field(default_factory=dict)
    block: core.Block | None = None
    results: list[Result] | None = None
    result_locals: dict[str, View] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    unrolling: int = 0
    straight: bool = False
    returned: Value | None = None
    returns_seen: bool = False
    leaves: list[tuple[core.Block, core.Block | None] | None] = field(default_factory=list)

    def variable(self, name: str, loc: Loc | None) -> core.Variable:
        """The scalar variable called `name`, made on first use."""
        var = self.variables.get(name)
        if var is None:
            var = core.Variable(name, loc, fixed=self.counts[name] == 1 and not self.unrolling)
            self.variables[name] = var
        return var


def bound_names(body: list[ast.stmt]) -> Counter[str]:
    """How many times each name is bound in `body`, nested blocks included."""
    out: Counter[str] = Counter()
    for statement in body:
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                out[node.id] += 1
    return out


def returns_of(body: list[ast.stmt]) -> list[ast.Return]:
    """All `return` statements of a function body."""
    return [n for s in body for n in ast.walk(s) if isinstance(n, ast.Return)]


def statements_of(node: ast.FunctionDef) -> list[ast.stmt]:
    """The body without its docstring."""
    body = node.body
    match body:
        case [ast.Expr(value=ast.Constant(value=str())), *rest]:
            return rest
        case _:
            return body
