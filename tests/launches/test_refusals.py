"""What a GPU cannot run as it is scheduled: whole messages, kept in refusals.txt (`--update-messages`)."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdsl.errors import TargetError
from kdsl.ir.parser import parse_func
from kdsl.mathlib import definition
from kdsl.passes import lower
from kdsl.passes.launches import launches
from tests.launches.check import TARGET

GOLDEN = Path(__file__).with_name("refusals.txt")

CASES = {
    "the same axis twice": """
def f(X: i64[N, N]):
    for i in bind(range(N), "grid.x"):
        for j in bind(range(N), "grid.x"):
            X[i, j] = 1
""",
    "a group in an invocation": """
def f(X: i64[8, N]):
    for i in bind(range(8), "block.x"):
        for j in bind(range(N), "grid.x"):
            X[i, j] = 1
""",
    "unknown number of invocations": """
def f(X: i64[N, N]):
    for i in bind(range(N), "grid.x"):
        for j in bind(range(N), "block.x"):
            X[i, j] = 1
""",
    "a long block": """
def f(X: i64[512]):
    for j in bind(range(512), "block.y"):
        X[j] = 1
""",
    "a large block": """
def f(X: i64[32, 32]):
    for i in bind(range(32), "block.y"):
        for j in bind(range(32), "block.x"):
            X[i, j] = 1
""",
    "too much shared memory": """
def f(X: f32[N, 8]):
    for i in bind(range(N), "grid.x"):
        S: f32[64, 64] @ "shared"
        T: f32[8, 1024] @ "shared"
        for j in bind(range(8), "block.x"):
            S[j, 0] = X[i, j]
            T[j, 0] = X[i, j]
        for j in bind(range(8), "block.x"):
            X[i, j] = S[7 - j, 0] + T[7 - j, 0]
""",
    "shared memory of unknown size": """
def f(X: f32[N, 8]):
    for i in bind(range(N), "grid.x"):
        S: f32[8 * N] @ "shared"
        for j in bind(range(8), "block.x"):
            S[j] = X[i, j]
""",
    "a break": """
def f(X: f32[N]):
    for i in bind(range(N), "grid.x"):
        if X[i] < 0.0:
            break
        X[i] = 1.0
""",
    "groups that depend on data": """
def f(R: i64[M + 1], X: f32[N]):
    for i in bind(range(M), "grid.x"):
        for p in bind(range(R[i], R[i + 1]), "grid.y"):
            X[check(p)] = 1.0
""",
    "groups in a loop that depends on the group": """
def f(X: f32[M, N]):
    for i in bind(range(M), "grid.x"):
        for k in range(i):
            for p in bind(range(N), "grid.y"):
                X[i, p] += f32(k)
""",
    "a step that is not constant": """
def f(X: f32[N], k: i64):
    for i in bind(range(0, N, k), "grid.x"):
        X[i] = 1.0
""",
    "a barrier under data that other groups write": """
def f(X: i64[N], Y: i64[N, 8], H: i64[8]):
    for i in bind(range(N), "grid.x"):
        for a in bind(range(8), "block.x"):
            atomic_add(H, a, X[i])
        if H[0] > 3:
            for a in bind(range(8), "block.x"):
                Y[i, a] = a
            for a in bind(range(8), "block.x"):
                atomic_add(H, a, Y[i, 7 - a])
""",
    "a loop that differs between invocations": """
def f(Y: i64[8, 4]):
    for a in bind(range(8), "block.x"):
        for k in range(a):
            for b in bind(range(4), "block.y"):
                Y[a, b] += k
""",
    "an exit between block loops": """
def f(X: i64[8], Y: i64[8, 4]):
    for a in bind(range(8), "block.x"):
        for k in range(4):
            for b in bind(range(4), "block.y"):
                Y[a, b] += k
            if X[a] > k:
                break
""",
}


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    path = tmp_path_factory.mktemp("kernels") / "kernel.py"
    out = {}
    for name, text in CASES.items():
        file = path.with_name(f"{name.replace(' ', '_')}.py")
        file.write_text(text)
        with pytest.raises(TargetError) as refused:
            func = lower(parse_func(text, str(file)), TARGET, definition)
            launches(func, TARGET)
        out[name] = str(refused.value)
    return out


def test_whole_messages(texts: dict[str, str], update_messages: bool) -> None:
    whole = "\n\n".join([f"# {name}\n{text}" for name, text in texts.items()]) + "\n"
    if update_messages:
        GOLDEN.write_text(whole)
    assert whole == GOLDEN.read_text()
