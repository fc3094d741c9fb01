"""Explanations on a GPU: where each loop runs and why, and what is launched."""

from __future__ import annotations

from typing import Any

import pytest

import kdsl
from kdsl import i64
from kdsl.runtime.explain_gpu import explained_on_gpu
from kdsl.runtime.explanation import Explanation
from kdsl.sched.schedule import Schedule
from tests.backends.spirv_harness import EVERYTHING
from tests.sched import kernels as k
from tests.sched.check import Steps, schedule_of
from tests.sched.page import plain
from tests.sched.test_binding import few, on_sizes, returning, scored
from tests.sched.test_groups import shared

N = kdsl.sizes("N")


def explained(kernel: Any, steps: Steps = lambda s: s, **sizes: int) -> Explanation:
    s: Schedule = steps(schedule_of(kernel))
    return explained_on_gpu(s, EVERYTHING, sizes or None, None)


def how(e: Explanation) -> dict[str, str]:
    return {loop.name: "; ".join(x for x in (loop.how, loop.why) if x) for loop in e.loops}


def test_loops_on_axes() -> None:
    e = explained(k.matmul)
    assert how(e) == {
        "i": "grid.y: work-groups",
        "j_o": "grid.x: work-groups",
        "j_i": "block.x: 64 invocations",
        "k": "in order, in each invocation",
    }
    assert [loop.role for loop in e.loops] == ["grid", "grid", "block", "in order"]


def test_rows_with_an_array_of_their_own() -> None:
    assert how(explained(scored))["i_i"] == "block.x: 64 invocations, each with its own `S`"


def test_loops_of_the_host() -> None:
    e = explained(k.jacobi)
    assert how(e)["t"] == "on the host, which starts what is inside once an iteration"
    assert [(d.name, d.loops, d.alone) for d in e.dispatches] == [
        ("jacobi_0", ("t",), False),
        ("jacobi_1", ("t",), False),
    ]


def test_work_groups() -> None:
    e = explained(k.matmul, shared)
    said = how(e)
    assert said["k_o"] == "in order, by the whole work-group"
    assert said["i_i@1"] == "block.y: 4 invocations"
    (d,) = e.dispatches
    assert (d.groups, d.block, d.shared_bytes) == (("(N + 3) // 4", "(M + 3) // 4"), (4, 4, 1), 256)
    assert d.barriers >= 2 and d.private_bytes == 4
    text = str(e)
    assert "matmul on vulkan: llvmpipe" in text
    assert "launch matmul_0: ((N + 3) // 4) x ((M + 3) // 4) work-groups of 4 x 4 invocations" in text
    assert "256 bytes shared" in text and "work-groups of 4 x 4" in plain(e._repr_html_())


WHY: list[tuple[Any, Steps, str, str]] = [
    (k.backwards, lambda s: s, "i", "iteration i=2 reads X[1], which iteration i=1 writes"),
    (k.until, lambda s: s, "i", "it may be left early"),
    (returning, lambda s: s, "i", "a `return` may end the kernel"),
    (few, lambda s: s, "i", "it is too short to start work-groups for"),
    (on_sizes, lambda s: s, "j", "its bounds, or a condition around it, are computed on the device"),
    (k.moving, lambda s: s, "i", "both write n"),
]


@pytest.mark.parametrize(("kernel", "steps", "loop", "why"), WHY, ids=[c[0].name for c in WHY])
def test_why_a_loop_is_in_order(kernel: Any, steps: Steps, loop: str, why: str) -> None:
    e = explained(kernel, steps)
    said = how(e)[loop]
    assert said.startswith("in order, in one invocation; ") and why in said, said
    assert any(d.alone for d in e.dispatches)
    assert "one invocation" in str(e)


def test_numbers() -> None:
    e = explained(k.matmul, M=64, N=64, K=64)
    assert e.flops.value == 2 * 64**3 and e.loops[0].iterations.value == 64 and e.roofline is None


@kdsl.kernel
def marked(X: i64[N]):
    for i in range(N):
        X[i] = i


def test_vectors() -> None:
    e = explained(marked, lambda s: s.vectorize("i", 4))
    assert how(e)["i_v"] == "4 elements at a time"
