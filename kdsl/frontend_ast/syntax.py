"""What of Python a kernel cannot contain, found by one walk over the syntax tree at decoration."""

from __future__ import annotations

import ast
from collections.abc import Callable

from kdsl.errors import CompileError
from kdsl.source import Loc

MOST_BITS = 1024
"""Constants of a kernel are Python integers of at most so many bits (a float goes to 2**1024)."""

_STATEMENTS: dict[type[ast.AST], tuple[str, str]] = {
    ast.FunctionDef: ("a nested function", "define it outside with `@kdsl.func` and call it"),
    ast.AsyncFunctionDef: ("an async function", "define it outside with `@kdsl.func` and call it"),
    ast.ClassDef: ("a class", "use arrays and scalars; a record is one array for each field"),
    ast.With: ("`with`", "do this outside the kernel"),
    ast.AsyncWith: ("`async with`", "do this outside the kernel"),
    ast.AsyncFor: ("`async for`", "write `for i in range(n):`"),
    ast.Try: ("`try`", "test the condition before: a kernel cannot catch errors"),
    ast.TryStar: ("`try`", "test the condition before: a kernel cannot catch errors"),
    ast.Raise: ("`raise`", 'write `assert condition, "text"`: it raises at the call'),
    ast.Delete: ("`del`", "leave it out: a local lives to the end of the block it stands in"),
    ast.Global: ("`global`", "pass the value as an argument, or return it"),
    ast.Nonlocal: ("`nonlocal`", "pass the value as an argument, or return it"),
    ast.Import: ("`import`", "import at the top of the file"),
    ast.ImportFrom: ("`import`", "import at the top of the file"),
    ast.Match: ("`match`", "write `if` / `elif`"),
    ast.Lambda: ("a lambda", "define it outside with `@kdsl.func` and call it"),
    ast.Dict: ("a dict", "use an array, or a chain of `a if c else b`"),
    ast.Set: ("a set", "use an array"),
    ast.List: ("a list", "make a local array: kdsl.zeros(n, f32)"),
    ast.ListComp: ("a list comprehension", "make a local array (kdsl.empty) and fill it in a `for` loop"),
    ast.SetComp: ("a set comprehension", "fill a local array in a `for` loop"),
    ast.DictComp: ("a dict comprehension", "fill a local array in a `for` loop"),
    ast.GeneratorExp: ("a generator expression", "write the `for` loop out"),
    ast.Await: ("`await`", "a kernel runs to its end in one call"),
    ast.Yield: ("`yield`", "write the values into an array"),
    ast.YieldFrom: ("`yield from`", "write the values into an array"),
    ast.NamedExpr: ("`:=`", "assign on a line of its own"),
    ast.Starred: ("`*` unpacking", "write the values out"),
}


def refuse_unsupported(node: ast.FunctionDef, loc: Callable[[ast.AST], Loc], kind: str) -> None:
    """Raises CompileError for the first construct, in the order of the text, that no kernel can have."""
    what = "device function" if kind == "func" else "kernel"
    for statement in node.body:
        _walk(statement, loc, what)


def _walk(node: ast.AST, loc: Callable[[ast.AST], Loc], what: str) -> None:
    refused = _STATEMENTS.get(type(node))
    if refused is not None:
        name, way_out = refused
        raise CompileError("K0110", f"{name} cannot be used in a {what}", loc=_short(node, loc), help=way_out)
    match node:
        case ast.For() | ast.While() if node.orelse:
            word = "for" if isinstance(node, ast.For) else "while"
            raise CompileError(
                "K0111",
                f"`else` of a `{word}` loop cannot be used in a {what}",
                loc=_short(node, loc),
                help="set a flag before `break` and test it after the loop",
            )
        case ast.BinOp(op=ast.MatMult()) | ast.AugAssign(op=ast.MatMult()):
            raise CompileError(
                "K0112",
                f"`@` cannot be used in a {what}",
                loc=loc(node),
                help="write the three loops, or call a kernel that has them",
            )
        case ast.Compare() if any(isinstance(op, (ast.In, ast.NotIn)) for op in node.ops):
            raise CompileError(
                "K0112",
                f"`in` cannot be used in a {what}",
                loc=loc(node),
                help="compare with each value, or loop",
            )
        case ast.Constant(value=bytes() | complex()):
            raise CompileError(
                "K0112",
                f"{type(node.value).__name__} values cannot be used in a {what}",
                loc=loc(node),
                help="use two floats for a complex number, an array of u8 for bytes",
            )
        case ast.Constant(value=int() as value) if value.bit_length() > MOST_BITS:
            raise CompileError(
                "K0252",
                f"the integer has {value.bit_length()} bits",
                loc=_short(node, loc),
                help="integers of a kernel have 64 bits: use a float, or reduce it outside",
            )
        case _:
            pass
    # Annotations are evaluated as Python, not compiled.
    skip = node.annotation if isinstance(node, ast.AnnAssign) else None
    for child in ast.iter_child_nodes(node):
        if child is not skip:
            _walk(child, loc, what)


def _short(node: ast.AST, loc: Callable[[ast.AST], Loc]) -> Loc:
    """The first line of a block statement, all of an expression."""
    at = loc(node)
    if at.end_line == at.line:
        return at
    return Loc(at.filename, at.line, at.col, at.line, 0)
