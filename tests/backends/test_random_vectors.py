"""Random bodies of vector loops, each lane on its own cells: compiled in lockstep = interpreted in order."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kdsl.ir.nodes import Func
from kdsl.ir.parser import parse_func
from tests.backends.harness import agree

PARAMS = "A: f32[32], B: i64[32], C: f32[2, 32], D: i64[2, 32], s: f32, M: i64"


class Program:
    """Statements over the locals `x y` (f32), `n m` (i64) and `T` (i64[3]); `j` is the lane."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.loops = 0
        self.vars = ["j", "M"]

    def pick(self, *choices: str) -> str:
        return self.random.choice(choices)

    def whole(self, depth: int = 2) -> str:
        """An i64."""
        if depth == 0:
            number = f"i64({self.random.randint(-3, 9)})"
            return self.pick("n", "m", "B[j]", "B[31 - j]", "D[0, j]", number, *self.vars)
        a, b = self.whole(depth - 1), self.whole(depth - 1)
        return self.pick(
            f"({a} + {b})",
            f"({a} - {b})",
            f"({a} * {b} & 255)",
            f"min({a}, {b})",
            f"B[({a} & 31)]",
            f"T[({a} & 1) + 1]",
            f"T[{self.random.randint(0, 2)}]",
            f"({a} // {b} if {b} != 0 else {a})",
            f"({a} if {self.test(depth - 1)} else {b})",
            f"({a} % {b} if {b} > 0 and {self.test(0)} else B[{a} & 15])",
            a,
        )

    def real(self, depth: int = 2) -> str:
        """An f32 of moderate size."""
        if depth == 0:
            return self.pick("x", "y", "s", "A[j]", "A[j // 2]", "C[1, j]", "f32(0.5)", "A[2 * j % 32]")
        a, b = self.real(depth - 1), self.real(depth - 1)
        return self.pick(
            f"({a} + {b}) * f32(0.5)",
            f"min({a}, {b})",
            f"abs({a} - {b})",
            f"A[{self.whole(depth - 1)} & 31]",
            f"f32({self.whole(depth - 1)} & 7)",
            f"({a} if {self.test(depth - 1)} else {b})",
            a,
        )

    def test(self, depth: int = 1) -> str:
        """A bool_."""
        if depth == 0:
            return self.pick("n > m", "x > s", "B[j] > 2", "M > 2", "j < M", "n != 0", "A[j] > y")
        return self.pick(
            f"{self.whole(1)} <= {self.whole(1)}",
            f"{self.real(1)} < {self.real(1)}",
            f"({self.test(0)} and B[{self.whole(1)} & 31] > 1)",
            f"(not {self.test(0)} or {self.test(0)})",
            self.test(0),
        )

    def simple(self) -> str:
        return self.pick(
            f"x = store({self.real()})",
            f"y = store({self.real()})",
            f"n = store({self.whole()} & 63)",
            f"m = store({self.whole()} & 63)",
            f"x += {self.real(1)} * f32(0.25)",
            f"n += {self.whole(1)} & 3",
            f"C[{self.random.randint(0, 1)}, j] = store({self.real()})",
            f"D[0, j] = store({self.whole()})",
            f"D[1, 31 - j] += {self.whole()}",
            f"T[{self.random.randint(0, 2)}] = store({self.whole()})",
            f"T[{self.whole(1)} & 1] = store({self.whole()})",
        )

    def body(self, depth: int, looping: bool) -> list[str]:
        lines = []
        for _ in range(self.random.randint(1, 3)):
            lines += self.statement(depth, looping)
        return lines

    def nested(self, head: str, depth: int, looping: bool) -> list[str]:
        return [head, *["    " + line for line in self.body(depth - 1, looping)]]

    def statement(self, depth: int, looping: bool) -> list[str]:
        kind = self.random.random()
        if depth == 0 or kind < 0.4:
            if looping and self.random.random() < 0.3:
                return [f"if {self.test()}:", "    " + self.pick("break", "continue")]
            return [self.simple()]
        if kind < 0.7:
            lines = self.nested(f"if {self.test()}:", depth, looping)
            return lines + (self.nested("else:", depth, looping) if self.random.random() < 0.5 else [])
        self.loops += 1
        var = f"k{self.loops}"
        bounds = self.pick(
            "3", "M", f"{self.whole(1)} & 3", "j & 3, 4", f"5, {self.whole(1)} & 7, -2", "0, 4, 2"
        )
        self.vars.append(var)
        lines = self.nested(f"for {var} in range({bounds}):", depth, True)
        self.vars.remove(var)
        return lines

    def func(self, lanes: int) -> Func:
        body = self.body(3, False)
        lines = ["x: f32", "y: f32", "n: i64", "m: i64", "T: i64[3]", "x = A[j]", "y = s", "n = j", "m = M"]
        lines += [f"T[{n}] = {n}" for n in range(3)]
        text = "\n".join("        " + line for line in [*lines, *body, "C[0, j] = x + y", "D[0, j] = n + m"])
        head = f"@options(strict=True)\ndef f({PARAMS}):\n    for j in vectorize(range({lanes})):\n"
        return parse_func(head + text)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**9), st.sampled_from((1, 3, 8, 16, 32)))
def test_random_bodies(seed: int, lanes: int) -> None:
    func = Program(seed).func(lanes)
    rng = np.random.default_rng(seed)
    arguments = {
        "A": rng.random(32, "f4"),
        "B": rng.integers(-2, 6, 32),
        "C": rng.random((2, 32), "f4"),
        "D": rng.integers(0, 9, (2, 32)),
        "s": np.float32(rng.random()),
        "M": int(rng.integers(0, 6)),
    }
    agree(func, arguments, {})
