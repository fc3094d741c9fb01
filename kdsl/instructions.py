"""Instructions that kdsl ships, for `tensorize`: dot products of x86.

Each is a kernel that says what the instruction computes: a sum of 4 (or 2) products for each of 16 (or 8)
lanes, where `a` is the same for all lanes. `b` has the terms of a lane side by side, so that a matrix is
packed as `[k // 4][n][4]`: `s.stage("B", at=..., layout={"tile": (4, None), "order": (0, 2, 1)})`.
"""

from __future__ import annotations

from kdsl.dtypes import bf16, f32, i8, i32, u8
from kdsl.runtime.instruction import instruction


@instruction(llvm="llvm.x86.avx512.vpdpbusd.512", features=("avx512vnni",))
def dot4_u8s8(acc: i32[16], a: u8[4], b: i8[16, 4]):
    """AVX-512 VNNI, `vpdpbusd`. Exact: sums wrap as i32 does, nothing saturates."""
    for n in range(16):
        for q in range(4):
            acc[n] += i32(a[q]) * i32(b[n, q])


@instruction(llvm="llvm.x86.avx512.vpdpbusd.512", features=("avx512vnni",))
def dot4_vectors_u8s8(acc: i32[16], a: u8[16, 4], b: i8[16, 4]):
    """As `dot4_u8s8`, with an `a` of its own for each lane."""
    for n in range(16):
        for q in range(4):
            acc[n] += i32(a[n, q]) * i32(b[n, q])


@instruction(llvm="llvm.x86.avx512.vpdpbusd.256", features=("avx512vnni", "avx512vl"))
def dot4_u8s8_x8(acc: i32[8], a: u8[4], b: i8[8, 4]):
    """AVX-512 VNNI on 256 bits: 8 lanes."""
    for n in range(8):
        for q in range(4):
            acc[n] += i32(a[q]) * i32(b[n, q])


@instruction(llvm="llvm.x86.avx512.vpdpbusd.256", features=("avxvnni",))
def dot4_u8s8_avx(acc: i32[8], a: u8[4], b: i8[8, 4]):
    """AVX-VNNI, for processors without AVX-512: 8 lanes."""
    for n in range(8):
        for q in range(4):
            acc[n] += i32(a[q]) * i32(b[n, q])


@instruction(llvm="llvm.x86.avx512bf16.dpbf16ps.512", features=("avx512bf16",))
def dot2_bf16(acc: f32[16], a: bf16[2], b: bf16[16, 2]):
    """AVX512-BF16, `vdpbf16ps`. Not exact, so refused under `strict`.

    Terms are added in an order of the processor's own, and denormal inputs and results count as 0.
    """
    for n in range(16):
        for q in range(2):
            acc[n] += f32(a[q]) * f32(b[n, q])


@instruction(llvm="llvm.x86.avx512bf16.dpbf16ps.256", features=("avx512bf16", "avx512vl"))
def dot2_bf16_x8(acc: f32[8], a: bf16[2], b: bf16[8, 2]):
    """As `dot2_bf16`, on 256 bits: 8 lanes."""
    for n in range(8):
        for q in range(2):
            acc[n] += f32(a[q]) * f32(b[n, q])
