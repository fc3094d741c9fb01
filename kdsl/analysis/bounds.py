"""Which accesses stay in bounds, under which condition on sizes, and which must be tested when they run.

For each dimension of each access, cheapest first:

1. the fast prover (`ranges`);
2. corners: in a rectangular nest an affine index is extreme at a corner, which gives the exact condition;
3. isl: the set of points out of bounds is empty, or, for an access that certainly runs, its projection
   onto the sizes is the exact condition;
4. a test in place.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from kdsl.analysis.accesses import Access, Accesses, Iteration, collect
from kdsl.analysis.affine import (
    Form,
    Formula,
    affine_throughout,
    all_of,
    any_of,
    at_least,
    conjuncts,
    formula_names,
    negate,
    symbol,
)
from kdsl.analysis.conditions import PRODUCT_LIMIT, from_set, text, to_expr
from kdsl.analysis.polyhedra import Polyhedra, is_param
from kdsl.analysis.ranges import Facts, may_hold, prove
from kdsl.analysis.values import ASSUMED, Assumption, Values
from kdsl.dtypes import DType, i32, i64
from kdsl.ir.nodes import Binary, Compare, Condition, Const, Expr, Func, Load, Logic, ScalarParam, Var
from kdsl.ir.printer import print_expr
from kdsl.ir.walk import subexprs
from kdsl.source import Loc

TERMS = 24
"""A condition with more comparisons than this is not worth a call's time: test in place."""


@dataclass(frozen=True, slots=True)
class Verdicts:
    """`checked` maps `id` of an access's node to the dimensions to be tested in place (absent: none).

    `conditions` go to the call; they are exact: each fails just when some access would leave its array.
    `positive` are the ids of divisions (`//` and `%` on i64) whose divisor is proved to be > 0, of sums that
    are proved not to wrap.
    """

    checked: dict[int, tuple[int, ...]]
    conditions: tuple[Condition, ...]
    positive: frozenset[int] = frozenset()


def verdicts(func: Func) -> Verdicts:
    """Decides every access of `func`."""
    work = _Bounds(func, collect(func))
    proved = _without_assumptions(func, work)
    for number, access in enumerate((*work.all.accesses, *work.all.tests)):
        work.decide(access, proved.get(number, ()))
    return Verdicts(
        {key: tuple(sorted(dims)) for key, dims in work.checked.items()},
        (*work.assumed.values(), *work.conditions.values()),
        work.positive(),
    )


def _without_assumptions(func: Func, work: _Bounds) -> dict[int, tuple[int, ...]]:
    """The dimensions of each access that are in bounds though arithmetic on scalar arguments may wrap.

    So that no call is refused for a scalar that merely stands on the way to an access.
    """
    if not any(s.assumes for s in work.values.symbols.values()):
        return {}
    free = _Bounds(func, collect(func, assuming=False))
    return {
        number: free.proved(access) for number, access in enumerate((*free.all.accesses, *free.all.tests))
    }


@dataclass(frozen=True, slots=True)
class Decision:
    """`safe`: in bounds, provided that `condition` (if any) holds, which reads as `text`."""

    safe: bool
    condition: Expr | None = None
    text: str = ""


SAFE = Decision(True)
IN_PLACE = Decision(False)


@dataclass(slots=True)
class _Bounds:
    func: Func
    all: Accesses
    checked: dict[int, set[int]] = field(default_factory=dict)
    conditions: dict[Expr, Condition] = field(default_factory=dict)
    assumed: dict[Assumption, Condition] = field(default_factory=dict)
    dtypes: dict[str, DType] = field(default_factory=dict)
    polyhedra: Polyhedra | None = None
    _facts: dict[tuple[Formula, ...], Facts] = field(default_factory=dict)
    _memo: dict[tuple[object, ...], Decision] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.dtypes = dict.fromkeys(self.func.sizes, i64)
        self.dtypes |= {p.name: p.dtype for p in self.func.params if isinstance(p, ScalarParam)}

    @property
    def values(self) -> Values:
        return self.all.values

    def proved(self, access: Access) -> tuple[int, ...]:
        """The dimensions of `access` that are in bounds at every call."""
        uncertain = replace(access, certain=False)
        dims = enumerate(zip(access.index, access.extent))
        return tuple([dim for dim, (i, extent) in dims if self.remembered(uncertain, i, extent) == SAFE])

    def decide(self, access: Access, proved: tuple[int, ...]) -> None:
        for dim, (index, extent) in enumerate(zip(access.index, access.extent)):
            if dim in proved:
                self.demand_extent(access, dim)
                continue
            decision = self.remembered(access, index, extent)
            if decision.safe:
                self.demand(access, dim, decision)
                self.assume(access, index)
            elif not (self.func.options.unchecked and self.depends_on_data(access, index)):
                self.checked.setdefault(id(access.test or access.site), set()).add(dim)

    def remembered(self, access: Access, index: Form, extent: Form) -> Decision:
        key = index, extent, access.context, access.certain
        if key not in self._memo:
            self._memo[key] = self.verdict(access, index, extent)
        return self._memo[key]

    def verdict(self, access: Access, index: Form, extent: Form) -> Decision:
        facts = self.facts(access.context)
        goals = [g for g in (index, extent - 1 - index) if not prove(g, facts)]
        if not goals:
            return SAFE
        exact = access.certain and not self.any_opaque(access, index, extent)
        if exact:
            condition = self.corners(access, goals, facts)
            if condition is not None:
                return self.conditional(
                    to_expr(condition, self.dtypes), to_expr(condition, self.dtypes, False)
                )
        if not (index.is_affine and extent.is_affine) or not all(may_hold(g, facts) for g in goals):
            return IN_PLACE
        return self.by_isl(access, index, goals, exact and self.all_affine(access, index, extent))

    def positive(self) -> frozenset[int]:
        """The ids of divisions, at all their places of a sum that does not wrap by a divisor > 0."""
        positive: set[int] = set()
        others: set[int] = set()
        for d in self.all.divisors:
            used = self.values.closure(d.form.names().union(*map(formula_names, d.context)))
            assuming = any(self.values.symbols[n].assumes for n in used)
            proved = d.plain and not assuming and prove(d.form - 1, self.facts(d.context))
            (positive if proved else others).add(id(d.division))
        return frozenset(positive - others)

    # ------------------------------------------------------------------- contexts

    def facts(self, context: tuple[Formula, ...]) -> Facts:
        """The facts of a context, built upon those of the context around it."""
        found = self._facts.get(context)
        if found is None:
            if context:
                found = self.facts(context[:-1]).extend(conjuncts(context[-1]))
            else:
                found = Facts(self.values)
            self._facts[context] = found
        return found

    def any_opaque(self, access: Access, *forms: Form) -> bool:
        names = set().union(*[formula_names(f) for f in access.context], *[f.names() for f in forms])
        return any(self.values.symbols[n].kind == "opaque" for n in self.values.closure(names))

    def all_affine(self, access: Access, *forms: Form) -> bool:
        """True when isl sees all that leads to `access`."""
        names = set().union(*[formula_names(f) for f in access.context], *[f.names() for f in forms])
        used = [self.values.symbols[n].definition for n in self.values.closure(names)]
        return all(affine_throughout(f) for f in (*access.context, *used))

    def depends_on_data(self, access: Access, index: Form) -> bool:
        """True when data, not control alone, decides the index."""
        names = self.values.closure(index.names())
        for loop in reversed(access.loops):
            if loop.name in names:
                names |= self.values.closure(formula_names(loop.points))
        return any(self.values.symbols[n].kind == "opaque" for n in names)

    def assume(self, access: Access, index: Form) -> None:
        """Scalars that the proof took to be small are checked at the call.

        A loop over a bare scalar that the index does not depend on (`for t in range(T)`) relies on nothing.
        """
        ranges = {loop.points for loop in access.loops if self.assumes_only_bounds(loop.points)}
        names = index.names().union(*[formula_names(f) for f in access.context if f not in ranges])
        relied = self.values.closure(names)
        for loop in reversed(access.loops):
            inside = self.values.closure(formula_names(loop.points))
            if loop.points in ranges and inside & relied:
                relied |= inside
        for n in relied:
            for assumption in self.values.symbols[n].assumes:
                self.demand_assumed(assumption, access.site.loc)

    def assumes_only_bounds(self, points: Formula) -> bool:
        """True when a loop's range assumes something only about scalars that are its bounds as they are."""
        used = [self.values.symbols[n] for n in self.values.closure(formula_names(points))]
        return all(not s.assumes or (s.cases[0][1] == s.assumes[0].form and s.lo < i32.min) for s in used)

    def demand_assumed(self, assumption: Assumption, loc: Loc | None) -> None:
        if assumption in self.assumed:
            return
        form, lo, hi = assumption.form, assumption.lo, assumption.hi
        if assumption.dtype.bits < 64:
            expr = to_expr(all_of(at_least(form - lo), at_least(-form + hi)), self.dtypes)
            title = f"`{form}` does not fit {assumption.dtype}"
        else:
            (name,) = form.names()
            me = Var(name, assumption.dtype)
            expr = Compare("<=", me, Const(hi, me.type))
            if lo < 0:
                expr = Logic("and", Compare("<=", Const(lo, me.type), me), expr)
            title = f"`{name}` is too large for index arithmetic"
        self.assumed[assumption] = Condition(expr, title, loc=loc)

    def demand(self, access: Access, dim: int, decision: Decision) -> None:
        """Adds the conditions on which a decision rests."""
        self.demand_extent(access, dim)
        expr = decision.condition
        if expr is None:
            return
        for scalar in scalars_in_sums(expr):
            dtype = self.dtypes[scalar]
            if dtype.bits == 64 and scalar not in self.func.sizes:
                small = Assumption(symbol(scalar), dtype, max(dtype.min, -ASSUMED), ASSUMED)
                self.demand_assumed(small, access.site.loc)
        if expr in self.conditions:
            return
        array, extent = access.site.buffer, access.extent[dim]
        where = f"dimension {dim} of `{array}`" if len(access.extent) > 1 else f"`{array}`"
        if access.test is not None:
            where = f"dimension {print_expr(access.test.args[2], True)} of `{array}`"
        title = f"{described(access)} leaves {where} (extent {extent}) unless {decision.text}"
        if isinstance(expr, Const):
            title = f"{described(access)} is always outside {where} (extent {extent})"
        self.conditions[expr] = Condition(expr, title, loc=access.site.loc)

    def demand_extent(self, access: Access, dim: int) -> None:
        """A local array's extent was computed without wrapping."""
        extent, name = access.extent[dim], access.site.buffer
        if not product_names(extent):
            return
        least = all_of(*[at_least(Form({m: -1, (): PRODUCT_LIMIT})) for m in extent.terms if len(m) > 1])
        expr = to_expr(least, self.dtypes)
        what = f"`{name}`" if access.test is not None else f"the local array `{name}`"
        if expr not in self.conditions:
            self.conditions[expr] = Condition(expr, f"{what} is too large", loc=access.site.loc)

    def conditional(self, expr: Expr, shown: Expr) -> Decision:
        return Decision(True, expr, text(shown)) if cannot_wrap(expr) else IN_PLACE

    # -------------------------------------------------------------------- corners

    def corners(self, access: Access, goals: list[Form], facts: Facts) -> Formula | None:
        """The exact condition for `goals` in a rectangular nest; None when the nest is not one."""
        guards: list[Formula] = []
        ranges: dict[str, tuple[Form, Form]] = {}
        empty: list[Formula] = []
        for loop in access.loops:
            ends = self.ends(loop)
            if ends is None:
                return None
            ranges[loop.name] = ends
            empty.append(at_least(ends[0] - 1 - ends[1]))
        known = set(self.all.assumptions)
        for formula in access.context:
            names = formula_names(formula)
            if formula in known or (names & ranges.keys() and self.is_range(access, formula)):
                continue
            if not all(is_param(self.values.symbols[n]) for n in names):
                return None
            guards.append(negate(formula))
        needed: list[Form] = []
        for goal in goals:
            least = self.least(goal, ranges, facts)
            if least is None or not all(self.values.symbols[n].lo >= 0 for n in product_names(least)):
                return None
            needed.append(least)
        if not all(affine_throughout(f) for f in (*guards, *empty)):
            return None
        return self.weakened(needed, [*guards, *empty])

    def is_range(self, access: Access, formula: Formula) -> bool:
        return any(formula == loop.points for loop in access.loops)

    def ends(self, loop: Iteration) -> tuple[Form, Form] | None:
        """First and last value of the variable, over parameters; None when they are not known so."""
        lo, hi = self.plain(loop.lo), self.plain(loop.hi)
        if lo is None or hi is None:
            return None
        if loop.step == 1:
            return lo, hi - 1
        if loop.step == -1:
            return hi + 1, lo
        return None

    def plain(self, form: Form) -> Form | None:
        """`form` over parameters only."""
        while True:
            others = [s for s in map(self.values.symbols.__getitem__, form.names()) if not is_param(s)]
            if not others:
                return form
            if others[0].kind != "derived" or len(others[0].cases) != 1:
                return None
            form = form.substitute(others[0].name, others[0].cases[0][1])

    def least(self, goal: Form, ranges: dict[str, tuple[Form, Form]], facts: Facts) -> Form | None:
        """The least value of `goal` over the box `ranges`, over parameters."""
        while True:
            names = [n for n in goal.names() if n in ranges]
            if not names:
                return self.plain(goal)
            name = names[0]
            factor = goal.coefficient(name)
            if factor is None:
                return None
            if prove(factor, facts):
                goal = goal.substitute(name, ranges[name][0])
            elif prove(-factor, facts):
                goal = goal.substitute(name, ranges[name][1])
            else:
                return None

    def weakened(self, needed: list[Form], excuses: list[Formula]) -> Formula:
        """`needed >= 0 or excuses`, without the excuses under which `needed >= 0` anyway."""
        base = self.facts(self.all.assumptions)
        kept = list(excuses)
        for excuse in excuses:
            others = [negate(e) for e in kept if e is not excuse]
            facts = base.extend([f for formula in (excuse, *others) for f in conjuncts(formula)])
            if all(prove(goal, facts) for goal in needed):
                kept.remove(excuse)
        return any_of(*kept, all_of(*map(at_least, needed)))

    # ------------------------------------------------------------------------ isl

    def by_isl(self, access: Access, index: Form, goals: list[Form], exact: bool) -> Decision:
        if self.polyhedra is None:
            self.polyhedra = Polyhedra(self.values)
        p = self.polyhedra
        evaluated = [at_least(f) for n in index.names() for f in self.values.symbols[n].facts]
        outside = any_of(*[negate(at_least(g)) for g in goals])

        def solve() -> Decision:
            violated = p.points([*access.context, *evaluated, outside])
            if violated.is_empty():
                return SAFE
            if not exact:
                return IN_PLACE
            sizes = [at_least(symbol(name)) for name in self.func.sizes]
            known = p.points([*self.all.assumptions, *sizes]).params()
            allowed = violated.params().complement().gist(known).coalesce()
            if sum(b.n_constraint() for b in allowed.get_basic_sets()) > TERMS:
                return IN_PLACE
            expr = from_set(p.isl.AstBuild.from_context(known).expr_from_set(allowed), self.dtypes)
            return self.conditional(expr, expr)

        return p.within_limit(solve) or IN_PLACE


def product_names(form: Form) -> set[str]:
    """The names that are multiplied with each other in `form`."""
    return {name for m in form.terms if len(m) > 1 for name in m}


def cannot_wrap(e: Expr) -> bool:
    """True when a condition's constants are so small that sums of sizes and assumed scalars fit 64 bits."""
    for x in subexprs(e):
        match x:
            case Binary(op="*", a=Const(value=value)) | Binary(op="*", b=Const(value=value)):
                if abs(value) > 1 << 10:
                    return False
            case Const(value=value):
                if abs(value) > ASSUMED:
                    return False
            case _:
                pass
    return True


def scalars_in_sums(e: Expr) -> set[str]:
    """The names that arithmetic is done with."""
    return {v.name for x in subexprs(e) if isinstance(x, Binary) for v in subexprs(x) if isinstance(v, Var)}


def described(access: Access) -> str:
    """The access as the user wrote it, or as the IR prints it."""
    site, loc = access.site, access.site.loc
    if access.test is not None:
        return "an index"
    source = loc.text() if loc is not None and loc.end_line == loc.line else ""
    written = source[loc.col : loc.end_col] if loc is not None and isinstance(site, Load) else ""
    return f"`{written or print_expr(Load(site.buffer, site.index, i64))}`"
