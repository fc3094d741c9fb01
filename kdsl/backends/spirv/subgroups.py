"""What the invocations of a work-group do together: a sum (or `* min max`) of a value of each of them.

    for r in bind(range(64), "block.x"):        %s = GroupNonUniformFAdd Subgroup Reduce %value
        total[i] += together(part[r])     ->    the first of a subgroup: lead[its number] = %s
                                                barrier
                                                the first of all: total[i] += lead[0] + lead[8] + ...

Of subgroups nothing is taken for granted but that their invocations reduce: bits in work-group memory say
who was the first of one. (llvmpipe cuts a block into its rows first, and does not count them right.)
Invocations without a value give one that changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from math import inf, prod
from typing import TYPE_CHECKING

from kdsl.analysis.axes import AXES, axis_of, meeting
from kdsl.analysis.linear import extent
from kdsl.backends.spirv.arith import kind_of
from kdsl.backends.spirv.module import bits_of
from kdsl.backends.spirv.opcodes import (
    REDUCE,
    RELAXED,
    SUBGROUP_SCOPE,
    WORKGROUP_SCOPE,
    Capability,
    Glsl,
)
from kdsl.dtypes import DType, i32, i64, u32
from kdsl.ir.nodes import AccumulateOp, Alloc, Const, Loop, Stmt

if TYPE_CHECKING:
    from kdsl.backends.spirv.statements import Statements

_OPS = {"+": "Add", "*": "Mul", "min": "Min", "max": "Max"}


def combine(st: Statements, nest: Loop) -> None:
    """Emits a nest of invocations that meet in an Accumulate."""
    s = meeting(nest)
    assert s is not None
    x, a, code, m = st.x, st.x.arith, st.code, st.code.module
    t = s.value.dtype
    kind, total = kind_of(t), prod(st.block)
    words = -(-total // 32)
    made = [Alloc(f"{s.buffer}_lead", t, (Const(total, i64),), "shared", id=s.id)]
    made.append(Alloc(f"{s.buffer}_leads", u32, (Const(words, i64),), "shared", id=-s.id))
    lead, leads = st.shared(made[0], total), st.shared(made[1], words)
    zero, one, scope = a.const("i32", 0), a.const("i32", 1), m.constant("i32", SUBGROUP_SCOPE)

    def none() -> None:
        for n in range(words):
            x.memory.store(leads, x.memory.pointer(leads, a.const("i32", n)), zero)

    st.alone(leads, none)
    st.barrier()
    value = _reduced(st, s.op, t, _value(st, nest, kind))
    m.need(Capability.GroupNonUniform)
    number = _number(st)
    here = x.memory.pointer(lead, number)
    word = x.memory.pointer(leads, a.op("ShiftRightLogical", "i32", number, a.const("i32", 5)))
    bit = a.op("ShiftLeftLogical", "i32", one, a.op("BitwiseAnd", "i32", number, a.const("i32", 31)))

    def give() -> None:
        x.memory.store(lead, here, value)
        order = m.constant("i32", WORKGROUP_SCOPE), m.constant("i32", RELAXED)
        code.value("AtomicOr", "i32", word, *order, bit)

    code.select(code.value("GroupNonUniformElect", "bool", scope), give)
    st.barrier()
    buffer, at = x.place(s.buffer, s.index, s.checked, s.loc)

    def act() -> None:
        whole = _neutral(st, s.op, t)
        for n in range(words):
            start = a.const("i32", 32 * n)
            left = x.memory.load(leads, x.memory.pointer(leads, a.const("i32", n)))

            def step(v: Sequence[int], start: int = start) -> Sequence[int]:
                at = a.op("IAdd", "i32", start, a.glsl(Glsl.FindILsb, "i32", v[0]))
                other = x.memory.load(lead, x.memory.pointer(lead, at))
                rest = a.op("BitwiseAnd", "i32", v[0], a.op("ISub", "i32", v[0], one))
                return rest, a.binary(s.op, t, v[1], other)

            more = lambda v: a.op("INotEqual", "bool", v[0], zero)  # noqa: E731
            _, whole = code.loop(("i32", kind), (left, whole), more, lambda *_: None, step)
        pointer = x.memory.pointer(buffer, at)
        old = x.memory.load(buffer, pointer)
        if buffer.narrow:
            whole = a.narrowed(whole)
        x.memory.store(buffer, pointer, a.binary(s.op, i32 if buffer.narrow else t, old, whole))

    st.alone(buffer, act)


def _number(st: Statements) -> int:
    """The number of this invocation in its work-group."""
    a = st.x.arith
    at, stride = a.const("i32", 0), 1
    for axis, size in zip(AXES, st.block):
        if size > 1:
            along = a.op("IMul", "i32", st.axes[f"block.{axis}"], a.const("i32", stride))
            at = a.op("IAdd", "i32", at, along)
        stride *= size
    return at


def _value(st: Statements, nest: Loop, kind: str) -> int:
    """This invocation's value, or one that changes nothing."""
    x, a = st.x, st.x.arith
    s = meeting(nest)
    assert s is not None
    active: int | None = None
    loops: dict[str, Loop] = {}
    inner: Stmt = nest
    while isinstance(inner, Loop):
        loops[axis_of(inner)] = inner
        (inner,) = inner.body
    for size, name in zip(st.block, [f"block.{axis}" for axis in AXES]):
        count = extent(loops[name]) if name in loops else 1
        assert count is not None
        if count < size:
            inside = a.op("ULessThan", "bool", st.axes[name], a.const("i32", count))
            active = inside if active is None else a.op("LogicalAnd", "bool", active, inside)
    neutral = _neutral(st, s.op, s.value.dtype)

    def value() -> int:
        with ExitStack() as names:
            for axis, loop in loops.items():
                names.enter_context(st.named(loop, x.ranges.of_loop(loop)))
                x.vars[loop.var] = st.axes.get(axis, a.const("i32", 0)), "i32"
            found = x.emit(s.value)
        if s.op in ("min", "max") and s.value.dtype.is_float:
            # A cell is kept when the value is none.
            nan = a.call("isnan", s.value.dtype, [found], s.value.dtype)
            found = a.pick(kind, nan, neutral, found)
        return found

    return value() if active is None else st.code.choose(active, kind, value, lambda: neutral)


def _neutral(st: Statements, op: AccumulateOp, t: DType) -> int:
    """What changes nothing."""
    m, kind = st.code.module, kind_of(t)
    if t.is_float:
        return m.constant(kind, {"+": -0.0, "*": 1.0, "min": inf, "max": -inf}[op])
    return m.constant(kind, {"+": 0, "*": 1, "min": t.max, "max": t.min}[op])


def _reduced(st: Statements, op: AccumulateOp, t: DType, value: int) -> int:
    """The values of a subgroup as one."""
    a, kind, m = st.x.arith, kind_of(t), st.code.module
    m.need(Capability.GroupNonUniformArithmetic)
    letter = "F" if t.is_float else "I" if op in ("+", "*") else "S" if t.kind == "int" else "U"
    scope = m.constant("i32", SUBGROUP_SCOPE)
    result = st.code.value(f"GroupNonUniform{letter}{_OPS[op]}", kind, scope, REDUCE, value)
    if not t.is_float:
        return a.wrapped(t, result)
    if op != "+":
        return result
    # A device may start from 0.0: the sum is -0.0 where all are.
    whole, top = f"i{bits_of(kind)}", bits_of(kind) - 1
    sign = a.op("ShiftRightLogical", whole, a.bits(kind, value), a.const(whole, top))
    sign = sign if whole == "i32" else a.narrowed(sign)
    sign = st.code.value("GroupNonUniformBitwiseAnd", "i32", scope, REDUCE, sign)
    negative = a.op("INotEqual", "bool", sign, a.const("i32", 0))
    zero = a.op("IEqual", "bool", a.magnitude(kind, result), a.const(whole, 0))
    least = a.op("Bitcast", kind, a.const(whole, 1 << top))
    return a.pick(kind, a.op("LogicalAnd", "bool", zero, negative), least, result)
