"""Kernels under hand-written schedules against PyTorch and Numba, on one thread and on all.

Each row is one process, contenders interleaved, medians, results compared before. PyTorch runs eagerly;
results go to tensors made before where its functions take `out=`. Numba runs parallel loops as its
documentation advises. All write to the same memory: where an array lies decides some 10 % of what is bound
by memory. A package that is not installed has no column.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np

import kdsl
from benchmarks import kernels as k
from benchmarks.scheduled import normal
from benchmarks.timing import duration, medians_by_threads, table

try:
    import torch
except ImportError:
    torch = None  # type: ignore[assignment, unused-ignore]
try:
    import numba
except ImportError:
    numba = None  # type: ignore[assignment, unused-ignore]

Run = Callable[[], object]
Row = tuple[str, Run, dict[str, Run]]


def main(seconds: float = 2.0) -> str:
    """Runs all rows; returns the Markdown table: how much faster than each peer kdsl is."""
    with torch.inference_mode() if torch is not None else nullcontext():
        return _table(seconds)


def _table(seconds: float) -> str:
    wanted = os.environ.get("KDSL_BENCHMARK", "")
    names = [name for name, package in (("torch", torch), ("numba", numba)) if package is not None]
    threads = kdsl.get_num_threads()
    lines = []
    for name, ours, peers in rows():
        if wanted not in name:
            continue
        cells = [name]
        for medians in medians_by_threads(
            {"kdsl": ours, **peers}, seconds=seconds, on_threads=on_threads
        ).values():
            cells.append(duration(medians["kdsl"]))
            cells += [f"{medians[p] / medians['kdsl']:.2f} x" if p in medians else "" for p in names]
        lines.append(cells)
    counts = (1, threads) if threads > 1 else (1,)
    header = ["f32 unless said"]
    for count in counts:
        header += [f"{count} thread{'s' * (count > 1)}", *[f"faster than {p}" for p in names]]
    return table(header, lines)


def on_threads(count: int) -> None:
    """Tells the peers how many threads they may use."""
    if torch is not None:
        torch.set_num_threads(count)
    if numba is not None:
        numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))


def rows() -> Iterator[Row]:
    """Name, kdsl's run, the peers' runs; each checked against kdsl's result."""
    yield from products()
    yield from elements()
    yield from neighbours()


def _row(
    name: str, ours: Run, got: Callable[[], Any], peers: dict[str, tuple[Run, Callable[[], Any]]]
) -> Row:
    ours()
    expected = np.array(got())
    for peer, (run, result) in peers.items():
        run()
        np.testing.assert_allclose(result(), expected, rtol=2e-3, atol=1e-2, err_msg=f"{name}: {peer}")
    return name, ours, {peer: run for peer, (run, _) in peers.items()}


def products() -> Iterator[Row]:
    """Matrix products."""
    single = k.matmul.with_schedule(k.blocked(k.matmul.schedule()))
    double = k.matmul_f64.with_schedule(k.blocked_f64(k.matmul_f64.schedule()))
    one_row = k.matmul.with_schedule(k.few_rows(k.matmul.schedule()))
    for name, kernel, m, terms, n, dtype in (
        ("matmul 512³", single, 512, 512, 512, "f4"),
        ("matmul 1024³", single, 1024, 1024, 1024, "f4"),
        ("matmul 1000x999x1001", single, 1000, 999, 1001, "f4"),
        ("matmul 1024³ f64", double, 1024, 1024, 1024, "f8"),
        ("matmul 1x1024x1024", one_row, 1, 1024, 1024, "f4"),
    ):
        A, B = normal(m, terms, dtype=np.dtype(dtype)), normal(terms, n, dtype=np.dtype(dtype))
        C, D = np.empty((m, n), dtype), np.empty((m, n), dtype)
        peers: dict[str, tuple[Run, Callable[[], Any]]] = {}
        if torch is not None:
            a, b, d = torch.from_numpy(A), torch.from_numpy(B), torch.from_numpy(D)
            peers["torch"] = (lambda a=a, b=b, d=d: torch.mm(a, b, out=d), lambda D=D: D)
        yield _row(name, lambda kernel=kernel, A=A, B=B, C=C: kernel(A, B, C), lambda C=C: C, peers)


def elements() -> Iterator[Row]:
    """Element by element, sums, rows."""
    gelu = k.gelu.with_schedule(k.elements(k.gelu.schedule()))
    saxpy = k.saxpy.with_schedule(k.streamed(k.saxpy.schedule()))
    total = k.total.with_schedule(k.shared_sum(k.total.schedule()))
    softmax = k.softmax.with_schedule(k.by_rows(k.softmax.schedule()))
    layernorm = k.layernorm.with_schedule(k.streamed_rows(k.layernorm.schedule()))
    X, Y = normal(1 << 22), np.empty(1 << 22, "f4")
    L, S = normal(1 << 24), np.zeros(1 << 24, "f4")
    R, P = normal(4096, 1024), np.empty((4096, 1024), "f4")
    g, b = normal(1024), normal(1024)
    a = np.float32(0)  # so that repeated runs leave the same numbers
    peers: dict[str, dict[str, tuple[Run, Callable[[], Any]]]] = {n: {} for n in ("g", "x", "s", "m", "l")}
    if torch is not None:
        from torch.nn import functional

        tx, ty, tl, ts, tr, tp, tg, tb = (torch.from_numpy(x) for x in (X, Y, L, S, R, P, g, b))
        peers["g"]["torch"] = (
            lambda: torch.ops.aten.gelu.out(tx, approximate="tanh", out=ty),
            lambda: Y,
        )
        peers["x"]["torch"] = (lambda: ts.add_(tl, alpha=0.0), lambda: S)
        peers["s"]["torch"] = (lambda: torch.sum(tl), lambda: float(torch.sum(tl)))
        peers["m"]["torch"] = (lambda: torch.softmax(tr, 1, out=tp), lambda: P)
        peers["l"]["torch"] = (
            lambda: functional.layer_norm(tr, (1024,), tg, tb, 1e-5),
            lambda: functional.layer_norm(tr, (1024,), tg, tb, 1e-5).numpy(),
        )
    if numba is not None:
        from benchmarks import peers_numba as n

        peers["g"]["numba"] = (lambda: n.gelu(X, Y), lambda: Y)
        peers["x"]["numba"] = (lambda: n.saxpy(a, L, S), lambda: S)
        peers["s"]["numba"] = (lambda: n.total(L), lambda: n.total(L))
        peers["m"]["numba"] = (lambda: n.softmax(R, P), lambda: P)
        peers["l"]["numba"] = (lambda: n.layernorm(R, g, b, P), lambda: P)
    yield _row("gelu 2²²", lambda: gelu(X, Y), lambda: Y, peers["g"])
    yield _row("saxpy 2²⁴", lambda: saxpy(a, L, S), lambda: S, peers["x"])
    yield _row("sum 2²⁴", lambda: total(L), lambda: float(np.sum(L, dtype=np.float64)), peers["s"])
    yield _row("softmax 4096x1024", lambda: softmax(R, P), lambda: P, peers["m"])
    yield _row(
        "layernorm 4096x1024",
        lambda: layernorm(R, g, b, P),
        lambda: (layernorm(R, g, b, P), P)[1],
        peers["l"],
    )


def neighbours() -> Iterator[Row]:
    """A convolution, two stages of a blur, a stencil."""
    conv = k.conv2d.with_schedule(k.channels(k.conv2d.schedule()))
    blur = k.blur.with_schedule(k.window(k.blur.schedule(), 16))
    jacobi = k.jacobi.with_schedule(k.all_steps(k.jacobi.schedule()))
    X, F, Y = normal(64, 58, 58), normal(64, 64, 3, 3), np.empty((64, 56, 56), "f4")
    A, B = normal(2050, 2050), np.empty((2048, 2048), "f4")
    G = normal(2048, 2048)
    mine, theirs = (G.copy(), G.copy()), (G.copy(), G.copy())
    peers: dict[str, dict[str, tuple[Run, Callable[[], Any]]]] = {n: {} for n in ("c", "b", "j")}
    if torch is not None:
        from torch.nn import functional

        tx, tf = torch.from_numpy(X)[None], torch.from_numpy(F)
        peers["c"]["torch"] = (
            lambda: functional.conv2d(tx, tf),
            lambda: functional.conv2d(tx, tf)[0].numpy(),
        )
    if numba is not None:
        from benchmarks import peers_numba as n

        stage = np.empty((2050, 2048), "f4")
        peers["b"]["numba"] = (lambda: n.blur(A, stage, B), lambda: B)
        peers["j"]["numba"] = (lambda: n.jacobi(*theirs, 5), lambda: theirs[0])
    yield _row("conv2d 3x3, 64 to 64, 56²", lambda: conv(X, F, Y), lambda: Y, peers["c"])
    yield _row("blur 3x3, 2048²", lambda: blur(A, B), lambda: B, peers["b"])
    yield _row("Jacobi 2048², 10 sweeps", lambda: jacobi(*mine), lambda: mine[0], peers["j"])


if __name__ == "__main__":
    print(main())
