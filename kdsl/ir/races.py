"""Races, found while the interpreter runs: iterations, or lanes, that meet in one element.

Iterations run in program order; what each touches is noted and compared with what may run at the same time:

    for i in parallel(range(4)):         i=0 writes S[0], i=1 writes S[0]: nothing orders the two
        S[0] = A[i]
    for i in vectorize(range(4)):        i=0 reads A[1], i=1 writes A[1]: all lanes load before any stores
        A[i] = A[i + 1]                  (the other way round it would be a conflict)

For a parallel loop one reader, one writer and one atomic update a cell are enough to find whether there is a
race (as in SP-bags: Feng and Leiserson, "Efficient detection of determinacy races in Cilk programs", 1997).
Lanes run in lockstep: time is the place in the body and the number of each inner iteration, loads before
stores. Only buffers that live outside of the loop are watched; functions without such loops cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from kdsl.dtypes import DType
from kdsl.errors import KdslError
from kdsl.ir.nodes import (
    Accumulate,
    Alloc,
    Atomic,
    Body,
    Break,
    Continue,
    Expr,
    Let,
    Load,
    Loop,
    Return,
    Stmt,
    Store,
    Var,
    While,
)
from kdsl.ir.walk import stmt_bodies, stmt_exprs, stmts, subexprs
from kdsl.source import Loc

Touch = Literal["read", "write", "update", "atomic"]
Time = tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """A place in the program that touches a buffer.

    `op` belongs to updates; `shared`: they name one cell in all lanes, so that the vector adds as a tree;
    `ordered`: their order matters (floats under `strict`).
    """

    buffer: str
    touch: Touch
    loc: Loc | None
    op: str = ""
    shared: bool = False
    ordered: bool = False

    def commutes(self, other: Site) -> bool:
        """Whether the two, from different lanes, may come in any order, if not at once."""
        if self.touch == other.touch == "update":
            return self.op == other.op and not self.ordered
        return self.touch == other.touch and self.touch in ("read", "atomic")


def concurrent(loop: Loop) -> bool:
    """Whether iterations of `loop` may run at the same time."""
    return loop.mark is not None and loop.mark.kind in ("parallel", "bind", "vectorize")


# ---------------------------------------------------------------- parallel loops


@dataclass(frozen=True, slots=True, eq=False)
class Turn:
    """One iteration, `at`, of one execution, `run`, of a parallel loop."""

    run: object
    loop: Loop
    at: int


Path = tuple[Turn, ...]
"""The iterations of parallel loops around an event, outermost first."""

Event = tuple[Path, Site, tuple[int, ...]]


def apart(a: Path, b: Path) -> tuple[Turn, Turn] | None:
    """The iterations by which two events may run at the same time; None when one comes first."""
    for x, y in zip(a, b):
        if x is not y:
            return (x, y) if x.run is y.run else None
    return None


@dataclass(slots=True)
class Recorder:
    """What the iterations of the parallel loops that run now have touched."""

    path: Path = ()
    cells: dict[Hashable, dict[str, Event]] = field(default_factory=dict)
    locals: int = 0

    def touch(self, key: Hashable, site: Site, cell: tuple[int, ...]) -> None:
        """Notes that `site` touches the cell with this key now; KdslError when that is a race."""
        path, touch = self.path, site.touch
        kind = "write" if touch == "update" else touch
        seen = self.cells.setdefault(key, {})
        for other, (then, first, at) in seen.items():
            if then is path or (other == kind and kind != "write"):
                continue
            turns = apart(then, path)
            if turns is not None:
                raise race(*turns, first, at, site, cell)
        old = seen.get(kind)
        if old is None or kind == "write" or apart(old[0], path) is None:
            seen[kind] = path, site, cell


# ------------------------------------------------------------------ vector loops


@dataclass(slots=True)
class Latest:
    """The latest time at which a site touched a cell: in the present lane, and in the lanes before it.

    `updates` has every time at which a site updated it, with the lane.
    """

    lane: int
    time: Time
    cell: tuple[int, ...]
    before: tuple[int, Time, tuple[int, ...]] | None = None
    updates: dict[Time, int] = field(default_factory=dict)


@dataclass(slots=True)
class Lanes:
    """One execution of a vector loop: `lane` runs now."""

    loop: Loop
    lane: int = 0
    cells: dict[Hashable, dict[Site, Latest]] = field(default_factory=dict)

    def touch(self, key: Hashable, site: Site, cell: tuple[int, ...], time: Time) -> None:
        """Notes that `site` touches the cell at `time`; KdslError when a lane before comes too late."""
        seen, lane = self.cells.setdefault(key, {}), self.lane
        for other, latest in seen.items():
            if latest.lane != lane:
                # A lane that is done: the later of its time and that of the lanes before it.
                if latest.before is None or latest.time >= latest.before[1]:
                    latest.before = latest.lane, latest.time, latest.cell
                latest.lane, latest.time = lane, ()
            if latest.before is not None and latest.before[1] >= time and not site.commutes(other):
                raise conflict(self.loop, latest.before[0], other, latest.before[2], lane, site, cell)
        mine = seen.get(site)
        if mine is None:
            mine = seen[site] = Latest(lane, time, cell)
        elif time >= mine.time:
            mine.time, mine.cell = time, cell
        if site.touch == "update" and not site.shared and mine.updates.setdefault(time, lane) != lane:
            raise conflict(self.loop, mine.updates[time], site, cell, lane, site, cell)


def varying(loop: Loop) -> frozenset[str]:
    """The variables and buffers whose value may differ between the lanes of a vector loop."""
    names = {loop.var}
    # How often lanes have parted where a buffer is made: lanes that run together there share its history.
    made: dict[str, int] = {}

    def varies(exprs: Iterable[Expr]) -> bool:
        found = False
        for e in exprs:
            for x in subexprs(e):
                if isinstance(x, Let) and x.name not in names and varies((x.value,)):
                    names.add(x.name)
                found = found or (isinstance(x, Var) and x.name in names)
                found = found or (isinstance(x, Load) and x.buffer in names)
        return found

    def visit(body: Body, parted: int) -> None:
        for s in body:
            own = varies(stmt_exprs(s))
            match s:
                case Alloc():
                    made[s.name] = parted
                case Store() | Accumulate() | Atomic():
                    if own or parted > made.get(s.buffer, -1):
                        names.add(s.buffer)
                    if isinstance(s, Atomic):
                        names.add(s.old)
                case Loop() if own:
                    names.add(s.var)
                case _:
                    pass
            leaves = isinstance(s, (Loop, While)) and any(map(is_exit, stmts(s.body)))
            for inner in stmt_bodies(s):
                visit(inner, parted + (own or leaves))

    known = 0
    while known != len(names):
        known = len(names)
        visit(loop.body, int(any(map(is_exit, stmts(loop.body)))))
    return frozenset(names)


def is_exit(s: Stmt) -> bool:
    """Whether `s` leaves an iteration."""
    return isinstance(s, (Break, Continue, Return))


# ------------------------------------------------------------------ what is watched


@dataclass(frozen=True, slots=True)
class Around:
    """A loop whose iterations run at once. A vector has its `Lanes` in `slot`, `inside` loops around it."""

    loop: Loop
    slot: int
    inside: int
    varying: frozenset[str]

    @property
    def lockstep(self) -> bool:
        return self.loop.mark is not None and self.loop.mark.kind == "vectorize"


Note = Callable[[list[Any], Hashable, tuple[int, ...]], None]
"""Called with the frame, the cell's key and the cell when a site touches it."""


@dataclass(slots=True)
class Watch:
    """Where the compiler of closures stands: the concurrent loops around, and the place in each body."""

    recorder: int
    around: list[Around] = field(default_factory=list)
    homes: dict[str, int] = field(default_factory=dict)
    # The places of the loops around, with the slots that count their iterations.
    places: list[tuple[int, int]] = field(default_factory=list)
    place: int = 0
    strict: bool = False

    def note(
        self,
        buffer: str,
        touch: Touch,
        loc: Loc | None,
        dtype: DType,
        op: str = "",
        index: tuple[Expr, ...] = (),
    ) -> Note | None:
        """What to call when this site is reached; None when only one iteration can see the buffer."""
        loops = self.around[self.homes.get(buffer, 0) :]
        if not loops:
            return None
        ordered = self.strict and dtype.is_float
        notes: list[Note] = []
        if not all(a.lockstep for a in loops):
            notes.append(self.note_parallel(Site(buffer, touch, loc, op)))
        for a in loops:
            if a.lockstep:
                differs = any(
                    (isinstance(x, Var) and x.name in a.varying)
                    or (isinstance(x, Load) and x.buffer in a.varying)
                    for e in index
                    for x in subexprs(e)
                )
                notes.append(self.note_lanes(a, Site(buffer, touch, loc, op, not differs, ordered)))
        if len(notes) == 1:
            return notes[0]

        def all_notes(f: list[Any], key: Hashable, cell: tuple[int, ...]) -> None:
            for one in notes:
                one(f, key, cell)

        return all_notes

    def note_parallel(self, site: Site) -> Note:
        slot = self.recorder

        def note(f: list[Any], key: Hashable, cell: tuple[int, ...]) -> None:
            f[slot].touch(key, site, cell)

        return note

    def note_lanes(self, around: Around, site: Site) -> Note:
        lanes, outer = around.slot, self.places[around.inside :]
        here = self.place, int(site.touch != "read")

        def note(f: list[Any], key: Hashable, cell: tuple[int, ...]) -> None:
            time = here
            if outer:
                time = (*[n for place, count in outer for n in (place, f[count])], *here)  # type: ignore[assignment]
            f[lanes].touch(key, site, cell, time)

        return note


# ------------------------------------------------------------------------ errors

_DOES = {"read": "reads", "write": "writes", "update": "updates", "atomic": "updates"}


def race(
    a: Turn, b: Turn, first: Site, at: tuple[int, ...], second: Site, cell: tuple[int, ...]
) -> KdslError:
    """Two iterations of a parallel loop touch one cell, and one of them writes."""
    loop = a.loop
    return _met(
        "K0360",
        f"a race in the parallel loop `{loop.var}`: nothing orders two iterations that use one element",
        loop,
        (a.at, first, at),
        (b.at, second, cell),
        "iteration",
        "run this loop in order, or let each iteration write elements of its own; `kdsl.atomic_add` may meet",
    )


def conflict(
    loop: Loop,
    lane: int,
    first: Site,
    at: tuple[int, ...],
    other: int,
    second: Site,
    cell: tuple[int, ...],
) -> KdslError:
    """Two lanes touch one cell in an order that lockstep does not keep."""
    return _met(
        "K0361",
        f"lanes of the vector loop `{loop.var}` meet in one element, and lockstep changes their order",
        loop,
        (lane, first, at),
        (other, second, cell),
        "lane",
        "run this loop in order, or vectorize fewer lanes than lie between the two",
    )


def _met(
    code: str,
    title: str,
    loop: Loop,
    first: tuple[int, Site, tuple[int, ...]],
    second: tuple[int, Site, tuple[int, ...]],
    who: str,
    help: str,
) -> KdslError:
    (i, a, at), (j, b, cell) = first, second
    left, right = f"{who} {loop.var}={i}", f"{who} {loop.var}={j}"
    notes: list[tuple[Loc, str]] = []
    if a.loc is not None and a.loc != b.loc:
        label = f"{right} {_DOES[b.touch]} {_name(b.buffer, cell)}"
        notes.append((a.loc, f"{left} {_DOES[a.touch]} {_name(a.buffer, at)}"))
    elif a.touch == b.touch:
        label = f"{who}s {loop.var}={i} and {loop.var}={j} both {_DOES[b.touch][:-1]} {_name(b.buffer, cell)}"
    else:
        label = f"{left} {_DOES[a.touch]} {_name(a.buffer, at)}, {right} {_DOES[b.touch]} it"
    if loop.loc is not None:
        mark = loop.mark
        unsafe = " with unsafe=True" if mark is not None and mark.unsafe else ""
        notes.append((loop.loc, f"marked `{mark.kind if mark else ''}`{unsafe}"))
    return KdslError(code, title, loc=b.loc, label=label, notes=notes, help=help)


def _name(buffer: str, cell: tuple[int, ...]) -> str:
    return f"{buffer}[{', '.join(map(str, cell))}]" if cell else buffer
