"""Where local arrays live.

Those of constant size live on the stack up to 32 KiB in all; the others share one arena, taken at entry and
freed at the end, at offsets that are multiples of 64 bytes:

    | arrays outside parallel loops | loop 1: a part for each thread | loop 2: ... |

The stack of a parallel loop's locals is that of the thread which runs the iteration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from kdsl.backends.llvm.builder import Builder, identifier
from kdsl.backends.llvm.expressions import Expressions
from kdsl.backends.llvm.memory import Buffer
from kdsl.backends.llvm.statements import SiteTable
from kdsl.backends.llvm.types import memory_type
from kdsl.dtypes import i64
from kdsl.ir.nodes import Alloc, Body, Const, Expr, Loop, Print
from kdsl.ir.walk import stmt_bodies, stmts

STACK_LIMIT_BYTES = 32 * 1024
ARENA_ALIGN_BYTES = 64


@dataclass(frozen=True, slots=True)
class Spot:
    """A place in the arena: bytes from the start, or from the start of a thread's part."""

    alloc: Alloc
    extents: tuple[str, ...]
    offset: str


@dataclass(frozen=True, slots=True)
class Scratch:
    """Memory for the big arrays of a parallel loop: `threads` parts of `stride` bytes, from `base` on.

    Without such arrays, the others are empty.
    """

    spots: tuple[Spot, ...] = ()
    base: str = ""
    stride: str = ""
    threads: str = ""


@dataclass(frozen=True, slots=True)
class Placed:
    """The memory of the locals outside parallel loops, and what each parallel loop finds for its own, by ids.

    `arena` is the stack slot that holds the arena's address, "" without one.
    """

    buffers: dict[int, Buffer]
    scratch: dict[int, Scratch]
    arena: str


def parallel_loops(body: Body) -> Iterator[Loop]:
    """The outermost loops that threads may share. One that prints runs serially: lines keep their order."""
    for s in body:
        marked = isinstance(s, Loop) and s.mark is not None and s.mark.kind == "parallel"
        if isinstance(s, Loop) and marked and not any(isinstance(t, Print) for t in stmts(s.body)):
            yield s
        else:
            for nested in stmt_bodies(s):
                yield from parallel_loops(nested)


def allocs(body: Body) -> list[Alloc]:
    """The local buffers of `body`, nested ones too."""
    return [s for s in stmts(body) if isinstance(s, Alloc)]


def place_locals(
    x: Expressions, sites: SiteTable, body: Body, alias: dict[str, str], threads: Callable[[], str]
) -> Placed:
    """Gives the locals of a kernel their memory; `threads` emits how many threads there are."""
    private = {loop.id: allocs(loop.body) for loop in parallel_loops(body)}
    inside = {s.id for group in private.values() for s in group}
    shared, big = by_size([s for s in allocs(body) if s.id not in inside])
    buffers = {s.id: on_stack(x.b, s, alias) for s in shared}
    big_private = {id_: by_size(group)[1] for id_, group in private.items()}
    scratch = {id_: Scratch() for id_ in private}
    if not big and not any(big_private.values()):
        return Placed(buffers, scratch, "")
    slot = x.b.alloca("ptr", 8)
    spots, end = _lay_out(x, sites, big, "0")
    parts = threads() if any(big_private.values()) else ""
    starts: dict[int, str] = {}
    for id_, group in big_private.items():
        if group:
            inner, stride = _lay_out(x, sites, group, "0")
            site = sites.fault("memory", group[-1].name, 0, group[-1].loc)
            starts[id_], scratch[id_] = end, Scratch(tuple(inner), "", stride, parts)
            end = _exact(x, "+", end, _exact(x, "*", stride, parts, site), site)
            big = group
    arena = _take(x, end, sites.fault("memory", big[-1].name, 0, big[-1].loc))
    x.b.do(f"store ptr {arena}, ptr {slot}, align 8")
    for spot in spots:
        buffers[spot.alloc.id] = in_arena(x.b, spot, arena, alias)
    for id_, start in starts.items():
        base = x.b.value(f"getelementptr inbounds i8, ptr {arena}, i64 {start}")
        scratch[id_] = replace(scratch[id_], base=base)
    return Placed(buffers, scratch, slot)


def by_size(group: Sequence[Alloc]) -> tuple[list[Alloc], list[Alloc]]:
    """Which buffers fit on the stack together, smallest first, and the others in program order."""
    small: list[Alloc] = []
    big: list[Alloc] = []
    used = 0
    for s in sorted(group, key=_constant_bytes):
        used += _constant_bytes(s)
        (big if used > STACK_LIMIT_BYTES else small).append(s)
    return small, sorted(big, key=lambda s: s.id)


def on_stack(b: Builder, s: Alloc, alias: dict[str, str]) -> Buffer:
    """A buffer of constant shape in the frame of the function."""
    extents = tuple([max(0, int(e.value)) for e in s.shape if isinstance(e, Const)])
    count = 1
    for extent in extents:
        count *= extent
    align = ARENA_ALIGN_BYTES if s.shape else s.dtype.bytes
    pointer = b.alloca(f"[{count} x {memory_type(s.dtype)}]" if s.shape else memory_type(s.dtype), align)
    suffix = alias.get(f"{s.name}@{s.id}", "")
    return Buffer(s.name, s.dtype, pointer, tuple(map(str, extents)), None, suffix, True, bool(s.shape))


def in_arena(b: Builder, spot: Spot, start: str, alias: dict[str, str]) -> Buffer:
    """The buffer at a spot; `start` is what its offset counts from."""
    s = spot.alloc
    place = f"getelementptr inbounds i8, ptr {start}, i64 {spot.offset}"
    pointer = b.named(b.fresh(identifier(s.name) + "."), place)
    return Buffer(s.name, s.dtype, pointer, spot.extents, None, alias[f"{s.name}@{s.id}"], True)


def _constant_bytes(s: Alloc) -> int:
    """Size of a local array; more than the stack may hold when the shape is not constant."""
    total = s.dtype.bytes
    for e in s.shape:
        total *= max(0, int(e.value)) if isinstance(e, Const) else STACK_LIMIT_BYTES + 1
        if not isinstance(e, Const):
            return STACK_LIMIT_BYTES + 1
    return total


def _lay_out(x: Expressions, sites: SiteTable, group: list[Alloc], offset: str) -> tuple[list[Spot], str]:
    """Puts arrays one after the other; gives also the end. A size that overflows is a fault."""
    b = x.b
    spots: list[Spot] = []
    for s in group:
        site = sites.fault("memory", s.name, 0, s.loc)
        x.exact, x.site = True, lambda kind, text, dim, loc, site=site: site  # type: ignore[misc]
        extents = tuple([_extent(x, e) for e in s.shape])
        x.exact, x.site = False, sites.fault
        size = str(s.dtype.bytes)
        for extent in extents:
            size = _exact(x, "*", size, extent, site)
        spots.append(Spot(s, extents, offset))
        end = _exact(x, "+", _exact(x, "+", offset, size, site), str(ARENA_ALIGN_BYTES - 1), site)
        offset = b.value(f"and i64 {end}, {-ARENA_ALIGN_BYTES}")
    return spots, offset


def _extent(x: Expressions, e: Expr) -> str:
    """An extent, at least 0. A constant stays one, so that distances in the array can be seen."""
    if isinstance(e, Const):
        return str(max(0, int(e.value)))
    return x.b.call("i64", "llvm.smax.i64", ("i64", x.emit(e)), ("i64", "0"))


def _take(x: Expressions, size: str, site: int) -> str:
    """Allocates the arena; without memory for it, the kernel ends with the fault `site`."""
    b = x.b
    total = b.call("i64", "llvm.umax.i64", ("i64", size), ("i64", str(ARENA_ALIGN_BYTES)))
    fn = b.value(f"load ptr, ptr {b.value('getelementptr i8, ptr %table, i64 24')}, align 8")
    arena = b.value(f"call noalias ptr {fn}(i64 {ARENA_ALIGN_BYTES}, i64 {total}) nounwind")
    b.guard(b.value(f"icmp ne ptr {arena}, null"), site, index=total)
    return arena


def _exact(x: Expressions, op: str, a: str, b: str, site: int) -> str:
    result, fits = x.arith.overflowing(op, a, b)
    x.b.guard(fits, site, index=str(i64.max))
    return result
