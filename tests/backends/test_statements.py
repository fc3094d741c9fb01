"""Statements: loops and exits, local memory, faults, conditions, atomics, print, the stop word."""

from __future__ import annotations

import ctypes
import struct
import threading

import numpy as np
import pytest

from kdsl.backends.base import Site
from kdsl.backends.llvm.locals import STACK_LIMIT_BYTES
from kdsl.dtypes import DType, Size, bf16, bool_, f16, f32, f64, i8, i16, i32, i64, u8, u64
from kdsl.ir.nodes import (
    Alloc,
    Assert,
    Atomic,
    Binary,
    Break,
    Call,
    Cast,
    Compare,
    Condition,
    Const,
    Continue,
    Expr,
    Func,
    If,
    Loop,
    Options,
    Print,
    Return,
    ScalarParam,
    Select,
    Stmt,
    Store,
    Unary,
    Var,
    While,
)
from kdsl.source import Loc
from tests.backends.harness import (
    FLOATS,
    INTS,
    N,
    Table,
    accumulate,
    add,
    agree,
    array,
    at,
    build,
    const,
    edge_values,
    fill,
    loop,
    mul,
    put,
    run,
    var,
)

M = Size({"M": 1})
I64 = np.iinfo(np.int64)
LOC = Loc("<test>", 3)


def less(a: Expr, b: Expr) -> Compare:
    return Compare("<", a, b)


PLAIN = Options()


def matmul(options: Options = PLAIN, contiguous: bool = True) -> Func:
    k = Size({"K": 1})
    inner = loop(
        "k",
        var("K"),
        accumulate("+", "acc", mul(at("A", f32, var("i"), var("k")), at("B", f32, var("k"), var("j")))),
    )
    body = loop(
        "i",
        var("M"),
        loop(
            "j",
            var("N"),
            Alloc("acc", f32, ()),
            put("acc", const(0.0, f32)),
            inner,
            put("C", at("acc", f32), var("i"), var("j")),
        ),
    )
    params = (
        array("A", f32, M, k, contiguous=contiguous),
        array("B", f32, k, N, contiguous=contiguous),
        array("C", f32, M, N, contiguous=contiguous, written=True),
    )
    return Func("matmul", params, (body,), ("M", "N", "K"), options=options)


@pytest.mark.parametrize("contiguous", (True, False))
@pytest.mark.parametrize("shape", [(0, 3, 4), (1, 1, 1), (7, 5, 0), (13, 17, 11), (33, 64, 31)])
def test_matmul(shape: tuple[int, int, int], contiguous: bool) -> None:
    m, n, k = shape
    rng = np.random.default_rng(1)
    a, b, c = rng.random((m, k), "f4"), rng.random((k, n), "f4"), np.ones((m, n), "f4")
    if not contiguous:
        a, b, c = np.asfortranarray(a), np.repeat(b, 2, axis=1)[:, ::2], np.ones((2 * m, n), "f4")[::-2]
    outcome = run(matmul(contiguous=contiguous), {"A": a, "B": b, "C": c}, {"M": m, "N": n, "K": k})
    assert outcome.code == 0
    np.testing.assert_allclose(c, a @ b, rtol=1e-5, atol=1e-6)


BOUNDS = [
    (0, 10, 1), (3, 3, 1), (5, 2, 1), (-4, 4, 1), (0, 10, 3), (0, 9, 3),
    (10, 0, -1), (10, 0, -4), (0, 10, -1),
    (I64.max - 5, I64.max, 2), (I64.min + 5, I64.min, -2),
    (I64.min, I64.max, I64.max), (I64.max, I64.min, I64.min),
    (I64.max - 3, I64.max, 1), (0, 5, I64.max), (5, 0, I64.min),
]  # fmt: skip


@pytest.mark.parametrize("kind", ("constant", "dynamic", "constant step"))
def test_loop_bounds_like_range(kind: str) -> None:
    """Writes each index that the loop gives; none overflows."""
    count = put("n", add(at("n", i64), const(1)))
    body = (put("seen", var("i"), at("n", i64), checked=(0,)), count)
    for lo, hi, step in BOUNDS:
        scalars = {"lo": lo, "hi": hi, "step": step}
        bound = {n: const(v) if kind == "constant" else Var(n, i64) for n, v in scalars.items()}
        if kind == "constant step":
            bound["step"] = const(step)
        nest = Loop("i", bound["lo"], bound["hi"], bound["step"], body)
        params = (
            *[ScalarParam(n, i64) for n in scalars],
            array("seen", i64, 16, written=True),
            array("n", i64, written=True),
        )
        func = Func("bounds", params, (nest,))
        seen, n = np.zeros(16, "i8"), np.zeros((), "i8")
        assert run(func, {**scalars, "seen": seen, "n": n}).code == 0
        expected = list(range(lo, hi, step))
        assert seen[:n].tolist() == expected, (lo, hi, step)


def test_step_zero_is_a_fault() -> None:
    params = (ScalarParam("s", i64), array("o", i64, 1, written=True))
    func = Func(
        "zero",
        params,
        (Loop("i", const(0), const(5), Var("s", i64), (put("o", var("i"), const(0)),), loc=LOC),),
    )
    outcome = run(func, {"s": 0, "o": np.zeros(1, "i8")})
    assert outcome.site == Site("zero_step", loc=LOC)


def test_break_continue_return_and_nested_ifs() -> None:
    """Sieve-like control flow, against the interpreter."""
    i, j = var("i"), var("j")
    inner = loop(
        "j",
        var("N"),
        If(Compare("==", j, const(3)), (Continue(),)),
        If(less(const(6), j), (Break(),), (put("o", add(at("o", i64, i), j), i),)),
        If(Compare("==", add(mul(i, const(10)), j), const(64)), (Return(),)),
    )
    func = Func(
        "flow",
        (array("o", i64, N, written=True),),
        (loop("i", var("N"), inner, put("o", const(-1), i)),),
        ("N",),
    )
    for n in (0, 1, 5, 9):
        agree(func, {"o": np.zeros(n, "i8")}, {"N": n})


def test_code_behind_a_jump_is_dropped() -> None:
    body = (
        loop("i", const(4), Break(), put("o", const(1), const(0))),
        Return(),
        put("o", const(2), const(0)),
    )
    func = Func("dead", (array("o", i64, 1, written=True),), body)
    agree(func, {"o": np.zeros(1, "i8")}, {})


def test_while_collatz() -> None:
    x = at("x", i64)
    odd = Compare("==", Binary("%", x, const(2)), const(1))
    step = put("x", Select(odd, add(mul(x, const(3)), const(1)), Binary("//", x, const(2))))
    body = (
        Alloc("x", i64, ()),
        put("x", add(var("i"), const(1))),
        While(Compare("!=", x, const(1)), (step, put("o", add(at("o", i64, var("i")), const(1)), var("i")))),
    )
    func = Func("collatz", (array("o", i64, N, written=True),), (loop("i", var("N"), *body),), ("N",))
    agree(func, {"o": np.zeros(40, "i8")}, {"N": 40})


# ------------------------------------------------------------------ local memory


def _reverse(alloc: Alloc) -> Func:
    """Copies rows through a local array, backwards."""
    i, j = var("i"), var("j")
    width = alloc.shape[0]
    back = Binary("-", Binary("-", width, const(1)), j)
    body = (
        alloc,
        Loop("j", const(0), width, const(1), (put("t", at("A", f64, i, j), j),)),
        Loop("j", const(0), width, const(1), (put("A", at("t", f64, back, checked=(0,)), i, j),)),
    )
    return Func("reverse", (array("A", f64, M, N, written=True),), (loop("i", var("M"), *body),), ("M", "N"))


@pytest.mark.parametrize("width", (0, 1, 5, 100))
def test_local_array_of_symbolic_size_lives_in_the_arena(width: int) -> None:
    a = np.random.default_rng(0).random((3, width))
    agree(_reverse(Alloc("t", f64, (var("N"),))), {"A": a}, {"M": 3, "N": width})


@pytest.mark.parametrize("width", (7, STACK_LIMIT_BYTES // 8, STACK_LIMIT_BYTES // 8 + 1))
def test_local_array_of_constant_size_on_the_stack_or_in_the_arena(width: int) -> None:
    a = np.random.default_rng(0).random((2, width))
    agree(_reverse(Alloc("t", f64, (const(width),))), {"A": a}, {"M": 2, "N": width})


def test_negative_extent_counts_as_zero() -> None:
    below = Binary("-", const(3), var("N"))
    func = Func(
        "none",
        (array("o", i64, N, written=True),),
        (
            Alloc("t", i64, (below,)),
            If(less(var("N"), const(0)), (put("t", const(1), const(0)),)),
            put("o", const(1), const(0)),
        ),
        ("N",),
    )
    agree(func, {"o": np.zeros(9, "i8")}, {"N": 9})
    outcome = run(
        Func("none", func.params, (func.body[0], put("t", const(1), const(0), checked=(0,))), ("N",)),
        {"o": np.zeros(9, "i8")},
        {"N": 9},
    )
    assert (outcome.site.kind, outcome.index, outcome.extent) == ("index", 0, 0)


@pytest.mark.parametrize("n", (1 << 46, 1 << 40, 1 << 35))
def test_arena_that_cannot_be_had_is_a_fault(n: int) -> None:
    shape = (var("N"), var("N"))
    func = Func(
        "huge",
        (array("o", i64, 1, written=True),),
        (Alloc("t", f64, shape, loc=LOC), put("o", const(1), const(0))),
        ("N",),
    )
    o = np.zeros(1, "i8")
    outcome = run(func, {"o": o}, {"N": n})
    assert outcome.site == Site("memory", "t", loc=LOC) and o[0] == 0
    assert outcome.index == I64.max


def test_arena_is_freed_on_every_way_out() -> None:
    """Many calls that end by return, fault and end; the process does not grow."""
    import resource

    body = (
        Alloc("t", f64, (var("N"),)),
        loop("i", var("N"), put("t", const(1.0, f64), var("i"))),
        If(Compare("==", Var("how", i64), const(1)), (Return(),)),
        If(Compare("==", Var("how", i64), const(2)), (Assert(Const(False, bool_), "stop"),)),
        put("o", at("t", f64, const(5)), const(0)),
    )
    func = Func("ends", (ScalarParam("how", i64), array("o", f64, 1, written=True)), body, ("N",))
    executable = build(func)
    codes = set()
    for turn in range(300):
        arguments = {"how": turn % 3, "o": np.zeros(1)}
        codes.add(run(func, arguments, {"N": 1 << 20}, executable=executable).code)
    assert codes == {0, 2}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 1 << 20  # KiB; leaks would make 2.4 GiB


def test_uninitialised_local_is_some_value() -> None:
    """Reading it is no undefined behaviour: a checked index stays checked."""
    body = (
        Alloc("t", i64, (const(4),)),
        Alloc("s", i64, ()),
        put("o", add(at("t", i64, const(1)), at("s", i64)), at("t", i64, const(2)), checked=(0,)),
    )
    func = Func("poison", (array("o", i64, N, written=True),), body, ("N",))
    outcome = run(func, {"o": np.zeros(2, "i8")}, {"N": 2})
    assert outcome.code == 0 or not 0 <= outcome.index < 2


def test_locals_of_the_same_name_side_by_side() -> None:
    def part(value: int, t: DType) -> Stmt:
        return loop(
            "i",
            const(2),
            Alloc("t", t, ()),
            put("t", const(value, t)),
            put("o", Cast(at("t", t), i64), add(var("i"), const(value))),
        )

    func = Func("twice", (array("o", i64, 16, written=True),), (part(3, i32), part(7, i8)))
    agree(func, {"o": np.zeros(16, "i8")}, {})


# ----------------------------------------------------------------------- faults


def gather(checked: bool = True, t: DType = f32, index: DType = i64) -> Func:
    i = var("i")
    where: Expr = at("ix", index, i)
    if index != i64:
        where = Cast(where, i64)
    body = loop("i", var("N"), Store("o", (i,), at("a", t, where, checked=(0,) if checked else ()), loc=LOC))
    return Func(
        "gather",
        (array("a", t, M), array("ix", index, N), array("o", t, N, written=True)),
        (body,),
        ("M", "N"),
    )


@pytest.mark.parametrize("bad", (-1, 10, I64.max, I64.min))
def test_index_outside_reports_array_dimension_index_and_extent(bad: int) -> None:
    ix = np.array([3, 9, 0, bad, 1])
    a, o = np.arange(10, dtype="f4"), np.full(5, -1, "f4")
    outcome = run(gather(), {"a": a, "ix": ix, "o": o}, {"M": 10, "N": 5})
    assert outcome.site.kind == "index" and outcome.site.text == "a" and outcome.site.dim == 0
    assert (outcome.index, outcome.extent) == (bad, 10)
    assert o.tolist() == [3, 9, 0, -1, -1]


def test_each_dimension_and_kind_of_access_is_checked() -> None:
    i, j = Var("x", i64), Var("y", i64)
    accesses: list[Stmt] = [
        put("A", const(1, i32), i, j, checked=(0, 1)),
        accumulate("+", "A", const(1, i32), i, j, checked=(0, 1)),
        Atomic("+", "A", (i, j), const(1, i32), checked=(0, 1)),
        put("A", at("A", i32, i, j, checked=(0, 1)), const(0), const(0)),
    ]
    for stmt in accesses:
        params = (ScalarParam("x", i64), ScalarParam("y", i64), array("A", i32, M, N, written=True))
        func = Func("checks", params, (stmt,), ("M", "N"))
        executable = build(func)
        for x, y, expected in (
            (1, 2, None),
            (-1, 0, (0, -1, 2)),
            (2, 9, (0, 2, 2)),
            (1, 3, (1, 3, 3)),
            (0, -5, (1, -5, 3)),
        ):
            outcome = run(
                func, {"x": x, "y": y, "A": np.zeros((2, 3), "i4")}, {"M": 2, "N": 3}, executable=executable
            )
            found = (outcome.site.dim, outcome.index, outcome.extent) if outcome.code else None
            assert found == expected, (stmt, x, y)


@pytest.mark.parametrize("t", INTS, ids=repr)
def test_division_by_zero(t: DType) -> None:
    for op in ("//", "%"):
        e = Binary(op, const(7, t), Var("d", t), loc=LOC)  # type: ignore[arg-type]
        func = Func("div", (ScalarParam("d", t), array("o", t, 1, written=True)), (put("o", e, const(0)),))
        executable = build(func)
        assert run(func, {"d": 0, "o": np.zeros(1, t.np)}, executable=executable).site == Site(
            "zero_division", loc=LOC
        )
        assert run(func, {"d": 2, "o": np.zeros(1, t.np)}, executable=executable).code == 0


def test_assert_and_negative_power() -> None:
    x = Var("x", i32)
    body = (
        Assert(less(x, const(5, i32)), "too large", loc=LOC),
        put("o", Call("ipow", (const(2, i32), x), i32, loc=LOC), const(0)),
    )
    func = Func("faults", (ScalarParam("x", i32), array("o", i32, 1, written=True)), body)
    executable = build(func)
    o = np.zeros(1, "i4")
    assert run(func, {"x": 9, "o": o}, executable=executable).site == Site("assertion", "too large", loc=LOC)
    outcome = run(func, {"x": -3, "o": o}, executable=executable)
    assert outcome.site == Site("negative_power", loc=LOC) and outcome.index == -3
    assert run(func, {"x": 4, "o": o}, executable=executable).code == 0 and o[0] == 16


def test_conditions_are_numbered_and_overflow_fails_them() -> None:
    m, n = var("M"), var("N")
    conditions = (
        Condition(Compare("==", m, n), "square", loc=LOC),
        Condition(less(mul(mul(m, n), mul(m, n)), const(I64.max)), "product"),
        Condition(less(Unary("-", Var("x", i64)), const(1)), "sign"),
        Condition(Compare("==", Binary("//", m, Var("x", i64)), const(1)), "quotient"),
    )
    func = Func(
        "conditions", (ScalarParam("x", i64), array("o", i64, 1, written=True)), (), ("M", "N"), conditions
    )
    executable = build(func)
    assert executable.artifact.conditions[0] == ("square", LOC)

    def check(m: int, n: int, x: int) -> int:
        frame = fill(func, Table(executable), {"x": x, "o": np.zeros(1, "i8")}, {"M": m, "N": n})
        return int(executable.check(ctypes.addressof(frame)))

    assert check(3, 3, 3) == 0
    assert check(3, 4, 3) == 1
    assert check(1 << 46, 1 << 46, 1 << 46) == 2
    assert check(3, 3, -1) == 3
    assert check(3, 3, int(I64.min)) == 3
    assert check(3, 3, 0) == 4


# --------------------------------------------------------- atomics, print, stop


@pytest.mark.parametrize("t", (*INTS, *FLOATS, bool_), ids=repr)
@pytest.mark.parametrize("op", ("+", "min", "max"))
def test_atomic_gives_the_old_value(op: str, t: DType) -> None:
    values = edge_values(t)
    if t.is_float:
        values = values[~np.isnan(values.astype("f8"))]
    body = (
        Alloc("was", t, ()),
        Atomic(op, "o", (const(1),), at("a", t, var("i")), old="was"),  # type: ignore[arg-type]
        put("old", at("was", t), var("i")),
    )
    params = (array("a", t, N), array("o", t, 3, written=True), array("old", t, N, written=True))
    func = Func("atomic", params, (loop("i", var("N"), *body),), ("N",))
    agree(func, {"a": values, "o": np.zeros(3, t.np), "old": np.zeros(len(values), t.np)}, {"N": len(values)})


@pytest.mark.parametrize("t", (i64, u8, i16, f32, f64, f16, bf16), ids=repr)
def test_atomic_add_from_many_threads_loses_nothing(t: DType) -> None:
    rounds = {"u8": 50, "bf16": 50}.get(t.name, 200)
    func = Func(
        "count",
        (array("o", t, 2, written=True),),
        (loop("i", var("N"), Atomic("+", "o", (const(1),), const(1.0 if t.is_float else 1, t))),),
        ("N",),
    )
    executable = build(func)
    o = np.zeros(2, t.np)
    start = threading.Barrier(4)

    def work() -> None:
        start.wait()
        run(func, {"o": o}, {"N": rounds}, executable=executable)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert o[1] == 4 * rounds and o[0] == 0


def test_print_sends_values_of_every_kind() -> None:
    items = ("x", Var("a", i8), Var("b", u64), Var("c", f16), Var("d", f64), Var("e", bool_))
    params = (
        ScalarParam("a", i8),
        ScalarParam("b", u64),
        ScalarParam("c", f16),
        ScalarParam("d", f64),
        ScalarParam("e", bool_),
    )
    func = Func("show", params, (Print(items, sep="|", end="!", loc=LOC),))
    outcome = run(func, {"a": -3, "b": 2**64 - 1, "c": 0.1, "d": np.pi, "e": True})
    ((number, raw),) = outcome.table.printed
    assert outcome.sites[number - 1] == Site(
        "print", loc=LOC, items=("x", i8, u64, f16, f64, bool_), sep="|", end="!"
    )
    assert struct.unpack("<qQddQ", raw) == (-3, 2**64 - 1, float(np.float16(0.1)), np.pi, 1)


@pytest.mark.parametrize("endless", ("while", "nest"))
def test_stop_word_ends_endless_loops(endless: str) -> None:
    forever = While(Const(True, bool_), (accumulate("+", "o", const(1), const(0)),))
    if endless == "nest":
        big = const(I64.max)
        forever = loop("i", big, loop("j", const(3), accumulate("+", "o", const(1), var("j"))))  # type: ignore[assignment]
    func = Func(
        "endless",
        (array("o", i64, 4, written=True), array("p", i64, N)),
        (Alloc("t", i64, (var("N"),)), forever),
        ("N",),
    )
    executable = build(func)
    asked: list[int] = []
    poll = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(lambda at: asked.append(at) or len(asked) > 2)
    table = Table(executable, ctypes.cast(poll, ctypes.c_void_p).value)
    table.word.value = 1
    o = np.zeros(4, "i8")
    frame = fill(func, table, {"o": o, "p": np.zeros(5, "i8")}, {"N": 5})
    assert executable.run(ctypes.addressof(frame)) == -1
    assert asked == [table.address] * 3 and o.sum() > 0


def test_poll_of_the_module_runs_signal_handlers() -> None:
    """A handler that raises ends the kernel with its exception."""
    import signal

    func = Func(
        "wait",
        (array("o", i64, 1, written=True),),
        (While(Const(True, bool_), (accumulate("+", "o", const(1), const(0)),)),),
    )
    executable = build(func)
    table = Table(executable)
    frame = fill(func, table, {"o": np.zeros(1, "i8")}, {})

    def handler(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        timer = threading.Timer(0.1, lambda: setattr(table.word, "value", 1))
        timer.start()
        with pytest.raises(TimeoutError):
            executable.run(ctypes.addressof(frame))
        timer.join()
    finally:
        signal.signal(signal.SIGALRM, before)


# ---------------------------------------------------------------------- options


def test_strict_forbids_contraction_and_default_allows_it() -> None:
    from kdsl.backends.llvm import host_target, llvm_text

    strict = llvm_text(matmul(Options(strict=True)), host_target(), optimised=False)
    assert "contract" not in strict and "fadd float" in strict
    assert "fmul contract float" in llvm_text(matmul(), host_target(), optimised=False)
    assert "fmul fast float" in llvm_text(matmul(Options(fastmath=True)), host_target(), optimised=False)


def test_may_alias_joins_arrays() -> None:
    """A[i + 1] = B[i] over the same memory: what is read was written one iteration earlier."""
    i = var("i")
    params = (array("A", f32, N, written=True), array("B", f32, N))
    body = (loop("i", Binary("-", var("N"), const(1)), put("A", at("B", f32, i), add(i, const(1)))),)
    func = Func("spread", params, body, ("N",), options=Options(may_alias=("A", "B")))
    a = np.arange(100, dtype="f4")
    assert run(func, {"A": a, "B": a}, {"N": 100}).code == 0
    assert not a.any()


def test_names_that_llvm_would_not_take() -> None:
    params = (array("Ä", f32, Size({"größe": 1}), written=True),)
    func = Func(
        "köder",
        params,
        (Loop("ι", const(0), Var("größe", i64), const(1), (put("Ä", const(1.0, f32), Var("ι", i64)),)),),
        ("größe",),
    )
    a = np.zeros(5, "f4")
    assert run(func, {"Ä": a}, {"größe": 5}).code == 0 and a.all()
