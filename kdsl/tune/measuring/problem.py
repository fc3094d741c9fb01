"""What is tuned, as worker processes read it: the kernel's text, sizes, scalars, arrays. Plain data."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from kdsl.analysis.cost import cost
from kdsl.ir.nodes import Accumulate, Atomic, Condition, Const, Expr, Func, Load, ScalarParam, Var
from kdsl.ir.parser import parse_func
from kdsl.ir.printer import print_func, stored_buffers
from kdsl.ir.walk import exprs, stmts, subexprs, substitute
from kdsl.passes.simplify import simplify_expr
from kdsl.tune.measuring import inputs
from kdsl.tune.measuring.inputs import Array, Layout

UNKNOWN = 64
"""What a count that depends on data is taken to be."""


@dataclass(frozen=True)
class Problem:
    """A kernel in program order, for one signature, sizes and target.

    `scalars` are Python numbers by name, `arrays` the layouts of the arguments (their bytes are files in the
    session's folder). `target` is the name; `threads` share a parallel loop.
    """

    func: Func
    target: str
    sizes: Mapping[str, int]
    scalars: Mapping[str, int | float | bool]
    arrays: Mapping[str, Layout]
    threads: int

    def to_json(self) -> str:
        """As text."""
        return json.dumps(
            {
                "ir": print_func(self.func),
                "target": self.target,
                "sizes": dict(self.sizes),
                "scalars": {k: _number(v) for k, v in self.scalars.items()},
                "arrays": {k: v.to_json() for k, v in self.arrays.items()},
                "threads": self.threads,
            }
        )

    @staticmethod
    def from_json(text: str) -> Problem:
        """What `to_json` wrote."""
        row = json.loads(text)
        return Problem(
            parse_func(row["ir"]),
            row["target"],
            row["sizes"],
            {k: float.fromhex(v) if isinstance(v, str) else v for k, v in row["scalars"].items()},
            {k: Layout.from_json(v) for k, v in row["arrays"].items()},
            row["threads"],
        )

    def save(self, folder: Path, arrays: Mapping[str, Array]) -> None:
        """Writes the problem and its arrays where workers find them."""
        for name, layout in self.arrays.items():
            inputs.save(folder / f"{name}.bin", arrays[name], layout)
        (folder / "problem.json").write_text(self.to_json())

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """The arrays that the kernel writes."""
        stored = stored_buffers(self.func.body)
        return tuple([p.name for p in self.func.arrays if p.name in stored])

    @cached_property
    def in_place(self) -> tuple[str, ...]:
        """Those whose old contents count: they are restored before each timing."""
        read = {e.buffer for e in exprs(self.func.body) if isinstance(e, Load)}
        read |= {s.buffer for s in stmts(self.func.body) if isinstance(s, (Accumulate, Atomic))}
        results = {p.name for p in self.func.arrays if p.result}
        return tuple([name for name in self.outputs if name in read and name not in results])

    @cached_property
    def terms(self) -> float:
        """About how many operations go into one element of the results."""
        costs = cost(self.func)
        known = defaultdict(lambda: UNKNOWN, {k: int(v) for k, v in {**self.scalars, **self.sizes}.items()})
        flops = float(costs.atoms.number(costs.total_flops().value, known))
        elements = 0
        for p in self.func.arrays:
            if p.name in self.outputs:
                elements += int(np.prod([max(0, d.evaluate(self.sizes)) for d in p.shape], dtype=np.int64))
        return max(1.0, flops / max(1, elements))

    @cached_property
    def key(self) -> str:
        """A hash of the kernel in program order."""
        return kernel_key(self.func)

    def values(self, arrays: Mapping[str, Array]) -> list[Any]:
        """The values of a call in the order of the parameters, results left out."""
        out: list[Any] = []
        for p in self.func.params:
            if isinstance(p, ScalarParam):
                out.append(p.dtype(self.scalars[p.name]))
            elif not p.result:
                out.append(arrays[p.name])
        return out


def _number(value: int | float | bool) -> int | bool | str:
    return value.hex() if isinstance(value, float) else value


def kernel_key(func: Func) -> str:
    """A hash of a kernel as the front end built it."""
    return hashlib.sha256(f"{print_func(func)}\0{func.options!r}".encode()).hexdigest()[:32]


def holds(conditions: tuple[Condition, ...], sizes: Mapping[str, int], scalars: Mapping[str, Any]) -> bool:
    """Whether a call with these sizes and scalars meets the conditions."""
    given = {**sizes, **scalars}
    for c in conditions:
        names = {x.name: x.dtype for x in subexprs(c.expr) if isinstance(x, Var)}
        values: dict[str, Expr] = {name: Const(given[name], t) for name, t in names.items()}
        found = simplify_expr(substitute(c.expr, values))
        if not (isinstance(found, Const) and found.value):
            return False
    return True
