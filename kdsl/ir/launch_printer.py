"""Text of a host program with its dispatches, as Python would have it.

def jacobi(A: f32[N], B: f32[N], T: i64):
    tmp: f32[N] @ "scratch"
    for t in range(T):
        with dispatch("jacobi_0", groups=((N + 63) // 64, 1, 1), block=(64, 1, 1)):
            for i in bind(range((N + 63) // 64), "grid.x"):
                ...
"""

from __future__ import annotations

from itertools import takewhile

from kdsl.dtypes import i64
from kdsl.ir.launch import Dispatch, HostIf, HostLoop, HostSteps, Launches
from kdsl.ir.nodes import If, Loop
from kdsl.ir.printer import INDENT, func_lines, print_expr, print_head, print_stmt


def print_launches(launches: Launches) -> str:
    """The whole program, for people."""
    lines = [line.text for line in takewhile(lambda line: line.stmt is None, func_lines(launches.func))]
    lines = lines if launches.func.body else lines[:-1]
    for s in launches.scratch:
        shape = f"[{', '.join([print_expr(e, True) for e in s.shape])}]" if s.shape else ""
        lines.append(f'{INDENT}{s.name}: {s.dtype}{shape} @ "scratch"')
    lines += _steps(launches.steps, INDENT)
    return "\n".join(lines) + "\n"


def dispatches(steps: HostSteps) -> list[Dispatch]:
    """All dispatches of a host program, in program order."""
    out: list[Dispatch] = []
    for s in steps:
        match s:
            case Dispatch():
                out.append(s)
            case HostLoop():
                out += dispatches(s.steps)
            case HostIf():
                out += [*dispatches(s.then), *dispatches(s.orelse)]
    return out


def _steps(steps: HostSteps, indent: str) -> list[str]:
    if not steps:
        return [f"{indent}pass"]
    lines: list[str] = []
    for s in steps:
        match s:
            case HostLoop():
                lines.append(indent + print_head(Loop(s.var, s.lo, s.hi, s.step, ())))
                lines += _steps(s.steps, indent + INDENT)
            case HostIf():
                lines.append(indent + print_head(If(s.cond, ())))
                lines += _steps(s.then, indent + INDENT)
                if s.orelse:
                    lines += [f"{indent}else:", *_steps(s.orelse, indent + INDENT)]
            case Dispatch():
                groups = ", ".join([print_expr(e, e.dtype == i64) for e in s.groups])
                block = ", ".join(map(str, s.block))
                lines.append(f'{indent}with dispatch("{s.name}", groups=({groups}), block=({block})):')
                text = "\n".join([print_stmt(x) for x in s.body]) or "pass"
                lines += [indent + INDENT + line for line in text.split("\n")]
    return lines
