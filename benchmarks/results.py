"""What a report holds: a row for each pair of a case and a peer, as data that goes to JSON and back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.timing import Spread

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of a call of both, and how many times as fast as the peer kdsl is in a round."""

    threads: int
    rounds: int
    kdsl: Spread
    peer: Spread
    faster: Spread

    @classmethod
    def of(cls, threads: int, ours: Sequence[float], theirs: Sequence[float]) -> Timing:
        """From the seconds of each round; rounds are compared one by one, so that drift does not count."""
        ratios = [t / o for o, t in zip(ours, theirs, strict=True)]
        return cls(threads, len(ratios), Spread.of(ours), Spread.of(theirs), Spread.of(ratios))

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Timing:
        spreads = {name: Spread(**data[name]) for name in ("kdsl", "peer", "faster")}
        return cls(threads=data["threads"], rounds=data["rounds"], **spreads)


@dataclass(frozen=True, slots=True)
class Row:
    """A case against a peer. `state`: "ok", "failed" or "hung"; `detail` says why it was not timed."""

    case: str
    peer: str
    state: str
    detail: str = ""
    timings: list[Timing] = field(default_factory=list)

    def on(self, threads: int) -> Timing | None:
        return next((t for t in self.timings if t.threads == threads), None)


@dataclass(slots=True)
class Results:
    """`machine` is `benchmarks.machine.facts()`; `peers` are those installed, `missing` the others."""

    machine: dict[str, Any]
    command: str
    seconds: float
    peers: list[str]
    missing: list[str]
    rows: list[Row] = field(default_factory=list)
    curve: dict[str, Any] = field(default_factory=dict)
    """What `examples/matmul/compare.py --json` writes; {"detail": why} where it was not measured."""
    took: float = 0.0

    @property
    def cases(self) -> list[str]:
        return list(dict.fromkeys(row.case for row in self.rows))

    @property
    def threads(self) -> list[int]:
        return sorted({t.threads for row in self.rows for t in row.timings})

    def row(self, case: str, peer: str) -> Row | None:
        return next((r for r in self.rows if r.case == case and r.peer == peer), None)

    def write(self, path: Path) -> None:
        path.write_text(json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, path: Path) -> Results:
        """ValueError for a file of another schema."""
        data = json.loads(path.read_text())
        if data.pop("schema", None) != SCHEMA:
            raise ValueError(f"{path} is not a report of schema {SCHEMA}")
        data["rows"] = [
            Row(**{**row, "timings": [Timing.read(t) for t in row["timings"]]}) for row in data["rows"]
        ]
        return cls(**data)
