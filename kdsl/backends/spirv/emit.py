"""From a host program of dispatches to one SPIR-V module and its manifest.

%A = OpVariable StorageBuffer          one binding for each array that a dispatch uses, and each scratch
%parameters = OpVariable PushConstant  sizes, scalars, variables of host loops
matmul_0: entry point                  one for each dispatch (entry.py)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from kdsl.backends.base import Artifact
from kdsl.backends.spirv import features
from kdsl.backends.spirv.entry import Entry, Parameters, emit_entry, is_tested, used_buffers, used_names
from kdsl.backends.spirv.faults import STATUS, STATUS_WORDS, SiteTable, State
from kdsl.backends.spirv.manifest import VERSION, FieldKind, fields, pack, passed_as, program, text
from kdsl.backends.spirv.memory import Bindings, Buffer, extent_expr, stored_kind
from kdsl.backends.spirv.module import Module
from kdsl.backends.spirv.narrow import Interval, Ranges
from kdsl.backends.spirv.opcodes import Storage
from kdsl.dtypes import DType, i32, i64, u32
from kdsl.ir.launch import Dispatch, HostIf, HostLoop, HostSteps, Launches
from kdsl.ir.nodes import Loop, ScalarParam
from kdsl.target import Target

PARAMETERS = "$parameters"
SEQUENCE = "$sequence"


@dataclass(frozen=True, slots=True)
class Placed:
    """A dispatch and the host loops around it."""

    dispatch: Dispatch
    loops: tuple[HostLoop, ...]


def compile(launches: Launches, target: Target) -> Artifact:
    """The module and the manifest of `launches`, packed; TargetError where the device cannot do it."""
    func = launches.func
    module = Module()
    placed = list(_dispatches(launches.steps, ()))
    made = {s.name: s for s in launches.scratch}
    arrays = {p.name: p for p in func.arrays}
    used = {name for p in placed for name in used_buffers(p.dispatch.body)}
    bound = [n for n in (*arrays, *made) if n in used]
    bindings = Bindings(module, frozenset(func.options.may_alias))
    bindings.add(bound)
    ranges = _ranges(launches)
    buffers = {}
    for name in bound:
        array = arrays.get(name)
        dtype = made[name].dtype if array is None else array.dtype
        shape = made[name].shape if array is None else tuple([extent_expr(e) for e in array.shape])
        buffers[name] = Buffer(name, dtype, shape, Storage.StorageBuffer, stored_kind(dtype))
    faults = any(is_tested(p.dispatch.body, target) for p in placed)
    if faults:
        bindings.add((STATUS,))
        bindings.written.add(STATUS)
    rows = _rows(launches, placed, ranges, buffers, faults)
    laid, nbytes = fields(rows)
    pushed = nbytes <= target.limits.push_bytes
    if laid and not pushed:
        bindings.add((PARAMETERS,))
    parameters = Parameters(module, laid, bindings.numbers.get(PARAMETERS))
    sites = SiteTable()
    state = State.of(module) if faults else None
    entries: list[Entry] = []
    for p in placed:
        own = Ranges(dict(ranges.vars), {}, ranges.products, dict(ranges.steps))
        for loop in p.loops:
            own.steps[loop.var] = own.step_of(_as_loop(loop))
            own.vars[loop.var] = own.of_loop(_as_loop(loop))
        entries.append(
            emit_entry(module, func, p.dispatch, target, bindings, buffers, own, parameters, sites, state)
        )
    bindings.finish()
    needed = features.check(module, entries, len(bindings.numbers), func, target)
    manifest = {
        "version": VERSION,
        "kernel": func.name,
        "spirv": "1.3",
        "features": needed,
        "buffers": _buffer_rows(bindings, buffers, set(arrays), entries),
        "parameters": {
            "in": "push" if pushed else "buffer",
            "bytes": nbytes,
            "fields": [
                {"name": f.name, "kind": f.kind, "dtype": f.dtype.name, "offset": f.offset} for f in laid
            ],
        },
        "conditions": [text(c.expr) for c in func.conditions],
        "entries": [
            {
                "name": e.name,
                "groups": [text(g) for g in e.groups],
                "block": list(e.block),
                "shared_bytes": e.shared_bytes,
                "reads": _numbers(bindings, e.reads),
                "writes": _numbers(bindings, e.writes),
            }
            for e in entries
        ],
        "program": program(launches.steps, {e.name: n for n, e in enumerate(entries)}),
    }
    conditions = tuple([(c.title, c.loc) for c in func.conditions])
    return Artifact(target, func.name, pack(manifest, module.words()), tuple(sites.sites), conditions)


def _dispatches(steps: HostSteps, loops: tuple[HostLoop, ...]) -> Iterable[Placed]:
    for s in steps:
        match s:
            case Dispatch():
                yield Placed(s, loops)
            case HostLoop():
                yield from _dispatches(s.steps, (*loops, s))
            case HostIf():
                yield from _dispatches(s.then, loops)
                yield from _dispatches(s.orelse, loops)


def _as_loop(loop: HostLoop) -> Loop:
    return Loop(loop.var, loop.lo, loop.hi, loop.step, ())


def _ranges(launches: Launches) -> Ranges:
    """What is known of sizes at every call."""
    func = launches.func
    ranges = Ranges.of_call(func.sizes, [p.shape for p in func.arrays])
    for p in func.params:
        if isinstance(p, ScalarParam) and p.dtype.is_int:
            ranges.vars[p.name] = Interval(p.dtype.min, p.dtype.max)
    for condition in func.conditions:
        ranges.assume(condition.expr)
    for scratch in launches.scratch:
        ranges.know_shape(scratch.shape)
    return ranges


def _rows(
    launches: Launches, placed: list[Placed], ranges: Ranges, buffers: dict[str, Buffer], faults: bool
) -> list[tuple[str, FieldKind, DType]]:
    """The parameters that dispatches read: name, kind, and the type in which they are passed."""
    func = launches.func
    shapes = [e for b in buffers.values() for e in b.shape]
    used = used_names([p.dispatch.body for p in placed], shapes)
    rows: list[tuple[str, FieldKind, DType]] = [(n, "size", i32) for n in func.sizes if n in used]
    for p in func.params:
        if isinstance(p, ScalarParam) and p.name in used:
            rows.append((p.name, "scalar", passed_as(p.dtype)))
    hosts: dict[str, DType] = {}
    for dispatch in placed:
        inner = Ranges(dict(ranges.vars), {}, ranges.products)
        for loop in dispatch.loops:
            inner.vars[loop.var] = values = inner.of_loop(_as_loop(loop))
            if loop.var in dispatch.dispatch.host_vars:
                wide = hosts.get(loop.var) == i64 or not values.fits
                hosts[loop.var] = i64 if wide else i32
    rows += [(name, "host", t) for name, t in hosts.items()]
    if faults and not _single(launches.steps):
        rows.append((SEQUENCE, "sequence", u32))
    return rows


def _single(steps: HostSteps) -> bool:
    """Whether the program is one dispatch, run once."""
    return all(isinstance(s, Dispatch) for s in steps) and len(steps) == 1


def _numbers(bindings: Bindings, names: Iterable[str]) -> list[int]:
    return sorted(bindings.numbers[n] for n in names if n in bindings.numbers)


def _buffer_rows(
    bindings: Bindings, buffers: dict[str, Buffer], arrays: set[str], entries: list[Entry]
) -> list[dict[str, Any]]:
    read = {n for e in entries for n in e.reads}
    written = {n for e in entries for n in e.writes}
    out: list[dict[str, Any]] = []
    for name, number in bindings.numbers.items():
        row: dict[str, Any] = {"binding": number, "name": name}
        if name == STATUS:
            row |= {"kind": "status", "dtype": "u32", "shape": [], "words": STATUS_WORDS}
            row |= {"read": True, "written": True}
        elif name == PARAMETERS:
            row |= {"kind": "parameters", "dtype": "u32", "shape": [], "read": True, "written": False}
        else:
            b = buffers[name]
            row |= {"kind": "argument" if name in arrays else "scratch", "dtype": b.dtype.name}
            row |= {"shape": [text(e) for e in b.shape], "read": name in read, "written": name in written}
        out.append(row)
    return out
