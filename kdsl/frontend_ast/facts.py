"""Questions about core expressions: what they read, whether they can change, integer arithmetic on them."""

from __future__ import annotations

from kdsl.frontend_ast.core import (
    Alloc,
    Assert,
    Assign,
    Atomic,
    Bin,
    Cast,
    Cmp,
    Expr,
    Fn,
    For,
    If,
    Let,
    Like,
    Load,
    Logic,
    LoopRef,
    Num,
    Pick,
    Print,
    Ref,
    SizeVar,
    Stmt,
    Store,
    Un,
    While,
)


def children(e: Expr) -> tuple[Expr, ...]:
    """Direct subexpressions in evaluation order."""
    match e:
        case Load():
            return e.index
        case Un():
            return (e.x,)
        case Cast():
            return (e.x, e.to.x) if isinstance(e.to, Like) else (e.x,)
        case Bin() | Cmp() | Logic():
            return (e.a, e.b)
        case Pick():
            return (e.cond, e.a, e.b)
        case Fn():
            return e.args
        case Let():
            return (e.value, e.body)
        case _:
            return ()


def stmt_exprs(s: Stmt) -> tuple[Expr, ...]:
    """Expressions that stand directly in `s`, in evaluation order."""
    match s:
        case Assign():
            return (s.value,)
        case Store() | Atomic():
            return (s.value, *s.index)
        case For():
            return (s.lo, s.hi, s.step)
        case While() | If() | Assert():
            return (s.cond,)
        case Alloc():
            like = (s.buffer.dtype.x,) if isinstance(s.buffer.dtype, Like) else ()
            return (*s.buffer.shape, *like)
        case Print():
            return tuple(i for i in s.items if not isinstance(i, str))
        case _:
            return ()


def refs(e: Expr, out: list[Ref]) -> None:
    """Appends the reads of statement-assigned variables below `e`."""
    if isinstance(e, Ref):
        if not e.var.let:
            out.append(e)
        return
    for c in children(e):
        refs(c, out)


def loads(e: Expr, out: list[Load]) -> None:
    """Appends the loads below `e`."""
    if isinstance(e, Load):
        out.append(e)
    for c in children(e):
        loads(c, out)


def untested(e: Expr) -> Expr:
    """The same number without the tests that indices into views carry."""
    match e:
        case Fn(name="within"):
            return untested(e.args[0])
        case Bin():
            return Bin(e.op, untested(e.a), untested(e.b), e.loc)
        case Cast():
            return Cast(untested(e.x), e.to, e.loc)
        case _:
            return e


def length(extent: Expr) -> Expr:
    """The number of elements of a dimension whose extent, where it is negative, means 0."""
    known, p = constant(extent), poly(extent)
    if known is not None:
        return Num(max(known, 0), loc=extent.loc)
    if raw_length(extent) is not extent:
        return extent
    sizes = all(c >= 0 and all(atom[0] == "size" for atom in m) for m, c in p.items())
    return extent if sizes else Bin("max", Num(0), extent, extent.loc)


def raw_length(e: Expr) -> Expr:
    """The extent whose `length` is `e`, where that is seen; else `e`."""
    if isinstance(e, Bin) and e.op == "max" and isinstance(e.a, Num) and e.a.value == 0:
        return e.b
    return e


def has_load(e: Expr) -> bool:
    """Whether `e` reads an array."""
    return isinstance(e, Load) or any(has_load(c) for c in children(e))


def stable(e: Expr) -> bool:
    """Whether `e` keeps its value while its names are in scope: no array, no variable that changes."""
    if isinstance(e, Load) or (isinstance(e, Ref) and not e.var.fixed):
        return False
    return all(stable(c) for c in children(e))


def can_fault(e: Expr) -> bool:
    """Whether evaluating `e` may raise: array reads, integer division, integer powers."""
    if isinstance(e, Load) or (isinstance(e, Bin) and e.op in ("//", "%", "**")) or isinstance(e, Fn):
        return True
    return any(can_fault(c) for c in children(e))


def is_shape(e: Expr) -> bool:
    """Whether `e` is made of sizes, integer constants and integer arithmetic on them."""
    match e:
        case Num():
            return isinstance(e.value, int)
        case SizeVar():
            return True
        case Cast():
            return e.to in ("int", "index") and is_shape(e.x)
        case Bin():
            return e.op in ("+", "-", "*", "//", "%", "min", "max") and is_shape(e.a) and is_shape(e.b)
        case Un():
            return e.op in ("-", "+") and is_shape(e.x)
        case _:
            return False


Key = tuple[object, ...]


def key(e: Expr) -> Key:
    """A hashable that two expressions share when they are the same text over the same names."""
    match e:
        case Num():
            return ("num", type(e.value).__name__, repr(e.value), e.dtype)
        case SizeVar():
            return ("size", e.name)
        case LoopRef():
            return ("loop", id(e.loop))
        case Ref():
            return ("ref", id(e.var))
        case Load():
            return ("load", id(e.buffer), *[key(i) for i in e.index])
        case Cast():
            to = ("like", key(e.to.x)) if isinstance(e.to, Like) else e.to
            return ("cast", to, key(e.x))
        case Fn():
            return ("fn", e.name, e.dtype, *[key(a) for a in e.args])
        case Un():
            return ("un", e.op, key(e.x))
        case Bin() | Cmp() | Logic():
            return (type(e).__name__, e.op, key(e.a), key(e.b))
        case Pick():
            return ("pick", key(e.cond), key(e.a), key(e.b))
        case Let():
            return ("let", id(e.var), key(e.value), key(e.body))
        case _:
            raise AssertionError(f"unknown expression {e!r}")


# ------------------------------------------------------------------ integer polynomials

Poly = dict[tuple[Key, ...], int]
"""Monomial (sorted atoms) -> coefficient; the constant's monomial is ()."""


def poly(e: Expr) -> Poly:
    """`e`, an integer, as a polynomial over atoms: sizes, loop variables and whatever else it contains."""
    match e:
        case Num() if isinstance(e.value, int):
            return {(): int(e.value)} if e.value else {}
        case Cast() if e.to == "index":
            return poly(e.x)
        case Un() if e.op == "-":
            return poly_scale(poly(e.x), -1)
        case Bin() if e.op == "+":
            return poly_add(poly(e.a), poly(e.b))
        case Bin() if e.op == "-":
            return poly_add(poly(e.a), poly_scale(poly(e.b), -1))
        case Bin() if e.op == "*":
            return poly_mul(poly(e.a), poly(e.b))
        case _:
            return {(key(e),): 1}


def poly_add(a: Poly, b: Poly) -> Poly:
    out = dict(a)
    for m, c in b.items():
        out[m] = out.get(m, 0) + c
    return {m: c for m, c in out.items() if c}


def poly_scale(a: Poly, factor: int) -> Poly:
    return {m: c * factor for m, c in a.items() if factor}


def poly_mul(a: Poly, b: Poly) -> Poly:
    out: Poly = {}
    for ma, ca in a.items():
        for mb, cb in b.items():
            m = tuple(sorted(ma + mb, key=repr))
            out[m] = out.get(m, 0) + ca * cb
    return {m: c for m, c in out.items() if c}


def constant(e: Expr) -> int | None:
    """The value of an integer expression that is the same for all sizes, else None."""
    p = poly(e)
    if not p:
        return 0
    return p[()] if set(p) == {()} else None


def _split(e: Expr) -> tuple[Expr | None, int]:
    """`e` as (base, constant) with `e == base + constant`; base None: e is the constant."""
    match e:
        case Num() if isinstance(e.value, int):
            return None, int(e.value)
        case Bin() if e.op in ("+", "-") and isinstance(e.b, Num) and isinstance(e.b.value, int):
            base, constant_part = _split(e.a)
            return base, constant_part + (int(e.b.value) if e.op == "+" else -int(e.b.value))
        case _:
            return e, 0


def add(a: Expr, b: Expr) -> Expr:
    """`a + b` for integers, constants gathered at the end."""
    (base_a, rest_a), (base_b, rest_b) = _split(a), _split(b)
    rest = rest_a + rest_b
    if base_a is not None and base_b is not None:
        if rest_a and not rest_b and isinstance(a, Bin):
            return Bin("+", a, b, a.loc)
        base: Expr = Bin("+", base_a, base_b, a.loc)
    elif base_a is None and base_b is None:
        return Num(rest, loc=a.loc)
    elif base_a is None and base_b is not None:
        # An offset in front stays there: `1 + s0`.
        return Bin("+", a, b, a.loc) if rest_a and not rest_b else _offset(base_b, rest)
    else:
        assert base_a is not None
        base = base_a
    return _offset(base, rest)


def _offset(base: Expr, rest: int) -> Expr:
    if rest == 0:
        return base
    return Bin("+" if rest > 0 else "-", base, Num(abs(rest), loc=base.loc), base.loc)


def sub(a: Expr, b: Expr) -> Expr:
    """`a - b` for integers, folded when the difference is constant or one of the two is."""
    difference = constant(Bin("-", a, b))
    if difference is not None:
        return Num(difference, loc=a.loc)
    if isinstance(b, Num) and isinstance(b.value, int):
        base, rest = _split(a)
        assert base is not None
        return _offset(base, rest - int(b.value))
    return Bin("-", a, b, a.loc)


def mul(a: Expr, b: Expr) -> Expr:
    """`a * b` for integers, without needless ones."""
    if isinstance(a, Num) and isinstance(b, Num):
        return Num(int(a.value) * int(b.value), loc=a.loc)
    for x, y in ((a, b), (b, a)):
        if isinstance(x, Num):
            if x.value == 1:
                return y
            if x.value == 0:
                return Num(0, loc=x.loc)
    return Bin("*", a, b, a.loc)
