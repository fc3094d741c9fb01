"""Is a loop what an instruction computes? Both are walked together; what parameters stand for is noted.

    acc[l] += i32(a[q]) * i32(b[l, q])                  l in range(16), q in range(4): the meaning
    C[i, j] += i32(A[i, k_o * 4 + k]) * i32(B[k_o, j, k])    j in range(16), k in range(4): the loop
        acc: from C[i, 0], a step of (0, 1) for l
        a: from A[i, k_o * 4], a step of (0, 1) for q
        b: from B[k_o, 0, 0], steps of (0, 1, 0) for l and (0, 0, 1) for q

Names may differ, loops may start elsewhere, and the operands of `+` and `*` may be swapped; nothing else may.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from itertools import product
from math import prod

from kdsl.analysis.affine import ZERO, Form, constant, symbol
from kdsl.analysis.linear import extent, linear
from kdsl.analysis.roles import Access, Difference, Differs, text_of
from kdsl.analysis.values import size_form
from kdsl.dtypes import i64
from kdsl.ir.nodes import (
    Accumulate,
    Alloc,
    ArrayParam,
    Binary,
    Body,
    Call,
    Cast,
    Compare,
    Const,
    Expr,
    Func,
    If,
    Let,
    Load,
    Logic,
    Loop,
    ScalarParam,
    Select,
    Stmt,
    Store,
    Unary,
    Var,
)
from kdsl.ir.printer import print_expr, print_head
from kdsl.ir.walk import expr_children, stmt_bodies, stmts, subexprs, substitute
from kdsl.source import Loc

_COUNTED = 4096
"""Elements of larger parameters are not looked at one by one."""

_COMMUTE = ("+", "*", "&", "|", "^")


# ----------------------------------------------------------------------- matching


@dataclass(frozen=True, slots=True)
class Operand:
    """An array parameter in the loop: element (p0, p1, ...) of it is `buffer[start + sum of p_k * steps[k]]`.

    `start` is an index over names from outside of the loop; `use` is where it was found, in the loop and in
    the meaning.
    """

    buffer: str
    start: tuple[Expr, ...]
    steps: tuple[tuple[int, ...], ...]
    use: Access
    meant: Access

    def distinct(self, shape: Sequence[int]) -> bool:
        """Whether an array of this shape has a cell for each element."""
        dims = [[d for d, step in enumerate(steps) if step] for steps in self.steps]
        if all(len(found) == 1 for found in dims) and len({d for found in dims for d in found}) == len(dims):
            return True
        if prod(shape) > _COUNTED:
            return False
        cells = {
            tuple([sum(n * s[d] for n, s in zip(at, self.steps)) for d in range(len(self.start))])
            for at in product(*map(range, shape))
        }
        return len(cells) == prod(shape)


@dataclass(frozen=True, slots=True)
class Binding:
    """What the parameters of a meaning are in a loop, by name: arrays, and the expressions of scalars."""

    arrays: dict[str, Operand]
    scalars: dict[str, Expr]


def match(loop: Loop, meaning: Func, may_alias: Sequence[str] = ()) -> Binding | Difference:
    """How `loop` (with whatever mark) is what `meaning` computes, or the first difference.

    `may_alias`: arrays that may share memory.
    """
    try:
        return _Match(loop, meaning, frozenset(may_alias)).binding()
    except Differs as found:
        return found.difference


@dataclass(slots=True)
class _Match:
    loop: Loop
    meaning: Func
    may_alias: frozenset[str]
    inner: frozenset[str] = field(init=False)
    written: frozenset[str] = field(init=False)
    arrays: dict[str, ArrayParam] = field(init=False)
    scalars: frozenset[str] = field(init=False)
    loops: dict[str, Loop] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    values: dict[str, Expr] = field(default_factory=dict)
    operands: dict[str, Operand] = field(default_factory=dict)
    atoms: dict[Expr, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.inner = frozenset(s.var for s in stmts((self.loop,)) if isinstance(s, Loop))
        found = [s.buffer for s in stmts((self.loop,)) if isinstance(s, (Store, Accumulate))]
        self.written = frozenset(found)
        self.arrays = {p.name: p for p in self.meaning.arrays}
        self.scalars = frozenset(p.name for p in self.meaning.params if isinstance(p, ScalarParam))

    def binding(self) -> Binding:
        self.body((replace(self.loop, mark=None),), self.meaning.body, self.loop.loc, self.meaning.loc)
        self.apart()
        return Binding(self.operands, self.values)

    def apart(self) -> None:
        """What is written must be a cell for each element, and no other operand's memory."""
        for name, found in self.operands.items():
            if found.buffer not in self.written:
                continue
            if not found.distinct([d.const for d in self.arrays[name].shape]):
                raise Differs(
                    f"`{text_of(found.use)}` is one cell for several elements of `{name}`",
                    found.use.loc or self.loop.loc,
                    found.meant.loc,
                )
            for other, operand in self.operands.items():
                mine = found.buffer
                if other == name:
                    continue
                if operand.buffer == mine or {operand.buffer, mine} <= self.may_alias:
                    raise Differs(
                        f"`{mine}` is written and may overlap `{operand.buffer}`, which the instruction reads"
                        " before",
                        operand.use.loc or self.loop.loc,
                        operand.meant.loc,
                        "stage one of them",
                    )

    # -- statements

    def body(self, ours: Body, meant: Body, loc: Loc | None, meant_loc: Loc | None) -> None:
        for s, m in zip(ours, meant):
            self.stmt(s, m)
        if len(ours) > len(meant):
            extra = ours[len(meant)]
            raise Differs(f"`{_head(extra)}` is one statement more", extra.loc or loc, meant_loc)
        if len(meant) > len(ours):
            raise Differs(f"`{_head(meant[len(ours)])}` is missing", loc, meant[len(ours)].loc or meant_loc)

    def stmt(self, s: Stmt, m: Stmt) -> None:
        match s, m:
            case Loop(), Loop():
                self.nested(s, m)
            case Accumulate(), Accumulate() if s.op == m.op:
                self.access(s, m)
                self.expr(s.value, m.value, s, m)
            case Store(), Store():
                self.access(s, m)
                self.expr(s.value, m.value, s, m)
            case Alloc(), Alloc() if s.dtype == m.dtype and not s.shape and not m.shape:
                self.names[m.name] = s.name
            case If(), If():
                self.expr(s.cond, m.cond, s, m)
                self.body(s.then, m.then, s.loc, m.loc)
                self.body(s.orelse, m.orelse, s.loc, m.loc)
            case _:
                raise Differs(f"`{_head(s)}` stands where `{_head(m)}` is meant", s.loc, m.loc, _way_past(s))

    def nested(self, s: Loop, m: Loop) -> None:
        if s.mark is not None:
            raise Differs(f"the loop `{s.var}` is marked `{s.mark.kind}`", s.loc, m.loc, "leave it unmarked")
        count, wanted = extent(s), extent(m)
        if count != wanted:
            many = "an unknown number of" if count is None else str(count)
            way = f's.split("{s.var}", {wanted}, tail="cut") makes a loop of {wanted}'
            if count is not None and wanted is not None and count < wanted:
                way = f"bring a loop of {wanted} iterations here: reorder, or split another one"
            raise Differs(f"the loop `{s.var}` has {many} iterations, not {wanted}", s.loc, m.loc, way)
        self.loops[m.var] = s
        self.body(s.body, m.body, s.loc, m.loc)

    # -- expressions

    def expr(self, e: Expr, m: Expr, s: Stmt, meant: Stmt) -> None:
        """`e`, of the statement `s`, is `m`, of `meant`."""
        loc, meant_loc = e.loc or s.loc, m.loc or meant.loc
        if e.dtype != m.dtype:
            raise Differs(
                f"`{print_expr(e)}` is {e.dtype} where `{print_expr(m)}` is {m.dtype}", loc, meant_loc
            )
        match m:
            case Var(name=name) if name in self.scalars:
                self.scalar(e, m, loc, meant_loc)
                return
            case Var(name=name) if name in self.names:
                if not (isinstance(e, Var) and e.name == self.names[name]):
                    raise Differs(f"`{print_expr(e)}` stands where `{name}` is meant", loc, meant_loc)
                return
            case Var(name=name) if name in self.loops:
                form = self.form(e)
                if form is None or self.over_meant(form) != symbol(f"%{name}"):
                    raise Differs(f"`{print_expr(e)}` is not the number of the iteration", loc, meant_loc)
                return
            case Load():
                if not isinstance(e, Load):
                    raise Differs(f"`{print_expr(e)}` is no element of an array", loc, meant_loc)
                self.access(e, m, s, meant)
                return
            case _:
                pass
        if not _alike(e, m):
            raise Differs(f"`{print_expr(e)}` stands where `{print_expr(m)}` is meant", loc, meant_loc)
        if isinstance(m, Let) and isinstance(e, Let):
            self.expr(e.value, m.value, s, meant)
            self.names[m.name] = e.name
            self.expr(e.body, m.body, s, meant)
            return
        if isinstance(m, Binary) and isinstance(e, Binary) and m.op in _COMMUTE:
            self.either_way(e, m, s, meant)
            return
        for one, other in zip(expr_children(e), expr_children(m)):
            self.expr(one, other, s, meant)

    def either_way(self, e: Binary, m: Binary, s: Stmt, meant: Stmt) -> None:
        before = copy(self.names), copy(self.values), copy(self.operands)
        try:
            self.expr(e.a, m.a, s, meant)
            self.expr(e.b, m.b, s, meant)
        except Differs as first:
            self.names, self.values, self.operands = before
            try:
                self.expr(e.b, m.a, s, meant)
                self.expr(e.a, m.b, s, meant)
            except Differs:
                raise first from None

    def scalar(self, e: Expr, m: Var, loc: Loc | None, meant_loc: Loc | None) -> None:
        if self.moves(e):
            raise Differs(f"`{print_expr(e)}` changes in the loop; `{m.name}` is one number", loc, meant_loc)
        if self.values.setdefault(m.name, e) != e:
            raise Differs(
                f"`{print_expr(e)}` and `{print_expr(self.values[m.name])}` both stand for `{m.name}`",
                loc,
                meant_loc,
            )

    def moves(self, e: Expr) -> bool:
        """Whether `e` may change while the loop runs."""
        shared = self.written | (self.may_alias if self.written & self.may_alias else frozenset())
        for x in subexprs(e):
            match x:
                case Var(name=name) if name in self.inner or name in self.names.values():
                    return True
                case Load(buffer=name) if name in shared or name in self.names.values():
                    return True
                case _:
                    pass
        return False

    # -- accesses

    def access(self, ours: Access, m: Access, s: Stmt | None = None, meant: Stmt | None = None) -> None:
        loc = ours.loc or (s.loc if s is not None else None)
        meant_loc = m.loc or (meant.loc if meant is not None else None)
        if m.buffer not in self.arrays:
            if self.names.get(m.buffer) != ours.buffer:
                raise Differs(f"`{ours.buffer}` stands where `{m.buffer}` is meant", loc, meant_loc)
            return
        if ours.checked:
            raise Differs(f"`{text_of(ours)}` is tested when it runs", loc, meant_loc)
        if ours.buffer in self.names.values():
            raise Differs(f"`{ours.buffer}` is local to the loop", loc, meant_loc)
        forms = [self.form(i) for i in ours.index]
        over = [self.over_meant(f) for f in forms if f is not None]
        if len(over) < len(forms):
            at = next(i for i, f in zip(ours.index, forms) if f is None)
            raise Differs(f"`{print_expr(at, True)}` is not affine in the loop", loc, meant_loc)
        found = self.operands.get(m.buffer)
        if found is None:
            self.operands[m.buffer] = found = self.operand(ours, m, over, loc, meant_loc)
        for d, at in enumerate(found.start):
            form = self.form(at)
            assert form is not None
            for k, index in enumerate(m.index):
                assert isinstance(index, Var)
                form = form + symbol(f"%{index.name}") * found.steps[k][d]
            if found.buffer != ours.buffer or form != over[d]:
                raise Differs(
                    f"`{text_of(ours)}` and `{text_of(found.use)}` both stand for `{m.buffer}`",
                    loc,
                    meant_loc,
                )

    def operand(
        self, ours: Access, m: Access, over: Sequence[Form], loc: Loc | None, meant_loc: Loc | None
    ) -> Operand:
        """The parameter `m.buffer`, met for the first time."""
        names = [e.name if isinstance(e, Var) else "" for e in m.index]
        assert all(n in self.loops for n in names), "the roles have been looked at"
        for other in self.loops:
            if other in names:
                continue
            if any(f.coefficient(f"%{other}") != ZERO for f in over):
                moving = f"`{text_of(ours)}` moves with `{self.loops[other].var}`"
                raise Differs(f"{moving}, but `{text_of(m)}` not with `{other}`", loc, meant_loc)
        steps = []
        for n in names:
            factors = [f.coefficient(f"%{n}") for f in over]
            if any(c is None or not c.is_const for c in factors):
                raise Differs(f"`{text_of(ours)}` moves by no constant step", loc, meant_loc)
            steps.append(tuple([c.const for c in factors if c is not None]))
        start = ours.index
        for s in reversed(self.loops.values()):
            start = tuple([substitute(e, {s.var: s.lo}) for e in start])
        return Operand(ours.buffer, start, tuple(steps), ours, m)

    # -- affine forms

    def form(self, e: Expr) -> Form | None:
        """`e` as an affine form over the loop's variables, names from outside, and whatever does not move."""
        match e:
            case Const(type=t, value=value) if t == i64:
                return constant(int(value))
            case Var(type=t) if t == i64:
                return symbol(e.name)
            case Binary(op="+" | "-" | "*" as op, a=x, b=y):
                a, b = self.form(x), self.form(y)
                if a is not None and b is not None and (op != "*" or a.is_const or b.is_const):
                    return a * b if op == "*" else a + b if op == "+" else a - b
            case _:
                pass
        if self.moves(e):
            return None
        return symbol(self.atoms.setdefault(e, f"${len(self.atoms)}"))

    def position(self, s: Loop, name: str) -> Form:
        """The value of our loop's variable, over the meaning's variable `name`."""
        lo = self.form(s.lo)
        if lo is None or not isinstance(s.step, Const):
            raise Differs(f"`{print_head(s).rstrip(':')}` starts anywhere", s.loc)
        return lo + symbol(f"%{name}") * int(s.step.value)

    def over_meant(self, form: Form) -> Form:
        """`form` with the meaning's variables (as `%l`) for ours."""
        for name, s in reversed(self.loops.items()):
            form = form.substitute(s.var, self.position(s, name))
        return form


# ------------------------------------------------------------------- memory layout


def layout_difference(
    func: Func, above: Sequence[Stmt], binding: Binding, meaning: Func
) -> Difference | None:
    """Why the elements of some operand do not lie one after the other; None when they do.

    `above` are the statements around the loop. Arrays that come with strides are looked at as if they came
    without: where they are scattered, code collects their elements.
    """
    for p in meaning.arrays:
        operand = binding.arrays[p.name]
        shape = _shape(func, above, operand.buffer)
        wanted = 1
        for k in reversed(range(len(p.shape))):
            if p.shape[k].const > 1:
                found = _distance(operand.steps[k], shape)
                if found != constant(wanted):
                    far = "an unknown number of" if found is None else repr(found)
                    text = f"neighbours in dimension {k} of `{p.name}` are {far} elements apart, not {wanted}"
                    loc = operand.use.loc
                    return Difference(text, loc, operand.meant.loc, _packing(operand, p))
            wanted *= p.shape[k].const
    return None


def _shape(func: Func, above: Sequence[Stmt], name: str) -> tuple[Form | None, ...]:
    """The extents of a buffer as forms, None for what is not affine."""
    for a in func.arrays:
        if a.name == name:
            return tuple([size_form(d) for d in a.shape])
    for body in (func.body, *[b for s in above for b in stmt_bodies(s)]):
        for s in body:
            if isinstance(s, Alloc) and s.name == name:
                return tuple([linear(e) for e in s.shape])
    raise AssertionError(f"no buffer {name}")


def _distance(steps: Sequence[int], shape: Sequence[Form | None]) -> Form | None:
    """How many elements a step in each dimension leads on."""
    total, size = ZERO, constant(1)
    known: Form | None = size
    for step, whole in zip(reversed(steps), reversed(shape)):
        if step and known is None:
            return None
        if step and known is not None:
            total = total + known * step
        known = known * whole if known is not None and whole is not None else None
    return total


def _packing(operand: Operand, param: ArrayParam) -> str:
    """The layout of a copy in which the elements lie as they should."""
    dims = [[d for d, step in enumerate(steps) if step] for steps in operand.steps]
    rank = len(operand.start)
    plain = all(len(found) == 1 and sum(steps) == 1 for found, steps in zip(dims, operand.steps))
    where = [found[0] for found in dims if found]
    if not plain or len(set(where)) < len(where):
        return "let each dimension of the operand run along one dimension of the array"
    tile = [param.shape[where.index(d)].const if d in where else None for d in range(rank)]
    first = [d + sum(t is not None for t in tile[:d]) for d in range(rank)]
    order = [*first, *[first[d] + 1 for d in where]]
    layout = f"dict(tile={tile}, order={order})"
    return f's.stage("{operand.buffer}", at=..., layout={layout}) packs it so'


# -------------------------------------------------------------------------- texts


def _alike(e: Expr, m: Expr) -> bool:
    """Equal but for their operands."""
    match e, m:
        case Const(), Const():
            return e == m
        case Var(), Var():
            return e.name == m.name
        case (Unary(op=op), Unary(op=other)) | (Binary(op=op), Binary(op=other)):
            return bool(op == other)
        case (Compare(op=op), Compare(op=other)) | (Logic(op=op), Logic(op=other)):
            return bool(op == other)
        case Cast(), Cast():
            return e.x.dtype == m.x.dtype
        case Call(), Call():
            return e.fn == m.fn and len(e.args) == len(m.args)
        case (Select(), Select()) | (Let(), Let()):
            return True
        case _:
            return False


def _head(s: Stmt) -> str:
    return print_head(s).rstrip(":").split("\n", 1)[0]


def _way_past(s: Stmt) -> str:
    if isinstance(s, If):
        return 'split with tail="cut" (or tail="perfect"), so that whole tiles have no test inside'
    return ""
