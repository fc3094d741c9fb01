"""Where local arrays live.

Those of constant size live on the stack up to 32 KiB in all; the others share one arena, taken at entry and
freed at the end, at offsets that are multiples of 64 bytes.
"""

from __future__ import annotations

from kdsl.backends.llvm.builder import identifier
from kdsl.backends.llvm.expressions import Expressions
from kdsl.backends.llvm.memory import Buffer
from kdsl.backends.llvm.statements import SiteTable
from kdsl.backends.llvm.types import memory_type
from kdsl.dtypes import i64
from kdsl.ir.nodes import Alloc, Const

STACK_LIMIT_BYTES = 32 * 1024
ARENA_ALIGN_BYTES = 64


def place_locals(
    x: Expressions, sites: SiteTable, allocs: list[Alloc], alias: dict[str, str]
) -> tuple[dict[int, Buffer], str]:
    """Gives each local its memory. Also the stack slot that holds the arena's address ("" without one)."""
    out: dict[int, Buffer] = {}
    big: list[Alloc] = []
    used = 0
    for s in sorted(allocs, key=_constant_bytes):
        used += _constant_bytes(s)
        if used > STACK_LIMIT_BYTES:
            big.append(s)
            continue
        extents = tuple([max(0, int(e.value)) for e in s.shape if isinstance(e, Const)])
        count = 1
        for extent in extents:
            count *= extent
        align = ARENA_ALIGN_BYTES if s.shape else s.dtype.bytes
        pointer = x.b.alloca(
            f"[{count} x {memory_type(s.dtype)}]" if s.shape else memory_type(s.dtype), align
        )
        suffix = alias.get(f"{s.name}@{s.id}", "")
        out[s.id] = Buffer(
            s.name, s.dtype, pointer, tuple(map(str, extents)), None, suffix, True, bool(s.shape)
        )
    if not big:
        return out, ""
    slot = x.b.alloca("ptr", 8)
    _take_arena(x, sites, sorted(big, key=lambda s: s.id), alias, slot, out)
    return out, slot


def _constant_bytes(s: Alloc) -> int:
    """Size of a local array; more than the stack may hold when the shape is not constant."""
    total = s.dtype.bytes
    for e in s.shape:
        total *= max(0, int(e.value)) if isinstance(e, Const) else STACK_LIMIT_BYTES + 1
        if not isinstance(e, Const):
            return STACK_LIMIT_BYTES + 1
    return total


def _take_arena(
    x: Expressions,
    sites: SiteTable,
    allocs: list[Alloc],
    alias: dict[str, str],
    slot: str,
    out: dict[int, Buffer],
) -> None:
    """Lays the arrays out one after the other, and allocates the whole; a size that overflows is refused."""
    b = x.b
    offset = "0"
    placed: list[tuple[Alloc, tuple[str, ...], str]] = []
    for s in allocs:
        site = sites.fault("memory", s.name, 0, s.loc)
        x.exact, x.site = True, lambda kind, text, dim, loc, site=site: site  # type: ignore[misc]
        extents = tuple([b.call("i64", "llvm.smax.i64", ("i64", x.emit(e)), ("i64", "0")) for e in s.shape])
        x.exact, x.site = False, sites.fault
        size = str(s.dtype.bytes)
        for extent in extents:
            size = _exact(x, "*", size, extent, site)
        placed.append((s, extents, offset))
        end = _exact(x, "+", _exact(x, "+", offset, size, site), str(ARENA_ALIGN_BYTES - 1), site)
        offset = b.value(f"and i64 {end}, {-ARENA_ALIGN_BYTES}")
    last = sites.fault("memory", allocs[-1].name, 0, allocs[-1].loc)
    total = b.call("i64", "llvm.umax.i64", ("i64", offset), ("i64", str(ARENA_ALIGN_BYTES)))
    fn = b.value(f"load ptr, ptr {b.value('getelementptr i8, ptr %table, i64 24')}, align 8")
    arena = b.value(f"call noalias ptr {fn}(i64 {ARENA_ALIGN_BYTES}, i64 {total}) nounwind")
    b.guard(b.value(f"icmp ne ptr {arena}, null"), last, index=total)
    b.do(f"store ptr {arena}, ptr {slot}, align 8")
    for s, extents, at in placed:
        pointer = b.named(
            b.fresh(identifier(s.name) + "."), f"getelementptr inbounds i8, ptr {arena}, i64 {at}"
        )
        out[s.id] = Buffer(s.name, s.dtype, pointer, extents, None, alias[f"{s.name}@{s.id}"], True)


def _exact(x: Expressions, op: str, a: str, b: str, site: int) -> str:
    result, fits = x.arith.overflowing(op, a, b)
    x.b.guard(fits, site, index=str(i64.max))
    return result
