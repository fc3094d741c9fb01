"""The part of a function that decides what may become of a loop, or of a nest that is rewritten.

It, what is around it, and what makes the numbers and conditions that it depends on:

    for i:                                  for i:
        n = ...                                 n = ...
        for j: A[j] = ...           ->          for k in range(n): B[k] = ...
        for k in range(n): B[k] = ...

A question about the slice is smaller, and is the same one again where something else of the function changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from kdsl.analysis.verdict import Origin
from kdsl.dtypes import i64
from kdsl.ir.nodes import (
    Accumulate,
    Alloc,
    Atomic,
    Body,
    Break,
    Continue,
    Expr,
    Func,
    If,
    Load,
    Loop,
    Return,
    Stmt,
    Store,
    Var,
    While,
)
from kdsl.ir.walk import expr_children, stmt_bodies, stmt_exprs, stmts, subexprs

NOTHING: frozenset[str] = frozenset()


def sliced(func: Func, loop_id: int) -> Func:
    """`func` without the statements that make no difference to the iterations of a loop, by its id.

    What stays: the loop with all in it, the statements around it, exits, and each store to a buffer that a
    number, a condition or a subscript of these may come from. Statements keep their ids.
    """
    return _slices((func,), frozenset((loop_id,)))[0]


@dataclass(frozen=True, slots=True)
class Rewritten:
    """The slices of two functions to the statements in which they differ; `outside`: the locals, as the
    analysis names buffers, that are not made by these."""

    before: Func
    after: Func
    outside: frozenset[str]


def rewritten(before: Func, after: Func, origins: Mapping[int, Origin]) -> Rewritten | None:
    """The slices that decide whether `after` may stand for `before`; None where they are no smaller question.

    What is outside of them keeps its order, and so it does with respect to them: the loops around both, and
    what each iteration of these is, stay as they are.
    """
    old, new, around = _differing(before.body, after.body, ())
    if not old or not new or any(_about(s).leaves for s in before.body):
        return None
    sources = frozenset().union(*[_about(s).ids for s in old])
    inside = frozenset().union(*[_about(s).ids for s in new])
    for s in stmts(after.body):
        given = origins.get(s.id)
        if given is None:
            continue
        kept = {x.var for x in around} if s.id in inside else {name for name, _ in given.iters}
        if (given.stmt not in sources) if s.id in inside else given.stmt != s.id:
            return None
        if any(name in kept and value != Var(name, i64) for name, value in given.iters):
            return None
    whole = frozenset([s.id for s in (*old, *new)])
    first, second = _slices((before, after), whole)
    if _count(first) == _count(before) and _count(second) == _count(after):
        return None
    return Rewritten(first, second, frozenset(_locals(first.body, whole)))


def affected(before: Func, after: Func) -> frozenset[int] | None:
    """The loops (ids) whose slices may be others `after` than `before`; None: those of all loops.

    The others have neither changed, nor what is in them or around them, nor what they depend on.
    """
    if replace(before, body=()) != replace(after, body=()):
        return None
    old, new, around = _differing(before.body, after.body, ())
    found = [_about(s) for s in (*old, *new)]
    if any(isinstance(s, Alloc) for s in (*old, *new)) or any(x.leaves for x in found):
        return None
    if not NOTHING.union(*[x.written for x in found]).isdisjoint(
        _deciding_all(before) | _deciding_all(after)
    ):
        return None
    return frozenset([s.id for s in around]).union(*[x.ids for x in found])


def _deciding_all(func: Func) -> set[str]:
    """The buffers from which numbers, conditions and subscripts of a function may come."""
    stores = [s for s in stmts(func.body) if isinstance(s, (Store, Accumulate, Atomic))]
    needed = set().union(*[_about(s).decide for s in func.body])
    while True:
        more = [_about(s).read for s in stores if not needed.isdisjoint(_written(s))]
        if NOTHING.union(*more) <= needed:
            return needed
        needed = needed.union(*more)


def _count(func: Func) -> int:
    return sum(1 for _ in stmts(func.body))


def _locals(body: Body, whole: frozenset[int]) -> Iterator[str]:
    """The locals that are made outside of `whole`."""
    for s in body:
        if isinstance(s, Alloc) and s.id not in whole:
            yield f"{s.name}@{s.id}"
        if s.id not in whole:
            for inner in stmt_bodies(s):
                yield from _locals(inner, whole)


def _differing(before: Body, after: Body, around: tuple[Loop, ...]) -> tuple[Body, Body, tuple[Loop, ...]]:
    """The statements of two bodies that are not the same, and the loops around these."""
    start, end = 0, 0
    shorter = min(len(before), len(after))
    while start < shorter and before[start] is after[start]:
        start += 1
    while end < shorter - start and before[-1 - end] is after[-1 - end]:
        end += 1
    old, new = before[start : len(before) - end], after[start : len(after) - end]
    if len(old) == len(new) == 1 and old[0].id == new[0].id:
        a, b = old[0], new[0]
        if isinstance(a, Loop) and isinstance(b, Loop) and _head(a) == _head(b):
            return _differing(a.body, b.body, (*around, a))
        if isinstance(a, If) and isinstance(b, If) and a.cond == b.cond:
            if a.orelse is b.orelse:
                return _differing(a.then, b.then, around)
            if a.then is b.then:
                return _differing(a.orelse, b.orelse, around)
    return old, new, around


def _head(s: Loop) -> tuple[object, ...]:
    return s.var, s.lo, s.hi, s.step, s.mark


def _slices(funcs: tuple[Func, ...], whole: frozenset[int]) -> list[Func]:
    """The functions without what makes no difference to the statements in `whole` (ids)."""
    needed: set[str] = set()
    while True:
        bodies = [_kept(f.body, whole, needed) for f in funcs]
        read = set().union(*[_read(body, whole) for body in bodies])
        if read <= needed:
            break
        needed |= read
    out = []
    for func, body in zip(funcs, bodies):
        used = set().union(*[_about(s).used for s in body])
        out.append(replace(func, body=_without_locals(body, whole, used)))
    return out


@dataclass(frozen=True, slots=True)
class _About:
    """What is in a statement: buffers that are `written`, that are `read`, from which numbers, conditions
    and subscripts come (`decide`); whether it `leaves` a loop or the function; the `ids` of statements."""

    written: frozenset[str]
    decide: frozenset[str]
    read: frozenset[str]
    leaves: bool
    ids: frozenset[int]

    @property
    def used(self) -> frozenset[str]:
        return self.written | self.read


KEPT = 1 << 14
_known: dict[int, tuple[Stmt, _About]] = {}


def _about(s: Stmt) -> _About:
    """What there is in a statement. Steps share most statements, so that this is remembered for some time."""
    found = _known.get(id(s))
    if found is not None and found[0] is s:
        return found[1]
    inner = [_about(x) for body in stmt_bodies(s) for x in body]
    own = [x for e in stmt_exprs(s) for x in subexprs(e) if isinstance(x, Load)]
    written = _written(s) if isinstance(s, (Store, Accumulate, Atomic)) else NOTHING
    about = _About(
        written.union(*[x.written for x in inner]),
        frozenset([n for e in stmt_exprs(s) for n in _deciding(e)]).union(*[x.decide for x in inner]),
        frozenset([x.buffer for x in own]).union(*[x.read for x in inner]),
        isinstance(s, (Break, Continue, Return, While)) or any(x.leaves for x in inner),
        frozenset((s.id,)).union(*[x.ids for x in inner]),
    )
    if len(_known) >= KEPT:
        _known.clear()
    _known[id(s)] = s, about
    return about


def _kept(body: Body, whole: frozenset[int], needed: set[str]) -> Body:
    """The statements of a body that stay, and all locals of these."""
    out: list[Stmt] = []
    for s in body:
        if s.id in whole or isinstance(s, Alloc):
            out.append(s)
            continue
        about = _about(s)
        if not about.leaves and whole.isdisjoint(about.ids) and about.written.isdisjoint(needed):
            continue
        match s:
            case Loop() | While():
                out.append(replace(s, body=_kept(s.body, whole, needed)))
            case If():
                then, orelse = _kept(s.then, whole, needed), _kept(s.orelse, whole, needed)
                out.append(replace(s, then=then, orelse=orelse))
            case _:
                out.append(s)
    return tuple(out)


def _read(body: Body, whole: frozenset[int]) -> set[str]:
    """The buffers that whole numbers, conditions and the stores outside of `whole` read."""
    out: set[str] = set()
    for s in body:
        if s.id in whole:
            out |= _about(s).decide
            continue
        out |= {x.buffer for e in stmt_exprs(s) for x in subexprs(e) if isinstance(x, Load)}
        for inner in stmt_bodies(s):
            out |= _read(inner, whole)
    return out


def _deciding(e: Expr) -> frozenset[str]:
    """The buffers that the parts of an expression load from which are no floats."""
    if not e.dtype.is_float:
        return frozenset([x.buffer for x in subexprs(e) if isinstance(x, Load)])
    return NOTHING.union(*map(_deciding, expr_children(e)))


def _written(s: Store | Accumulate | Atomic) -> frozenset[str]:
    return frozenset((s.buffer, s.old)) - {""} if isinstance(s, Atomic) else frozenset((s.buffer,))


def _without_locals(body: Body, whole: frozenset[int], used: set[str]) -> Body:
    """`body` without the locals, outside of `whole`, that nothing uses."""
    out: list[Stmt] = []
    for s in body:
        if s.id in whole:
            out.append(s)
            continue
        match s:
            case Alloc() if s.name not in used:
                pass
            case Loop() | While():
                out.append(replace(s, body=_without_locals(s.body, whole, used)))
            case If():
                then = _without_locals(s.then, whole, used)
                out.append(replace(s, then=then, orelse=_without_locals(s.orelse, whole, used)))
            case _:
                out.append(s)
    return tuple(out)
