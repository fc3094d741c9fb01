"""Finding a function's text, and its annotations, wherever it was defined."""

from __future__ import annotations

import linecache
from textwrap import dedent

import pytest

from kdsl.dtypes import ArrayType, constexpr, f32, f64, i32, sizes, typevar
from kdsl.errors import CompileError
from kdsl.frontend_ast import (
    MISSING,
    ArrayArg,
    KernelSource,
    ScalarArg,
    SignatureConflict,
    resolve_params,
)

N = sizes("N")
T = typevar("T", f32, f64)


def define(text: str, filename: str = "<cell 1>"):
    text = dedent(text)
    linecache.cache[filename] = (len(text), None, text.splitlines(True), filename)
    scope: dict[str, object] = {"f32": f32, "N": N}
    exec(compile(text, filename, "exec"), scope)
    return scope["k"]


def test_block_ends_despite_text_at_the_left():
    k = define('''
        def k(A: f32[N],
        B: f32[N]):
            """Text
        at the left
            """
            A[0] = (1
        + 2)

            # a comment

        x = 1
        ''')
    source = KernelSource(k)
    assert [p.name for p in source.params] == ["A", "B"]
    assert source.text.rstrip().endswith("+ 2)")
    assert len(source.node.body) == 2


def test_annotations_as_text_with_local_names():
    L = sizes("L")
    g = typevar("g", f32)

    def k(A: f32[L + 1], B: g[L], n: i32 = 3, block: constexpr = 4) -> f32[L]:
        pass

    source = KernelSource(k)
    assert isinstance(source.params[0].annotation, ArrayType)
    assert repr(source.params[0].annotation) == "f32[L + 1]"
    assert repr(source.params[1].annotation) == "g[L]"
    assert [p.default for p in source.params] == [MISSING, MISSING, 3, 4]
    assert source.params[3].annotation is constexpr
    assert repr(source.returns) == "f32[L]"


def test_no_source():
    scope: dict[str, object] = {}
    exec("def k(A):\n    pass\n", scope)
    with pytest.raises(CompileError, match="K0103"):
        KernelSource(scope["k"])  # type: ignore[arg-type]


def test_type_variables():
    def k(A: T[N], s: T, B: T[N]):
        pass

    source = KernelSource(k)
    good = resolve_params(source, (ArrayArg(f64, 1), ScalarArg(f64), ArrayArg(f64, 1)))
    assert good.types == {"T": f64}
    assert repr(good.params[2].annotation) == "f64[N]"
    with pytest.raises(SignatureConflict) as caught:
        resolve_params(source, (ArrayArg(f64, 1), ScalarArg(f64), ArrayArg(f32, 1)))
    assert caught.value.param.name == "B"
    assert caught.value.title == "`B` is f32, but T is f64 from `A`"


def test_tabs_keep_columns():
    k = define("def k(A: f32[N]):\n\tif A[0]:\n\t\treturn 1 + A\n", "<tabs>")
    node = KernelSource(k).node.body[0]
    assert KernelSource(k).origin.loc(node).col == 1
