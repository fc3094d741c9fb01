"""Questions of legality about schedules, answered exactly for affine programs over symbolic sizes.

`check_mark`: may a loop be parallel or a vector? `check_rewrite`: does a rewritten function run the same
instances, without reversing a dependence? Answers are kept by content.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping

from kdsl.analysis.inlining import InlineCheck
from kdsl.analysis.instances import instances
from kdsl.analysis.marks import MarkCheck, MarkQuestion
from kdsl.analysis.moving import MoveCheck
from kdsl.analysis.recompute import Production as Production
from kdsl.analysis.recompute import RecomputeCheck
from kdsl.analysis.rewrites import RewriteCheck
from kdsl.analysis.strides import delinearised
from kdsl.analysis.verdict import Origin as Origin
from kdsl.analysis.verdict import Unproved as Unproved
from kdsl.analysis.verdict import Verdict as Verdict
from kdsl.analysis.verdict import Violation as Violation
from kdsl.ir.nodes import Func
from kdsl.ir.printer import print_func
from kdsl.ir.walk import stmts

KEPT = 4096
"""Answers kept; the oldest go first."""

_answers: dict[Hashable, Verdict] = {}


def check_mark(func: Func, loop_id: int, kind: MarkQuestion, lanes: int | None = None) -> Verdict:
    """None when the loop with this id may get the mark.

    `lanes` (for "vectorize"): iterations in one chunk; without it the whole loop is one.
    """

    def answer() -> Verdict:
        program = delinearised(instances(func))
        # A loop behind a `return` or `break` never runs.
        loop = program.loops.get(loop_id)
        return None if loop is None else MarkCheck(program, loop, kind, lanes).verdict()

    at = [s.id for s in stmts(func.body)].index(loop_id)
    return _once(("mark", print_func(func), func.loc, at, kind, lanes), answer)


def check_rewrite(before: Func, after: Func, origins: Mapping[int, Origin]) -> Verdict:
    """None when `after` runs the instances of `before`, each once, and reverses no dependence.

    `origins` says for each statement of `after` (by id) whose instances it runs; one that is not listed has
    kept its id and the variables of its loops. Conditions of `after` are taken to hold.
    """

    def answer() -> Verdict:
        old = instances(before, assumed=after.conditions)
        new = instances(after, old.values)
        return RewriteCheck(delinearised(old), new, origins).verdict()

    places = {s.id: n for n, s in enumerate(stmts(before.body))}
    made = [origins.get(s.id, Origin(s.id, ())) for s in stmts(after.body)]
    sources = tuple([(places.get(o.stmt), o.iters) for o in made])
    return _once(("rewrite", print_func(before), before.loc, print_func(after), sources), answer)


def check_move(
    before: Func,
    after: Func,
    origins: Mapping[int, Origin],
    production: Production,
    copies: Mapping[int, frozenset[int]],
) -> Verdict:
    """None when `after` computes the same: in it, copies of what produces a local run at the top of loops.

    `copies` lists them (by id) for each loop, `origins` says of which instances they are copies.
    """

    def answer() -> Verdict:
        old = instances(before)
        new = instances(after, old.values)
        return MoveCheck(RecomputeCheck(old, production), new, origins, copies).verdict()

    places = {s.id: n for n, s in enumerate(stmts(before.body))}
    sources = tuple([places.get(origins[s.id].stmt) if s.id in origins else None for s in stmts(after.body)])
    key = print_func(before), before.loc, print_func(after), sources, places[production.alloc.id]
    return _once(("move", *key), answer)


def check_inline(
    func: Func, production: Production, exclusive: frozenset[tuple[int, int]]
) -> tuple[Verdict, dict[int, list[tuple[int, ...]]]]:
    """None when reads of a local may be replaced by what the group's stores write there.

    Also, for each statement and each of its reads, in the order of evaluation, the stores that may have
    written what it reads: the last first. Of two that are `exclusive` only one writes an element.
    """
    check = InlineCheck(RecomputeCheck(instances(func), production), exclusive)
    return check.verdict(), check.sources


def _once(key: Hashable, answer: Callable[[], Verdict]) -> Verdict:
    if key not in _answers:
        if len(_answers) >= KEPT:
            del _answers[next(iter(_answers))]
        _answers[key] = answer()
    return _answers[key]
