"""A lowered kernel as a GPU runs it: a host program of dispatches (`ir.launch`).

    for t in range(T):                          for t in range(T):
        for i in bind(range(N), "grid.x"):          with dispatch("f_0", groups=(N, 1, 1), block=(9, 1, 1)):
            S: f32[9] @ "shared"                        for i in bind(range(N), "grid.x"):
            for j in bind(range(9), "block.x"):   ->        S: f32[9] @ "shared"
                S[j] = A[i, j]                              for j in bind(range(9), "block.x"):
            for j in bind(range(9), "block.x"):                 S[j] = A[i, j]
                B[i, j] = S[8 - j]                          barrier()
                                                            for j in bind(range(9), "block.x"):
                                                                B[i, j] = S[8 - j]

In these steps: scalars that the host can compute (`host_scalars`), the cut into dispatches (`host_program`),
and for each of these two levels of code (`work_groups`), places for locals (`group_arrays`), grids that the
device can launch (`grid_parts`) and `barriers`.

A kernel without bound loops, and whatever cannot be cut, runs on one invocation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from kdsl.analysis.axes import axis_of, block_sizes, misbound
from kdsl.ir.launch import Dispatch, HostIf, HostLoop, HostStep, HostSteps, Launches
from kdsl.ir.nodes import Body, Expr, Func, Loop, Return, Var, fresh_id
from kdsl.ir.walk import exprs, stmts
from kdsl.passes.barriers import with_barriers
from kdsl.passes.counting import ONE
from kdsl.passes.grid_parts import in_parts
from kdsl.passes.group_arrays import meetings, owners, placed
from kdsl.passes.host_program import Branch, Part, Parts, Piece, Prefix, Repeat, buffers, cut
from kdsl.passes.host_scalars import host_scalars
from kdsl.passes.launch_context import Context, with_own_names
from kdsl.passes.unbind import unbound
from kdsl.passes.work_groups import two_levels
from kdsl.target import Target

CODES = {"nesting": "K0536", "extent": "K0537", "limit": "K0538", "exit": "K0540"}


def launches(func: Func, target: Target) -> Launches:
    """`func`, lowered for `target`, as a host program. TargetError where loops are bound in a way that the
    target cannot run."""
    func = host_scalars(func)
    context = Context(func, target)
    wrong = misbound(func.body, target.limits, context.device)
    if wrong is not None:
        raise context.error(
            CODES[wrong.rule],
            wrong.title,
            wrong.loop,
            label=wrong.label,
            notes=wrong.notes,
            help=wrong.help,
        )
    body = with_own_names(func.body, context)
    if any(isinstance(s, Return) for s in stmts(body)):
        body = unbound(body)
    parts = cut(body, context)
    steps = _Builder(context).steps(parts, ())
    return Launches(func, steps, tuple(context.scratch))


@dataclass(slots=True)
class _Builder:
    context: Context
    number: int = 0

    def steps(self, parts: Parts, hosts: tuple[Loop, ...]) -> HostSteps:
        """The steps for `parts`; `hosts` are the loops of the host around."""
        out: list[HostStep] = []
        for part in parts:
            out += self.step(part, hosts)
        return tuple(out)

    def step(self, part: Part, hosts: tuple[Loop, ...]) -> HostSteps:
        match part:
            case Repeat(loop, parts):
                inside = self.steps(parts, (*hosts, loop))
                return (HostLoop(loop.var, loop.lo, loop.hi, loop.step, inside),) if inside else ()
            case Branch(cond, then, orelse):
                both = self.steps(then, hosts), self.steps(orelse, hosts)
                return (HostIf(cond, *both),) if any(both) else ()
            case Piece(prefix, body):
                return (self.dispatch(prefix, body, hosts),) if body else ()

    def dispatch(self, prefix: Prefix, body: Body, hosts: tuple[Loop, ...]) -> HostStep:
        context = self.context
        sizes = block_sizes(body)
        if sizes:
            body = two_levels(body, context)
        stored = placed(prefix, body, hosts, context)
        parts = in_parts(prefix, body, stored.scratch, hosts, context)
        around = (*hosts, *parts.hosts)
        if parts.hosts:
            stored = placed(parts.prefix, parts.body, around, context)
        own = [replace(s, shape=(*parts.extents, *s.shape[len(parts.extents) :])) for s in stored.scratch]
        context.scratch += own
        prefix, body = parts.prefix, stored.body
        if sizes:
            dispatch = prefix, body, around, context.scratch, context
            # A work-group that is alone has all device memory for its own.
            alone = not any(isinstance(s, Loop) for s in prefix)
            names = buffers(body) if alone else {s.name for s in own}
            body = with_barriers(
                body, owners(*dispatch), lambda: meetings(*dispatch), frozenset(names), context
            )
        step: HostStep = self.launch(prefix, body, sizes, parts.groups, around)
        for s in reversed(parts.hosts):
            step = HostLoop(s.var, s.lo, s.hi, s.step, (step,))
        return step

    def launch(
        self,
        prefix: Prefix,
        body: Body,
        sizes: Mapping[str, int],
        counts: Sequence[Expr],
        hosts: Sequence[Loop],
    ) -> Dispatch:
        groups = dict(zip([axis_of(s) for s in prefix if isinstance(s, Loop)], counts))
        for s in reversed(prefix):
            own = fresh_id()
            if isinstance(s, Loop):
                body = (replace(s, id=own, body=body),)
            else:
                body = (replace(s, id=own, then=body, orelse=()),)
        used = {e.name for e in exprs(body) if isinstance(e, Var)}
        name = f"{self.context.func.name}_{self.number}"
        self.number += 1
        return Dispatch(
            name,
            (groups.get("grid.x", ONE), groups.get("grid.y", ONE), groups.get("grid.z", ONE)),
            (sizes.get("block.x", 1), sizes.get("block.y", 1), sizes.get("block.z", 1)),
            body,
            tuple([s.var for s in hosts if s.var in used]),
        )
