"""Questions of legality about schedules, answered exactly for affine programs over symbolic sizes.

`check_mark`: may a loop be parallel or a vector? `check_rewrite`: does a rewritten function run the same
instances, without reversing a dependence? `check_private`: may each iteration have a copy of a local?
`check_delayed`: may updates come behind a loop? Answers are kept by content: in memory, and where `answers`
says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from kdsl.analysis.answers import Question
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
from kdsl.analysis.slices import rewritten, sliced
from kdsl.analysis.small import examined
from kdsl.analysis.strides import delinearised
from kdsl.analysis.verdict import Origin as Origin
from kdsl.analysis.verdict import Unproved as Unproved
from kdsl.analysis.verdict import Verdict as Verdict
from kdsl.analysis.verdict import Violation as Violation
from kdsl.analysis.verdict import from_json, to_json
from kdsl.ir.nodes import Alloc, Body, Func, Loop
from kdsl.ir.places import Places
from kdsl.ir.printer import print_func
from kdsl.ir.walk import map_stmt, stmts

KEPT = 4096
"""Answers kept; the oldest go first."""

T = TypeVar("T")
_answers: dict[tuple[str, ...], Verdict] = {}

_programs: list[tuple[Func, Program]] = []
_bares: list[tuple[Func, Func]] = []
_texts: list[tuple[Func, str]] = []
"""The latest ones: there are several questions about one function."""


def check_mark(func: Func, loop_id: int, kind: MarkQuestion, lanes: int | None = None) -> Verdict:
    """None when the loop with this id may get the mark.

    `lanes` (for "vectorize"): iterations in one chunk; without it the whole loop is one.
    """

    # How other loops are to be lowered makes no difference, nor does most of what stands elsewhere.
    bare = _bare(sliced(func, loop_id))

    def answer() -> Verdict:
        program = _program(bare).fork()
        # A loop behind a `return` or `break` never runs.
        loop = program.loops.get(loop_id)
        if loop is None:
            return None
        found = MarkCheck(program, loop, kind, lanes).verdict()
        return examined(found, program, lambda fixed: check_mark(fixed(bare), loop_id, kind, lanes))

    return _once("mark", f"{_at(bare, loop_id)} {kind} {lanes}", (bare,), answer)


def check_rewrite(before: Func, after: Func, origins: Mapping[int, Origin]) -> Verdict:
    """None when `after` runs the instances of `before`, each once, and reverses no dependence.

    `origins` says for each statement of `after` (by id) whose instances it runs; one that is not listed has
    kept its id and the variables of its loops. Conditions of `after` are taken to hold.
    """
    part = rewritten(before, after, origins)
    if part is not None:
        found = _rewrite(part.before, part.after, origins, part.outside)
        if not isinstance(found, Unproved):
            return found
    return _rewrite(before, after, origins, frozenset())


def _rewrite(before: Func, after: Func, origins: Mapping[int, Origin], outside: frozenset[str]) -> Verdict:
    """`check_rewrite`; in programs that are not whole, locals `outside` are used by others too."""

    def answer() -> Verdict:
        old = instances(before, assumed=after.conditions)
        new = instances(after, old.values)
        found = RewriteCheck(delinearised(old), new, origins, outside).verdict()
        if outside:
            return found
        return examined(found, old, lambda fixed: check_rewrite(fixed(before), fixed(after), origins))

    places = {s.id: n for n, s in enumerate(stmts(before.body))}
    made = [origins.get(s.id, Origin(s.id, ())) for s in stmts(after.body)]
    sources = [(places.get(o.stmt), o.iters) for o in made]
    kept = sorted([places[s.id] for s in stmts(before.body) if f"{getattr(s, 'name', '')}@{s.id}" in outside])
    return _once("rewrite", f"{sources} {kept}", (before, after), answer)


def check_private(func: Func, alloc: Alloc, loop_id: int) -> Verdict:
    """None when each iteration of the loop with this id may have a copy of the local that `alloc` makes:
    it reads only what it wrote itself, and nothing reads that after the loop."""

    def answer() -> Verdict:
        program = _program(func)
        loop = program.loops.get(loop_id)
        return None if loop is None else Flow(program, f"{alloc.name}@{alloc.id}").private(loop)

    return _once("private", f"{_at(func, alloc.id)} {_at(func, loop_id)}", (func,), answer)


def check_initialised(func: Func, alloc: Alloc, stmt_id: int) -> Verdict:
    """None when the cells of the local that the statement with this id updates have a value by then."""

    def answer() -> Verdict:
        return Flow(_program(func), f"{alloc.name}@{alloc.id}").initialised(stmt_id)

    return _once("initialised", f"{_at(func, alloc.id)} {_at(func, stmt_id)}", (func,), answer)


def check_delayed(func: Func, updates: Iterable[int], loop_id: int) -> Verdict:
    """None when the updates by these statements (ids), all by one operator and of one buffer, may come behind
    the loop with this id, in which they stand."""
    ids = frozenset(updates)

    def answer() -> Verdict:
        program = _program(func)
        loop = program.loops.get(loop_id)
        return None if loop is None else PartialCheck(program, ids).delayed(loop)

    places = sorted([_at(func, i) for i in ids])
    return _once("delayed", f"{places} {_at(func, loop_id)}", (func,), answer)


def share_cells(func: Func, updates: Iterable[int], loop_id: int) -> bool:
    """False when it is proved that no two iterations of the loop meet in a cell by these updates (ids)."""
    ids = frozenset(updates)
    places = sorted([_at(func, i) for i in ids])
    question = Question("shared", print_func(func), f"{places} {_at(func, loop_id)}")
    known = question.recall()
    if known is None:
        program = _program(func)
        loop = program.loops.get(loop_id)
        known = [loop is None or PartialCheck(program, ids).shared(loop)]
        question.keep(known)
    return bool(known[0])


def _program(func: Func) -> Program:
    """The instances of `func`; several questions about one function share them."""
    return _latest(_programs, func, lambda: delinearised(instances(func)))


def _bare(func: Func) -> Func:
    """`func` without marks; statements keep their ids."""

    def bare(body: Body) -> Body:
        out = [map_stmt(s, lambda e: e, bare) for s in body]
        out = [replace(s, mark=None) if isinstance(s, Loop) and s.mark is not None else s for s in out]
        return body if all(a is b for a, b in zip(body, out)) else tuple(out)

    return _latest(_bares, func, lambda: replace(func, body=bare(func.body)))


def _text(func: Func) -> str:
    return _latest(_texts, func, lambda: print_func(func))


def _latest(kept: list[tuple[Func, T]], func: Func, make: Callable[[], T]) -> T:
    """What was made of `func`, if it is one of the latest two."""
    for known, found in kept[:]:
        if known is func:
            return found
    made = make()
    kept[:] = [*kept[-1:], (func, made)]
    return made


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

    places, there = _places(before), _places(after)
    sources = [
        (places.get(origins[s.id].stmt), origins[s.id].iters) if s.id in origins else None
        for s in stmts(after.body)
    ]
    made = sorted((there.get(loop, -1), sorted(there[i] for i in ids)) for loop, ids in copies.items())
    details = f"{sources} {_spelled(production, places)} {made}"
    return _once("move", details, (before, after), answer)


def check_inline(
    func: Func, production: Production, exclusive: frozenset[tuple[int, int]]
) -> tuple[Verdict, dict[int, list[tuple[int, ...]]]]:
    """None when reads of a local may be replaced by what the group's stores write there.

    Also, for each statement and each of its reads, in the order of evaluation, the stores that may have
    written what it reads: the last first. Of two that are `exclusive` only one writes an element.
    """
    ids = [s.id for s in stmts(func.body)]
    places = _places(func)
    apart = sorted((places[x], places[y]) for x, y in exclusive)
    question = Question("inline", print_func(func), f"{_spelled(production, places)} {apart}")
    known = question.recall()
    if known is not None:
        return None, {ids[at]: [tuple([ids[n] for n in read]) for read in reads] for at, reads in known}
    check = InlineCheck(RecomputeCheck(instances(func), production), exclusive)
    verdict, sources = check.verdict(), check.sources
    if verdict is None:
        question.keep(
            [[places[i], [[places[n] for n in read] for read in reads]] for i, reads in sources.items()]
        )
    return verdict, sources


def _places(func: Func) -> dict[int, int]:
    """The number of each statement, by id."""
    return {s.id: n for n, s in enumerate(stmts(func.body))}


def _spelled(production: Production, places: Mapping[int, int]) -> str:
    """A production without ids."""
    position = sorted((places[i], at) for i, at in production.position.items())
    group = sorted(places[i] for i in production.group)
    return f"{places[production.alloc.id]} {production.depth} {position} {group} {production.private}"


def _once(kind: str, details: str, funcs: tuple[Func, ...], answer: Callable[[], Verdict]) -> Verdict:
    """The answer to a question about `funcs`."""
    parts = *[_text(f) for f in funcs], details
    key = kind, *parts, *[repr(f.loc) for f in funcs]
    if key in _answers:
        return _answers[key]
    if len(_answers) >= KEPT:
        del _answers[next(iter(_answers))]
    proof = Question(kind, *parts)
    if proof.recall() is not None:
        _answers[key] = None
        return None
    # A refusal speaks of lines: those of this source.
    locs = [loc for f in funcs for loc in Places.of(f).locs]
    refusal = Question(kind, *parts, repr([(loc.line, loc.col) for loc in locs]))
    known = refusal.recall()
    if known is not None:
        _answers[key] = from_json(known, locs)
        return _answers[key]
    verdict = _answers[key] = answer()
    if verdict is None:
        proof.keep(True)
    elif (data := to_json(verdict, locs)) is not None:
        refusal.keep(data)
    return verdict
