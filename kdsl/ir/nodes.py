"""The loop-level IR: one page to read.

A `Func` is a kernel for one signature: typed, loops over a tree of statements, buffers named by
strings. Nodes are frozen values; `loc` (and a statement's `id`) ride along and are ignored by
equality. Everything is strongly typed: operands of a `Binary` or `Compare` have one dtype, each
conversion is a `Cast`. Weak Python numbers exist in the front end only.

    Func   name, params, body, sizes, conditions, options
    Param  ArrayParam | ScalarParam                       (in `ir.params`, which loads fast)

    Stmt   Loop | While | If | Break | Continue | Return
         | Alloc | Store | Accumulate | Atomic | Prefetch | Barrier | Assert | Print
    Expr   Const | Var | Load | Unary | Binary | Compare | Logic | Select | Cast | Call | Let

Names: sizes, parameters, loop variables and buffers share one namespace; on any path from the root no
name is bound twice (copies side by side may share one). Loop variables and sizes are `i64`.

A local scalar is a buffer of rank 0. Each `Alloc` lives to the end of the body it stands in, is
private to that execution of the body, and starts uninitialised.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Literal

from kdsl.dtypes import DType, bool_
from kdsl.ir.params import NO_OPTIONS
from kdsl.ir.params import ArrayParam as ArrayParam
from kdsl.ir.params import Options as Options
from kdsl.ir.params import Param as Param
from kdsl.ir.params import ScalarParam as ScalarParam
from kdsl.source import Loc

_ids = itertools.count(1)


def fresh_id() -> int:
    """A statement id never given before in this process."""
    return next(_ids)


# ------------------------------------------------------------------ expressions

UnaryOp = Literal["-", "~", "not"]
BinaryOp = Literal["+", "-", "*", "/", "//", "%", "&", "|", "^", "<<", ">>", "min", "max"]
CompareOp = Literal["==", "!=", "<", "<=", ">", ">="]
LogicOp = Literal["and", "or"]


@dataclass(frozen=True, slots=True)
class Expr:
    """Base of the expressions. All are pure but for the faults named below."""

    loc: Loc | None = field(default=None, compare=False, repr=False, kw_only=True)

    @property
    def dtype(self) -> DType:
        raise AssertionError("every expression overrides dtype")


@dataclass(frozen=True, slots=True)
class Const(Expr):
    """A literal: `bool` for bool_, `int` in range for integers, `float` (rounded to `type`) for floats.

    NaNs compare equal to each other and 0.0 differs from -0.0, so that equal IR means equal code.
    """

    value: bool | int | float
    type: DType

    @property
    def dtype(self) -> DType:
        return self.type

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Const):
            return NotImplemented
        return self.type == other.type and repr(self.value) == repr(other.value)

    def __hash__(self) -> int:
        return hash((self.type, repr(self.value)))


@dataclass(frozen=True, slots=True)
class Var(Expr):
    """A loop variable, a size, a scalar parameter or a `Let` name."""

    name: str
    type: DType

    @property
    def dtype(self) -> DType:
        return self.type


@dataclass(frozen=True, slots=True)
class Load(Expr):
    """`buffer[index]`. Each index is i64. `checked` lists the dimensions to be tested when this runs.

    The front end leaves `checked` empty; the bounds pass proves an access, moves its condition to
    the call, or lists the dimension here (a failing test is the fault IndexError). The interpreter
    tests all, always.
    """

    buffer: str
    index: tuple[Expr, ...]
    type: DType
    checked: tuple[int, ...] = ()

    @property
    def dtype(self) -> DType:
        return self.type


@dataclass(frozen=True, slots=True)
class Unary(Expr):
    """`-x`, `~x` (integers), `not x` (bool_)."""

    op: UnaryOp
    x: Expr

    @property
    def dtype(self) -> DType:
        return self.x.dtype


@dataclass(frozen=True, slots=True)
class Binary(Expr):
    """Arithmetic on two operands of one dtype, which is the result's.

    Integers wrap. `/` is for floats only; `//` and `%` floor as in Python; an integer divisor 0 is
    the fault ZeroDivisionError (MIN // -1 wraps to MIN). `<<` and `>>` with an amount outside
    [0, bits) give 0 (or all sign bits for `>>` of a negative number). `min`/`max` follow Python's built-ins:
    `min(a, b)` is `b if b < a else a`. On bool_: `& | ^` and `+` (or), `*` (and) as NumPy.
    """

    op: BinaryOp
    a: Expr
    b: Expr

    @property
    def dtype(self) -> DType:
        return self.a.dtype


@dataclass(frozen=True, slots=True)
class Compare(Expr):
    """A comparison of two operands of one dtype; `!=` is true and the others false for NaN."""

    op: CompareOp
    a: Expr
    b: Expr

    @property
    def dtype(self) -> DType:
        return bool_


@dataclass(frozen=True, slots=True)
class Logic(Expr):
    """`a and b`, `a or b` on bool_; `b` is evaluated only when needed."""

    op: LogicOp
    a: Expr
    b: Expr

    @property
    def dtype(self) -> DType:
        return bool_


@dataclass(frozen=True, slots=True)
class Select(Expr):
    """`a if cond else b`: only the chosen one is evaluated (it alone can fault)."""

    cond: Expr
    a: Expr
    b: Expr

    @property
    def dtype(self) -> DType:
        return self.a.dtype


@dataclass(frozen=True, slots=True)
class Cast(Expr):
    """`x` converted to `type`: integers wrap, floats round to nearest even, float to integer truncates
    and saturates (NaN gives 0), anything to bool_ is `x != 0`."""

    x: Expr
    type: DType

    @property
    def dtype(self) -> DType:
        return self.type


@dataclass(frozen=True, slots=True)
class Call(Expr):
    """A function of `ir.builtins` by name. "math" ones are expanded by the pass `expand_math`."""

    fn: str
    args: tuple[Expr, ...]
    type: DType

    @property
    def dtype(self) -> DType:
        return self.type


@dataclass(frozen=True, slots=True)
class Let(Expr):
    """`body` with `name` standing for `value`, which is evaluated once, before `body`."""

    name: str
    value: Expr
    body: Expr

    @property
    def dtype(self) -> DType:
        return self.body.dtype


# ------------------------------------------------------------------- statements

AccumulateOp = Literal["+", "*", "min", "max"]
AtomicOp = Literal["+", "min", "max"]
Memory = Literal["auto", "register", "local", "shared"]
MarkKind = Literal["unroll", "vectorize", "parallel", "bind", "tensorize"]


@dataclass(frozen=True, slots=True)
class Instruction:
    """What `tensorize` puts in the place of a loop: a machine instruction, or a kernel's body (`software`).

    `meaning` is what it computes, on arrays of constant shape. `llvm` is the intrinsic, called with the
    parameters as vectors in their order (see `analysis.instruction`), where the target has the `features`.
    `exact`: it gives the bits of the meaning run in order.
    """

    name: str
    meaning: Func
    llvm: str = ""
    features: tuple[str, ...] = ()
    exact: bool = True
    software: Func | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """How a loop will be lowered.

    `axis` ("grid.x", "block.y") belongs to `bind`, `instruction` to `tensorize`.
    `unsafe` says that the user vouched for it instead of a proof.
    """

    kind: MarkKind
    axis: str = ""
    unsafe: bool = False
    instruction: Instruction | None = None


@dataclass(frozen=True, slots=True)
class Stmt:
    """Base of the statements. `id` names one occurrence: kept by a rewrite that keeps the statement,
    renewed in copies, unique within a Func."""

    id: int = field(default_factory=fresh_id, compare=False, repr=False, kw_only=True)
    loc: Loc | None = field(default=None, compare=False, repr=False, kw_only=True)


Body = tuple[Stmt, ...]


@dataclass(frozen=True, slots=True)
class Loop(Stmt):
    """`for var in range(lo, hi, step): body`. Bounds and step (i64) are evaluated once, at entry.

    A step of 0 is the fault ValueError. The body never writes `var`.
    """

    var: str
    lo: Expr
    hi: Expr
    step: Expr
    body: Body
    mark: Mark | None = None


@dataclass(frozen=True, slots=True)
class While(Stmt):
    """`while cond: body`."""

    cond: Expr
    body: Body


@dataclass(frozen=True, slots=True)
class If(Stmt):
    """`if cond: then else: orelse`; `cond` is bool_."""

    cond: Expr
    then: Body
    orelse: Body = ()


@dataclass(frozen=True, slots=True)
class Break(Stmt):
    """Leaves the innermost Loop or While."""


@dataclass(frozen=True, slots=True)
class Continue(Stmt):
    """Starts the next iteration of the innermost Loop or While."""


@dataclass(frozen=True, slots=True)
class Return(Stmt):
    """Ends the kernel. Results are array parameters, written before."""


@dataclass(frozen=True, slots=True)
class Alloc(Stmt):
    """A local buffer, uninitialised, private to this execution of the body it stands in.

    `shape` (i64) is made of sizes, constants and integer arithmetic; a negative extent counts as 0.
    """

    name: str
    dtype: DType
    shape: tuple[Expr, ...]
    memory: Memory = "auto"


@dataclass(frozen=True, slots=True)
class Store(Stmt):
    """`buffer[index] = value`; the value has the buffer's dtype. `checked` as in `Load`.

    The value is evaluated before the index is tested.
    """

    buffer: str
    index: tuple[Expr, ...]
    value: Expr
    checked: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Accumulate(Stmt):
    """`buffer[index] op= value`, whose terms a schedule may reorder and regroup.

    `min`/`max` keep the cell unless the value is smaller / larger (`value if value < cell else cell`).
    `together`: all that a nest of loops over the invocations of a work-group does is this, for a cell that is
    the same for all of them; they combine their values first, so that it is no race.
    """

    op: AccumulateOp
    buffer: str
    index: tuple[Expr, ...]
    value: Expr
    checked: tuple[int, ...] = ()
    together: bool = False


@dataclass(frozen=True, slots=True)
class Atomic(Stmt):
    """An indivisible `buffer[index] op= value`; the old value goes to the rank-0 buffer `old`, if named."""

    op: AtomicOp
    buffer: str
    index: tuple[Expr, ...]
    value: Expr
    old: str = ""
    checked: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Prefetch(Stmt):
    """`prefetch(buffer[index])`: a hint that the cell is wanted soon. The index reads no memory.

    The cell exists: whoever writes a Prefetch guards it. It is no access, and orders nothing.
    """

    buffer: str
    index: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Barrier(Stmt):
    """`barrier()`: all invocations of a work-group wait for one another, and see what the others wrote.

    The lowering to GPU launches puts it between loops bound to block axes, where control flow is uniform.
    Elsewhere it does nothing.
    """


@dataclass(frozen=True, slots=True)
class Assert(Stmt):
    """`assert cond, message`: the fault AssertionError when `cond` is false."""

    cond: Expr
    message: str


@dataclass(frozen=True, slots=True)
class Print(Stmt):
    """`print(*items, sep=..., end=...)` on the host: strings as they are, expressions by value."""

    items: tuple[str | Expr, ...]
    sep: str = " "
    end: str = "\n"


# -------------------------------------------------------------------- functions


@dataclass(frozen=True, slots=True)
class Condition:
    """A bool_ expression over sizes and scalar parameters, checked once at the call.

    When it is false the call raises `ArgumentError` with `title` (and `loc`) before anything is written.
    """

    expr: Expr
    title: str
    loc: Loc | None = field(default=None, compare=False, repr=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class Func:
    """A kernel for one signature. `params` come in call order, results last.

    `sizes` are the symbols, each >= 0 and < 2**47. `conditions` are checked at the call, so the body may
    rely on them.
    """

    name: str
    params: tuple[Param, ...]
    body: Body
    sizes: tuple[str, ...] = ()
    conditions: tuple[Condition, ...] = ()
    options: Options = NO_OPTIONS
    loc: Loc | None = field(default=None, compare=False, repr=False, kw_only=True)

    @property
    def arrays(self) -> tuple[ArrayParam, ...]:
        """The array parameters, results included."""
        return tuple(p for p in self.params if isinstance(p, ArrayParam))

    @property
    def results(self) -> tuple[ArrayParam, ...]:
        """The parameters that the run time makes and the call returns."""
        return tuple(p for p in self.arrays if p.result)
