"""Random affine nests and rewrites of them, right and wrong, against enumeration at all small sizes.

- Accepted: the same instances, every dependence in order, equal memory.
- Refused: the witness is genuine at its sizes, and nothing smaller in the sum of sizes shows the same pair.
- Affine programs are never "not proved".
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdsl.analysis.dependence import Origin, Unproved, Violation, check_mark, check_rewrite
from kdsl.ir.nodes import Func, Loop
from kdsl.ir.parser import parse_func
from kdsl.ir.walk import stmts
from tests.analysis.rewriting import Entry, leaves, origins
from tests.analysis.running import Instance, conflict, evaluate, instances, run, run_lockstep

HEADER = "def f(A: f32[M + N], B: f32[M, N]):\n"
VARS = ("i", "j", "k")
QUICK = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@dataclass(frozen=True)
class Nest:
    """A perfect nest: for each loop (variable, lo, hi), and statements."""

    loops: tuple[tuple[str, str, str], ...]
    body: tuple[str, ...]

    def text(self, indent: int = 1) -> str:
        out = ""
        for var, lo, hi in self.loops:
            out += "    " * indent + f"for {var} in range({lo}, {hi}):\n"
            indent += 1
        return out + "".join("    " * indent + line + "\n" for line in self.body)


@st.composite
def indices(draw: st.DrawFn, names: tuple[str, ...]) -> str:
    terms = [draw(st.sampled_from(names))]
    kind = draw(st.integers(0, 5))
    if kind == 0:
        terms = []
    elif kind == 1:
        terms.append(draw(st.sampled_from(("+", "-"))) + " " + draw(st.sampled_from(names)))
    elif kind == 2:
        terms = ["2 *", *terms]
    elif kind == 3:
        terms = ["M -", *terms]
    offset = draw(st.integers(-1, 1))
    return " ".join([*terms, f"+ {offset}" if terms else str(offset)])


@st.composite
def statements(draw: st.DrawFn, names: tuple[str, ...]) -> str:
    index = indices(names)

    def access() -> str:
        if draw(st.booleans()):
            return f"A[{draw(index)}]"
        return f"B[{draw(index)}, {draw(index)}]"

    op = draw(st.sampled_from(("=", "=", "+=", "+=", "max")))
    target = access()
    value = " * ".join([access() for _ in range(draw(st.integers(0, 2)))] or ["1.0"])
    if op == "max":
        return f"{target} = max({target}, {value})"
    if op == "=":
        return f"{target} = store({value})" if value == target else f"{target} = {value} * 3.0"
    return f"{target} += {value}"


@st.composite
def nests(draw: st.DrawFn, depth: int, statements_in_it: int) -> Nest:
    loops: list[tuple[str, str, str]] = []
    for n in range(depth):
        outer = [v for v, _, _ in loops]
        lo = draw(st.sampled_from(("0", "0", "1", *outer, *[f"{v} + 1" for v in outer])))
        hi = draw(st.sampled_from(("M", "N", "3", *outer, *[f"{v} + 2" for v in outer])))
        loops.append((VARS[n], lo, hi))
    names = VARS[:depth]
    body = tuple([draw(statements(names)) for _ in range(statements_in_it)])
    return Nest(tuple(loops), body)


def renamed(text: str, values: dict[str, str]) -> str:
    """`text` with variables replaced (all at once)."""
    out = word = ""
    for c in text + " ":
        if c.isalnum() or c == "_":
            word += c
        else:
            out += values.get(word, word) + c
            word = ""
    return out[:-1]


@st.composite
def rewrites(draw: st.DrawFn) -> tuple[str, str, list[Entry]]:
    """Two texts and the origins of the second's leaves."""
    kind = draw(st.sampled_from(("one", "one", "fission", "fusion", "swap")))
    depth = draw(st.integers(1, 3))
    if kind in ("one", "fission"):
        nest = draw(nests(depth, 2 if kind == "fission" else draw(st.integers(1, 2))))
        before = HEADER + nest.text()
        if kind == "one":
            parts, entries = transformed(draw, nest, list(range(len(nest.body))))
            return before, HEADER + parts, entries
        order = draw(st.permutations([0, 1]))
        text, entries = "", []
        for n in order:
            part, own = transformed(draw, Nest(nest.loops, (nest.body[n],)), [n])
            text, entries = text + part, entries + own
        return before, HEADER + text, entries
    depth = min(depth, 2)
    first, second = draw(nests(depth, 1)), draw(nests(depth, 1))
    if draw(st.booleans()):
        second = Nest(first.loops, second.body)
    before = HEADER + first.text() + second.text()
    same = ", ".join(VARS[:depth])
    if kind == "swap":
        return before, HEADER + second.text() + first.text(), [(1, same), (0, same)]
    shift = draw(st.sampled_from((0, 0, 1)))
    moved = renamed(second.body[0], {"i": f"(i - {shift})"}) if shift else second.body[0]
    line = f"if i >= {shift}:\n" + "    " * (depth + 2) + moved if shift else moved
    loops = first.loops
    if shift:
        var, lo, hi = loops[0]
        loops = ((var, lo, f"{hi} + {shift}"), *loops[1:])
    fused = Nest(loops, (first.body[0], line))
    entries = [(0, same), (1, ", ".join([f"i - {shift}" if shift else "i", *VARS[1:depth]]))]
    return before, HEADER + fused.text(), entries


def transformed(draw: st.DrawFn, nest: Nest, numbers: list[int]) -> tuple[str, list[Entry]]:
    """The nest with loops permuted, one reversed and one split, perhaps wrongly."""
    loops = list(nest.loops)
    values = {v: v for v, _, _ in loops}
    if draw(st.integers(0, 2)) == 0:
        n = draw(st.integers(0, len(loops) - 1))
        var, lo, hi = loops[n]
        # The variable counts down: v = lo - v' + hi - 1.
        values[var] = f"({lo} - {var} + {hi} - 1)"
        loops[n + 1 :] = [(v, renamed(a, values), renamed(b, values)) for v, a, b in loops[n + 1 :]]
    guards: list[str] = []
    if draw(st.integers(0, 2)) == 0:
        n = draw(st.integers(0, len(loops) - 1))
        var, lo, hi = loops[n]
        whole = f"({lo} + {var}_o * 2 + {var}_i)"
        guards.append(f"{whole} < {hi}" if draw(st.integers(0, 4)) else f"{whole} <= {hi}")
        inner = {v: whole if v == var else v for v in values}
        values = {v: renamed(text, inner) for v, text in values.items()}
        rest = [(v, renamed(a, inner), renamed(b, inner)) for v, a, b in loops[n + 1 :]]
        loops[n:] = [(f"{var}_o", "0", f"({hi} - {lo} + 1) // 2"), (f"{var}_i", "0", "2"), *rest]
    if draw(st.booleans()):
        for _ in range(4):
            order = draw(st.permutations(loops))
            if well_scoped(order):
                loops = list(order)
                break
    text, indent = "", 1
    for var, lo, hi in loops:
        text += "    " * indent + f"for {var} in range({lo}, {hi}):\n"
        indent += 1
    for guard in guards:
        text += "    " * indent + f"if {guard}:\n"
        indent += 1
    for line in nest.body:
        text += "    " * indent + renamed(line, values) + "\n"
    iters = ", ".join(values[v] for v, _, _ in nest.loops)
    return text, [(n, iters) for n in numbers]


def well_scoped(loops: list[tuple[str, str, str]]) -> bool:
    seen: set[str] = set()
    names = {v for v, _, _ in loops}
    for var, lo, hi in loops:
        used = {w for text in (lo, hi) for w in names if w in words(text)}
        if not used <= seen:
            return False
        seen.add(var)
    return True


def words(text: str) -> list[str]:
    return "".join(c if c.isalnum() or c == "_" else " " for c in text).split()


def original(x: Instance, sources: dict[int, Origin]) -> tuple[int, tuple[int, ...]]:
    """The instance of the original that `x` is."""
    origin = sources[x.stmt.id]
    return origin.stmt, tuple([evaluate(e, x.env) for _, e in origin.iters])


def own(x: Instance, func: Func) -> tuple[int, tuple[int, ...]]:
    return x.stmt.id, tuple([x.env[v] for v in VARS if v in x.env])


@QUICK
@given(rewrites())
def test_rewrites(case: tuple[str, str, list[Entry]]) -> None:
    before, after = parse_func(case[0], "<before>"), parse_func(case[1], "<after>")
    sources = origins(before, after, case[2])
    verdict = check_rewrite(before, after, sources)
    if isinstance(verdict, Violation):
        genuine(verdict, before, after, sources)
        return
    assert verdict is None, verdict
    for m, n in product(range(4), repeat=2):
        sizes = {"M": m, "N": n}
        old, new = list(instances(before, sizes)), list(instances(after, sizes))
        assert sorted(own(x, before) for x in old) == sorted(original(x, sources) for x in new), sizes
        at = {original(x, sources): place for place, x in enumerate(new)}
        for place, a in enumerate(old):
            for b in old[place + 1 :]:
                if conflict(a, b):
                    assert at[own(a, before)] < at[own(b, before)], (sizes, a, b)
        assert run(old) == run(new), sizes


def genuine(v: Violation, before: Func, after: Func, sources: dict[int, Origin]) -> None:
    """The witness is what it says."""
    old, new = list(instances(before, v.sizes)), list(instances(after, v.sizes))
    ran = [own(x, before) for x in old]
    runs = [original(x, sources) for x in new]
    lines = {s.id: s.loc for s in leaves(before)}

    def named(loc: object, iters: dict[str, int]) -> list[tuple[int, tuple[int, ...]]]:
        found = {x for x in {*ran, *runs} if x[1] == tuple(iters.values())}
        return [x for x in found if loc is None or lines[x[0]].line == loc.line]  # type: ignore[union-attr, attr-defined]

    firsts, seconds = named(v.first, v.first_iter), named(v.second, v.second_iter)
    match v.kind:
        case "lost":
            assert any(x in ran and x not in runs for x in firsts), v
        case "added":
            assert any(x not in ran and x in runs for x in firsts), v
        case "doubled":
            assert any(runs.count(x) > 1 for x in firsts), v
        case _:
            cells = [
                (a, b)
                for a, b in product(firsts, seconds)
                if ran.index(a) < ran.index(b) and runs.index(a) > runs.index(b)
            ]
            assert cells, v
            cell = (v.buffer, *v.cell)
            by_name = dict(zip(ran, old))
            assert any(
                cell in (*by_name[a].reads(), by_name[a].cell())
                and cell in (*by_name[b].reads(), by_name[b].cell())
                and conflict(by_name[a], by_name[b])
                for a, b in cells
            ), v


@st.composite
def marked(draw: st.DrawFn) -> tuple[str, str, int | None]:
    depth = draw(st.integers(1, 3))
    nest = draw(nests(depth, draw(st.integers(1, 2))))
    loops = []
    for var, lo, hi in nest.loops:
        step = draw(st.sampled_from((1, 1, 2, -1, -2)))
        loops.append((var, lo, f"{hi}, {step}") if step > 0 else (var, f"{hi} - 1", f"{lo} - 1, {step}"))
    return (
        HEADER + Nest(tuple(loops), nest.body).text(),
        draw(st.sampled_from(VARS[:depth])),
        draw(st.sampled_from((None, 2, 3))),
    )


@QUICK
@given(marked())
def test_marks(case: tuple[str, str, int | None]) -> None:
    source, var, lanes = case
    func = parse_func(source, "<before>")
    loop = next(s for s in stmts(func.body) if isinstance(s, Loop) and s.var == var)
    depth = VARS.index(var) + 1
    race = check_mark(func, loop.id, "parallel")
    vector = check_mark(func, loop.id, "vectorize", lanes)
    assert race is None or isinstance(race, Violation)
    if isinstance(vector, Unproved):
        assert "starts at another value" in vector.reason
    racing = False
    for m, n in product(range(4), repeat=2):
        sizes = {"M": m, "N": n}
        order = list(instances(func, sizes))
        if vector is None:
            assert run(order) == run_lockstep(func, sizes, depth, lanes, loop), sizes
        racing = racing or any(
            a.path[: 2 * depth - 1] == b.path[: 2 * depth - 1]
            and a.env[var] != b.env[var]
            and conflict(a, b, strict=True)
            for k, a in enumerate(order)
            for b in order[k + 1 :]
        )
    if racing:
        assert race is not None
    if race is not None:
        order = list(instances(func, race.sizes))
        names = VARS[: len(race.first_iter)]
        firsts = [x for x in order if all(x.env[v] == race.first_iter[v] for v in names)]
        seconds = [x for x in order if all(x.env[v] == race.second_iter[v] for v in names)]
        assert race.first_iter[var] != race.second_iter[var]
        assert any(conflict(a, b, strict=True) for a, b in product(firsts, seconds)), race
