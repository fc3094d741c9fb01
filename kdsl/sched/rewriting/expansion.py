"""Locals with an element for each iteration of loops: what `reorder`, `fission` and `expand` share.

for i in range(3, N):           t: f32[N - 3]
    t: f32                      for i in range(3, N):
    t = A[i]            ->          t[i - 3] = A[i]
    B[i] = t * t                    B[i] = t[i - 3] * t[i - 3]
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from kdsl.analysis.linear import difference, faultless
from kdsl.analysis.regions import Atoms, operands, upper_bounds
from kdsl.dtypes import i64
from kdsl.ir.nodes import Alloc, Atomic, Body, Const, Expr, Loop
from kdsl.ir.walk import stmts, substitute
from kdsl.sched.edit import Edit
from kdsl.sched.rewriting.arith import add, from_linear, names_in, sub, var
from kdsl.sched.rewriting.tree import indexed


@dataclass(frozen=True, slots=True)
class Expansion:
    """The leading subscripts of locals, one for each of some loops, and the extents that go with them."""

    prefix: tuple[Expr, ...]
    shape: tuple[Expr, ...]

    def apply(self, body: Body, names: Iterable[str]) -> Body:
        """`body` with the subscripts put before those of the locals `names`."""
        return indexed(body, dict.fromkeys(names, self.prefix))

    def alloc(self, old: Alloc, name: str) -> Alloc:
        """The allocation outside of the loops."""
        return replace(old, name=name, shape=(*self.shape, *old.shape))


def expansion(edit: Edit, loops: Sequence[Loop], around: Sequence[Loop], name: str) -> Expansion:
    """For locals like `name` over `loops`, which stand inside each other and inside the loops `around`."""
    prefix: list[Expr] = []
    shape: list[Expr] = []
    for n, loop in enumerate(loops):
        start, count = span(edit, loop, (*around, *loops[:n]), name)
        prefix.append(sub(var(loop.var), start))
        shape.append(count)
    return Expansion(tuple(prefix), tuple(shape))


def span(edit: Edit, loop: Loop, around: Sequence[Loop], name: str) -> tuple[Expr, Expr]:
    """A start and a number of elements, known from sizes alone, that cover the values of the loop's variable.
    `around`: loops over whose iterations the number may be bounded; `name`: what needs the elements."""
    sizes = set(edit.func.sizes)
    found: list[tuple[Expr, Expr]] = []
    first, end = loop.lo, loop.hi
    if isinstance(loop.step, Const) and loop.step.value < 0:
        first, end = add(loop.hi, 1), add(loop.lo, 1)
    for hi in operands(end, "min"):
        for lo in operands(first, "max"):
            gap = difference(hi, lo)
            if gap is not None:
                return lo, Const(max(gap, 0), i64)
            count = sub(hi, lo)
            if not faultless(count):
                continue
            if names_in((count,)) <= sizes:
                found.insert(0, (lo, count))
                continue
            atoms = Atoms()
            for bound in upper_bounds(count, around, atoms, sizes):
                found.append((lo, substitute(from_linear(bound), dict(atoms.exprs))))
    if not found:
        raise edit.refused(
            "K0314",
            f"cannot {edit.step.name}: `{name}` needs an element for each `{loop.var}`",
            loop,
            label="their number is not known from the sizes",
            help=f'split `{loop.var}` first and move its inner loop: s.split("{loop.var}", 64)',
        )
    return found[0]


def need_no_old_values(edit: Edit, loop: Loop, body: Body, names: set[str]) -> None:
    """Refuses locals that receive the old value of an atomic update: these are scalars."""
    for s in stmts(body):
        if isinstance(s, Atomic) and s.old in names:
            raise edit.refused(
                "K0308",
                f"cannot {edit.step.name}: `{s.old}` receives the old value of an atomic update",
                loop,
                loc=s.loc,
                help=f"copy `{s.old}` into another variable in the kernel",
            )
