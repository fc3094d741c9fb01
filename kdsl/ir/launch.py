"""A kernel as a GPU runs it: a host program whose leaves are dispatches of device code.

```
for t in range(T):                 HostLoop t
    for i in bind(..., "grid.x")       Dispatch jacobi_0: groups ((N + 63) // 64, 1, 1), block (64, 1, 1)
        for j in bind(..., "block.x")
    for i in bind(..., "grid.x")       Dispatch jacobi_1
```

Expressions of the host program are made of sizes, scalar parameters, variables of host loops and constants.

In the body of a dispatch, a loop bound to `grid.x` has one iteration a work-group, a loop bound to `block.x`
one an invocation of the work-group. What stands inside grid loops but outside block loops belongs to the
whole work-group: its control flow is uniform, and the end of a block loop is a point that all invocations
reach (explicit as a `Barrier` where data passes between them).
"""

from __future__ import annotations

from dataclasses import dataclass

from kdsl.dtypes import DType
from kdsl.ir.nodes import Body, Expr, Func


@dataclass(frozen=True, slots=True)
class Dispatch:
    """One launch of device code, an entry point called `name`.

    `groups`: the number of work-groups along x, y, z. `block`: the invocations of one along x, y, z.
    `host_vars`: the variables of enclosing host loops that `body` reads.
    """

    name: str
    groups: tuple[Expr, Expr, Expr]
    block: tuple[int, int, int]
    body: Body
    host_vars: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HostLoop:
    """`for var in range(lo, hi, step): steps` on the host."""

    var: str
    lo: Expr
    hi: Expr
    step: Expr
    steps: HostSteps


@dataclass(frozen=True, slots=True)
class HostIf:
    """`if cond: then else: orelse` on the host."""

    cond: Expr
    then: HostSteps
    orelse: HostSteps = ()


HostStep = Dispatch | HostLoop | HostIf
HostSteps = tuple[HostStep, ...]


@dataclass(frozen=True, slots=True)
class Scratch:
    """A device buffer that lives for one call: a local array that dispatches share, or that is too large to
    be private. Each extent of `shape` is an expression of the host."""

    name: str
    dtype: DType
    shape: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Launches:
    """`func` cut into a host program. Its parameters and conditions are those of `func`."""

    func: Func
    steps: HostSteps
    scratch: tuple[Scratch, ...] = ()
