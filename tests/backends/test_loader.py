"""The ELF loader: constants, jump tables, calls out, data; damaged objects; the same by LLVM's engine."""

from __future__ import annotations

import ctypes
import ctypes.util
import gc
import platform
import sys

import numpy as np
import pytest

from kdsl.backends.llvm import codegen, elf, host, host_target
from kdsl.backends.llvm.load import EngineCode, Executable
from kdsl.backends.llvm.symbols import address_of
from kdsl.dtypes import f64, i64
from kdsl.ir.nodes import Binary, Func, ScalarParam, Var
from tests.backends.harness import array, build, const, put, run
from tests.backends.test_statements import matmul

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="objects of Linux x86-64"
)

PROGRAM = """
@table = private unnamed_addr constant [4 x i64] [i64 10, i64 20, i64 30, i64 40]
@counter = global i64 5
@zeroed = internal global [100 x i64] zeroinitializer
@pointer = global ptr @counter
@outside = external global i8
declare double @fmod(double, double)
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
declare i64 @hidden.callback(i64)

define i64 @constants(i64 %n) {
  %p = getelementptr i64, ptr @table, i64 %n
  %x = load i64, ptr %p
  ret i64 %x
}
define double @remainder(double %a, double %b) {
  %r = call double @fmod(double %a, double %b)
  %s = fadd double %r, 0x400921FB54442D18
  ret double %s
}
define i64 @count(i64 %by) {
  %c = load ptr, ptr @pointer
  %x = load i64, ptr %c
  %y = add i64 %x, %by
  store i64 %y, ptr @counter
  %z = getelementptr i64, ptr @zeroed, i64 7
  %w = load i64, ptr %z
  store i64 %y, ptr %z
  %v = add i64 %y, %w
  ret i64 %v
}
define void @clear(ptr %p, i64 %n) {
  call void @llvm.memset.p0.i64(ptr %p, i8 0, i64 %n, i1 false)
  ret void
}
define void @copy(ptr %p, ptr %q, i64 %n) {
  call void @llvm.memcpy.p0.p0.i64(ptr %p, ptr %q, i64 %n, i1 false)
  ret void
}
define ptr @address() {
  ret ptr @outside
}
define i64 @back(i64 %n) {
  %r = call i64 @hidden.callback(i64 %n)
  %s = add i64 %r, 1
  ret i64 %s
}
define i64 @jump(i64 %n, i64 %x) {
  switch i64 %n, label %other [ i64 0, label %a
    i64 1, label %b
    i64 2, label %c
    i64 3, label %d
    i64 4, label %e ]
a:
  %va = mul i64 %x, %x
  ret i64 %va
b:
  %vb = call i64 @hidden.callback(i64 %x)
  ret i64 %vb
c:
  %vc = xor i64 %x, 12345
  ret i64 %vc
d:
  store i64 %x, ptr @counter
  ret i64 4
e:
  %ve = udiv i64 %x, 7
  ret i64 %ve
other:
  ret i64 -1
}
"""


def _object(text: str) -> bytes:
    machine = codegen._machine(host_target())
    return bytes(machine.emit_object(codegen._optimised(text, host_target())))


def _function(code: elf.LoadedObject, name: str, result: object, *arguments: object) -> object:
    return ctypes.CFUNCTYPE(result, *arguments)(code.address(name))  # type: ignore[arg-type]


def test_every_way_to_refer_to_something() -> None:
    long, double = ctypes.c_int64, ctypes.c_double
    callback = ctypes.CFUNCTYPE(long, long)(lambda n: 100 * n)
    marker = ctypes.c_char(b"x")
    own = {
        "hidden.callback": ctypes.cast(callback, ctypes.c_void_p).value,
        "outside": ctypes.addressof(marker),
    }
    code = elf.load_object(_object(PROGRAM), lambda name: own.get(name) or address_of(name))
    constants = _function(code, "constants", long, long)
    assert [constants(n) for n in range(4)] == [10, 20, 30, 40]
    assert _function(code, "remainder", double, double, double)(7.5, 2.0) == 1.5 + np.pi
    count = _function(code, "count", long, long)
    assert [count(1), count(2), count(3)] == [6, 8 + 6, 11 + 8]
    a = np.arange(100, dtype="u1")
    b = np.ones(100, "u1")
    pointer = ctypes.c_void_p
    _function(code, "copy", None, pointer, pointer, long)(b.ctypes.data, a.ctypes.data, 60)
    assert np.array_equal(b[:60], a[:60]) and b[60:].all()
    _function(code, "clear", None, pointer, long)(b.ctypes.data, 50)
    assert not b[:50].any() and b[50] == 50
    assert _function(code, "address", pointer)() == ctypes.addressof(marker)
    assert _function(code, "back", long, long)(3) == 301
    jump = _function(code, "jump", long, long, long)
    assert [jump(n, 70) for n in range(7)] == [4900, 7000, 70 ^ 12345, 4, 10, -1, -1]


def test_memory_is_never_writable_and_executable() -> None:
    code = elf.load_object(
        _object(PROGRAM.replace("@hidden.callback", "@labs").replace("@outside", "@environ")), address_of
    )
    regions = []
    with open("/proc/self/maps") as maps:
        for line in maps:
            span, rights = line.split()[:2]
            low, high = (int(x, 16) for x in span.split("-"))
            if low <= code.base < high or code.base <= low < code.base + 3 * 4096:
                regions.append(rights)
    assert "r-xp" in regions and not any("w" in r and "x" in r for r in regions)


def test_memory_is_given_back() -> None:
    artifact = build(matmul()).artifact
    gc.collect()
    before = _mappings()
    for _ in range(50):
        Executable(artifact, elf.load_object(artifact.code, address_of))
    gc.collect()
    assert _mappings() < before + 30


def _mappings() -> int:
    with open("/proc/self/maps") as maps:
        return sum(1 for _ in maps)


def test_damaged_objects_are_refused() -> None:
    good = build(matmul()).artifact.code
    for bad in (
        b"",
        b"\x7fELF",
        good[:100],
        good[:-200],
        b"MZ" + good[2:],
        good[:40] + b"\xff" * 8 + good[48:],
    ):
        with pytest.raises(elf.BadObject):
            elf.load_object(bad, address_of)


def test_unknown_symbol_is_named() -> None:
    with pytest.raises(elf.BadObject, match=r"hidden\.callback"):
        elf.load_object(_object(PROGRAM.replace("@outside", "@environ")), address_of)


def test_llvms_engine_loads_the_same_object() -> None:
    executable = build(matmul())
    other = Executable(executable.artifact, EngineCode(executable.artifact.code))
    rng = np.random.default_rng(1)
    a, b = rng.random((5, 6), "f4"), rng.random((6, 7), "f4")
    results = []
    for e in (executable, other):
        c = np.zeros((5, 7), "f4")
        assert run(matmul(), {"A": a, "B": b, "C": c}, {"M": 5, "N": 7, "K": 6}, executable=e).code == 0
        results.append(c)
    assert np.array_equal(*results)


def test_library_call_in_a_kernel() -> None:
    e = Binary("%", Var("x", f64), const(0.3, f64))
    func = Func("call", (ScalarParam("x", f64), array("o", f64, 1, written=True)), (put("o", e, const(0)),))
    o = np.zeros(1)
    assert run(func, {"x": -7.25, "o": o}).code == 0 and o[0] == np.float64(-7.25) % 0.3


def test_loading_needs_no_llvm() -> None:
    """In a fresh process, an object from bytes: llvmlite is not imported."""
    import subprocess
    import tempfile
    from pathlib import Path

    artifact = build(
        Func("f", (array("o", i64, 1, written=True),), (put("o", const(42), const(0)),))
    ).artifact
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "code.o"
        path.write_bytes(artifact.code)
        script = f"""
import ctypes, sys
from pathlib import Path
from kdsl.backends.base import Artifact
from kdsl.backends.llvm import host_target, load
e = load(Artifact(host_target(), {artifact.symbol!r}, Path({str(path)!r}).read_bytes(), (), ()))
o = (ctypes.c_int64 * 1)()
frame = (ctypes.c_int64 * 4)(0, 0, 0, ctypes.addressof(o))
assert e.run(ctypes.addressof(frame)) == 0 and o[0] == 42
assert "llvmlite" not in sys.modules
"""
        subprocess.run([sys.executable, "-c", script], check=True)


CPUINFO = """processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 85
model name\t: Something
stepping\t: 7
flags\t\t: fpu sse4_1 avx avx2 fma f16c avx512f unheard_of
"""


def test_host_target_from_cpuinfo() -> None:
    target = host.from_cpuinfo(CPUINFO + "\n" + CPUINFO.replace("avx2", ""))
    assert target is not None and target.cpu == "native:GenuineIntel-6-85-7"
    assert target.features == "+avx,+avx2,+avx512f,+f16c,+fma,+sse4.1"
    assert (target.vector_bytes, target.vector_registers) == (64, 32)
    older = host.from_cpuinfo(CPUINFO.replace(" avx512f", ""))
    assert older is not None and (older.vector_bytes, older.vector_registers) == (32, 16)
    assert older.fingerprint != target.fingerprint
    assert host.from_cpuinfo("processor : 0\n") is None


def test_flags_of_this_machine_are_what_llvm_says() -> None:
    """Each feature that the kernel's flags promise is one that LLVM sees too."""
    llvm = set(codegen.llvm_host()[1].split(","))
    mine = set(host_target().features.split(","))
    assert mine <= llvm
