"""Instructions that the target lacks become vector code: the lanes in lockstep, the other loops written out.

for l in tensorize(range(16), "dot4_u8s8"):          for l in vectorize(range(16)):
    for q in range(4):                          ->       for q in unroll(range(4)):
        acc[l] += ...                                        acc[l] += ...
"""

from __future__ import annotations

from dataclasses import replace

from kdsl.analysis.roles import Roles, roles
from kdsl.ir.nodes import Body, Func, Instruction, Loop, Mark, Stmt
from kdsl.ir.walk import map_stmt, stmts
from kdsl.target import Target


def instructions(func: Func, target: Target) -> Func:
    """`func` with the marks that `target` can take; itself when it has all."""
    if not any(_missing(s, target) for s in stmts(func.body)):
        return func
    return replace(func, body=_body(func.body, target))


def _missing(s: Stmt, target: Target) -> Instruction | None:
    mark = s.mark if isinstance(s, Loop) else None
    if mark is None or mark.instruction is None:
        return None
    # Instructions, and bodies that stand for them, are those of CPUs: a GPU runs what they mean.
    has = target.kind != "vulkan" and target.has(mark.instruction.features)
    return None if has else mark.instruction


def _body(body: Body, target: Target) -> Body:
    out: list[Stmt] = []
    for s in body:
        missing = _missing(s, target)
        if missing is not None and isinstance(s, Loop):
            found = roles(missing.meaning)
            if not isinstance(found, Roles):
                out.append(replace(s, mark=None))  # the loop, as it stands, is what it means
                continue
            (result,) = [r for r in found.operands if r.written]
            # Lanes of the last dimension meet no cell twice, and lie side by side.
            out.append(_marked(s, 0, result.axes[-1] if result.axes else -1))
        else:
            out.append(map_stmt(s, lambda e: e, lambda b: _body(b, target)))
    return tuple(out)


def _marked(s: Loop, depth: int, lanes: int) -> Loop:
    """The loop, `depth` loops inside of the instruction, and those in it; number `lanes` is the vector."""
    body = tuple([_marked(x, depth + 1, lanes) if isinstance(x, Loop) else x for x in s.body])
    kind = Mark("vectorize") if depth == lanes else Mark("unroll") if lanes >= 0 else None
    return replace(s, body=body, mark=kind)
