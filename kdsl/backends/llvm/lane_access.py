"""Memory as the lanes of a vector loop see it: where each lane's element lies, loads and stores.

    A[i, j + 1]     one after the other     load <16 x float>, or llvm.masked.load
    A[i, n - j]     backwards               the same and a shuffle
    A[i, 3 * j]     2 to 4 elements apart   as many loads, and shuffles; under a mask a gather
    A[j, i], A[p[j]]                        llvm.masked.gather, llvm.masked.scatter
    A[i, 0]         the same for all        a scalar load and a splat; the last lane's store stays

A buffer that is private to the lanes keeps the lanes of an element side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from kdsl.backends.llvm import memory
from kdsl.backends.llvm.joined import joined
from kdsl.backends.llvm.memory import Buffer
from kdsl.backends.llvm.types import memory_type, value_type
from kdsl.backends.llvm.watch import LaneNote, Way
from kdsl.backends.llvm.wide import is_literal
from kdsl.dtypes import i64
from kdsl.ir.nodes import Accumulate, Atomic, Binary, Const, Expr, Load, Store, Unary, Var
from kdsl.source import Loc

if TYPE_CHECKING:
    from kdsl.backends.llvm.lanes import Lanes

CACHE_LINE_BYTES = 64
MAX_STRIDE = 4
"""Farther apart, gathers are cheaper than loading everything in between."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the lanes' elements lie: `step` elements apart from `pointer` on (that of the first lane), or,
    when `step` is None, at a vector of pointers. `whole`: lanes that are off may be touched too, so that LLVM
    sees plain loads and stores, and can keep the elements in registers."""

    pointer: str
    step: int | None
    whole: bool = False


def load(lanes: Lanes, e: Load) -> str:
    """The values that the lanes load."""
    buffer = lanes.x.buffers[e.buffer]
    at = place(lanes, buffer, e.index, e.checked, e.loc)
    note(lanes, e, at)
    return read(lanes, buffer, at)


def place(
    lanes: Lanes, buffer: Buffer, index: tuple[Expr, ...], checked: tuple[int, ...], loc: Loc | None
) -> Place:
    """Where `buffer[index]` lies in each lane, after the tests of the dimensions `checked`."""
    x = lanes.x
    if not checked:
        buffer, index = joined(x, buffer, index)
    for dim in checked:
        number, extent = x.site("index", buffer.name, dim, loc), buffer.extents[dim]
        if lanes.varies(index[dim]):
            i = lanes.emit(index[dim])
            limit = lanes.operand("i64", lanes.splat("i64", extent)).split("> ", 1)[1]
            inside = lanes.b.value(f"icmp ult {lanes.operand('i64', i)}, {limit}")
            lanes.guard(inside, number, index=i, extent=extent)
        else:
            i = x.emit(index[dim])
            inside = x.when_active(lanes.b.value(f"icmp ult i64 {i}, {extent}"))
            lanes.b.guard(inside, number, index=i, extent=extent)
    step = distance(lanes, buffer, index)
    if lanes.count == 1 and step:
        step = 1
    if step is None or not (step in (0, -1) or 1 <= step <= MAX_STRIDE):
        return Place(_pointers(lanes, buffer, index), None)
    scalars = [x.emit(i) for i in index]
    if step == 0:
        return Place(x.element(buffer, scalars, (), loc), 0)
    whole = not lanes.mask or _exists(lanes, buffer, index)
    return Place(memory.address(lanes.b, buffer, scalars, inside=whole), step, whole)


def _exists(lanes: Lanes, buffer: Buffer, index: tuple[Expr, ...]) -> bool:
    """Whether the kernel's own memory has the elements of all lanes, those that are off included."""
    if buffer.lanes:
        return not buffer.extents or not lanes.x.active
    first = lanes.x.vars[lanes.var]
    if not buffer.registers or not is_literal(first):
        return False
    for e, extent in zip(index, buffer.extents):
        places = [_constant(e, int(first) + lane * lanes.step) for lane in (0, lanes.count - 1)]
        if not all(n is not None and 0 <= n < int(extent) for n in places):
            return False
    return True


def _constant(e: Expr, lane: int) -> int | None:
    """The value of an index that is linear in the lane's variable and otherwise made of constants."""
    match e:
        case Const(value=value):
            return int(value)
        case Var():
            return lane
        case Binary(op="+" | "-" | "*" as op, a=a, b=b):
            x, y = _constant(a, lane), _constant(b, lane)
            if x is None or y is None:
                return None
            return x + y if op == "+" else x - y if op == "-" else x * y
        case _:
            return None


def distance(lanes: Lanes, buffer: Buffer, index: tuple[Expr, ...]) -> int | None:
    """How many elements lie between neighbouring lanes; None when that is not a constant."""
    if buffer.lanes:
        return None if any(lanes.varies(i) for i in index) else 1
    total, size = 0, 1 if buffer.strides is None else None
    for i, extent in zip(reversed(index), reversed(buffer.extents)):
        steps = _coefficient(lanes, i)
        if steps is None or (steps and size is None):
            return None
        total += steps * (size or 0)
        size = size * int(extent) if size is not None and extent.isdigit() else None
    return total


def _coefficient(lanes: Lanes, e: Expr) -> int | None:
    """By how much `e` grows from lane to lane, when that is a constant."""
    if not lanes.varies(e):
        return 0
    match e:
        case Var(name=name) if name == lanes.var:
            return lanes.step
        case Binary(op="+" | "-" as op, a=a, b=b):
            x, y = _coefficient(lanes, a), _coefficient(lanes, b)
            if x is None or y is None:
                return None
            return x + y if op == "+" else x - y
        case Binary(op="*", a=a, b=Const(value=factor)) | Binary(op="*", a=Const(value=factor), b=a):
            x = _coefficient(lanes, a)
            return None if x is None else x * int(factor)
        case Unary(op="-", x=a):
            x = _coefficient(lanes, a)
            return None if x is None else -x
        case _:
            return None


def in_rows(lanes: Lanes, e: Binary) -> bool:
    """True for a `//` or `%` of numbers that grow by 1 from lane to lane by a length > 0 that all share."""
    by = e.b
    positive = isinstance(by, Binary) and by.op == "max" and by.b == Const(1, i64)
    return positive and not lanes.varies(by) and _coefficient(lanes, e.a) == 1


def _pointers(lanes: Lanes, buffer: Buffer, index: tuple[Expr, ...]) -> str:
    """The vector of addresses: a scalar base, and offsets by what varies (elements, or bytes of a view)."""
    b, width = lanes.b, buffer.lanes or 1
    element = memory_type(buffer.dtype) if buffer.strides is None else "i8"
    base, offsets = buffer.pointer, ""
    strides = buffer.strides or _strides(lanes, buffer, width)
    for e, stride in zip(index, strides):
        if lanes.varies(e):
            scaled = lanes.emit(e)
            if stride != "1":
                scaled = lanes.wide.binary("*", i64, scaled, lanes.splat("i64", stride))
            offsets = lanes.wide.binary("+", i64, offsets, scaled) if offsets else scaled
        else:
            offset = b.value(f"mul i64 {lanes.x.emit(e)}, {stride}")
            base = b.value(f"getelementptr {element}, ptr {base}, i64 {offset}")
    if buffer.lanes:
        numbers = b.value(f"add {lanes.numbers(1)}, zeroinitializer")
        offsets = lanes.wide.binary("+", i64, offsets, numbers)
    return b.value(f"getelementptr {element}, ptr {base}, {lanes.operand('i64', offsets)}")


def _strides(lanes: Lanes, buffer: Buffer, width: int) -> tuple[str, ...]:
    """The number of elements between neighbours in each dimension."""
    strides, size = [], str(width)
    for extent in reversed(buffer.extents):
        strides.append(size)
        if size.isdigit() and extent.isdigit():
            size = str(int(size) * int(extent))
        else:
            size = extent if size == "1" else lanes.b.value(f"mul i64 {size}, {extent}")
    return tuple(reversed(strides))


def way(lanes: Lanes, at: Place, mode: Literal["load", "store"]) -> Way:
    """How the lanes' elements at a place are read or written."""
    match at.step:
        case 0:
            return "broadcast" if mode == "load" else "last lane"
        case 1:
            return "contiguous"
        case -1:
            return "reversed"
        case None:
            return "gather" if mode == "load" else "scatter"
        case _ if mode == "store":
            return "scatter"
        case _:
            return "gather" if lanes.mask else "strided"


def note(
    lanes: Lanes, s: Load | Store | Accumulate | Atomic, at: Place | None, how: Way | None = None
) -> None:
    """Tells who watches how an array, or a sum, is met. `at` is None where `how` says it all."""
    watch = lanes.b.module.watch
    if watch is None or not (s.index or how in ("partial sums", "sum of lanes")):
        return
    masked = bool(lanes.mask) and not (at is not None and at.whole)
    modes: tuple[Literal["load", "store"], ...] = ("load", "store")
    modes = ("load",) if isinstance(s, Load) else ("store",) if isinstance(s, Store) else modes
    for mode in modes:
        if how is not None:
            found, step = how, None
        else:
            assert at is not None
            found, step = way(lanes, at, mode), at.step
        watch.lanes.append(LaneNote(lanes.loc, s.loc, s.buffer, mode, found, step, masked))


# -- loads


def read(lanes: Lanes, buffer: Buffer, at: Place) -> str:
    """The values at a place."""
    match way(lanes, at, "load"):
        case "broadcast":
            value = memory.load(lanes.x.arith, buffer, at.pointer)
            return lanes.splat(value_type(buffer.dtype), value)
        case "contiguous":
            raw = _load_row(lanes, buffer, at.pointer, "" if at.whole else lanes.mask)
        case "reversed":
            pointer, mask = _backwards(lanes, buffer, at)
            raw = _reversed(lanes, memory_type(buffer.dtype), _load_row(lanes, buffer, pointer, mask))
        case "strided":
            assert at.step is not None
            raw = _load_strided(lanes, buffer, at.pointer, at.step)
        case _:
            raw = _gather(lanes, buffer, at)
    if buffer.loose:
        raw = lanes.b.value(f"freeze {lanes.vector(memory_type(buffer.dtype))} {raw}")
    return lanes.wide.from_memory(buffer.dtype, raw)


def _load_row(lanes: Lanes, buffer: Buffer, pointer: str, mask: str) -> str:
    t, b = buffer.dtype, lanes.b
    row = lanes.vector(memory_type(t))
    if not mask:
        return b.value(f"load {row}, ptr {pointer}, align {t.bytes}{buffer.alias}")
    name = f"llvm.masked.load.{_suffix(lanes, buffer)}.p0"
    b.module.declare(f"{row} @{name}(ptr, {lanes.vector('i1')}, {row})")
    return b.value(
        f"call {row} @{name}(ptr align {t.bytes} {pointer}, {lanes.operand('i1', mask)}, "
        f"{row} zeroinitializer){buffer.alias}"
    )


def _backwards(lanes: Lanes, buffer: Buffer, at: Place) -> tuple[str, str]:
    """The address of the last lane's element, which lies first, and the mask in that order."""
    back = f"getelementptr {memory_type(buffer.dtype)}, ptr {at.pointer}, i64 {1 - lanes.count}"
    return lanes.b.value(back), _reversed(lanes, "i1", lanes.mask) if lanes.mask else ""


def _reversed(lanes: Lanes, ty: str, value: str) -> str:
    order = ", ".join([f"i32 {n}" for n in reversed(range(lanes.count))])
    source = f"{lanes.operand(ty, value)}, {lanes.vector(ty)} poison"
    return lanes.b.value(f"shufflevector {source}, <{lanes.count} x i32> <{order}>")


def _load_strided(lanes: Lanes, buffer: Buffer, pointer: str, step: int) -> str:
    """Elements `step` apart from `step` rows, of which the last ends with the last element that is needed."""
    b, count, ty = lanes.b, lanes.count, memory_type(buffer.dtype)
    row, rows, starts = lanes.vector(ty), [], []
    for n in range(step):
        start = min(n * count, (count - 1) * step + 1 - count)
        where = b.value(f"getelementptr {ty}, ptr {pointer}, i64 {start}")
        rows.append(_load_row(lanes, buffer, where, ""))
        starts.append(start)
    result = rows[0]
    for n in range(1, step):
        picks = [_pick(lane * step, count, step, n, starts[n], lane) for lane in range(count)]
        order = ", ".join([f"i32 {p}" for p in picks])
        result = b.value(f"shufflevector {row} {result}, {row} {rows[n]}, <{count} x i32> <{order}>")
    return result


def _pick(element: int, count: int, step: int, row: int, start: int, lane: int) -> int:
    """The shuffle's index for one lane when row number `row` is mixed in, which begins at `start`."""
    home = min(element // count, step - 1)
    if home == row:
        return count + element - start
    if row == 1:
        return element if home == 0 else lane
    return lane


def _gather(lanes: Lanes, buffer: Buffer, at: Place) -> str:
    t, b = buffer.dtype, lanes.b
    row, suffix = lanes.vector(memory_type(t)), _suffix(lanes, buffer)
    name = f"llvm.masked.gather.{suffix}.v{lanes.count}p0"
    b.module.declare(f"{row} @{name}({lanes.vector('ptr')}, {lanes.vector('i1')}, {row})")
    return b.value(
        f"call {row} @{name}({lanes.vector('ptr')} align {t.bytes} {pointers(lanes, buffer, at)}, "
        f"{lanes.operand('i1', lanes.mask or 'true')}, {row} zeroinitializer){buffer.alias}"
    )


def pointers(lanes: Lanes, buffer: Buffer, at: Place) -> str:
    """The vector of addresses."""
    if at.step is None:
        return at.pointer
    ty = memory_type(buffer.dtype)
    return lanes.b.value(f"getelementptr {ty}, ptr {at.pointer}, {lanes.numbers(at.step)}")


def _suffix(lanes: Lanes, buffer: Buffer) -> str:
    ty = memory_type(buffer.dtype)
    return f"v{lanes.count}{ {'float': 'f32', 'double': 'f64'}.get(ty, ty) }"


# -- stores


def write(lanes: Lanes, buffer: Buffer, at: Place, value: str) -> None:
    """Stores the lanes' values. The last lane that is on wins where lanes meet."""
    t, b = buffer.dtype, lanes.b
    how = way(lanes, at, "store")
    if how == "last lane":
        last = lanes.count - 1 if not lanes.mask else lanes.lane_of(_or_first(lanes), last=True)
        write_scalar(lanes, buffer, at.pointer, lanes.extract(value_type(t), value, last))
        return
    ty = memory_type(t)
    row = lanes.vector(ty)
    mask, pointer = lanes.mask, at.pointer
    if mask and at.step == 1 and at.whole:
        old = lanes.wide.from_memory(t, _load_row(lanes, buffer, pointer, ""))
        value, mask = lanes.where(mask, value_type(t), value, old), ""
    raw = lanes.operand(ty, lanes.wide.to_memory(t, value))
    if how == "reversed":
        pointer, mask = _backwards(lanes, buffer, at)
        raw = lanes.operand(ty, _reversed(lanes, ty, raw.split("> ", 1)[1]))
    elif how == "scatter":
        name = f"llvm.masked.scatter.{_suffix(lanes, buffer)}.v{lanes.count}p0"
        b.module.declare(f"void @{name}({row}, {lanes.vector('ptr')}, {lanes.vector('i1')})")
        where = f"{lanes.vector('ptr')} align {t.bytes} {pointers(lanes, buffer, at)}"
        on = lanes.operand("i1", mask or "true")
        b.do(f"call void @{name}({raw}, {where}, {on}){buffer.alias}")
        return
    if not mask:
        _store_row(lanes, buffer, pointer, raw)
        return
    name = f"llvm.masked.store.{_suffix(lanes, buffer)}.p0"
    b.module.declare(f"void @{name}({row}, ptr, {lanes.vector('i1')})")
    on = lanes.operand("i1", mask)
    b.do(f"call void @{name}({raw}, ptr align {t.bytes} {pointer}, {on}){buffer.alias}")


def _store_row(lanes: Lanes, buffer: Buffer, pointer: str, raw: str) -> None:
    """Stores neighbours. LLVM stores the registers of a wide vector in any order, and memory takes them a
    third faster in ascending order: so each cache line is a store of its own, for LLVM keeps those in order.
    """
    b, t, count = lanes.b, buffer.dtype, lanes.count
    ty, part = memory_type(t), CACHE_LINE_BYTES // t.bytes
    if buffer.local or count <= part or count % part:
        b.do(f"store {raw}, ptr {pointer}, align {t.bytes}{buffer.alias}")
        return
    for start in range(0, count, part):
        order = ", ".join([f"i32 {n}" for n in range(start, start + part)])
        piece = b.value(f"shufflevector {raw}, {lanes.vector(ty)} poison, <{part} x i32> <{order}>")
        where = b.value(f"getelementptr {ty}, ptr {pointer}, i64 {start}")
        b.do(f"store <{part} x {ty}> {piece}, ptr {where}, align {t.bytes}{buffer.alias}")


def _or_first(lanes: Lanes) -> str:
    """The mask, with the first lane on: so that there is a last one."""
    first = ", ".join([f"i1 {'true' if n == 0 else 'false'}" for n in range(lanes.count)])
    return lanes.b.value(f"or {lanes.operand('i1', lanes.mask)}, <{first}>")


def write_scalar(lanes: Lanes, buffer: Buffer, pointer: str, value: str) -> None:
    """Stores one value at a place that all lanes share, unless all are off."""
    x = lanes.x
    if x.active and buffer.local and not buffer.extents:
        # No scratch memory: the local shall stay in a register.
        old, ty = memory.load(x.arith, buffer, pointer), value_type(buffer.dtype)
        value = x.b.value(f"select i1 {x.active}, {ty} {value}, {ty} {old}")
    memory.store(x.arith, buffer, pointer, value)
