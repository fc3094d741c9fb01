"""What this machine's CPU is, found without LLVM where possible, so that a warm start need not load it.

On Linux x86-64 the target's `cpu` is `native:` and what decides LLVM's choice (vendor, family, model,
stepping), its `features` are the kernel's CPU flags under LLVM's names: another machine has another
fingerprint. LLVM's own name for the CPU is looked up when something is compiled.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path

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
