"""Primitives about instructions: tensorize."""

from __future__ import annotations

from dataclasses import replace

from kdsl.analysis.instruction import Binding, Operand, layout_difference, match
from kdsl.analysis.roles import Difference
from kdsl.ir import instructions
from kdsl.ir.nodes import (
    Accumulate,
    Alloc,
    Body,
    Expr,
    Func,
    Instruction,
    Let,
    Load,
    Loop,
    Mark,
    Prefetch,
    Stmt,
    Store,
    Var,
)
from kdsl.ir.walk import map_expr_children, map_stmt
from kdsl.passes.simplify import simplify_expr
from kdsl.sched.edit import Edit
from kdsl.sched.legality import difference_notes
from kdsl.sched.primitive import primitive
from kdsl.sched.rewriting.arith import add, mul
from kdsl.sched.rewriting.tree import Place, bound, replaced, with_fresh_ids
from kdsl.sched.step import InstructionLike, Named


@primitive
def tensorize(edit: Edit, loop: str, instruction: InstructionLike) -> Edit:
    """A loop, with those in it, done by an instruction whose meaning it is.

    before:
        for j in range(16):
            for k in range(4):
                acc[j] += i32(A[i, k]) * i32(B[j, k])
    after: tensorize("j", kdsl.instructions.dot4_u8s8)
        for j in tensorize(range(16), "dot4_u8s8"):
            for k in range(4):
                acc[j] += i32(A[i, k]) * i32(B[j, k])

    An instruction is declared by `@kdsl.instruction`: a kernel that says what it computes, the intrinsic and
    the CPU features. The loop keeps its text and is made one call where the CPU has the features, and vector
    code where it has not. A plain kernel on arrays of constant shape serves as well: its body, as its own
    schedule has it, takes the place of the loop.

    legal: when the loop and the kernel are the same up to names, where their loops start, and the order of
        factors and terms; what is written overlaps nothing that is read; the elements of an instruction's
        operand lie one after the other; under `strict` the instruction is exact.
    known as: tensorize (TVM), replace (Exo).
    """
    given = _instruction(edit, instruction)
    chosen = edit.loops(loop)
    bindings = [_bound(edit, place, given) for place in chosen]
    if given.software is not None:
        gone = replaced(edit.func, {place.loop.id: () for place in chosen})
        new = {p.loop.id: _body(given.software, b, gone) for p, b in zip(chosen, bindings)}
        return edit.keeps_order(replaced(edit.func, new))
    for place in chosen:
        edit = edit.marked(place.loop, Mark("tensorize", instruction=given))
    return edit


def _instruction(edit: Edit, given: InstructionLike) -> Instruction:
    if isinstance(given, Named):
        return given.instruction
    raise edit.refused(
        "K0352",
        f"there is no instruction {given!r}",
        notes=[f"kdsl has {', '.join(f'`{n}`' for n in instructions.shipped())}"],
        help="import the module that declares it, or pass the instruction or kernel itself",
    )


def _bound(edit: Edit, place: Place, given: Instruction) -> Binding:
    """What the parameters stand for in a loop, or the refusal."""
    loop, func = place.loop, edit.func
    edit.need_unmarked(loop)
    dtypes = [p.dtype for p in given.meaning.arrays if p.written]
    if func.options.strict and not _strict(given):
        what = "may round otherwise than" if not given.software else "may regroup sums of"
        raise edit.refused(
            "K0354",
            f"cannot tensorize the loop `{loop.var}` under `strict`: `{given.name}` is not exact",
            loop,
            label=f"{what} this loop" + (f" in its {dtypes[0]} results" if dtypes else ""),
            help="use an exact instruction, or a kernel without `strict`",
        )
    found = match(loop, given.meaning, func.options.may_alias)
    if isinstance(found, Difference):
        raise edit.refused(
            "K0350",
            f"cannot tensorize the loop `{loop.var}`: it is not what `{given.name}` computes",
            loop,
            loc=found.loc,
            label=found.text,
            notes=difference_notes(found, given),
            help=found.help or "rearrange the loop, or declare an instruction with this meaning",
        )
    apart = None if given.software else layout_difference(func, place.above, found, given.meaning)
    if apart is not None:
        raise edit.refused(
            "K0351",
            f"cannot tensorize the loop `{loop.var}`: an operand of `{given.name}` is scattered in memory",
            loop,
            loc=apart.loc,
            label=apart.text,
            notes=difference_notes(apart, given),
            help=apart.help,
        )
    return found


def _strict(given: Instruction) -> bool:
    """Whether it gives the bits that `strict` promises."""
    if given.software is None:
        return given.exact
    return given.software.options.strict or given.software.body == given.meaning.body


def _body(software: Func, binding: Binding, around: Func) -> Body:
    """The body of a kernel with its parameters bound, under names that `around` does not have."""
    taken = bound(around.body) | {p.name for p in around.params} | set(around.sizes)
    names: dict[str, str] = {}
    for stem in sorted(bound(software.body)):
        name, n = stem, 1
        while name in taken or name in names.values():
            name, n = f"{stem}_{n}", n + 1
        names[stem] = name
    return with_fresh_ids(_Bound(names, binding).body(software.body))


class _Bound:
    """Replaces parameters by what they are bound to, and renames what is bound inside."""

    def __init__(self, names: dict[str, str], binding: Binding) -> None:
        self.names = names
        self.binding = binding

    def body(self, body: Body) -> Body:
        return tuple([self.stmt(s) for s in body])

    def stmt(self, s: Stmt) -> Stmt:
        s = map_stmt(s, self.expr, self.body)
        match s:
            case Loop():
                return replace(s, var=self.names[s.var])
            case Alloc():
                return replace(s, name=self.names[s.name])
            case Store() | Accumulate() | Prefetch():
                buffer, index = self.cell(s.buffer, s.index)
                return replace(s, buffer=buffer, index=index)
            case _:
                return s

    def expr(self, e: Expr) -> Expr:
        e = map_expr_children(e, self.expr)
        match e:
            case Var(name=name) if name in self.binding.scalars:
                return self.binding.scalars[name]
            case Var(name=name):
                return replace(e, name=self.names.get(name, name))
            case Let():
                return replace(e, name=self.names[e.name])
            case Load():
                buffer, index = self.cell(e.buffer, e.index)
                return replace(e, buffer=buffer, index=index)
            case _:
                return e

    def cell(self, buffer: str, index: tuple[Expr, ...]) -> tuple[str, tuple[Expr, ...]]:
        operand = self.binding.arrays.get(buffer)
        if operand is None:
            return self.names[buffer], index
        return operand.buffer, tuple([_at(operand, d, index) for d in range(len(operand.start))])


def _at(operand: Operand, dim: int, index: tuple[Expr, ...]) -> Expr:
    """The index in one dimension of the buffer for an element of the parameter."""
    at = operand.start[dim]
    for e, steps in zip(index, operand.steps):
        if steps[dim]:
            at = add(at, mul(e, steps[dim]))
    return simplify_expr(at)
