"""The space of a GPU: what it contains, that it is legal, that nothing in it is beyond a device's limits."""

from __future__ import annotations

import random
from math import prod
from typing import Any

import pytest

from benchmarks import kernels
from examples.attention import attention
from kdsl.backends import spirv
from kdsl.ir.nodes import Loop
from kdsl.ir.walk import stmts
from kdsl.runtime.device_code import launches_of
from kdsl.sched import Schedule
from kdsl.target import Limits, Target
from kdsl.tune.auto import instant
from kdsl.tune.measuring.building import built, held_to, rows_of
from kdsl.tune.spaces.grids import SHAPES, fits, group_knob, shape_of
from kdsl.tune.spaces.sketches import sketches
from kdsl.tune.spaces.space import Sketch
from tests.backends.spirv_harness import agree, device, needs_vulkan
from tests.sched.check import arguments, check_forms, check_meaning, schedule_of, sizes_to_try

GPU = Target(
    "vulkan",
    cpu="GPU of the tests",
    features="shaderFloat64,shaderInt64,storageBuffer16BitAccess,storageBuffer8BitAccess",
    limits=Limits(invocations=1024, block=(1024, 1024, 64), shared_bytes=49152, buffers=16),
)
SMALL = Target("vulkan", cpu="small GPU of the tests", features=GPU.features, limits=Limits(buffers=16))
"""No more than Vulkan promises: 128 invocations, 16 KB."""
TINY = Target(
    "vulkan",
    cpu="tiny GPU of the tests",
    features=GPU.features,
    limits=Limits(invocations=32, block=(16, 8, 4), shared_bytes=1536, buffers=16),
)
"""Less than any device."""
SIZES = {"M": 256, "N": 256, "K": 256, "H": 64, "W": 64, "C": 16, "D": 32}


def space(kernel: Any, target: Target = GPU, **sizes: int) -> tuple[Schedule, list[Sketch]]:
    """The kernel in program order and its sketches."""
    start = held_to(schedule_of(kernel).base, target)
    return start, sketches(start, target, {n: {**SIZES, **sizes}[n] for n in start.func.sizes})


@pytest.mark.parametrize(
    ("kernel", "ways"),
    [
        (kernels.gelu, {"grids"}),
        (kernels.total, {"partial sums of i"}),
        (kernels.softmax, {"grids", "rows of i"}),
        (kernels.layernorm, {"grids", "rows of i"}),
        (kernels.matmul, {"grids", "tile i x j", "shared tile i x j"}),
        (kernels.matmul_dots, {"grids", "tile i x j", "shared tile i x j"}),
        (kernels.conv2d, {"grids", "tile d x x", "shared tile d x x"}),
        (kernels.jacobi, {"grids"}),
        (kernels.blur, {"grids", "P inline", "P in shared tiles"}),
        (attention.naive, {"grids", "rows of h"}),
    ],
    ids=lambda x: getattr(x, "name", ""),
)
def test_ways(kernel: Any, ways: set[str]) -> None:
    """Found by structure: nothing in the tuner knows these kernels."""
    _, found = space(kernel, N=1 << 16) if kernel is kernels.total else space(kernel)
    assert {*ways, "program order"} <= {s.name for s in found}


def test_what_an_element_can_be() -> None:
    """Vectors, several elements apart, and each work-group that fits."""
    start, found = space(kernels.saxpy)
    sketch = found[0]
    assert {k.name for k in sketch.knobs} == {"group", "each"}
    together = str(sketch.candidate(group="64", each="4 together").schedule(start))
    assert "vectorize(range(4))" in together and 'bind(range(64), "block.x")' in together
    apart = str(sketch.candidate(group="128", each="2 apart").schedule(start))
    assert "unroll(range(2))" in apart and 'bind(range(128), "block.x")' in apart
    start, found = space(kernels.jacobi)
    plane = str(found[0].candidate(group="16 x 8", each="1").schedule(start))
    assert 'bind(range(16), "block.x")' in plane and 'bind(range(8), "block.y")' in plane
    start, found = space(kernels.softmax)
    assert {k.name for k in found[0].knobs} == {"group"}


def test_rows_share_memory_and_add_up_together() -> None:
    start, found = space(kernels.softmax)
    s = next(x for x in found if x.name == "rows of i").candidate(group="32").schedule(start)
    assert sum(step.name == "rfactor" for step in s.steps) == 2
    assert str(s).count('bind(range(32), "block.x")') == 3 and 'bind(range(M), "grid.x")' in str(s)


def test_loops_of_four_dimensions_make_a_grid() -> None:
    import kdsl
    from kdsl import f32

    B, C, H, W = kdsl.sizes("B C H W")

    @kdsl.kernel
    def twice(X: f32[B, C, H, W], Y: f32[B, C, H, W]):  # type: ignore[no-untyped-def, valid-type]
        for b in range(B):
            for c in range(C):
                for y in range(H):
                    for x in range(W):
                        Y[b, c, y, x] = 2 * X[b, c, y, x]

    start, found = space(twice, B=4, C=8)
    s = found[0].candidate(group="8 x 8", each="2 together").schedule(start)
    axes = {x.mark.axis for x in stmts(s.func.body) if isinstance(x, Loop) and x.mark is not None}
    assert axes >= {"grid.x", "grid.y", "grid.z", "block.x", "block.y"}
    check_meaning(s, rounds=2)


def samples(kernel: Any, target: Target, count: int, **sizes: int) -> list[tuple[str, Schedule]]:
    """Some candidates of each sketch: that of the largest values, and random ones. None is refused."""
    rng = random.Random(f"{kernel.name} {target.cpu}")
    start, found = space(kernel, target, **sizes)
    out = []
    for sketch in found:
        largest = {k.name: k.values[-1] for k in sketch.knobs}
        drawn = [{k.name: rng.choice(k.values) for k in sketch.knobs} for _ in range(count)]
        for values in [largest, *drawn] if sketch.knobs else []:
            out.append((f"{sketch.name} {values}", sketch.candidate(**values).schedule(start)))
    return out


@pytest.mark.parametrize("kernel", ["matmul", "blur_u16", "jacobi", "total"])
def test_candidates_are_right(kernel: str) -> None:
    """JSON, trace and pickle round trips; the same arrays before and after the steps."""
    sizes = {"N": 1 << 16} if kernel == "total" else {}
    for _, s in samples(getattr(kernels, kernel), TINY, 1, **sizes):
        plain = Schedule(s.base).replay(rows_of(s.to_json()))
        check_forms(plain)
        check_meaning(plain, rounds=2)


@needs_vulkan
@pytest.mark.parametrize("kernel", ["matmul", "blur_u16", "total", "softmax"])
def test_candidates_are_right_on_a_device(kernel: str) -> None:
    sizes = {"N": 1 << 16} if kernel == "total" else {}
    small = Target("vulkan", 0, device().cpu, device().features, limits=TINY.limits)
    for _, s in samples(getattr(kernels, kernel), small, 1, **sizes):
        if kernel == "softmax":  # its math functions are expanded by the device's compiler alone
            spirv.compile(launches_of(s.func, device()), device())
            continue
        for seed, at in enumerate(sizes_to_try(s.func, 2)):
            agree(s.func, arguments(s.func, at, seed), at)


@pytest.mark.parametrize(
    ("kernel", "target", "drawn"),
    [
        *[(name, SMALL, 1) for name in ("gelu", "total", "layernorm", "matmul", "blur")],
        *[(name, TINY, 2) for name in ("gelu", "total", "layernorm", "blur", "jacobi")],
        ("matmul", TINY, 1),
        ("conv2d", TINY, 0),
    ],
    ids=lambda x: x.cpu.split()[0] if isinstance(x, Target) else str(x),
)
def test_nothing_is_beyond_the_limits(kernel: str, target: Target, drawn: int) -> None:
    """What is proposed compiles for the device, and asks for no more than it has."""
    limits = target.limits
    sizes = {"N": 1 << 16} if kernel == "total" else {}
    for what, s in samples(getattr(kernels, kernel), target, drawn, **sizes):
        artifact = spirv.compile(launches_of(s.func, target), target)
        for entry in spirv.unpack(artifact.code)[0]["entries"]:
            assert prod(entry["block"]) <= limits.invocations, what
            assert all(n <= most for n, most in zip(entry["block"], limits.block)), what
            assert entry["shared_bytes"] <= limits.shared_bytes, what


@pytest.mark.parametrize("kernel", ["gelu", "total", "softmax", "matmul", "blur"])
def test_a_schedule_at_once_is_within_the_limits(kernel: str) -> None:
    start = held_to(schedule_of(getattr(kernels, kernel)).base, TINY)
    s = instant(start, TINY, {n: 1 << 16 if kernel == "total" else SIZES[n] for n in start.func.sizes})
    assert any(step.name == "bind" for step in s.steps)
    spirv.compile(launches_of(s.func, TINY), TINY)


def test_work_groups_of_a_device() -> None:
    wide, narrow = (group_knob(t.limits, planes=True) for t in (GPU, TINY))
    assert set(map(shape_of, wide.values)) == set(SHAPES)
    assert all(fits(shape_of(v), TINY.limits) for v in narrow.values)
    assert (wide.default == "64" and narrow.default == "16") or narrow.default == "8 x 4"
    one = group_knob(Limits(invocations=1, block=(1, 1, 1)), planes=True)
    assert one.values == ("1",) and one.default == "1"


def test_tiles_are_predicted_to_be_fast() -> None:
    """Invocations are lanes to the cost model, and loads are far: more sums in registers are better."""
    start, found = space(kernels.matmul_dots)
    sketch = next(x for x in found if x.name == "tile i x j")
    sizes = {n: SIZES[n] for n in start.func.sizes}
    one, four, eight = (
        built(sketch.candidate(tall=n, wide=n, across=8), start, GPU, sizes, 1).predicted for n in (1, 4, 8)
    )
    plain = built(found[-1].candidate(), start, GPU, sizes, 1).predicted
    assert found[-1].name == "program order" and eight < four < one < plain
