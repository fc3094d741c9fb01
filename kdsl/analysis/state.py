"""What is known at one point of the program: the values of names and of local scalars.

A local integer or boolean scalar stored once before its use is replaced by what was stored; a value that
is not known is a symbol of its own until it may have changed.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from kdsl.analysis.affine import Form, constant
from kdsl.analysis.values import UNKNOWN, Truth, Values, decided
from kdsl.dtypes import DType, bool_, i64
from kdsl.ir.nodes import Binary, Call, Cast, Compare, Const, Expr, Let, Load, Logic, Select, Unary, Var

Value = Form | Truth
Memory = tuple[dict[str, int], dict[str, Value]]


@dataclass(slots=True)
class State:
    """`names` are the variables in scope. A buffer's version changes when it may have been written; `known`
    holds the scalars whose value is known.

    Only `local` buffers are tracked: other threads may write the arrays of the caller, and iterations that
    run side by side those in `shared`.
    """

    values: Values
    names: dict[str, Value] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    known: dict[str, Value] = field(default_factory=dict)
    local: set[str] = field(default_factory=set)
    shared: frozenset[str] = frozenset()
    # What the calls of `within` in the present statement gave, by their id.
    tested: dict[int, Form] = field(default_factory=dict)
    clock: int = 0

    # -------------------------------------------------------------------- memory

    def store(self, buffer: str, value: Value | None) -> None:
        """The rank-0 `buffer` becomes `value` (None: something unknown)."""
        self.forget(buffer)
        if value is not None and self.tracked(buffer):
            self.known[buffer] = value

    def memory(self) -> Memory:
        """A copy of what is known of memory."""
        return dict(self.versions), dict(self.known)

    def restore(self, memory: Memory) -> None:
        self.versions, self.known = memory

    def tracked(self, buffer: str) -> bool:
        return buffer in self.local and buffer not in self.shared

    def stored(self, e: Expr) -> Value:
        if e.dtype == bool_:
            return self.truth(e)
        return self.modular(e) if e.dtype == i64 else self.value(e)

    def forget(self, buffer: str) -> None:
        """The buffer may hold other values from here on."""
        self.clock += 1
        self.versions[buffer] = self.clock
        self.known.pop(buffer, None)

    def join(self, truth: Truth, memory: Memory) -> None:
        """Memory after a condition: `memory` where it was true, the present one where not."""
        versions, known = memory
        for name in versions.keys() | self.versions.keys():
            if versions.get(name) == self.versions.get(name):
                continue
            a, b = known.get(name), self.known.get(name)
            self.clock += 1
            self.versions[name] = self.clock
            self.known.pop(name, None)
            if isinstance(a, Form) and isinstance(b, Form):
                self.known[name] = self.values.select(truth, a, b)
            elif isinstance(a, Truth) and isinstance(b, Truth):
                self.known[name] = truth.both(a).either(truth.negated().both(b))

    # --------------------------------------------------------------- expressions

    def learned(self, e: Expr) -> bool:
        """Notes the product that a condition of the call keeps small, and is true if it is of that kind.

        `b == 0 or a <= limit // b`
        """
        match e:
            case Logic(
                op="or",
                a=Compare(op="==", a=zero, b=Const(value=0)),
                b=Compare(op="<=", a=a, b=Binary(op="//", a=Const(value=limit, type=t), b=b)),
            ) if zero == b and t == i64:
                factors = self.value(a), self.value(b)
                product = factors[0] * factors[1]
                if any(self.values.interval(f)[0] < 0 for f in factors):
                    return False
                if not product.is_affine:
                    self.values.limits[product] = int(limit)
                return True
            case _:
                return False

    def bind(self, e: Let) -> None:
        if not e.value.dtype.is_float:
            value = self.truth(e.value) if e.value.dtype == bool_ else self.value(e.value)
            self.names = {**self.names, e.name: value}

    def modular(self, e: Expr) -> Form:
        """A form equal to the i64 expression `e` modulo 2**64: `+ - *` that wrap need no care yet.

        Where the form's true value is proved to be in range, the two are equal.
        """
        match e:
            case Binary(op="+"):
                return self.modular(e.a) + self.modular(e.b)
            case Binary(op="-"):
                return self.modular(e.a) - self.modular(e.b)
            case Binary(op="*"):
                return self.modular(e.a) * self.modular(e.b)
            case Unary(op="-"):
                return -self.modular(e.x)
            case Call(fn="within", args=(x, *_)):
                return self.tested[id(e)] if id(e) in self.tested else self.modular(x)
            case Load(index=()):
                stored = self.known.get(e.buffer)
                return stored if isinstance(stored, Form) else self.value(e)
            case _:
                return self.value(e)

    def value(self, e: Expr) -> Form:
        """What the integer expression `e` is worth here."""
        match e:
            case Const():
                return constant(int(e.value))
            case Var():
                found = self.names[e.name]
                assert isinstance(found, Form)
                return found
            case Load():
                stored = self.known.get(e.buffer) if not e.index else None
                if isinstance(stored, Form):
                    return self.values.in_dtype(stored, e.type)
                return self.unknown(self.load_key(e), e.buffer, e.type)
            case Unary(op="-"):
                return self.values.in_dtype(-self.value(e.x), e.dtype)
            case Unary(op="~"):
                return self.values.in_dtype(-self.value(e.x) - 1, e.dtype)
            case Binary():
                return self.binary(e)
            case Select():
                return self.values.select(self.truth(e.cond), self.value(e.a), self.value(e.b))
            case Cast(x=x) if x.dtype.is_int:
                return self.values.in_dtype(self.value(x), e.type)
            case Cast(x=x) if x.dtype == bool_:
                return self.values.select(self.truth(x), constant(1), constant(0))
            case Call(fn="within", args=(x, *_)):
                tested = self.tested.get(id(e))
                return self.value(x) if tested is None else self.values.in_dtype(tested, i64)
            case Call(fn="abs", args=(x,)):
                form = self.value(x)
                return self.values.in_dtype(self.values.larger(form, -form), e.dtype)
            case Call(fn="minimum", args=(a, b)):
                return self.values.smaller(self.value(a), self.value(b))
            case Call(fn="maximum", args=(a, b)):
                return self.values.larger(self.value(a), self.value(b))
            case Let():
                names = self.names
                self.bind(e)
                form = self.value(e.body)
                self.names = names
                return form
            case _:
                self.clock += 1
                return self.unknown(self.clock, "unknown", e.dtype)

    def unknown(self, key: Hashable, stem: str, dtype: DType) -> Form:
        return self.values.opaque(key, stem, dtype.min, dtype.max)

    def load_key(self, e: Load) -> Hashable:
        if not self.tracked(e.buffer):
            self.clock += 1
            return self.clock
        index = tuple([self.value(i) for i in e.index])
        return "load", e.buffer, self.versions.get(e.buffer, 0), index

    def binary(self, e: Binary) -> Form:
        v, t = self.values, e.dtype
        a, b = self.value(e.a), self.value(e.b)
        match e.op:
            case "+":
                return v.in_dtype(a + b, t)
            case "-":
                return v.in_dtype(a - b, t)
            case "*":
                return v.in_dtype(a * b, t)
            case "//":
                return v.in_dtype(v.floordiv(a, b, t), t)
            case "%":
                return v.mod(a, b, t)
            case "min":
                return v.smaller(a, b)
            case "max":
                return v.larger(a, b)
            case "<<" if b.is_const and 0 <= b.const < t.bits:
                return v.in_dtype(a * (1 << b.const), t)
            case ">>" if b.is_const and 0 <= b.const < t.bits:
                return v.floordiv(a, constant(1 << b.const), t)
            case "&" if b.is_const and b.const >= 0 and (b.const + 1) & b.const == 0:
                return v.mod(a, constant(b.const + 1), t)
            case "|" | "^" if v.interval(a)[0] >= 0 and v.interval(b)[0] >= 0:
                bits = max(v.interval(a)[1].bit_length(), v.interval(b)[1].bit_length())
                return v.opaque((e.op, a, b), "bits", 0, (1 << bits) - 1)
            case "&" if v.interval(a)[0] >= 0 or v.interval(b)[0] >= 0:
                (alo, ahi), (blo, bhi) = v.interval(a), v.interval(b)
                top = min([hi for lo, hi in ((alo, ahi), (blo, bhi)) if lo >= 0])
                return v.opaque(("&", a, b), "masked", 0, top)
            case _:
                return self.unknown((e.op, a, b, t), "bits", t)

    def truth(self, e: Expr) -> Truth:
        """What is known where the boolean `e` is true, and where it is false."""
        match e:
            case Const():
                return decided(bool(e.value))
            case Var():
                found = self.names.get(e.name)
                return found if isinstance(found, Truth) else UNKNOWN
            case Load(index=()):
                stored = self.known.get(e.buffer)
                return stored if isinstance(stored, Truth) else self.flag(e)
            case Load():
                return self.flag(e)
            case Unary():
                return self.truth(e.x).negated()
            case Compare() if e.a.dtype.is_int:
                return self.values.compare(e.op, self.value(e.a), self.value(e.b))
            case Logic(op="and") | Binary(op="&" | "*"):
                return self.truth(e.a).both(self.truth(e.b))
            case Logic() | Binary(op="|" | "+"):
                return self.truth(e.a).either(self.truth(e.b))
            case Select():
                cond = self.truth(e.cond)
                return cond.both(self.truth(e.a)).either(cond.negated().both(self.truth(e.b)))
            case Cast(x=x) if x.dtype.is_int:
                return self.values.compare("!=", self.value(x), constant(0))
            case Cast(x=x) if x.dtype == bool_:
                return self.truth(x)
            case Let():
                names = self.names
                self.bind(e)
                truth = self.truth(e.body)
                self.names = names
                return truth
            case _:
                return UNKNOWN

    def flag(self, e: Load) -> Truth:
        """A boolean in memory: unknown, but the same until it is written."""
        return self.values.compare("!=", self.values.opaque(self.load_key(e), e.buffer, 0, 1), constant(0))
