"""Which assignments of a name share storage, whether every read has a value, and where storage lives.

Reaching definitions on the structured tree: all definitions that reach one read form a web, which
becomes one local scalar (or stays an argument or a loop variable).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kdsl.dtypes import DType
from kdsl.errors import CompileError
from kdsl.frontend_ast import core, facts
from kdsl.source import Loc


@dataclass(eq=False, repr=False)
class Definition:
    """One place that gives a variable a value; `stmt` None: entry of the kernel (an argument, or nothing)."""

    var: core.Variable
    stmt: core.Assign | core.Atomic | core.For | None
    parent: Definition | None = None
    web: Web | None = None

    @property
    def unset(self) -> bool:
        return self.stmt is None and self.var.param is None


@dataclass(eq=False, repr=False)
class Web:
    """One storage place. `param`: an argument that is never assigned. `home`: where it is allocated."""

    var: core.Variable
    definitions: list[Definition] = field(default_factory=list)
    declared: DType | None = None
    param: core.Param | None = None
    home: core.Body | None = None
    before: core.Stmt | None = None


State = dict[core.Variable, frozenset[Definition]]


@dataclass(eq=False, repr=False)
class Webs:
    """The result: the web of each assigning statement and of each read, by `id`.

    `kept` holds statements and reads that were made later, so that their ids stay theirs.
    """

    of_stmt: dict[int, Web]
    of_ref: dict[int, Web]
    all: list[Web]
    kept: list[core.Assign | core.Ref] = field(default_factory=list)


def find_webs(body: core.Body) -> Webs:
    """Raises CompileError for reads that may come before any assignment."""
    return _Finder().run(body)


class _Finder:
    def __init__(self) -> None:
        self.definitions: dict[int, Definition] = {}
        self.initial: dict[core.Variable, Definition] = {}
        self.reads: dict[int, Definition] = {}
        self.uses: list[core.Ref] = []
        self.jumps: list[_Jumps] = []
        self.exits: dict[int, list[State]] = {}
        self.ref_cache: dict[int, list[core.Ref]] = {}

    def run(self, body: core.Body) -> Webs:
        self.flow(body, {})
        webs: dict[int, Web] = {}
        all_webs: list[Web] = []
        for d in [*self.definitions.values(), *self.initial.values()]:
            root = _find(d)
            web = webs.get(id(root))
            if web is None:
                web = webs[id(root)] = Web(root.var)
                all_webs.append(web)
            web.definitions.append(d)
            d.web = web
            if isinstance(d.stmt, core.Assign) and d.stmt.declared is not None:
                _declare(web, d.stmt)
        for web in all_webs:
            entry = [d for d in web.definitions if d.stmt is None and d.var.param is not None]
            if entry and len(web.definitions) == 1:
                web.param = web.var.param
        of_ref = {n: webs[id(_find(d))] for n, d in self.reads.items()}
        of_stmt = {n: webs[id(_find(d))] for n, d in self.definitions.items()}
        return Webs(of_stmt, of_ref, all_webs)

    # ---- state

    def reaching(self, state: State, var: core.Variable) -> frozenset[Definition]:
        found = state.get(var)
        if found is None:
            entry = self.initial.get(var)
            if entry is None:
                entry = self.initial[var] = Definition(var, None)
            found = frozenset((entry,))
        return found

    def define(
        self, state: State, var: core.Variable, stmt: core.Assign | core.Atomic | core.For
    ) -> Definition:
        d = self.definitions.get(id(stmt))
        if d is None:
            d = self.definitions[id(stmt)] = Definition(var, stmt)
        state[var] = frozenset((d,))
        return d

    def merge(self, states: list[State | None]) -> State | None:
        alive = [s for s in states if s is not None]
        if len(alive) < 2:
            return dict(alive[0]) if alive else None
        names = dict.fromkeys(v for s in alive for v in s)
        return {v: frozenset().union(*[self.reaching(s, v) for s in alive]) for v in names}

    def read(self, stmt: core.Stmt, state: State) -> None:
        found = self.ref_cache.get(id(stmt))
        if found is None:
            found = []
            for e in facts.stmt_exprs(stmt):
                facts.refs(e, found)
            self.ref_cache[id(stmt)] = found
        for ref in found:
            self.use(ref, state)

    def use(self, ref: core.Ref, state: State) -> None:
        reaching = self.reaching(state, ref.var)
        first: Definition | None = None
        ordered = sorted(reaching, key=_order)
        for d in ordered:
            if isinstance(d.stmt, core.For):
                _refuse_after_loop(ref, d.stmt)
        for d in ordered:
            if d.unset and ref.var.checked:
                _refuse_unset(ref, reaching)
            if first is None:
                first = d
            else:
                _union(first, d)
        assert first is not None
        self.reads[id(ref)] = first

    # ---- control flow

    def flow(self, body: core.Body, state: State | None) -> State | None:
        for at, s in enumerate(body):
            if state is None:
                # Never reached, whatever the state: nothing there has a meaning.
                del body[at:]
                break
            state = self.step(s, state)
        return state

    def step(self, s: core.Stmt, state: State) -> State | None:
        self.read(s, state)
        match s:
            case core.Assign():
                state = dict(state)
                self.define(state, s.var, s)
                return state
            case core.Atomic():
                if s.old is not None:
                    state = dict(state)
                    self.define(state, s.old, s)
                return state
            case core.If():
                return self.merge([self.flow(s.then, dict(state)), self.flow(s.orelse, dict(state))])
            case core.For() | core.While():
                return self.loop(s, state)
            case core.Break():
                self.jumps[-1].breaks.append(state)
                return None
            case core.Continue():
                self.jumps[-1].continues.append(state)
                return None
            case core.Return():
                return None
            case core.Block():
                self.exits[id(s)] = []
                end = self.flow(s.body, state)
                return self.merge([end, *self.exits.pop(id(s))])
            case core.Exit():
                self.exits[id(s.block)].append(state)
                return None
            case _:
                return state

    def loop(self, s: core.For | core.While, state: State) -> State | None:
        endless = isinstance(s, core.While) and isinstance(s.cond, core.Num) and bool(s.cond.value)
        start = state
        while True:
            jumps = _Jumps()
            self.jumps.append(jumps)
            saved = {k: list(v) for k, v in self.exits.items()}
            inner = dict(start)
            if isinstance(s, core.For) and s.loop.variable is not None:
                self.define(inner, s.loop.variable, s)
            end = self.flow(s.body, inner)
            self.jumps.pop()
            again = self.merge([start, end, *jumps.continues])
            assert again is not None
            if again == {v: self.reaching(start, v) for v in again}:
                break
            start = again
            self.exits.update(saved)
            if isinstance(s, core.While):
                self.read(s, start)
        normal = None if endless else start
        return self.merge([normal, *jumps.breaks])


class _Jumps:
    """States at the `break`s and `continue`s of one loop."""

    def __init__(self) -> None:
        self.breaks: list[State | None] = []
        self.continues: list[State | None] = []


def _order(d: Definition) -> tuple[int, int]:
    loc = d.stmt.loc if d.stmt is not None else None
    return (loc.line, loc.col) if loc is not None else (0, 0)


def _find(d: Definition) -> Definition:
    while d.parent is not None:
        if d.parent.parent is not None:
            d.parent = d.parent.parent
        d = d.parent
    return d


def _union(a: Definition, b: Definition) -> None:
    ra, rb = _find(a), _find(b)
    if ra is not rb:
        rb.parent = ra


def _declare(web: Web, stmt: core.Assign) -> None:
    if web.declared is not None and web.declared != stmt.declared:
        raise CompileError(
            "K0250",
            f"`{web.var.name}` is annotated as {web.declared} and as {stmt.declared}",
            loc=stmt.loc,
            help="use one type, or two names",
        )
    web.declared = stmt.declared


def _refuse_after_loop(ref: core.Ref, loop: core.For) -> None:
    notes: list[str | tuple[Loc, str]] = [(loop.loc, "the loop")] if loop.loc is not None else []
    raise CompileError(
        "K0203",
        f"loop variable `{ref.var.name}` is read after its loop",
        loc=ref.loc,
        label="it has no value if the loop did not run",
        notes=notes,
        help="keep the value in another variable, set before the loop",
    )


def _refuse_unset(ref: core.Ref, reaching: frozenset[Definition]) -> None:
    name = ref.var.name
    set_at = [
        d.stmt.loc for d in sorted(reaching, key=_order) if d.stmt is not None and d.stmt.loc is not None
    ]
    if set_at:
        raise CompileError(
            "K0203",
            f"`{name}` may be read before it is set",
            loc=ref.loc,
            label="not set on every path to here",
            notes=[(set_at[0], "set here")],
            help=f"give `{name}` a value on every path, for instance before the branch or loop",
        )
    raise CompileError(
        "K0202",
        f"`{name}` is used before it has a value",
        loc=ref.loc,
        help=f"assign `{name}` before this line",
    )


# ------------------------------------------------------------------- storage


def place(body: core.Body, webs: Webs) -> None:
    """Sets `home` and `before` of each web: the innermost body that holds all of its reads and assignments,
    and its first statement there."""
    paths: dict[int, list[tuple[core.Body, core.Stmt]]] = {}
    by_id = {id(w): w for w in webs.all}

    def touch(web: Web | None, path: list[tuple[core.Body, core.Stmt]]) -> None:
        if web is None:
            return
        known = paths.get(id(web))
        if known is None:
            paths[id(web)] = list(path)
            return
        keep = 0
        while keep < min(len(known), len(path)) and known[keep][0] is path[keep][0]:
            keep += 1
            if known[keep - 1][1] is not path[keep - 1][1]:
                break
        del known[keep:]

    def visit(inner: core.Body, path: list[tuple[core.Body, core.Stmt]]) -> None:
        for s in inner:
            here = [*path, (inner, s)]
            found: list[core.Ref] = []
            for e in facts.stmt_exprs(s):
                facts.refs(e, found)
            for ref in found:
                touch(webs.of_ref.get(id(ref)), here)
            if isinstance(s, (core.Assign, core.Atomic)):
                touch(webs.of_stmt.get(id(s)), here)
            match s:
                case core.For() | core.While() | core.Block():
                    visit(s.body, here)
                case core.If():
                    visit(s.then, here)
                    visit(s.orelse, here)
                case _:
                    pass

    visit(body, [])
    for web_id, path in paths.items():
        web = by_id[web_id]
        if any(d.stmt is None and d.var.param is not None for d in web.definitions):
            web.home, web.before = body, body[0]
        else:
            web.home, web.before = path[-1]
