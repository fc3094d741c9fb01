"""Where a local is produced and where it is read: what `compute_at` and `inline` move.

The readers and the makers of a local stand in one body, the makers first:

    P: f32[H + 2, W]
    for y in range(H + 2):            a maker: a statement of the body that writes P
        ...
    for y_1 in range(H):              a statement that reads P
        ...
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from kdsl.ir.nodes import (
    Accumulate,
    Alloc,
    Assert,
    Atomic,
    Body,
    Break,
    Continue,
    Func,
    If,
    Load,
    Loop,
    Prefetch,
    Print,
    Return,
    Stmt,
    Store,
    While,
)
from kdsl.ir.walk import exprs, map_stmt, stmt_bodies, stmt_exprs, stmts, subexprs
from kdsl.sched.edit import Edit
from kdsl.sched.rewriting.names import shown
from kdsl.sched.rewriting.tree import buffers, contains, is_leaf, written


@dataclass(frozen=True, slots=True)
class Production:
    """A local, and the innermost body with all that touches it. `above`: the statements around that body.

    `makers` and `readers` are positions in `body`; a statement may be both.
    """

    alloc: Alloc
    above: tuple[Stmt, ...]
    body: Body
    makers: tuple[int, ...]
    readers: tuple[int, ...]
    private: bool
    """The local is made in `body`, or as far out as nothing survives from one run of the body to the next."""

    @property
    def depth(self) -> int:
        """The number of loops around the body."""
        return sum(isinstance(s, (Loop, While)) for s in self.above)

    @property
    def outer(self) -> tuple[Loop, ...]:
        """The loops around the body, outermost first."""
        return tuple(s for s in self.above if isinstance(s, Loop))

    def positions(self) -> dict[int, int]:
        """For each statement in the body (by id) the position of the statement of the body that it is in."""
        return {s.id: n for n, child in enumerate(self.body) for s in stmts((child,))}


def productions(edit: Edit, name: str) -> list[Production]:
    """Where the locals called `name` are produced, in program order; refused when there is none."""
    found: list[Production] = []

    def visit(body: Body, above: tuple[Stmt, ...]) -> None:
        for s in body:
            if isinstance(s, Alloc) and s.name == name:
                found.append(_settled(s, body, above))
            for inner in stmt_bodies(s):
                visit(inner, (*above, s))

    visit(edit.func.body, ())
    if not found:
        locals_ = list(dict.fromkeys(s.name for s in stmts(edit.func.body) if isinstance(s, Alloc)))
        argument = next((a for a in edit.func.params if a.name == name), None)
        listed = ", ".join(f"`{k}`" for k in locals_)
        raise edit.refused(
            "K0304",
            f"`{name}` is an argument: nothing in the kernel produces it"
            if argument is not None
            else f"there is no local `{name}`",
            notes=[f"the locals are {listed}"] if locals_ else ["this kernel has no locals"],
            help=f'copy the part that is needed: s.stage("{name}", ...)'
            if argument is not None
            else "name a local array or a local scalar",
        )
    return found


def without_hints(func: Func, name: str) -> Func:
    """`func` without the prefetches of the local, and without the loops and ifs that held nothing else.

    A hint is for the memory that a local has: it does not follow the local to another place.
    """

    def on_body(body: Body) -> Body:
        out: list[Stmt] = []
        for s in body:
            if isinstance(s, Prefetch) and s.buffer == name:
                continue
            new = map_stmt(s, lambda e: e, on_body)
            if any(stmt_bodies(s)) and not any(stmt_bodies(new)):
                continue
            out.append(new)
        return body if len(out) == len(body) and all(a is b for a, b in zip(body, out)) else tuple(out)

    return replace(func, body=on_body(func.body))


def _settled(alloc: Alloc, body: Body, above: tuple[Stmt, ...]) -> Production:
    """The innermost body with all that touches the local that `alloc` makes."""
    name, home = alloc.name, len(above)
    while True:
        touching = [n for n, s in enumerate(body) if s is not alloc and name in buffers((s,))]
        only = body[touching[0]] if len(touching) == 1 else None
        inner = [] if only is None else [b for b in stmt_bodies(only) if name in buffers(b)]
        if only is None or len(inner) != 1 or reads(only, name):
            break
        body, above = inner[0], (*above, only)
    makers = tuple([n for n in touching if name in written((body[n],))])
    readers = tuple([n for n in touching if any(reads(s, name) for s in stmts((body[n],)))])
    loops = any(isinstance(s, (Loop, While)) for s in above[home:])
    return Production(alloc, above, body, makers, readers, not loops)


def reads(s: Stmt, name: str) -> bool:
    """True when an expression that stands directly in `s` reads the buffer."""
    return any(isinstance(x, Load) and x.buffer == name for e in stmt_exprs(s) for x in subexprs(e))


# -------------------------------------------------------------------- what is moved


def check_makers(edit: Edit, production: Production) -> None:
    """Refuses makers that do more than compute: their effects would be repeated, or lost."""
    name = production.alloc.name
    for n in production.makers:
        maker = production.body[n]
        for s in stmts((maker,)):
            match s:
                case Print() | Assert() | Atomic():
                    what = {Print: "prints", Assert: "asserts", Atomic: "updates atomically"}[type(s)]
                    label = f"{what}, once in the original"
                case Return():
                    label = "leaves the kernel"
                case Break() | Continue() | While() if not _contained(maker, s):
                    label = "may end the production early"
                case Loop() if s.mark is not None:
                    raise edit.refused(
                        "K0309",
                        f"cannot {edit.step.name} `{name}`: the loop `{s.var}` is to be lowered as it stands",
                        s,
                        label=f"marked by `{s.mark.kind}`",
                        help=f"put this step before the one that marks `{s.var}`",
                    )
                case _:
                    continue
            raise edit.refused(
                "K0339",
                f"cannot {edit.step.name} `{name}`: what produces it cannot be computed again",
                loc=s.loc,
                label=label,
                notes=[f"`{shown(s)}`"],
                help=f"move it to a loop of its own, which does not write `{name}`",
            )


def _contained(maker: Stmt, s: Stmt) -> bool:
    """True when `s`, a `while` or what leaves a loop, decides about locals of the maker only."""
    own = {x.name for x in stmts((maker,)) if isinstance(x, Alloc)}
    if isinstance(s, While):
        return written(s.body) <= own
    around = [x for x in stmts((maker,)) if isinstance(x, (Loop, While)) and contains(x, s.id)]
    return bool(around) and written(around[-1].body) <= own


def made(maker: Stmt, name: str) -> Body:
    """What in `maker` has a part in `name`."""
    return _slice((maker,), lambda s: name in written((s,)))


def rest(maker: Stmt, name: str) -> Body:
    """What in `maker` has a part in anything else."""
    own = {s.name for s in stmts((maker,)) if isinstance(s, Alloc)} | {name}
    return _slice((maker,), lambda s: bool(written((s,)) - own))


def _slice(body: Body, root: Callable[[Stmt], bool]) -> Body:
    """The leaves that are roots, and what they need of the locals made in `body`, in their loops and ifs."""
    own = {s.name for s in stmts(body) if isinstance(s, Alloc)}
    needed: set[str] = set()

    def wanted(s: Stmt) -> bool:
        return s.name in needed if isinstance(s, Alloc) else root(s) or bool(written((s,)) & needed)

    while True:
        kept = _kept(body, wanted)
        found = {e.buffer for e in exprs(kept) if isinstance(e, Load)} | written(kept)
        if found & own <= needed:
            return kept
        needed |= found & own


def _kept(body: Body, wanted: Callable[[Stmt], bool]) -> Body:
    """`body` without unwanted leaves; exits of loops stay where anything stays."""
    out: list[Stmt] = []
    for s in body:
        match s:
            case Store() | Accumulate() | Atomic() | Alloc() | Print() | Assert():
                if wanted(s):
                    out.append(s)
            case Loop() | While():
                inner = _kept(s.body, wanted)
                if any(not isinstance(x, (Break, Continue)) for x in stmts(inner) if is_leaf(x)):
                    out.append(s if _same(inner, s.body) else replace(s, body=inner))
            case If():
                then, orelse = _kept(s.then, wanted), _kept(s.orelse, wanted)
                if then or orelse:
                    same = _same(then, s.then) and _same(orelse, s.orelse)
                    out.append(s if same else replace(s, then=then, orelse=orelse))
            case _:
                out.append(s)
    return tuple(out)


def _same(a: Body, b: Body) -> bool:
    return len(a) == len(b) and all(x is y for x, y in zip(a, b))
