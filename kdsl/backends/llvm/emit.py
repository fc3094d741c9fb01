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
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kdsl.backends.base import Site
from kdsl.backends.llvm import memory
from kdsl.backends.llvm.builder import Builder, ModuleText, identifier
from kdsl.backends.llvm.c_entry import emit_c_functions
from kdsl.backends.llvm.entry import ScalarForm, can_have_entry, emit_entry
from kdsl.backends.llvm.expressions import Expressions
from kdsl.backends.llvm.gil import emit_gil
from kdsl.backends.llvm.locals import allocs, place_locals
from kdsl.backends.llvm.parallel import Parallel, emit_threads
from kdsl.backends.llvm.parameters import arithmetic, features, load_arrays, load_scalars
from kdsl.backends.llvm.pool_threads import supported
from kdsl.backends.llvm.statements import SiteTable, Statements
from kdsl.backends.llvm.watch import Watch
from kdsl.ir.nodes import Func, Loop
from kdsl.ir.walk import stmts
from kdsl.source import Loc
from kdsl.target import Target

SYMBOL_PREFIX = "kernel."
"""Keeps a kernel that is called `memset` or `exp` apart from the function that LLVM knows."""

_GLUE_ATTRIBUTES = 'nounwind "no-trapping-math"="true" noinline optnone'


@dataclass(frozen=True, slots=True)
class Module:
    """LLVM assembly of the kernel, and of the glue to CPython or C, and what explains the numbers in it.

    `pool`: the glue needs a worker pool of its own.
    """

    text: str
    glue_text: str
    symbol: str
    sites: tuple[Site, ...]
    conditions: tuple[tuple[str, Loc | None], ...]
    pool: bool = False


def emit_module(
    func: Func,
    target: Target,
    *,
    entry: bool = False,
    forms: Mapping[str, ScalarForm] | None = None,
    watch: Watch | None = None,
) -> Module:
    """The module for `func`: the kernel `@name` and its companion `@name.check`.

    The glue is a module of its own, linked in behind LLVM's passes, which would do nothing for it:
    `@name.run`, `@name.poll` and, with `entry`, where one is possible, `@name.entry`, whose scalar parameters
    take the objects that `forms` says. `watch` takes notes.
    """
    text, symbol, sites = _kernel_module(func, target, watch)
    glue = ModuleText([], _GLUE_ATTRIBUTES)
    glue.declare(f"i64 @{symbol}(ptr)")
    emit_gil(glue, symbol)
    if entry and can_have_entry(func):
        emit_entry(glue, func, symbol, features(target), forms or {})
    return Module(text, glue.render(), symbol, sites, _conditions(func))


def emit_library(func: Func, target: Target) -> Module:
    """The module for `func` as a library: the glue are C functions (see `c_entry.py`)."""
    text, symbol, sites = _kernel_module(func, target, None)
    glue = ModuleText([], _GLUE_ATTRIBUTES)
    pool = f"@{symbol}.parallel" in text and supported(target)
    emit_c_functions(glue, func, symbol, sites, pool)
    return Module(text, glue.render(), symbol, sites, _conditions(func), pool)


def _kernel_module(func: Func, target: Target, watch: Watch | None) -> tuple[str, str, tuple[Site, ...]]:
    """The kernel and its check; the kernel's symbol and its sites."""
    symbol = SYMBOL_PREFIX + identifier(func.name)
    header = [f"; kernel {func.name}", f'source_filename = "{identifier(func.name)}"']
    text = ModuleText(header, watch=watch)
    sites = emit_kernel(text, func, symbol, target)
    emit_check(text, func, symbol, target)
    return text.render(), symbol, sites


def _conditions(func: Func) -> tuple[tuple[str, Loc | None], ...]:
    return tuple([(c.title, c.loc) for c in func.conditions])


def emit_kernel(module: ModuleText, func: Func, symbol: str, target: Target) -> tuple[Site, ...]:
    """Adds `i64 @symbol(ptr frame)`; gives the sites it reports."""
    b, sites = Builder(module, f"i64 @{symbol}(ptr noundef nonnull %frame)"), SiteTable()
    x = Expressions(b, arithmetic(b, func, target), sites.fault)
    load_scalars(x, func)
    loops = any(isinstance(s, Loop) for s in stmts(func.body))
    names = [p.name for p in func.arrays] + [f"{s.name}@{s.id}" for s in allocs(func.body) if s.shape]
    alias = (
        memory.alias_suffixes(module, names, func.options.may_alias) if loops else dict.fromkeys(names, "")
    )
    load_arrays(x, func, alias)
    placed = place_locals(x, sites, func.body, alias, lambda: emit_threads(b))
    parallel = None
    if placed.scratch:
        module.globals.append(f"@{symbol}.parallel = constant i8 1")
        parallel = Parallel(module, func, symbol, target, alias, placed.scratch)
    statements = Statements(x, sites, placed.buffers, parallel)
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
    if placed.arena:
        prologue.append(f"store ptr null, ptr {placed.arena}, align 8")
        epilogue = [
            f"%arena = load ptr, ptr {placed.arena}, align 8",
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
    x = Expressions(b, arithmetic(b, func, target), lambda kind, text, dim, loc: current, exact=True)
    load_scalars(x, func)
    for current, condition in enumerate(func.conditions, 1):
        b.guard(x.emit(condition.expr), current)
    b.leave("0")
    module.functions.append(b.finish())
