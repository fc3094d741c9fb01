"""Loops marked `tensorize`: one call of an intrinsic on vectors of the operands' elements.

    for l in tensorize(range(16), "dot4_u8s8"):      %acc = load <16 x i32>, ptr %C
        for q in range(4):                           %a4 = load i32, ptr %A           ; the same 4 for each l
            C[l] += i32(A[q]) * i32(B[l, q])         %a = ... <16 x i32> splat ... bitcast to <64 x i8>
                                                     %b = load <64 x i8>, ptr %B
                                                     %r = call <16 x i32> @llvm.x86...(%acc, %a, %b)
                                                     store <16 x i32> %r, ptr %C

Elements of an operand that do not lie one after the other (an array that came with strides) are collected one
by one. A loop that is no longer the instruction word by word (a test in place was put in) stays a loop.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

from kdsl.analysis.instruction import Operand, match
from kdsl.analysis.roles import Difference, Role, Roles, roles
from kdsl.backends.llvm import memory
from kdsl.backends.llvm.memory import Buffer
from kdsl.backends.llvm.types import memory_type
from kdsl.dtypes import DType
from kdsl.ir.nodes import ArrayParam, Loop

if TYPE_CHECKING:
    from kdsl.backends.llvm.statements import Statements

_ARGUMENT = {"f16": "half", "bf16": "bfloat"}

_SPLAT_BITS = (8, 16, 32, 64)
"""Groups of elements of this size are repeated as one integer."""


def instruction(statements: Statements, s: Loop) -> bool:
    """Emits the call that does the loop `s`; False when the loop is not the instruction."""
    assert s.mark is not None and s.mark.instruction is not None
    given = s.mark.instruction
    found, shape = match(s, given.meaning), roles(given.meaning)
    if isinstance(found, Difference) or isinstance(shape, Difference):
        return False
    x, b = statements.x, statements.x.b
    args: list[tuple[str, str]] = []
    result: tuple[Role, Operand] | None = None
    for role in shape.operands:
        p = role.param
        if not isinstance(p, ArrayParam):
            raw = x.arith.to_memory(p.dtype, x.emit(found.scalars[p.name]))
            one = _argument(statements, p.dtype, 1, raw, vector=False)
            args.append(_splat(statements, shape.points, _element(p.dtype), one))
            continue
        operand = found.arrays[p.name]
        if role.written:
            result = role, operand
        if role.read:
            count = shape.count(role)
            values = _argument(statements, p.dtype, count, _load(statements, p, operand))
            element = _element(p.dtype)
            if role.written:
                args.append((f"<{count} x {element}>", values))
            else:
                args.append(_spread(statements, shape, role, element, values))
    assert result is not None
    role, operand = result
    count, t = shape.count(role), role.param.dtype
    value = b.call(f"<{count} x {_element(t)}>", given.llvm, *args)
    if t.name in _ARGUMENT:
        value = b.value(f"bitcast <{count} x {_element(t)}> {value} to <{count} x {memory_type(t)}>")
    assert isinstance(role.param, ArrayParam)
    _store(statements, role.param, operand, value)
    return True


def _element(t: DType) -> str:
    """The type of an element as an argument of an intrinsic."""
    return _ARGUMENT.get(t.name) or memory_type(t)


def _argument(statements: Statements, t: DType, count: int, raw: str, *, vector: bool = True) -> str:
    """What lies in memory as an argument of an intrinsic."""
    if t.name not in _ARGUMENT:
        return raw
    if not vector:
        return statements.x.b.value(f"bitcast {memory_type(t)} {raw} to {_element(t)}")
    return statements.x.b.value(f"bitcast <{count} x {memory_type(t)}> {raw} to <{count} x {_element(t)}>")


def _splat(statements: Statements, count: int, ty: str, value: str) -> tuple[str, str]:
    """One value `count` times."""
    b, vector = statements.x.b, f"<{count} x {ty}>"
    first = b.value(f"insertelement {vector} poison, {ty} {value}, i64 0")
    zeros = f"<{count} x i32> zeroinitializer"
    return vector, b.value(f"shufflevector {vector} {first}, {vector} poison, {zeros}")


def _spread(statements: Statements, shape: Roles, role: Role, element: str, values: str) -> tuple[str, str]:
    """An element for each point of the loops."""
    b, count, points = statements.x.b, shape.count(role), shape.points
    order = shape.order(role)
    whole, own = f"<{points} x {element}>", f"<{count} x {element}>"
    if order == list(range(points)):
        return whole, values
    bits = count * role.param.dtype.bits
    if order == list(range(count)) * (points // count) and bits in _SPLAT_BITS:
        group = b.value(f"bitcast {own} {values} to i{bits}")
        vector, repeated = _splat(statements, points // count, f"i{bits}", group)
        return whole, b.value(f"bitcast {vector} {repeated} to {whole}")
    picks = ", ".join([f"i32 {n}" for n in order])
    return whole, b.value(f"shufflevector {own} {values}, {own} poison, <{points} x i32> <{picks}>")


# -- memory


def _load(statements: Statements, p: ArrayParam, operand: Operand) -> str:
    """The elements of an operand in C order, as they lie in memory."""
    x, b, buffer = statements.x, statements.x.b, statements.x.buffers[operand.buffer]
    ty, places = memory_type(p.dtype), _places(p)
    vector = f"<{len(places)} x {ty}>"
    index = [x.emit(e) for e in operand.start]
    if _in_a_row(p, operand, buffer):
        pointer = memory.address(b, buffer, index)
        raw = b.value(f"load {vector}, ptr {pointer}, align {p.dtype.bytes}{buffer.alias}")
    else:
        raw = "poison"
        for n, place in enumerate(places):
            pointer = memory.address(b, buffer, _at(statements, operand, index, place))
            one = b.value(f"load {ty}, ptr {pointer}, align {p.dtype.bytes}{buffer.alias}")
            raw = b.value(f"insertelement {vector} {raw}, {ty} {one}, i64 {n}")
    return b.value(f"freeze {vector} {raw}") if buffer.loose else raw


def _store(statements: Statements, p: ArrayParam, operand: Operand, value: str) -> None:
    x, b, buffer = statements.x, statements.x.b, statements.x.buffers[operand.buffer]
    ty, places = memory_type(p.dtype), _places(p)
    vector = f"<{len(places)} x {ty}>"
    index = [x.emit(e) for e in operand.start]
    if _in_a_row(p, operand, buffer):
        pointer = memory.address(b, buffer, index)
        b.do(f"store {vector} {value}, ptr {pointer}, align {p.dtype.bytes}{buffer.alias}")
        return
    for n, place in enumerate(places):
        pointer = memory.address(b, buffer, _at(statements, operand, index, place))
        one = b.value(f"extractelement {vector} {value}, i64 {n}")
        b.do(f"store {ty} {one}, ptr {pointer}, align {p.dtype.bytes}{buffer.alias}")


def _places(p: ArrayParam) -> list[tuple[int, ...]]:
    """The indices of a parameter's elements, in C order."""
    return list(product(*[range(d.const) for d in p.shape]))


def _at(statements: Statements, operand: Operand, start: list[str], place: tuple[int, ...]) -> list[str]:
    """The index in the buffer of one element."""
    out = []
    for d, first in enumerate(start):
        far = sum(n * steps[d] for n, steps in zip(place, operand.steps))
        out.append(statements.x.b.value(f"add nsw i64 {first}, {far}") if far else first)
    return out


def _in_a_row(p: ArrayParam, operand: Operand, buffer: Buffer) -> bool:
    """Whether the elements certainly lie one after the other."""
    if buffer.strides is not None:
        return False
    wanted = 1
    for k in reversed(range(len(p.shape))):
        far, size = 0, 1
        for step, extent in zip(reversed(operand.steps[k]), reversed(buffer.extents)):
            if step and not size:
                return False
            far += step * size
            size = size * int(extent) if extent.isdigit() else 0
        if p.shape[k].const > 1 and far != wanted:
            return False
        wanted *= p.shape[k].const
    return True
