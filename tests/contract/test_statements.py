"""Statements: loops, exits, scalars and their names, asserts; locals, results and views."""

from __future__ import annotations

import linecache
from itertools import combinations
from typing import Any

import numpy as np
import pytest

import kdsl
from kdsl import bool_, f32, f64, i8, i32, i64, u8
from tests.contract.harness import FORMS, agree, outcome

N, M, K = kdsl.sizes("N M K")

# -------------------------------------------------------------------------- loops


@kdsl.kernel
def ranges(a: i64, b: i64, out: i64[4, 64]):
    n = 0
    for i in range(a):
        out[0, n] = i
        n += 1
    n = 0
    for i in range(a, b):
        out[1, n] = i
        n += 1
    n = 0
    for i in range(a, b, 3):
        out[2, n] = i
        n += 1
    n = 0
    for i in range(b, a, -2):
        out[3, n] = i
        n += 1


@pytest.mark.parametrize(("a", "b"), [(0, 0), (3, 10), (10, 3), (-4, 5), (5, 5), (0, 20)])
def test_range_with_one_two_and_three_bounds(a: int, b: int) -> None:
    out = agree(ranges, a, b, np.full((4, 64), -99)).args[2]
    for row, want in zip(out, (range(a), range(a, b), range(a, b, 3), range(b, a, -2))):
        assert row[row != -99].tolist() == list(want)


@kdsl.kernel
def range_step_from_data(s: i64, out: i64[N]) -> i64:
    n = 0
    for i in range(0, N, s):
        out[i] = 1
        n += 1
    return n


def test_a_step_known_at_the_call() -> None:
    left = agree(range_step_from_data, 3, np.zeros(10, np.int64))
    assert left.result == 4
    assert left.args[1].tolist() == [1, 0, 0] * 3 + [1]


@pytest.mark.parametrize("form", FORMS)
def test_a_step_of_zero_is_an_error(form: str) -> None:
    with pytest.raises(ValueError, match=r"zero|step"):
        outcome(range_step_from_data, form, 0, np.zeros(3, np.int64))


@kdsl.kernel
def count_to_the_limit(first: i64, last: i64, step: i64) -> i64:
    n = 0
    for _ in range(first, last, step):
        n += 1
    return n


@pytest.mark.parametrize(
    ("first", "last", "step"),
    [
        (0, 2**63 - 1, 2**62),
        (2**63 - 2, 2**63 - 1, 5),
        (-(2**63), 2**63 - 1, 2**62),
        (10, -(2**63), -(2**62)),
        (2**63 - 1, -(2**63), -(2**63)),
        (-(2**63), 2**63 - 1, 2**63 - 1),
    ],
)
def test_ranges_at_the_ends_of_64_bits(first: int, last: int, step: int) -> None:
    assert agree(count_to_the_limit, first, last, step).result == len(range(first, last, step))


@kdsl.kernel
def bounds_are_evaluated_once(n: i64, out: i64[1]):
    m = n
    for i in range(m):
        m = 0
        out[0] += i + 1


def test_loop_bounds_are_evaluated_once() -> None:
    assert agree(bounds_are_evaluated_once, 4, np.zeros(1, np.int64)).args[1][0] == 10


@kdsl.kernel
def grids(out: i64[M, N], flat: i64[M]):
    for i, j in kdsl.grid(M, N):
        out[i, j] = 10 * i + j
    for i in kdsl.grid(M):
        flat[i] = i


def test_grid_of_one_and_two_extents() -> None:
    left = agree(grids, np.zeros((3, 4), np.int64), np.zeros(3, np.int64))
    assert left.args[0].tolist() == [[10 * i + j for j in range(4)] for i in range(3)]


@kdsl.kernel
def leave_a_grid(out: i64[1]):
    for i, j in kdsl.grid(3, 4):
        if i == 1 and j == 1:
            break
        if j == 2:
            continue
        out[0] += 1


def test_break_leaves_the_whole_grid_and_continue_goes_to_the_next_pair() -> None:
    assert agree(leave_a_grid, np.zeros(1, np.int64)).args[0][0] == 4


@kdsl.kernel
def unrolled(out: i64[6], COUNT: kdsl.constexpr = 3):
    for i in kdsl.static_range(COUNT):
        out[i] = i
        if i == 1:
            continue
        out[-1 - i] = 10 * i
    for i in kdsl.static_range(5, 0, -2):
        if i < 3:
            break
        out[i] += 100


def test_static_range() -> None:
    assert agree(unrolled, np.zeros(6, np.int64)).args[0].tolist() == [0, 1, 2, 120, 0, 100]
    assert agree(unrolled, np.zeros(6, np.int64), COUNT=1).args[0].tolist() == [0, 0, 0, 100, 0, 100]


@kdsl.kernel
def nested_exits(a: i64[M, N]) -> i64:
    count = 0
    for i in range(M):
        for j in range(N):
            if a[i, j] < 0:
                break
            if a[i, j] == 0:
                continue
            if a[i, j] == 99:
                return -count
            k = a[i, j]
            while True:
                k -= 1
                if k < 0:
                    break
                if k % 2:
                    continue
                count += 1
    return count


@pytest.mark.parametrize("last", [5, 99, -1, 0])
def test_break_continue_and_return_in_nested_loops(last: int) -> None:
    a = np.array([[1, 0, 4], [3, -1, 50], [2, last, 6]])
    agree(nested_exits, a)


@kdsl.kernel
def early_return(a: i64[N]):
    if N == 0:
        return
    a[0] = 1
    if a[0] == 1:
        return
    a[0] = 2


def test_an_early_return() -> None:
    agree(early_return, np.zeros(0, np.int64))
    assert agree(early_return, np.zeros(2, np.int64)).args[0].tolist() == [1, 0]


# -------------------------------------------------------------------------- names


@kdsl.kernel
def swaps(a: i64[N], out: i64[3]):
    x, y, z = 1, 2, 3
    for i in range(N):
        x, y, z = y, z, x + a[i]
    out[0], out[1] = x, y
    a[0], a[1] = a[1], a[0]
    (p, q), r = (z, x), y
    out[2] = p * 100 + q * 10 + r


def test_tuples_are_evaluated_before_they_are_assigned() -> None:
    left = agree(swaps, np.array([5, 6, 7, 8]), np.zeros(3, np.int64))
    assert left.args[0].tolist()[:2] == [6, 5]


@kdsl.kernel
def chained_assignment(out: i64[3]):
    x = y = out[0] = 4
    y += 1
    out[1], out[2] = x, y


def test_one_value_for_several_targets() -> None:
    assert agree(chained_assignment, np.zeros(3, np.int64)).args[0].tolist() == [4, 4, 5]


@kdsl.kernel
def declared(a: f32[N], out: f64[4]):
    s: f64 = 0
    n: u8 = 250
    x: f32 = 0.1
    k: i32 = 7.9
    for i in range(N):
        s += a[i] * a[i]
        n += 1
    out[0], out[1], out[2], out[3] = s, n, x, k


def test_annotated_scalars_keep_their_type() -> None:
    left = agree(declared, np.ones(10, np.float32), np.zeros(4))
    assert left.args[1].tolist() == [10, 4, float(np.float32(0.1)), 7]


@kdsl.kernel
def rebound(s: f32, n: i8, out: f64[3]):
    out[0] = s
    s = s * 3
    n += 100
    for i in range(3):
        s += i
    out[1], out[2] = s, n


def test_a_scalar_argument_is_cast_first_and_may_be_rebound() -> None:
    left = agree(rebound, 0.1, 100, np.zeros(3))
    assert left.args[2][0] == np.float32(0.1)
    assert left.args[2][2] == -56


@kdsl.kernel
def names_in_sequence(a: i64[N], out: i64[2]):
    for i in range(N):
        t = a[i]
        out[0] += t
    for i in range(N):
        t = a[i] > 1
        if t:
            out[1] += 1
    if N > 1:
        u = 1
    else:
        u = 2
    out[0] += u


def test_a_name_may_have_several_lives() -> None:
    assert agree(names_in_sequence, np.array([1, 2, 3]), np.zeros(2, np.int64)).args[1].tolist() == [7, 2]


def define(text: str, *, strict: bool = False) -> Any:
    """The kernel that `text` defines, from a source as notebooks keep it."""
    filename = f"<cell {abs(hash(text))}>"
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    names = dict(globals())
    exec(compile(text, filename, "exec"), names)
    return kdsl.kernel(strict=strict)(names["k"])


REFUSED_NAMES = {
    "a loop inside a loop over the same variable": """
def k(a):
    for i in range(3):
        for i in range(2):
            a[i] = 1
""",
    "a name set on one path only": """
def k(a):
    if a[0] > 0:
        t = 1
    a[0] = t
""",
    "a name set in a loop that may not run": """
def k(a):
    for i in range(len(a)):
        t = i
    a[0] = t
""",
    "a loop variable after its loop": """
def k(a):
    for i in range(len(a)):
        pass
    a[0] = i
""",
    "a name read before it is set": """
def k(a):
    a[0] = t
    t = 1
""",
    "a rebound array argument": """
def k(a):
    a = a[1:]
""",
    "a rebound loop variable": """
def k(a):
    for i in range(3):
        i = 4
""",
    "an augmented loop variable": """
def k(a):
    for i in range(3):
        i += 4
""",
    "an undefined name": """
def k(a):
    a[0] = undefined_name
""",
    "a try statement": """
def k(a):
    try:
        a[0] = 1
    except ValueError:
        pass
""",
    "a list": """
def k(a):
    a[0] = [1, 2]
""",
    "too many indices": """
def k(a):
    a[0, 1, 2] = 1
""",
    "a deleted name": """
def k(a):
    t = 1
    del t
""",
    "a lambda": """
def k(a):
    f = lambda x: x
    a[0] = f(1)
""",
}


@pytest.mark.parametrize("text", REFUSED_NAMES.values(), ids=REFUSED_NAMES.keys())
def test_refusals_show_the_line_a_caret_and_one_way_out(text: str) -> None:
    with pytest.raises(kdsl.CompileError) as caught:
        define(text)(np.ones(4, np.float32))
    error = caught.value
    assert error.filename.startswith("<cell")
    assert 2 <= error.lineno <= len(text.splitlines())
    assert text.splitlines()[error.lineno - 1].strip() in str(error)
    assert "^" in str(error)
    assert "help:" in str(error)


def test_annotations_need_no_future_import() -> None:
    body = "    r = kdsl.empty(N, f32)\n    r[:] = a * s\n    return r\n"
    text = "def k(a: f32[N], s: f32 = 2) -> f32[N]:\n" + body
    filename = "<cell without a future import>"
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    names = dict(globals())
    exec(compile(text, filename, "exec", dont_inherit=True), names)
    assert agree(kdsl.kernel(names["k"]), np.ones(2, np.float32)).result.tolist() == [2, 2]


def test_a_kernel_from_a_notebook_cell() -> None:
    k = define("def k(a):\n    for i in range(len(a)):\n        a[i] += 1\n")
    assert agree(k, np.zeros(3, np.float32)).args[0].tolist() == [1, 1, 1]


def test_a_function_without_source_is_refused() -> None:
    names: dict[str, Any] = {}
    exec("def k(a):\n    a[0] = 1\n", names)
    with pytest.raises(kdsl.CompileError, match="source"):
        kdsl.kernel(names["k"])


# ------------------------------------------------------------------------- asserts


@kdsl.kernel
def asserting(a: i64[N]):
    for i in range(N):
        assert a[i] >= 0, "negative input"
        assert a[i] < 100
        a[i] += 1


@pytest.mark.parametrize("form", FORMS)
def test_an_assert_carries_its_text(form: str) -> None:
    with pytest.raises(AssertionError, match="negative input"):
        outcome(asserting, form, np.array([1, -1]))
    with pytest.raises(AssertionError):
        outcome(asserting, form, np.array([100]))


@pytest.mark.parametrize("form", ["cpu", "interpreter"])
def test_an_assertion_is_a_kdsl_error(form: str) -> None:
    with pytest.raises(kdsl.KdslError, match=r"assert a\[i\] < 100"):
        outcome(asserting, form, np.array([100]))


# ------------------------------------------------------------------------- locals


@kdsl.kernel
def private_array(a: i64[M, N], out: i64[M, N]):
    for i in range(M):
        t = kdsl.zeros(N, i64)
        u = kdsl.full((2, N), 5, i64)
        for j in range(N):
            t[j] += a[i, j]
            u[1, j] -= t[j]
        for j in range(N):
            out[i, j] = t[N - 1 - j] + u[0, j] * u[1, j]


@pytest.mark.parametrize("shape", [(3, 4), (0, 3), (2, 0), (5, 70)])
def test_a_local_array_in_a_loop_is_private_to_the_iteration(shape: tuple[int, int]) -> None:
    a = np.arange(shape[0] * shape[1]).reshape(shape)
    left = agree(private_array, a, np.zeros_like(a))
    np.testing.assert_array_equal(left.args[1], a[:, ::-1] + 5 * (5 - a))


@kdsl.kernel
def results_that_share(a: f32[N]) -> tuple[f32[N], f32[N], f32[N], f32[()]]:
    t = kdsl.zeros((2, N), f32)
    t[1, :] = a
    z = kdsl.full((), 4, f32)
    return a, t[1, :], t[1, :], z


@pytest.mark.parametrize("form", FORMS)
def test_results_share_no_memory_and_rank_zero_is_a_scalar(form: str) -> None:
    a = np.array([1, 2], np.float32)
    kernel = results_that_share.py if form == "py" else results_that_share.on(form)
    *arrays, scalar = kernel(a)
    assert [x.tolist() for x in arrays] == [[1, 2]] * 3
    assert all(type(x) is np.ndarray and x.flags.c_contiguous for x in arrays)
    assert not any(np.shares_memory(x, y) for x, y in combinations([a, *arrays], 2))
    assert type(scalar) is np.float32


T = kdsl.typevar("T", f32, f64, i32)


@kdsl.kernel
def local_shapes(a: T[N], B: kdsl.constexpr = 4) -> T[N]:
    t = kdsl.zeros((2 * B, (N + B - 1) // B), T)
    for i in range(N):
        t[2 * (i % B), i // B] = a[i]
    r = kdsl.empty(N, T)
    for i in range(N):
        r[i] = t[2 * (i % B), i // B] * 2
    return r


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
@pytest.mark.parametrize("block", [1, 3, 4])
def test_local_shapes_use_sizes_constants_and_integer_arithmetic(dtype: Any, block: int) -> None:
    a = np.arange(10).astype(dtype)
    np.testing.assert_array_equal(agree(local_shapes, a, B=block).result, a * 2)


def test_the_interpreter_finds_elements_without_a_value() -> None:
    @kdsl.kernel
    def unset(out: f32[N]):
        t = kdsl.empty(N, f32)
        for i in range(N):
            out[i] = t[i]

    with pytest.raises(kdsl.KdslError):
        unset.on("interpreter")(np.zeros(2, np.float32))


# ------------------------------------------------------------------------ results


@kdsl.kernel
def many_results(a: f32[M, N]) -> (f32[N, M], f64, bool_, i8, f32[2]):
    t = kdsl.empty((N, M), f32)
    s = 0.0
    for i, j in kdsl.grid(M, N):
        t[j, i] = a[i, j]
        s += a[i, j]
    return t, s, s > 1, i64(300), kdsl.full(2, 0.5, f32)


def test_a_tuple_of_results() -> None:
    a = np.arange(6, dtype=np.float32).reshape(2, 3)
    t, s, large, wrapped, halves = agree(many_results, a, forms=("cpu", "interpreter")).results
    np.testing.assert_array_equal(t, a.T)
    assert (type(s), type(large), type(wrapped)) == (np.float64, np.bool_, np.int8)
    assert (s, large, wrapped) == (15, True, 44)
    assert halves.tolist() == [0.5, 0.5]


@kdsl.kernel
def scalar_result(a: T[N]) -> T:
    return a[0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
def test_a_scalar_result_has_the_annotated_type(dtype: Any) -> None:
    for form in FORMS:
        result = outcome(scalar_result, form, np.array([3], dtype)).result
        assert type(result) is dtype


@kdsl.kernel
def one_of_two(a: f32[N], flag: bool_) -> f32[N]:
    r = kdsl.zeros(N, f32)
    if flag:
        return r
    for i in range(N):
        r[i] = a[i]
    return r


@pytest.mark.parametrize("flag", [True, False])
def test_a_result_from_either_path(flag: bool) -> None:
    a = np.array([1, 2], np.float32)
    assert agree(one_of_two, a, flag).result.tolist() == [0, 0] if flag else [1, 2]


def test_results_are_new_arrays_each_time() -> None:
    a = np.array([1, 2], np.float32)
    first, second = one_of_two(a, False), one_of_two(a, False)
    assert not np.shares_memory(first, second)
    first[0] = 9
    assert second[0] == 1


# -------------------------------------------------------------------------- views


@kdsl.kernel
def slices(a: i64[N], out: i64[12]):
    out[0:3] = a[:3]
    out[3:5] = a[-2:]
    out[5:8] = a[2:8:2]
    out[8:10] = a[1:-5]
    b = a[3:]
    out[10] = b[0] + b[-1] + len(b)
    c = b[1:3]
    out[11] = c[1] * 10 + c.shape[0]


def test_slices_in_all_forms() -> None:
    a = np.arange(8) + 1
    left = agree(slices, a, np.zeros(12, np.int64))
    assert left.args[1].tolist() == [1, 2, 3, 7, 8, 3, 5, 7, 2, 3, 4 + 8 + 5, 62]


@kdsl.kernel
def reversed_slice(a: i64[N], out: i64[N]):
    out[:] = a[::-1]


def test_a_negative_step() -> None:
    left = agree(reversed_slice, np.arange(5), np.zeros(5, np.int64))
    assert left.args[1].tolist() == [4, 3, 2, 1, 0]


@kdsl.kernel
def views(a: f32[M, N], out: f32[N, M], flat: f32[K]):
    out[:, :] = a.T
    row = out[0, :]
    row[0] = 100
    column = a[:, 1]
    for i in range(M):
        column[i] += 1
    flat[:] = a.reshape(M * N)
    block = a[1:, :2]
    block[0, 0] = -1


def test_views_write_through() -> None:
    a = np.arange(12, dtype=np.float32).reshape(3, 4)
    agree(views, a, np.zeros((4, 3), np.float32), np.zeros(12, np.float32))


@kdsl.kernel
def elementwise(a: f32[M, N], b: f32[M, N], v: f32[N]):
    a[0, :] = 2 * b[1, :] + v
    a[1, :] += b[0, :] * v
    a[:, 0] = 7
    b[:, :] = -a
    v[1:] = kdsl.sqrt(abs(v[1:])) - v[:-1]


def test_slice_expressions_are_element_wise() -> None:
    rng = np.random.default_rng(0)
    a, b, v = (rng.integers(-9, 9, s).astype(np.float32) for s in ((2, 5), (2, 5), (5,)))
    agree(elementwise, a, b, v, forms=("cpu", "interpreter", "py"))


@kdsl.kernel
def overlapping_copy(a: i64[N], k: i64):
    a[1:] = a[:-1]
    a[:-2] = a[2:] + a[:-2]
    a[::2] = a[::-1][::2]


def test_slice_assignment_has_copy_semantics() -> None:
    for n in (2, 3, 7, 16):
        a = np.arange(n)
        want = a.copy()
        want[1:] = want[:-1].copy()
        want[:-2] = want[2:] + want[:-2]
        want[::2] = want[::-1][::2].copy()
        np.testing.assert_array_equal(agree(overlapping_copy, a, 0).args[0], want)


@kdsl.kernel
def slice_from_data(a: i64[N], start: i64, out: i64[4]):
    out[:] = a[start : start + 4]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("start", [-1, 7, 100, 2**62])
def test_a_slice_outside_the_array_is_an_error(form: str, start: int) -> None:
    with pytest.raises((IndexError, kdsl.ArgumentError)):
        outcome(slice_from_data, form, np.arange(10), start, np.zeros(4, np.int64))


def test_a_slice_from_data_inside() -> None:
    assert agree(slice_from_data, np.arange(10), 6, np.zeros(4, np.int64)).args[2].tolist() == [6, 7, 8, 9]


@kdsl.kernel
def into_a_slice(a: i64[N], start: i64, i: i64):
    v = a[start : start + 2]
    v[i] = 9


@kdsl.kernel
def set_one(v: i64[M], i: i64):
    v[i] = 1


@kdsl.kernel
def slice_for_a_call(a: i64[N], start: i64, i: i64):
    set_one(a[start : start + 4], i)


@kdsl.kernel
def loop_over_a_slice(a: i64[N], count: i64, n: i64):
    v = a[:count]
    for i in range(n):
        v[i] += i


@kdsl.kernel
def last_of_a_slice(a: i64[N], start: i64, end: i64):
    v = a[start:end]
    v[-1] = 7


@kdsl.kernel
def column(a: i64[N], i: i64, j: i64):
    a.reshape(2, N // 2)[i, j] = 7


@kdsl.kernel
def slice_of_a_slice(a: i64[N], start: i64, i: i64):
    v = a[2:7]
    w = v[start : start + 3]
    w[i] = 7


@kdsl.kernel
def atomic_in_a_slice(a: i64[N], start: i64, i: i64):
    kdsl.atomic_add(a[start:8], i, 100)


@kdsl.kernel
def transposed_slice(a: i64[N], i: i64, j: i64):
    a.reshape(5, 2)[1:4].T[i, j] = 7


@kdsl.kernel
def row_of_a_slice(a: i64[N], i: i64, j: i64):
    rows = a.reshape(5, 2)[1:4]
    rows[i, :] = j


@kdsl.kernel
def backward(a: i64[N], start: i64, i: i64):
    a[start:3:-2][i] = 7


VIEWS = [
    (into_a_slice, 1, 1, True), (into_a_slice, 1, 2, False), (into_a_slice, 1, 5, False),
    (into_a_slice, 8, 1, True), (slice_for_a_call, 2, 3, True), (slice_for_a_call, 2, 4, False),
    (loop_over_a_slice, 5, 5, True), (loop_over_a_slice, 5, 6, False), (last_of_a_slice, 3, 5, True),
    (last_of_a_slice, 3, 3, False), (column, 0, 4, True), (column, 0, 5, False), (column, 1, 4, True),
    (slice_of_a_slice, 2, 2, True), (slice_of_a_slice, 1, 3, False), (atomic_in_a_slice, 3, 4, True),
    (atomic_in_a_slice, 3, 5, False), (transposed_slice, 1, 2, True), (transposed_slice, 1, 3, False),
    (row_of_a_slice, 2, 1, True), (row_of_a_slice, 3, 1, False), (backward, 9, 2, True),
    (backward, 9, 3, False),
]  # fmt: skip


@pytest.mark.parametrize(("kernel", "x", "y", "inside"), VIEWS)
def test_an_index_is_tested_against_the_view(kernel: Any, x: int, y: int, inside: bool) -> None:
    if inside:
        agree(kernel, np.arange(10), x, y)
        return
    for form in FORMS:
        with pytest.raises((IndexError, kdsl.ArgumentError)):
            outcome(kernel, form, np.arange(10), x, y)


@kdsl.kernel
def picked_from_a_slice(a: i64[N], picks: i64[M]):
    v = a[2:6]
    for i in range(M):
        v[picks[i]] += 10


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bad", (-1, 4))
def test_an_index_from_data_is_tested_against_the_slice(form: str, bad: int) -> None:
    agree(picked_from_a_slice, np.arange(10), np.array([0, 3, 3]))
    if form == "py":
        with pytest.raises(IndexError):
            outcome(picked_from_a_slice, form, np.arange(10), np.array([0, bad]))
        return
    with pytest.raises(IndexError, match=f"index {bad} is out of bounds for dimension 0 of `v`, which has 4"):
        outcome(picked_from_a_slice, form, np.arange(10), np.array([0, bad]))


@kdsl.kernel
def lengths(a: i64[N], start: i64, end: i64, out: i64[6]):
    v = a[start:end]
    out[0] = len(v)
    out[1] = v.shape[0] - 1
    out[2] = 3 * v.size
    out[3] = len(a[3:1])
    for i in range(len(v)):
        v[i] = -1
        out[4] += 1
    for _ in range(3, len(v)):
        out[5] += 1


@pytest.mark.parametrize(("start", "end"), [(2, 7), (4, 4), (7, 2)])
def test_a_slice_that_ends_before_its_start_has_no_elements(start: int, end: int) -> None:
    left = agree(lengths, np.arange(10), start, end, np.zeros(6, np.int64))
    count = max(0, end - start)
    assert left.args[3].tolist() == [count, count - 1, 3 * count, 0, count, max(0, count - 3)]


@kdsl.kernel
def size_of(v: i64[M], out: i64[1]):
    out[0] += M


@kdsl.kernel
def size_of_a_slice(a: i64[N], start: i64, end: i64, out: i64[1]):
    size_of(a[start:end], out)


def test_the_size_of_an_empty_slice_in_a_call() -> None:
    for start, end in ((2, 7), (7, 2)):
        left = agree(size_of_a_slice, np.arange(10), start, end, np.zeros(1, np.int64))
        assert left.args[3].tolist() == [max(0, end - start)]


@kdsl.kernel
def whole_array(a: i64[N], b: i64[N]):
    b[:] = a
    b[...] = b + 1


def test_a_whole_array_is_assigned() -> None:
    assert agree(whole_array, np.arange(3), np.zeros(3, np.int64)).args[1].tolist() == [1, 2, 3]


# ----------------------------------------------------------------- ranks and sizes


@kdsl.kernel
def zero_rank(a: f32[()], out: f32[()]):
    out[()] = a[()] * 2


def test_arrays_of_rank_zero() -> None:
    left = agree(zero_rank, np.array(3, np.float32), np.zeros((), np.float32))
    assert left.args[1] == 6


P, Q = kdsl.sizes("P Q")


@kdsl.kernel
def rank_six(a: i32[2, M, 1, N, K, 2], out: i32[2, K, N, 1, M, 2]):
    for s, i, o, j, k, e in kdsl.grid(2, M, 1, N, K, 2):
        out[e, k, j, o, i, s] = a[s, i, o, j, k, e]


@pytest.mark.parametrize("sizes", [(3, 2, 4), (1, 1, 1), (0, 2, 2), (2, 3, 0)])
def test_rank_six_in_any_layout(sizes: tuple[int, int, int]) -> None:
    m, n, k = sizes
    a = np.arange(4 * m * n * k, dtype=np.int32).reshape(2, m, 1, n, k, 2)
    want = a.transpose(5, 4, 3, 2, 1, 0)
    out = np.zeros(want.shape, np.int32)
    np.testing.assert_array_equal(agree(rank_six, a, out).args[1], want)
    rank_six(np.asfortranarray(a), out)
    np.testing.assert_array_equal(out, want)


@kdsl.kernel
def reduce_to_one(a: f64[M, N], out: f64[M]):
    for i in range(M):
        s = 0.0
        for j in range(N):
            s += a[i, j]
        out[i] = s


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0), (1, 1)])
def test_empty_extents(shape: tuple[int, int]) -> None:
    left = agree(reduce_to_one, np.ones(shape), np.full(shape[0], 7.0))
    assert left.args[1].tolist() == [float(shape[1])] * shape[0]
