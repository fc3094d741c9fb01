"""The emitted assembly: one golden text, and what LLVM makes of it where speed hangs on it."""

from __future__ import annotations

import numpy as np
import pytest

from kdsl.backends.llvm import asm_text, host_target, llvm_text
from kdsl.dtypes import Size, bf16, f16, f32, i32
from kdsl.ir.nodes import Call, Compare, Expr, Func, Options, ScalarParam, Select, Var
from tests.backends.harness import N, accumulate, add, array, at, const, elementwise, loop, mul, put, run, var
from tests.backends.test_statements import gather, matmul

GOLDEN = """\
; kernel saxpy
source_filename = "saxpy"


define i64 @kernel.saxpy(ptr noundef nonnull %frame) #0 {
entry:
  %table.slot = getelementptr i8, ptr %frame, i64 16
  %table = load ptr, ptr %table.slot, align 8
  br label %start
start:
  %v1 = getelementptr i8, ptr %frame, i64 48
  %N.2 = load i64, ptr %v1, align 8, !range !1, !invariant.load !2, !noundef !2
  %v3 = getelementptr i8, ptr %frame, i64 24
  %v4 = load float, ptr %v3, align 8, !invariant.load !2, !noundef !2
  %v5 = getelementptr i8, ptr %frame, i64 32
  %x.6 = load ptr, ptr %v5, align 8, !invariant.load !2, !noundef !2
  %v7 = getelementptr i8, ptr %frame, i64 40
  %y.8 = load ptr, ptr %v7, align 8, !invariant.load !2, !noundef !2
  %v10 = icmp slt i64 0, %N.2
  br i1 %v10, label %i.9.body, label %i.9.end
i.9.body:
  %i.9 = phi i64 [ 0, %start ], [ %i.9.next, %i.9.back ]
  %v11 = getelementptr inbounds float, ptr %x.6, i64 %i.9
  %v12 = load float, ptr %v11, align 4, !alias.scope !6, !noalias !7
  %v13 = fmul contract float %v4, %v12
  %v14 = getelementptr inbounds float, ptr %y.8, i64 %i.9
  %v15 = load float, ptr %v14, align 4, !alias.scope !8, !noalias !9
  %v16 = fadd contract float %v15, %v13
  store float %v16, ptr %v14, align 4, !alias.scope !8, !noalias !9
  br label %i.9.latch
i.9.latch:
  br label %i.9.back
i.9.back:
  %i.9.next = add nuw nsw i64 %i.9, 1
  %v17 = icmp slt i64 %i.9.next, %N.2
  br i1 %v17, label %i.9.body, label %i.9.end
i.9.end:
  br label %leave
leave:
  %code = phi i64 [ 0, %i.9.end ]
  ret i64 %code
}

define i64 @kernel.saxpy.check(ptr noundef nonnull %frame) #0 {
entry:
  br label %start
start:
  %v1 = getelementptr i8, ptr %frame, i64 48
  %N.2 = load i64, ptr %v1, align 8, !range !1, !invariant.load !2, !noundef !2
  %v3 = getelementptr i8, ptr %frame, i64 24
  %v4 = load float, ptr %v3, align 8, !invariant.load !2, !noundef !2
  br label %leave
leave:
  %code = phi i64 [ 0, %start ]
  ret i64 %code
}


attributes #0 = { nounwind "no-trapping-math"="true" }
!0 = !{!"branch_weights", i32 1048575, i32 1}
!1 = !{i64 0, i64 140737488355328}
!2 = !{}
!3 = distinct !{!3, !"kernel"}
!4 = distinct !{!4, !3, !"x"}
!5 = distinct !{!5, !3, !"y"}
!6 = !{!4}
!7 = !{!5}
!8 = !{!5}
!9 = !{!4}
"""


def saxpy() -> Func:
    i = var("i")
    params = (ScalarParam("a", f32), array("x", f32, N), array("y", f32, N, written=True))
    term = mul(Var("a", f32), at("x", f32, i))
    return Func("saxpy", params, (loop("i", var("N"), accumulate("+", "y", term, i)),), ("N",))


def test_golden() -> None:
    assert llvm_text(saxpy(), host_target(), optimised=False) == GOLDEN


def _vectorised(func: Func) -> bool:
    return any(f" x {t}>" in llvm_text(func, host_target()) for t in ("float", "half", "i32"))


I = var("i")  # noqa: E741


@pytest.mark.parametrize(
    "e",
    (
        add(mul(at("a", f32, I), at("b", f32, I)), at("b", f32, I)),
        Select(
            Compare("<", at("a", f32, I), const(0.5, f32)),
            at("a", f32, I),
            Call("sqrt", (at("a", f32, I),), f32),
        ),
        Call("maximum", (at("a", f32, I), at("b", f32, I)), f32),
    ),
    ids=("sum", "select", "maximum"),
)
def test_elementwise_loops_vectorise_without_run_time_checks(e: Expr) -> None:
    func = elementwise("simple", {"a": f32, "b": f32}, {"o": e})
    assert _vectorised(func) and "vector.memcheck" not in llvm_text(func, host_target())


@pytest.mark.parametrize("t", (f16, bf16), ids=repr)
def test_narrow_floats_vectorise(t: object) -> None:
    e = add(at("a", t, I), at("b", t, I))  # type: ignore[arg-type]
    assert _vectorised(elementwise("narrow", {"a": t, "b": t}, {"o": e}))  # type: ignore[dict-item]


def test_polls_do_not_keep_inner_loops_from_vectorising() -> None:
    """The i-k-j product: the stop word is read in the two outer loops only."""
    i, j, k = var("i"), var("j"), var("k")
    term = mul(at("A", f32, i, k), at("B", f32, k, j))
    nest = loop("i", var("N"), loop("k", var("N"), loop("j", var("N"), accumulate("+", "C", term, i, j))))
    func = Func(
        "ikj",
        (array("A", f32, N, N), array("B", f32, N, N), array("C", f32, N, N, written=True)),
        (nest,),
        ("N",),
    )
    assert _vectorised(func)
    assert llvm_text(func, host_target(), optimised=False).count("load volatile") == 2


def test_program_order_of_float_sums_is_kept_unless_fastmath() -> None:
    def total(options: Options) -> Func:
        body = loop("i", var("N"), accumulate("+", "o", at("a", f32, I), const(0)))
        return Func(
            "total", (array("a", f32, N), array("o", f32, 1, written=True)), (body,), ("N",), options=options
        )

    assert "vector.reduce.fadd" not in llvm_text(total(Options()), host_target())
    assert "vector.reduce.fadd" in llvm_text(total(Options(fastmath=True)), host_target())
    a = np.random.default_rng(0).random(1000, "f4")
    o, expected = np.zeros(1, "f4"), np.float32(0)
    for x in a:
        expected += x
    run(total(Options()), {"a": a, "o": o}, {"N": 1000})
    assert o[0] == expected


def test_check_costs_one_compare_and_branch() -> None:
    text = asm_text(gather(), host_target())
    body = text[text.index("kernel.gather:") : text.index("kernel.gather.check")]
    assert body.count("jae") == 1


def test_scalars_stay_in_registers() -> None:
    assert "alloca" in llvm_text(matmul(), host_target(), optimised=False)
    assert "alloca" not in llvm_text(matmul(), host_target())


@pytest.mark.parametrize("name", ("memset", "memcpy", "exp", "main", "free", "fmod"))
def test_kernels_may_be_called_like_library_functions(name: str) -> None:
    """LLVM makes a call of memset out of this loop: it must not be one of the kernel."""
    func = Func(
        name, (array("o", i32, N, written=True),), (loop("i", var("N"), put("o", const(0, i32), I)),), ("N",)
    )
    o = np.ones(5000, "i4")
    assert run(func, {"o": o}, {"N": 5000}).code == 0 and not o.any()


def test_affine_sizes_are_added_up() -> None:
    shape = Size({"N": 2, "M": -1}, 3)
    func = Func(
        "affine",
        (array("o", i32, shape, written=True),),
        (put("o", const(1, i32), var("k"), checked=(0,)),),
        ("M", "N"),
    )
    params = (ScalarParam("k", var("k").type), *func.params)
    func = Func("affine", params, func.body, func.sizes)
    assert run(func, {"k": 8, "o": np.zeros(9, "i4")}, {"N": 5, "M": 4}).code == 0
    outcome = run(func, {"k": 9, "o": np.zeros(9, "i4")}, {"N": 5, "M": 4})
    assert (outcome.index, outcome.extent) == (9, 9)
