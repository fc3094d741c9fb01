"""What is known of one candidate: a row of the database, a line of an exported text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

Status = Literal["ok", "slow", "refused", "crashed", "hung", "wrong"]
"""ok        ran, right, `time` measured
slow      stopped since others are much faster: `time` is a lower bound
refused   a step is not legal, or does not compile
crashed   its process died, ran out of memory, or the kernel raised an error
hung      not done within the limit, and had to be killed
wrong     other results than the kernel in program order
"""


@dataclass(frozen=True, slots=True)
class Trial:
    """One candidate and what became of it.

    `sketch` and `values` say where it stands in the space, `steps` is its schedule as JSON (empty where there
    was none). `time` is the time of a call in seconds, `seconds` what the trial took, `building` what finding
    and proving its steps took; `at`: seconds from the start to its end. `target`: the
    fingerprint of what it ran on.
    """

    sketch: str
    values: Mapping[str, Any]
    status: Status
    time: float | None = None
    seconds: float = 0.0
    at: float = 0.0
    message: str = ""
    steps: str = ""
    target: str = ""
    building: float = 0.0
    stored: bool = field(default=False, compare=False)

    @property
    def ok(self) -> bool:
        """Whether it was measured and found right."""
        return self.status == "ok"

    @property
    def candidate(self) -> str:
        """`panels(rows=6, terms=512)`."""
        return f"{self.sketch}({', '.join(f'{k}={v}' for k, v in self.values.items())})"

    @property
    def key(self) -> str:
        """What tells candidates of one space apart."""
        return json.dumps([self.sketch, sorted(self.values.items())])

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        row = asdict(self)
        del row["stored"]
        return row

    @staticmethod
    def from_json(row: Mapping[str, Any]) -> Trial:
        """What `to_json` gave; ValueError for anything else."""
        names = {f.name for f in fields(Trial)}
        status = row.get("status")
        if status not in get_args(Status) or not isinstance(row.get("values"), Mapping):
            raise ValueError("no trial")
        time = row.get("time")
        if time is not None and not isinstance(time, (int, float)):
            raise ValueError("no time")
        return Trial(**{k: v for k, v in row.items() if k in names})

    def __str__(self) -> str:
        time = "" if self.time is None else f" {self.time:.3g} s"
        return f"{self.status}{time}: {self.candidate}" + (f" ({self.message})" if self.message else "")
