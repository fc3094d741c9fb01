"""Text of the IR: Python syntax, so that it reads like the kernel and `parser` can use `ast`.

```
@options(strict=True)
def matmul(A: f32[M, K], B: f32[K, N] @ "strided", C: f32[M, N], s: f32):
    require(K >= 1, "K must be positive")
    T: f32[64, K] @ "register"
    for i in parallel(range(M)):
        acc: f32
        acc = 0.0
        for k in range(K):
            acc += A[i, k] * B[k, check(idx[i])]
        C[i, j] = acc
```

A number prints bare where its type follows from its place (index, stored value, argument) or from the
first operand beside it that is not a number; else as `f32(1.0)`. `f32(f64(1.0))` is a cast. Infinity is
`f32.inf`, NaN `f32.nan`. `-1.0` is the constant, `-f32(1.0)` the operation.

`m = min(m, x)` is an Accumulate, `m = store(min(m, x))` the Store of the same shape. A dimension tested
when it runs prints as `A[check(i), j]`. A chain of `Let`s is `let(x, value, y, value, body)`. An array
parameter is `written` when the body stores to it, and says so only otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from kdsl.dtypes import i64
from kdsl.ir.builtins import TABLE
from kdsl.ir.nodes import (
    Accumulate,
    Alloc,
    ArrayParam,
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
    Func,
    If,
    Let,
    Load,
    Logic,
    Loop,
    Options,
    Param,
    Prefetch,
    Print,
    Return,
    ScalarParam,
    Select,
    Stmt,
    Store,
    Unary,
    Var,
    While,
)
from kdsl.ir.numbers import shortest
from kdsl.ir.walk import stmts

INDENT = "    "
WIDTH = 100
"""A longer chain of `Let`s goes on several lines."""

ATOMIC_NAMES = {"+": "atomic_add", "min": "atomic_min", "max": "atomic_max"}

# Precedence, as in Python: an operand binding less tightly than its place asks for gets parentheses.
_TERNARY, _OR, _AND, _NOT, _COMPARE, _UNARY, _ATOM = 0, 1, 2, 3, 4, 11, 12
_BINARY = {"|": 5, "^": 6, "&": 7, "<<": 8, ">>": 8, "+": 9, "-": 9, "*": 10, "/": 10, "//": 10, "%": 10}


class Line(NamedTuple):
    """A line of a function's text. `stmt` is the statement that begins there; its `else:` begins none."""

    text: str
    stmt: Stmt | None = None


def print_func(func: Func) -> str:
    """`func` as text that `parser.parse_func` reads back to an equal `Func` (when verified)."""
    return "\n".join([line.text for line in func_lines(func)]) + "\n"


def func_lines(func: Func) -> list[Line]:
    """The lines of `print_func`."""
    lines: list[Line] = []
    options = _options(func.options)
    if options:
        lines.append(Line(f"@options({options})"))
    if func.sizes != default_sizes(func.params):
        lines.append(Line(f"@sizes({', '.join(func.sizes)})"))
    stored = stored_buffers(func.body)
    params = ", ".join(_param(p, p.name in stored) for p in func.params)
    lines.append(Line(f"def {func.name}({params}):"))
    for c in func.conditions:
        lines += map(Line, _lines(f"require({_text(c.expr, True)}, {_quoted(c.title)})", INDENT))
    if func.body or not func.conditions:
        lines += _body(func.body, INDENT)
    return lines


def print_stmt(s: Stmt) -> str:
    """A statement with all that is nested in it, without a line end."""
    return "\n".join([line.text for line in _stmt(s, "")])


def print_head(s: Stmt) -> str:
    """A statement without its nested bodies: `for i in range(N):`."""
    match s:
        case Loop():
            return f"for {s.var} in {_range(s)}:"
        case While():
            return f"while {_text(s.cond, True)}:"
        case If():
            return f"if {_text(s.cond, True)}:"
        case _:
            return print_stmt(s)


def print_expr(e: Expr, known: bool = False) -> str:
    """An expression. `known`: its type is clear from the place, so that a lone number prints bare."""
    return _text(e, known)


def default_sizes(params: Sequence[Param]) -> tuple[str, ...]:
    """The size symbols in the order in which the shapes of `params` show them."""
    found: dict[str, None] = {}
    for p in params:
        if isinstance(p, ArrayParam):
            for dim in p.shape:
                found.update(dict.fromkeys(dim.terms))
    return tuple(found)


def stored_buffers(body: Body) -> set[str]:
    """The names of all buffers that statements of `body` write."""
    names = set()
    for s in stmts(body):
        match s:
            case Store() | Accumulate():
                names.add(s.buffer)
            case Atomic():
                names |= {s.buffer, s.old} - {""}
            case _:
                pass
    return names


def _quoted(text: str) -> str:
    """A Python string literal, in double quotes where `repr` would not escape any."""
    literal = repr(text)
    return literal if '"' in literal else f'"{literal[1:-1]}"'


# ---------------------------------------------------------------------- header


def _options(o: Options) -> str:
    parts = [f"{flag}=True" for flag in ("strict", "fastmath", "unchecked") if getattr(o, flag)]
    if o.may_alias:
        names = ", ".join(map(_quoted, o.may_alias))
        parts.append(f"may_alias=({names}{',' if len(o.may_alias) == 1 else ''})")
    return ", ".join(parts)


def _param(p: Param, stored: bool) -> str:
    if isinstance(p, ScalarParam):
        return f"{p.name}: {p.dtype}"
    words = [] if p.contiguous else ["strided"]
    if p.written and not stored and not p.result:
        words.append("written")
    if p.result:
        words.append("result")
    shape = ", ".join(map(repr, p.shape)) or "()"
    return f"{p.name}: {p.dtype}[{shape}]" + (f' @ "{" ".join(words)}"' if words else "")


# ------------------------------------------------------------------ statements


def _body(body: Body, indent: str) -> list[Line]:
    if not body:
        return [Line(f"{indent}pass")]
    lines: list[Line] = []
    for s in body:
        lines += _stmt(s, indent)
    return lines


def _lines(text: str, indent: str) -> list[str]:
    return [indent + line for line in text.split("\n")]


def _begun(s: Stmt, text: str, indent: str) -> list[Line]:
    """The lines of `text`, with which `s` begins."""
    first, *rest = _lines(text, indent)
    return [Line(first, s), *map(Line, rest)]


def _stmt(s: Stmt, indent: str) -> list[Line]:
    match s:
        case Loop() | While():
            return [*_begun(s, print_head(s), indent), *_body(s.body, indent + INDENT)]
        case If():
            return list(_if(s, indent))
        case _:
            return _begun(s, _simple(s), indent)


def _if(s: If, indent: str) -> Iterator[Line]:
    keyword = "if"
    while True:
        yield from _begun(s, f"{keyword} {_text(s.cond, True)}:", indent)
        yield from _body(s.then, indent + INDENT)
        match s.orelse:
            case ():
                return
            case (If() as nested,):
                keyword, s = "elif", nested
            case _:
                yield Line(f"{indent}else:")
                yield from _body(s.orelse, indent + INDENT)
                return


def _simple(s: Stmt) -> str:
    match s:
        case Break():
            return "break"
        case Continue():
            return "continue"
        case Return():
            return "return"
        case Alloc():
            shape = f"[{', '.join(_text(e, True) for e in s.shape)}]" if s.shape else ""
            memory = "" if s.memory == "auto" else f' @ "{s.memory}"'
            return f"{s.name}: {s.dtype}{shape}{memory}"
        case Store():
            value = _text(s.value, True)
            if looks_like_accumulate(s):
                value = f"store({value})"
            return f"{_access(s)} = {value}"
        case Accumulate():
            value = f"together({_text(s.value, True)})" if s.together else _text(s.value, True)
            if s.op in ("+", "*"):
                return f"{_access(s)} {s.op}= {value}"
            return f"{_access(s)} = {s.op}({_access(s)}, {value})"
        case Atomic():
            dims = _dims(s.index, s.checked)
            index = dims[0] if len(dims) == 1 else f"({', '.join(dims)})"
            call = f"{ATOMIC_NAMES[s.op]}({s.buffer}, {index}, {_text(s.value, True)})"
            return f"{s.old} = {call}" if s.old else call
        case Prefetch():
            return f"prefetch({_access(s)})"
        case Barrier():
            return "barrier()"
        case Assert():
            return f"assert {_text(s.cond, True)}, {_quoted(s.message)}"
        case Print():
            parts = [_quoted(i) if isinstance(i, str) else _text(i, False) for i in s.items]
            parts += [f"sep={_quoted(s.sep)}"] if s.sep != " " else []
            parts += [f"end={_quoted(s.end)}"] if s.end != "\n" else []
            return f"print({', '.join(parts)})"
        case _:
            return f"<{s!r}>"


def looks_like_accumulate(s: Store) -> bool:
    """True for a Store of `min(cell, x)` or `max(cell, x)` to that cell, which Accumulate's text would be."""
    match s.value:
        case Binary(op="min" | "max", a=Load() as cell):
            return (cell.buffer, cell.index, cell.checked) == (s.buffer, s.index, s.checked)
        case _:
            return False


def _range(s: Loop) -> str:
    bounds = [_text(s.hi, True)]
    if s.step != Const(1, i64):
        bounds = [_text(s.lo, True), *bounds, _text(s.step, True)]
    elif s.lo != Const(0, i64):
        bounds = [_text(s.lo, True), *bounds]
    text = f"range({', '.join(bounds)})"
    if s.mark is None:
        return text
    axis = f', "{s.mark.axis}"' if s.mark.kind == "bind" else ""
    if s.mark.instruction is not None:
        axis = f", {_quoted(s.mark.instruction.name)}"
    unsafe = ", unsafe=True" if s.mark.unsafe else ""
    return f"{s.mark.kind}({text}{axis}{unsafe})"


def _access(a: Load | Store | Accumulate | Prefetch) -> str:
    checked = () if isinstance(a, Prefetch) else a.checked
    return f"{a.buffer}[{', '.join(_dims(a.index, checked))}]" if a.index else a.buffer


def _dims(index: tuple[Expr, ...], checked: tuple[int, ...]) -> list[str]:
    texts = [_text(e, True) for e in index]
    return [f"check({t})" if d in checked else t for d, t in enumerate(texts)]


# ----------------------------------------------------------------- expressions


def is_number(e: Expr) -> bool:
    """True for a constant whose text, alone, does not tell its type."""
    return isinstance(e, Const) and e.type.kind != "bool" and (e.type.is_int or e.value - e.value == 0)


def _text(e: Expr, known: bool, at_least: int = _TERNARY) -> str:
    """`e`'s text, in parentheses when it binds less tightly than `at_least`."""
    precedence, text = _expr(e, known)
    return text if precedence >= at_least else f"({text})"


def _group(es: Sequence[Expr], known: bool, at_least: Sequence[int]) -> list[str]:
    """Operands of one type. When it is not `known`, the first that is not a number tells it to the others."""
    teller = -1 if known else next((i for i, e in enumerate(es) if not is_number(e)), 0)
    return [_text(e, i != teller, level) for i, (e, level) in enumerate(zip(es, at_least))]


def _expr(e: Expr, known: bool) -> tuple[int, str]:
    """Precedence and text."""
    match e:
        case Const():
            return _const(e, known)
        case Var():
            return _ATOM, e.name
        case Load():
            return _ATOM, _access(e)
        case Unary(op="not"):
            return _NOT, f"not {_text(e.x, known, _NOT)}"
        case Unary():
            if isinstance(e.x, Const):
                return _UNARY, f"{e.op}{_operand(e.x)}"
            return _UNARY, f"{e.op}{_text(e.x, known, _UNARY)}"
        case Binary(op="min" | "max"):
            a, b = _group((e.a, e.b), known, (_TERNARY, _TERNARY))
            return _ATOM, f"{e.op}({a}, {b})"
        case Binary():
            level = _BINARY.get(e.op, _TERNARY)
            a, b = _group((e.a, e.b), known, (level, level + 1))
            return level, f"{a} {e.op} {b}"
        case Compare():
            a, b = _group((e.a, e.b), False, (_COMPARE + 1, _COMPARE + 1))
            return _COMPARE, f"{a} {e.op} {b}"
        case Logic():
            level = _OR if e.op == "or" else _AND
            return level, f"{_text(e.a, True, level)} {e.op} {_text(e.b, True, level + 1)}"
        case Select():
            a, b = _group((e.a, e.b), known, (_OR, _TERNARY))
            return _TERNARY, f"{a} if {_text(e.cond, True, _OR)} else {b}"
        case Cast():
            return _ATOM, f"{e.type}({_text(e.x, False)})"
        case Call():
            return _ATOM, _call(e, known)
        case Let():
            return _ATOM, _let(e, known)
        case _:
            return _ATOM, f"<{e!r}>"  # no IR: `verify` shows what it refuses


def _const(e: Const, known: bool) -> tuple[int, str]:
    if e.type.kind == "bool":
        return _ATOM, str(e.value)
    negative = str(e.value).startswith("-")
    if not is_number(e):
        name = "nan" if e.value != e.value else "inf"
        return (_UNARY if negative else _ATOM), f"{'-' if negative else ''}{e.type}.{name}"
    text = shortest(float(e.value), e.type) if e.type.is_float else str(e.value)
    if not known:
        return _ATOM, f"{e.type}({text})"
    return (_UNARY if negative else _ATOM), text


def _operand(e: Const) -> str:
    """A constant under a sign, so that the sign reads as an operation: `-f32(1.0)`."""
    if e.type.is_float and e.value == float("inf"):
        return f'{e.type}("inf")'
    return _text(e, False, _UNARY)


def _call(e: Call, known: bool) -> str:
    row = TABLE.get(e.fn)
    if e.fn == "bitcast":
        return f"bitcast({', '.join([e.type.name, *(_text(a, False) for a in e.args)])})"
    if row is not None and row.rule == "any":
        return f"{e.fn}({', '.join(_text(a, True) for a in e.args)})"
    known = known and row is not None and row.rule != "float->bool"
    return f"{e.fn}({', '.join(_group(e.args, known, (_TERNARY,) * len(e.args)))})"


def _let(e: Let, known: bool) -> str:
    parts = []
    body: Expr = e
    while isinstance(body, Let):
        parts.append(f"{body.name}, {_text(body.value, False)}")
        body = body.body
    parts.append(_text(body, known))
    text = f"let({', '.join(parts)})"
    if len(text) <= WIDTH and "\n" not in text:
        return text
    return "let(" + ",".join(f"\n{INDENT}" + p.replace("\n", f"\n{INDENT}") for p in parts) + ")"
