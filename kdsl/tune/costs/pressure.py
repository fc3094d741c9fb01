"""Registers: how many one iteration of an innermost loop keeps, and what it costs when they do not fit.

Sums that stay while the loop runs, the operands of the loop that is written out innermost, and what formulas
need beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from kdsl.ir.nodes import Accumulate, Body, Call, Expr, If, Load, Loop, Store
from kdsl.ir.walk import subexprs
from kdsl.target import Target
from kdsl.tune.costs.execution import Around, Loops, Work, unrolled, vector_of
from kdsl.tune.nests import uses

MATH = {
    "exp": 12.0, "exp2": 10.0, "log": 20.0, "log2": 20.0, "tanh": 15.0, "erf": 22.0, "sin": 14.0, "cos": 14.0,
    "tan": 30.0, "pow": 45.0, "sqrt": 9.0, "rsqrt": 12.0, "fma": 1.0, "minimum": 2.0, "maximum": 2.0,
}  # fmt: skip
"""Cycles for one vector register of results, of f32; a scalar takes as long, or longer."""
TEMPORARIES = 4.0
"""Registers that a math function needs for each register of results."""


def pressure(s: Loop, counts: Mapping[int, float], target: Target) -> Work:
    """What spilling costs in one iteration of `s`, and the registers. `counts`: iterations of loops by id."""
    return _Registers(counts, target).work(s)


@dataclass(frozen=True, slots=True)
class _Registers:
    counts: Mapping[int, float]
    target: Target

    def work(self, s: Loop) -> Work:
        kept = self.kept(s)
        extra = max(0.0, kept - self.target.vector_registers)
        return Work(loads=extra, stores=2 * extra, issued=2 * extra, spilled=extra, registers=kept)

    def kept(self, s: Loop) -> float:
        """Registers of sums and operands in one iteration of an innermost loop; 0 for others."""
        sums: dict[tuple[str, tuple[Expr, ...]], float] = {}
        operands: dict[tuple[str, tuple[Expr, ...]], float] = {}
        formulas = 0.0

        def visit(body: Body, loops: Loops) -> bool:
            nonlocal formulas
            for x in body:
                if isinstance(x, Loop):
                    kind = x.mark.kind if x.mark is not None else "loop"
                    if kind not in ("unroll", "vectorize"):
                        return False
                    around = Around(x, "unroll" if kind == "unroll" else "vector", self.counts[x.id])
                    if not visit(x.body, (*loops, around)):
                        return False
                elif isinstance(x, If):
                    if not visit((*x.then, *x.orelse), loops):
                        return False
                elif isinstance(x, (Store, Accumulate)):
                    if x.index and isinstance(x, Accumulate):
                        sums[x.buffer, x.index] = self._registers(x, loops)
                    elif isinstance(x, Accumulate):
                        vector = vector_of(loops)
                        sums[x.buffer, x.index] = (
                            1.0 if vector is None else self._wide(vector, x.value.dtype.bytes)
                        )
                    for y in subexprs(x.value):
                        vector = vector_of(loops)
                        if isinstance(y, Call) and vector is not None and MATH.get(y.fn, 4.0) > 12:
                            formulas = max(formulas, TEMPORARIES * self._wide(vector, y.dtype.bytes))
                        if isinstance(y, Load) and y.index:
                            # Only the operands of the innermost loop that is written out are kept at a time.
                            last = [a for a in loops if a.kind == "vector" or a is unrolled(loops)]
                            operands[y.buffer, y.index] = self._registers(y, tuple(last))
            return True

        if not visit(s.body, ()):
            return 0.0
        most = sorted(operands.values(), reverse=True)
        return sum(sums.values()) + sum(most[:2]) + formulas

    def _registers(self, a: Load | Store | Accumulate, loops: Loops) -> float:
        n = 1.0
        for around in loops:
            if around.kind == "vector":
                n *= (
                    self._wide(around, a.type.bytes if isinstance(a, Load) else a.value.dtype.bytes)
                    if uses(a, around.loop.var)
                    else 1.0
                )
            elif uses(a, around.loop.var):
                n *= around.trips
        return n

    def _wide(self, vector: Around, bytes_each: int) -> float:
        return float(ceil(vector.trips * bytes_each / self.target.vector_bytes))
