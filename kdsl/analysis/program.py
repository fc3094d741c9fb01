"""A program as instances: loops, buffers, uses of cells, leaves, and what is not known of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from kdsl.analysis.affine import (
    Form,
    Formula,
    affine_throughout,
    constant,
)
from kdsl.analysis.state import State, Value
from kdsl.analysis.values import Symbol, Truth, Values
from kdsl.dtypes import DType, bool_
from kdsl.ir.nodes import (
    Expr,
    Func,
    Load,
    Logic,
    Stmt,
    Unary,
)
from kdsl.source import Loc

Mode = Literal["read", "write", "update"]


@dataclass(frozen=True, slots=True)
class Dim:
    """A loop around a statement: `var` in the source, `name` among the symbols; `var` is "" for a `while`.

    `direction` is the sign of the step, 0 when it is not known.
    """

    name: str
    var: str
    loop: int
    direction: int
    lo: Form
    step: int
    loc: Loc | None


Place = tuple[int | Dim, ...]


@dataclass(frozen=True, slots=True)
class Buffer:
    """Memory with a name. Buffers with one `memory` may share cells; only those with one `key` know which.

    `hidden` are the loops around a local's `Alloc`. A virtual buffer has no dtype.
    """

    key: str
    memory: str
    name: str
    hidden: tuple[Dim, ...] = ()
    dtype: DType | None = None
    local: bool = False


@dataclass(frozen=True, slots=True)
class Use:
    """A leaf uses the cell `index` of `buffer`, at `place`, at the points at which `context` holds.

    `op` names the operator of an update, `atomic` one that is indivisible. `exact`: it happens at exactly
    those points and in exactly that cell; otherwise perhaps. `exact_cell`: the cell alone is known.
    `control`: the use decides whether the leaf runs. `whole`: the subscripts of the source, where `index` has
    been split.
    """

    buffer: Buffer
    mode: Mode
    index: tuple[Form, ...]
    place: Place
    context: tuple[Formula, ...]
    exact: bool
    loc: Loc | None
    exact_cell: bool = True
    op: str = ""
    atomic: bool = False
    keeps_old: bool = False
    control: bool = False
    whole: tuple[Form, ...] = ()


@dataclass(frozen=True, slots=True)
class Leaf:
    """A statement without a body, and all its instances. `names` are the variables in its scope.

    `exact`: it runs at all points of `context`, and isl knows these. `certain`: at all of them, whatever data
    decide them.
    """

    stmt: Stmt
    dims: tuple[Dim, ...]
    place: Place
    context: tuple[Formula, ...]
    exact: bool
    uses: tuple[Use, ...]
    names: dict[str, Value]
    certain: bool = False


@dataclass(frozen=True, slots=True)
class Unknown:
    """What an opaque symbol stands for: a load, or a condition, evaluated with `names` in scope."""

    expr: Expr
    names: dict[str, Value]


@dataclass(slots=True)
class Scope(State):
    """A state that takes the program for sequential, and remembers what its opaque symbols stand for."""

    unknowns: dict[str, Unknown] = field(default_factory=dict)
    tag: int = 0
    """Tells apart the versions of memory in two programs over the same symbols."""

    def tracked(self, buffer: str) -> bool:
        return buffer in self.local

    def load_key(self, e: Load) -> tuple[object, ...]:
        index = tuple([self.value(i) for i in e.index])
        version = self.versions.get(e.buffer, 0)
        key = "load", e.buffer, version and (self.tag, version), index
        low, high = (0, 1) if e.type == bool_ else (e.type.min, e.type.max)
        for name in self.values.opaque(key, e.buffer, low, high).names():
            self.unknowns.setdefault(name, Unknown(e, self.names))
        return key

    def guard(self, e: Expr) -> Truth:
        """`truth`, with a symbol for the part that is not known."""
        truth = self.truth(e)
        if truth.exact:
            return truth
        match e:
            case Unary():
                return self.guard(e.x).negated()
            case Logic(op="and"):
                return self.guard(e.a).both(self.guard(e.b))
            case Logic():
                return self.guard(e.a).either(self.guard(e.b))
        flag = self.values.add("flag", "opaque", 0, 1)
        (name,) = flag.names()
        self.unknowns[name] = Unknown(e, self.names)
        return truth.both(self.values.compare("==", flag, constant(1)))


@dataclass(frozen=True, slots=True)
class Program:
    """The leaves of a function in program order. `loops` are its loops by id, with the loops around them."""

    func: Func
    values: Values
    leaves: tuple[Leaf, ...]
    loops: dict[int, tuple[Dim, ...]]
    unknowns: dict[str, Unknown]
    tag: int

    def fork(self) -> Program:
        """The same program with symbols of its own: a check adds some, which the next one must not find."""
        return replace(self, values=self.values.fork(), unknowns=dict(self.unknowns))

    def scope(self, leaf: Leaf) -> Scope:
        """What is known where `leaf` runs, of names and of memory that nothing writes."""
        return Scope(self.values, names=dict(leaf.names), unknowns=self.unknowns, tag=self.tag)


def is_plain(values: Values, names: set[str]) -> bool:
    """True when isl knows these symbols for what they are: no data, no products."""
    return not any(
        is_unknown(s) or s.kind == "fixed" for s in map(values.symbols.__getitem__, values.closure(names))
    )


def is_unknown(s: Symbol) -> bool:
    """True for a symbol without a definition that isl could use."""
    return s.kind == "opaque" or not affine_throughout(s.definition)


def fix(values: Values) -> None:
    """Makes opaque symbols `fixed` that depend on parameters alone: products, quotients by sizes, and loads
    from arrays that nothing has written before.
    """
    for key, form in values.keyed():
        (name,) = form.names() or ("",)
        if name not in values.symbols or values.symbols[name].kind != "opaque":
            continue
        operands = [x for part in key for x in (part if isinstance(part, tuple) else (part,))]
        forms = [x for x in operands if isinstance(x, Form)]
        if (key[2] != 0) if key[0] == "load" else not forms:
            continue
        used = [values.symbols[n] for x in forms for n in x.names()]
        if all(s.kind in ("size", "scalar", "fixed") for s in used):
            values.symbols[name] = replace(values.symbols[name], kind="fixed")
