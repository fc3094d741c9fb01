"""What a read of a local becomes when the local is inlined.

A store `P[f(v)] = value` in loops over v gives a read `P[e]` the value at the v for which f(v) = e:

    for n in range(N):
        P[2 * n + 1] = X[n] * 3         P[2 * i + 1]   ->   X[i] * 3

Where several stores may have written the element, each but the last to be asked comes with the condition that
its loops and ifs reach it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial, reduce
from itertools import islice

from kdsl.analysis.affine import Form
from kdsl.analysis.linear import difference
from kdsl.analysis.regions import Atoms
from kdsl.analysis.verdict import Verdict
from kdsl.errors import ScheduleError
from kdsl.ir.nodes import (
    Accumulate,
    Alloc,
    Body,
    Compare,
    Const,
    Expr,
    Func,
    If,
    Let,
    Load,
    Logic,
    Loop,
    Select,
    Stmt,
    Store,
    Unary,
    Var,
)
from kdsl.ir.verify import MAX_DEPTH
from kdsl.ir.walk import expr_children, map_expr_children, map_stmt, stmt_exprs, stmts, subexprs, substitute
from kdsl.passes.simplify import simplify_expr
from kdsl.sched import legality
from kdsl.sched.edit import Edit
from kdsl.sched.rewriting.arith import binary, buffers_in, const, from_linear, sub, tidied, var
from kdsl.sched.rewriting.names import shown
from kdsl.sched.rewriting.producing import Production, made, reads, rest
from kdsl.sched.rewriting.tree import bound, replaced, written

TERMS = 5_000
"""Expressions do not grow beyond so many operations."""


@dataclass(frozen=True, slots=True)
class Source:
    """A store to the local, its loops, and the conditions to reach it, outermost first.

    `solution` gives each loop variable over the names `$0`, `$1` ... of the subscripts. The conditions are
    over loop variables and these names.
    """

    store: Store
    loops: tuple[Loop, ...]
    conditions: tuple[Expr, ...]
    solution: dict[str, Expr]

    def value(self, index: tuple[Expr, ...]) -> Expr:
        """What is stored in the element `index`."""
        return self._at(self.store.value, index)

    def tests(self, index: tuple[Expr, ...]) -> list[Expr]:
        """The conditions under which the element `index` is stored to."""
        return [self._at(c, index) for c in self.conditions]

    def _at(self, e: Expr, index: tuple[Expr, ...]) -> Expr:
        given = {f"${n}": x for n, x in enumerate(index)}
        values = {v: tidied(simplify_expr(substitute(x, given))) for v, x in self.solution.items()}
        return tidied(simplify_expr(substitute(e, {**values, **given})))


def inlined(edit: Edit, production: Production) -> Edit:
    """The function without the local."""
    name, alloc = production.alloc.name, production.alloc
    if not production.readers:
        raise edit.refused(
            "K0338",
            f"cannot inline `{name}`: nothing reads it",
            loc=alloc.loc,
            help=f"leave `{name}` out of the kernel",
        )
    last = max(production.makers, default=-1)
    early = [
        s
        for n in production.readers
        if n <= last
        for s in stmts((production.body[n],))
        if reads(s, name) and name not in written((s,))
    ]
    if early:
        read = early[0]
        raise edit.refused(
            "K0338",
            f"cannot inline `{name}`: it is read before all of it is made",
            loc=read.loc,
            label="read here",
            notes=[(s.loc, f"writes `{name}`") for s in (production.body[last],) if s.loc],
            help="cut the loop between producing and reading it first, s.fission(...)",
        )
    found = sources(edit, production)
    group = frozenset(s.store.id for s in found)
    chains: Mapping[int, Sequence[Sequence[int]]] = {}
    if not edit.unsafe:
        verdict, chains = _inline_verdict(edit, production, group)
        if verdict is not None:
            raise legality.recompute_refusal(edit, name, verdict, None, f"cannot inline `{name}`")
    for source in found:
        if reads(source.store, name):
            raise several_steps(edit, name, source.store)
    every = [s.store.id for s in reversed(found)]
    by_id = {s.store.id: s for s in found}
    fresh = Renaming(edit.func)

    def on_stmt(s: Stmt) -> Stmt:
        known = iter(chains.get(s.id, ()))

        def on_expr(e: Expr) -> Expr:
            e = map_expr_children(e, on_expr)
            if not (isinstance(e, Load) and e.buffer == name):
                return e
            return fresh(chosen([by_id[n] for n in next(known, ()) or every], e.index))

        return map_stmt(s, on_expr, on_body) if any(reads(x, name) for x in stmts((s,))) else s

    def on_body(body: Body) -> Body:
        return tuple([on_stmt(s) for s in body])

    new: dict[int, Body] = {alloc.id: ()}
    for n in production.makers:
        new[production.body[n].id] = rest(production.body[n], name)
    for n in production.readers:
        new[production.body[n].id] = (on_stmt(production.body[n]),)
    after = replaced(edit.func, new)
    _check_size(edit, name, after)
    return edit.keeps_order(after)


def _inline_verdict(
    edit: Edit, production: Production, group: frozenset[int]
) -> tuple[Verdict, Mapping[int, Sequence[Sequence[int]]]]:
    from kdsl.analysis import dependence

    asked = dependence.Production(
        production.alloc, production.depth, production.positions(), group, production.private
    )
    pairs = frozenset(
        pair for n in production.makers for pair in exclusive((production.body[n],), production.alloc.name)
    )
    return dependence.check_inline(edit.func, asked, pairs)


def _check_size(edit: Edit, name: str, after: Func) -> None:
    """Refuses expressions that would grow beyond what can be compiled."""
    for s in stmts(after.body):
        for e in stmt_exprs(s):
            if sum(1 for _ in islice(subexprs(e), TERMS + 1)) > TERMS or depth(e) > MAX_DEPTH - 20:
                raise edit.refused(
                    "K0307",
                    f"inlining `{name}` would make an expression of more than {TERMS} operations",
                    loc=s.loc,
                    help=f'keep `{name}`, near its readers: s.compute_at("{name}", ...)',
                )


def sources(edit: Edit, production: Production) -> list[Source]:
    """The stores in program order; refused where the local is made in another way."""
    found: list[Source] = []
    for n in production.makers:
        maker = made(production.body[n], production.alloc.name)
        for s, loops, conditions in _writes(maker, production.alloc.name, (), ()):
            found.append(_source(edit, production, maker, s, loops, conditions))
    return found


def _writes(
    body: Body, name: str, loops: tuple[Loop, ...], conditions: tuple[Expr, ...]
) -> Iterator[tuple[Stmt, tuple[Loop, ...], tuple[Expr, ...]]]:
    """The statements that write the local with their loops and conditions; `while`s are refused elsewhere."""
    for s in body:
        match s:
            case Store() | Accumulate() if s.buffer == name:
                yield s, loops, conditions
            case Loop():
                yield from _writes(s.body, name, (*loops, s), (*conditions, *_reached(s)))
            case If():
                yield from _writes(s.then, name, loops, (*conditions, s.cond))
                yield from _writes(s.orelse, name, loops, (*conditions, Unary("not", s.cond)))
            case _:
                pass


def _reached(loop: Loop) -> list[Expr]:
    """The conditions under which the loop's variable takes a value."""
    v, step = var(loop.var), _step(loop)
    found: list[Expr] = [Compare("<=", loop.lo, v), Compare("<", v, loop.hi)]
    if step < 0:
        found = [Compare("<", loop.hi, v), Compare("<=", v, loop.lo)]
    if abs(step) > 1:
        found.append(Compare("==", binary("%", sub(v, loop.lo), const(abs(step))), const(0)))
    return found


def _step(loop: Loop) -> int:
    """The step of a loop, 0 where it is not a constant."""
    return int(loop.step.value) if isinstance(loop.step, Const) else 0


def _source(
    edit: Edit,
    production: Production,
    maker: Body,
    s: Stmt,
    loops: tuple[Loop, ...],
    conditions: tuple[Expr, ...],
) -> Source:
    name = production.alloc.name
    if not isinstance(s, Store):
        raise several_steps(edit, name, s)
    own = {x.name for x in stmts(maker) if isinstance(x, Alloc)}
    used = buffers_in((s.value, *conditions, *s.index)) & own
    if used:
        local = sorted(used)[0]
        raise edit.refused(
            "K0339",
            f"cannot inline `{name}`: its value goes through the local `{local}`",
            loc=s.loc,
            label=f"reads `{local}`",
            help=f'inline that first: s.inline("{local}"), or use s.compute_at("{name}", ...)',
        )
    for loop in loops:
        if not _step(loop):
            edit.need_known_step(loop)
    solution = _solved(s, [loop.var for loop in loops])
    if solution is None:
        raise edit.refused(
            "K0310",
            f"cannot prove `inline` of `{name}`: which iteration writes an element is not known",
            loc=s.loc,
            label=f"`{shown(s)}`",
            help=f'inline before splitting its loops, or use s.compute_at("{name}", ...)',
        )
    return Source(s, loops, (*_met(s, solution), *conditions), solution)


def several_steps(edit: Edit, name: str, s: Stmt) -> ScheduleError:
    """The refusal of a local with a statement that changes elements."""
    return edit.refused(
        "K0339",
        f"cannot inline `{name}`: its elements are made in several steps",
        loc=s.loc,
        label="changes what is there already",
        help=f'compute it where it is read: s.compute_at("{name}", ...)',
    )


def _solved(s: Store, variables: list[str]) -> dict[str, Expr] | None:
    """Each variable, from subscripts in which it is the only one left; None when some are not determined."""
    atoms = Atoms()
    found: dict[str, Expr] = {}
    forms = [atoms.form(e, None) for e in s.index]
    left = list(variables)
    while left:
        for n, form in enumerate(forms):
            if form is None:
                continue
            unknown = [v for v in left if v in atoms.names(form)]
            factor = form.coefficient(unknown[0]) if len(unknown) == 1 else None
            if factor is None or not factor.is_const or not factor.terms:
                continue
            v, a = unknown[0], factor.const
            rest = form - Form({(v,): a})
            if v in atoms.names(rest):
                continue
            known = substitute(substitute(from_linear(rest), dict(atoms.exprs)), found)
            gap = binary("-", var(f"${n}"), known)
            gap = gap if a > 0 else binary("-", const(0), gap)
            found[v] = gap if abs(a) == 1 else binary("//", gap, const(abs(a)))
            left.remove(v)
            break
        else:
            return None
    return found


def _met(s: Store, solution: dict[str, Expr]) -> list[Expr]:
    """The subscripts that the solution need not meet, as conditions: constants, and what was divided."""
    found: list[Expr] = []
    for n, e in enumerate(s.index):
        wanted = var(f"${n}")
        if difference(substitute(e, solution), wanted) != 0:
            found.append(Compare("==", e, wanted))
    return found


def chosen(chain: Sequence[Source], index: tuple[Expr, ...]) -> Expr:
    """The value of the first of `chain` that stores to `index`; one of them does.

    Conditions that they have in common hold, and the last one is not asked.
    """
    tests = [source.tests(index) for source in chain]
    common = [c for c in tests[0] if all(c in other for other in tests)]
    out = chain[-1].value(index)
    for source, own in reversed(list(zip(chain[:-1], tests))):
        left = [c for c in own if c not in common]
        value = source.value(index)
        if not left:
            out = value
        elif len(left) == 1 and isinstance(left[0], Unary):
            out = simplify_expr(Select(left[0].x, out, value))
        else:
            out = simplify_expr(Select(reduce(partial(Logic, "and"), left), value, out))
    return out


@dataclass(slots=True)
class Renaming:
    """Gives the `Let`s of an expression names that `func` does not have."""

    func: Func
    count: int = 0
    taken: set[str] = field(init=False)

    def __post_init__(self) -> None:
        self.taken = bound(self.func.body) | {p.name for p in self.func.params} | set(self.func.sizes)

    def __call__(self, e: Expr) -> Expr:
        e = map_expr_children(e, self)
        if not isinstance(e, Let):
            return e
        while f"{e.name}_{self.count}" in self.taken:
            self.count += 1
        name = f"{e.name}_{self.count}"
        self.taken.add(name)
        return Let(name, e.value, substitute(e.body, {e.name: Var(name, e.value.dtype)}), loc=e.loc)


def depth(e: Expr) -> int:
    """The levels of an expression."""
    return 1 + max([depth(c) for c in expr_children(e)], default=0)


def exclusive(maker: Body, name: str) -> frozenset[tuple[int, int]]:
    """Pairs of stores (by id) to one element in the two branches of one `if`."""
    found: set[tuple[int, int]] = set()
    for s in stmts(maker):
        if isinstance(s, If):
            for a in _plain(s.then, name):
                for b in _plain(s.orelse, name):
                    if a.index == b.index:
                        found.add((a.id, b.id))
    return frozenset(found)


def _plain(body: Body, name: str) -> list[Store]:
    """The stores of a branch outside of further loops."""
    out: list[Store] = []
    for s in body:
        if isinstance(s, Store) and s.buffer == name:
            out.append(s)
        elif isinstance(s, If):
            out += _plain(s.then, name) + _plain(s.orelse, name)
    return out
