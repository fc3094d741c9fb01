"""Random kernels as text, and random steps for them.

Loops run within [0, N), or over a few iterations; arrays are large enough for every index made here, so that
nothing faults. Arithmetic is on integers, or adds small whole floats: results are exact in any order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from kdsl.ir.nodes import Accumulate, Alloc, Body, Loop, Stmt
from kdsl.ir.printer import print_head
from kdsl.ir.walk import stmt_bodies, stmts
from kdsl.sched import Schedule
from kdsl.sched.rewriting.tree import buffers
from kdsl.sched.step import Named
from tests.sched.random_meanings import instruction

Pick = Callable[[Any], Any]
"""Draws one of a sequence; earlier ones are simpler."""

# `I` is only read: its elements are 0 to 3, and serve as indices.
HEAD = """\
L = kdsl.sizes("L")

@kdsl.kernel
def bump(v: i64[L], w: i64[L]):
    for q in range(1, L):
        v[q] = v[q - 1] + w[q]

@kdsl.kernel{options}
def program(X: i64[N + 8], Y: i64[N + 8], P: i64[N + 8, N + 8], Q: i64[2 * N + 16], s: i64[M], I: i64[N + 8],
            U: u8[N + 8], W: i32[N + 8], F: f32[N + 8], c: i64):"""

MARKED = ("range(N)", "range(N)", "range(N)", "range(1, N)", "range(min(N, 4))")


@dataclass
class Program:
    """Draws the text of a kernel. `rich`: with branches, exits, gathers, locals, calls, other types."""

    pick: Pick
    rich: bool = True
    lines: list[str] = field(default_factory=list)
    count: int = 0
    locals: int = 0
    arrays: list[str] = field(default_factory=list)

    def text(self) -> str:
        options = ("", "", '(may_alias=("X", "Y"))', "(strict=True)") if self.rich else ("",)
        self.lines = [HEAD.format(options=self.pick(options))]
        if self.rich and self.pick((False, False, True)):
            self.local_array(1)
        for _ in range(self.pick((1, 2, 3))):
            self.loop([], 1, [])
        return "\n".join(self.lines) + "\n"

    def put(self, depth: int, line: str) -> None:
        self.lines.append("    " * depth + line)

    def loop(self, around: list[str], depth: int, scalars: list[str]) -> None:
        name = "ijklmnopqr"[self.count]
        self.count += 1
        ranges = [*MARKED, "range(N - 1)", "range(0, N, 2)", "range(N - 1, -1, -1)"]
        if around:
            outer = self.pick(around)
            ranges += [f"range({outer}, N)", f"range({outer} + 1)", f"range({outer}, min(N, {outer} + 3))"]
        if self.rich:
            ranges += ["range(3)", "range(1, N, 3)", "range(I[1])", "range(c, N)"]
            ranges += [f"range(max(N - {x} - 1, 0), N)" for x in around[:1]]
        self.put(depth, f"for {name} in {self.pick(ranges)}:")
        self.block([*around, name], depth + 1, scalars, True)

    def block(self, around: list[str], depth: int, scalars: list[str], in_loop: bool = False) -> None:
        scalars, arrays = list(scalars), len(self.arrays)
        kinds = ["store", "update", "scalar", "if"]
        if self.rich:
            kinds += ["else", "gather", "extreme", "other", "while", "zeros", "branch", "call", "time"]
            kinds += ["leave"] if in_loop else []
        for _ in range(self.pick((1, 2, 3))):
            nest = ["loop", "loop", "array"] if len(around) < 3 and self.count < 8 else []
            self.piece(self.pick([*kinds[:4], *nest, *kinds[4:]]), around, depth, scalars)
        del self.arrays[arrays:]

    def piece(self, kind: str, around: list[str], depth: int, scalars: list[str]) -> None:
        match kind:
            case "loop":
                self.loop(around, depth, scalars)
            case "scalar":
                name = self.scalar(depth, self.value(around, scalars))
                scalars.append(name)
                if self.pick((False, True)) and len(around) < 3 and self.count < 8:
                    loop = "ijklmnopqr"[self.count]
                    self.count += 1
                    self.put(depth, f"for {loop} in range(N):")
                    self.put(depth + 1, f"{name} += {self.value([*around, loop], scalars)}")
                    self.put(depth, f"{self.cell(around)} = {name}")
            case "if":
                self.put(depth, f"if {self.condition(around)}:")
                self.statement("store", around, depth + 1, scalars)
            case "else":
                self.put(depth, f"if {self.condition(around)}:")
                self.statement(self.pick(("store", "update")), around, depth + 1, scalars)
                self.put(depth, "else:")
                self.statement(self.pick(("store", "update")), around, depth + 1, scalars)
            case "branch":
                name = f"t{self.locals}"
                self.locals += 1
                self.put(depth, f"if {self.condition(around)}:")
                self.put(depth + 1, f"{name} = {self.value(around, scalars)}")
                self.put(depth, "else:")
                self.put(depth + 1, f"{name} = {self.pick(around)} + 0")
                scalars.append(name)
            case "gather":
                i = self.pick(around)
                at = f"I[{i}]"
                line = self.pick((
                    f"{self.cell(around)} = X[{at}]", f"X[{at}] = {self.value(around, scalars)}",
                    f"Y[{at}] += {self.value(around, scalars)}", f"{self.cell(around)} += P[{at}, {i}]",
                    f"kdsl.atomic_add(Y, {at}, {self.cell(around)})",
                ))  # fmt: skip
                self.put(depth, line)
            case "extreme":
                cell, op = self.cell(around), self.pick(("min", "max"))
                self.put(depth, f"{cell} = {op}({cell}, {self.value(around, scalars)})")
            case "other":
                i, j = self.pick(around), self.pick(around[::-1])
                self.put(depth, self.pick((
                    f"U[{i}] = U[{j}] + 1", f"U[{i} + 1] += U[{j}]", f"W[{i}] = {self.cell(around)}",
                    f"W[{i}] += W[{j} + 1]", f"{self.cell(around)} = W[{i}] - U[{j}]", f"F[{i}] += {j}",
                    f"F[{i}] = {j}", f"F[{i} + 1] = max(F[{i} + 1], F[{j}])",
                )))  # fmt: skip
            case "while":
                name = self.scalar(depth, "0")
                self.put(depth, f"while {name} < {self.pick(('3', 'c', 'I[0]'))}:")
                self.put(depth + 1, f"{name} += 1")
                self.statement(self.pick(("update", "store")), around, depth + 1, [*scalars, name])
                if self.pick((False, True)):
                    self.put(depth + 1, f"if {self.condition(around)}:")
                    self.put(depth + 2, self.pick(("break", "continue")))
            case "array":
                self.array(around, depth, scalars)
            case "zeros":
                self.local_array(depth)
                self.put(depth, f"{self.arrays[-1]}[{self.pick(around)}] = {self.value(around, scalars)}")
            case "call":
                i = self.pick(around)
                self.put(depth, self.pick((
                    f"bump(X, P[{i}, :])", f"bump(P[{i}, 0:N], X[1:N + 1])", f"bump(P[:, {i}], Y)",
                )))  # fmt: skip
            case "time":
                i = around[-1]
                t = self.pick(around)
                self.put(depth, f"P[{t} + 1, {i} + 1] = P[{t}, {i}] + P[{t}, {i} + 1] + P[{t}, {i} + 2]")
            case "leave":
                self.put(depth, f"if {self.condition(around)}:")
                self.put(depth + 1, self.pick(("continue", "break", "return")))
            case _:
                self.statement(kind, around, depth, scalars)

    def scalar(self, depth: int, value: str) -> str:
        name = f"t{self.locals}"
        self.locals += 1
        self.put(depth, f"{name} = {value}")
        return name

    def local_array(self, depth: int) -> None:
        name = f"T{self.locals}"
        self.locals += 1
        self.put(depth, f"{name} = kdsl.zeros(N + 8, i64)")
        self.arrays.append(name)

    def array(self, around: list[str], depth: int, scalars: list[str]) -> None:
        """A small local array that is filled and used."""
        name, loop = f"T{self.locals}", "ijklmnopqr"[self.count]
        self.locals += 1
        self.count += 1
        self.put(depth, f"{name} = kdsl.empty(3, i64)")
        self.put(depth, f"for {loop} in range(3):")
        self.put(depth + 1, f"{name}[{loop}] = {self.value([*around, loop], scalars)}")
        if self.pick((False, True)):
            self.put(depth, f"{name}[1] += {self.value(around, scalars)}")
        self.put(depth, f"{self.cell(around)} {self.pick(('=', '+='))} {name}[0] + {name}[2] * {name}[1]")

    def statement(self, kind: str, around: list[str], depth: int, scalars: list[str]) -> None:
        op = "=" if kind == "store" else "+="
        self.put(depth, f"{self.cell(around)} {op} {self.value(around, scalars)}")

    def condition(self, around: list[str]) -> str:
        a, b = self.pick(around), self.pick(around)
        return self.pick((f"{a} < {b} + 2", f"{a} >= 2", f"{self.cell(around)} > 1", f"{a} % 2 == 0"))

    def cell(self, around: list[str]) -> str:
        i, j = self.pick(around[::-1]), self.pick(around[::-1])
        c = self.pick((0, 1, 2))
        shift = f" + {c}" if c else ""
        cells = [
            f"X[{i}{shift}]",
            f"P[{i}, {j}{shift}]",
            f"Y[{i}]",
            f"Q[{i} + {j}{shift}]",
            f"P[{i}{shift}, {j}]",
            *[f"{name}[{i}{shift}]" for name in self.arrays],
        ]
        if self.rich:
            cells += [f"Q[2 * {i}{shift}]", f"Y[max({i} - 1, 0)]", f"X[{i} // 2{shift}]", f"Y[N + 3 - {i}]"]
        return str(self.pick(cells))

    def value(self, around: list[str], scalars: list[str]) -> str:
        parts = [self.pick(around), "3", self.cell(around), *scalars]
        a, b = self.pick(parts), self.pick((self.cell(around), self.cell(around), *scalars))
        forms = [f"{b} + {a}", f"{b} * 2 - {a}", f"{b}"]
        if self.rich:
            forms += [f"({a} if {self.condition(around)} else {b})"]
        return str(self.pick(forms))


def step(pick: Pick, s: Schedule) -> Schedule:
    """One random step; it may be refused."""
    loops = [x for x in stmts(s.func.body) if isinstance(x, Loop)]
    names = list(dict.fromkeys(x.var for x in loops))
    if not names:
        return s
    names += [f"{n}@1" for n in names if sum(x.var == n for x in loops) > 1]
    loop = pick(names)
    tails = ("guard", "cut", "perfect")
    match pick(
        (
            "split",
            "reorder",
            "fuse",
            "fission",
            "tile",
            "unroll",
            "skew",
            "peel",
            "specialize",
            "assume",
            "stage",
            "collapse",
            "rfactor",
            "privatize",
            "expand",
            "set_layout",
            "double_buffer",
            "prefetch",
            "tensorize",
            "compute_at",
            "inline",
            "mark",
        )
    ):
        case "split":
            return s.split(loop, pick((2, 3, 4, 1)), tail=pick(tails))
        case "reorder":
            chain = _nest(pick, s)
            return s.reorder(*chain) if len(chain) > 1 else s
        case "fuse":
            first, second = pick(_neighbours(s) or [(loop, loop)])
            return s.fuse(first, second, shift=pick((0, 1, 3)))
        case "fission":
            inside = next(x for x in loops if x.var == loop.partition("@")[0]).body
            return s.fission(loop, after=pick([0, 1, *[_named(x) for x in inside]]))
        case "tile":
            chain = _nest(pick, s)
            return s.tile(chain, [pick((2, 3)) for _ in chain], tail=pick(tails))
        case "unroll":
            return s.unroll(loop, pick((None, 2, 3)))
        case "skew":
            return s.skew(loop, pick(names), pick((1, -1, 2)))
        case "peel":
            return s.peel(loop, pick((1, 2)), end=pick(("first", "last")))
        case "specialize":
            return s.specialize(pick(("N == 5", "N > 3", "N % 2 == 0 or M < N")))
        case "assume":
            return s.assume(pick(("N % 2 == 0", "N >= 1")))
        case "stage":
            inside = next(x for x in loops if x.var == loop.partition("@")[0]).body
            layout: Any = pick((None, {"pad": 1}, {"fill": 1}))
            memory: Any = pick(("local", "shared", "register"))
            return s.stage(pick(sorted(buffers(inside)) or ["x"]), loop, memory, layout=layout)
        case "collapse":
            outer, inner = pick(_nested(s) or [(loop, loop)])
            return s.collapse(outer, inner)
        case "rfactor":
            inside = [x for x in stmts(s.func.body) if isinstance(x, Accumulate)]
            buffer = pick([None, *dict.fromkeys(x.buffer for x in inside)])
            return s.rfactor(pick([*_around(s, Accumulate), loop]), buffer)
        case "privatize":
            return s.privatize(pick(_locals(s) or ["x"]), loop)
        case "expand":
            return s.expand(pick(_locals(s) or ["x"]), pick([*_around(s, Alloc), loop]))
        case "set_layout":
            local = pick(_local_arrays(s) or [("x", 1)])
            tile = [pick((None, 2, 3)) for _ in range(local[1])]
            count = local[1] + sum(t is not None for t in tile)
            order = [*range(1, count), 0] if pick((False, True)) else None
            return s.set_layout(local[0], tile=tile, order=order, pad=pick((0, 1)))
        case "double_buffer":
            return s.double_buffer(pick(_local_arrays(s) or [("x", 1)])[0])
        case "prefetch":
            inside = next(x for x in loops if x.var == loop.partition("@")[0]).body
            return s.prefetch(pick(sorted(buffers(inside)) or ["x"]), loop, pick((1, 2, 9)))
        case "tensorize":
            return _tensorized(pick, s, loop)
        case "compute_at":
            return s.compute_at(pick(_locals(s) or ["X"]), loop)
        case "inline":
            return s.inline(pick(_locals(s) or ["X"]))
        case _:
            kind = pick(("parallel", "vectorize", "bind"))
            if kind == "bind":
                return s.bind(loop, pick(("grid.x", "block.x", "grid.y", "block.y")))
            return s.parallel(loop) if kind == "parallel" else s.vectorize(loop, pick((2, 4)))


def _tensorized(pick: Pick, s: Schedule, name: str) -> Schedule:
    """A whole block of a loop, or the loop, done by an instruction that is drawn for it."""
    stem = name.partition("@")[0]
    if pick((True, False)):
        s = s.split(name, pick((2, 4)), tail="cut")
        stem += "_i"
    loop = next(x for x in stmts(s.func.body) if isinstance(x, Loop) and x.var == stem)
    found = instruction(pick, loop)
    return s if found is None else s.tensorize(pick((f"{stem}@0", stem)), Named.of(found))


def _locals(s: Schedule) -> list[str]:
    return list(dict.fromkeys(x.name for x in stmts(s.func.body) if isinstance(x, Alloc)))


def _local_arrays(s: Schedule) -> list[tuple[str, int]]:
    """Local arrays with their ranks; copies apart, too."""
    arrays = [x for x in stmts(s.func.body) if isinstance(x, Alloc) and x.shape]
    names = {x.name: len(x.shape) for x in arrays}
    several = {f"{n}@1": r for n, r in names.items() if sum(x.name == n for x in arrays) > 1}
    return list((names | several).items())


def _around(s: Schedule, kind: type[Stmt]) -> list[str]:
    """Loops around statements of a kind."""
    loops = [x for x in stmts(s.func.body) if isinstance(x, Loop)]
    return list(dict.fromkeys(x.var for x in loops if any(isinstance(y, kind) for y in stmts(x.body))))


def _neighbours(s: Schedule) -> list[tuple[str, str]]:
    """Loops that follow each other, by names that tell copies apart."""
    order = [x for x in stmts(s.func.body) if isinstance(x, Loop)]

    def name(loop: Loop) -> str:
        return f"{loop.var}@{[x.id for x in order if x.var == loop.var].index(loop.id)}"

    found = []

    def visit(body: Body) -> None:
        loops = [x for x in body if isinstance(x, Loop)]
        found.extend((name(a), name(b)) for a, b in pairwise(loops))
        for x in body:
            for inner in stmt_bodies(x):
                visit(inner)

    visit(s.func.body)
    return found


def _nested(s: Schedule) -> list[tuple[str, str]]:
    """A loop and one that stands in it, next to little else."""
    loops = [x for x in stmts(s.func.body) if isinstance(x, Loop)]
    pairs = [(x, y) for x in loops for y in x.body if isinstance(y, Loop)]
    pairs.sort(key=lambda p: len(p[0].body))
    return [(x.var, y.var) for x, y in pairs]


def _named(s: Stmt) -> str:
    return print_head(s)


def _nest(pick: Pick, s: Schedule) -> list[str]:
    """Some loops of one nest in any order."""
    chains: list[list[str]] = []

    def visit(body: Any, above: list[str]) -> None:
        for x in body:
            if isinstance(x, Loop):
                here = [*above, x.var]
                chains.append(here)
                visit(x.body, here)
            else:
                for inner in stmt_bodies(x):
                    visit(inner, above)

    visit(s.func.body, [])
    chain = list(pick([c for c in chains if len(c) > 1] or chains))
    out = []
    while chain and len(out) < 4:
        out.append(chain.pop(pick(range(len(chain)))))
    return out
