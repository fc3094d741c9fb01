"""The tree between Python's syntax and the IR: names resolved, calls inlined, types not yet known.

Expressions are shared freely; statements live in mutable lists. A `Variable` is a scalar name of one
function instance; which of its assignments share storage is found by `webs`, types by `typing`.

The classes have no slots, equality or text: making those costs a millisecond a class at import, and every
process that calls a kernel imports this module.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from kdsl.dtypes import DType
from kdsl.ir.nodes import CompareOp
from kdsl.source import Loc


@dataclass(eq=False, repr=False)
class Variable:
    """A scalar name. `fixed`: assigned at one place only, before all reads (temporaries).

    `checked`: a read that may come before any assignment is the user's error. `let`: bound by a `Let`
    expression. `param`: a scalar argument of the kernel, set at entry. `shape_value`: the value, if it is
    assigned once and made of sizes.
    """

    name: str
    loc: Loc | None = None
    fixed: bool = False
    checked: bool = True
    let: bool = False
    param: Param | None = None
    shape_value: Expr | None = None


@dataclass(eq=False, repr=False)
class Param:
    """A scalar argument as the body sees it."""

    name: str
    dtype: DType
    weak: bool


@dataclass(eq=False, repr=False)
class LoopVar:
    """The variable of one loop; `variable` is the Python name it sets. `name` is final after emission.

    `extent`: it is at least `first` and below this (None: not known to).
    """

    name: str
    variable: Variable | None
    loc: Loc | None = None
    extent: Expr | None = None
    first: int = 0


@dataclass(eq=False, repr=False)
class Buffer:
    """An array: an argument, a result or a local one. `name` is final for parameters, a wish for locals."""

    name: str
    dtype: DType | Like
    shape: tuple[Expr, ...]
    param: bool = False
    contiguous: bool = True
    loc: Loc | None = None


# ------------------------------------------------------------------ expressions


@dataclass(eq=False, repr=False)
class Num:
    """A constant; `dtype` None: a weak Python number."""

    value: bool | int | float
    dtype: DType | None = None
    loc: Loc | None = None


@dataclass(eq=False, repr=False)
class SizeVar:
    """A size symbol."""

    name: str
    loc: Loc | None = None


@dataclass(eq=False, repr=False)
class LoopRef:
    """A read of a running loop's variable."""

    loop: LoopVar
    loc: Loc | None = None


@dataclass(eq=False, repr=False)
class Ref:
    """A read of a variable."""

    var: Variable
    loc: Loc | None = None


@dataclass(eq=False, repr=False)
class Load:
    """An element of a buffer."""

    buffer: Buffer
    index: tuple[Expr, ...]
    loc: Loc | None = None


@dataclass(eq=False, repr=False)
class Un:
    """`-`, `+`, `~`, `not`."""

    op: str
    x: Expr
    loc: Loc | None = None


@dataclass(eq=False, repr=False)
class Bin:
    """A Python operator, or `min` / `max`."""

    op: str
    a: Expr
    b: Expr
    loc: Loc | None = None


@dataclass(eq=False, repr=False)
class Cmp:
    """A comparison of two numbers."""

    op: CompareOp
    a: Expr
    b: Expr
    loc: Loc | None = None


@dataclass(eq=False, repr=False)
class Logic:
    """`and` / `or` with Python's value semantics."""

    op: str
    a: Expr
    b: Expr
    loc: Loc | None = None


@dataclass(eq=False, repr=False)
class Pick:
    """`a if cond else b`."""

    cond: Expr
    a: Expr
    b: Expr
    loc: Loc | None = None


CastTo: TypeAlias = "DType | Like | Literal['int', 'float', 'bool', 'index']"


@dataclass(eq=False, repr=False)
class Like:
    """The strong dtype of an expression, known once types are."""

    x: Expr


@dataclass(eq=False, repr=False)
class Cast:
    """A cast to a dtype, to a weak Python type, or to a weak int that refuses non-integers ("index")."""

    x: Expr
    to: CastTo
    loc: Loc | None = None


@dataclass(eq=False, repr=False)
class Fn:
    """A function of `ir.builtins` (`dtype`: the result of a bitcast)."""

    name: str
    args: tuple[Expr, ...]
    dtype: DType | None = None
    loc: Loc | None = None


@dataclass(eq=False, repr=False)
class Let:
    """`body` with `var` standing for `value`."""

    var: Variable
    value: Expr
    body: Expr
    loc: Loc | None = None


Expr: TypeAlias = "Num | SizeVar | LoopRef | Ref | Load | Un | Bin | Cmp | Logic | Pick | Cast | Fn | Let"


# ------------------------------------------------------------------- statements


@dataclass(eq=False, repr=False)
class Assign:
    """`var = value`. `declared` fixes the type; `augmented`: the value is `Bin(op, read of var, v)`."""

    var: Variable
    value: Expr
    declared: DType | None = None
    augmented: bool = False
    loc: Loc | None = None


@dataclass(eq=False, repr=False)
class Store:
    """`buffer[index] = value`; `augmented` as in `Assign`."""

    buffer: Buffer
    index: tuple[Expr, ...]
    value: Expr
    augmented: bool = False
    loc: Loc | None = None


@dataclass(eq=False, repr=False)
class For:
    """`for loop in range(lo, hi, step)`."""

    loop: LoopVar
    lo: Expr
    hi: Expr
    step: Expr
    body: Body
    loc: Loc | None = None


@dataclass(eq=False, repr=False)
class While:
    """`while cond`."""

    cond: Expr
    body: Body
    loc: Loc | None = None


@dataclass(eq=False, repr=False)
class If:
    """`if cond: then else: orelse`."""

    cond: Expr
    then: Body
    orelse: Body
    loc: Loc | None = None


@dataclass(eq=False, repr=False)
class Break:
    """Leaves the innermost loop."""

    loc: Loc | None = None


@dataclass(eq=False, repr=False)
class Continue:
    """Starts the next iteration of the innermost loop."""

    loc: Loc | None = None


@dataclass(eq=False, repr=False)
class Return:
    """Leaves the kernel."""

    loc: Loc | None = None


@dataclass(eq=False, repr=False)
class Block:
    """`body`, which an `Exit` of this block leaves: an inlined function, an unrolled loop, a `grid`."""

    body: Body
    loc: Loc | None = None


@dataclass(eq=False, repr=False)
class Exit:
    """Leaves `block`, from inside it."""

    block: Block
    loc: Loc | None = None


@dataclass(eq=False, repr=False)
class Alloc:
    """Makes a local buffer."""

    buffer: Buffer
    loc: Loc | None = None


@dataclass(eq=False, repr=False)
class Atomic:
    """An indivisible update; the old value goes to `old`."""

    op: Literal["+", "min", "max"]
    buffer: Buffer
    index: tuple[Expr, ...]
    value: Expr
    old: Variable | None = None
    loc: Loc | None = None


@dataclass(eq=False, repr=False)
class Assert:
    """`assert cond, message`."""

    cond: Expr
    message: str
    loc: Loc | None = None


@dataclass(eq=False, repr=False)
class Print:
    """`print(*items, sep=, end=)`."""

    items: tuple[str | Expr, ...]
    sep: str = " "
    end: str = "\n"
    loc: Loc | None = None


Stmt: TypeAlias = (
    "Assign | Store | For | While | If | Break | Continue | Return | Block | Exit | Alloc | Atomic"
    " | Assert | Print"
)
Body: TypeAlias = "list[Stmt]"


@dataclass(eq=False, repr=False)
class Check:
    """A condition on sizes that the call must meet."""

    cond: Expr
    title: str
    loc: Loc | None = None


@dataclass(eq=False, repr=False)
class Program:
    """An elaborated kernel."""

    body: Body = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
