"""Verdicts on small kernels: what is proved, what becomes a condition on sizes, what is tested in place."""

from __future__ import annotations

import sys

import pytest

from kdsl.analysis.bounds import verdicts
from kdsl.analysis.conditions import text
from kdsl.ir.nodes import Call, Func
from kdsl.ir.parser import parse_func
from kdsl.ir.printer import print_expr
from kdsl.ir.verify import verify
from kdsl.ir.walk import exprs, stmts
from kdsl.passes.bounds import bounds


def parse(source: str) -> Func:
    func = parse_func(source)
    verify(func)
    return func


def in_place(func: Func) -> list[str]:
    """The accesses that are tested in place, as `A.0` (array and dimension), in program order."""
    nodes = [*exprs(func.body), *stmts(func.body)]
    return sorted(f"{n.buffer}.{d}" for n in nodes for d in getattr(n, "checked", ()))


def conditions(func: Func) -> list[str]:
    return [text(c.expr) for c in func.conditions]


PROVED = {
    "matmul": """
def f(A: f32[M, K], B: f32[K, N], C: f32[M, N]):
    for i in range(M):
        for j in range(N):
            acc: f32
            acc = 0.0
            for k in range(K):
                acc += A[i, k] * B[k, j]
            C[i, j] = acc
""",
    "stencil": """
def f(A: f32[N], B: f32[N]):
    for i in range(1, N - 1):
        B[i] = A[i - 1] + A[i + 1]
""",
    "shape with a halo": """
def f(A: f32[N + 2], B: f32[N]):
    for i in range(N):
        B[i] = A[i] + A[i + 1] + A[i + 2]
""",
    "triangle": """
def f(A: f32[N, N]):
    for i in range(N):
        for j in range(i):
            A[i, j] = A[j, i] + A[i - 1, j]
""",
    "reversed": """
def f(A: f32[N]):
    for i in range(N - 1, -1, -1):
        A[i] = A[N - 1 - i]
""",
    "blocks with a guard": """
def f(A: f32[N]):
    for b in range((N + 15) // 16):
        for l in range(16):
            if b * 16 + l < N:
                A[b * 16 + l] = 1.0
""",
    "divided blocks": """
def f(A: f32[8 * N]):
    for b in range(0, 8 * N, 8):
        for i in range(8):
            A[b + i] = A[8 * N - 1 - b]
""",
    "network": """
def f(A: f32[16]):
    for i in range(16):
        A[i] = A[i ^ 8] + A[i | 3]
""",
    "blocks with min": """
def f(A: f32[N]):
    for b in range(0, N, 16):
        for i in range(b, min(b + 16, N)):
            A[i] = 1.0
""",
    "clamped": """
def f(A: f32[N], B: f32[N]):
    for i in range(N):
        B[i] = A[max(i - 1, 0)] + A[min(i + 1, N - 1)]
""",
    "periodic": """
def f(A: f32[N], B: f32[N]):
    for i in range(N):
        B[i] = A[(i + 1) % N] + A[(i + N - 1) % N]
""",
    "select": """
def f(A: f32[N], B: f32[M]):
    for i in range(M):
        B[i] = A[i] if i < N else 0.0
""",
    "short circuit": """
def f(A: f32[N], B: f32[M]):
    for i in range(M):
        if i < N and A[i] > 0.0:
            B[i] = 1.0
        if i >= N or A[i] > 0.0:
            B[i] = 2.0
""",
    "every other": """
def f(A: f32[2 * N]):
    for i in range(N):
        A[2 * i] = A[2 * i + 1]
""",
    "halves": """
def f(A: f32[N]):
    for i in range(N // 2):
        A[2 * i] = A[2 * i + 1]
""",
    "one element needs a loop": """
def f(A: f32[N], B: f32[N]):
    for i in range(N):
        B[i] = A[0] + A[N - 1]
""",
    "step 2 with two elements": """
def f(A: f32[N]):
    for i in range(0, N - 1, 2):
        A[i] = A[i + 1]
""",
    "scalar forwarded": """
def f(A: f32[N]):
    for i in range(N - 1):
        j: i64
        j = i + 1
        A[j] = A[i]
""",
    "scalar chosen by a condition": """
def f(A: f32[N], B: f32[N]):
    for i in range(N):
        j: i64
        if i > 0:
            j = i - 1
        else:
            j = N - 1
        B[i] = A[j]
""",
    "scalar changed in between": """
def f(A: f32[N]):
    j: i64
    for i in range(N):
        j = i
        A[j] = 0.0
        j = N - 1 - i
        A[j] = 1.0
""",
    "data guarded through a scalar": """
def f(A: f32[N], I: i32[M]):
    for i in range(M):
        j: i32
        j = I[i]
        if j >= 0 and i64(j) < N:
            A[i64(j)] = 1.0
""",
    "bytes in a table of 256": """
def f(H: i64[256], I: u8[M]):
    for i in range(M):
        H[i64(I[i])] += 1
""",
    "masked": """
def f(H: i64[64], I: i64[M]):
    for i in range(M):
        H[I[i] & 63] += 1
        H[I[i] % 64] += 1
""",
    "continue": """
def f(A: f32[N], B: f32[M]):
    for i in range(M):
        if i >= N:
            continue
        A[i] = B[i]
""",
    "return first": """
def f(A: f32[N]):
    if N == 0:
        return
    A[0] = A[N - 1]
""",
    "assert first": """
def f(A: f32[N]):
    assert N >= 3, "three"
    A[0] = A[2]
""",
    "boolean scalar": """
def f(A: f32[N], B: f32[M]):
    for i in range(M):
        inside: bool_
        inside = i < N
        if inside:
            A[i] = B[i]
""",
    "local array": """
def f(A: f32[N]):
    T: f32[N + 1]
    for i in range(N):
        T[i + 1] = A[i]
    for i in range(N):
        A[i] = T[i] + T[i + 1]
""",
    "two-dimensional block in a local": """
def f(A: f32[N, N]):
    T: f32[16, 16]
    for i in range(16):
        for j in range(16):
            if i < N and j < N:
                T[i, j] = A[i, j]
""",
    "after a loop that breaks": """
def f(A: f32[N], B: f32[N]):
    for i in range(N):
        if A[i] > 0.0:
            break
    for i in range(N):
        B[i] = A[i]
""",
    "while with a bound": """
def f(A: f32[N]):
    i: i64
    i = 0
    while i < N and i >= 0:
        A[i] = 0.0
        i = i + 1
""",
    "a let": """
def f(A: f32[N]):
    for i in range(N):
        A[let(x, N - 1 - i, x)] = 0.0
""",
    "unrolled butterfly": """
def f(A: f32[8]):
    for s in range(3):
        for i in range(4):
            A[i] = A[i + 4] + A[2 * i + 1]
""",
    "narrow arithmetic that fits": """
def f(A: f32[300], I: u8[M]):
    for i in range(M):
        A[i64(i32(I[i]) + 40)] = 0.0
""",
    "flat local array": """
def f(A: f32[M, N]):
    T: f32[M * N]
    for i in range(M):
        for j in range(N):
            T[i * N + j] = A[i, j]
""",
}

CONDITIONS: dict[str, tuple[str, list[str]]] = {
    "other size": (
        """
def f(A: f32[N], B: f32[M]):
    for i in range(M):
        B[i] = A[i]
""",
        ["M <= N"],
    ),
    "shifted": (
        """
def f(A: f32[N], B: f32[M]):
    for i in range(M):
        B[i] = A[i + 1]
""",
        ["M <= 0 or M < N"],
    ),
    "first element": (
        """
def f(A: f32[N]):
    A[0] = 1.0
""",
        ["0 < N"],
    ),
    "scalar bound": (
        """
def f(A: f32[N], n: i32):
    for i in range(i64(n)):
        A[i] = 1.0
""",
        ["n <= N"],
    ),
    "scalar index": (
        """
def f(A: f32[N], n: i64):
    A[n] = 1.0
""",
        ["0 <= n and n < N"],
    ),
    "wide scalar in a sum": (
        """
def f(A: f32[N], n: i64):
    for i in range(n - 1):
        A[i + 1] = 1.0
""",
        ["-4611686018427387904 <= n and n <= 4611686018427387904", "n <= 1 or n <= N"],
    ),
    "narrow scalar in a sum": (
        """
def f(A: f32[N], n: i32):
    for i in range(i64(n - 1)):
        A[i + 1] = 1.0
""",
        ["0 <= n + 2147483647 and n <= 2147483648", "n <= 1 or n <= N"],
    ),
    "unsigned scalar": (
        """
def f(A: f32[N], n: u64):
    A[i64(n)] = 1.0
""",
        ["n <= 4611686018427387904", "n < N"],
    ),
    "triangle of another size": (
        """
def f(A: f32[N, M]):
    for i in range(N):
        for j in range(i + 1):
            A[i, j] = A[i, i - j]
""",
        ["N <= M"],
    ),
    "divisibility": (
        """
def f(A: f32[N]):
    for i in range(0, N, 2):
        A[i] = A[i + 1]
""",
        ["N % 2 == 0"],
    ),
    "flat": (
        """
def f(A: f32[L], B: f32[M, N]):
    for i in range(M):
        for j in range(N):
            A[i * N + j] = B[i, j]
""",
        ["(N == 0 or M <= 4503599627370496 // N) and M * N <= L"],
    ),
    "under a condition on sizes": (
        """
def f(A: f32[N], B: f32[M]):
    if M > 4:
        for i in range(M):
            B[i] = A[i]
""",
        ["M <= 4 or M <= N"],
    ),
    "never": (
        """
def f(A: f32[3]):
    A[3] = 1.0
""",
        ["False"],
    ),
    "known facts are not asked again": (
        """
def f(A: f32[N], B: f32[M]):
    require(M <= N + 2, "")
    for i in range(M):
        B[i] = A[i]
""",
        ["M <= N + 2", "M <= N"],
    ),
}

IN_PLACE: dict[str, tuple[str, list[str]]] = {
    "gather": (
        """
def f(A: f32[N], I: i64[M], B: f32[M]):
    for i in range(M):
        B[i] = A[I[i]]
""",
        ["A.0"],
    ),
    "guard on memory that another thread may change": (
        """
def f(A: f32[N], I: i64[M], B: f32[M]):
    for i in range(M):
        if I[i] >= 0 and I[i] < N:
            B[i] = A[I[i]]
""",
        ["A.0"],
    ),
    "under a condition on data": (
        """
def f(A: f32[N], B: f32[M]):
    for i in range(M):
        if B[i] > 0.0:
            A[i] = 1.0
""",
        ["A.0"],
    ),
    "after a possible return": (
        """
def f(A: f32[N], B: f32[M]):
    for i in range(M):
        if B[i] > 0.0:
            return
    A[0] = 1.0
""",
        ["A.0"],
    ),
    "in a loop that may break": (
        """
def f(A: f32[N], B: f32[M]):
    for i in range(M):
        A[i] = 1.0
        if B[i] > 0.0:
            break
""",
        ["A.0"],
    ),
    "after a continue inside the other branch": (
        """
def f(A: f32[N], B: f32[M]):
    for i in range(M):
        if i == 3:
            continue
        else:
            if B[i] > 0.0:
                continue
        A[i] = 1.0
""",
        ["A.0"],
    ),
    "in a while": (
        """
def f(A: f32[N], B: f32[M]):
    k: i64
    k = 0
    while B[0] > 0.0:
        A[k] = 1.0
        k += 1
""",
        ["A.0"],
    ),
    "counter": (
        """
def f(A: f32[N], B: f32[N]):
    k: i64
    k = 0
    for i in range(N):
        if B[i] > 0.0:
            A[k] = 1.0
            k = k + 1
""",
        ["A.0"],
    ),
    "stale value": (
        """
def f(A: f32[N]):
    j: i64
    j = 0
    for i in range(N):
        A[j] = 1.0
        j = j + i
""",
        ["A.0"],
    ),
    "narrow arithmetic that may wrap": (
        """
def f(A: f32[N], n: i32):
    for i in range(N):
        A[i64(i32(i) + n)] = 1.0
""",
        ["A.0"],
    ),
    "step from data": (
        """
def f(A: f32[N], S: i64[2]):
    for i in range(0, N, S[0]):
        A[i + 1] = 1.0
""",
        ["A.0"],
    ),
    "shared between parallel iterations": (
        """
def f(A: f32[N], I: i64[N]):
    j: i64
    for i in parallel(range(N), unsafe=True):
        j = i
        A[j] = 1.0
""",
        ["A.0"],
    ),
}

LINEAR_ALGEBRA = {
    "lu": """
def f(A: f64[N, N]):
    for i in range(N):
        for j in range(i):
            for k in range(j):
                A[i, j] += -(A[i, k] * A[k, j])
            A[i, j] = A[i, j] / A[j, j]
        for j in range(i, N):
            for k in range(i):
                A[i, j] += -(A[i, k] * A[k, j])
""",
    "cholesky": """
def f(A: f64[N, N]):
    for i in range(N):
        for j in range(i):
            for k in range(j):
                A[i, j] += -(A[i, k] * A[j, k])
            A[i, j] = A[i, j] / A[j, j]
        for k in range(i):
            A[i, i] += -(A[i, k] * A[i, k])
        A[i, i] = sqrt(A[i, i])
""",
    "seidel": """
def f(A: f64[N, N], T: i64):
    for t in range(T):
        for i in range(1, N - 1):
            for j in range(1, N - 1):
                A[i, j] = A[i - 1, j - 1] + A[i - 1, j] + A[i + 1, j + 1] + A[i, j - 1] + A[i + 1, j - 1]
""",
    "durbin": """
def f(r: f64[N], y: f64[N]):
    z: f64[N]
    if N == 0:
        return
    y[0] = -r[0]
    for k in range(1, N):
        s: f64
        s = 0.0
        for i in range(k):
            s += r[k - i - 1] * y[i]
        for i in range(k):
            z[i] = y[i] + s * y[k - i - 1]
        for i in range(k):
            y[i] = z[i]
        y[k] = s
""",
    "floyd-warshall": """
def f(P: i32[N, N]):
    for k in range(N):
        for i in range(N):
            for j in range(N):
                P[i, j] = min(P[i, j], P[i, k] + P[k, j])
""",
    "trisolv": """
def f(L: f64[N, N], x: f64[N], b: f64[N]):
    for i in range(N):
        x[i] = b[i]
        for j in range(i):
            x[i] += -(L[i, j] * x[j])
        x[i] = x[i] / L[i, i]
""",
    "nussinov": """
def f(S: i8[N], T: i32[N, N]):
    for i in range(N - 1, -1, -1):
        for j in range(i + 1, N):
            if j - 1 >= 0:
                T[i, j] = max(T[i, j], T[i, j - 1])
            if i + 1 < N:
                T[i, j] = max(T[i, j], T[i + 1, j])
            if j - 1 >= 0 and i + 1 < N:
                T[i, j] = max(T[i, j], T[i + 1, j - 1] + i32(S[i]))
            for k in range(i + 1, j):
                T[i, j] = max(T[i, j], T[i, k] + T[k + 1, j])
""",
    "correlation": """
def f(D: f64[N, M], C: f64[M, M]):
    for i in range(M - 1):
        C[i, i] = 1.0
        for j in range(i + 1, M):
            for k in range(N):
                C[i, j] += D[k, i] * D[k, j]
            C[j, i] = C[i, j]
    if M > 0:
        C[M - 1, M - 1] = 1.0
""",
}


@pytest.mark.parametrize("name", PROVED)
def test_proved(name: str) -> None:
    func = bounds(parse(PROVED[name]))
    verify(func)
    assert in_place(func) == []
    assert [c for c in conditions(func) if "4503599627370496" not in c] == []


@pytest.mark.parametrize("name", CONDITIONS)
def test_conditions(name: str) -> None:
    source, expected = CONDITIONS[name]
    func = bounds(parse(source))
    verify(func)
    assert (in_place(func), conditions(func)) == ([], expected)


@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place(name: str) -> None:
    source, expected = IN_PLACE[name]
    func = bounds(parse(source))
    verify(func)
    assert in_place(func) == expected


@pytest.mark.parametrize("name", LINEAR_ALGEBRA)
def test_affine_programs_need_no_test(name: str) -> None:
    func = bounds(parse(LINEAR_ALGEBRA[name]))
    assert (in_place(func), conditions(func)) == ([], [])


def test_sparse_tests_only_what_depends_on_data() -> None:
    source = """
def f(P: i32[N + 1], I: i32[Z], V: f32[Z], x: f32[M], y: f32[N]):
    for i in range(N):
        s: f32
        s = 0.0
        for p in range(i64(P[i]), i64(P[i + 1])):
            s += V[p] * x[i64(I[p])]
        y[i] = s
"""
    assert in_place(bounds(parse(source))) == ["I.0", "V.0", "x.0"]
    unchecked = source.replace("\ndef", "\n@options(unchecked=True)\ndef")
    assert in_place(bounds(parse(unchecked))) == []


def test_unchecked_keeps_the_tests_that_do_not_depend_on_data() -> None:
    source, _ = IN_PLACE["under a condition on data"]
    assert in_place(bounds(parse(source.replace("\ndef", "\n@options(unchecked=True)\ndef")))) == ["A.0"]


def test_titles() -> None:
    func = bounds(parse(CONDITIONS["other size"][0]))
    assert [c.title for c in func.conditions] == ["`A[i]` leaves `A` (extent N) unless M <= N"]
    func = bounds(parse(CONDITIONS["triangle of another size"][0]))
    assert func.conditions[0].title == "`A[i, i - j]` leaves dimension 1 of `A` (extent M) unless N <= M"
    func = bounds(parse(CONDITIONS["never"][0]))
    assert func.conditions[0].title == "`A[3]` is always outside `A` (extent 3)"


def test_plain_nests_do_not_load_isl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "islpy", None)
    for source in (*PROVED.values(), *LINEAR_ALGEBRA.values()):
        verdicts(parse(source))


PARTS = {
    "proved": ("for i in range(4):\n    A[2 + within(i, 4, 0)] = 1.0", [], ["6 <= N"]),
    "a loop over the part": ("for i in range(N - 3):\n    A[2 + within(i, N - 3, 0)] = 1.0", [], []),
    "a condition": ("for i in range(M):\n    A[2 + within(i, N - 2, 0)] = 1.0", [], ["M <= 0 or M + 2 <= N"]),
    "data": ("for i in range(M):\n    B[2 + within(I[i], 4, 0)] = 1.0", ["within(I[i], 4, 0)"], []),
    "data on one path": (
        "if c != 0.0:\n    B[within(I[0], 4, 0)] = 1.0\nelse:\n    B[0] = A[0]",
        ["within(I[check(0)], 4, 0)"],
        [],
    ),
}


@pytest.mark.parametrize("case", PARTS)
def test_indices_into_parts(case: str) -> None:
    body, left, wanted = PARTS[case]
    lines = "\n".join(f"    {line}" for line in body.split("\n"))
    func = bounds(parse(f"def f(A: f32[N], B: f32[6], I: i64[M], c: f32):\n{lines}\n"))
    assert [print_expr(e) for e in exprs(func.body) if isinstance(e, Call)] == left
    assert [at for at in in_place(func) if "B" in at] == []
    assert conditions(func) == wanted


def test_unchecked_drops_the_tests_of_parts_that_depend_on_data() -> None:
    source = """
@options(unchecked=True)
def f(A: f32[N], I: i64[M]):
    for i in range(M):
        A[within(I[i], N - 2, 0)] = 1.0
"""
    assert not [e for e in exprs(bounds(parse(source)).body) if isinstance(e, Call)]
