"""What a host program has to know of a SPIR-V module, as JSON; and both in one container.

```
{"version": 1, "kernel": "matmul", "spirv": "1.3", "features": ["shaderInt64"],
 "buffers": [{"binding": 0, "name": "A", "kind": "argument", "dtype": "f32", "shape": ["M", "K"],
              "read": true, "written": false}],
 "parameters": {"in": "push", "bytes": 12,
                "fields": [{"name": "M", "kind": "size", "dtype": "i32", "offset": 0}]},
 "conditions": ["M >= 1"],
 "entries": [{"name": "matmul_0", "groups": ["(M + 15) // 16", "1", "1"], "block": [16, 16, 1],
              "shared_bytes": 0, "reads": [0], "writes": [1]}],
 "program": [{"dispatch": 0},
             {"for": "t", "lo": "0", "hi": "T", "step": "1", "do": [...]},
             {"if": "N > 4", "then": [...], "else": [...]}]}
```

- Expressions are text of the IR printer over sizes, scalar arguments and variables of enclosing host loops.
- `features`: as Vulkan spells them; the device is opened with them.
- `buffers`: storage buffers of descriptor set 0, those that no entry uses left out. Each has a size that is a
  multiple of 4 bytes and not 0. `kind`:
  "argument": an array argument or result, contiguous in C order, a bool as 1 byte, bf16 as 2.
  "scratch": for one call, contents undefined.
  "status": 8 words u32, zeros at the start of a call: {lock, order key (2 words), site, value i64 (2 words),
  extent i64 (2 words)}; site is 0, or the number (from 1) of the place that faulted.
  "parameters": where they do not fit into push constants.
- Sizes, extents and the number of elements of each buffer are below 2**30: what was compiled relies on it.
- `parameters`: "push" constants or a "buffer"; each field lies at its offset, converted to `dtype` (a bool is
  a u32, f16 and bf16 are f32). `kind`: "size", "scalar" (argument), "host" (variable of a host loop),
  "sequence" (the number of this dispatch in its call, from 0). A field that no entry reads holds anything.
- `conditions`: checked at the call, in order, before anything is sent.
- `entries`: work-groups along x, y, z (nothing is launched where one is not positive), the size of a
  work-group, which the module states too, bytes of its memory, and the bindings that it reads and writes.
- `program`: the dispatches in their order. Each sees what those before it wrote.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kdsl.dtypes import DType, f32, i32, i64, u32
from kdsl.ir.launch import Dispatch, HostIf, HostLoop, HostSteps
from kdsl.ir.nodes import Expr
from kdsl.ir.printer import print_expr

VERSION = 1

FieldKind = Literal["size", "scalar", "host", "sequence"]


@dataclass(frozen=True, slots=True)
class Field:
    """A parameter at its place, as `dtype`."""

    name: str
    kind: FieldKind
    dtype: DType
    offset: int


def passed_as(t: DType) -> DType:
    """The type in which a scalar argument is passed."""
    if t.bits >= 32:
        return t
    return f32 if t.is_float else i32 if t.kind == "int" else u32


def fields(parameters: Iterable[tuple[str, FieldKind, DType]]) -> tuple[tuple[Field, ...], int]:
    """Places for parameters, and the number of bytes: the wide ones first, so that nothing is padded."""
    out = []
    offset = 0
    for name, kind, dtype in sorted(parameters, key=lambda p: -p[2].bytes):
        out.append(Field(name, kind, dtype, offset))
        offset += dtype.bytes
    return tuple(out), offset


def program(steps: HostSteps, numbers: Mapping[str, int]) -> list[dict[str, Any]]:
    """The host program; `numbers` gives the number of an entry."""
    out: list[dict[str, Any]] = []
    for s in steps:
        match s:
            case Dispatch():
                out.append({"dispatch": numbers[s.name]})
            case HostLoop():
                out.append(
                    {
                        "for": s.var,
                        "lo": text(s.lo),
                        "hi": text(s.hi),
                        "step": text(s.step),
                        "do": program(s.steps, numbers),
                    }
                )
            case HostIf():
                then, orelse = program(s.then, numbers), program(s.orelse, numbers)
                out.append({"if": text(s.cond), "then": then, "else": orelse})
    return out


def text(e: Expr) -> str:
    """An expression of the host."""
    return print_expr(e, e.dtype == i64)


def pack(manifest: Mapping[str, Any], module: bytes) -> bytes:
    """Both in one: the manifest's length (4 bytes, little end first), the manifest, the module."""
    raw = json.dumps(manifest).encode()
    raw += b" " * (-len(raw) % 4)
    return len(raw).to_bytes(4, "little") + raw + module


def unpack(code: bytes) -> tuple[dict[str, Any], bytes]:
    """The manifest and the module of what `pack` made."""
    end = 4 + int.from_bytes(code[:4], "little")
    manifest: dict[str, Any] = json.loads(code[4:end])
    return manifest, code[end:]
