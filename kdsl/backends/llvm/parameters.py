"""What a function finds in the frame (see `FrameLayout`): sizes, scalars and arrays, brought into scope.

%y = load ptr, ptr (%frame + 24)         ; the frame does not change while the kernel runs
%N = load i64, ptr (%frame + 48), !range [0, 2**47)
"""

from __future__ import annotations

from kdsl.backends.base import FrameLayout
from kdsl.backends.llvm.arith import Arith
from kdsl.backends.llvm.builder import EMPTY, SIZE_RANGE, Builder, identifier
from kdsl.backends.llvm.expressions import Expressions
from kdsl.backends.llvm.memory import Buffer
from kdsl.backends.llvm.types import memory_type
from kdsl.dtypes import Size
from kdsl.ir.nodes import ArrayParam, Func, ScalarParam
from kdsl.target import Target

_FIXED = f", !invariant.load {EMPTY}, !noundef {EMPTY}"


def arithmetic(b: Builder, func: Func, target: Target) -> Arith:
    """Arithmetic as the options of `func` want it."""
    return Arith(b, features(target), strict=func.options.strict, fastmath=func.options.fastmath)


def features(target: Target) -> frozenset[str]:
    """The target's features, as LLVM spells them."""
    return frozenset(target.features.split(","))


def _slot(b: Builder, number: int) -> str:
    return b.value(f"getelementptr i8, ptr %frame, i64 {8 * number}")


def load_scalars(x: Expressions, func: Func) -> None:
    """Brings sizes and scalar arguments into scope; `%frame` is the frame."""
    layout = FrameLayout.of(func)
    for name, slot in zip(func.sizes, layout.sizes):
        loaded = f"load i64, ptr {_slot(x.b, slot)}, align 8, !range {SIZE_RANGE}{_FIXED}"
        x.vars[name] = x.b.named(x.b.fresh(identifier(name) + "."), loaded)
    for p, slot in zip(func.params, layout.params):
        if isinstance(p, ScalarParam):
            raw = x.b.value(f"load {memory_type(p.dtype)}, ptr {_slot(x.b, slot)}, align 8{_FIXED}")
            x.vars[p.name] = x.arith.from_memory(p.dtype, raw)


def load_arrays(x: Expressions, func: Func, alias: dict[str, str]) -> None:
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
        shared = p.name in func.options.may_alias
        x.buffers[p.name] = Buffer(p.name, p.dtype, pointer, extents, strides, alias[p.name], shared=shared)


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
