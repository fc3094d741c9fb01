"""Questions of legality about schedules, answered exactly for affine programs over symbolic sizes.

`check_mark`: may a loop be parallel or a vector? `check_rewrite`: does a rewritten function run the same
instances, without reversing a dependence? Answers are kept by content.
"""

from __future__ import annotations

from kdsl.analysis.instances import instances
from kdsl.analysis.marks import MarkCheck, MarkQuestion
from kdsl.analysis.verdict import Origin as Origin
from kdsl.analysis.verdict import Unproved as Unproved
from kdsl.analysis.verdict import Verdict
from kdsl.analysis.verdict import Violation as Violation
from kdsl.ir.nodes import Func


def check_mark(func: Func, loop_id: int, kind: MarkQuestion, lanes: int | None = None) -> Verdict:
    """None when the loop with this id may get the mark.

    `lanes` (for "vectorize"): iterations in one chunk; without it the whole loop is one.
    """
    program = instances(func)
    return MarkCheck(program, program.loops[loop_id], kind, lanes).verdict()
