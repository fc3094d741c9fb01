"""A decorated Python function as data: its text, syntax tree, parameters and annotations.

Only the function's own block is parsed (found by indentation), so decoration costs well under a
millisecond however long the file is.
"""

from __future__ import annotations

import ast
import builtins
import linecache
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from kdsl.dtypes import ArrayType, DType, TypeVar, constexpr
from kdsl.errors import CompileError
from kdsl.frontend_ast.syntax import refuse_unsupported
from kdsl.ir.params import Options
from kdsl.source import Loc, syntax_tree


class Missing:
    """The type of `MISSING`: a parameter has no default."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing()

Annotation = DType | ArrayType | TypeVar | type[constexpr] | None


@dataclass(frozen=True, slots=True)
class ParamSpec:
    """One parameter; `annotation` None: typed by the call."""

    name: str
    annotation: Annotation
    default: Any = MISSING
    loc: Loc | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a function's syntax tree lies in its file: `line = node.lineno + line_offset`."""

    filename: str
    line_offset: int
    lines: tuple[str, ...]

    def loc(self, node: ast.AST) -> Loc:
        """The range of `node` in the file, columns in characters."""
        line: int = node.lineno  # type: ignore[attr-defined]
        end_line: int = node.end_lineno  # type: ignore[attr-defined]
        return Loc(
            self.filename,
            line + self.line_offset,
            self._chars(line, node.col_offset),  # type: ignore[attr-defined]
            end_line + self.line_offset,
            self._chars(end_line, node.end_col_offset),  # type: ignore[attr-defined]
        )

    def _chars(self, line: int, byte_col: int) -> int:
        text = self.lines[line - 1] if line <= len(self.lines) else ""
        return byte_col if text.isascii() else len(text.encode()[:byte_col].decode(errors="replace"))


class KernelSource:
    """A kernel ("kernel") or device function ("func"), known from its decoration on.

    Raises CompileError for what can be refused without types: no source, a wrong kind of function,
    statements that a kernel cannot have, annotations that are no types.
    """

    __slots__ = ("fn", "kind", "loc", "name", "node", "options", "origin", "params", "returns", "text")

    def __init__(
        self,
        fn: Callable[..., Any],
        kind: Literal["kernel", "func"] = "kernel",
        name: str | None = None,
        options: Options | None = None,
    ) -> None:
        self.fn = fn
        self.kind = kind
        self.options = options or Options()
        self.node, self.origin, self.text = parse(fn, kind)
        self.name = name or fn.__name__
        self.loc: Loc | None = head(self.node, self.origin)
        refuse_unsupported(self.node, self.origin.loc, kind)
        self.params: tuple[ParamSpec, ...] = tuple(_params(self))
        self.returns: Annotation | tuple[Annotation, ...] = _returns(self)

    def __repr__(self) -> str:
        return f"<kdsl {self.kind} {self.name}>"


# ---------------------------------------------------------------------- text


def parse(fn: Callable[..., Any], kind: str) -> tuple[ast.FunctionDef, Origin, str]:
    """The syntax tree of `fn`, its place, and its text."""
    code = getattr(fn, "__code__", None)
    if code is None:
        raise CompileError(
            "K0101",
            f"`@kdsl.{kind}` needs a Python function, not {type(fn).__name__}",
            help=f"write `@kdsl.{kind}` above a `def`",
        )
    filename, first = code.co_filename, code.co_firstlineno
    if code.co_name == "<lambda>":
        raise CompileError(
            "K0102",
            "a lambda cannot be compiled",
            loc=Loc(filename, first),
            help="give it a name: def f(x): return ...",
        )
    lines = linecache.getlines(filename, fn.__globals__)
    if len(lines) < first:
        raise CompileError(
            "K0103",
            f"the source of `{fn.__name__}` is not available",
            label=f"Python says that it comes from {filename!r}, line {first}, which cannot be read",
            help="define it in a file or a notebook cell; for `exec`, fill `linecache.cache` first",
        )
    indent = _indent(lines[first - 1])
    for last in _block_ends(lines, first - 1, indent):
        text = "".join(lines[first - 1 : last])
        try:
            tree = syntax_tree("if 1:\n" + text if indent else text)
        except SyntaxError:
            continue
        found = next((n for n in _top(tree, indent) if getattr(n, "name", None) == code.co_name), None)
        if found is None:
            continue
        shift = first - 2 if indent else first - 1
        parsed = ["if 1:\n", *lines[first - 1 : last]] if indent else lines[first - 1 : last]
        origin = Origin(filename, shift, tuple(parsed))
        if isinstance(found, ast.AsyncFunctionDef):
            raise CompileError(
                "K0102",
                f"`{fn.__name__}` is an async function",
                loc=head(found, origin),
                help="write a plain `def`: a kernel runs to its end in one call",
            )
        assert isinstance(found, ast.FunctionDef)
        return found, origin, text
    raise CompileError(
        "K0103",
        f"the source of `{fn.__name__}` does not parse: the file may have changed since it was imported",
        loc=Loc(filename, first),
        help="import the module again",
    )


def _top(tree: ast.Module, indented: int) -> list[ast.stmt]:
    body = tree.body
    if indented and body and isinstance(body[0], ast.If):
        body = body[0].body
    return [n for n in body if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" \t\f"))


def _block_ends(lines: list[str], start: int, indent: int) -> Iterator[int]:
    """Candidate ends (exclusive, 0-based) of the block that starts at `start`: the first line of code
    after the `def` that is not deeper than it, then later ones (strings and brackets may reach left)."""
    seen_def = False
    end = start
    for at in range(start, len(lines)):
        line = lines[at]
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        if at > start and seen_def and _indent(line) <= indent:
            yield end
        if stripped.startswith(("def ", "async ")) and _indent(line) == indent:
            seen_def = True
        end = at + 1
    yield end


def head(node: ast.FunctionDef | ast.AsyncFunctionDef, origin: Origin) -> Loc:
    """The `def` line up to the function's name."""
    at = origin.loc(node)
    return Loc(at.filename, at.line, at.col, at.line, at.col + len("def ") + len(node.name))


# ---------------------------------------------------------------- parameters


def _params(source: KernelSource) -> Iterator[ParamSpec]:
    a = source.node.args
    loc = source.origin.loc
    for star, sign in ((a.vararg, "*"), (a.kwarg, "**")):
        if star is not None:
            raise CompileError(
                "K0104",
                f"`{source.name}` takes `{sign}{star.arg}`",
                loc=loc(star),
                help="name each argument: its type is part of what is compiled",
            )
    args = [*a.posonlyargs, *a.args, *a.kwonlyargs]
    fn = source.fn
    defaults = dict(zip([x.arg for x in [*a.posonlyargs, *a.args]][::-1], (fn.__defaults__ or ())[::-1]))
    defaults.update(fn.__kwdefaults__ or {})
    for arg in args:
        annotation = None
        if arg.annotation is not None:
            value = annotation_value(fn, arg.arg, arg.annotation, loc)
            annotation = _check_annotation(value, arg.annotation, loc, f"argument `{arg.arg}`")
        yield ParamSpec(arg.arg, annotation, defaults.get(arg.arg, MISSING), loc(arg))


def _returns(source: KernelSource) -> Annotation | tuple[Annotation, ...]:
    node = source.node.returns
    if node is None:
        return None
    value = annotation_value(source.fn, "return", node, source.origin.loc)
    if value is None:
        return None
    loc = source.origin.loc
    if isinstance(value, types.GenericAlias) and value.__origin__ is tuple:
        value = value.__args__  # tuple[f32, i64] is (f32, i64)
    values = value if isinstance(value, tuple) else (value,)
    checked = tuple(_check_annotation(v, node, loc, "the result") for v in values)
    for c in checked:
        if c is constexpr or c is None:
            raise CompileError(
                "K0105",
                f"a result cannot be `{'None' if c is None else 'kdsl.constexpr'}`",
                loc=loc(node),
                help="give it a type such as f32",
            )
    return checked if isinstance(value, tuple) else checked[0]


FAILING = (ArithmeticError, AttributeError, LookupError, RuntimeError, SyntaxError, TypeError, ValueError)
"""What the text of an annotation may raise: it is any expression."""


def annotation_value(fn: Callable[..., Any], name: str, node: ast.expr, loc: Callable[[ast.AST], Loc]) -> Any:
    """The annotation of `name`, evaluated also when it is a string (`from __future__ import annotations`)."""
    value = fn.__annotations__.get(name)
    if not isinstance(value, str):
        return value
    code = fn.__code__
    cells = fn.__closure__ or ()
    scope = {n: c.cell_contents for n, c in zip(code.co_freevars, cells) if _filled(c)}
    try:
        return eval(value, fn.__globals__, scope)
    except NameError:
        pass
    except FAILING as error:
        raise CompileError(
            "K0105",
            f"the annotation `{value}` fails: {error}",
            loc=loc(node),
            help="sizes are integers, symbols, or sums of them: f32[M + 2, 2 * N]",
        ) from None
    # Names that only annotations use are in no closure: look in the frame that is defining the function.
    frame = sys._getframe(1)
    at: Any = frame
    while at is not None and code not in at.f_code.co_consts:
        at = at.f_back
    try:
        return eval(value, fn.__globals__, {**(at.f_locals if at is not None else {}), **scope})
    except (NameError, *FAILING) as error:
        raise CompileError(
            "K0105",
            f"the annotation `{value}` fails: {error}",
            loc=loc(node),
            help="define the types and sizes before the kernel: "
            'from kdsl import f32; M, N = kdsl.sizes("M N")',
        ) from None


def _filled(cell: Any) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True


def lookup(source: KernelSource, name: str, overrides: dict[str, object]) -> Any:
    """The object that `name` means outside the function; KeyError when there is none."""
    if name in overrides:
        return overrides[name]
    fn = source.fn
    code = fn.__code__
    if name in code.co_freevars:
        cell = (fn.__closure__ or ())[code.co_freevars.index(name)]
        try:
            return cell.cell_contents
        except ValueError:
            raise KeyError(name) from None
    if name in fn.__globals__:
        return fn.__globals__[name]
    return vars(builtins)[name]


def _short(value: object) -> str:
    """`repr` where it works and is short, else the type."""
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python prints
        text = ""
    return text if 0 < len(text) <= 100 else f"a {type(value).__name__}"


def _check_annotation(value: Any, node: ast.expr, loc: Callable[[ast.AST], Loc], what: str) -> Annotation:
    if value is None or value is constexpr or isinstance(value, (DType, ArrayType, TypeVar)):
        return value
    if value in (int, float, bool):
        same = {int: "i64", float: "f64", bool: "bool_"}[value]
        hint = f"leave it out to accept any Python number, or write {same}"
    else:
        hint = "write a kdsl type: f32 for a scalar, f32[M, N] for an array, or leave the annotation out"
    shown = getattr(value, "__name__", None) or _short(value)
    raise CompileError(
        "K0105",
        f"{what} is annotated with `{shown}`, which is not a kdsl type",
        loc=loc(node),
        help=hint,
    )
