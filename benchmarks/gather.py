"""The cost of checking an index that depends on data: a gather, tested against `bounds="unchecked"`."""

from __future__ import annotations

import numpy as np

import kdsl
from benchmarks.timing import duration, interleaved_medians, table
from kdsl import f32, i32

M, N = kdsl.sizes("M N")


def gather_body(X: f32[N], index: i32[M], out: f32[M]):
    for i in range(M):
        out[i] = X[index[i]]


def spmv_body(values: f32[M], columns: i32[M], x: f32[N], out: f32[1]):
    total = 0.0
    for i in range(M):
        total += values[i] * x[columns[i]]
    out[0] = total


def main() -> str:
    """Runs all rows; returns the Markdown table."""
    rng = np.random.default_rng(0)
    rows = []
    for label, body in (("gather", gather_body), ("sparse dot", spmv_body)):
        checked, unchecked = kdsl.kernel(body), kdsl.kernel(bounds="unchecked", name=label.split()[0])(body)
        for entries in (1 << 10, 1 << 14, 1 << 18, 1 << 20):
            count = 1 << 18
            index = rng.integers(0, entries, count).astype(np.int32)
            X = rng.standard_normal(entries, dtype=np.float32)
            V = rng.standard_normal(count, dtype=np.float32)
            args = (
                (X, index, np.empty_like(V))
                if body is gather_body
                else (V, index, X, np.empty(1, np.float32))
            )
            medians = interleaved_medians(
                {"checked": lambda a=args, k=checked: k(*a), "unchecked": lambda a=args, k=unchecked: k(*a)},
                seconds=2.0,
                rounds=31,
            )
            cost = medians["checked"] / medians["unchecked"] - 1
            rows.append(
                [f"{label}, table of {entries:,}", duration(medians["checked"]), f"{100 * cost:+.0f} %"]
            )
    return table(["2¹⁸ elements, one thread", "checked", "cost of the check"], rows)


if __name__ == "__main__":
    print(main())
