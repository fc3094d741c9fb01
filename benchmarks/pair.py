"""One case against one peer, in a process of its own: `python -m benchmarks.pair CASE PEER --to FILE`.

Writes the rows of `benchmarks.results.Timing` as JSON, one for each number of threads.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from benchmarks.cases import CASES, contenders
from benchmarks.results import Timing
from benchmarks.timing import by_threads


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pair", description=__doc__)
    parser.add_argument("case", choices=[c.name for c in CASES])
    parser.add_argument("peer")
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--to", type=Path, required=True, help="the file that is written")
    options = parser.parse_args(arguments)
    case = next(c for c in CASES if c.name == options.case)
    runs = contenders(case, [options.peer])
    found = by_threads(runs, seconds=options.seconds, rounds=options.rounds)
    timings = [Timing.of(count, s["kdsl"], s[options.peer]) for count, s in found.items()]
    options.to.write_text(json.dumps([asdict(t) for t in timings]))


if __name__ == "__main__":
    main()
