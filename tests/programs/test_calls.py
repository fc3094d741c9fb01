"""What programs do beside computing arrays: defaults, asserts, faults, printing, random numbers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import kdsl
from kdsl import f32, f64, i32, i64, u64
from tests.check import TARGETS, run
from tests.programs.simulation import pi_monte_carlo

N = kdsl.sizes("N")

each_target = pytest.mark.parametrize("target", TARGETS)


@kdsl.kernel
def scale_shift(x: f32[N], out: f32[N], a: f32 = 2.0, b: i32 = 1):
    for i in range(N):
        out[i] = a * x[i] + b


@each_target
def test_defaults_and_keywords(target: str) -> None:
    x, out = np.arange(3, dtype=np.float32), np.zeros(3, np.float32)
    run(scale_shift, target, x, out)
    np.testing.assert_array_equal(out, 2 * x + 1)
    run(scale_shift, target, x, out, b=-1)
    np.testing.assert_array_equal(out, 2 * x - 1)
    run(scale_shift, target, out=out, x=x, a=0.5)
    np.testing.assert_array_equal(out, 0.5 * x + 1)


@kdsl.kernel
def gather(x: f64[N], at: i64[N], out: f64[N]):
    for i in range(N):
        out[i] = x[at[i]]


@each_target
@pytest.mark.parametrize("bad", [3, -1, 2**62, -(2**63)])
def test_an_index_from_data_is_tested(target: str, bad: int) -> None:
    at = np.array([0, 2, bad])
    with pytest.raises(IndexError):
        run(gather, target, np.zeros(3), at, np.zeros(3))


@kdsl.kernel
def positive_roots(x: f64[N]):
    for i in range(N):
        assert x[i] >= 0, "no root of a negative number"
        x[i] = kdsl.sqrt(x[i])


@each_target
def test_assert_carries_its_text(target: str) -> None:
    with pytest.raises(AssertionError, match="no root of a negative number"):
        run(positive_roots, target, np.array([4.0, -1.0]))
    x = np.array([4.0, 9.0])
    run(positive_roots, target, x)
    np.testing.assert_array_equal(x, [2, 3])


@kdsl.kernel
def divide(a: i64[N], b: i64[N], q: i64[N], r: i64[N]):
    for i in range(N):
        q[i] = a[i] // b[i]
        r[i] = a[i] % b[i]


@pytest.mark.parametrize("target", [t for t in TARGETS if t != "py"])
def test_division_by_zero(target: str) -> None:
    """(NumPy's integers, which the Python meaning runs on, warn and give 0 where compiled code raises.)"""
    with pytest.raises(ZeroDivisionError):
        run(divide, target, np.array([1]), np.array([0]), np.zeros(1, int), np.zeros(1, int))


@each_target
def test_division_floors(target: str) -> None:
    a = np.array([7, 7, -7, -7, -(2**63), 0])
    b = np.array([2, -2, 2, -2, -1, 5])
    q, r = np.zeros(6, int), np.zeros(6, int)
    run(divide, target, a, b, q, r)
    np.testing.assert_array_equal(q, [3, -4, -4, 3, -(2**63), 0])
    np.testing.assert_array_equal(r, [1, -1, 1, -1, 0, 0])


@each_target
def test_pi(target: str) -> None:
    samples = 200_000 if target == "cpu" else 1_000
    assert abs(float(run(pi_monte_carlo, target, 7, samples)) - np.pi) < 6 / samples**0.5


def test_uniform_numbers_fill_the_unit_interval() -> None:
    @kdsl.kernel
    def fill(seed: u64, out: f32[N]):
        for i in range(N):
            out[i] = kdsl.uniform(seed, i)

    out = np.empty(100_000, np.float32)
    fill(1, out)
    assert 0 <= out.min() < 1e-3
    assert 0.999 < out.max() < 1
    counts = np.histogram(out, 50, (0, 1))[0]
    expected = len(out) / 50
    # Chi squared with 49 degrees of freedom: above 100 in fewer than 3 of 100,000 seeds.
    assert ((counts - expected) ** 2 / expected).sum() < 100
    other = np.empty_like(out)
    fill(2, other)
    assert abs(np.corrcoef(out, other)[0, 1]) < 0.02
    assert abs(np.corrcoef(out[1:], out[:-1])[0, 1]) < 0.02


PRINTING = """
import numpy as np
import kdsl
from kdsl import f64, i32

N = kdsl.sizes("N")

@kdsl.kernel
def report(x: f64[N], n: i32):
    print("values:", N)
    for i in range(N):
        print(i, x[i], n, x[i] > 1, sep=", ", end=";\\n")

report.on(TARGET)(np.array([0.5, 1.5]), -3)
"""


@pytest.mark.parametrize("target", ["interpreter", "cpu"])
def test_print(target: str, tmp_path: Path) -> None:
    script = tmp_path / "report.py"
    script.write_text(PRINTING.replace("TARGET", repr(target)))
    root = str(Path(kdsl.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": root}
    )
    assert done.stderr == ""
    assert done.stdout == "values: 2\n0, 0.5, -3, False;\n1, 1.5, -3, True;\n"
