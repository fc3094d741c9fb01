"""Tuning on executors, and kernels that travel to other processes."""

from __future__ import annotations

import os
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, ClassVar

import numpy as np
import pytest

import kdsl
from kdsl.runtime.targets import resolve
from kdsl.runtime.tuning_executor import ExecutorMeasuring
from kdsl.sched import Schedule
from kdsl.tune.measuring.building import Builder
from kdsl.tune.measuring.inputs import Layout
from kdsl.tune.measuring.measure import Limits
from kdsl.tune.measuring.problem import Problem
from kdsl.tune.spaces.sketches import sketches
from tests.runtime.process import ROOT
from tests.tune import kernels as k

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other processes find this checkout."""
    found = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("PYTHONPATH", found)


def test_processes_of_the_standard_library(path: None) -> None:
    A, B, C = k.product(40, 48, 24)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        result = kdsl.autotune(k.matmul, (A, B, C), space=k.tiles, trials=4, executor=executor)
    assert result.counts["ok"] == 4
    assert result.speedup > 1.2 and result.verified
    result.schedule(A, B, C)
    np.testing.assert_allclose(C, A @ B, rtol=1e-4, atol=1e-4)
    # All were measured on this machine, under its fingerprint.
    assert len({t.target for t in result.trials}) == 1 and not result.elsewhere


def test_candidates_are_built_by_the_workers_too() -> None:
    class Lost(Executor):
        """The first task is done, the others are lost."""

        requests: ClassVar[list[Any]] = []

        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            task: Future[Any] = Future()
            self.requests.append(args[-1])
            if len(self.requests) == 1:
                task.set_result(fn(*args, **kwargs))
            else:
                task.set_exception(BrokenProcessPool("lost"))
            return task

    A, B, C = k.product(40, 48, 24)
    func, target = k.matmul.schedule().func, resolve("cpu")
    arrays = {"A": A, "B": B, "C": C}
    layouts = {name: Layout.of(array, kdsl.f32) for name, array in arrays.items()}
    problem = Problem(func, "cpu", {"M": 40, "N": 24, "K": 48}, {}, layouts, 1)
    measuring = ExecutorMeasuring(Lost(), "s", problem, arrays, Limits(), "here", target)
    start = Schedule(func)
    builder = Builder(start, target, problem.sizes, 1, measuring)
    one, two = [s.candidate() for s in sketches(start, target, problem.sizes)][:2]
    found = builder.build([one, two])
    # What a lost worker does not build is built here.
    assert [request["sketch"] for request in Lost.requests] == [one.sketch.name, two.sketch.name]
    assert [b.ir for b in found] == [b.ir for b in Builder(start, target, problem.sizes, 1).build([one, two])]


def test_errors_of_a_kernel_reach_the_caller(path: None) -> None:
    bad = (np.ones(3, np.float32), np.array([7], np.int64), np.ones(1, np.float32))
    with (
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor,
        pytest.raises(kdsl.KdslError, match="`gather` cannot be tuned"),
    ):
        kdsl.autotune(k.gather, bad, space=lambda s: s, trials=1, executor=executor)


def test_a_cluster_of_dask(path: None) -> None:
    distributed = pytest.importorskip("distributed", reason="dask's distributed is not installed")
    A, B, C = k.product(40, 48, 24)
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    )
    with cluster, distributed.Client(cluster) as client:
        result = kdsl.autotune(k.matmul, (A, B, C), space=k.tiles, trials=4, executor=client.get_executor())
    assert result.counts["ok"] == 4
    result.schedule(A, B, C)
    np.testing.assert_allclose(C, A @ B, rtol=1e-4, atol=1e-4)


def test_dask_maps_a_kernel_over_blocks() -> None:
    array = pytest.importorskip("dask.array", reason="dask is not installed")
    X = np.arange(24 * 20, dtype=np.float32).reshape(24, 20)
    found = array.map_blocks(k.double, array.from_array(X, chunks=(8, 20)), dtype=np.float32)
    np.testing.assert_array_equal(found.compute(scheduler="threads"), 2 * X)
    scheduled = k.double.with_schedule(k.double.schedule().vectorize("j", 4))
    found = array.map_blocks(scheduled, array.from_array(X, chunks=(8, 20)), dtype=np.float32)
    np.testing.assert_array_equal(found.compute(scheduler="processes", num_workers=1), 2 * X)


def test_joblib_runs_kernels_and_schedules(path: None) -> None:
    joblib = pytest.importorskip("joblib", reason="joblib is not installed")
    rows = [np.full((2, 3), n, np.float32) for n in range(3)]
    runs: list[Any] = [k.double, k.double.with_schedule("auto"), k.double.schedule().vectorize("j", 4)]
    for run in runs:
        found = joblib.Parallel(n_jobs=2)(joblib.delayed(run)(row) for row in rows)
        assert [f.tolist() for f in found] == [(2 * row).tolist() for row in rows]
