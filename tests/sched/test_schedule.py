"""The Schedule value: earlier values, equality, text, history, replay."""

from __future__ import annotations

import inspect
from textwrap import dedent
from typing import Any

from kdsl.ir.parser import parse_func
from kdsl.sched import Schedule
from kdsl.sched.primitive import PRIMITIVES
from tests.sched import kernels as k
from tests.sched.check import check_forms, check_schedule, func_of, schedule_of
from tests.sched.page import plain


def test_steps_give_new_values() -> None:
    a = schedule_of(k.matmul)
    b = a.split("i", 4)
    c, d = b.split("j", 4), b.split("j", 8)
    assert [len(s.steps) for s in (a, b, c, d)] == [0, 1, 2, 2]
    assert c != d and b == schedule_of(k.matmul).split("i", 4)
    assert hash(b) == hash(schedule_of(k.matmul).split("i", 4))
    assert len({a, b, c, d, b.split("j", 8)}) == 4
    assert a != "a"


def test_trace() -> None:
    s = schedule_of(k.matmul).tile(["i", "j"], [4, 8], tail="cut").split("k", 4, into=("kk", "kl"))
    assert s.trace() == (
        "def schedule(s):\n"
        '    s = s.tile(["i", "j"], [4, 8], tail="cut")\n'
        '    s = s.split("k", 4, into=["kk", "kl"])\n'
        "    return s\n"
    )
    check_forms(s)


def test_json_is_plain() -> None:
    s = schedule_of(k.axpy).split("i", 4, tail="cut")
    assert '"do": "split"' in s.to_json() and '"tail": "cut"' in s.to_json()
    assert Schedule.from_json(func_of(k.axpy), s.to_json()) == s


def test_the_same_steps_on_another_kernel() -> None:
    s = schedule_of(k.pair).split("i", 4)
    assert "for i_o in range" in str(Schedule.from_json(func_of(k.add), s.to_json()))


def test_history() -> None:
    s = schedule_of(k.axpy).split("i", 4).unroll("i_i")
    shown = s.history()
    assert [step for step, _ in shown] == ["start", 's.split("i", 4)', 's.unroll("i_i")']
    assert str(shown).startswith("# 0: start\ndef axpy(") and "# 2: s.unroll" in str(shown)
    assert shown[-1][1] == str(s)


def test_html() -> None:
    s = schedule_of(k.axpy).split("i", 4).vectorize("i_i").parallel("i_o", unsafe=True)
    text = s._repr_html_()
    assert plain(text).startswith('axpy3 steps# unsafe: s.parallel("i_o", unsafe=True)')
    assert "if i_o * 4 + i_i < N:" in plain(text) and "&lt; " in text
    assert (
        '<span class="role vec">vectorize</span>' in text and '<span class="role par">parallel</span>' in text
    )
    assert text.count("<li>") == 3 and "<script" not in text
    history = s.history()._repr_html_()
    assert history.count("<details") == 5 and plain(history).startswith("axpyhistory of 3 steps")
    assert '<div class="del"><span class="sign">- </span>' in history
    assert plain(schedule_of(k.axpy)._repr_html_()).startswith("axpyno steps yet")


def test_comments_tell_copies_and_large_arrays() -> None:
    s = schedule_of(k.matmul).tile(["i", "j"], [4, 128]).reorder("i_o", "j_o", "k", "i_i", "j_i")
    text = str(s)
    assert parse_func(text) == s.func
    assert [line.split("# ")[1] for line in text.splitlines() if "#" in line] == [
        "2 KiB", "i_i@1", "j_i@1", "i_i@2", "j_i@2"
    ]  # fmt: skip
    assert "#" not in s.ir()


def test_history_shows_what_changes() -> None:
    s = schedule_of(k.pair).split("i", 4, tail="cut").unroll("i_i")
    assert str(s.history()) == dedent("""\
        # 0: start
        def pair(X: i64[N], Y: i64[N], Z: i64[N]):
            for i in range(N):
                Y[i] = X[i] + 1
            for k in range(N):
                Z[k] = Y[k] * 2

        # 1: s.split("i", 4, tail="cut")
          def pair(X: i64[N], Y: i64[N], Z: i64[N]):
        -     for i in range(N):
        -         Y[i] = X[i] + 1
        +     for i_o in range(N // 4):
        +         for i_i in range(4):
        +             Y[i_o * 4 + i_i] = X[i_o * 4 + i_i] + 1
        +     for i_t in range(N // 4 * 4, N):
        +         Y[i_t] = X[i_t] + 1
              for k in range(N):
                  ...

        # 2: s.unroll("i_i")
          ...
              for i_o in range(N // 4):
        -         for i_i in range(4):
        +         for i_i in unroll(range(4)):
                      Y[i_o * 4 + i_i] = X[i_o * 4 + i_i] + 1
              ...

        # the nest after 2 steps
        def pair(X: i64[N], Y: i64[N], Z: i64[N]):
            for i_o in range(N // 4):
                for i_i in unroll(range(4)):
                    Y[i_o * 4 + i_i] = X[i_o * 4 + i_i] + 1
            for i_t in range(N // 4 * 4, N):
                Y[i_t] = X[i_t] + 1
            for k in range(N):
                Z[k] = Y[k] * 2""")


def test_every_primitive_is_a_documented_method() -> None:
    for name, fn in PRIMITIVES.items():
        method: Any = getattr(Schedule, name)
        text = inspect.getdoc(method)
        assert text is not None and text == inspect.getdoc(fn)
        for word in ("before:", "after", "legal:", "known as:"):
            assert word in text, f"{name}: {word}"


def test_numbers_of_other_types_become_integers() -> None:
    import numpy as np

    s = schedule_of(k.axpy)
    assert s.split("i", np.int64(4)) == s.split("i", 4)  # type: ignore[arg-type]


def test_names_that_are_words_of_isl() -> None:
    s = schedule_of(k.triangle).split("j", 4, into=("exists", "mod")).reorder("exists", "i")
    assert "for exists in range((N - 1) // 4 + 1):" in str(s)
    check_forms(s)


def test_locals_of_copies_stay_apart() -> None:
    """Found by random testing: a local that moves out of its loop would meet the one of the remainder."""
    s = check_schedule(k.matmul, lambda s: s.split("j", 4, tail="cut").reorder("k@0", "j_i"))
    assert "            acc: f32[4]\n" in str(s)
