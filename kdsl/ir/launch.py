"""A kernel as a GPU runs it: a host program whose leaves are dispatches of device code.

```
for t in range(T):                 HostLoop t
    for i in bind(..., "grid.x")       Dispatch jacobi_0: groups ((N + 63) // 64, 1, 1), block (64, 1, 1)
        for j in bind(..., "block.x")
    for i in bind(..., "grid.x")       Dispatch jacobi_1
```

Expressions of the host program are made of sizes, scalar parameters, variables of host loops and constants.

The body of a dispatch has three levels.

- Grid: loops bound to `grid.*`, with bounds of the host, and ifs, each the only statement in the one around.
  The n-th work-group along an axis runs the n-th iteration: there are as many.
- Work-group: every invocation runs this code, on scalars and arrays of its own. It stores only to these.
  Where it holds a `Barrier`, its control flow is the same for all of them.
- Invocation: nests of loops bound to `block.*`, one for each axis of which the dispatch uses more than one
  invocation (or has a bound loop), from 0 in steps of 1, with a constant number of iterations <= `block`, and
  perhaps ifs between them. The n-th invocation along an axis runs the n-th iteration, if there is one. Code
  for one invocation is a nest of single iterations. No `Barrier` is inside.

Nests follow one another without waiting; a `Barrier` stands wherever data pass between invocations, through
shared or device memory. A dispatch whose block is (1, 1, 1) may have no loops bound to `block.*`: its body
belongs to the one invocation.

A local with memory "shared" belongs to the work-group, of rank 0 too; each other one, wherever it stands,
to an invocation. A scratch buffer lives for one call and starts uninitialised.
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
