"""`python -m benchmarks report`: all cases against NumPy, Numba and PyTorch, as JSON, tables and plots.

Each pair (kdsl, peer) has a process of its own, in which both are checked against each other and then timed
in turn, the first one changing from round to round, on one thread and on all. A process that fails or hangs
becomes a row that says so. FOLDER gets `results.json`, `results.md`, `faster.svg` and `matmul.svg`; plots
need matplotlib.

    python -m benchmarks report --out FOLDER              # everything, some 10 minutes on a quiet machine
    python -m benchmarks report --only softmax --seconds 0.5
    python -m benchmarks report --again FOLDER --readme   # tables and plots once more, from results.json
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import machine, tables
from benchmarks.cases import CASES, PEERS, Case, installed, wanted
from benchmarks.results import Results, Row, Timing
from benchmarks.timing import duration

LIMIT = 120.0
"""Seconds for a process, beside those that it is asked to measure: it imports, compiles, and checks."""


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    if options.again:
        results = Results.load(options.again / "results.json")
        options.out = options.again
    else:
        results = measured(options)
    print(tables.page(results))
    options.out.joinpath("results.md").write_text(tables.page(results))
    if options.readme:
        readme = machine.ROOT / "README.md"
        readme.write_text(tables.in_readme(readme.read_text(), results))
    if installed("matplotlib"):
        from benchmarks import plots

        plots.draw(results, options.out)
        plots.draw_curve(results, options.out)
    else:
        print("no plots: matplotlib is not installed (pip install 'kdsl[plot]')")
    print(f"written to {options.out}/")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=Path("report"), help="folder to write to (report)")
    parser.add_argument(
        "--seconds", type=float, default=1.5, help="of measuring a pair on one number of threads (1.5)"
    )
    parser.add_argument("--rounds", type=int, default=15, help="in which each contender is timed once (15)")
    parser.add_argument(
        "--only",
        metavar="PART",
        default=os.environ.get("KDSL_BENCHMARK", ""),
        help='cases with this in their name, or of this part; "curve": GFLOP/s by size alone',
    )
    parser.add_argument("--again", type=Path, metavar="FOLDER", help="measure nothing: read its results.json")
    parser.add_argument("--readme", action="store_true", help="also put the table into README.md")
    options = parser.parse_args(arguments)
    if options.readme and options.only and not options.again:
        parser.error("the README's table has all cases: --readme without --only (or KDSL_BENCHMARK)")
    return options


def measured(options: argparse.Namespace) -> Results:
    """Runs all pairs; `results.json` is written after each, so that nothing is lost."""
    start = time.perf_counter()
    peers = [p for p in PEERS if installed(p)]
    results = Results(
        machine=machine.facts(),
        command=shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]]),
        seconds=options.seconds,
        peers=peers,
        missing=[p for p in PEERS if p not in peers],
    )
    options.out.mkdir(parents=True, exist_ok=True)
    pairs = [(c, p) for c in wanted(CASES, options.only) for p in peers if p in c.peers]
    with tempfile.TemporaryDirectory(prefix="kdsl-report-") as cache:
        # A cache of its own: what was measured in the past, as the peak of a busy machine, does not count.
        environment = {**os.environ, **blas_settings(), "KDSL_CACHE_DIR": cache}
        results.machine["environment"].update(blas_settings())
        for n, (case, peer) in enumerate(pairs, 1):
            row = measure(case, peer, options.seconds, options.rounds, environment)
            print(f"[{n}/{len(pairs)}] {told(row)}", file=sys.stderr, flush=True)
            results.rows.append(row)
            results.took = time.perf_counter() - start
            results.write(options.out / "results.json")
        if options.only in ("", "curve"):
            results.curve = curve(options.seconds, environment)
    results.took = time.perf_counter() - start
    results.write(options.out / "results.json")
    return results


def blas_settings() -> dict[str, str]:
    """Tells an OpenBLAS of AVX-512 that takes the processor for an older one, to be a fair opponent."""
    facts = machine.facts()
    old = facts["blas"].get("architecture") in ("Haswell", "Zen")
    if old and facts["vector_bits"] == 512 and "OPENBLAS_CORETYPE" not in os.environ:
        return {"OPENBLAS_CORETYPE": "SkylakeX"}
    return {}


def measure(case: Case, peer: str, seconds: float, rounds: int, environment: Mapping[str, str]) -> Row:
    command = [sys.executable, "-m", "benchmarks.pair", case.name, peer]
    command += ["--seconds", str(seconds), "--rounds", str(rounds)]
    state, detail, text = in_process(command, environment, LIMIT + 10 * seconds)
    timings = [Timing.read(t) for t in json.loads(text)] if state == "ok" else []
    return Row(case.name, peer, state, detail, timings)


def curve(seconds: float, environment: Mapping[str, str]) -> dict[str, object]:
    command = [sys.executable, str(machine.CURVE), "--seconds", str(seconds / 2)]
    state, detail, text = in_process(command, environment, LIMIT + 100 * seconds, to="--json")
    return json.loads(text) if state == "ok" else {"detail": f"{state}: {detail}"}


def in_process(
    command: Sequence[str], environment: Mapping[str, str], limit: float, to: str = "--to"
) -> tuple[str, str, str]:
    """Runs a command that writes a file: (state, why it is not "ok", the file's text).

    After `limit` seconds the process and those it has started are killed.
    """
    with tempfile.TemporaryDirectory(prefix="kdsl-pair-") as folder:
        path, errors = Path(folder, "out.json"), Path(folder, "errors.txt")
        with errors.open("wb") as stderr:
            child = subprocess.Popen(
                [*command, to, str(path)],
                env=environment,
                cwd=machine.ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,
            )
            try:
                code = child.wait(limit)
            except subprocess.TimeoutExpired:
                return "hung", f"stopped after {duration(limit)}", ""
            finally:
                if child.poll() is None:
                    os.killpg(child.pid, signal.SIGKILL)
                    child.wait()
        if code < 0:
            return "failed", f"the process died of {signal.Signals(-code).name}", ""
        if code or not path.exists():
            return "failed", reason(errors.read_text(errors="replace")) or f"exit status {code}", ""
        return "ok", "", path.read_text()


def reason(errors: str) -> str:
    """What an error stream says, in one line: the exception, without the traceback before it."""
    lines = [line for line in errors.splitlines() if line.strip()]
    # The message of an exception may go on for lines, and its first one stands alone on the left.
    raised = [line for line in lines if line[0] not in " \t" and line.split(":")[0].isidentifier()]
    last = (raised or lines or [""])[-1]
    return last if len(last) <= 200 else last[:197] + "..."


def told(row: Row) -> str:
    if row.state != "ok":
        return f"{row.case}, {row.peer}: {row.state}, {row.detail}"
    parts = [f"{t.threads}: {duration(t.kdsl.median)}, {t.faster.median:.2f} x" for t in row.timings]
    return f"{row.case}, {row.peer}: " + "; ".join(parts)


if __name__ == "__main__":
    main()
