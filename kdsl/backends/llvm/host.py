"""What this machine's CPU is, found without LLVM where possible, so that a warm start need not load it.

On Linux x86-64 the target's `cpu` is `native:` and what decides LLVM's choice (vendor, family, model,
stepping), its `features` are the kernel's CPU flags under LLVM's names: another machine has another
fingerprint. LLVM's own name for the CPU is looked up when something is compiled.
"""

from __future__ import annotations

import difflib
import os
import sys
from functools import cache
from pathlib import Path

from kdsl.errors import TargetError
from kdsl.target import Target

NATIVE = "native:"

_CPUINFO = Path("/proc/cpuinfo")
_FLAGS = {
    "sse3": "sse3", "pni": "sse3", "ssse3": "ssse3", "sse4_1": "sse4.1", "sse4_2": "sse4.2", "sse4a": "sse4a",
    "popcnt": "popcnt", "cx16": "cx16", "movbe": "movbe", "abm": "lzcnt", "bmi1": "bmi", "bmi2": "bmi2",
    "avx": "avx", "avx2": "avx2", "fma": "fma", "f16c": "f16c", "gfni": "gfni", "vaes": "vaes", "adx": "adx",
    "vpclmulqdq": "vpclmulqdq", "avx512f": "avx512f", "avx512dq": "avx512dq", "avx512cd": "avx512cd",
    "avx512bw": "avx512bw", "avx512vl": "avx512vl", "avx512ifma": "avx512ifma", "avx512vbmi": "avx512vbmi",
    "avx512_vbmi2": "avx512vbmi2", "avx512_vnni": "avx512vnni", "avx512_bitalg": "avx512bitalg",
    "avx512_vpopcntdq": "avx512vpopcntdq", "avx512_bf16": "avx512bf16", "avx512_fp16": "avx512fp16",
    "avx512_vp2intersect": "avx512vp2intersect", "avx_vnni": "avxvnni", "avx_ifma": "avxifma",
    "amx_tile": "amx-tile", "amx_int8": "amx-int8", "amx_bf16": "amx-bf16", "amx_fp16": "amx-fp16",
}  # fmt: skip


@cache
def host_target() -> Target:
    """The target `cpu` of this machine."""
    if sys.platform == "linux" and os.uname().machine == "x86_64" and _CPUINFO.exists():
        with _CPUINFO.open() as file:
            target = from_cpuinfo(file.read(8192))
        if target is not None:
            return target
    from kdsl.backends.llvm.codegen import llvm_host

    cpu, features, triple = llvm_host()
    return _sized(cpu, features, triple)


def from_cpuinfo(text: str) -> Target | None:
    """The target that the first processor of /proc/cpuinfo describes; None when fields are missing."""
    first = text.split("\n\n")[0]
    fields = {}
    for line in first.splitlines():
        name, _, value = line.partition(":")
        fields[name.strip()] = value.strip()
    identity = [fields.get(name) for name in ("vendor_id", "cpu family", "model", "stepping")]
    flags = fields.get("flags")
    if flags is None or None in identity:
        return None
    features = sorted({f"+{_FLAGS[flag]}" for flag in flags.split() if flag in _FLAGS})
    cpu = NATIVE + "-".join(part for part in identity if part)
    return _sized(cpu, ",".join(features), "x86_64-unknown-linux-gnu")


def _sized(cpu: str, features: str, triple: str) -> Target:
    """Adds the vector register file: 32 of 64 bytes with AVX-512, 16 of 32 with AVX2, NEON has 32 of 16."""
    have = features.split(",")
    if "+avx512f" in have:
        width, count = 64, 32
    elif "+avx2" in have:
        width, count = 32, 16
    else:
        width, count = 16, 32 if triple.startswith(("aarch64", "arm64")) else 16
    return Target("cpu", 0, cpu, features, triple, width, count)


_V2 = "+cx16,+popcnt,+sse3,+sse4.1,+sse4.2,+ssse3"
_V3 = f"{_V2},+avx,+avx2,+bmi,+bmi2,+f16c,+fma,+lzcnt,+movbe"
LEVELS = {
    "x86-64": "",
    "x86-64-v2": _V2,
    "x86-64-v3": _V3,
    "x86-64-v4": f"{_V3},+avx512bw,+avx512cd,+avx512dq,+avx512f,+avx512vl",
}
"""What every CPU of a level has. Source: System V ABI, AMD64 supplement, table 3.1."""


def cpu_names() -> tuple[str, ...]:
    """The CPUs that `cpu_target` knows on this machine."""
    return ("native", *(LEVELS if host_target().triple.startswith("x86_64") else ("generic",)))


def cpu_target(name: str) -> Target:
    """The target of a kind of CPU, for code that will run on other machines than this one.

    "native" is this one; "x86-64-v3" and the other levels, or "generic" elsewhere, are what many have.
    """
    host = host_target()
    if name == "native":
        return host
    if name not in cpu_names():
        near = difflib.get_close_matches(name, cpu_names(), 1)
        raise TargetError(
            "K0716",
            f"there is no CPU {name!r} to compile for",
            notes=[f"the CPUs are {', '.join(cpu_names())}"],
            help=f"did you mean {near[0]}?" if near else "write --cpu native for this machine",
        )
    return _sized(name, LEVELS.get(name, ""), host.triple)


def cpu_text(target: Target) -> str:
    """A target's CPU for a reader: `x86-64-v3`, or LLVM's name of this machine's."""
    if not target.cpu.startswith(NATIVE):
        return target.cpu
    from kdsl.backends.llvm.codegen import llvm_host

    return f"this CPU ({llvm_host()[0]})"
