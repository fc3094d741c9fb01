"""Primitives that move what produces a local to where it is read: compute_at, inline."""

from __future__ import annotations

from dataclasses import replace

from kdsl.sched.edit import Edit
from kdsl.sched.primitive import primitive
from kdsl.sched.rewriting.producing import check_makers, productions, without_hints
from kdsl.sched.rewriting.relocation import moved, targets
from kdsl.sched.rewriting.substitution import inlined


@primitive
def compute_at(edit: Edit, producer: str, loop: str, unsafe: bool = False) -> Edit:
    """A local computed where it is read: the part that one iteration of a loop reads, at the top of its body.

    before:
        P: f32[N + 2]
        for i in range(N + 2):
            P[i] = A[i] * 2.0
        for j_o in range((N + 7) // 8):
            for j_i in range(8):
                if j_o * 8 + j_i < N:
                    B[j_o * 8 + j_i] = P[j_o * 8 + j_i] + P[j_o * 8 + j_i + 2]
    after: compute_at("P", "j_o")
        for j_o in range((N + 7) // 8):
            P: f32[10]
            for i in range(10):
                if j_o * 8 + i < N + 2:
                    P[i] = A[j_o * 8 + i] * 2.0
            for j_i in range(8):
                if j_o * 8 + j_i < N:
                    B[j_o * 8 + j_i] = P[j_i] + P[j_i + 2]

    The part is a box. Loops that produce it keep their names (one that is taken there gets a number); where
    the box's extent is a constant they count from its start. What several iterations read is computed again
    in each of them, but never more than in the original. Locals on which a local depends come after it. Hints
    for the local (`prefetch`) go.

    legal: all reads are in the loop, no element is made of others, and no operand changes in between.
    known as: compute_at (Halide, TVM), recomputation, overlapped tiling.
    """
    edit = replace(edit, func=without_hints(edit.func, producer))
    found = productions(edit, producer)
    places = edit.loops(loop)
    for production in found:
        check_makers(edit, production)
        edit = moved(edit, production, targets(edit, production, places))
    return edit


@primitive
def inline(edit: Edit, producer: str, unsafe: bool = False) -> Edit:
    """A local no longer stored: each read becomes the expression that is stored there.

    before:
        P: f32[N + 2]
        for i in range(N + 2):
            P[i] = A[i] * 2.0
        for j in range(N):
            B[j] = P[j] + P[j + 2]
    after: inline("P")
        for j in range(N):
            B[j] = A[j] * 2.0 + A[j + 2] * 2.0

    Where several statements may have stored the element, the expression asks which was the last. Hints for
    the local (`prefetch`) go.

    legal: each element is stored once by each of them, and no operand changes before the read.
    known as: compute_inline (Halide, TVM), inline_assign (Exo), forward substitution.
    """
    edit = replace(edit, func=without_hints(edit.func, producer))
    for production in productions(edit, producer):
        check_makers(edit, production)
        edit = inlined(edit, production)
    return edit
