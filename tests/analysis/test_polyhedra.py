"""Domains and access relations as isl sets: what dependence analysis builds on."""

from __future__ import annotations

import pytest

from kdsl.analysis.accesses import Access, collect
from kdsl.analysis.affine import at_least, symbol
from kdsl.analysis.polyhedra import Polyhedra
from kdsl.ir.parser import parse_func

SOURCE = """
def f(A: f32[N, N], B: f32[M]):
    for i in range(0, N, 2):
        for j in range(i):
            k: i64
            k = min(i, j + 1)
            if j != 3:
                A[i, j] = B[k]
"""


@pytest.fixture
def work() -> tuple[Polyhedra, dict[str, Access]]:
    found = collect(parse_func(SOURCE))
    return Polyhedra(found.values), {a.site.buffer: a for a in found.accesses}


def test_domain(work: tuple[Polyhedra, dict[str, Access]]) -> None:
    p, accesses = work
    domain = p.domain(accesses["A"]).set_tuple_name("S")
    exact = "{ S[i, j] : 0 <= i < N and i mod 2 = 0 and 0 <= j < i and j != 3 }"
    ranges = "0 <= N < 140737488355328 and 0 <= M < 140737488355328"
    expected = p.isl.Set(f"[N, M] -> {exact[:-1]} and {ranges} }}", p.context)
    assert domain.intersect_params(p.isl.Set(f"[N, M] -> {{ : {ranges} }}", p.context)).is_equal(expected)


def test_relation(work: tuple[Polyhedra, dict[str, Access]]) -> None:
    p, accesses = work
    relation = p.relation(accesses["B"])
    assert relation.get_tuple_name(p.isl.dim_type.out) == "B"
    read = relation.set_tuple_name(p.isl.dim_type.in_, "S")
    point = p.isl.Set("[N, M] -> { S[4, 1] : N = 6 and M = 9 }", p.context)
    assert (
        read.intersect_domain(point)
        .range()
        .is_equal(p.isl.Set("[N, M] -> { B[2] : N = 6 and M = 9 }", p.context))
    )


def test_work_is_limited(work: tuple[Polyhedra, dict[str, Access]]) -> None:
    p, accesses = work
    assert p.within_limit(lambda: p.domain(accesses["A"]), operations=10) is None
    assert p.within_limit(lambda: p.domain(accesses["A"])) is not None


def test_large_numbers(work: tuple[Polyhedra, dict[str, Access]]) -> None:
    p, _ = work
    assert p.points([at_least(symbol("N") - (1 << 70))]).is_empty()
