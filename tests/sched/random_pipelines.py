"""Random chains of local arrays as text: each stage makes one of those before it, the last one writes arrays.

Arrays are larger than all subscripts made here. Some stages are recurrences, or write what others read.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.sched.random_programs import Pick

HEAD = "@kdsl.kernel\ndef program(X: i64[N + 6], Y: i64[N + 6], A: i64[N + 6, M + 6], B: i64[N + 6, M + 6]):"


@dataclass
class Pipeline:
    """Draws the text of a kernel. `ranks` gives the arrays that may be read, `room` how far a loop stays from
    the last element."""

    pick: Pick
    lines: list[str] = field(default_factory=lambda: [HEAD])
    ranks: dict[str, int] = field(default_factory=lambda: {"X": 1, "A": 2})
    room: dict[str, int] = field(default_factory=dict)
    count: int = 0

    def text(self) -> str:
        for n in range(self.pick((1, 2, 3))):
            rank = self.pick((1, 2))
            shape = "N + 6" if rank == 1 else "(N + 6, M + 6)"
            made = self.pick(("zeros", "zeros", "zeros", "empty"))
            self.put(1, f"T{n} = kdsl.{made}({shape}, i64)")
            self.stage(f"T{n}", rank)
            if self.pick((False, False, True)):
                self.stage(f"T{n}", rank)
            self.ranks[f"T{n}"] = rank
            if self.pick((False, False, False, True)):
                self.stage("X", 1)
        for _ in range(self.pick((1, 1, 2))):
            name, rank = self.pick((("Y", 1), ("B", 2), ("X", 1), ("A", 2)))
            self.stage(name, rank)
        return "\n".join(self.lines) + "\n"

    def put(self, depth: int, line: str) -> None:
        self.lines.append("    " * depth + line)

    def loop(self, depth: int, around: list[str]) -> str:
        name = f"i{self.count}"
        self.count += 1
        size = "N" if not around else "M"
        plain = [(f"range({size} + 6)", 0)] * 4 + [(f"range({size} + 4)", 2)]
        plain += [
            (f"range(1, {size} + 3)", 3),
            (f"range({size} + 5, -1, -1)", 0),
            (f"range(0, {size} + 6, 2)", 0),
        ]
        if around:
            plain += [(f"range(min({around[0]} + 1, M + 6))", 0), (f"range(min({around[0]}, M), M + 6)", 0)]
        text, self.room[name] = self.pick(plain)
        self.put(depth, f"for {name} in {text}:")
        return name

    def stage(self, name: str, rank: int) -> None:
        loops: list[str] = []
        for depth in range(rank):
            loops.append(self.loop(1 + depth, loops))
        cell = f"{name}[{', '.join(self.target(v, 'NM'[n]) for n, v in enumerate(loops))}]"
        depth = 1 + rank
        kind = self.pick(("plain", "plain", "plain", "local", "branches", "sum", "steps", "guard"))
        match kind:
            case "local":
                self.put(depth, f"t{self.count} = {self.value(loops)}")
                self.put(depth, f"{cell} = t{self.count} * 2 + t{self.count}")
            case "branches":
                self.put(depth, f"if {self.condition(loops)}:")
                self.put(depth + 1, f"{cell} = {self.value(loops)}")
                self.put(depth, "else:")
                self.put(depth + 1, f"{cell} = {self.pick(('7', self.value(loops)))}")
            case "sum":
                acc = f"t{self.count}"
                self.put(depth, f"{acc} = 0")
                self.put(depth, f"for k{self.count} in range(3):")
                self.put(depth + 1, f"{acc} += {self.value(loops)} + k{self.count}")
                self.put(depth, f"{cell} = {acc}")
            case "steps":
                self.put(depth, f"{cell} = {self.value(loops)}")
                self.put(depth, f"{cell} += {self.value(loops)}")
            case "guard":
                self.put(depth, f"if {self.condition(loops)}:")
                self.put(depth + 1, f"{cell} = {self.value(loops)}")
            case _:
                self.put(depth, f"{cell} = {self.value(loops)}")

    def target(self, v: str, size: str) -> str:
        return self.pick((v, v, v, v, f"{size} + 5 - {v}", f"{v} // 2"))

    def condition(self, loops: list[str]) -> str:
        v = self.pick(loops)
        return self.pick((f"{v} > 1", f"1 <= {v} and {v} < N", f"{v} % 2 == 0", f"{self.read(loops)} > 1"))

    def value(self, loops: list[str]) -> str:
        one, two = self.read(loops), self.read(loops)
        return self.pick((f"{one} + {two}", f"{one} * 2 - {two}", one, f"{one} + {loops[0]}"))

    def read(self, loops: list[str]) -> str:
        names = list(self.ranks)[::-1]
        name = self.pick(names[:1] * 5 + names)
        if self.ranks[name] == len(loops):
            subscripts = [self.own(v, size) for v, size in zip(loops, "NM")]
        else:
            subscripts = [self.foreign(self.pick(loops), size) for size in "NM"[: self.ranks[name]]]
        return f"{name}[{', '.join(subscripts)}]"

    def own(self, v: str, size: str) -> str:
        """An index made of the loop over that dimension."""
        c = self.pick((0, 0, *range(self.room[v] + 1)))
        near = f"{v} + {c}" if c else v
        clamps = f"min({v} + 1, {size} + 5)", f"max({v} - 1, 0)"
        return self.pick((near, near, near, *clamps, f"{size} + 5 - {v}", f"{v} // 2"))

    def foreign(self, v: str, size: str) -> str:
        """An index made of a loop over another dimension."""
        c = self.pick((0, 1, 2))
        return self.pick((f"min({v} + {c}, {size} + 5)", f"min({v}, {size} + 3) + {c}", str(c)))
