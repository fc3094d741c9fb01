"""Explanations: how loops were lowered, why they are scalar, counts, time beside the roofline."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kdsl
from kdsl import f32, f64, i32
from kdsl.runtime import explain as explain_module
from kdsl.runtime import roofline as roofline_module
from kdsl.runtime.explanation import Explanation, LoopFacts
from kdsl.runtime.roofline import Roofline
from tests.runtime.test_scheduling import tiled
from tests.sched.page import plain

M, N, K = kdsl.sizes("M N K")


@kdsl.kernel
def matmul(A: f32[M, K], B: f32[K, N], C: f32[M, N]):
    for i in range(M):
        for j in range(N):
            acc = 0.0
            for k in range(K):
                acc += A[i, k] * B[k, j]
            C[i, j] = acc


@kdsl.kernel
def gather(X: f32[N], index: i32[M], out: f32[M]):
    for i in range(M):
        out[i] = X[index[i]]


@kdsl.kernel
def scan(A: f32[N]):
    for i in range(1, N):
        A[i] += A[i - 1]


@kdsl.kernel
def scale(A: f32[N], B: f32[2 * N, 2]):
    for i in range(N):
        A[i] = A[N - 1 - i] + B[2 * i, 0]


@kdsl.kernel
def total(A: f64[N]) -> f64:
    t = f64(0)
    for i in range(N):
        t += A[i]
    return t


@pytest.fixture(autouse=True)
def known_roofline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring takes a while: this machine is taken for one of round numbers."""

    def roofline(threads: int) -> Roofline:
        return Roofline(
            threads, {"f32": 1e11, "f64": 5e10}, ((1 << 15, 1e11), (1 << 20, 5e10), (1 << 26, 1e10))
        )

    monkeypatch.setattr(explain_module, "roofline", roofline)


def by_name(e: Explanation) -> dict[str, LoopFacts]:
    return {loop.name: loop for loop in e.loops}


def accesses(loop: LoopFacts) -> dict[str, str]:
    return {a.array: a.how for a in loop.accesses}


def test_roles_of_loops() -> None:
    e = tiled(matmul.schedule()).explain()
    loops = by_name(e)
    assert {name: loop.role for name, loop in loops.items()} == {
        "i_o": "parallel", "j_o": "in order", "i_i@0": "unrolled", "j_i@0": "vector", "k": "in order",
        "i_i@1": "unrolled", "j_i@1": "vector", "i_i@2": "unrolled", "j_i@2": "vector",
    }  # fmt: skip
    assert loops["i_i@1"].how == "4 copies, one after the other"
    assert loops["j_o"].how == "in order; whole tiles run without tests" and loops["k"].how == "in order"
    assert loops["j_i@1"].how.startswith("16 lanes of f32: ")
    assert accesses(loops["j_i@1"]) == {
        "A": "one scalar for all lanes",
        "B": "contiguous load, masked in the last tile",
        "acc": "contiguous load and store",
    }
    assert accesses(loops["j_i@2"]) == {
        "acc": "contiguous load",
        "C": "contiguous store, masked in the last tile",
    }
    assert e.arrays[-1].name == "acc" and str(e.arrays[-1].touched) == "<= 256 bytes"


def test_ways_of_lanes() -> None:
    s = scale.schedule().split("i", 8, tail="cut").vectorize("i_i", unsafe=True)
    found = {(a.array, a.how) for a in by_name(s.explain())["i_i"].accesses}
    assert found == {("A", "reversed load"), ("A", "contiguous store"), ("B", "strided load, 4 apart")}


def test_gathers_and_checks() -> None:
    e = gather.schedule().vectorize("i", 16).explain()
    assert accesses(by_name(e)["i_v"]) == {
        "index": "contiguous load, masked in the last tile",
        "X": "gather, masked in the last tile",
        "out": "contiguous store, masked in the last tile",
    }
    assert e.checks == ("X[index[i * 16 + i_v]], dimension 0",) and e.conditions == ()


def test_partial_sums() -> None:
    e = total.schedule().vectorize("i", 8).explain()
    assert accesses(by_name(e)["i_v"])["t"] == "partial results, one a lane, combined behind the loop"
    assert e.dtype == f64


def test_why_a_loop_is_scalar() -> None:
    why = by_name(scan.explain())["i"].why
    assert why.startswith("LLVM's loop vectoriser left it so; cannot make the loop") and "depend" in why
    inner = by_name(matmul.explain())["k"]
    assert inner.role == "in order" and inner.how == "in order, scalar"
    assert 's.vectorize("k", ' in inner.why and inner.why.endswith("is legal")


def test_llvm_vectorises() -> None:
    @kdsl.kernel
    def double(A: f32[N]):
        for i in range(N):
            A[i] *= 2

    loop = by_name(double.explain())["i"]
    assert loop.role == "vector" and loop.how.endswith("lanes, made by LLVM")


def test_llvm_dissolves() -> None:
    @kdsl.kernel
    def clear(A: f32[N]):
        for i in range(N):
            A[i] = 0

    assert by_name(clear.explain())["i"].role == "dissolved"


def test_marks_without_effect() -> None:
    s = matmul.schedule().parallel("i").parallel("j")
    assert by_name(s.explain())["j"].how == "in order: a loop around it is parallel"
    s = matmul.schedule().bind("i", "grid.x")
    assert by_name(s.explain())["i"].how == "in order: grid.x is an axis of a GPU"


def test_numbers_for_sizes() -> None:
    e = matmul.schedule().explain(M=64, N=32, K=16)
    assert e.sizes == {"M": 64, "K": 16, "N": 32} and e.seconds is None
    assert e.flops.value == 2 * 64 * 32 * 16 and e.flops.formula == "2 * M * K * N"
    assert e.compulsory.value == 4 * (64 * 16 + 16 * 32 + 64 * 32)
    assert e.intensity == pytest.approx(65536 / 14336)
    assert e.attainable == pytest.approx(65536 / 1e11) and e.bound_by == "computing" and e.share is None
    few = gather.explain(M=1000, N=1000)
    assert few.bound_by == "memory" and few.attainable == pytest.approx(12000 / 1e11)


def test_times_a_call_on_copies() -> None:
    A, B = np.ones((20, 30), np.float32), np.ones((30, 40), np.float32)
    C = np.full((40, 80), -1, np.float32)[::2, ::2][:20]
    e = tiled(matmul.schedule()).explain(A, B, C=C)
    assert (C == -1).all() and e.sizes == {"M": 20, "K": 30, "N": 40}
    assert e.seconds is not None and e.share == pytest.approx(e.attainable / e.seconds)  # type: ignore[operator]
    assert f"{e.flops_per_second:.3e}" == f"{48000 / e.seconds:.3e}"
    assert "% of the roofline" in str(e) and "measured" in plain(e._repr_html_())


def test_a_kernel_explains_its_schedule() -> None:
    fast = matmul.with_schedule(tiled(matmul.schedule()))
    assert [loop.name for loop in fast.explain().loops][:2] == ["i_o", "j_o"]
    A, B, C = (np.ones((4, 4), np.float32) for _ in range(3))
    assert fast.explain(A, B, C).loops[0].role == "parallel"


def test_text() -> None:
    e = gather.schedule().vectorize("i", 16).explain()
    text = str(
        dataclasses.replace(e, target=dataclasses.replace(e.target, vector_bytes=64, vector_registers=32))
    )
    lines = text.splitlines()
    assert lines[0] == "gather on cpu: 32 registers of 512 bits, 1 thread"
    assert lines[2] == "for i in range((M + 15) // 16)     in order"
    assert "checked in place: X[index[i * 16 + i_v]], dimension 0" in lines
    assert "bytes   at most 4 * N + 8 * M   (each one read or written counts once)" in lines
    assert "out    f32 argument  4 * M          0 bytes       4 * M" in lines


def test_html_is_well_formed() -> None:
    text = plain(tiled(matmul.schedule()).explain(M=100, N=100, K=100)._repr_html_())
    assert "for i_o in parallel(range((M + 3) // 4))" in text and "at best 20 us, bound by computing" in text


@pytest.mark.parametrize(
    ("given", "title"),
    [
        ({"M": 3}, "the size `K` of matmul is missing"),
        ({"Q": 3}, "`Q` is no size of matmul"),
        ({"M": 3, "N": -1, "K": 1}, "the size `N` cannot be -1"),
        ({"M": 3, "N": 2.5, "K": 1}, "the size `N` cannot be 2.5"),
    ],
)
def test_wrong_sizes(given: dict[str, Any], title: str) -> None:
    with pytest.raises(kdsl.ArgumentError) as caught:
        matmul.explain(**given)
    assert caught.value.code == "K0358" and caught.value.title == title and caught.value.help


def test_a_wrong_call_is_refused_as_a_call_is() -> None:
    with pytest.raises(kdsl.ArgumentError) as caught:
        matmul.explain(np.ones((2, 3), np.float32))
    assert caught.value.code.startswith("K04")


def test_the_roofline_is_measured_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KDSL_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(roofline_module, "WORKING_SETS", (24 << 10, 1 << 20))
    monkeypatch.setattr(roofline_module, "ALTOGETHER_S", 0.01)
    threads = kdsl.get_num_threads()
    found = roofline_module.roofline(1)
    assert set(found.peak) == {"f32", "f64"} and min(found.peak.values()) > 1e8
    assert [n for n, _ in found.bandwidth] == [24 << 10, 1 << 20] and kdsl.get_num_threads() == threads
    monkeypatch.setattr(roofline_module, "_measured", None)
    assert roofline_module.roofline(1) == found
    assert found.bandwidth_for(1 << 10)[0] == 24 << 10 and found.bandwidth_for(1e9)[0] == 1 << 20
    assert found.attainable(f32, 1e9, 0) == found.peak["f32"]
    assert found.attainable(f32, 1, 1e9) == pytest.approx(found.bandwidth[1][1] / 1e9)
