"""What is seen from loops and subscripts alone is what isl finds: the same verdicts with it and without."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from kdsl.analysis import answers, dependence
from kdsl.analysis.dependence import Unproved, Violation, check_mark, check_rewrite
from kdsl.analysis.linear import extent
from kdsl.analysis.marks import MarkCheck
from kdsl.analysis.matching import Matching
from kdsl.analysis.rewrites import RewriteCheck
from kdsl.analysis.slices import affected, sliced
from kdsl.analysis.storage import StorageCheck
from kdsl.errors import ScheduleError
from kdsl.ir.nodes import Alloc, Loop, Mark, Store
from kdsl.ir.parser import parse_func
from kdsl.ir.printer import print_func, print_head
from kdsl.ir.walk import stmts
from kdsl.sched.rewriting.tree import replaced
from tests.sched.random_programs import Program, step
from tests.sched.test_random import start_of

SEEDS = int(os.environ.get("KDSL_SHORTCUT_SEEDS", "60"))


@contextmanager
def computed() -> Iterator[None]:
    """All questions go to isl, whole, and none is remembered."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RewriteCheck, "turned", lambda *_: None)
        patch.setattr(Matching, "alone", lambda *_: False)
        patch.setattr(StorageCheck, "kept", lambda *_: False)
        patch.setattr(MarkCheck, "never", lambda *_: False)
        patch.setattr(dependence, "sliced", lambda func, _: func)
        patch.setattr(dependence, "rewritten", lambda *_: None)
        yield


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is remembered."""

    def once(kind: str, details: str, funcs: Any, answer: Any) -> Any:
        return answer()

    monkeypatch.setattr(dependence, "_once", once)
    monkeypatch.setattr(answers, "_find", lambda: None)


def alike(short: Any, long: Any) -> bool:
    """The same verdict; a slice may be proved where the whole is too much, and may show another violation."""
    if short is None:
        return long is None or isinstance(long, Unproved)
    return bool(short == long) or (isinstance(short, Violation) and isinstance(long, Violation))


def both_ways(question: Any) -> Any:
    """`question` as a function that is asked twice, and has to give one verdict."""

    def asked(*args: Any) -> Any:
        short = question(*args)
        with computed():
            long = question(*args)
        assert alike(short, long), (short, long, *[print_func(a) for a in args if hasattr(a, "params")])
        return short

    return asked


@pytest.mark.parametrize("batch", range(4))
def test_random_schedules_get_the_verdicts_of_isl(
    batch: int, monkeypatch: pytest.MonkeyPatch, forgetful: None
) -> None:
    monkeypatch.setattr(dependence, "check_rewrite", both_ways(check_rewrite))
    monkeypatch.setattr(dependence, "check_mark", both_ways(check_mark))
    for seed in range(batch, SEEDS, 4):
        pick = random.Random(seed).choice
        s = start_of(Program(pick, rich=bool(seed % 3)).text())
        if s is None:
            continue
        for _ in range(8):
            try:
                s = step(pick, s)
            except ScheduleError:
                continue
        for x in stmts(s.func.body):
            if isinstance(x, Loop) and x.mark is not None and not x.mark.unsafe:
                if x.mark.kind in ("parallel", "vectorize", "bind"):
                    lanes = extent(x) if x.mark.kind == "vectorize" else None
                    assert dependence.check_mark(s.func, x.id, x.mark.kind, lanes) is None
            elif isinstance(x, Loop):
                dependence.check_mark(s.func, x.id, "parallel")
                dependence.check_mark(s.func, x.id, "vectorize", pick((None, 3)))


NESTS = """
def f(A: f32[M, N], B: f32[M, N], I: i64[M]):
    n: i64
    n = I[0]
    w: f32
    w = B[0, 0]
    for i in range(M):
        for j in range(n):
            A[i, j] = B[i, j]
        for k in range(N):
            B[i, k] = A[i, k] * w
"""


def test_a_slice_has_what_decides_and_nothing_else() -> None:
    func = parse_func(NESTS)
    names = {x.var: x.id for x in stmts(func.body) if isinstance(x, Loop)}
    assert [print_head(x) for x in stmts(sliced(func, names["j"]).body)] == [
        "n: i64",
        "n = I[0]",
        "for i in range(M):",
        "for j in range(n):",
        "A[i, j] = B[i, j]",
    ]
    assert [print_head(x) for x in stmts(sliced(func, names["k"]).body)] == [
        "w: f32",
        "for i in range(M):",
        "for k in range(N):",
        "B[i, k] = A[i, k] * w",
    ]
    ids = {x.id for x in stmts(func.body)}
    assert all(x.id in ids for x in stmts(sliced(func, names["k"]).body))


def test_what_a_rewrite_affects() -> None:
    """What is in the loop that changed and around it; everything where numbers come from may change."""
    func = parse_func(NESTS)
    names = {x.var: x.id for x in stmts(func.body) if isinstance(x, Loop)}
    loop = next(x for x in stmts(func.body) if x.id == names["k"])
    changed = affected(func, replaced(func, {loop.id: (replace(loop, mark=Mark("parallel")),)}))
    assert changed is not None and {names["i"], names["k"]} <= changed and names["j"] not in changed
    store = next(x for x in stmts(func.body) if isinstance(x, Store) and x.buffer == "n")
    assert affected(func, replaced(func, {store.id: (store, store)})) is None
    made = next(x for x in stmts(func.body) if isinstance(x, Alloc) and x.name == "w")
    assert affected(func, replaced(func, {made.id: (replace(made, memory="register"),)})) is None


def test_questions_about_one_nest_are_one_question_whatever_the_others_become() -> None:
    func = parse_func(NESTS)
    other = parse_func(NESTS.replace("A[i, j] = B[i, j]", "A[i, j] = B[i, j] + 1.0"))
    texts = []
    for f in (func, other):
        loop = next(x.id for x in stmts(f.body) if isinstance(x, Loop) and x.var == "k")
        texts.append(print_func(sliced(f, loop)))
    assert texts[0] == texts[1]
