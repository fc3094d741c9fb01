"""What the steps of the lowering to launches share: names, ranges, device buffers, and how they refuse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from kdsl.analysis.axes import axis_of
from kdsl.errors import TargetError
from kdsl.ir.host import is_host
from kdsl.ir.launch import Scratch
from kdsl.ir.nodes import Alloc, Body, Expr, Func, Let, Loop, ScalarParam, Stmt
from kdsl.ir.walk import map_stmt, stmt_exprs, stmts, subexprs
from kdsl.passes.counting import Ranges, most_iterations, trip_count
from kdsl.passes.moving_buffers import Move, moved
from kdsl.source import Loc
from kdsl.target import Target


@dataclass(slots=True)
class Context:
    """One kernel on one target. `scratch` collects the device buffers made for it."""

    func: Func
    target: Target
    scratch: list[Scratch] = field(default_factory=list)
    ranges: Ranges = field(init=False)
    taken: set[str] = field(init=False)

    def __post_init__(self) -> None:
        self.ranges = Ranges(self.func)
        self.taken = {p.name for p in self.func.params} | set(self.func.sizes) | bound_names(self.func.body)

    @property
    def host(self) -> frozenset[str]:
        """The names that the host knows everywhere."""
        scalars = {p.name for p in self.func.params if isinstance(p, ScalarParam)}
        return frozenset(scalars | set(self.func.sizes))

    @property
    def device(self) -> str:
        """The target's name for a message."""
        return self.target.cpu or self.target.name

    def fresh(self, stem: str) -> str:
        """A name that nothing has."""
        name, n = stem, 1
        while name in self.taken:
            name, n = f"{stem}_{n}", n + 1
        self.taken.add(name)
        return name

    def count(self, loop: Loop) -> Expr:
        """The number of iterations of a loop whose bounds the host knows."""
        return trip_count(loop, self.ranges)

    def room(self, loop: Loop, hosts: Sequence[Loop], name: str) -> Expr:
        """How many iterations a loop has at most, whatever the variables of the loops of the host around it
        are: room for these is made before the kernel runs. `name` needs it."""
        count = self.count(loop)
        if is_host(count, self.host):
            return count
        most = most_iterations(loop, hosts, self.host, self.ranges)
        if most is None:
            raise self.error(
                "K0539",
                f"`{name}` needs an element for each `{loop.var}`, whose number the sizes do not tell",
                loop,
                label=f"bound to {axis_of(loop)}",
                help="give this loop bounds made of sizes and scalars",
            )
        return most

    def error(
        self,
        code: str,
        title: str,
        s: Stmt,
        *,
        label: str = "",
        notes: Sequence[str | tuple[Loc, str]] = (),
        help: str = "",
    ) -> TargetError:
        """Why the kernel cannot be launched as it is scheduled."""
        return TargetError(code, title, loc=s.loc, label=label, notes=notes, help=help)


def bound_names(body: Body) -> set[str]:
    """All names that `body` binds."""
    out: set[str] = set()
    for s in stmts(body):
        if isinstance(s, Loop):
            out.add(s.var)
        if isinstance(s, Alloc):
            out.add(s.name)
        out |= {e.name for root in stmt_exprs(s) for e in subexprs(root) if isinstance(e, Let)}
    return out


def with_own_names(body: Body, context: Context) -> Body:
    """`body` with a name of its own for each local: several copies may have shared one."""
    seen: set[str] = set()

    def on_body(body: Body) -> Body:
        moves: dict[str, Move] = {}
        out: list[Stmt] = []
        for s in body:
            if isinstance(s, Alloc):
                if s.name in seen:
                    name = context.fresh(s.name)
                    moves[s.name] = Move(name, lambda index, _: index)
                    s = replace(s, name=name)
                seen.add(s.name)
            out.append(s)
        renamed = moved(tuple(out), moves, context.fresh)
        return tuple([map_stmt(s, lambda e: e, on_body) for s in renamed])

    return on_body(body)
