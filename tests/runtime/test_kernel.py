"""The kernel object: dispatch, threads, targets, looking inside, pickling."""

from __future__ import annotations

import gc
import math
import pickle
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kdsl
from kdsl import f32, f64, i64
from kdsl.runtime import compile as compile_module

M, N = kdsl.sizes("M N")
T = kdsl.typevar("T", f32, f64)
FACTOR = 3


@kdsl.func
def twice(x: f64):
    """Doubles."""
    return 2 * x


@kdsl.kernel
def total(A: f32[N]) -> f32:
    """Adds up."""
    s = 0.0
    for i in range(N):
        s += A[i]
    return s


@kdsl.kernel
def rows(A: f32[M, N], out: f32[M]):
    for i in range(M):
        out[i] = FACTOR * total(A[i, :]) + twice(math.pi) * 0


def test_it_looks_like_the_function() -> None:
    assert total.__name__ == "total" and total.__doc__ == "Adds up." and total.__module__ == __name__
    assert total.__wrapped__.__code__.co_filename == __file__
    assert total.name == "total" and total.source.startswith("@kdsl.kernel\ndef total(")
    assert repr(total) == "<kdsl kernel total(A: f32[N])>"
    assert repr(total.on("interpreter")) == "<kdsl kernel total(A: f32[N]) on interpreter>"
    assert twice.__doc__ == "Doubles." and twice(4) == 8.0 and repr(twice) == "<kdsl func twice>"
    assert isinstance(total, kdsl.Kernel) and isinstance(twice, kdsl.Function)


def test_the_name_can_be_chosen() -> None:
    @kdsl.kernel(name="other")
    def first(A: f32[N]):
        A[0] = 1

    assert first.name == "other" and first.__name__ == "first"
    assert first.ir().startswith("def other(")


def test_each_signature_has_code_of_its_own() -> None:
    @kdsl.kernel
    def double(A: T[N]):
        for i in range(N):
            A[i] *= 2

    arrays = [
        np.ones(4, np.float32), np.ones(8, np.float32)[::2], np.ones(3), np.ones(6)[::2],
    ]  # fmt: skip
    for _ in range(3):
        for a in arrays:
            double(a)
    assert [a.tolist() for a in arrays] == [[8] * 4, [8] * 4, [8] * 3, [8] * 3]


def test_more_signatures_than_entries() -> None:
    @kdsl.kernel
    def add(A, B, C):
        for i in range(len(A)):
            C[i] = A[i] + B[i]

    dtypes = [np.int8, np.uint8, np.int16, np.int32, np.int64, np.float32, np.float64]
    for _ in range(2):
        for dtype in dtypes:
            c = np.zeros(3, dtype)
            add(np.ones(3, dtype), np.full(3, 2, dtype), c)
            assert c.tolist() == [3, 3, 3]


def test_repeated_calls_do_not_come_through_python(monkeypatch: pytest.MonkeyPatch) -> None:
    a, out = np.ones((2, 3), np.float32), np.zeros(2, np.float32)
    rows(a, out)

    def never(*args: Any) -> Any:
        raise AssertionError("a call that the entry should have taken")

    monkeypatch.setattr(kdsl.Kernel, "_program", never)
    rows(a, out)
    rows(np.ones((5, 1), np.float32), np.zeros(5, np.float32))
    with pytest.raises(AssertionError):
        rows(a, out=out)
    with pytest.raises(AssertionError):
        rows(a[::-1], out)


def test_results_do_not_come_through_the_slow_path(monkeypatch: pytest.MonkeyPatch) -> None:
    @kdsl.kernel
    def outer(A: T[M], B: T[N]) -> (T[M, N], T, f64[3]):
        out = kdsl.empty((M, N), T)
        rest = kdsl.zeros(3, f64)
        total = 0.0
        for i, j in kdsl.grid(M, N):
            out[i, j] = A[i] * B[j]
            total += A[i]
        return out, total, rest

    pairs = [(np.arange(m, dtype=t), np.arange(n, dtype=t)) for t in ("f", "d") for m, n in ((2, 3), (0, 4))]
    for a, b in pairs:
        outer(a, b)
    monkeypatch.setattr(kdsl.Kernel, "_program", None)
    for a, b in pairs:
        table, total, rest = outer(a, b)
        assert type(table) is np.ndarray and table.dtype == a.dtype and (table == np.outer(a, b)).all()
        assert type(total) is a.dtype.type and total == a.sum() * len(b)
        assert rest.tolist() == [0, 0, 0]
    monkeypatch.undo()
    assert outer(B=b, A=a)[0].shape == (0, 4)
    assert outer(a[::-1], b[::-1])[0].shape == (0, 4)
    for wrong in ((a,), (a, b, b), (a, 3), (a, [1.0]), (a[None], b), (a, b.astype("i"))):
        with pytest.raises(kdsl.ArgumentError):
            outer(*wrong)


def test_constexpr_calls_keep_apart() -> None:
    @kdsl.kernel
    def fill(A: i64[1], x: kdsl.constexpr = 1):
        A[0] = x

    a = np.zeros(1, np.int64)
    for arguments, expected in [((), 1), ((2,), 2), ((), 1), ((1,), 1), ((3,), 3), ((), 1)]:
        fill(a, *arguments)
        assert a[0] == expected


def test_two_threads_compile_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    program = compile_module.program

    def slowly(request: Any) -> Any:
        made.append(request)
        threading.Event().wait(0.05)
        return program(request)

    monkeypatch.setattr(compile_module, "program", slowly)

    @kdsl.kernel
    def inc(A: f32[N]):
        for i in range(N):
            A[i] += 1

    arrays = [np.zeros(100, np.float32) for _ in range(8)]
    threads = [threading.Thread(target=inc, args=(a,)) for a in arrays]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(made) == 1
    assert all((a == 1).all() for a in arrays)


def test_many_threads_call() -> None:
    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(200):
            a = rng.integers(0, 9, (rng.integers(1, 9), 7)).astype(np.float32)
            out = np.zeros(len(a), np.float32)
            rows(a, out)
            if not (out == 3 * a.sum(axis=1)).all():
                wrong.append(seed)

    wrong: list[int] = []
    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_the_gil_is_released() -> None:
    @kdsl.kernel
    def spin(n: i64) -> i64:
        s = 0
        for i in range(n):
            for j in range(1000):
                s = s * 3 + (i ^ j)
        return s

    spin(1)
    counted = [0, 0]
    stop = threading.Event()

    def count() -> None:
        while not stop.is_set():
            counted[0] += 1

    thread = threading.Thread(target=count)
    thread.start()
    before = counted[0]
    spin(100_000)
    counted[1] = counted[0] - before
    stop.set()
    thread.join()
    assert counted[1] > 1000


def test_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    assert total.target == "cpu" and total.on("cpu") is total
    other = total.on("interpreter")
    assert other is total.on("interpreter") and other.on("cpu") is total
    assert other(np.ones(3, np.float32)) == 3
    monkeypatch.setenv("KDSL_TARGET", "interpreter")

    @kdsl.kernel
    def one(A: f32[N]):
        A[0] = 1

    assert one.target == "interpreter" and total.on("cpu").target == "cpu"

    @kdsl.kernel(target="cpu")
    def two(A: f32[N]):
        A[0] = 1

    assert two.target == "cpu"
    monkeypatch.setenv("KDSL_TARGET", "nowhere")
    with pytest.raises(kdsl.TargetError, match="nowhere"):
        one.on("cpu").on("cpu")
        kdsl.kernel(one.__wrapped__)(np.ones(1, np.float32))
    names = [d.name for d in kdsl.devices()]
    assert [n for n in names if not n.startswith("vulkan:")] == ["cpu", "vulkan", "interpreter"]
    assert all(d.available for d in kdsl.devices() if not d.name.startswith("vulkan"))


def test_looking_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @kdsl.kernel
    def inc(A: T[N], n: kdsl.constexpr = 1):
        for i in range(N):
            A[i] += n

    assert "A: f32[N]" in inc.ir() and "for i in range(N)" in inc.ir()
    inc(np.ones(3))
    assert "A: f64[N]" in inc.ir()
    assert "2" in inc.ir(np.ones(3, np.float32), 2) and "A: f32[N]" in inc.ir(np.ones(3, np.float32), 2)
    assert "define" in inc.llvm() and "double" in inc.llvm()
    assert "ret" in inc.asm()

    @kdsl.kernel
    def untyped(A):
        A[0] = 1

    with pytest.raises(kdsl.ArgumentError, match="has no type before a call"):
        untyped.ir()
    monkeypatch.setenv("KDSL_DEBUG", str(tmp_path))
    kdsl.kernel(untyped.__wrapped__)(np.ones(1))
    (folder,) = tmp_path.iterdir()
    names = sorted(p.name for p in folder.iterdir())
    assert names[0] == "00-ir" and names[-1].endswith("-s") and any("bounds" in n for n in names)


def test_pickling_is_by_value() -> None:
    copy = pickle.loads(pickle.dumps(rows))
    a, out = np.ones((2, 3), np.float32), np.zeros(2, np.float32)
    copy(a, out)
    assert out.tolist() == [9, 9]
    out[:] = 0
    copy.py(a, out)
    assert out.tolist() == [9, 9]
    assert copy.name == "rows" and copy.__doc__ is None and copy.source == rows.source
    assert pickle.loads(pickle.dumps(total.on("interpreter"))).target == "interpreter"
    assert pickle.loads(pickle.dumps(twice))(1.5) == 3.0
    again = pickle.loads(pickle.dumps(copy))
    again(a, out)

    inside = 5

    @kdsl.kernel(strict=True)
    def closure(A: f32[N], x: f32 = 2.0, k: kdsl.constexpr = 3):
        A[0] = inside * x * k
        A[9] = 0

    copy = pickle.loads(pickle.dumps(closure))
    with pytest.raises(kdsl.ArgumentError) as caught:
        copy(a[0])
    assert "A[9] = 0" in str(caught.value)
    b = np.zeros(10, np.float32)
    copy(b)
    assert b[0] == 30


def test_captured_values_are_frozen_when_compiled() -> None:
    value = 1

    @kdsl.kernel
    def fill(A: f32[N]):
        A[0] = value

    a = np.zeros(1, np.float32)
    fill(a)
    value = 2
    fill(a)
    assert a[0] == 1
    fill.py(a)
    assert a[0] == 2


def test_a_kernel_that_nobody_holds_is_freed() -> None:
    @kdsl.kernel
    def fill(A: f32[N]):
        A[0] = 1

    fill(np.zeros(1, np.float32))
    fill(A=np.zeros(1, np.float32))
    gone = weakref.ref(fill)
    del fill
    gc.collect()
    assert gone() is None


def test_options_are_checked() -> None:
    def f(A: f32[N], n: i64):
        A[0] = n

    for options in (
        {"strict": True, "fastmath": True},
        {"bounds": "off"},
        {"may_alias": ("B",)},
        {"may_alias": ("n",)},
        {"name": "no name"},
    ):
        with pytest.raises(kdsl.CompileError):
            kdsl.kernel(**options)(f)
    with pytest.raises(kdsl.TargetError):
        kdsl.kernel(target="tpu")(f)
    with pytest.raises(kdsl.CompileError, match="fast_math"):
        kdsl.kernel(fast_math=True)(f)


def test_faults_stop_the_kernel_and_name_the_place() -> None:
    @kdsl.kernel
    def gather(A: f32[N], at: i64[M], out: f32[M]):
        for i in range(M):
            out[i] = A[at[i]]

    out = np.zeros(4, np.float32)
    for _ in range(2):  # first through the slow path, then through the entry
        with pytest.raises(IndexError, match="index 9 is out of bounds for dimension 0 of `A`") as caught:
            gather(np.ones(3, np.float32), np.array([0, 1, 9, 2]), out)
        assert isinstance(caught.value, kdsl.KdslError) and "out[i] = A[at[i]]" in str(caught.value)
        assert out.tolist() == [1, 1, 0, 0]


def test_a_replaced_entry_outlives_the_change() -> None:
    """Its end may let other threads run: their calls must find the new one by then."""

    @kdsl.kernel
    def twice(A: f32[N]):
        for i in range(N):
            A[i] = A[i] * 2

    auto: Any = twice.with_schedule("auto")
    own, stale = type(auto), []

    class Entry:
        def __call__(self, A: Any) -> None:
            raise AssertionError("the old entry")

        def __del__(self) -> None:
            stale.append(isinstance(own.__call__, Entry))

    own.__call__ = Entry()
    assert isinstance(own.__call__, Entry)  # now CPython's cache has it
    twice._choose_anew()
    assert stale == [False]
    A = np.ones(3, np.float32)
    auto(A)
    assert (A == 2).all()
