"""Calls: what is accepted, what is refused, and that a refused call writes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kdsl
from kdsl import bool_, f16, f32, f64, i8, i32, i64, u8, u64
from tests.contract.harness import ALL, FORMS, KDSL, agree, dtype_of, outcome, refused

M, N, K = kdsl.sizes("M N K")
COMPILED = ("cpu", "interpreter")
"""The forms that know which arguments the kernel writes before they run."""


@kdsl.kernel
def matmul(A: f32[M, K], B: f32[K, N], C: f32[M, N]):
    for i in range(M):
        for j in range(N):
            acc = 0.0
            for k in range(K):
                acc += A[i, k] * B[k, j]
            C[i, j] = acc


def normal(*shape: int, dtype: Any = np.float32) -> Any:
    return np.random.default_rng(1).standard_normal(shape).astype(dtype)


def whole(*shape: int) -> Any:
    """Small whole numbers, whose sums are exact."""
    return np.random.default_rng(2).integers(-9, 9, shape).astype(np.float32)


# ------------------------------------------------------------------------- accepted


@pytest.mark.parametrize(
    ("m", "n", "k"), [(0, 3, 4), (3, 0, 4), (3, 4, 0), (1, 1, 1), (7, 5, 3), (16, 17, 33)]
)
def test_matmul_of_every_size(m: int, n: int, k: int) -> None:
    a, b = whole(m, k), whole(k, n)
    left = agree(matmul, a, b, np.full((m, n), 7, np.float32))
    np.testing.assert_array_equal(left.args[2], a @ b)


LAYOUTS = {
    "contiguous": lambda x: x.copy(),
    "Fortran order": np.asfortranarray,
    "every second row": lambda x: np.repeat(x, 2, 0)[::2],
    "every second column": lambda x: np.repeat(x, 2, 1)[:, ::2],
    "reversed": lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
    "inside a larger array": lambda x: np.pad(x, 3)[3:-3, 3:-3],
    "with a lost axis": lambda x: np.stack([x, x], 1)[:, 0],
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_any_strides_for_inputs_and_outputs(layout: Any) -> None:
    a, b = whole(4, 3), whole(3, 5)
    out = layout(np.full((4, 5), 7, np.float32))
    for form in (matmul, matmul.on("interpreter"), matmul.py):
        form(layout(a), layout(b), out)
        np.testing.assert_array_equal(out, a @ b)


def test_a_broadcast_input_is_read_in_place() -> None:
    a = np.broadcast_to(whole(1, 3), (4, 3))
    left = agree(matmul, np.array(a), whole(3, 2), np.zeros((4, 2), np.float32))
    out = np.zeros((4, 2), np.float32)
    matmul(a, whole(3, 2), out)
    np.testing.assert_array_equal(out, left.args[2])


def test_a_read_only_input_is_fine() -> None:
    a = whole(2, 2)
    a.flags.writeable = False
    out = np.zeros((2, 2), np.float32)
    matmul(a, a, out)
    np.testing.assert_array_equal(out, a @ a)


@kdsl.kernel
def copy_of(x, y):
    for i in range(len(x)):
        y[i] = x[i]


def test_unaligned_arrays_are_refused() -> None:
    memory = np.zeros(21, np.uint8)
    x = np.ndarray(5, np.float32, memory, 1)
    with refused(memory, match=r"`x`.*align"):
        copy_of(x, np.zeros(5, np.float32))
    copy_of(memory[1:4], memory[4:7])


class Interface:
    """Speaks `__array_interface__` alone."""

    def __init__(self, a: Any) -> None:
        self.a = a
        self.__array_interface__ = a.__array_interface__


class Packed:
    """Speaks DLPack alone."""

    def __init__(self, a: Any) -> None:
        self.a = a

    def __dlpack__(self, **options: Any) -> Any:
        return self.a.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.a.__dlpack_device__()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("wrap", [Interface, Packed])
def test_foreign_arrays_are_used_in_place(wrap: Any, form: str) -> None:
    a, b, c = whole(3, 4), whole(4, 2), np.zeros((3, 2), np.float32)
    kernel = matmul.py if form == "py" else matmul.on(form)
    kernel(wrap(a), wrap(b), wrap(c))
    np.testing.assert_array_equal(c, a @ b)
    kernel(wrap(a[:, ::2]), wrap(b[::2]), wrap(c))
    np.testing.assert_array_equal(c, a[:, ::2] @ b[::2])


def test_memory_maps_and_subclasses(tmp_path: Path) -> None:
    c = np.memmap(tmp_path / "c", np.float32, "w+", shape=(3, 2))
    a, b = whole(3, 4), whole(4, 2)
    matmul(a.view(np.matrix), b, c)
    np.testing.assert_array_equal(c, a @ b)
    c.flush()
    np.testing.assert_array_equal(np.fromfile(tmp_path / "c", np.float32).reshape(3, 2), a @ b)


@kdsl.kernel
def scalars(a: f32, b: i64, c: u8, d: bool_, e: f64, out: f64[5]):
    out[0], out[1], out[2], out[3], out[4] = a, b, c, d, e


@pytest.mark.parametrize(
    "given",
    [
        (0.1, 7, 255, True, 3),
        (np.float64(0.1), np.int8(-3), np.uint64(3), np.bool_(False), np.float16(0.5)),
        (3, True, np.int64(200), False, np.int32(9)),
        (np.array(0.1), np.array(4), np.array(5, np.uint8), np.array(True), np.array(2.5, np.float32)),
    ],
    ids=["python", "numpy", "converted", "rank zero"],
)
def test_scalars_are_cast_to_their_annotation(given: tuple[Any, ...]) -> None:
    left = agree(scalars, *given, np.zeros(5))
    assert left.args[5][0] == np.float32(given[0])
    assert left.args[5].tolist()[1:] == [float(x) for x in given[1:]]


@kdsl.kernel
def defaults(out: f64[3], x: f64 = 1.5, /, y: i64 = 2, *, z: f32 = 3):
    out[0], out[1], out[2] = x, y, z


def test_defaults_keywords_and_markers() -> None:
    assert agree(defaults, np.zeros(3)).args[0].tolist() == [1.5, 2, 3]
    assert agree(defaults, np.zeros(3), 5, z=7).args[0].tolist() == [5, 2, 7]
    assert agree(defaults, np.zeros(3), 5, y=6, z=7).args[0].tolist() == [5, 6, 7]


def test_keywords_in_any_order() -> None:
    a, b, c = whole(2, 3), whole(3, 2), np.zeros((2, 2), np.float32)
    matmul(C=c, B=b, A=a)
    np.testing.assert_array_equal(c, a @ b)
    matmul.py(a, C=c, B=b * 2)
    np.testing.assert_array_equal(c, a @ b * 2)


@kdsl.kernel
def affine(A: f32[M + 2, 2 * N], B: f32[M, N]):
    for i, j in kdsl.grid(M, N):
        B[i, j] = A[i + 2, 2 * j + 1] + A[i, 2 * j]


def test_affine_sizes_are_solved() -> None:
    a = whole(5, 8)
    left = agree(affine, a, np.zeros((3, 4), np.float32))
    np.testing.assert_array_equal(left.args[1], a[2:, 1::2] + a[:-2, ::2])


@kdsl.kernel
def fixed(A: f32[4, 3], n: i64):
    A[1, 2] = n


# -------------------------------------------------------------------------- refused


class NotAnArray:
    pass


def read_only(a: Any) -> Any:
    a.flags.writeable = False
    return a


BAD_MATMUL: dict[str, Any] = {
    "rank": (lambda a, b, c: (a[0], b, c), r"`A`"),
    "rank of the output": (lambda a, b, c: (a, b, c[None]), r"`C`"),
    "dtype": (lambda a, b, c: (a.astype(np.float64), b, c), r"`A`.*float32"),
    "dtype of the output": (lambda a, b, c: (a, b, c.view(np.int32)), r"`C`.*float32"),
    "size": (lambda a, b, c: (a, b[:-1], c), r"K is 4 from A\.shape\[1\] but 3 from B\.shape\[0\]"),
    "size of the output": (
        lambda a, b, c: (a, b, c[:-1]),
        r"M is 3 from A\.shape\[0\] but 2 from C\.shape\[0\]",
    ),
    "byte order": (lambda a, b, c: (a.astype(">f4"), b, c), r"`A`.*byte order"),
    "masked": (lambda a, b, c: (np.ma.masked_array(a), b, c), r"`A`.*masked"),
    "masked output": (lambda a, b, c: (a, b, np.ma.masked_array(c)), r"`C`.*masked"),
    "list": (lambda a, b, c: (a.tolist(), b, c), r"`A`"),
    "none": (lambda a, b, c: (None, b, c), r"`A`"),
    "number": (lambda a, b, c: (1.0, b, c), r"`A`"),
    "object": (lambda a, b, c: (a, NotAnArray(), c), r"`B`"),
    "objects": (lambda a, b, c: (a.astype(object), b, c), r"`A`"),
    "complex": (lambda a, b, c: (a.astype(np.complex64), b, c), r"`A`"),
    "strings": (lambda a, b, c: (a.astype(str), b, c), r"`A`"),
    "structured": (lambda a, b, c: (np.zeros((3, 4), [("x", np.float32)]), b, c), r"`A`"),
    "too few": (lambda a, b, c: (a, b), r"`C`"),
    "none at all": (lambda a, b, c: (), r"`A`"),
    "too many": (lambda a, b, c: (a, b, c, c), r"3"),
    "broadcast output": (lambda a, b, c: (a, b, np.broadcast_to(c[:1], (3, 2))), r"`C`"),
    "zero stride output": (
        lambda a, b, c: (a, b, np.lib.stride_tricks.as_strided(c, (3, 2), (0, 4))),
        r"`C`",
    ),
    "overlapping rows of the output": (
        lambda a, b, c: (a, b, np.lib.stride_tricks.as_strided(c, (3, 2), (4, 4))),
        r"`C`",
    ),
    "read-only output": (lambda a, b, c: (a, b, read_only(c)), r"`C`.*read-only"),
    "overlap": (lambda a, b, c: (a, b, a[:, :2]), r"may_alias"),
    "the same array": (lambda a, b, c: (a[:, :3], b[:3, :], a[:, :2]), r"may_alias"),
}


@pytest.mark.parametrize("form", COMPILED)
@pytest.mark.parametrize(("spoil", "message"), BAD_MATMUL.values(), ids=BAD_MATMUL.keys())
def test_a_bad_argument_is_named_and_nothing_written(spoil: Any, message: str, form: str) -> None:
    a, b, c = normal(3, 4), normal(4, 2), np.full((3, 2), 7, np.float32)
    with refused(a, b, c, match=message) as caught:
        matmul.on(form)(*spoil(a, b, c))
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, kdsl.KdslError)


NAMED_BY_PYTHON = [
    name for name in BAD_MATMUL if "output" not in name and name not in ("overlap", "the same array")
]


@pytest.mark.parametrize("name", NAMED_BY_PYTHON)
def test_python_refuses_the_same_inputs(name: str) -> None:
    spoil, message = BAD_MATMUL[name]
    a, b, c = normal(3, 4), normal(4, 2), np.full((3, 2), 7, np.float32)
    with refused(a, b, c, match=message):
        matmul.py(*spoil(a, b, c))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("args", "keywords"),
    [((0,), {"A": 1}), ((0, 1, 2), {"A": 0}), ((0, 1, 2), {"D": 0}), ((0, 1), {"c": 2})],
    ids=["twice", "twice and complete", "unknown", "wrong case"],
)
def test_bad_keywords(args: tuple[int, ...], keywords: dict[str, int], form: str) -> None:
    arrays = normal(3, 4), normal(4, 2), np.full((3, 2), 7, np.float32)
    kernel = matmul.py if form == "py" else matmul.on(form)
    with refused(*arrays):
        kernel(*[arrays[i] for i in args], **{name: arrays[i] for name, i in keywords.items()})


BAD_SCALARS: dict[str, tuple[Any, ...]] = {
    "float for an int": (1.0, 2.5, 0, True, 0),
    "whole float for an int": (1.0, 2.0, 0, True, 0),
    "text": ("1", 2, 0, True, 0),
    "none": (None, 2, 0, True, 0),
    "too large": (1.0, 2**63, 0, True, 0),
    "too large for u8": (1.0, 2, 256, True, 0),
    "negative for u8": (1.0, 2, -1, True, 0),
    "complex": (1j, 2, 0, True, 0),
    "array": (np.ones(2), 2, 0, True, 0),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("given", BAD_SCALARS.values(), ids=BAD_SCALARS.keys())
def test_bad_scalars(given: tuple[Any, ...], form: str) -> None:
    out = np.full(5, 7.0)
    kernel = scalars.py if form == "py" else scalars.on(form)
    with refused(out):
        kernel(*given, out)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(5, 7), (1, 8), (5, 0), (4, 8)])
def test_sizes_that_have_no_solution(shape: tuple[int, int], form: str) -> None:
    out = np.full((3, 4), 7, np.float32)
    kernel = affine.py if form == "py" else affine.on(form)
    with refused(out):
        kernel(normal(*shape), out)


def test_fixed_sizes() -> None:
    with refused(match=r"4"):
        fixed(np.zeros((5, 3), np.float32), 1)
    a = np.zeros((4, 3), np.float32)
    fixed(a, 2)
    assert a[1, 2] == 2


@pytest.mark.parametrize("name", ALL)
def test_no_conversion_of_element_types(name: str) -> None:
    @kdsl.kernel
    def only(x: KDSL[name][N]):
        for i in range(N):
            x[i] = 1

    x = np.zeros(2, dtype_of(name))
    agree(only, x)
    for other in ALL:
        if other != name:
            wrong = np.zeros(2, dtype_of(other))
            with refused(wrong, match=r"`x`"):
                only(wrong)


# ------------------------------------------------------------------------- aliasing


@kdsl.kernel
def copying(A: f32[N], B: f32[N]):
    for i in range(N):
        B[i] = A[i]


@kdsl.kernel(may_alias=("A", "B"))
def declared(A: f32[N], B: f32[N]):
    for i in range(N):
        B[i] = A[i] + 1


@kdsl.kernel
def reading(A: f32[N], B: f32[N], out: f32[1]):
    for i in range(N):
        out[0] += A[i] * B[i]


@kdsl.kernel
def copying_rows(A: f32[M, N], B: f32[M, N]):
    for i, j in kdsl.grid(M, N):
        B[i, j] = A[i, j]


DISJOINT = {
    "halves": lambda x: (x[:10], x[10:]),
    "interleaved": lambda x: (x[::2], x[1::2]),
    "interleaved and reversed": lambda x: (x[::2], x[::-2]),
    "multiples of three": lambda x: (x[::3][:5], x[1::3][:5]),
    "empty": lambda x: (x[:0], x[:0]),
}
OVERLAPPING = {
    "shifted": lambda x: (x[:10], x[5:15]),
    "the same": lambda x: (x, x),
    "one element": lambda x: (x[:10], x[9:19]),
    "two and three": lambda x: (x[::3][:6], x[::2][:6]),
    "reversed": lambda x: (x, x[::-1]),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("views", DISJOINT.values(), ids=DISJOINT.keys())
def test_views_that_share_no_element_are_fine(views: Any, form: str) -> None:
    x = normal(20)
    a, b = views(x)
    kernel = copying.py if form == "py" else copying.on(form)
    kernel(a, b)
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("form", COMPILED)
@pytest.mark.parametrize("views", OVERLAPPING.values(), ids=OVERLAPPING.keys())
def test_views_that_share_an_element_are_refused(views: Any, form: str) -> None:
    x = normal(20)
    with refused(x, match="may_alias"):
        copying.on(form)(*views(x))


def test_columns_and_blocks_of_one_array() -> None:
    x = whole(6, 8)
    copying_rows(x[:, :4], x[:, 4:])
    np.testing.assert_array_equal(x[:, :4], x[:, 4:])
    copying_rows(x[:3, ::2], x[3:, ::2])
    with refused(x, match="may_alias"):
        copying_rows(x[:4, :4], x[2:, 2:6])


def test_arrays_that_are_only_read_may_overlap() -> None:
    x = whole(10)
    assert agree(reading, x[:9], x[1:], np.zeros(1, np.float32)).args[2][0] == x[:9] @ x[1:]
    reading(x, x, np.zeros(1, np.float32))


def test_declared_aliases_follow_program_order() -> None:
    for kernel in (declared, declared.on("interpreter"), declared.py):
        x = np.zeros(6, np.float32)
        kernel(x[:-1], x[1:])
        assert x.tolist() == [0, 1, 2, 3, 4, 5]


def test_an_alias_through_foreign_objects_is_found() -> None:
    x = normal(10)
    with refused(x, match="may_alias"):
        copying(Interface(x), Packed(x))


# ----------------------------------------------------------- sizes and where they fail


@kdsl.kernel
def shorter(X: f32[N], Y: f32[M]):
    for i in range(N):
        Y[i] = X[i]


@pytest.mark.parametrize("form", COMPILED)
def test_a_condition_on_sizes_is_checked_before_anything_is_written(form: str) -> None:
    y = np.full(3, 7, np.float32)
    shorter.on(form)(normal(2), y)
    with refused(y, match=r"Y"):
        shorter.on(form)(normal(4), y)


@kdsl.kernel
def gather(X: f32[N], index: i64[M], out: f32[M]):
    for i in range(M):
        out[i] = X[index[i]]


@kdsl.kernel(bounds="unchecked")
def unchecked(X: f32[N], index: i64[M], out: f32[M]):
    for i in range(M):
        out[i] = X[index[i]]


@kdsl.kernel
def scatter(index: i32[M], X: f32[N, K]):
    for i in range(M):
        X[index[i], 1] += 1


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bad", [3, -1, 2**62, -(2**63)])
def test_an_index_from_data_is_checked_when_it_runs(bad: int, form: str) -> None:
    kernel = gather.py if form == "py" else gather.on(form)
    out = np.zeros(3, np.float32)
    with pytest.raises(IndexError) as caught:
        kernel(np.array([5, 6, 7], np.float32), np.array([2, bad, 0]), out)
    if form != "py":
        text = str(caught.value)
        assert isinstance(caught.value, kdsl.KdslError)
        assert str(bad) in text
        assert "`X`" in text
        assert "out[i] = X[index[i]]" in text
    assert out[0] in (0, 7)
    assert out[2] == 0


@pytest.mark.parametrize("form", FORMS)
def test_an_index_from_data_of_a_write(form: str) -> None:
    x = np.zeros((3, 2), np.float32)
    kernel = scatter.py if form == "py" else scatter.on(form)
    kernel(np.array([0, 2, 2], np.int32), x)
    assert x[:, 1].tolist() == [1, 0, 2]
    with pytest.raises(IndexError):
        kernel(np.array([3], np.int32), x)
    assert x[:, 1].tolist() == [1, 0, 2]


def test_unchecked_bounds_compute_the_same_inside() -> None:
    x, index = normal(10), np.array([9, 0, 4])
    out = np.zeros(3, np.float32)
    unchecked(x, index, out)
    np.testing.assert_array_equal(out, x[index])
    with pytest.raises(kdsl.ArgumentError):
        unchecked(x, index, np.zeros(2, np.float32))


def test_nothing_runs_when_an_index_is_never_reached() -> None:
    gather(np.zeros(0, np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32))


@kdsl.kernel
def square_result(a: f32[N]) -> f32[N, N]:
    return kdsl.zeros((N, N), f32)


@kdsl.kernel
def square_local(a: f32[N], out: f32[1]):
    t = kdsl.zeros((N, N), f32)
    t[N - 1, 0] = 1
    out[0] = t[N - 1, 0]


@pytest.mark.parametrize("size", [2**24, 2**31, 2**40])
def test_an_array_beyond_memory_is_a_memory_error(size: int) -> None:
    a = np.broadcast_to(np.float32(0), (size,))
    small, out = np.zeros(3, np.float32), np.zeros(1, np.float32)
    square_result(small)
    square_local(small, out)
    for _ in range(2):
        with pytest.raises(MemoryError) as caught:
            square_result(a)
        assert isinstance(caught.value, kdsl.KdslError)
        with pytest.raises((MemoryError, kdsl.ArgumentError)) as caught:
            square_local(a, out)
        assert isinstance(caught.value, kdsl.KdslError)


# --------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    "options",
    [
        {"bounds": "maybe"},
        {"strict": 1},
        {"fastmath": "yes"},
        {"target": "gpuu"},
        {"may_alias": ("X",)},
        {"speed": 1},
    ],
    ids=str,
)
def test_bad_options_are_refused_at_decoration(options: dict[str, Any]) -> None:
    def body(A: f32[N]):
        for i in range(N):
            A[i] = 1

    with pytest.raises((kdsl.KdslError, TypeError)):
        kdsl.kernel(**options)(body)


def test_a_name_of_ones_own() -> None:
    @kdsl.kernel(name="other")
    def body(A: f32[N]):
        for i in range(N):
            A[i] = 1

    assert "other" in str(body.ir())


@kdsl.kernel
def half_and_byte(h: f16[N], b: i8[N], k: i32[N], w: u64[N]):
    for i in range(N):
        h[i] += b[i]
        k[i] += b[i]
        w[i] += 1


def test_four_element_types_in_one_call() -> None:
    b = np.array([1, -128], np.int8)
    left = agree(half_and_byte, np.ones(2, np.float16), b, np.ones(2, np.int32), np.ones(2, np.uint64))
    assert left.args[0].tolist() == [2, -127]
    assert outcome(half_and_byte, "cpu", *left.args).args[3].tolist() == [3, 3]
