"""Names of arrays in schedules: `"A_s"`, the copy `"A_s@1"`; what such a name stands for at a loop."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdsl.analysis.affine import Form
from kdsl.analysis.regions import Atoms
from kdsl.analysis.values import size_form
from kdsl.dtypes import DType
from kdsl.ir.nodes import Alloc, ArrayParam, Body, Func, Loop, Stmt
from kdsl.ir.printer import print_stmt
from kdsl.ir.walk import stmt_bodies
from kdsl.sched.rewriting.tree import Place, contains

if TYPE_CHECKING:
    from kdsl.sched.edit import Edit


@dataclass(frozen=True, slots=True)
class Local:
    """A local, the statements around it (outermost first), and those after it in its body."""

    alloc: Alloc
    above: tuple[Stmt, ...]
    scope: Body

    @property
    def outer(self) -> tuple[Loop, ...]:
        """The loops around it, outermost first."""
        return tuple(s for s in self.above if isinstance(s, Loop))


@dataclass(frozen=True, slots=True)
class Array:
    """An array; `shape` over sizes and `atoms`."""

    name: str
    dtype: DType
    shape: tuple[Form, ...]
    atoms: Atoms


def local_arrays(func: Func) -> Iterator[Local]:
    """All locals, scalars too, in program order."""

    def visit(body: Body, above: tuple[Stmt, ...]) -> Iterator[Local]:
        for n, s in enumerate(body):
            if isinstance(s, Alloc):
                yield Local(s, above, body[n + 1 :])
            for inner in stmt_bodies(s):
                yield from visit(inner, (*above, s))

    return visit(func.body, ())


def resolve_array(edit: Edit, name: str) -> tuple[str, tuple[Local, ...]]:
    """The name without its copy's number, and the locals meant: none for an argument."""
    stem, at, number = name.partition("@")
    everything = tuple(local_arrays(edit.func))
    found = tuple(p for p in everything if p.alloc.name == stem)
    arguments = [a.name for a in edit.func.arrays]
    if not found and stem not in arguments:
        known = list(dict.fromkeys([*arguments, *[p.alloc.name for p in everything]]))
        close = difflib.get_close_matches(stem, known, n=1, cutoff=0.5)
        raise edit.refused(
            "K0304",
            f"there is no array `{stem}`",
            notes=[f"the arrays are {', '.join(f'`{k}`' for k in known)}"],
            help=f'did you mean "{close[0]}"?' if close else "name an argument or a local array",
        )
    if not at:
        return stem, found
    count = max(len(found), 1)
    if not number.isdecimal() or int(number) >= count:
        raise edit.refused(
            "K0304",
            f'there is no array "{name}"',
            loc=found[0].alloc.loc if found else None,
            label=f"`{stem}` has {count} {'copy' if count == 1 else 'copies'}",
            notes=[f'"{stem}@{n}" is `{print_stmt(p.alloc)}`' for n, p in enumerate(found)],
            help=f'copies count from 0: "{stem}@{count - 1}" is the last one',
        )
    return stem, found[int(number) : int(number) + 1]


def of_copy(place: Place, copies: Sequence[Local]) -> bool:
    """Whether a loop is in the scope of one of the `copies`, or around it; True for an argument."""
    id_ = place.loop.id
    return not copies or any(
        any(contains(s, id_) for s in c.scope) or contains(place.loop, c.alloc.id) for c in copies
    )


def meant(edit: Edit, place: Place, name: str, copies: Sequence[Local]) -> ArrayParam | Alloc:
    """What the name of an argument, or of one of the `copies` of a local, means around a loop."""
    for a in edit.func.arrays:
        if a.name == name:
            return a
    for c in copies:
        if any(contains(s, place.loop.id) for s in c.scope):
            return c.alloc
    raise edit.refused(
        "K0326",
        f"cannot {edit.step.name} `{name}` at the loop `{place.loop.var}`: it is made inside of the loop",
        place.loop,
        label="each iteration has one of its own already",
        help=f"{edit.step.name} `{name}` at a loop further in",
    )


def local_of(edit: Edit, name: str) -> tuple[Local, ...]:
    """The local arrays of that name; refused for arguments and scalars."""
    stem, found = resolve_array(edit, name)
    if not found:
        argument = next(a for a in edit.func.arrays if a.name == stem)
        raise edit.refused(
            "K0345",
            f"`{edit.step.name}` cannot take `{stem}`: its memory is the caller's",
            loc=argument.loc or edit.func.loc,
            label=f"`{stem}` is {'a result' if argument.result else 'an argument'}",
            help=f'copy the part that a loop works on: s.stage("{stem}", at=...)',
        )
    scalar = next((p.alloc for p in found if not p.alloc.shape), None)
    if scalar is not None:
        raise edit.refused(
            "K0345",
            f"`{edit.step.name}` cannot take `{stem}`: it is a scalar",
            loc=scalar.loc,
            label="has no elements",
            help="name a local array",
        )
    return found


def array_of(edit: Edit, what: ArrayParam | Alloc) -> Array:
    """An argument or a local with its shape; refused when that is not made of sums of sizes."""
    atoms = Atoms()
    if isinstance(what, ArrayParam):
        return Array(what.name, what.dtype, tuple(map(size_form, what.shape)), atoms)
    shape: list[Form] = []
    for e in what.shape:
        form = atoms.form(e, set(edit.func.sizes))
        if form is None:
            raise edit.refused(
                "K0310",
                f"cannot {edit.step.name} `{what.name}`: its shape may not exist",
                loc=what.loc,
                label=f"`{print_stmt(what)}` divides by a size",
                help="divide by a number, or make the array with a size of its own",
            )
        shape.append(form)
    return Array(what.name, what.dtype, tuple(shape), atoms)
