"""Asking the dependence analysis, and its answers as errors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from kdsl.analysis.instruction import Binding, layout_difference, match
from kdsl.analysis.linear import extent
from kdsl.analysis.roles import Difference
from kdsl.analysis.verdict import Origin, Unproved, Violation
from kdsl.errors import ScheduleError
from kdsl.ir.nodes import Accumulate, Alloc, Func, Instruction, Loop, Mark
from kdsl.ir.walk import stmts
from kdsl.sched.rewriting.arith import names_in, var
from kdsl.sched.rewriting.tree import Track, contains, is_leaf, places
from kdsl.source import Loc

if TYPE_CHECKING:
    from kdsl.sched.edit import Edit

_MARKED = {"parallel": "parallel", "vectorize": "a vector loop", "bind": "run by many invocations"}


def origins(before: Func, after: Func, track: Track) -> dict[int, Origin]:
    """For each leaf statement of `after` the instances of `before` that it is."""
    around: dict[int, tuple[str, ...]] = {s.id: () for s in before.body}
    for p in places(before):
        names = (*[s.var for s in p.outer], p.loop.var)
        for s in stmts(p.loop.body):
            around[s.id] = names
    out = {}
    for s in stmts(after.body):
        if is_leaf(s):
            source = track.source.get(s.id, s.id)
            values = track.values.get(s.id, {})
            names = around.get(source, ())
            out[s.id] = Origin(source, tuple((name, values.get(name, var(name))) for name in names))
    return out


def order_refusal(
    edit: Edit,
    before: Func,
    after: Func,
    track: Track,
    loop: Loop,
    help: str,
    *,
    code: str = "K0320",
    title: str = "",
) -> ScheduleError | None:
    """None when `after` keeps every dependence of `before`; `help` is the way out of a violation, `code` and
    `title` what it is called."""
    from kdsl.analysis.dependence import check_rewrite

    verdict = check_rewrite(before, after, origins(before, after, track))
    if verdict is None:
        return None
    name = edit.step.name
    if isinstance(verdict, Unproved):
        return _unproved(edit, f"cannot prove that `{name}` keeps the meaning", verdict, loop)
    return edit.refused(
        code,
        title or f"cannot {name} here: it would reverse a dependence",
        loop,
        label=verdict.text,
        notes=_lines(verdict, loop.loc),
        help=help or "keep this order, or pass unsafe=True if your data rules the dependence out",
    )


def delayed_refusal(
    edit: Edit, func: Func, updates: Iterable[int], buffer: str, loop: Loop, help: str
) -> ScheduleError | None:
    """None when the updates of `buffer` by these statements (ids) may come behind `loop` of `func`; `help` is
    the way out of a violation."""
    from kdsl.analysis.dependence import check_delayed

    verdict = check_delayed(func, updates, loop.id)
    if verdict is None:
        return None
    if isinstance(verdict, Unproved):
        return _unproved(
            edit, f"cannot prove that nothing needs `{buffer}` before it is complete", verdict, loop
        )
    return edit.refused(
        "K0331",
        f"cannot make partial results of `{buffer}`: its value is needed before it is complete",
        loop,
        label=verdict.text,
        notes=_lines(verdict, loop.loc),
        help=help,
    )


def initialised_refusal(
    edit: Edit, func: Func, local: Alloc, update: int, loop: Loop
) -> ScheduleError | None:
    """None when each cell of the local that the statement `update` of `func` works on has a value by then."""
    from kdsl.analysis.dependence import check_initialised

    verdict = check_initialised(func, local, update)
    if verdict is None:
        return None
    assert isinstance(verdict, Unproved)
    reason = f"not proved that all of `{local.name}` that is combined was set before"
    return _unproved(
        edit,
        f"cannot make partial results of `{local.name}`: some of it may have no value",
        replace(verdict, reason=reason, loc=None, help=f"set all of `{local.name}` in the kernel first"),
        loop,
    )


def private_refusal(edit: Edit, func: Func, local: Alloc, loop: Loop) -> ScheduleError | None:
    """None when each iteration of `loop`, a loop of `func`, may have a copy of the local."""
    from kdsl.analysis.dependence import check_private

    verdict = check_private(func, local, loop.id)
    if verdict is None:
        return None
    title = f"each iteration of `{loop.var}` a copy of `{local.name}`"
    if isinstance(verdict, Unproved):
        return _unproved(edit, f"cannot prove that {title} would do", verdict, loop)
    return edit.refused(
        "K0333",
        f"cannot give {title}: a value would get lost",
        loop,
        label=verdict.text,
        notes=_lines(verdict, loop.loc),
        help="take a loop further in, or write the value in each iteration before it is read"
        if loop.var in verdict.second_iter
        else "keep what is read later in another variable in the kernel",
    )


def recompute_refusal(
    edit: Edit, name: str, verdict: Unproved | Violation, loop: Loop | None, title: str
) -> ScheduleError:
    """The verdict as an error."""
    if isinstance(verdict, Unproved):
        return edit.refused(
            "K0310",
            f"cannot prove `{edit.step.name}` of `{name}`",
            loop,
            loc=verdict.loc,
            label=verdict.reason,
            help="pass unsafe=True if you know that it is right for your data"
            if verdict.help.startswith("unsafe") or not verdict.help
            else verdict.help,
        )
    code, why, way = _RECOMPUTE[verdict.kind]
    notes = [(loop.loc, "this loop")] if loop is not None and loop.loc and loop.loc != verdict.first else []
    if verdict.second is not None and verdict.second != verdict.first:
        notes.insert(0, (verdict.second, at(verdict.second_iter)))
    return edit.refused(
        code,
        f"{title}: {why}",
        loop,
        loc=verdict.first,
        label=verdict.text,
        notes=notes,
        help=way.format(name=name),
    )


def mark_refusal(edit: Edit, after: Func, loop: Loop, mark: Mark) -> ScheduleError | None:
    """None when `loop`, a loop of `after`, can be lowered as `mark` says."""
    from kdsl.analysis.dependence import check_mark

    kind = mark.kind
    assert kind != "unroll"
    if kind == "tensorize":
        return _instruction_refusal(edit, after, loop, mark)
    verdict = check_mark(after, loop.id, kind, extent(loop) if kind == "vectorize" else None)
    if verdict is None:
        return None
    what = _MARKED[kind]
    if isinstance(verdict, Unproved):
        return _unproved(edit, f"cannot prove that the loop `{loop.var}` may be {what}", verdict, loop)
    return edit.refused(
        "K0312",
        f"cannot make the loop `{loop.var}` {what}: its iterations depend on each other",
        loop,
        label=verdict.text,
        notes=_lines(verdict, loop.loc),
        help=_way_out(after, loop, kind, verdict),
    )


def _instruction_refusal(edit: Edit, after: Func, loop: Loop, mark: Mark) -> ScheduleError | None:
    """None when `loop` is what the instruction of `mark` computes."""
    assert mark.instruction is not None
    meaning = mark.instruction.meaning
    found = match(loop, meaning, after.options.may_alias)
    if isinstance(found, Binding):
        place = next(p for p in places(after) if p.loop.id == loop.id)
        apart = layout_difference(after, place.above, found, meaning)
        if apart is None:
            return None
        found = apart
    return edit.refused(
        "K0353",
        f"the loop `{loop.var}` would no longer be the instruction `{mark.instruction.name}`",
        loop,
        loc=found.loc,
        label=found.text,
        notes=difference_notes(found, mark.instruction),
        help=f"put this step before the one that tensorizes `{loop.var}`",
    )


def difference_notes(found: Difference, instruction: Instruction) -> list[tuple[Loc, str]]:
    """The line of the meaning."""
    return [] if found.meant is None else [(found.meant, f"`{instruction.name}` has this")]


def _unproved(edit: Edit, title: str, verdict: Unproved, loop: Loop) -> ScheduleError:
    way = verdict.help or "pass unsafe=True if you know that it does, for your data"
    return edit.refused("K0310", title, loop, loc=verdict.loc, label=verdict.reason, help=way)


def _lines(verdict: Violation, shown: Loc | None) -> list[tuple[Loc, str]]:
    """The source lines of the two instances."""
    out: list[tuple[Loc, str]] = []
    seen = {shown}
    for loc, label in ((verdict.first, at(verdict.first_iter)), (verdict.second, at(verdict.second_iter))):
        if loc is not None and loc not in seen:
            seen.add(loc)
            out.append((loc, label))
    return out


def at(iteration: dict[str, int]) -> str:
    return "at " + ", ".join(f"{k}={v}" for k, v in iteration.items()) if iteration else ""


def _way_out(func: Func, loop: Loop, kind: str, verdict: Violation) -> str:
    """What makes the iterations independent; else another loop of the nest for which the proof succeeds; else
    what to do to this one."""
    from kdsl.analysis.dependence import check_mark, check_private

    for s in stmts(func.body):
        made_outside = isinstance(s, Alloc) and s.name == verdict.buffer and not contains(loop, s.id)
        if isinstance(s, Alloc) and made_outside and check_private(func, s, loop.id) is None:
            return f'give each iteration a copy first: s.privatize("{s.name}", "{loop.var}")'
    ways = []
    around = next(p for p in places(func) if p.loop.id == loop.id)
    inside = [s for s in stmts(loop.body) if isinstance(s, Loop)]
    free = [other for other in (*around.outer, *inside) if other.mark is None and kind != "vectorize"]
    for other in free:
        if check_mark(func, other.id, "parallel", None) is None:
            call = f's.parallel("{other.var}")' if kind == "parallel" else f's.bind("{other.var}", ...)'
            ways.append(f"take the loop `{other.var}`: {call}")
            break
    if kind != "vectorize" and not func.options.strict and _reduces(loop, verdict):
        few = extent(loop) is not None
        name = loop.var if few else f"{loop.var}_o"
        step = f's.rfactor("{name}")' if few else f's.split("{loop.var}", 1024).rfactor("{name}")'
        ways.append(f"make partial results first: {step}")
    if kind == "vectorize" and func.options.strict and _reduces(loop, verdict):
        return "leave out strict=True: a strict kernel keeps the order of its float terms"
    otherwise = "reorder or split the loops so that one without a dependence comes here, or pass unsafe=True"
    return ", or ".join(ways) or otherwise


def _reduces(loop: Loop, verdict: Violation) -> bool:
    """True when updates of a target that stays the same are what depends on each other."""
    updates = [s for s in stmts(loop.body) if isinstance(s, Accumulate) and s.buffer == verdict.buffer]
    return any(s.loc == verdict.first for s in updates) and loop.var not in names_in(
        e for s in updates for e in s.index
    )


_RECOMPUTE = {
    "feeds": (
        "K0335",
        "its elements are made of each other",
        "keep `{name}` as it is: a recurrence runs in order",
    ),
    "changed": (
        "K0336",
        "what it is made of changes in between",
        "write the result to another array, or keep `{name}` as it is",
    ),
    "unwritten": (
        "K0337",
        "an element that is read is never produced",
        "produce all elements that are read, or read fewer",
    ),
    "elsewhere": (
        "K0337",
        "an element that is read comes from another iteration",
        "cut the loop between producing and reading `{name}`, s.fission(...)",
    ),
    "twice": (
        "K0339",
        "an element is produced more than once",
        "use compute_at, which keeps all that produces `{name}`",
    ),
}
"""For each kind of violation the code, the reason and the way out."""
