"""Tables of cases against some peers, in this process: what `scheduled`, `peers` and `quantised` print."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import kdsl
from benchmarks.cases import Case, contenders, installed, wanted
from benchmarks.timing import duration, medians_by_threads, table


def compared(cases: Iterable[Case], peers: Sequence[str], seconds: float) -> str:
    """A row for each case that KDSL_BENCHMARK wants; contenders of a row are interleaved, medians count.

    A package that is not installed has no column, a case that none of the peers has no row.
    """
    peers = [p for p in peers if installed(p)]
    rows = []
    for case in wanted(cases, os.environ.get("KDSL_BENCHMARK", "")):
        theirs = [p for p in peers if p in case.peers]
        if peers and not theirs:
            continue
        cells = [case.name]
        for medians in medians_by_threads(contenders(case, theirs), seconds=seconds).values():
            cells.append(duration(medians["kdsl"]))
            cells += [f"{medians[p] / medians['kdsl']:.2f} x" if p in medians else "" for p in peers]
        rows.append(cells)
    return table(heads(peers, dict.fromkeys((1, kdsl.get_num_threads()))), rows)


NAMES = {"numpy": "NumPy", "numba": "Numba", "torch": "torch"}


def heads(peers: Sequence[str], threads: Iterable[int]) -> list[str]:
    """The header of a table with a time and the peers' ratios for each number of threads."""
    header = ["f32 unless said"]
    for count in threads:
        header.append(f"{count} thread{'s' * (count > 1)}")
        header += [f"faster than {NAMES[p]}" for p in peers]
    return header
