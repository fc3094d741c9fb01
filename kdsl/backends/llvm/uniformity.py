"""What differs between the lanes of a vector loop, and what all of them share.

for j in vectorize(range(16)):
    m: f32                        # private to a lane; varying, because of the next line
    m = A[k, j] * s[k]            # `s[k]` is uniform: one scalar load
    if m > 0: ...                 # varying: both sides run under a mask, and what they write varies
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from kdsl.errors import ScheduleError
from kdsl.ir.nodes import (
    Accumulate,
    Alloc,
    Atomic,
    Binary,
    Body,
    Break,
    Const,
    Continue,
    Expr,
    If,
    Let,
    Load,
    Loop,
    Stmt,
    Store,
    Unary,
    Var,
    While,
)
from kdsl.ir.walk import exprs, stmt_bodies, stmt_exprs, stmts, subexprs


@dataclass(frozen=True, slots=True)
class Uniformity:
    """Facts on one vector loop, by name and by statement id.

    `varying`: variables and private buffers whose value may differ between lanes. `private`: the buffers
    made inside. `masked`: the inner loops that lanes may leave at different times, and, by its own id, the
    vector loop when lanes may `continue` at different times.
    """

    varying: frozenset[str]
    private: frozenset[str]
    masked: frozenset[int]

    def varies(self, e: Expr) -> bool:
        """Whether `e` may have different values in different lanes."""
        return _varies(e, self.varying)


def uniformity(loop: Loop) -> Uniformity:
    """The facts on a vector loop: a least fixed point of "written from what varies, or where lanes part"."""
    private = frozenset(s.name for s in stmts(loop.body) if isinstance(s, Alloc))
    found = _Finder({loop.var}, private)
    before = -1
    while before != len(found.varying) + len(found.masked):
        before = len(found.varying) + len(found.masked)
        found.body(loop.body, loop, loop.id in found.masked)
    return Uniformity(frozenset(found.varying), private, frozenset(found.masked))


def lane_count(loop: Loop) -> int:
    """The number of iterations of a vector loop; ScheduleError when it is not a constant of 1 or more."""
    step = loop.step
    span = _constant_difference(loop.hi, loop.lo)
    if not isinstance(step, Const) or not step.value or span is None:
        raise ScheduleError(
            "K0380",
            f"cannot vectorize loop `{loop.var}`: its number of iterations is not a constant",
            loc=loop.loc,
            label="one lane runs each iteration",
            help=f'give the number of lanes: `s.vectorize("{loop.var}", 16)`',
        )
    return len(range(0, span, int(step.value)))


def _constant_difference(a: Expr, b: Expr) -> int | None:
    """`a - b` when what is not constant cancels."""
    terms = _sum(a)
    for term, factor in _sum(b).items():
        terms[term] = terms.get(term, 0) - factor
    const = terms.pop(None, 0)
    return None if any(terms.values()) else const


def _sum(e: Expr) -> dict[Expr | None, int]:
    """An integer expression as terms and their factors; the constant is the term None."""
    match e:
        case Const(value=value):
            return {None: int(value)}
        case Binary(op="+" | "-" as op, a=a, b=b):
            out = _sum(a)
            for term, factor in _sum(b).items():
                out[term] = out.get(term, 0) + (factor if op == "+" else -factor)
            return out
        case Binary(op="*", a=a, b=Const(value=by)) | Binary(op="*", a=Const(value=by), b=a):
            return {term: factor * int(by) for term, factor in _sum(a).items()}
        case _:
            return {e: 1}


def is_vector(s: Stmt) -> bool:
    """Whether `s` is a loop that runs in lockstep."""
    return isinstance(s, Loop) and s.mark is not None and s.mark.kind == "vectorize"


def is_instruction(s: Stmt) -> bool:
    """Whether `s` is a loop that an instruction does."""
    return isinstance(s, Loop) and s.mark is not None and s.mark.kind == "tensorize"


def loops_apart(body: Body) -> Iterator[Loop | While]:
    """The loops of `body`, without those inside of one that an instruction does."""
    for s in body:
        if isinstance(s, (Loop, While)):
            yield s
        if not is_instruction(s):
            for inner in stmt_bodies(s):
                yield from loops_apart(inner)


def has_constant_places(buffer: str, scope: Body) -> bool:
    """Whether every index of `buffer` in `scope` is made of constants and variables of vector loops alone.

    Those of a loop that an instruction does count as such.
    """
    lanes = {s.var for s in stmts(scope) if isinstance(s, Loop) and is_vector(s)}
    for done in [s for s in stmts(scope) if is_instruction(s)]:
        lanes |= {s.var for s in stmts((done,)) if isinstance(s, Loop)}
    indices = [e.index for e in exprs(scope) if isinstance(e, Load) and e.buffer == buffer]
    indices += [
        s.index for s in stmts(scope) if isinstance(s, (Store, Accumulate, Atomic)) and s.buffer == buffer
    ]
    return all(
        isinstance(e, (Const, Binary, Unary)) or (isinstance(e, Var) and e.name in lanes)
        for index in indices
        for i in index
        for e in subexprs(i)
    )


def exits(s: Stmt) -> bool:
    """Whether `s` holds a `break` or `continue` of the loop that it stands in."""
    if isinstance(s, (Break, Continue)):
        return True
    return isinstance(s, If) and any(exits(inner) for body in stmt_bodies(s) for inner in body)


def _varies(e: Expr, varying: frozenset[str] | set[str]) -> bool:
    for x in subexprs(e):
        match x:
            case Var(name=name) | Load(buffer=name):
                if name in varying:
                    return True
            case _:
                pass
    return False


@dataclass(slots=True)
class _Finder:
    varying: set[str]
    private: frozenset[str]
    masked: set[int] = field(default_factory=set)

    def body(self, body: Body, loop: Loop | While, apart: bool) -> None:
        """`apart`: whether lanes may be here that others have not come to; `loop` is the innermost one."""
        for s in body:
            self.lets(s)
            match s:
                case Store() | Accumulate() | Atomic():
                    self.write(s, apart)
                case Loop():
                    own = any(_varies(e, self.varying) for e in (s.lo, s.hi, s.step))
                    if own:
                        self.varying.add(s.var)
                        self.masked.add(s.id)
                    self.body(s.body, s, apart or own or s.id in self.masked)
                case While():
                    if _varies(s.cond, self.varying):
                        self.masked.add(s.id)
                    self.body(s.body, s, apart or s.id in self.masked)
                case If():
                    split = _varies(s.cond, self.varying)
                    if split and exits(s):
                        self.masked.add(loop.id)
                    for inner in (s.then, s.orelse):
                        self.body(inner, loop, apart or split or loop.id in self.masked)
                case _:
                    pass

    def lets(self, s: Stmt) -> None:
        for e in stmt_exprs(s):
            for x in subexprs(e):
                if isinstance(x, Let) and _varies(x.value, self.varying):
                    self.varying.add(x.name)

    def write(self, s: Store | Accumulate | Atomic, apart: bool) -> None:
        if isinstance(s, Atomic) and s.old in self.private:
            self.varying.add(s.old)
        if s.buffer in self.private and (
            apart or isinstance(s, Atomic) or any(_varies(e, self.varying) for e in (s.value, *s.index))
        ):
            self.varying.add(s.buffer)
