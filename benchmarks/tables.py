"""Results as Markdown: the table of the README, tables with spread, and what they were measured on."""

from __future__ import annotations

import re
from collections.abc import Iterator

from benchmarks.compared import NAMES, heads
from benchmarks.results import Results
from benchmarks.timing import Spread, duration, table

MARKS = ("<!-- from benchmarks report -->", "<!-- until here -->")
"""The README's text between these is written by `--readme`."""


def page(results: Results) -> str:
    """`results.md`."""
    parts = [f"# kdsl {results.machine['versions']['kdsl']} against its peers", about(results)]
    if results.rows:
        parts.append(short(results))
    for count in results.threads:
        parts += [f"## {threads(count)}", "Medians, with quartiles in brackets.", spread(results, count)]
    if results.curve:
        parts += ["## Products of f32 by size", sizes(results)]
    if failures := list(missed(results)):
        parts += ["## Not measured", "\n".join(f"- {line}" for line in failures)]
    return "\n\n".join(parts) + "\n"


def about(results: Results) -> str:
    """What was measured, on what and how, as a list."""
    m = results.machine
    packages = ", ".join(f"{n} {v}" for n, v in m["versions"].items() if n != "kdsl")
    blas = " ".join(m["blas"].values())
    blas = f"{blas}, on as many threads as kdsl" if blas else "on one thread, without threadpoolctl"
    lines = [
        f"{m['date']}, commit {m['commit'] or 'not known'}, in {duration(results.took)}",
        f"`{results.command}`",
        f"{m['processor']}, {m['cores']} cores, vectors of {m['vector_bits']} bits; {m['system']}; "
        f"load before the start {m['load_before']}",
        f"Python {m['python']}, {packages}; BLAS of NumPy: {blas}",
    ]
    if m["environment"]:
        lines.append("environment: " + ", ".join(f"`{n}={v}`" for n, v in m["environment"].items()))
    if results.missing:
        lines.append(f"not installed, hence no column: {', '.join(NAMES[p] for p in results.missing)}")
    return "\n".join(f"- {line}" for line in lines)


def short(results: Results) -> str:
    """A time and a ratio for each peer, on one thread and on all. The time is that beside the first peer."""
    rows = []
    for case in results.cases:
        cells = [case]
        for count in results.threads:
            found = {p: r.on(count) for p in results.peers if (r := results.row(case, p))}
            known = [t for t in found.values() if t is not None]
            cells.append(duration(known[0].kdsl.median) if known else "")
            for peer in results.peers:
                timing = found.get(peer)
                cells.append(f"{timing.faster.median:.2f} x" if timing else state(results, case, peer))
        rows.append(cells)
    return table(heads(results.peers, results.threads), rows)


def spread(results: Results, count: int) -> str:
    """Times of kdsl and of the peers on so many threads, and the ratios, each with quartiles."""
    header = ["f32 unless said", "kdsl"]
    for peer in results.peers:
        header += [NAMES[peer], f"faster than {NAMES[peer]}"]
    rows = []
    for case in results.cases:
        cells = [case, ""]
        for peer in results.peers:
            row = results.row(case, peer)
            timing = row.on(count) if row else None
            if timing is None:
                cells += ["", state(results, case, peer)]
                continue
            cells[1] = cells[1] or seconds(timing.kdsl)
            ratio = timing.faster
            cells += [seconds(timing.peer), f"{ratio.median:.2f} x [{ratio.q1:.2f} … {ratio.q3:.2f}]"]
        rows.append(cells)
    return table(header, rows)


def seconds(found: Spread) -> str:
    return f"{duration(found.median)} [{duration(found.q1)} … {duration(found.q3)}]"


def state(results: Results, case: str, peer: str) -> str:
    """The cell of a pair that has no timing: empty when there is no such pair."""
    row = results.row(case, peer)
    return "" if row is None or row.state == "ok" else row.state


def sizes(results: Results) -> str:
    """GFLOP/s of kdsl's schedule and of NumPy by size, beside the peak."""
    if "detail" in results.curve:
        return f"Not measured: {results.curve['detail']}."
    tables = []
    for line in results.curve["lines"]:
        rates = zip(results.curve["sizes"], line["kdsl"], line["numpy"], strict=True)
        rows = [
            [
                f"{n}³",
                f"{ours:.1f}",
                f"{theirs:.1f}",
                f"{ours / theirs:.2f} x",
                f"{100 * ours / line['peak']:.0f} %",
            ]
            for n, ours, theirs in rates
        ]
        head = [f"{threads(line['threads'])}, peak {line['peak']:.0f} GFLOP/s", "kdsl", "NumPy"]
        tables.append(table([*head, "faster than NumPy", "of the peak"], rows))
    return "\n\n".join(tables)


def missed(results: Results) -> Iterator[str]:
    """Pairs that were not measured, and why."""
    for row in results.rows:
        if row.state != "ok":
            yield f"{row.case}, {NAMES[row.peer]}: {row.state}, {row.detail}"


def in_readme(text: str, results: Results) -> str:
    """The README with this table between its marks; ValueError where it has none."""
    m = results.machine
    packages = {"numpy": "NumPy", "llvmlite": "llvmlite", "numba": "Numba", "torch": "PyTorch"}
    named = ", ".join(f"{name} {m['versions'][p]}" for p, name in packages.items() if p in m["versions"])
    where = f"{m['processor']}, {m['cores']} cores, vectors of {m['vector_bits']} bits; "
    where += f"Python {m['python']}, {named}; {m['date'][:10]}, {m['commit']}:"
    found = re.subn(
        f"{re.escape(MARKS[0])}.*?{re.escape(MARKS[1])}",
        lambda _: f"{MARKS[0]}\n{where}\n\n{short(results)}\n{MARKS[1]}",
        text,
        flags=re.S,
    )
    if not found[1]:
        raise ValueError(f"the README has no {MARKS[0]}")
    return found[0]


def threads(count: int) -> str:
    return f"{count} thread{'s' * (count > 1)}"
