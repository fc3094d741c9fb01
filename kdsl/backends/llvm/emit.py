"""From a lowered `Func` to the text of an LLVM module.

    define i64 @kernel.saxpy(ptr %frame) {     ; 0 done, n > 0 fault at site n, -1 stopped
    entry:
      %y = load ptr, ptr (%frame + 24)         ; see FrameLayout: pointers, strides, scalars, sizes
      %N = load i64, ptr (%frame + 48)
      br label %start
    start:                                     ; statements.py
      ...
    leave:
      %code = phi i64 ...
      call void @free(arena)                   ; only with local arrays too big for the stack
      ret i64 %code
    }
    define i64 @kernel.saxpy.check(ptr %frame) ; number of the first call condition that fails, or 0

Local arrays of constant size live on the stack up to 32 KiB in all; the others share one arena, taken at
entry and freed in `leave`, at offsets that are multiples of 64 bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kdsl.backends.base import FrameLayout, Site
from kdsl.backends.llvm import memory
from kdsl.backends.llvm.arith import Arith
from kdsl.backends.llvm.builder import EMPTY, SIZE_RANGE, Builder, ModuleText, identifier
from kdsl.backends.llvm.entry import ScalarForm, can_have_entry, emit_entry
from kdsl.backends.llvm.expressions import Expressions
from kdsl.backends.llvm.gil import emit_gil
from kdsl.backends.llvm.memory import Buffer
from kdsl.backends.llvm.statements import SiteTable, Statements
from kdsl.backends.llvm.types import memory_type
from kdsl.dtypes import Size, i64
from kdsl.ir.nodes import Alloc, ArrayParam, Const, Func, Loop, ScalarParam
from kdsl.ir.walk import stmts
from kdsl.source import Loc
from kdsl.target import Target

SYMBOL_PREFIX = "kernel."
"""Keeps a kernel that is called `memset` or `exp` apart from the function that LLVM knows."""
STACK_LIMIT_BYTES = 32 * 1024
ARENA_ALIGN_BYTES = 64
_FIXED = f", !invariant.load {EMPTY}, !noundef {EMPTY}"


@dataclass(frozen=True, slots=True)
class Module:
    """LLVM assembly of the kernel, and of the glue to CPython, and what explains the numbers in it."""

    text: str
    glue_text: str
    symbol: str
    sites: tuple[Site, ...]
    conditions: tuple[tuple[str, Loc | None], ...]


def emit_module(
    func: Func, target: Target, *, entry: bool = False, forms: Mapping[str, ScalarForm] | None = None
) -> Module:
    """The module for `func`: the kernel `@name` and its companion `@name.check`.

    The glue is a module of its own, linked in behind LLVM's passes, which would do nothing for it:
    `@name.run`, `@name.poll` and, with `entry`, where one is possible, `@name.entry`, whose scalar parameters
    take the objects that `forms` says.
    """
    symbol = SYMBOL_PREFIX + identifier(func.name)
    text = ModuleText([f"; kernel {func.name}", f'source_filename = "{identifier(func.name)}"'])
    sites = emit_kernel(text, func, symbol, target)
    emit_check(text, func, symbol, target)
    glue = ModuleText([], 'nounwind "no-trapping-math"="true" noinline optnone')
    glue.declare(f"i64 @{symbol}(ptr)")
    emit_gil(glue, symbol)
    if entry and can_have_entry(func):
        emit_entry(glue, func, symbol, _features(target), forms or {})
    conditions = tuple([(c.title, c.loc) for c in func.conditions])
    return Module(text.render(), glue.render(), symbol, sites, conditions)


def emit_kernel(module: ModuleText, func: Func, symbol: str, target: Target) -> tuple[Site, ...]:
    """Adds `i64 @symbol(ptr frame)`; gives the sites it reports."""
    b, sites = Builder(module, f"i64 @{symbol}(ptr noundef nonnull %frame)"), SiteTable()
    x = Expressions(b, _arith(b, func, target), sites.fault)
    _load_scalars(x, func)
    allocs = [s for s in stmts(func.body) if isinstance(s, Alloc)]
    loops = any(isinstance(s, Loop) for s in stmts(func.body))
    names = [p.name for p in func.arrays] + [f"{s.name}@{s.id}" for s in allocs if s.shape]
    alias = (
        memory.alias_suffixes(module, names, func.options.may_alias) if loops else dict.fromkeys(names, "")
    )
    _load_arrays(x, func, alias)
    locals_, arena = _place_locals(x, sites, allocs, alias)
    statements = Statements(x, sites, locals_)
    statements.body(func.body)
    if b.open:
        b.leave("0")
    prologue = [
        "%table.slot = getelementptr i8, ptr %frame, i64 16",
        "%table = load ptr, ptr %table.slot, align 8",
    ]
    if statements.polls:
        prologue.append("%stop = load ptr, ptr %table, align 8")
    epilogue: list[str] = []
    if arena:
        prologue.append(f"store ptr null, ptr {arena}, align 8")
        epilogue = [
            f"%arena = load ptr, ptr {arena}, align 8",
            "%free.slot = getelementptr i8, ptr %table, i64 32",
            "%free = load ptr, ptr %free.slot, align 8",
            "call void %free(ptr %arena) nounwind",
        ]
    module.functions.append(b.finish(prologue, epilogue))
    return tuple(sites.sites)


def emit_check(module: ModuleText, func: Func, symbol: str, target: Target) -> None:
    """Adds `i64 @symbol.check(ptr frame)`: the first condition (from 1) that is false or overflows, or 0."""
    b = Builder(module, f"i64 @{symbol}.check(ptr noundef nonnull %frame)")
    current = 0
    x = Expressions(b, _arith(b, func, target), lambda kind, text, dim, loc: current, exact=True)
    _load_scalars(x, func)
    for current, condition in enumerate(func.conditions, 1):
        b.guard(x.emit(condition.expr), current)
    b.leave("0")
    module.functions.append(b.finish())


def _arith(b: Builder, func: Func, target: Target) -> Arith:
    return Arith(b, _features(target), strict=func.options.strict, fastmath=func.options.fastmath)


def _features(target: Target) -> frozenset[str]:
    return frozenset(target.features.split(","))


def _slot(b: Builder, number: int) -> str:
    return b.value(f"getelementptr i8, ptr %frame, i64 {8 * number}")


def _load_scalars(x: Expressions, func: Func) -> None:
    """Brings sizes and scalar arguments into scope."""
    layout = FrameLayout.of(func)
    for name, slot in zip(func.sizes, layout.sizes):
        loaded = f"load i64, ptr {_slot(x.b, slot)}, align 8, !range {SIZE_RANGE}{_FIXED}"
        x.vars[name] = x.b.named(x.b.fresh(identifier(name) + "."), loaded)
    for p, slot in zip(func.params, layout.params):
        if isinstance(p, ScalarParam):
            raw = x.b.value(f"load {memory_type(p.dtype)}, ptr {_slot(x.b, slot)}, align 8{_FIXED}")
            x.vars[p.name] = x.arith.from_memory(p.dtype, raw)


def _load_arrays(x: Expressions, func: Func, alias: dict[str, str]) -> None:
    """Brings array arguments into scope."""
    layout, b = FrameLayout.of(func), x.b
    for p, slot in zip(func.params, layout.params):
        if not isinstance(p, ArrayParam):
            continue
        where = _slot(b, slot)
        name = b.fresh(identifier(p.name) + ".")
        pointer = b.named(name, f"load ptr, ptr {where}, align 8{_FIXED}")
        strides: tuple[str, ...] | None = None
        if not p.contiguous:
            slots = [_slot(b, slot + 1 + d) for d in range(len(p.shape))]
            strides = tuple([b.value(f"load i64, ptr {where}, align 8{_FIXED}") for where in slots])
        extents = tuple([_size(x, s) for s in p.shape])
        x.buffers[p.name] = Buffer(p.name, p.dtype, pointer, extents, strides, alias[p.name])


def _size(x: Expressions, size: Size) -> str:
    """The value of an affine size; the binding of the call has shown that it fits."""
    total = "" if size.const or not size.terms else "0"
    if size.const or not size.terms:
        total = str(size.const)
    for symbol, coefficient in size.terms.items():
        term = x.vars[symbol]
        if coefficient != 1:
            term = x.b.value(f"mul nsw i64 {term}, {coefficient}")
        total = term if total == "0" else x.b.value(f"add nsw i64 {total}, {term}")
    return total


def _place_locals(
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
