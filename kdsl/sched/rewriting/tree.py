"""Editing the tree of statements: places of loops, statements replaced, bodies copied and renamed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from kdsl.dtypes import i64
from kdsl.ir.nodes import (
    Accumulate,
    Alloc,
    ArrayParam,
    Atomic,
    Body,
    Break,
    Continue,
    Expr,
    Func,
    If,
    Let,
    Load,
    Loop,
    Prefetch,
    Return,
    Stmt,
    Store,
    Var,
    fresh_id,
)
from kdsl.ir.walk import (
    exprs,
    map_expr_children,
    map_stmt,
    stmt_bodies,
    stmt_exprs,
    stmts,
    subexprs,
    substitute,
)
from kdsl.passes.simplify import simplify_expr


@dataclass(frozen=True, slots=True)
class Place:
    """A loop and the statements around it, outermost first."""

    loop: Loop
    above: tuple[Stmt, ...]

    @property
    def outer(self) -> tuple[Loop, ...]:
        """The loops around it, outermost first."""
        return tuple(s for s in self.above if isinstance(s, Loop))


def places(func: Func) -> Iterator[Place]:
    """All loops in program order."""

    def visit(body: Body, above: tuple[Stmt, ...]) -> Iterator[Place]:
        for s in body:
            if isinstance(s, Loop):
                yield Place(s, above)
            for inner in stmt_bodies(s):
                yield from visit(inner, (*above, s))

    return visit(func.body, ())


def is_leaf(s: Stmt) -> bool:
    """True for what the analysis takes for a statement: no nested body, or a `while`, for its test."""
    return not isinstance(s, (Loop, If))


def replaced(func: Func, new: Mapping[int, Body]) -> Func:
    """`func` with each statement named by id in `new` replaced by statements."""

    def on_body(body: Body) -> Body:
        out: list[Stmt] = []
        for s in body:
            if s.id in new:
                out.extend(new[s.id])
            else:
                out.append(map_stmt(s, lambda e: e, on_body))
        return body if len(out) == len(body) and all(a is b for a, b in zip(body, out)) else tuple(out)

    return replace(func, body=on_body(func.body))


def siblings(func: Func, wanted: int) -> Body:
    """The body in which the statement with the id `wanted` stands."""

    def find(body: Body) -> Body | None:
        if any(s.id == wanted for s in body):
            return body
        for s in body:
            for inner in stmt_bodies(s):
                found = find(inner)
                if found is not None:
                    return found
        return None

    found = find(func.body)
    assert found is not None
    return found


def contains(s: Stmt, wanted: int) -> bool:
    """True when `s`, or a statement in it, has the id `wanted`."""
    return any(x.id == wanted for x in stmts((s,)))


def written(body: Body) -> set[str]:
    """The buffers that statements of `body` write."""
    out: set[str] = set()
    for s in stmts(body):
        match s:
            case Store() | Accumulate():
                out.add(s.buffer)
            case Atomic():
                out |= {s.buffer, s.old}
            case _:
                pass
    return out


def reads(body: Body) -> set[str]:
    """The buffers that statements of `body` load from."""
    return {e.buffer for e in exprs(body) if isinstance(e, Load)}


def accessed(body: Body) -> set[str]:
    """The buffers that statements of `body` read or write."""
    return written(body) | reads(body)


def buffers(body: Body) -> set[str]:
    """The buffers that `body` mentions: read, written or prefetched."""
    return accessed(body) | {s.buffer for s in stmts(body) if isinstance(s, Prefetch)}


def bound(body: Body) -> set[str]:
    """The names that `body` binds: loop variables, locals, `Let`s."""
    out: set[str] = set()
    for s in stmts(body):
        match s:
            case Loop():
                out.add(s.var)
            case Alloc():
                out.add(s.name)
            case _:
                pass
        for root in stmt_exprs(s):
            out.update(e.name for e in subexprs(root) if isinstance(e, Let))
    return out


def fresh_names(func: Func, names: Iterable[str]) -> dict[str, str]:
    """For each name another one that `func` does not bind."""
    taken = bound(func.body) | {p.name for p in func.params} | set(func.sizes)
    out: dict[str, str] = {}
    for stem in names:
        n = 1
        while f"{stem}_{n}" in taken:
            n += 1
        taken.add(f"{stem}_{n}")
        out[stem] = f"{stem}_{n}"
    return out


def free_stem(func: Func, stem: str) -> str:
    """`stem`, numbered from 2 if need be, so that no name of `func` is it or begins with it and `_`."""
    taken = bound(func.body) | {p.name for p in func.params} | set(func.sizes)
    name, n = stem, 1
    while any(t == name or t.startswith(f"{name}_") for t in taken):
        n += 1
        name = f"{stem}{n}"
    return name


def leaves_loop(body: Body) -> Stmt | None:
    """The first `break` or `continue` of the loop whose body this is."""
    for s in body:
        if isinstance(s, (Break, Continue)):
            return s
        if isinstance(s, If):
            found = leaves_loop(s.then) or leaves_loop(s.orelse)
            if found is not None:
                return found
    return None


def first_break(body: Body) -> Stmt | None:
    """The first `break` of the loop whose body this is."""
    for s in body:
        if isinstance(s, Break):
            return s
        if isinstance(s, If):
            found = first_break(s.then) or first_break(s.orelse)
            if found is not None:
                return found
    return None


def first_return(body: Body) -> Stmt | None:
    """The first `return` anywhere in `body`."""
    return next((s for s in stmts(body) if isinstance(s, Return)), None)


def map_exprs(body: Body, f: Callable[[Expr], Expr]) -> Body:
    """`body` with `f` applied to each expression that stands directly in a statement. Ids are kept."""
    return tuple([map_stmt(s, f, lambda inner: map_exprs(inner, f)) for s in body])


Site = Load | Store | Accumulate | Atomic | Prefetch


def map_accesses(
    body: Body, f: Callable[[Site, Site, tuple[Loop, ...]], Site], loops: tuple[Loop, ...] = ()
) -> Body:
    """`body` with each access and each prefetch replaced. Ids are kept.

    `f(old, new, loops)` gets it as it stands, the same with what is inside replaced, and the loops around
    it: `loops` and those of `body`.
    """

    def on_body(body: Body, loops: tuple[Loop, ...]) -> Body:
        def on_expr(e: Expr) -> Expr:
            new = map_expr_children(e, on_expr)
            return f(e, new, loops) if isinstance(e, Load) and isinstance(new, Load) else new  # type: ignore[return-value]

        out: list[Stmt] = []
        for s in body:
            inner = (*loops, s) if isinstance(s, Loop) else loops
            new = map_stmt(s, on_expr, lambda b, inner=inner: on_body(b, inner))  # type: ignore[misc]
            if isinstance(s, (Store, Accumulate, Atomic, Prefetch)):
                assert isinstance(new, (Store, Accumulate, Atomic, Prefetch))
                new = f(s, new, loops)  # type: ignore[assignment]
            out.append(new)
        return tuple(out)

    return on_body(body, loops)


def indexed(body: Body, prefix: Mapping[str, tuple[Expr, ...]]) -> Body:
    """`body` with `prefix[b]` put before the index of each access to a buffer `b` named there."""

    def on_access(_: Site, new: Site, loops: tuple[Loop, ...]) -> Site:
        if new.buffer not in prefix:
            return new
        assert isinstance(new, Prefetch) or not new.checked
        return replace(new, index=(*prefix[new.buffer], *new.index))

    return map_accesses(body, on_access)


def renamed_buffers(body: Body, names: Mapping[str, str]) -> Body:
    """`body` with buffers (and their allocations) renamed."""

    def on_expr(e: Expr) -> Expr:
        e = map_expr_children(e, on_expr)
        return replace(e, buffer=names[e.buffer]) if isinstance(e, Load) and e.buffer in names else e

    def on_body(body: Body) -> Body:
        out: list[Stmt] = []
        for s in body:
            s = map_stmt(s, on_expr, on_body)
            match s:
                case Alloc() if s.name in names:
                    s = replace(s, name=names[s.name])
                case Store() | Accumulate() | Prefetch() if s.buffer in names:
                    s = replace(s, buffer=names[s.buffer])
                case Atomic():
                    s = replace(s, buffer=names.get(s.buffer, s.buffer), old=names.get(s.old, s.old))
                case _:
                    pass
            out.append(s)
        return tuple(out)

    return on_body(body)


def renamed_loops(body: Body, names: Mapping[str, str]) -> Body:
    """`body` with loop variables renamed, where they are bound and where they are used."""
    values: dict[str, Expr] = {old: Var(new, i64) for old, new in names.items()}

    def on_body(body: Body) -> Body:
        out = [map_stmt(s, lambda e: substitute(e, values), on_body) for s in body]
        return tuple([replace(s, var=names.get(s.var, s.var)) if isinstance(s, Loop) else s for s in out])

    return on_body(body)


def with_fresh_ids(body: Body, source: dict[int, int] | None = None) -> Body:
    """A copy of `body`; `source` gets the id that each new leaf statement is a copy of."""

    def copy(s: Stmt) -> Stmt:
        new = replace(map_stmt(s, lambda e: e, on_body), id=fresh_id())
        if source is not None and is_leaf(s):
            source[new.id] = source.get(s.id, s.id)
        return new

    def on_body(body: Body) -> Body:
        return tuple([copy(s) for s in body])

    return on_body(body)


@dataclass(slots=True)
class Track:
    """Where the leaf statements of a rewritten function come from, noted while it is rewritten.

    `source[new]` is the statement of which `new` is a copy; `values[id]` gives loop variables of the
    original as expressions over the new ones (a variable that is not there kept its name).
    """

    source: dict[int, int] = field(default_factory=dict)
    values: dict[int, dict[str, Expr]] = field(default_factory=dict)

    def substitute(self, body: Body, values: Mapping[str, Expr]) -> Body:
        """`body` with loop variables replaced."""
        given = dict(values)
        for s in stmts(body):
            if is_leaf(s):
                now = {k: substitute(e, given) for k, e in self.values.get(s.id, {}).items()}
                self.values[s.id] = {**given, **now}

        def on_expr(e: Expr) -> Expr:
            new = substitute(e, given)
            return e if new is e else simplify_expr(new)

        return map_exprs(body, on_expr)

    def copy(self, body: Body) -> Body:
        """A copy of `body`."""
        old = list(stmts(body))
        new = with_fresh_ids(body, self.source)
        for a, b in zip(old, stmts(new)):
            if a.id in self.values:
                self.values[b.id] = dict(self.values[a.id])
        return new


def wrap(nodes: Iterable[Loop | If], body: Body) -> Body:
    """`body` inside `nodes`, outermost first, whose own bodies are dropped."""
    for node in reversed(list(nodes)):
        body = (replace(node, body=body) if isinstance(node, Loop) else replace(node, then=body),)
    return body


def declared(func: Func, place: Place, name: str) -> Alloc | ArrayParam | None:
    """What makes the buffer that `name` means around the loop at `place`; None when nothing does."""
    body: Body | None = func.body
    for node in (*place.above, place.loop):
        assert body is not None
        for s in body:
            if isinstance(s, Alloc) and s.name == name:
                return s
        body = next((b for b in stmt_bodies(node) if any(contains(s, place.loop.id) for s in b)), None)
    return next((a for a in func.arrays if a.name == name), None)
