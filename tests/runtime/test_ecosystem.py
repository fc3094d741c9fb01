"""kdsl among other packages: torch, joblib, dask, Jupyter, pickle, logging.

A test is skipped without its package.
"""

from __future__ import annotations

import concurrent.futures
import importlib.resources
import logging
import multiprocessing
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kdsl
from kdsl import f32, f64
from tests.runtime.process import run_python

M, N = kdsl.sizes("M N")
T = kdsl.typevar("T", f32, f64, kdsl.i32, kdsl.i64, kdsl.u8, kdsl.f16, kdsl.bool_)


@kdsl.kernel
def double(A: f32[M, N], B: f32[M, N]):
    for i in range(M):
        for j in range(N):
            B[i, j] = 2 * A[i, j]


@kdsl.kernel
def squares(X: f64[N]) -> f64[N]:
    out = kdsl.empty(N, f64)
    for i in range(N):
        out[i] = X[i] * X[i]
    return out


@kdsl.kernel
def copy(A: T[N], B: T[N]):
    for i in range(N):
        B[i] = A[i]


# ------------------------------------------------------------------ objects with memory of their own


def test_torch_tensors_are_used_in_place() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    A, B = torch.arange(12, dtype=torch.float32).reshape(3, 4), torch.zeros(3, 4)
    at = B.data_ptr()
    double(A, B)
    assert torch.equal(B, 2 * A) and B.data_ptr() == at
    double(A.T, B.T)  # strides
    assert torch.equal(B, 2 * A)
    double(A[:, ::2], B[:, 1::2])
    assert torch.equal(B[:, 1::2], 2 * A[:, ::2])
    double(A[:0], B[:0])
    for name in ("float32", "float64", "float16", "int32", "int64", "uint8", "bool"):
        x = torch.ones(5).to(getattr(torch, name))
        y = torch.zeros_like(x)
        copy(x, y)
        assert torch.equal(x, y), name


def test_torch_tensors_that_cannot_be_used_are_refused() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    A, B = torch.ones(3, 4), torch.zeros(3, 4)
    for bad, said in [
        (torch.ones(3, 4, requires_grad=True), "grad"),
        (torch.ones(3, 4).to_sparse(), "argument `A`"),
        (torch.ones(3, 4, device="meta"), "argument `A`"),
        (torch.ones(3, 4, dtype=torch.complex64), "complex64"),
        (torch.ones(3, 4, dtype=torch.float64), "float64"),
        (torch.ones(3), "1 dimension"),
    ]:
        with pytest.raises(kdsl.ArgumentError, match=said):
            double(bad, B)
    assert not B.any()
    with pytest.raises(kdsl.ArgumentError, match="share memory"):
        double(A[:2], A[1:])


def test_torch_bfloat16_without_a_copy() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    pytest.importorskip("ml_dtypes")

    @kdsl.kernel
    def halve(A: kdsl.bf16[M, N]):
        for i in range(M):
            for j in range(N):
                A[i, j] = A[i, j] / 2

    A = torch.ones(6, 4, dtype=torch.bfloat16)
    halve(A)
    assert (A == 0.5).all()
    halve(A.T[1:, ::2])
    want = torch.full((6, 4), 0.5)
    want[::2, 1:] = 0.25
    assert torch.equal(A.float(), want)
    halve(A[:0])
    B = A.clone()
    for _ in range(100):  # views come and go
        halve(B)
    assert (B.float() == 0.5**101).any() or (B.float() == 0.5**102).any()
    with pytest.raises(kdsl.ArgumentError, match="bfloat16, expected float32"):
        double(A, A)
    with pytest.raises(kdsl.ArgumentError, match="grad"):
        halve(torch.ones(2, 2, dtype=torch.bfloat16, requires_grad=True))


LOADER = """
import numpy as np, torch, kdsl
from torch.utils.data import DataLoader, Dataset
from kdsl import f32
N = kdsl.sizes("N")

@kdsl.kernel
def scale(A: f32[N], by: f32):
    for i in range(N):
        A[i] *= by

class Rows(Dataset):
    kernel = scale.with_schedule(lambda s: s.parallel("i"))
    def __len__(self):
        return 12
    def __getitem__(self, n):
        x = torch.full((100,), float(n))
        self.kernel(x, 2.0)
        return x

if __name__ == "__main__":
    Rows()[0]  # the parent has a pool already
    for context in ("fork", "spawn"):
        loader = DataLoader(Rows(), batch_size=3, num_workers=2, multiprocessing_context=context)
        rows = torch.cat(list(loader))
        assert torch.equal(rows, 2 * torch.arange(12.0)[:, None].expand(12, 100)), context
    print("right")
"""


def test_kernels_in_the_workers_of_a_torch_loader(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    file = tmp_path / "loader.py"
    file.write_text(LOADER)
    assert run_python(str(file)).stdout.strip() == "right"


class Table:
    """An object that speaks one protocol alone."""

    def __init__(self, a: Any, protocol: str) -> None:
        self.a = a
        if protocol == "interface":
            self.__array_interface__ = a.__array_interface__

    def __len__(self) -> int:
        return len(self.a)


class Packed:
    def __init__(self, a: Any) -> None:
        self.a = a

    def __dlpack__(self, **kwargs: Any) -> Any:
        return self.a.__dlpack__(**kwargs)

    def __dlpack_device__(self) -> Any:
        return self.a.__dlpack_device__()


def test_both_protocols_write_in_place() -> None:
    A = np.ones((3, 4), np.float32)
    for wrap in (lambda a: Table(a, "interface"), Packed):
        B = np.zeros((3, 4), np.float32)
        double(wrap(A), wrap(B))
        assert (B == 2).all()


class Failing:
    def __init__(self, error: Exception) -> None:
        self.error = error

    def __dlpack__(self, **kwargs: Any) -> Any:
        raise self.error

    def __dlpack_device__(self) -> Any:
        return (1, 0)


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("no"), KeyError("no"), AttributeError("no"), OSError("no")]
)
def test_a_failing_protocol_names_the_argument(error: Exception) -> None:
    with pytest.raises(kdsl.ArgumentError, match=r"(?s)argument `A` of double.*no") as caught:
        double(Failing(error), np.zeros((1, 1), np.float32))
    assert caught.value.__cause__ is error


def test_elements_at_address_0_are_refused() -> None:
    A = np.ones((3, 4), np.float32)
    null = Table(A, "interface")
    null.__array_interface__ = {**A.__array_interface__, "data": (0, False)}
    with pytest.raises(kdsl.ArgumentError, match="address 0"):
        double(A, null)
    empty = Table(A, "interface")
    empty.__array_interface__ = {**A[:0].__array_interface__, "data": (0, False)}
    double(A[:0], empty)


# ------------------------------------------------------------------ workers of other packages


def test_pickles_of_kernels_schedules_and_errors() -> None:
    X = np.arange(4.0)
    scheduled = squares.schedule().vectorize("i", 4)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        for kernel in (squares, squares.with_schedule(scheduled)):
            assert (pickle.loads(pickle.dumps(kernel, protocol))(X) == X * X).all()
    with pytest.raises(kdsl.ArgumentError) as caught:
        squares(X[None])
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_process_pools(method: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"there is no {method} here")
    squares(np.ones(2))
    context = multiprocessing.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        found = list(pool.map(squares, [np.arange(3.0) + k for k in range(4)]))
    assert [f.tolist() for f in found] == [((np.arange(3.0) + k) ** 2).tolist() for k in range(4)]


@pytest.mark.parametrize("backend", ["loky", "multiprocessing", "threading"])
def test_joblib(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    joblib = pytest.importorskip("joblib", reason="joblib is not installed")
    root = str(Path(__file__).resolve().parents[2])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
    rows = [np.arange(5.0) * k for k in range(6)]
    found = joblib.Parallel(n_jobs=2, backend=backend)(joblib.delayed(squares)(r) for r in rows)
    assert all((f == r * r).all() for f, r in zip(found, rows))


@pytest.mark.parametrize("scheduler", ["threads", "synchronous", "processes"])
def test_dask_map_blocks(scheduler: str) -> None:
    array = pytest.importorskip("dask.array", reason="dask is not installed")
    X = np.arange(100.0)
    blocks = array.from_array(X, chunks=30)
    found = blocks.map_blocks(squares, dtype=np.float64).compute(scheduler=scheduler, num_workers=2)
    assert (found == X * X).all()


# ------------------------------------------------------------------ Jupyter

NOTEBOOK = [
    "import numpy as np, kdsl\nfrom kdsl import f32\nN = kdsl.sizes('N')",
    "@kdsl.kernel\ndef axpy(a: f32, X: f32[N], Y: f32[N]):\n"
    "    for i in range(N):\n        Y[i] += a * X[i]\naxpy",
    "X, Y = np.ones(10, np.float32), np.zeros(10, np.float32)\naxpy(2.0, X, Y)\nY.tolist() == [2.0] * 10",
    "s = axpy.schedule().vectorize('i', 8)\ns",
    "s.history()",
    "s.explain(N=1000)",
    "try:\n    s.parallel('i_v')\nexcept kdsl.ScheduleError as e:\n    print(e)",
]


def test_a_notebook() -> None:
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    nbformat = pytest.importorskip("nbformat")
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in NOTEBOOK])
    root = str(Path(__file__).resolve().parents[2])
    where = {"metadata": {"path": root}}
    nbclient.NotebookClient(book, timeout=120, kernel_name="python3", resources=where).execute()
    shown = [[o for o in cell.outputs if o.output_type != "stream"] for cell in book.cells]
    assert "axpy" in shown[1][0].data["text/html"]
    assert shown[2][0].data["text/plain"] == "True"
    for at, text in ((3, "vectorize"), (4, "vectorize"), (5, "flop")):
        html = shown[at][0].data["text/html"]
        assert text in html and "<script" not in html
    assert "error[K03" in book.cells[6].outputs[0].text


def test_a_kernel_shows_itself_in_a_notebook() -> None:
    html = double._repr_html_()
    assert "double" in html and "A: f32[M, N]" in html and "range(M)" in html and "<script" not in html

    @kdsl.kernel
    def compares(A: f32[N]):
        for i in range(N):
            A[i] = 1 if A[i] < 2 else 0  # <b>&

    html = compares._repr_html_()
    assert "A[i] &lt; " in html and "&lt;b&gt;&amp;" in html


# ------------------------------------------------------------------ logging, typing


def test_logging_has_one_name_and_is_silent_by_default(caplog: pytest.LogCaptureFixture) -> None:
    @kdsl.kernel
    def fresh(A: f32[N]):
        for i in range(N):
            A[i] = 17

    with caplog.at_level(logging.DEBUG, "kdsl"):
        fresh(np.zeros(3, np.float32))
    assert any("fresh: ready for" in r.getMessage() for r in caplog.records)
    assert {r.name.partition(".")[0] for r in caplog.records} == {"kdsl"}
    code = (
        "import numpy as np, kdsl\nfrom tests.runtime.test_ecosystem import double\n"
        "double(np.ones((2, 2), np.float32), np.ones((2, 2), np.float32))"
    )
    done = run_python("-c", code)
    assert done.stdout == done.stderr == ""


def test_the_package_is_typed() -> None:
    assert importlib.resources.files("kdsl").joinpath("py.typed").is_file()
