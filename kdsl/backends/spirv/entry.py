"""One entry point: a dispatch's body in a function, and around it what reports faults.

matmul_0:                              matmul_0.body:
  if a dispatch before failed: return    %i = WorkgroupId.x ...
  FunctionCall matmul_0.body             statements
  if fault: report
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from kdsl.analysis.axes import waits
from kdsl.backends.spirv import features
from kdsl.backends.spirv.arith import Arith, kind_of
from kdsl.backends.spirv.endings import may_end, test_ending
from kdsl.backends.spirv.expressions import Expressions
from kdsl.backends.spirv.faults import SITE, STATUS, SiteTable, State, Status
from kdsl.backends.spirv.lanes import wanted_sizes
from kdsl.backends.spirv.manifest import Field
from kdsl.backends.spirv.memory import Bindings, Buffer, Memory
from kdsl.backends.spirv.module import Code, Module, bits_of
from kdsl.backends.spirv.narrow import Ranges
from kdsl.backends.spirv.opcodes import BuiltIn, Decoration, Storage
from kdsl.backends.spirv.statements import Statements, body_can_fault
from kdsl.dtypes import DType, i32, i64
from kdsl.ir.launch import Dispatch
from kdsl.ir.nodes import (
    Accumulate,
    Alloc,
    Atomic,
    Binary,
    Body,
    Const,
    Expr,
    Func,
    Load,
    Loop,
    ScalarParam,
    Store,
    Var,
)
from kdsl.ir.walk import exprs, stmts, subexprs
from kdsl.target import Target

_AXES = ("x", "y", "z")


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry point as the manifest describes it. `reads` and `writes` name buffers."""

    name: str
    groups: tuple[Expr, Expr, Expr]
    block: tuple[int, int, int]
    shared_bytes: int
    reads: frozenset[str]
    writes: frozenset[str]


@dataclass(slots=True)
class Parameters:
    """The parameters of all entries: push constants, or the storage buffer number `binding`."""

    module: Module
    fields: tuple[Field, ...]
    binding: int | None
    _variable: int = 0

    def load(self, code: Code, f: Field) -> int:
        """A field, in the type in which it is passed."""
        m = self.module
        storage = Storage.PushConstant if self.binding is None else Storage.StorageBuffer
        if not self._variable:
            kinds = [kind_of(x.dtype) for x in self.fields]
            block = m.block(tuple(map(m.type, kinds)), tuple([x.offset for x in self.fields]))
            self._variable = m.variable(storage, block)
            m.name(self._variable, "parameters")
            if self.binding is not None:
                m.decorate(self._variable, Decoration.DescriptorSet, 0)
                m.decorate(self._variable, Decoration.Binding, self.binding)
                m.decorate(self._variable, Decoration.NonWritable)
        kind = kind_of(f.dtype)
        number = m.constant("i32", self.fields.index(f))
        pointer = code.address(m.pointer(storage, m.type(kind)), self._variable, number)
        return code.pure("Load", kind, pointer)


@dataclass(slots=True)
class Inputs:
    """The built-in variables of an entry point, made when needed."""

    code: Code
    variables: dict[BuiltIn, int] = field(default_factory=dict)

    def component(self, builtin: BuiltIn, axis: int) -> int:
        """One of three numbers."""
        m = self.code.module
        if builtin not in self.variables:
            id = m.variable(Storage.Input, m.type("i32x3"))
            m.decorate(id, Decoration.BuiltIn, builtin)
            m.name(id, builtin.name)
            self.variables[builtin] = id
        whole = self.code.pure("Load", "i32x3", self.variables[builtin])
        return self.code.pure("CompositeExtract", "i32", whole, axis)


def emit_entry(
    module: Module,
    func: Func,
    dispatch: Dispatch,
    target: Target,
    bindings: Bindings,
    buffers: dict[str, Buffer],
    ranges: Ranges,
    parameters: Parameters,
    sites: SiteTable,
    state: State | None,
) -> Entry:
    """Adds the entry point of a dispatch."""
    body = dispatch.body
    reads, writes = accesses(body)
    bindings.written |= writes
    if any(map(waits, stmts(body))):
        bindings.coherent |= reads & writes
    own_state = state if is_tested(body, target) else None
    code = Code(module).start()
    options = func.options
    arith = Arith(
        code,
        contract=not options.strict and not options.fastmath,
        fastmath=options.fastmath,
        exact_division=not options.strict or features.exact_device(target),
        fma_through_f64=features.exact_device(target) and target.has(["shaderFloat64", "shaderInt64"]),
    )
    x = Expressions(code, arith, Memory(arith, bindings), ranges, sites, own_state)
    inputs = Inputs(code)
    groups = folded(dispatch.groups, target.limits.groups, ranges)
    axes = _axes(inputs, arith, dispatch, groups)
    if features.drops_zeros(target) and any(map(_float_zero, exprs(body))):
        group = inputs.component(BuiltIn.WorkgroupId, 0)
        x.zero = arith.op("ShiftRightLogical", "i32", group, module.constant("i32", 31))
    module.place = func.loc
    _bind_names(x, func, body, parameters)
    x.buffers.update({n: b for n, b in buffers.items() if n in reads | writes})
    ranges.learn(body)
    shared = _SharedMemory(module, _float_atomics(body))
    statements = Statements(x, axes, dispatch.block, shared.make, features.device_name(target))
    _versions(x, statements, body)
    if code.open:
        code.end("Return")
    function = module.new()
    module.name(function, f"{dispatch.name}.body" if own_state else dispatch.name)
    code.finish(function)
    if own_state is not None:
        inner, function = function, module.new()
        module.name(function, dispatch.name)
        inputs.code = code = Code(module).start()

        def ended() -> None:
            if may_end(body, target):
                size = next((f for f in parameters.fields if f.kind == "size"), None)
                known = Status(code, bindings).load(SITE) if size is None else parameters.load(code, size)
                test_ending(Arith(code), body, target, known, own_state, sites)

        _reporting(code, inner, dispatch, groups, inputs, bindings, parameters, own_state, shared, ended)
        code.finish(function)
        reads, writes = reads | {STATUS}, writes | {STATUS}
    module.entry(function, dispatch.name, list(inputs.variables.values()), dispatch.block)
    return Entry(dispatch.name, groups, dispatch.block, shared.bytes, frozenset(reads), frozenset(writes))


def is_tested(body: Body, target: Target) -> bool:
    """Whether something in `body` is tested when it runs: it can fault, or the driver may end its loops."""
    return body_can_fault(body) or may_end(body, target)


def _float_zero(e: Expr) -> bool:
    return isinstance(e, Const) and e.type.is_float and e.value == 0.0


def _versions(x: Expressions, statements: Statements, body: Body) -> None:
    """The body, in a version of its own for sizes with which vectors can be loaded, where they matter."""
    wanted = wanted_sizes(body, x.buffers, x.ranges.multiple)
    if not wanted:
        statements.body(body)
        return
    a, divisible = x.arith, x.arith.const("bool", True)
    for name, by in wanted.items():
        rest = a.op("BitwiseAnd", "i32", x.low(Var(name, i64)), a.const("i32", by - 1))
        divisible = a.op("LogicalAnd", "bool", divisible, a.op("IEqual", "bool", rest, a.const("i32", 0)))

    def vectors() -> None:
        before = dict(x.ranges.steps)
        x.ranges.steps |= {n: by * x.ranges.steps.get(n, 1) for n, by in wanted.items()}
        statements.body(body)
        x.ranges.steps = before

    x.code.select(divisible, vectors, lambda: statements.body(body))


def folded(
    groups: tuple[Expr, Expr, Expr], limits: tuple[int, int, int], ranges: Ranges
) -> tuple[Expr, Expr, Expr]:
    """The grid, with work-groups along x beyond the limit put side by side along y or z, if that is free."""
    x, y, z = groups
    if ranges.of(x).hi > limits[0]:
        if _one(y):
            x, y = _split(x, limits[0])
        elif _one(z):
            x, z = _split(x, limits[0])
    return x, y, z


def _split(x: Expr, limit: int) -> tuple[Expr, Expr]:
    """x groups as rows of at most `limit`: their length and number."""
    rows = Binary("//", Binary("+", x, Const(limit - 1, i64)), Const(limit, i64))
    some = Binary("max", rows, Const(1, i64))
    up = Binary("-", Binary("+", x, some), Const(1, i64))
    return Binary("//", up, some), rows


def _one(e: Expr) -> bool:
    return isinstance(e, Const) and e.value == 1


def _axes(inputs: Inputs, a: Arith, dispatch: Dispatch, groups: tuple[Expr, Expr, Expr]) -> dict[str, int]:
    """The ids of the axes along which there is more than one work-group, or invocation."""
    out = {}
    for n, name in enumerate(_AXES):
        if not _one(dispatch.groups[n]):
            out[f"grid.{name}"] = _group(inputs, a, dispatch, groups, n)
    for n, name in enumerate(_AXES):
        if dispatch.block[n] > 1:
            out[f"block.{name}"] = inputs.component(BuiltIn.LocalInvocationId, n)
    return out


def _group(inputs: Inputs, a: Arith, dispatch: Dispatch, groups: tuple[Expr, Expr, Expr], n: int) -> int:
    """The number of this work-group along an axis; the rows of a folded grid follow each other."""
    at = inputs.component(BuiltIn.WorkgroupId, n)
    rows = _rows(dispatch, groups) if n == 0 else 0
    if not rows:
        return at
    row, length = inputs.component(BuiltIn.WorkgroupId, rows), inputs.component(BuiltIn.NumWorkgroups, 0)
    return a.op("IAdd", "i32", at, a.op("IMul", "i32", row, length))


def _rows(dispatch: Dispatch, groups: tuple[Expr, Expr, Expr]) -> int:
    """The axis along which the rows of a folded grid lie, else 0."""
    return next((n for n in (1, 2) if groups[n] != dispatch.groups[n]), 0)


def _bind_names(x: Expressions, func: Func, body: Body, parameters: Parameters) -> None:
    """Loads the parameters that the body reads."""
    dtypes: dict[str, DType] = {p.name: p.dtype for p in func.params if isinstance(p, ScalarParam)}
    arrays = {p.name for p in func.arrays}
    used = used_names([body], [Var(n, i64) for p in func.arrays for d in p.shape for n in d.terms])
    assert not arrays & used
    for f in parameters.fields:
        if f.kind == "sequence" or f.name not in used:
            continue
        t = dtypes.get(f.name, i64)
        raw = parameters.load(x.code, f)
        if t.kind == "bool":
            x.vars[f.name] = x.arith.cast(raw, i32, t), "bool"
        elif t == i64:
            x.vars[f.name] = raw, kind_of(f.dtype)
        else:
            x.vars[f.name] = raw, kind_of(t)


class _SharedMemory:
    """Makes arrays in work-group memory; `bytes` counts them. Floats with atomics are kept as bits."""

    def __init__(self, module: Module, bits: frozenset[str]) -> None:
        self.module = module
        self.as_bits = bits
        self.bytes = 0
        self._made: dict[int, Buffer] = {}

    def make(self, s: Alloc, count: int) -> Buffer:
        if s.id not in self._made:
            self._made[s.id] = self._new(s, count)
        return self._made[s.id]

    def _new(self, s: Alloc, count: int) -> Buffer:
        kind = kind_of(s.dtype)
        if s.name in self.as_bits:
            kind = f"i{bits_of(kind)}"
        m = self.module
        element = m.type(kind)
        variable = m.variable(Storage.Workgroup, m.array(element, count) if s.shape else element)
        m.name(variable, s.name)
        self.bytes += count * (4 if kind == "bool" else bits_of(kind) // 8)
        return Buffer(s.name, s.dtype, s.shape, Storage.Workgroup, kind, variable)

    def flag(self) -> int:
        """A word of work-group memory."""
        self.bytes += 4
        return self.module.variable(Storage.Workgroup, self.module.type("i32"))


def _float_atomics(body: Body) -> frozenset[str]:
    return frozenset(s.buffer for s in stmts(body) if isinstance(s, Atomic) and s.value.dtype.is_float)


def _reporting(
    code: Code,
    body: int,
    dispatch: Dispatch,
    groups: tuple[Expr, Expr, Expr],
    inputs: Inputs,
    bindings: Bindings,
    parameters: Parameters,
    state: State,
    shared: _SharedMemory,
    ended: Callable[[], None],
) -> None:
    """Calls the body, tests how it `ended`, and reports a fault, unless a dispatch before has failed."""
    m = code.module
    a = Arith(code)
    status = Status(code, bindings)
    sequence = next((f for f in parameters.fields if f.kind == "sequence"), None)
    one = m.constant("i32", 1)
    number = one if sequence is None else a.op("IAdd", "i32", parameters.load(code, sequence), one)
    local = _linear(dispatch, groups, "block", inputs, a)
    total = dispatch.block[0] * dispatch.block[1] * dispatch.block[2]
    bits = (total - 1).bit_length()

    def key() -> tuple[int, int]:
        group = _linear(dispatch, groups, "grid", inputs, a)
        phase = code.value("Load", "i32", state.phase)
        most = (1 << (32 - bits)) - 1
        late = a.op("UGreaterThan", "bool", phase, m.constant("i32", most))
        phase = a.pick("i32", late, m.constant("i32", most), phase)
        above = a.op("ShiftLeftLogical", "i32", phase, m.constant("i32", bits)) if bits < 32 else phase
        return group, a.op("BitwiseOr", "i32", above, local)

    def run() -> None:
        state.clear(code)
        code.value("FunctionCall", "void", body)
        ended()
        status.report(state, number, key)

    if sequence is None:
        run()
    else:
        failed = status.failed_before(number)
        if any(map(waits, stmts(dispatch.body))):
            failed = _agreed(code, failed, local, shared)
        code.select(code.pure("LogicalNot", "bool", failed), run)
    code.end("Return")


def _agreed(code: Code, failed: int, local: int, shared: _SharedMemory) -> int:
    """What the first invocation of a work-group found, so that all do the same."""
    from kdsl.backends.spirv.statements import barrier

    m = code.module
    word, a = shared.flag(), Arith(code)
    value = a.pick("i32", failed, m.constant("i32", 1), m.constant("i32", 0))
    first = a.op("IEqual", "bool", local, m.constant("i32", 0))
    code.select(first, lambda: code.do("Store", word, value))
    barrier(code)
    return a.op("INotEqual", "bool", code.value("Load", "i32", word), m.constant("i32", 0))


def _linear(dispatch: Dispatch, groups: tuple[Expr, Expr, Expr], kind: str, inputs: Inputs, a: Arith) -> int:
    """The number of this work-group, or invocation, in the order of the loops that are bound to the axes."""
    order = []
    for s in stmts(dispatch.body):
        if isinstance(s, Loop) and s.mark is not None and s.mark.kind == "bind":
            axis = s.mark.axis
            order += [axis[-1]] if axis.startswith(kind) and axis[-1] not in order else []
    at = a.const("i32", 0)
    for axis in [*order, *[x for x in _AXES if x not in order]]:
        n = _AXES.index(axis)
        if kind == "block":
            index, count = inputs.component(BuiltIn.LocalInvocationId, n), a.const("i32", dispatch.block[n])
        else:
            index, count = _group(inputs, a, dispatch, groups, n), inputs.component(BuiltIn.NumWorkgroups, n)
            rows = _rows(dispatch, groups)
            if n == 0 and rows:
                count = a.op("IMul", "i32", count, inputs.component(BuiltIn.NumWorkgroups, rows))
        if not (dispatch.block[n] == 1 if kind == "block" else _one(dispatch.groups[n])):
            at = a.op("IAdd", "i32", a.op("IMul", "i32", at, count), index)
    return at


# -- what a body uses


def used_names(bodies: Sequence[Body], shapes: Iterable[Expr]) -> set[str]:
    """The names of variables in bodies and in shapes."""
    found = {e.name for body in bodies for e in exprs(body) if isinstance(e, Var)}
    return found | {e.name for shape in shapes for e in subexprs(shape) if isinstance(e, Var)}


def accesses(body: Body) -> tuple[set[str], set[str]]:
    """The buffers that a body reads and writes and does not make."""
    made = {s.name for s in stmts(body) if isinstance(s, Alloc)}
    reads = {e.buffer for e in exprs(body) if isinstance(e, Load)}
    writes = set()
    for s in stmts(body):
        if isinstance(s, (Store, Accumulate, Atomic)):
            writes.add(s.buffer)
        if isinstance(s, (Accumulate, Atomic)):
            reads.add(s.buffer)
        if isinstance(s, Atomic) and s.old:
            writes.add(s.old)
    return reads - made, writes - made


def used_buffers(body: Body) -> set[str]:
    """The buffers that a body touches and does not make."""
    reads, writes = accesses(body)
    return reads | writes
