"""The instruction by the assembler's name, not the intrinsic's."""

import kdsl
from kdsl import i8, i32, u8


@kdsl.instruction(llvm="vpdpbusd", features=("avx512vnni",))
def dot(acc: i32[16], a: u8[4], b: i8[16, 4]):
    for n in range(16):
        for q in range(4):
            acc[n] += i32(a[q]) * i32(b[n, q])
