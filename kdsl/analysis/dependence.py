"""Questions of legality about schedules, answered exactly for affine programs over symbolic sizes.

`check_mark`: may a loop be parallel or a vector? `check_rewrite`: does a rewritten function run the same
instances, without reversing a dependence? `check_private`: may each iteration have a copy of a local?
`check_delayed`: may updates come behind a loop? Answers are kept by content.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping

from kdsl.analysis.flow import Flow
from kdsl.analysis.inlining import InlineCheck
from kdsl.analysis.instances import instances
from kdsl.analysis.marks import MarkCheck, MarkQuestion
from kdsl.analysis.moving import MoveCheck
from kdsl.analysis.partials import PartialCheck
from kdsl.analysis.program import Program
from kdsl.analysis.recompute import Production as Production
from kdsl.analysis.recompute import RecomputeCheck
from kdsl.analysis.rewrites import RewriteCheck
from kdsl.analysis.small import examined
from kdsl.analysis.strides import delinearised
from kdsl.analysis.verdict import Origin as Origin
from kdsl.analysis.verdict import Unproved as Unproved
from kdsl.analysis.verdict import Verdict as Verdict
from kdsl.analysis.verdict import Violation as Violation
from kdsl.ir.nodes import Alloc, Func
from kdsl.ir.printer import print_func
from kdsl.ir.walk import stmts

KEPT = 4096
"""Answers kept; the oldest go first."""

_answers: dict[Hashable, Verdict] = {}

_programs: list[tuple[Func, Program]] = []


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


def check_private(func: Func, alloc: Alloc, loop_id: int) -> Verdict:
    """None when each iteration of the loop with this id may have a copy of the local that `alloc` makes:
    it reads only what it wrote itself, and nothing reads that after the loop."""

    def answer() -> Verdict:
        program = _program(func)
        loop = program.loops.get(loop_id)
        return None if loop is None else Flow(program, f"{alloc.name}@{alloc.id}").private(loop)

    return _once(("private", print_func(func), func.loc, _at(func, alloc.id), _at(func, loop_id)), answer)


def check_initialised(func: Func, alloc: Alloc, stmt_id: int) -> Verdict:
    """None when the cells of the local that the statement with this id updates have a value by then."""

    def answer() -> Verdict:
        return Flow(_program(func), f"{alloc.name}@{alloc.id}").initialised(stmt_id)

    return _once(("initialised", print_func(func), func.loc, _at(func, alloc.id), _at(func, stmt_id)), answer)


def check_delayed(func: Func, updates: Iterable[int], loop_id: int) -> Verdict:
    """None when the updates by these statements (ids), all by one operator and of one buffer, may come behind
    the loop with this id, in which they stand."""
    ids = frozenset(updates)

    def answer() -> Verdict:
        program = _program(func)
        loop = program.loops.get(loop_id)
        return None if loop is None else PartialCheck(program, ids).delayed(loop)

    places = sorted([_at(func, i) for i in ids])
    return _once(("delayed", print_func(func), func.loc, *places, _at(func, loop_id)), answer)


def share_cells(func: Func, updates: Iterable[int], loop_id: int) -> bool:
    """False when it is proved that no two iterations of the loop meet in a cell by these updates (ids)."""
    program = _program(func)
    loop = program.loops.get(loop_id)
    return loop is None or PartialCheck(program, frozenset(updates)).shared(loop)


def _program(func: Func) -> Program:
    """The instances of `func`; several questions about one function share them."""
    for known, program in _programs:
        if known is func:
            return program
    program = delinearised(instances(func))
    _programs[:] = [*_programs[-1:], (func, program)]
    return program


def _at(func: Func, wanted: int) -> int:
    return [s.id for s in stmts(func.body)].index(wanted)


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
