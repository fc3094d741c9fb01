"""`kdsl build --target cpu`: object, shared library and header, from C and through ctypes, without Python."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kdsl import cli

FILE = """
import kdsl
from kdsl import bf16, bool_, f16, f32, f64, i8, i32, i64, u8

M, N, K = kdsl.sizes("M N K")
T = kdsl.typevar("T", f32, f64)


@kdsl.kernel
def matmul(A: f32[M, K], B: f32[K, N], C: f32[M, N]):
    for i in range(M):
        for j in range(N):
            acc = 0.0
            for k in range(K):
                acc += A[i, k] * B[k, j]
            C[i, j] = acc


def tiled(s):
    s = s.tile(["i", "j"], [4, 16]).reorder("i_o", "j_o", "k", "i_i", "j_i")
    return s.vectorize("j_i").unroll("i_i").parallel("i_o")


@kdsl.kernel
def gather(s: f64, X: f64[N], index: i32[M], Y: f64[M]):
    for i in range(M):
        Y[i] = s * X[index[i]]


def parallel(s):
    return s.parallel("i")


@kdsl.kernel
def shifted(X: f32[N], Y: f32[M]):
    for i in range(M):
        Y[i] = X[i + 1]


@kdsl.kernel
def statistics(X: f64[N + 2]) -> (f64, f64[N]):
    work = kdsl.empty((N, 4), f64)
    total = 0.0
    for i in range(N):
        work[i, 3] = X[i + 1]
        total += X[i]
    out = kdsl.empty((N,), f64)
    for i in range(N):
        out[i] = 2 * work[i, 3]
    return total, out


@kdsl.kernel
def faults(kind: i32, x: i64, Y: i64[1]):
    if kind == 1:
        Y[0] = 10 // x
    if kind == 2:
        assert x > 0, "100 % \\"positive\\""
    if kind == 3:
        Y[0] = 2 ** x
    if kind == 4:
        for i in range(0, 10, x):
            Y[0] += i


@kdsl.kernel
def small(flag: bool_, a: i8, b: u8, h: f16, X: f16[N], Y: bool_[N]):
    for i in range(N):
        Y[i] = flag and X[i] * h > a + b


@kdsl.kernel(may_alias=("X", "Y"))
def moved(X: f32[N], Y: f32[N]):
    for i in range(N):
        Y[i] = X[i] + 1


@kdsl.kernel
def generic(A: T[N], s: T, n, BLOCK: kdsl.constexpr):
    for i in range(N):
        A[i] *= s + BLOCK * n


@kdsl.kernel
def double(A):
    for i in range(len(A)):
        A[i] *= 2


@kdsl.kernel
def exp(A: f32[N]):
    for i in range(N):
        A[i] = kdsl.exp(A[i])


@kdsl.kernel
def says(A: f32[N]):
    print(A[0])


@kdsl.kernel
def odd(int: f32[N], struct: i32, odd_error: f32[N]):
    for i in range(N):
        odd_error[i] = int[i] + struct
"""

PROGRAM = r"""
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "matmul.h"
#include "gather.h"
#include "shifted.h"

int main(void) {
    enum { M = 13, N = 37, K = 11 };
    static float A[M][K], B[K][N], C[M][N];
    for (int i = 0; i < M; i++) for (int k = 0; k < K; k++) A[i][k] = (float)(i - k);
    for (int k = 0; k < K; k++) for (int j = 0; j < N; j++) B[k][j] = (float)(k * j % 7);
    if (matmul(&A[0][0], &B[0][0], &C[0][0], M, K, N) != MATMUL_OK) return 1;
    if (*matmul_error() || matmul_last_fault()->code) return 2;
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++) {
            float sum = 0;
            for (int k = 0; k < K; k++) sum += A[i][k] * B[k][j];
            if (sum != C[i][j]) return 3;
        }
    if (matmul(&A[0][0], NULL, &C[0][0], M, K, N) != MATMUL_ARGUMENT_ERROR) return 4;
    puts(matmul_error());
    if (matmul(&A[0][0], &B[0][0], &A[0][0], M, K, N) != MATMUL_ARGUMENT_ERROR) return 5;
    puts(matmul_error());

    float x[4] = {1, 2, 3, 4}, y[4] = {0};
    if (shifted(x, y, 4, 3) || y[2] != 4) return 6;
    if (shifted(x, y, 4, 4) != SHIFTED_ARGUMENT_ERROR || shifted_last_fault()->condition != 1) return 7;
    puts(shifted_error());

    double values[3] = {1, 2, 3}, got[4];
    int32_t index[4] = {2, 0, 1, 3};
    if (gather(values, index, got, 3, 3, 0.5) || got[0] != 1.5) return 8;
    if (gather(values, index, got, 3, 4, 0.5) != GATHER_INDEX_ERROR) return 9;
    const gather_fault *fault = gather_last_fault();
    if (fault->code != GATHER_INDEX_ERROR || fault->value != 3 || fault->extent != 3) return 10;
    if (strcmp(fault->file, "kernels.py") != 0) return 11;
    puts(gather_error());
    return 0;
}
"""

SAID = """\
error[K0719]: argument `B` is NULL
 --> kernels.py:9:26
9 | def matmul(A: f32[M, K], B: f32[K, N], C: f32[M, N]):
  |                          ^^^^^^^^^^^^
  = help: pass the address of its elements
error[K0419]: arguments `A` and `C` overlap in memory, and the kernel writes to `C`
 --> kernels.py:9:40
9 | def matmul(A: f32[M, K], B: f32[K, N], C: f32[M, N]):
  |                                        ^^^^^^^^^^^^
  = help: pass a copy, or declare `may_alias=("A", "C")`
"""


def compiler(*names: str) -> str:
    found = next((path for path in map(shutil.which, names) if path), None)
    if found is None:
        pytest.skip("no C compiler")
    return found


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("build") / "kernels.py"
    path.write_text(FILE.lstrip())
    return path


def build(file: Path, kernel: str, out: Path, *options: str) -> None:
    assert cli.main(["build", f"{file}:{kernel}", "-o", str(out), *options]) == 0


def library(file: Path, kernel: str, out: Path, *options: str) -> ctypes.CDLL:
    compiler("cc", "gcc", "clang")
    build(file, kernel, out, *options)
    suffix = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
    found = ctypes.CDLL(str(out / f"lib{kernel}{suffix}"))
    getattr(found, f"{kernel}_error").restype = ctypes.c_char_p
    return found


def address(a: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(a.ctypes.data)


@pytest.mark.parametrize("cpu", ["native", "x86-64", "x86-64-v3"])
@pytest.mark.parametrize("link", ["object", "library"])
def test_from_c(file: Path, tmp_path: Path, cpu: str, link: str) -> None:
    cc = compiler("cc", "gcc", "clang")
    kernels = ("matmul", "gather", "shifted")
    schedules = {"matmul": ["--schedule", f"{file}:tiled"], "gather": ["--schedule", f"{file}:parallel"]}
    for kernel in kernels:
        only = ["--no-shared"] if link == "object" else []
        build(file, kernel, tmp_path, "--cpu", cpu, *schedules.get(kernel, []), *only)
    (tmp_path / "main.c").write_text(PROGRAM)
    parts = [f"{k}.o" for k in kernels] if link == "object" else ["-L.", *[f"-l{k}" for k in kernels]]
    strict = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    subprocess.run([cc, *strict, "-o", "main", "main.c", *parts, "-lm", "-pthread"], cwd=tmp_path, check=True)
    found = {} if link == "object" else {"LD_LIBRARY_PATH": ".", "DYLD_LIBRARY_PATH": "."}
    done = subprocess.run(["./main"], cwd=tmp_path, capture_output=True, text=True, env=found)
    assert done.returncode == 0, (done.returncode, done.stdout)
    assert done.stdout.startswith(SAID)
    rest = done.stdout.removeprefix(SAID)
    assert "= note: N is 4, M is 4" in rest and "Y[i] = X[i + 1]" in rest
    assert "index 3 is out of bounds for dimension 0 of `X`, which has 3 elements" in rest
    assert "         Y[i] = s * X[index[i]]" in rest and "help: guard the access with `if`" in rest


def test_header_is_cpp(file: Path, tmp_path: Path) -> None:
    cpp = compiler("c++", "g++", "clang++")
    build(file, "odd", tmp_path, "--no-shared")
    (tmp_path / "main.cpp").write_text(
        '#include "odd.h"\n#include "odd.h"\nint main() { return odd_last_fault()->code; }\n'
    )
    command = [cpp, "-Wall", "-Wextra", "-Werror", "-pedantic", "-o", "main", "main.cpp", "odd.o"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert subprocess.run([str(tmp_path / "main")]).returncode == 0
    assert (
        "const float *int_, float *odd_error_, int64_t N, int32_t struct_" in (tmp_path / "odd.h").read_text()
    )


def test_results_and_memory(file: Path, tmp_path: Path) -> None:
    lib = library(file, "statistics", tmp_path)
    x, total, out = np.arange(7.0), np.zeros(()), np.zeros(5)
    assert lib.statistics(address(x), address(total), address(out), ctypes.c_int64(5)) == 0
    assert total == 10 and out.tolist() == [2, 4, 6, 8, 10]
    assert lib.statistics(address(x), address(total), address(out), ctypes.c_int64(-1)) == 1
    assert b"error[K0719]: the size N cannot be -1\n" in lib.statistics_error()
    huge = ctypes.c_int64((1 << 47) - 3)
    assert lib.statistics(address(x), address(total), address(out), huge) in (1, 6)


def test_faults(file: Path, tmp_path: Path) -> None:
    lib, y = library(file, "faults", tmp_path), np.zeros(1, np.int64)

    def call(kind: int, x: int) -> tuple[int, str]:
        code = lib.faults(address(y), ctypes.c_int32(kind), ctypes.c_int64(x))
        return code, lib.faults_error().decode().splitlines()[0] if code else ""

    assert call(1, 3) == (0, "") and y[0] == 3
    assert call(1, 0) == (3, "error[K0602]: integer division by zero")
    assert call(2, 0) == (4, 'error[K0603]: 100 % "positive"')
    assert call(3, -2) == (5, "error[K0605]: an integer to the negative power -2 is no integer")
    assert call(4, 0) == (5, "error[K0604]: the step of `range` is 0")


@pytest.mark.parametrize(
    ("n", "at", "said"),
    [
        (3, -1, "index -1 is out of bounds for dimension 0 of `X`, which has 3 elements"),
        (1, 5, "index 5 is out of bounds for dimension 0 of `X`, which has 1 element"),
        (0, 0, "index 0 is out of bounds for dimension 0 of `X`, which has no elements"),
        (0, -7, "index -7 is out of bounds for dimension 0 of `X`, which has no elements"),
    ],
)
def test_index_errors_read_as_in_python(file: Path, tmp_path: Path, n: int, at: int, said: str) -> None:
    lib = library(file, "gather", tmp_path)
    kernel = cli.find_kernel(f"{file}:gather")
    x, index, y = np.ones(n), np.array([at], np.int32), np.ones(1)
    with pytest.raises(IndexError) as python:
        kernel(1.0, x, index, y)
    sizes = [ctypes.c_int64(n), ctypes.c_int64(1)]
    assert lib.gather(address(x), address(index), address(y), *sizes, ctypes.c_double(1)) == 2
    assert lib.gather_error().decode() == str(python.value) and said in str(python.value)


def test_small_types(file: Path, tmp_path: Path) -> None:
    lib = library(file, "small", tmp_path, "--cpu", cli_level())
    x, y = np.linspace(0, 4, 9, dtype=np.float16), np.zeros(9, bool)
    two = int(np.float16(2).view(np.uint16))
    scalars = ctypes.c_uint8(1), ctypes.c_int8(-5), ctypes.c_uint8(8), ctypes.c_uint16(two)
    assert lib.small(address(x), address(y), ctypes.c_int64(9), *scalars) == 0
    assert (y == (x * np.float16(2) > 3)).all()


def cli_level() -> str:
    """The least CPU: without instructions for f16."""
    return "x86-64" if os.uname().machine == "x86_64" else "generic"


WITHOUT_KDSL = """
import ctypes, os, sys
import numpy as np

lib = ctypes.CDLL(sys.argv[1])
lib.gather_error.restype = ctypes.c_char_p
N = 1_000_000
x, index, y = np.arange(float(N)), np.arange(N, dtype=np.int32)[::-1].copy(), np.zeros(N)
pointers = [ctypes.c_void_p(a.ctypes.data) for a in (x, index, y)]


def call():
    return lib.gather(*pointers, ctypes.c_int64(N), ctypes.c_int64(N), ctypes.c_double(2))


threads = lambda: len(os.listdir("/proc/self/task"))
before = threads()
assert call() == 0 and (y == 2 * x[::-1]).all()
assert threads() - before == int(sys.argv[2]) - 1, (before, threads())
index[N // 3] = N
assert call() == 2 and f"index {N} is out of bounds".encode() in lib.gather_error()
index[N // 3] = 0
assert call() == 0 and y[N // 3] == 0
child = os.fork()
if child == 0:
    os._exit(call() + 3)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
assert "kdsl" not in sys.modules
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the pool needs Linux")
@pytest.mark.parametrize("threads", ["1", "3"])
def test_parallel_loops_have_workers(file: Path, tmp_path: Path, threads: str) -> None:
    library(file, "gather", tmp_path, "--schedule", f"{file}:parallel")
    assert "KDSL_NUM_THREADS in all" in (tmp_path / "gather.h").read_text()
    command = [sys.executable, "-c", WITHOUT_KDSL, str(tmp_path / "libgather.so"), threads]
    env = {**os.environ, "KDSL_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": "1"}
    assert subprocess.run(command, env=env).returncode == 0


def test_declared_aliases_may_overlap(file: Path, tmp_path: Path) -> None:
    lib = library(file, "moved", tmp_path)
    x = np.zeros(6, np.float32)
    assert lib.moved(address(x[:5]), address(x[1:]), ctypes.c_int64(5)) == 0
    assert x.tolist() == [0, 1, 2, 3, 4, 5]


def test_open_types_and_fixed_sizes(file: Path, tmp_path: Path) -> None:
    words = ["--arg", "T=f64", "--arg", "n=i64", "--arg", "BLOCK=4", "--size", "N=3"]
    lib = library(file, "generic", tmp_path, *words)
    assert "int generic(double *A, double s, int64_t n);" in (tmp_path / "generic.h").read_text()
    a = np.ones(3)
    assert lib.generic(address(a), ctypes.c_double(0.5), ctypes.c_int64(2)) == 0
    assert a.tolist() == [8.5] * 3
    build(file, "double", tmp_path, "--arg", "A=i32[:]", "--name", "twice", "--no-shared")
    assert "int twice(int32_t *A, int64_t A_0);" in (tmp_path / "twice.h").read_text()
    assert sorted(p.name for p in tmp_path.glob("twice*")) == ["twice.h", "twice.o"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("generic", "error[K0711]: the type T of generic is open"),
        ("generic --arg T=f32", "error[K0711]: the type of argument `n` of generic is open"),
        (
            "generic --arg T=f32 --arg n=f64",
            "error[K0711]: the constexpr argument `BLOCK` of generic has no value",
        ),
        ("generic --arg T=i32", "error[K0710]: T of generic cannot be i32"),
        ("generic --arg T=float", "error[K0710]: `float` is no type"),
        ("generic --arg T", "error[K0710]: `--arg T` types nothing"),
        ("matmul --arg A=f32[:,:]", "error[K0710]: `A` of matmul has its type already"),
        ("generic --arg B=f32", "error[K0710]: generic has no `B` to be typed"),
        ("matmul --size Q=3", "error[K0712]: `Q` is no size of matmul"),
        ("shifted --size M=8,N=8", "error[K0420]:"),
        ("double --arg A=f32[:]", "error[K0713]: a C function cannot be called `double`"),
        ("exp", "error[K0713]: a C function cannot be called `exp`"),
        ("matmul --name a-b", "error[K0713]: a C function cannot be called `a-b`"),
        ("says", "error[K0714]: says prints, which a library without Python cannot"),
        ("matmul --cpu pentium", "error[K0716]: there is no CPU 'pentium' to compile for"),
        ("matmul --schedule {file}:tilde", "error[K0717]: there is no function `tilde` in kernels.py"),
        ("matmul --schedule {file}:parallel --no-shared -o {file}/x", "error[K0718]: nothing was written to"),
    ],
)
def test_refusals(
    file: Path, tmp_path: Path, words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kernel, *options = words.format(file=file).split(" ")
    out = tmp_path / "out"
    assert cli.main(["build", f"{file}:{kernel}", "-o", str(out), *options]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith(message) and "= help: " in said.err
    assert not out.exists()


def test_a_failing_linker_leaves_nothing(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for cc, said in (("false", "could not link"), ("no-such-compiler", "there is no C compiler")):
        if cc == "false" and shutil.which("false") is None:
            continue
        monkeypatch.setenv("CC", cc)
        assert cli.main(["build", f"{file}:matmul", "-o", str(tmp_path)]) == 2
        assert "error[K0715]" in (err := capsys.readouterr().err) and said in err and "--no-shared" in err
        assert not list(tmp_path.iterdir())


def test_bench(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--size", "M=24,N=32,K=16", "--seconds", "0.01", "--schedule", f"{file}:tiled"]
    assert cli.main(["bench", f"{file}:matmul", *words, "--against", f"{file}:matmul"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("matmul on cpu, ") and lines[0].endswith("M=24, N=32, K=16")
    assert [line.split()[0] for line in lines[1:]] == ["time", "first", "speed", "memory", "against", "ratio"]
    assert "median of" in lines[1] and "counting 2 * M * K * N flops" in lines[3]
    assert (
        cli.main(
            ["bench", f"{file}:gather", "--size", "M=5,N=4", "--target", "interpreter", "--seconds", "0"]
        )
        == 0
    )
    assert capsys.readouterr().out.startswith("gather on interpreter, ")
    assert cli.main(["bench", f"{file}:matmul", "--size", "M=3"]) == 2
    assert "error[K0712]: the size `K` of matmul is missing" in capsys.readouterr().err
