"""Questions of legality about schedules, answered exactly for affine programs over symbolic sizes.

`check_mark`: may a loop be parallel or a vector? `check_rewrite`: does a rewritten function run the same
instances, without reversing a dependence? Answers are kept by content.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping

from kdsl.analysis.instances import instances
from kdsl.analysis.marks import MarkCheck, MarkQuestion
from kdsl.analysis.rewrites import RewriteCheck
from kdsl.analysis.small import examined
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
        if loop is None:
            return None
        found = MarkCheck(program, loop, kind, lanes).verdict()
        return examined(found, program, lambda fixed: check_mark(fixed(func), loop_id, kind, lanes))

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
        found = RewriteCheck(delinearised(old), new, origins).verdict()
        return examined(found, old, lambda fixed: check_rewrite(fixed(before), fixed(after), origins))

    places = {s.id: n for n, s in enumerate(stmts(before.body))}
    made = [origins.get(s.id, Origin(s.id, ())) for s in stmts(after.body)]
    sources = tuple([(places.get(o.stmt), o.iters) for o in made])
    return _once(("rewrite", print_func(before), before.loc, print_func(after), sources), answer)


def _once(key: Hashable, answer: Callable[[], Verdict]) -> Verdict:
    if key not in _answers:
        if len(_answers) >= KEPT:
            del _answers[next(iter(_answers))]
        _answers[key] = answer()
    return _answers[key]
