"""What a primitive works with: the function as it stands, the step being made, the two ways to end.

resolve   edit.loops("i"), edit.one("i")
refuse    raise edit.refused("K0306", ...)
rewrite   statements replaced (`sched.rewriting.tree`)
commit    edit.keeps_order(after)   the rewrite cannot change the order of anything
          edit.proved(after, track) it can: dependence analysis decides
"""

from __future__ import annotations

import keyword
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from kdsl.analysis.linear import extent
from kdsl.analysis.slices import affected
from kdsl.errors import ScheduleError
from kdsl.ir.nodes import Body, Const, Expr, Func, Loop, Mark
from kdsl.ir.printer import print_expr
from kdsl.ir.verify import MAX_NESTING, verify
from kdsl.ir.walk import stmt_bodies
from kdsl.sched import legality
from kdsl.sched.grid.limits import target_refusal
from kdsl.sched.rewriting.arith import buffers_in
from kdsl.sched.rewriting.names import header, resolve
from kdsl.sched.rewriting.tree import Place, Track, bound, places, written
from kdsl.sched.step import Step
from kdsl.source import Loc
from kdsl.target import Target

NESTING = MAX_NESTING - 20
"""Statements nested deeper than this are refused: what is lowered later nests a little deeper."""

STATEMENTS = 20_000
"""Larger functions are refused: nobody wants to wait for their compilation."""

FAR = 1 << 31
"""Block sizes and distances beyond this make no sense; sums with sizes (below 2**47) stay within 64 bits."""


@dataclass(frozen=True, slots=True)
class Edit:
    """`func` before (part of) the step `number` (1-based). `unsafe`: the user vouches for the order.

    `target`: the GPU that the schedule is for, whose limits hold; None when it is for any target.
    """

    func: Func
    step: Step
    number: int
    target: Target | None = None

    @property
    def unsafe(self) -> bool:
        return self.step.unsafe

    # ----------------------------------------------------------------- resolve

    def loops(self, name: str) -> tuple[Place, ...]:
        """The loop of that name with all its copies, or the one copy that `"j@1"` names."""
        return resolve(self, name)

    def one(self, name: str) -> Place:
        """The one loop of that name; an ambiguous name is refused."""
        found = self.loops(name)
        if len(found) > 1:
            raise self.refused(
                "K0305",
                f"`{name}` names {len(found)} loops, and this step takes one",
                found[0].loop,
                label=f'this is "{name}@0"',
                notes=[f'"{name}@{n}" is `{header(p.loop)}`' for n, p in enumerate(found)][1:],
                help=f'name one copy, as in "{name}@0"',
            )
        return found[0]

    # ------------------------------------------------------------------ refuse

    def refused(
        self,
        code: str,
        title: str,
        loop: Loop | None = None,
        *,
        loc: Loc | None = None,
        label: str = "",
        notes: Sequence[str | tuple[Loc, str]] = (),
        help: str = "",
    ) -> ScheduleError:
        """The error, with the loop's line (or `loc`) and a note that shows the step."""
        where = f"  ({self.step.loc})" if self.step.loc else ""
        return ScheduleError(
            code,
            title,
            loc=loc or (loop.loc if loop is not None else self.func.loc),
            label=label,
            notes=(*notes, f"step {self.number} of the schedule: {self.step}{where}"),
            help=help,
        )

    def need_unmarked(self, loop: Loop) -> None:
        """Refuses a loop whose lowering was chosen already."""
        if loop.mark is not None:
            raise self.refused(
                "K0309",
                f"cannot {self.step.name} the loop `{loop.var}`: it is to be lowered as it stands",
                loop,
                label=f"marked by `{loop.mark.kind}`",
                help=f"put this step before the one that marks `{loop.var}`",
            )

    def need_small(self, what: str, value: int, least: int, most: int = FAR) -> None:
        """Refuses a factor or distance outside of [least, most]."""
        if not least <= value <= most:
            raise self.refused("K0302", f"`{what}` is {value}", help=f"pass a number from {least} to {most}")

    def need_stable(self, loop: Loop, body: Body | None = None, exprs: Iterable[Expr] | None = None) -> None:
        """Refuses when the loop's bounds (or `exprs`) read what `body` (the loop's own) writes.

        A rewrite would evaluate them again, and meet another value.
        """
        read = buffers_in((loop.lo, loop.hi, loop.step) if exprs is None else exprs)
        changed = written(loop.body if body is None else body)
        if any(changed & set(group) for group in (read, self._aliases(read, changed))):
            name = sorted(read & changed or read)[0]
            raise self.refused(
                "K0310",
                f"cannot prove `{self.step.name}` of `{loop.var}`: what controls the loop changes meanwhile",
                loop,
                label=f"depends on `{name}`, which is written inside",
                help=f"read `{name}` into a variable before the loop",
            )

    def _aliases(self, read: set[str], changed: set[str]) -> set[str]:
        shared = set(self.func.options.may_alias)
        return shared & changed if read & shared else set()

    def need_known_step(self, loop: Loop) -> None:
        """Refuses a loop whose step is not a number."""
        if not (isinstance(loop.step, Const) and loop.step.value):
            raise self.refused(
                "K0308",
                f"cannot {self.step.name} the loop `{loop.var}`: its step is not a constant",
                loop,
                label=f"step `{print_expr(loop.step, True)}`",
                help="write the step as a number, or pass it as a `kdsl.constexpr`",
            )
        if abs(int(loop.step.value)) > FAR:
            raise self.refused(
                "K0308",
                f"cannot {self.step.name} the loop `{loop.var}`: its step is beyond 2**31",
                loop,
                help="count the iterations in the kernel, from 0 in steps of 1",
            )

    def need_free(self, name: str, place: Place) -> None:
        """Refuses a new loop name that is not an identifier, or means something else around `place`."""
        if not name.isidentifier() or keyword.iskeyword(name):
            raise self.refused(
                "K0306",
                f"{name!r} cannot name a loop",
                place.loop,
                help='pass a Python identifier, as in "i_o"',
            )
        taken = {p.name for p in self.func.params} | set(self.func.sizes) | bound(place.loop.body)
        taken |= {s.var for s in place.outer} | {place.loop.var}
        loops = {p.loop.var for p in places(self.func)}
        if name in taken or name in bound(self.func.body) - loops:
            raise self.refused(
                "K0306",
                f"the name `{name}` is taken",
                place.loop,
                help=f"choose other names: {_other_names(self.step.name)}",
            )

    # ------------------------------------------------------------------ commit

    def keeps_order(self, after: Func) -> Edit:
        """For a rewrite in which every statement instance stays at its place in the order of execution."""
        return self._committed(after)

    def proved(
        self, after: Func, track: Track, loop: Loop, *, before: Func | None = None, help: str = ""
    ) -> Edit:
        """For a rewrite that changes the order: refused unless dependences are kept (or `unsafe`).

        `before` is where `track` starts, if not at this edit's function; `help` a way out of a violation.
        """
        if not self.unsafe:
            refusal = legality.order_refusal(self, before or self.func, after, track, loop, help)
            if refusal is not None:
                raise refusal
        return self._committed(after)

    def marked(self, loop: Loop, mark: Mark) -> Edit:
        """`loop` with `mark`, which is proved unless it is unsafe."""
        from kdsl.sched.rewriting.tree import replaced

        new = replace(loop, mark=mark)
        return self._committed(replaced(self.func, {loop.id: (new,)}))

    def _committed(self, after: Func) -> Edit:
        if _depth(after.body) > NESTING:
            raise self.refused(
                "K0307", f"the loop nest would be more than {NESTING} levels deep", help="use fewer steps"
            )
        if _written_out(after.body) > STATEMENTS:
            raise self.refused(
                "K0307",
                f"the kernel would grow beyond {STATEMENTS} statements, unrolled loops written out",
                help="unroll by a smaller factor, or specialize less often",
            )
        verify(after)
        changed = affected(self.func, after)
        before = {} if changed is not None else {p.loop.id: p for p in places(self.func)}
        for p in places(after):
            mark = p.loop.mark
            if mark is None or (changed is not None and p.loop.id not in changed):
                continue
            old = before.get(p.loop.id)
            if old is not None and old.loop == p.loop and old.above == p.above:
                continue
            if mark.kind == "unroll":
                if extent(p.loop) is None:
                    raise self.refused(
                        "K0311",
                        f"the unrolled loop `{p.loop.var}` would no longer be of constant length",
                        p.loop,
                        label=f"would become `{header(p.loop)}`",
                        help=f"put this step before the unrolling of `{p.loop.var}`",
                    )
            elif not mark.unsafe:
                refusal = legality.mark_refusal(self, after, p.loop, mark)
                if refusal is not None:
                    raise refusal
        if self.target is not None:
            refusal = target_refusal(self, after, self.target)
            if refusal is not None:
                raise refusal
        return replace(self, func=after)


def _written_out(body: Body) -> int:
    """The number of statements after unrolling."""
    total = 0
    for s in body:
        inside = sum(map(_written_out, stmt_bodies(s)))
        unrolled = isinstance(s, Loop) and s.mark is not None and s.mark.kind == "unroll"
        total += 1 + inside * ((extent(s) or 1) if unrolled and isinstance(s, Loop) else 1)
    return total


def _depth(body: Body) -> int:
    return 1 + max((_depth(inner) for s in body for inner in stmt_bodies(s) if inner), default=0)


def _other_names(step: str) -> str:
    return 'into=("outer", "inner")' if step in ("split", "tile") else 'into="name"'
