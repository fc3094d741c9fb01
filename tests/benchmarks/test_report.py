"""The report of the benchmarks: tables, JSON, spread, processes that fail or hang. Times are made up."""

from __future__ import annotations

import ast
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import cases, machine, peers_numpy, report, tables
from benchmarks.results import Results, Row, Timing
from benchmarks.timing import Spread, interleaved

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def results() -> Results:
    one = Timing.of(1, [1e-3, 2e-3, 3e-3, 4e-3, 5e-3], [2e-3, 4e-3, 6e-3, 8e-3, 20e-3])
    two = Timing.of(2, [1e-3, 1e-3], [3e-3, 5e-3])
    facts = {
        **machine.facts(),
        "processor": "A processor",
        "cores": 2,
        "vector_bits": 512,
        "python": "3.11.7",
        "date": "2026-01-02 03:04 UTC",
        "commit": "abc",
        "versions": {"kdsl": "0.1.0", "numpy": "2.4"},
    }
    rows = [
        Row("sum", "numpy", "ok", "", [one, two]),
        Row("sum", "numba", "failed", "the process died of SIGSEGV"),
        Row("blur", "numpy", "hung", "stopped after 2 s"),
    ]
    return Results(facts, "python -m benchmarks report", 2.0, ["numpy", "numba"], ["torch"], rows, took=61.0)


def test_spread() -> None:
    assert Spread.of([5.0, 1.0, 2.0, 4.0, 3.0]) == Spread(1.0, 2.0, 3.0, 4.0, 5.0)
    assert Spread.of([7.0]) == Spread(7.0, 7.0, 7.0, 7.0, 7.0)


def test_ratios_are_those_of_rounds() -> None:
    """A machine that becomes three times as slow does not change how contenders compare."""
    timing = Timing.of(1, [1.0, 1.0, 3.0], [2.0, 2.0, 6.0])
    assert timing.faster == Spread(2.0, 2.0, 2.0, 2.0, 2.0)
    assert timing.kdsl.q3 == 2.0
    assert timing.rounds == 3


def test_first_contender_changes() -> None:
    order: list[str] = []
    samples = interleaved({n: (lambda n=n: order.append(n)) for n in "abc"}, seconds=0.0, rounds=3)
    assert {name: len(s) for name, s in samples.items()} == {"a": 3, "b": 3, "c": 3}
    assert "".join(order[6:]) == "bca" + "cab" + "abc"


def test_short_table(results: Results) -> None:
    assert tables.short(results) == (
        "| f32 unless said | 1 thread | faster than NumPy | faster than Numba"
        " | 2 threads | faster than NumPy | faster than Numba |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        "| sum | 3 ms | 2.00 x | failed | 1 ms | 4.00 x | failed |\n"
        "| blur |  | hung |  |  | hung |  |"
    )


def test_table_with_spread(results: Results) -> None:
    assert tables.spread(results, 1).splitlines()[2:] == [
        "| sum | 3 ms [2 ms … 4 ms] | 6 ms [4 ms … 8 ms] | 2.00 x [2.00 … 2.00] |  | failed |",
        "| blur |  |  | hung |  |  |",
    ]


def test_page_says_what_is_missing(results: Results) -> None:
    page = tables.page(results)
    assert "- 2026-01-02 03:04 UTC, commit abc, in 61 s" in page
    assert "- not installed, hence no column: torch" in page
    assert "- sum, Numba: failed, the process died of SIGSEGV" in page
    assert "- blur, NumPy: hung, stopped after 2 s" in page
    results.curve = {"detail": "failed: no"}
    assert "Not measured: failed: no." in tables.page(results)
    line = {"threads": 2, "peak": 200.0, "kdsl": [50.0, 150.0], "numpy": [25.0, 160.0]}
    results.curve = {"sizes": [128, 256], "lines": [line]}
    assert "| 256³ | 150.0 | 160.0 | 0.94 x | 75 % |" in tables.page(results)


def test_json_and_back(results: Results, tmp_path: Path) -> None:
    results.write(tmp_path / "results.json")
    assert Results.load(tmp_path / "results.json") == results
    (tmp_path / "other.json").write_text('{"schema": 0}')
    with pytest.raises(ValueError, match="not a report of schema"):
        Results.load(tmp_path / "other.json")


def test_readme_takes_the_table(results: Results) -> None:
    text = tables.in_readme((ROOT / "README.md").read_text(), results)
    assert tables.short(results) in text
    assert "A processor, 2 cores, vectors of 512 bits; Python 3.11.7, NumPy 2.4; 2026-01-02, abc:" in text
    assert tables.in_readme(text, results) == text
    with pytest.raises(ValueError, match="the README has no"):
        tables.in_readme("no marks", results)


def test_readme_takes_no_part(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        report.main(["--readme", "--only", "sum"])
    assert "the README's table has all cases" in capsys.readouterr().err


def test_again(results: Results, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    line = {"threads": 1, "peak": 200.0, "kdsl": [50.0, 150.0], "numpy": [25.0, 160.0]}
    results.curve = {"sizes": [128, 256], "blas": "scipy-openblas", "lines": [line]}
    results.write(tmp_path / "results.json")
    report.main(["--again", str(tmp_path)])
    assert (tmp_path / "results.md").read_text() in capsys.readouterr().out
    for name, said in (("faster.svg", "faster than Numba"), ("matmul.svg", "peak, 200 GFLOP/s")):
        assert said in (tmp_path / name).read_text()


def test_without_matplotlib(
    results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    results.write(tmp_path / "results.json")
    report.main(["--again", str(tmp_path)])
    assert "no plots: matplotlib is not installed" in capsys.readouterr().out
    assert (tmp_path / "results.md").exists()


# -------------------------------------------------------------------- processes


def run(program: str, limit: float = 30.0) -> tuple[str, str, str]:
    return report.in_process([sys.executable, "-c", program], os.environ, limit)


def test_process() -> None:
    assert run("import sys; open(sys.argv[2], 'w').write('[1]')") == ("ok", "", "[1]")


def test_process_that_fails() -> None:
    assert run("raise ValueError('no\\nand no again')") == ("failed", "ValueError: no", "")
    assert run("raise SystemExit(3)") == ("failed", "exit status 3", "")
    assert run("import os; os.abort()") == ("failed", "the process died of SIGABRT", "")
    assert run("pass")[0] == "failed"  # nothing is written


def test_process_that_hangs() -> None:
    assert run("import time; time.sleep(60)", limit=0.5) == ("hung", "stopped after 500 ms", "")


def test_pair_that_fails_is_a_row() -> None:
    row = report.measure(cases.CASES[0], "nobody", 0.01, 2, os.environ)
    assert (row.state, row.timings) == ("failed", [])
    assert "No module named 'benchmarks.peers_nobody'" in row.detail


def test_pair() -> None:
    case = next(c for c in cases.CASES if c.name == "sum 2¹⁸")
    row = report.measure(case, "numpy", 0.01, 2, os.environ)
    assert (row.state, row.detail) == ("ok", "")
    for timing in row.timings:
        assert timing.rounds == 2
        assert 0 < timing.kdsl.least <= timing.kdsl.median <= timing.kdsl.most < 1


# ------------------------------------------------------------------------ cases


def test_peers_have_what_the_table_says() -> None:
    for peer in cases.PEERS:
        source = (ROOT / "benchmarks" / f"peers_{peer}.py").read_text()
        functions = {
            node.name
            for node in ast.parse(source).body
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
        }
        assert functions == {case.computes for case in cases.CASES if peer in case.peers}


def test_names_are_unique() -> None:
    assert len({case.name for case in cases.CASES}) == len(cases.CASES)
    assert len(cases.wanted(cases.CASES, "softmax")) == 1
    assert len(cases.wanted(cases.CASES, "rows")) == 2
    assert cases.wanted(cases.CASES, "curve") == []


def test_wrong_result_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    case = next(c for c in cases.CASES if c.computes == "total")
    case = replace(case, arguments=lambda: (np.ones(99, np.float32),))
    assert set(cases.contenders(case, ["numpy"])) == {"kdsl", "numpy"}
    monkeypatch.setattr(peers_numpy, "total", lambda X: lambda: 97.0)
    with pytest.raises(AssertionError, match="numpy against kdsl"):
        cases.contenders(case, ["numpy"])
