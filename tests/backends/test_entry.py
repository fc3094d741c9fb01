"""The C-level entry: what it takes, what it hands to the slow path, threads, the GIL, its price."""

from __future__ import annotations

import gc
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from kdsl.backends import llvm
from kdsl.backends.llvm import host_target
from kdsl.dtypes import ALL, DType, Size, bf16, bool_, f16, f32, f64, i8, i32, i64, u8, u64
from kdsl.ir.nodes import ArrayParam, Cast, Compare, Condition, Func, Options, Param, ScalarParam, Stmt, Var
from tests.backends.harness import N, Table, accumulate, add, array, at, build, const, loop, mul, put, var

M = Size({"M": 1})
SLOW = object()


class Fault(Exception):
    pass


def on_fault(*numbers: int) -> None:
    raise Fault(*numbers)


def slow(*args: Any, **kwargs: Any) -> object:
    return SLOW


def entry_of(func: Func, path: Callable[..., Any] = slow, **options: Any) -> Any:
    executable = llvm.load(llvm.compile(func, host_target(), **options))
    table = Table(executable)
    entry = executable.make_entry(path, on_fault, table.address)
    _alive.append(table)
    return entry


_alive: list[Table] = []


def sum_of_two(contiguous: bool = True, options: Options | None = None, t: DType = f32) -> Func:
    from kdsl.ir.nodes import Binary

    i = var("i")
    params = (
        array("A", t, N, contiguous=contiguous),
        array("B", t, N, contiguous=contiguous),
        array("C", t, N, contiguous=contiguous, written=True),
    )
    body = loop("i", var("N"), put("C", Binary("+", at("A", t, i), at("B", t, i)), i))
    return Func("sum_of_two", params, (body,), ("N",), options=options or Options())


def three(n: int = 16, t: Any = "f4") -> list[np.ndarray]:
    return [np.arange(n).astype(t), np.ones(n).astype(t), np.zeros(n).astype(t)]


def test_fitting_call_runs_and_returns_none() -> None:
    entry = entry_of(sum_of_two())
    a, b, c = three()
    before = sys.getrefcount(a)
    assert entry(a, b, c) is None
    assert np.array_equal(c, a + b) and sys.getrefcount(a) == before
    assert entry(*three(0)) is None


def test_whatever_does_not_fit_goes_to_the_slow_path_unchanged() -> None:
    seen: list[Any] = []

    def path(*args: Any, **kwargs: Any) -> object:
        seen.append((args, kwargs))
        return SLOW

    entry = entry_of(sum_of_two(), path)
    a, b, c = three()
    frozen = c.copy()
    frozen.flags.writeable = False
    strange = np.frombuffer(b"\0" * 65, np.uint8)[1:].view("f4")
    bad: list[tuple[Any, ...]] = [
        (a, b), (a, b, c, c), (), (a, b, None), (a, 1.0, c), (a, b, c.tolist()),
        (a, b, c.astype("f8")), (a, b, c.astype(">f4")), (a, b[:8], c), (a, b, c[None]),
        (a, b, np.float32(1)), (a, np.zeros(32, "f4")[::2], c), (a, b, frozen), (strange, b, c),
        (a, np.ma.array(b), c), (a, np.zeros((4, 4), "f4"), c), (a, c, c), (c, b, c),
        (np.empty((1 << 47, 0), "f4"), b, c),
    ]  # fmt: skip
    for args in bad:
        assert entry(*args) is SLOW
        assert (
            seen[-1][0] is not None
            and all(x is y for x, y in zip(seen[-1][0], args))
            and len(seen[-1][0]) == len(args)
        )
        assert not c.any()
    assert entry(a, b, C=c) is SLOW
    assert seen[-1][0] == (a, b) or seen[-1][1]["C"] is c


def test_error_of_the_slow_path_is_raised() -> None:
    def path(*args: Any) -> None:
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        entry_of(sum_of_two(), path)()


def test_overlap_is_refused_unless_only_read_or_declared() -> None:
    base = np.arange(40, dtype="f4")
    entry, declared = entry_of(sum_of_two()), entry_of(sum_of_two(options=Options(may_alias=("A", "C"))))
    a, b = np.arange(16, dtype="f4"), np.ones(16, "f4")
    assert entry(a, a, np.zeros(16, "f4")) is None
    assert entry(base[:16], b, base[15:31]) is SLOW
    assert entry(base[15:31], b, base[:16]) is SLOW
    assert entry(base[:16], b, base[16:32]) is None
    assert declared(a, b, a) is None and a[0] == 1
    assert declared(b, a, a) is SLOW


def test_strided_arrays() -> None:
    entry = entry_of(sum_of_two(contiguous=False))
    a, b, c = three(40)
    assert entry(a[::2], b[::-2], c[1::2]) is None
    assert np.array_equal(c[1::2], a[::2] + 1) and not c[::2].any()
    assert entry(np.broadcast_to(a[3:4], 40), b, c) is None
    twice = np.lib.stride_tricks.as_strided(c, (40,), (0,))
    assert entry(a, b, twice) is SLOW
    near = np.lib.stride_tricks.as_strided(np.zeros(80, "f4"), (40,), (2,))
    assert entry(a, b, near) is SLOW
    assert entry(c[:20], b[:20], c[39:19:-1]) is None
    assert entry(c[:21], b[:21], c[39:18:-1]) is SLOW


def test_written_array_that_holds_a_cell_twice_is_refused_in_any_order() -> None:
    i, j = var("i"), var("j")
    params = (array("C", f32, M, N, contiguous=False, written=True),)
    func = Func(
        "ones",
        params,
        (loop("i", var("M"), loop("j", var("N"), put("C", const(1.0, f32), i, j))),),
        ("M", "N"),
    )
    entry = entry_of(func)
    c = np.zeros((6, 8), "f4")
    views = [c, c.T, c[::2, ::-3], c[:1].T, c[:, :0], np.zeros((3, 1), "f4")]
    for view in views:
        assert entry(view) is None and view.all()
    window = np.lib.stride_tricks.sliding_window_view(np.zeros(9, "f4"), 3, writeable=True)
    assert entry(window) is SLOW and entry(window.T) is SLOW


def test_sizes_are_solved_and_matched() -> None:
    params: tuple[Param, ...] = (
        array("A", i64, Size({"N": 2}, 3)),
        array("B", i64, N, Size({"N": 1, "M": -1}, 5)),
        array("o", i64, 2, written=True),
    )
    body = (put("o", var("N"), const(0)), put("o", var("M"), const(1)))
    entry = entry_of(Func("sizes", params, body, ("M", "N")))
    o = np.zeros(2, "i8")
    assert entry(np.zeros(23, "i8"), np.zeros((10, 9), "i8"), o) is None and o.tolist() == [10, 6]
    assert entry(np.zeros(22, "i8"), np.zeros((10, 9), "i8"), o) is SLOW
    assert entry(np.zeros(1, "i8"), np.zeros((10, 9), "i8"), o) is SLOW
    assert entry(np.zeros(25, "i8"), np.zeros((10, 9), "i8"), o) is SLOW
    assert entry(np.zeros(23, "i8"), np.zeros((10, 16), "i8"), o) is SLOW
    assert entry(np.zeros(23, "i8"), np.zeros((10, 9), "i8"), np.zeros(3, "i8")) is SLOW


def test_failed_condition_goes_to_the_slow_path_before_anything_is_written() -> None:
    func = sum_of_two()
    condition = Condition(Compare("==", var("N"), const(16)), "sixteen")
    entry = entry_of(Func(func.name, func.params, func.body, func.sizes, (condition,)))
    assert entry(*three(16)) is None
    arrays = three(15)
    assert entry(*arrays) is SLOW and not arrays[2].any()


def test_fault_calls_the_handler() -> None:
    i = var("i")
    params = (array("A", f32, M), array("I", i64, N), array("C", f32, N, written=True))
    body = loop("i", var("N"), put("C", at("A", f32, at("I", i64, i), checked=(0,)), i))
    entry = entry_of(Func("gather", params, (body,), ("M", "N")))
    with pytest.raises(Fault) as caught:
        entry(np.zeros(7, "f4"), np.array([1, -5, 3]), np.zeros(3, "f4"))
    assert caught.value.args == (1, -5, 7)


# ---------------------------------------------------------------------- scalars


def scalar(t: DType) -> Func:
    return Func(
        "scalar", (ScalarParam("s", t), array("o", t, 1, written=True)), (put("o", Var("s", t), const(0)),)
    )


@pytest.mark.parametrize("t", ALL, ids=repr)
def test_scalars_by_form(t: DType) -> None:
    """What the entry takes equals a cast to the dtype; everything else is the slow path's."""
    o = np.zeros(1, t.np)
    entries = {form: entry_of(scalar(t), forms={"s": form}) for form in ("any", "python", "numpy")}
    # [any, python, numpy]: whether the form takes the value
    cases: list[tuple[Any, str]] = [
        ("1", ""),
        (None, ""),
        (1j, ""),
        (np.ones(1), ""),
        (2**70, ""),
        (-(2**70), ""),
    ]
    if t.kind == "bool":
        cases += [(True, "any python numpy"), (False, "any python numpy"), (1, ""), (1.0, "")]
    elif t.is_int:
        cases += [(t.max if t != u64 else i64.max, "any python"), (t.min, "any python"), (0, "any python")]
        cases += [(t.min - 1, ""), (t.max + 1, ""), (1.0, ""), (True, ""), (t.np.type(5), "any numpy")]
        cases += [(np.float32(1), "")]
    else:
        cases += [
            (0.1, "any python"),
            (-0.0, "any python"),
            (float("inf"), "any python"),
            (3, "any"),
            (2**53 + 1, ""),
        ]
        cases += [(True, ""), (t.np.type(0.1), "" if t == bf16 else "any numpy"), (np.int32(1), "")]
    for value, taken in cases:
        for form, entry in entries.items():
            o[0] = 0
            if form in taken.split():
                assert entry(value, o) is None, (value, form)
                with np.errstate(all="ignore"):
                    expected = np.asarray(value).astype(t.np)
                assert o.tobytes() == expected.tobytes(), (value, form)
            else:
                assert entry(value, o) is SLOW, (value, form)


def test_many_scalars_between_arrays() -> None:
    params = (
        ScalarParam("x", f64),
        array("A", f64, N),
        ScalarParam("k", i32),
        ScalarParam("b", bool_),
        array("C", f64, N, written=True),
    )
    total = add(add(Var("x", f64), Cast(Var("k", i32), f64)), Cast(Var("b", bool_), f64))
    body = loop("i", var("N"), put("C", mul(total, at("A", f64, var("i"))), var("i")))
    entry = entry_of(Func("mixed", params, (body,), ("N",)))
    c = np.zeros(5)
    assert entry(0.5, np.arange(5.0), -3, True, c) is None
    assert c.tolist() == [-1.5 * i for i in range(5)]


# ---------------------------------------------------------------- life and threads


def test_results_or_sizes_from_nowhere_have_no_entry() -> None:
    result = Func("made", (ArrayParam("r", f32, (N,), written=True, result=True),), (), ("N",))
    assert entry_of(result) is None
    assert entry_of(Func("unsolved", (array("A", f32, Size({"M": 1, "N": 1})),), (), ("M", "N"))) is None
    assert entry_of(sum_of_two(), entry=False) is None


def test_code_and_callables_die_with_the_entry() -> None:
    def path(*args: Any) -> None: ...

    entry = entry_of(sum_of_two(), path)
    watch = weakref.ref(path)
    del path
    gc.collect()
    assert watch() is not None
    assert entry(1) is None
    del entry
    gc.collect()
    assert watch() is None


def test_entry_outlives_the_executable() -> None:
    executable = build(sum_of_two())
    table = Table(executable)
    entry = executable.make_entry(slow, on_fault, table.address)
    del executable
    gc.collect()
    a, b, c = three()
    for _ in range(100):
        assert entry(a, b, c) is None


def long_kernel() -> Func:
    params = (array("o", f64, N, written=True),)
    nest = loop(
        "i",
        const(200),
        loop("j", const(1000), loop("k", var("N"), accumulate("+", "o", const(1e-9, f64), var("k")))),
    )
    return Func("long", params, (nest,), ("N",))


def test_gil_is_released_in_long_kernels() -> None:
    """Another thread progresses while the kernel runs."""
    entry = entry_of(long_kernel())
    o = np.zeros(4000)
    stamps: list[float] = []
    stop = threading.Event()

    def tick() -> None:
        while not stop.is_set():
            stamps.append(time.perf_counter())
            time.sleep(0.001)

    thread = threading.Thread(target=tick)
    thread.start()
    begin = time.perf_counter()
    entry(o)
    end = time.perf_counter()
    stop.set()
    thread.join()
    assert end - begin > 0.02
    during = [s for s in stamps if begin < s < end]
    assert len(during) > 5


def test_threads_hammer_one_entry() -> None:
    entry = entry_of(sum_of_two())
    wrong: list[int] = []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for n in rng.integers(1, 3000, 400):
            a, b, c = rng.random(n, "f4"), rng.random(n, "f4"), np.empty(n, "f4")
            entry(a, b, c)
            if not np.array_equal(c, a + b):
                wrong.append(int(n))
            if entry(a, b) is not SLOW:
                wrong.append(-1)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("t", (f16, bf16, i8, u8, u64), ids=repr)
def test_arrays_of_other_dtypes(t: DType) -> None:
    entry = entry_of(sum_of_two(t=t))
    a, b, c = three(10, t.np)
    assert entry(a, b, c) is None and np.array_equal(c, a + b)


def test_work_estimate_decides_about_the_gil() -> None:
    """By the text of the glue: no release, a test, an unconditional release."""
    from kdsl.backends.llvm.emit import emit_module
    from kdsl.ir.nodes import Const, While

    def glue(*body: Stmt) -> str:
        func = Func("work", (array("o", f64, N, written=True),), body, ("N",))
        text = emit_module(func, host_target(), entry=True).glue_text
        return text[text.index("@kernel.work.entry(") :]

    fill = put("o", const(0.0, f64), var("i"))
    assert "fcmp ogt double 3.0, 16384.0" in glue(put("o", const(0.0, f64), const(0)))
    triangle = glue(loop("i", var("N"), loop("j", add(var("i"), const(1)), fill)))
    assert "PyEval_SaveThread" in triangle and "fcmp ogt double %" in triangle
    unknown = glue(While(Const(False, bool_), ()))
    assert "fcmp" not in unknown and "PyEval_SaveThread" in unknown


def test_a_call_of_three_arrays_costs_less_than_numpys() -> None:
    """The bound is 100 ns with room for a busy machine; some 25 ns is usual."""
    import timeit

    entry = entry_of(sum_of_two())
    a, b, c = three()
    number = 20000
    best = min(timeit.repeat(lambda: entry(a, b, c), number=number, repeat=9)) / number
    numpy = min(timeit.repeat(lambda: np.add(a, b, c), number=number, repeat=9)) / number
    assert best < numpy
