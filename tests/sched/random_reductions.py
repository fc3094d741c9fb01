"""Random kernels that reduce and use locals, for the steps that give partial results and private copies.

Loops run within [0, N); arrays are large enough for every index made here. All arithmetic is on integers.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.sched.random_programs import Pick

HEAD = "@kdsl.kernel\ndef program(X: i64[N + 4], Y: i64[N + 4], P: i64[N + 4, N + 4], s: i64[4], B: i64[M]):"


@dataclass
class Reductions:
    """Draws the text of a kernel."""

    pick: Pick
    lines: list[str] = field(default_factory=lambda: [HEAD])
    locals: list[str] = field(default_factory=list)
    arrays: list[str] = field(default_factory=list)
    """Locals without initial values."""
    count: int = 0

    def text(self) -> str:
        for name, made in (("t", "kdsl.empty(N + 4, i64)"), ("u", "kdsl.zeros(N + 4, i64)"), ("acc", "0")):
            if self.pick((True, False)):
                self.put(1, f"{name} = {made}")
                (self.arrays if name == "t" else self.locals).append(name)
        for _ in range(self.pick((1, 1, 2))):
            self.loop([], 1)
        for name in self.locals:
            if self.pick((False, False, True)):
                self.put(1, f"s[3] = {name if name == 'acc' else name + '[1]'}")
        return "\n".join(self.lines) + "\n"

    def put(self, depth: int, line: str) -> None:
        self.lines.append("    " * depth + line)

    def loop(self, around: list[str], depth: int) -> None:
        name = "ijklmnopqr"[self.count]
        self.count += 1
        ranges = ["range(N)", "range(N)", "range(2, N)", "range(N - 1)"]
        if around:
            outer = self.pick(around)
            ranges += [f"range({outer})", f"range({outer}, N)", f"range({outer}, min(N, {outer} + 3))"]
        self.put(depth, f"for {name} in {self.pick(ranges)}:")
        around = [*around, name]
        if self.arrays and len(around) < 3 and self.count < 6 and self.pick((True, True, False)):
            self.row("t", around, depth + 1)
        if "u" in self.locals and len(around) < 3 and self.count < 6 and self.pick((True, False)):
            self.row("u", around, depth + 1)
        for _ in range(self.pick((1, 2, 3))):
            if len(around) < 3 and self.count < 7 and self.pick((True, True, False)):
                self.loop(around, depth + 1)
            else:
                self.statement(around, depth + 1)

    def row(self, local: str, around: list[str], depth: int) -> None:
        """Fills a part of a local array and uses that, or of `u` a little more."""
        outer = self.pick(around)
        spans = [("range(N)", "range(N)"), ("range(N)", f"range({outer}, N)"), ("range(2, N)", "range(2, N)")]
        spans += [(f"range({outer})", f"range({outer})")]
        spans += [("range(1, N)", "range(N)")] if local == "u" else []
        first, second = self.pick(spans)
        if self.pick((False, False, True)):
            self.put(depth, f"if X[{outer}] > 1:")
            depth += 1
        for n, span in enumerate((first, second)):
            name = "ijklmnopqr"[self.count]
            self.count += 1
            self.put(depth, f"for {name} in {span}:")
            if n == 0:
                self.put(depth + 1, f"{local}[{name}] = X[{name}] * {outer}")
            if n == 1 or self.pick((False, True)):
                self.put(
                    depth + 1,
                    self.pick((f"Y[{name}] += {local}[{name}]", f"P[{outer}, {name}] = {local}[{name}]")),
                )

    def statement(self, around: list[str], depth: int) -> None:
        if self.pick((False, False, True)):
            a, b = self.pick(around), self.pick(around)
            self.put(depth, f"if {self.pick((f'{a} < {b} + 2', f'{a} >= 2', 'X[' + a + '] > 1'))}:")
            depth += 1
        match self.pick(("reduce", "reduce", "reduce", "fill", "use", "store")):
            case "reduce":
                self.put(depth, self.update(around))
            case "fill" if self.locals:
                self.put(depth, f"{self.local(around)} = {self.value(around)}")
            case "use" if self.locals:
                self.put(depth, f"Y[{self.pick(around)}] = {self.local(around)} + {self.pick(around)}")
            case _:
                self.put(depth, f"P[{self.pick(around)}, {self.pick(around)}] = {self.value(around)}")

    def local(self, around: list[str]) -> str:
        name = self.pick(self.locals)
        i = self.pick(around[::-1])
        return name if name == "acc" else self.pick((f"{name}[{i}]", f"{name}[{i}]", f"{name}[{i} + 1]"))

    def update(self, around: list[str]) -> str:
        i, j = self.pick(around), self.pick(around)
        cells = ["s[0]", "s[1]", f"Y[{i}]", f"Y[{i} + 1]", f"P[{i}, {j}]", f"s[X[{i}] % 4]"]
        if self.locals:
            cells += [self.local(around), self.local(around)]
        cell, value = self.pick(cells), self.value(around)
        return self.pick((f"{cell} += {value}", f"{cell} += {value}", f"{cell} = max({cell}, {value})"))

    def value(self, around: list[str]) -> str:
        i, j = self.pick(around), self.pick(around)
        parts = [f"X[{i}]", f"P[{i}, {j} + 1]", f"X[{j} + 2] * {i}", f"{i} - {j}"]
        if self.locals and self.pick((False, False, True)):
            parts = [self.local(around)]
        return self.pick(parts)
