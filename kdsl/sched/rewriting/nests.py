"""Rearranging a nest of loops: the algorithm behind `reorder` and `fission`.

A nest is a chain of loops, with ifs (guards) and statements between them. Loops that are to move inside a
loop below such statements are distributed over them first; private locals that live across the pieces get
one element for each iteration:

    for j:                       for j: acc[j] = 0
        acc = 0                  for k:
        for k: acc += ...   ->       for j: acc[j] += ...
        C[j] = acc               for j: C[j] = acc[j]

Then the loops of each perfect chain are permuted: guards stand as far out as what they read allows, bounds
that depend on a loop now inside are solved anew by isl (`analysis.nest`). Nothing here proves the order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kdsl.analysis.linear import faultless
from kdsl.ir.nodes import Alloc, Body, Func, If, Loop, Stmt, While, fresh_id
from kdsl.ir.walk import stmts
from kdsl.sched.edit import Edit
from kdsl.sched.rewriting.arith import names_in
from kdsl.sched.rewriting.expansion import expansion, need_no_old_values
from kdsl.sched.rewriting.names import header
from kdsl.sched.rewriting.ranges import counted
from kdsl.sched.rewriting.tree import (
    Track,
    buffers,
    contains,
    first_return,
    fresh_names,
    leaves_loop,
    places,
    renamed_buffers,
    replaced,
    siblings,
    wrap,
)

Node = Loop | If


@dataclass(frozen=True, slots=True)
class Nest:
    """A rearrangement, for the step of `edit`, from the loop `outer` of `func`, the function so far."""

    edit: Edit
    outer: Loop
    func: Func

    # ----------------------------------------------------------------- reorder

    def check(self, last: Loop) -> None:
        """Refuses what has no rearrangement: exits, `while` and `else` on the way to `last`."""
        for node in self.chain(self.outer, last.id):
            if isinstance(node, If) and node.orelse:
                raise self.edit.refused(
                    "K0308",
                    f"cannot {self.edit.step.name} across an `if` with an `else`",
                    self.outer,
                    loc=node.loc,
                    help="move the two branches into loops of their own in the kernel",
                )
            if isinstance(node, Loop):
                self.check_exits(node)
            exprs = (node.lo, node.hi, node.step) if isinstance(node, Loop) else (node.cond,)
            self.edit.need_stable(self.outer, exprs=exprs)
            if isinstance(node, Loop):
                self.edit.need_known_step(node)

    def check_exits(self, loop: Loop) -> None:
        """Refuses a loop that may be left early."""
        leave = leaves_loop(loop.body) or first_return(loop.body)
        if leave is not None:
            raise self.edit.refused(
                "K0308",
                f"cannot {self.edit.step.name} the loop `{loop.var}`: an iteration may end it early",
                loop,
                label="left from inside",
                notes=[(leave.loc, "here")] if leave.loc else [],
                help="write the condition as an `if` around the rest of the body",
            )

    def chain(self, root: Stmt, last: int) -> list[Node]:
        """The loops and ifs from `root` down to the loop with id `last`."""
        out: list[Node] = []
        s: Stmt | None = root
        while s is not None:
            if isinstance(s, While) or not isinstance(s, (Loop, If)):
                raise self.edit.refused(
                    "K0308",
                    f"cannot {self.edit.step.name} across a `while` loop",
                    self.outer,
                    loc=s.loc,
                    help="name loops that stand inside, or around, the `while` loop only",
                )
            out.append(s)
            if s.id == last:
                break
            inner = s.body if isinstance(s, Loop) else (*s.then, *s.orelse)
            s = next((x for x in inner if contains(x, last)), None)
        return out

    def reordered(self, last: int, order: Sequence[str]) -> Body:
        """The nest, its loops down to the one with id `last` in the given `order` of variables."""
        return self.arrange(self.outer, last, order, siblings(self.func, self.outer.id))

    def arrange(self, root: Node, last: int, order: Sequence[str], around: Body) -> Body:
        """As `reordered`, for the part of the nest at `root`, which stands in the body `around`."""
        chain = self.chain(root, last)
        at = next((n for n in range(len(chain) - 1) if len(_body(chain[n])) > 1), None)
        if at is None:
            body = _body(chain[-1])
            while len(body) == 1 and isinstance(guard := body[0], If) and not guard.orelse:
                # A guard of a loop that moves outwards may move with it.
                if not faultless(guard.cond):
                    break
                chain.append(guard)
                body = guard.then
            return wrap(self.permuted(chain, order), body)
        upper, below = chain[: at + 1], chain[at + 1]
        position = {name: n for n, name in enumerate(order)}
        first_below = min(position[s.var] for s in chain[at + 1 :] if isinstance(s, Loop))
        moving = {s.var for s in upper if isinstance(s, Loop) and position[s.var] > first_below}
        nodes = self.permuted(upper, order)
        body = _body(chain[at])
        here = next(n for n, s in enumerate(body) if s is below)
        if not moving:
            inner = self.arrange(below, last, order, body)
            return wrap(nodes, (*body[:here], *inner, *body[here + 1 :]))
        cut = 1 + max(
            (n for n, s in enumerate(nodes) if isinstance(s, Loop) and s.var not in moving), default=-1
        )
        outer, spread = nodes[:cut], nodes[cut:]
        around = body if outer else around
        allocs, pieces = self.separated(spread, [body[:here], (below,), body[here + 1 :]], around)
        before, (middle,), after = pieces
        assert isinstance(middle, (Loop, If))
        inside = wrap(spread, (middle,))[0]
        assert isinstance(inside, (Loop, If))
        out = list(allocs)
        if before:
            out.extend(wrap(_fresh(spread), before))
        out.extend(self.arrange(inside, last, order, around))
        if after:
            out.extend(wrap(_fresh(spread), after))
        return wrap(outer, tuple(out))

    def permuted(self, nodes: Sequence[Node], order: Sequence[str]) -> list[Node]:
        """The chain's nodes with the loops in `order`, each guard as far out as it may stand."""
        old = [s for s in nodes if isinstance(s, Loop)]
        new = sorted(old, key=lambda s: order.index(s.var))
        if new == old:
            return list(nodes)
        self.check_faults(nodes, new)
        variables = {s.var for s in old}
        placed: set[str] = set()
        crossed = False
        for s in new:
            crossed = crossed or bool(names_in((s.lo, s.hi)) & (variables - placed))
            placed.add(s.var)
        if crossed:
            new = self.solved(old, new)
        out: list[Node] = list(new)
        floor = 0
        for n, guard in enumerate(nodes):
            if not isinstance(guard, If):
                continue
            needed = names_in((guard.cond,)) & variables
            if not faultless(guard.cond):
                needed = {s.var for s in nodes[:n] if isinstance(s, Loop)}
            at = max((i + 1 for i, s in enumerate(out) if isinstance(s, Loop) and s.var in needed), default=0)
            at = at if faultless(guard.cond) else max(at, floor)
            while at < len(out) and isinstance(out[at], If):
                at += 1
            out.insert(at, guard)
            floor = at + 1
        return out

    def check_faults(self, nodes: Sequence[Node], new: Sequence[Loop]) -> None:
        """Refuses to evaluate a bound that may fault where it was not evaluated before."""
        for n, s in enumerate(nodes):
            if isinstance(s, Loop) and not (faultless(s.lo) and faultless(s.hi)):
                earlier = {x.var for x in nodes[:n] if isinstance(x, Loop)}
                outside = {x.var for x in new[: new.index(s)]}
                if not earlier <= outside or any(isinstance(x, If) for x in nodes[:n]):
                    raise self.edit.refused(
                        "K0310",
                        f"cannot prove `{self.edit.step.name}`: the bounds of `{s.var}` read memory",
                        s,
                        label="would be evaluated where the kernel does not",
                        help=f"keep `{s.var}` inside the loops and ifs that are around it now",
                    )

    def solved(self, old: Sequence[Loop], new: Sequence[Loop]) -> list[Loop]:
        """The loops in the new order with the bounds that run the same points."""
        from kdsl.analysis.nest import reordered_bounds

        bounds = reordered_bounds(
            [(s.var, s.lo, s.hi) for s in old], [s.var for s in new], self.edit.func.sizes
        )
        if bounds is None:
            raise self.edit.refused(
                "K0313",
                f"cannot {self.edit.step.name}: the bounds of the loops cannot be written in that order",
                self.outer,
                label=", ".join(f"`{header(s)}`" for s in old),
                help="use bounds that are sums of sizes and loop variables with constant factors",
            )
        return [replace(s, lo=lo, hi=hi) for s, (lo, hi) in zip(new, bounds)]

    # ------------------------------------------------------------ distribution

    def separated(
        self, nodes: Sequence[Node], pieces: Sequence[Body], around: Body
    ) -> tuple[Body, list[Body]]:
        """`pieces` of one body, to stand in a copy of `nodes` each: the locals that several use are
        expanded over the loops of `nodes`, and their allocations given apart.

        The allocations are to stand in the body `around`.
        """
        loops = [s for s in nodes if isinstance(s, Loop)]
        shared: list[Alloc] = []
        for n, piece in enumerate(pieces):
            for s in piece:
                if isinstance(s, Alloc) and any(s.name in buffers(p) for k, p in enumerate(pieces) if k != n):
                    shared.append(s)
        if not shared:
            return (), list(pieces)
        expanded = expansion(self.edit, loops, self.around(), shared[0].name)
        names = {s.name for s in shared}
        need_no_old_values(self.edit, self.outer, tuple(x for p in pieces for x in p), names)
        ids = {s.id for s in shared}
        kept = [expanded.apply(tuple(s for s in p if s.id not in ids), names) for p in pieces]
        # A copy elsewhere may have a local of this name: here it would meet the one that moves out.
        others = {s.name for s in stmts(around) if isinstance(s, Alloc) and s.id not in ids}
        renamed = fresh_names(self.func, sorted(names & others))
        return (
            tuple(expanded.alloc(s, renamed.get(s.name, s.name)) for s in shared),
            [renamed_buffers(p, renamed) for p in kept] if renamed else kept,
        )

    def around(self) -> tuple[Loop, ...]:
        """The loops around the nest."""
        return next((p.outer for p in places(self.func) if p.loop.id == self.outer.id), ())

    def distributed(self, nodes: Sequence[Node], pieces: Sequence[Body]) -> Body:
        """A copy of `nodes` around each of `pieces`; the first keeps the ids."""
        allocs, kept = self.separated(nodes, pieces, siblings(self.func, self.outer.id))
        out: list[Stmt] = list(allocs)
        for n, piece in enumerate(kept):
            if piece:
                out.extend(wrap(_fresh(nodes) if n else nodes, piece))
        return tuple(out)


def rearranged(edit: Edit, func: Func, root: Loop, last: Loop, order: Sequence[str], track: Track) -> Func:
    """`func` with the loops from `root` inwards to `last` in the given `order` of variables; not proved."""
    nest = Nest(edit, root, func)
    band = [s for s in nest.chain(root, last.id) if isinstance(s, Loop)]
    if [s.var for s in band] == list(order):
        return func
    if names_in(e for s in band for e in (s.lo, s.hi)) & {s.var for s in band}:
        # Bounds are solved for loops of step 1.
        func = counted(func, {s.id for s in band}, track)
        root = next(p.loop for p in places(func) if p.loop.id == root.id)
        nest = Nest(edit, root, func)
    return replaced(func, {root.id: nest.reordered(last.id, order)})


def _body(node: Node) -> Body:
    return node.body if isinstance(node, Loop) else node.then


def _fresh(nodes: Sequence[Node]) -> list[Node]:
    return [replace(s, id=fresh_id()) for s in nodes]
