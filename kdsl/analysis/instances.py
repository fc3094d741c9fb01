"""Every statement instance of a function: when it runs, in which order, and which cells it uses.

A `Leaf` is a statement without a body. Its `dims` are the loops around it, its `place` is its time: numbers
that give the order within a body, and loops, alternating (a `2d+1` schedule).

Control is a matter of memory too. What a condition or a loop bound reads is read by each leaf below, at the
place of the condition. `break`, `continue`, `return` and a `while` test write virtual cells that the leaves
which they may skip read. Locals have the loops around their `Alloc` as hidden leading subscripts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from kdsl.analysis.accesses import breaks, iteration_of, written
from kdsl.analysis.affine import (
    Form,
    Formula,
    Group,
    all_of,
    any_of,
    at_least,
    constant,
    formula_names,
    symbol,
)
from kdsl.analysis.program import Buffer, Dim, Leaf, Mode, Place, Program, Scope, Use, fix, is_plain
from kdsl.analysis.state import Value
from kdsl.analysis.values import SIZE_MAX, Truth, Values, size_form
from kdsl.dtypes import bool_
from kdsl.ir.nodes import (
    Accumulate,
    Alloc,
    Assert,
    Atomic,
    Barrier,
    Body,
    Break,
    Condition,
    Continue,
    Expr,
    Func,
    If,
    Let,
    Load,
    Logic,
    Loop,
    Prefetch,
    Print,
    Return,
    ScalarParam,
    Select,
    Stmt,
    Store,
    While,
)
from kdsl.ir.walk import expr_children, stmt_bodies, stmt_exprs, stmts


def instances(func: Func, values: Values | None = None, assumed: tuple[Condition, ...] = ()) -> Program:
    """The instances of `func`, where its conditions and those of `assumed` hold.

    With the `values` of another program, parameters are shared with it.
    """
    if values is None:
        values = Values()
    walk = _Walk(func, Scope(values, tag=len(values.symbols)))
    walk.start((*func.conditions, *[c for c in assumed if c not in func.conditions]))
    walk.body(func.body)
    fix(values)
    return Program(func, values, tuple(walk.leaves), walk.loops, walk.state.unknowns, walk.state.tag)


@dataclass(slots=True)
class _Walk:
    func: Func
    state: Scope
    leaves: list[Leaf] = field(default_factory=list)
    loops: dict[int, tuple[Dim, ...]] = field(default_factory=dict)
    buffers: dict[str, Buffer] = field(default_factory=dict)
    # The context, restored on leaving a construct.
    context: tuple[Formula, ...] = ()
    dims: tuple[Dim, ...] = ()
    certain: bool = True
    prefix: Place = ()
    controls: tuple[Use, ...] = ()
    exits: tuple[Buffer, ...] = ()
    # Virtual cells that Break and Continue write.
    break_cell: Buffer | None = None
    continue_cell: Buffer | None = None
    # The next number in the body of the innermost loop.
    counter: int = 0
    reachable: bool = True
    # What was found out: of bodies, by their id, whether they return and what they write; of formulas, by
    # theirs, whether isl knows all symbols in them.
    returning: dict[int, bool] = field(default_factory=dict)
    writing: dict[int, list[str]] = field(default_factory=dict)
    plain: dict[int, tuple[Formula, bool]] = field(default_factory=dict)

    def start(self, assumed: tuple[Condition, ...]) -> None:
        func, state = self.func, self.state
        known = state.values.symbols
        for size in func.sizes:
            state.names[size] = symbol(size) if size in known else state.values.add(size, "size", 0, SIZE_MAX)
        for p in func.params:
            if isinstance(p, ScalarParam) and not p.dtype.is_float:
                form = (
                    symbol(p.name)
                    if p.name in known
                    else state.values.add(p.name, "scalar", p.dtype.min, p.dtype.max)
                )
                boolean = p.dtype == bool_
                state.names[p.name] = state.values.compare("!=", form, constant(0)) if boolean else form
        for a in func.arrays:
            memory = "may_alias" if a.name in func.options.may_alias else a.name
            self.buffers[a.name] = Buffer(a.name, memory, a.name, dtype=a.dtype)
        sizes = [at_least(symbol(s)) for s in func.sizes]
        shapes = [at_least(size_form(e)) for a in func.arrays if not a.result for e in a.shape]
        assumed = tuple([c for c in assumed if not state.learned(c.expr)])
        conditions = [state.truth(c.expr).yes for c in assumed]
        self.context = (*sizes, *shapes, *map(self.linear, conditions))
        if any(isinstance(s, Return) for s in stmts(func.body)):
            self.exits = (Buffer("return", "return", "return"),)

    # ---------------------------------------------------------------- statements

    def body(self, body: Body) -> None:
        context, certain, controls, buffers = self.context, self.certain, self.controls, self.buffers
        self.buffers = dict(buffers)
        for s in body:
            if not self.reachable:
                break
            self.statement(s)
        self.context, self.certain, self.controls, self.buffers = context, certain, controls, buffers

    def statement(self, s: Stmt) -> None:
        match s:
            case Loop():
                self.loop(s)
            case While():
                self.while_loop(s)
            case If():
                self.branch(s)
            case Alloc():
                key = f"{s.name}@{s.id}"
                self.buffers[s.name] = Buffer(key, key, s.name, self.dims, s.dtype, local=True)
                self.state.local.add(s.name)
                self.state.forget(s.name)
            case Store() | Accumulate() | Atomic():
                self.write(s)
            case Assert() | Prefetch() | Barrier():
                self.leaf(s, ())
            case Print():
                self.leaf(s, (self.virtual(Buffer("print", "print", "print"), "write", s),))
            case Break():
                self.leave(s, self.break_cell)
            case Continue():
                self.leave(s, self.continue_cell)
            case Return():
                self.leave(s, self.exits[0])
            case _:
                raise AssertionError(type(s).__name__)

    def write(self, s: Store | Accumulate | Atomic) -> None:
        buffer = self.buffers[s.buffer]
        index, exact = self.index(s.index)
        mode: Mode = "write" if isinstance(s, Store) else "update"
        use = Use(buffer, mode, index, self.here(), self.context, exact, s.loc, exact)
        if not isinstance(s, Store):
            use = replace(use, op=s.op)
        uses = [use]
        if isinstance(s, Accumulate) and s.together:
            uses[0] = replace(use, atomic=True)
        if isinstance(s, Atomic):
            uses[0] = replace(use, atomic=True, keeps_old=bool(s.old))
            if s.old:
                uses.append(Use(self.buffers[s.old], "write", (), self.here(), self.context, True, s.loc))
        self.leaf(s, tuple(uses))
        value: Value | None = None
        if isinstance(s, Store) and not s.index and not s.value.dtype.is_float:
            value = self.state.stored(s.value)
        self.state.store(s.buffer, value)
        if isinstance(s, Atomic) and s.old:
            self.state.forget(s.old)

    def leave(self, s: Stmt, cell: Buffer | None) -> None:
        assert cell is not None
        self.leaf(s, (self.virtual(cell, "write", s),))
        self.reachable = False

    def virtual(self, buffer: Buffer, mode: Mode, s: Stmt) -> Use:
        return Use(buffer, mode, (), self.here(), self.context, True, s.loc)

    def here(self) -> Place:
        return (*self.prefix, self.counter)

    def leaf(self, s: Stmt, uses: tuple[Use, ...]) -> None:
        """Records `s` with what it reads, and moves on."""
        reads = [u for e in stmt_exprs(s) for u in self.reads(e, control=False)]
        gates = [replace(self.virtual(cell, "read", s), control=True) for cell in self.exits]
        found = [*self.controls, *gates, *reads, *uses]
        exact = self.certain and self.is_exact(self.context)
        if not exact:
            found = [replace(u, exact=False) for u in found]
        leaf = Leaf(
            s, self.dims, self.here(), self.context, exact, tuple(found), self.state.names, self.certain
        )
        self.leaves.append(leaf)
        self.counter += 1

    def control(self, exprs: tuple[Expr, ...]) -> tuple[Use, ...]:
        """The reads of a condition or of bounds, at a place of their own."""
        uses = tuple([u for e in exprs for u in self.reads(e, control=True)])
        self.counter += 1
        return uses

    def loop(self, s: Loop) -> None:
        controls = self.control((s.lo, s.hi, s.step))
        iteration = iteration_of(s, self.state)
        direction = (iteration.step > 0) - (iteration.step < 0)
        dim = Dim(iteration.name, s.var, s.id, direction, iteration.lo, iteration.step, s.loc)
        certain = self.certain
        self.certain = certain and not breaks(s.body) and not self.returns(s.body)
        with self.inside(dim, iteration.points, s.body, controls):
            self.state.names = {**self.state.names, s.var: symbol(iteration.name)}
            self.body(s.body)
        self.certain = certain and not self.returns(s.body)

    def while_loop(self, s: While) -> None:
        turn = self.state.values.add("turn", "loop", 0, 1 << 62)
        (name,) = turn.names()
        dim = Dim(name, "", s.id, 1, constant(0), 1, s.loc)
        certain = self.certain
        self.certain = False
        test = Buffer(f"while@{s.id}", f"while@{s.id}", "while", self.dims)
        with self.inside(dim, at_least(turn), s.body, ()):
            self.leaf(s, (self.virtual(test, "write", s),))
            self.exits = (*self.exits, test)
            self.body(s.body)
        self.certain = certain and not self.returns(s.body)

    @contextmanager
    def inside(self, dim: Dim, points: Formula, body: Body, controls: tuple[Use, ...]) -> Iterator[None]:
        """The scope of a loop's body."""
        state = self.state
        saved = (self.context, self.dims, self.prefix, self.controls, self.exits)
        cells, names, counter = (self.break_cell, self.continue_cell), state.names, self.counter
        self.loops[dim.loop] = (*self.dims, dim)
        self.break_cell = Buffer(f"break@{dim.loop}", f"break@{dim.loop}", "break", self.dims)
        self.dims = (*self.dims, dim)
        self.continue_cell = Buffer(f"continue@{dim.loop}", f"continue@{dim.loop}", "continue", self.dims)
        if breaks(body):
            self.exits = (*self.exits, self.break_cell)
        if continues(body):
            self.exits = (*self.exits, self.continue_cell)
        self.context = (*self.context, self.linear(points))
        self.prefix = (*self.prefix, counter, dim)
        self.controls = (*self.controls, *controls)
        self.counter = 0
        self.forget_written(body)
        yield
        self.forget_written(body)
        self.context, self.dims, self.prefix, self.controls, self.exits = saved
        self.break_cell, self.continue_cell = cells
        state.names, self.counter, self.reachable = names, counter + 1, True

    def forget_written(self, body: Body) -> None:
        if id(body) not in self.writing:
            self.writing[id(body)] = sorted(written(body))
        for name in self.writing[id(body)]:
            self.state.forget(name)

    def returns(self, body: Body) -> bool:
        if id(body) not in self.returning:
            self.returning[id(body)] = returns(body)
        return self.returning[id(body)]

    def branch(self, s: If) -> None:
        reads = self.control((s.cond,))
        truth = self.guard(s.cond)
        before = self.state.memory()
        with self.under(truth, reads):
            self.body(s.then)
        then, after_then = self.reachable, self.state.memory()
        self.reachable = True
        self.state.restore(before)
        with self.under(truth.negated(), reads):
            self.body(s.orelse)
        if then and self.reachable:
            self.certain = self.certain and not leaves_body(s.then) and not leaves_body(s.orelse)
            self.state.join(truth, after_then)
            return
        # What follows runs on the branch that falls through only.
        self.context = (*self.context, truth.no if self.reachable else truth.yes)
        self.controls = (*self.controls, *reads)
        if then:
            self.reachable = True
            self.state.restore(after_then)
        if leaves_body(s.then if then else s.orelse):
            self.certain = False

    def guard(self, e: Expr) -> Truth:
        truth = self.state.guard(e)
        return Truth(self.linear(truth.yes), self.linear(truth.no), truth.exact)

    @contextmanager
    def under(self, truth: Truth, reads: tuple[Use, ...] = ()) -> Iterator[None]:
        """The scope in which a condition is known to be true."""
        context, controls = self.context, self.controls
        self.context = (*context, truth.yes)
        self.controls = (*controls, *reads)
        yield
        self.context, self.controls = context, controls

    # --------------------------------------------------------------- expressions

    def reads(self, e: Expr, control: bool) -> Iterator[Use]:
        """The loads in `e`, each under the conditions inside `e` that lead to it."""
        match e:
            case Load():
                for i in e.index:
                    yield from self.reads(i, control)
                index, exact = self.index(e.index)
                certain = exact and self.is_exact(self.context)
                read = Use(self.buffers[e.buffer], "read", index, self.here(), self.context, certain, e.loc)
                yield replace(read, exact_cell=exact, control=control)
            case Logic():
                yield from self.reads(e.a, control)
                truth = self.guard(e.a)
                with self.under(truth if e.op == "and" else truth.negated()):
                    yield from self.reads(e.b, control)
            case Select():
                yield from self.reads(e.cond, control)
                truth = self.guard(e.cond)
                with self.under(truth):
                    yield from self.reads(e.a, control)
                with self.under(truth.negated()):
                    yield from self.reads(e.b, control)
            case Let():
                yield from self.reads(e.value, control)
                names = self.state.names
                self.state.bind(e)
                yield from self.reads(e.body, control)
                self.state.names = names
            case _:
                for c in expr_children(e):
                    yield from self.reads(c, control)

    def index(self, index: tuple[Expr, ...]) -> tuple[tuple[Form, ...], bool]:
        forms = tuple([self.state.modular(e) for e in index])
        exact = all(f.is_affine and is_plain(self.state.values, f.names()) for f in forms)
        return forms, exact

    def is_exact(self, context: tuple[Formula, ...]) -> bool:
        """True when isl sees all of `context` and no data decides it."""
        return all(map(self.is_plain, context))

    def is_plain(self, formula: Formula) -> bool:
        known = self.plain.get(id(formula))
        if known is None:
            plain = is_plain(self.state.values, formula_names(formula))
            known = self.plain[id(formula)] = formula, plain  # kept, so that its id stays its own
        return known[1]

    def linear(self, formula: Formula) -> Formula:
        """`formula` with a symbol for each product, so that it is affine."""
        if isinstance(formula, Group):
            parts = [self.linear(p) for p in formula.parts]
            return all_of(*parts) if formula.kind == "all" else any_of(*parts)
        form = formula.form
        return formula if form.is_affine else at_least(self.state.values.linear(form))


def returns(body: Body) -> bool:
    """True when `body` holds a Return."""
    return any(isinstance(s, Return) for s in stmts(body))


def continues(body: Body) -> bool:
    """True when `body` holds a Continue of the loop that it is the body of."""
    return any(
        isinstance(s, Continue) or (isinstance(s, If) and (continues(s.then) or continues(s.orelse)))
        for s in body
    )


def leaves_body(body: Body) -> bool:
    """True when control may leave `body` by a Break, Continue or Return."""
    return any(
        isinstance(s, (Break, Continue, Return))
        or (isinstance(s, Loop | While) and returns(s.body))
        or (isinstance(s, If) and any(leaves_body(b) for b in stmt_bodies(s)))
        for s in body
    )
