"""What people see of a tuning: progress, text, plot, page, command line."""

from __future__ import annotations

import io
import logging
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import kdsl
from kdsl.cli import main
from kdsl.tune.measuring.comparing import difference
from kdsl.tune.result import Result
from kdsl.tune.showing.progress import Progress
from kdsl.tune.showing.report import body
from kdsl.tune.trial import Trial
from tests.tune import kernels as k


@pytest.fixture
def result() -> Result:
    trials = [
        Trial("rows", {"lanes": 8}, "ok", 0.004, 0.1, 0.5),
        Trial("rows", {"lanes": 2}, "crashed", None, 0.1, 0.6, "the process died of SIGSEGV"),
        Trial("rows", {"lanes": 16}, "ok", 0.002, 0.1, 1.5),
        Trial("rows", {"lanes": 4}, "ok", 0.003, 0.1, 2.5),
        Trial("<rows>", {"lanes": 5}, "refused", None, 0.0, 2.6, "no"),
    ]
    schedule = k.scale.schedule().vectorize("i", 16)
    return Result(
        "scale", schedule, 0.002, 0.01, False, trials, 3.0, {"N": 5000}, "cpu", 2, "guided", verified=True
    )


def test_text(result: Result) -> None:
    assert str(result) == (
        "scale on cpu with 2 threads, N=5000\n"
        "best     2 ms a call, 5 times as fast as before (10 ms)\n"
        "tried    5 candidates (3 ok, 1 refused, 1 crashed) in 3 s\n"
        "checked  against program order at small ragged sizes, and once more on fresh inputs\n"
        "\n"
        "def schedule(s):\n"
        '    s = s.vectorize("i", lanes=16)\n'
        "    return s"
    )
    assert result.speedup == 5
    assert repr(result) == "<kdsl result for scale: 5 x after 5 trials>"
    assert result.curve() == [(0.5, 0.004), (1.5, 0.002)]


def test_page(result: Result, tmp_path: Path) -> None:
    text = result.report(tmp_path / "page.html").read_text()
    HTMLParser().feed(text)
    assert "<script" not in text and "http" not in re.sub(r"http://www.w3.org\S*", "", text)
    assert "&lt;rows&gt;" not in text  # refused ones are only counted
    for expected in ("<svg", "2 ms", "SIGSEGV", "Roofline of this machine", "rows(lanes=16)", "vectorize"):
        assert expected in text
    assert "<svg" in result._repr_html_()


def test_plot(result: Result, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    for name in ("curve.png", "curve.svg"):
        assert result.plot(tmp_path / name).stat().st_size > 1000


def test_plot_without_matplotlib(result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    with pytest.raises(kdsl.KdslError, match=r"pip install kdsl\[plot\]") as caught:
        result.plot(tmp_path / "curve.png")
    assert caught.value.code == "K0808"


def test_progress_on_a_terminal(result: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("COLUMNS", "200")
    progress = Progress("scale", 60, 200, True)
    progress.say("compiling")
    progress.baseline = 0.01, True
    for trial in result.trials:
        progress.told(trial, 0.002)
    last = stream.getvalue().rpartition("\r")[2].strip()
    assert last == (
        "scale: 0 s, best 2 ms (>5 x), 5 candidates (3 ok, 1 refused, 1 crashed), 195 to go, 60 s left"
    )
    progress.done("end")
    assert stream.getvalue().endswith("\r")


def test_progress_elsewhere_is_logged(
    result: Result, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO, "kdsl"):
        progress = Progress("scale", None, None, None)
        progress._logged -= 10
        progress.told(result.trials[0], 0.004)
        progress.told(result.trials[2], 0.002)
        progress.done("scale: done")
    assert [r.message for r in caplog.records] == [
        "scale: 0 s, best 4 ms, 1 candidate (1 ok)",
        "scale: done",
    ]
    assert capsys.readouterr().err == ""


def test_comparison() -> None:
    want = np.ones((3, 4), np.float32)
    got = want.copy()
    assert difference(got, want, 1) is None
    got[1, 2] += 1e-6
    assert difference(got, want, 1) is None
    assert (
        difference(got, want, 1, exact=True)
        == "1 of 12 elements, the first at [1, 2]: 1.000001 instead of 1.0"
    )
    got[1, 2] = np.nan
    assert difference(got, want, 1e6) is not None
    want[1, 2] = np.nan
    assert difference(got, want, 1) is None
    assert (
        difference(np.array([1, 2]), np.array([1, 3]), 1e9)
        == "1 of 2 elements, the first at [1]: 2 instead of 3"
    )
    assert difference(np.zeros(0, np.float32), np.zeros(0, np.float32), 1) is None
    infinite = np.array([np.inf, 1.0], np.float32)
    assert difference(infinite, infinite.copy(), 1) is None
    assert difference(-infinite, infinite, 1) is not None


KERNEL = """
import kdsl
from kdsl import f32

N = kdsl.sizes("N")


@kdsl.kernel
def scale(X: f32[N], Y: f32[N], a: f32):
    for i in range(N):
        Y[i] = a * X[i]


def space(s, lanes=kdsl.choice(4, 8, 16)):
    return s.vectorize("i", lanes)
"""


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "kernels.py"
    file.write_text(KERNEL)
    where, space = f"{file}:scale", f"{file}:space"
    tune = ["tune", where, "--size", "N=5000", "--threads", "1", "--trials", "2"]
    before = kdsl.get_num_threads()
    try:
        page = tmp_path / "page.html"
        assert main([*tune, "--space", space, "--pin", "lanes=8", "--report", str(page)]) == 0
    finally:
        kdsl.set_num_threads(before)
    out = capsys.readouterr().out
    assert "scale on cpu with 1 thread, N=5000" in out and "1 candidate (1 ok)" in out
    assert page.exists()
    text = tmp_path / "all.jsonl"
    assert main(["tune", "--export", str(text)]) == 0
    assert main(["tune", "--import", str(text)]) == 0
    assert "0 rows taken" in capsys.readouterr().out
    assert main(["tune", "--import", str(file)]) == 2
    assert "K0806" in capsys.readouterr().err
    assert main(["tune"]) == 2
    assert "needs a kernel" in capsys.readouterr().err
    assert main([*tune, "--pin", "lanes"]) == 2
    assert main([*tune, "--export", "/nowhere/at/all"]) == 2
    assert "K0718" in capsys.readouterr().err


def test_large_figures_have_all_their_digits(result: Result) -> None:
    result = replace(result, baseline=2.5, seconds=1234.5)
    assert "1250 times as fast as before (2.5 s)" in str(result) and "in 1234 s" in str(result)
    assert "<b>1250</b> times" in body(result) and "e+03" not in body(result)
