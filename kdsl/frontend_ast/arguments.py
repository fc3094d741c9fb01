"""Arguments of inlined calls: checked against annotations, bound to names and sizes."""

from __future__ import annotations

import ast

from kdsl.dtypes import ArrayType, DType, Size, TypeVar, constexpr
from kdsl.frontend_ast import core, facts
from kdsl.frontend_ast.calls import Calls
from kdsl.frontend_ast.frames import (
    EXPR,
    Array,
    Binding,
    Frame,
    Static,
    Tuple,
    Value,
    View,
)
from kdsl.frontend_ast.source import MISSING, KernelSource, ParamSpec
from kdsl.source import Loc


class Arguments(Calls):
    """Binding the parameters of a callee's frame."""

    def _bound_arguments(self, source: KernelSource, node: ast.Call) -> list[tuple[Value, ast.AST]]:
        """One value for each parameter, evaluated in the order of the call."""
        params = source.params
        names = [p.name for p in params]
        order: list[tuple[int, ast.expr]] = []
        if len(node.args) > len(params):
            self.error(
                "K0241",
                f"`{source.name}` takes {len(params)} argument{'s' * (len(params) != 1)}",
                node,
                label=f"{len(node.args)} given",
                notes=_defined(source),
                help=f"call {source.name}({', '.join(names)})",
            )
        order += enumerate(node.args)
        for k in node.keywords:
            if k.arg is None or k.arg not in names or any(n == names.index(k.arg) for n, _ in order):
                self.error(
                    "K0241",
                    f"`{source.name}` has no further argument `{k.arg}`",
                    node,
                    notes=_defined(source),
                    help=f"call {source.name}({', '.join(names)})",
                )
            order.append((names.index(k.arg), k.value))
        values = self.values([e for _, e in order])
        given: dict[int, tuple[Value, ast.AST]] = {n: (v, e) for (n, e), v in zip(order, values)}
        out = []
        for n, p in enumerate(params):
            if n not in given:
                if p.default is MISSING:
                    self.error(
                        "K0241",
                        f"`{source.name}` needs the argument `{p.name}`",
                        node,
                        notes=_defined(source),
                        help=f"call {source.name}({', '.join(names)})",
                    )
                given[n] = (self.outside(p.default, node), node)
            out.append(given[n])
        return out

    def _bind_parameters(self, frame: Frame, values: list[tuple[Value, ast.AST]], node: ast.Call) -> None:
        """Checks the arguments against the annotations and binds names, sizes and type variables."""
        source = frame.source
        for p, (value, at) in zip(source.params, values):
            if isinstance(p.annotation, ArrayType):
                self._check_array(frame, p, value, at)
        self._unify(frame, [(p, v, at) for p, (v, at) in zip(source.params, values)])
        for p, (value, at) in zip(source.params, values):
            match p.annotation:
                case ArrayType():
                    frame.env[p.name] = Binding(self._renamed(value, p.name), p.loc, True)
                case _ if p.annotation is constexpr:
                    known = isinstance(value, (core.Num, Static)) or (
                        isinstance(value, Tuple)
                        and all(isinstance(v, (core.Num, Static)) for v in value.items)
                    )
                    if not known:
                        self.error(
                            "K0242",
                            f"argument `{p.name}` of `{source.name}` must be a constant",
                            at,
                            notes=_defined(source, p),
                            help="pass a number, or a kdsl.constexpr argument of this kernel",
                        )
                    frame.env[p.name] = Binding(value, p.loc, True)
                case DType() as dtype:
                    e = self._scalar_argument(source, p, value, at)
                    self._bind_scalar(frame, p, self.cast(dtype, e, e.loc), at)
                case TypeVar() as var:
                    e = self._scalar_argument(source, p, value, at)
                    bound = frame.types.setdefault(var.name, core.Like(e))
                    self._bind_scalar(frame, p, self.cast(bound, e, e.loc), at)
                case _:
                    if isinstance(value, View):
                        frame.env[p.name] = Binding(self._renamed(value, p.name), p.loc, True)
                    elif isinstance(value, EXPR):
                        self._bind_scalar(frame, p, value, at)
                    elif isinstance(value, Array):
                        self._scalar_argument(source, p, value, at)
                    else:
                        frame.env[p.name] = Binding(value, p.loc, True)

    def _scalar_argument(self, source: KernelSource, p: ParamSpec, value: Value, at: ast.AST) -> core.Expr:
        if isinstance(value, EXPR) or (isinstance(value, View) and not value.shape):
            return self.scalar(value, at)
        self.error(
            "K0242",
            f"argument `{p.name}` of `{source.name}` is a scalar, but {self.describe(value)} is passed",
            at,
            notes=_defined(source, p),
            help="pass one element" if isinstance(value, View) else "pass a number",
        )

    def _check_array(self, frame: Frame, p: ParamSpec, value: Value, at: ast.AST) -> None:
        source, annotation = frame.source, p.annotation
        assert isinstance(annotation, ArrayType)
        rank = len(annotation.shape)
        if not isinstance(value, View):
            self.error(
                "K0242",
                f"argument `{p.name}` of `{source.name}` is an array, but {self.describe(value)} is passed",
                at,
                notes=_defined(source, p),
                help="assign the expression to a local array first"
                if isinstance(value, Array)
                else "pass an array or a slice",
            )
        if len(value.shape) != rank:
            have = f"`{value.text}` has rank {len(value.shape)}"
            self.error(
                "K0242",
                f"argument `{p.name}` of `{source.name}` has rank {rank}, but {have}",
                at,
                notes=_defined(source, p),
                help=f"pass a slice of rank {rank}, such as {value.text}[{', '.join([':'] * rank)}]"
                if len(value.shape) < rank
                else f"pass a slice of rank {rank}, such as "
                f"{value.text}[{', '.join(['i'] * (len(value.shape) - rank) + [':'] * rank)}]",
            )
        want = annotation.dtype
        element = value.buffer.dtype
        if isinstance(want, TypeVar):
            bound = frame.types.get(want.name)
            if bound is None:
                if isinstance(element, DType) and element not in want.choices:
                    choices = ", ".join(map(str, want.choices))
                    self.error(
                        "K0242",
                        f"argument `{p.name}` of `{source.name}` may be {choices}, not {element}",
                        at,
                        notes=_defined(source, p),
                        help="convert the array before the call",
                    )
                frame.types[want.name] = element
                return
            if bound == element:
                return
            shown: object = f"{want.name} = {bound}"
        elif want == element:
            return
        else:
            shown = want
        self.error(
            "K0242",
            f"argument `{p.name}` of `{source.name}` is {shown}, but `{value.text}` is {element}",
            at,
            notes=_defined(source, p),
            help="change the annotation, or copy into a local array of the other type",
        )

    def _unify(self, frame: Frame, args: list[tuple[ParamSpec, Value, ast.AST]]) -> None:
        """Gives the callee's size symbols their values and checks all other extents."""
        left: list[tuple[ParamSpec, int, Size, core.Expr, ast.AST]] = []
        for p, value, at in args:
            if isinstance(p.annotation, ArrayType) and isinstance(value, View):
                for dim, (want, have) in enumerate(zip(p.annotation.shape, value.shape)):
                    have = self.frozen(have, "extent")
                    if want.symbol is not None and want.symbol not in frame.symbols:
                        frame.symbols[want.symbol] = have
                    else:
                        left.append((p, dim, want, have, at))
        while left:
            ready = next((x for x in left if sum(s not in frame.symbols for s in x[2].terms) <= 1), None)
            if ready is None:
                return
            left.remove(ready)
            p, dim, want, have, at = ready
            unknown = [s for s in want.terms if s not in frame.symbols]
            outer, self.frame = self.frame, frame
            try:
                rest = Size({s: c for s, c in want.terms.items() if s not in unknown}, want.const)
                known = self.size(rest, p.loc)
            finally:
                self.frame = outer
            title = (
                f"dimension {dim} of `{p.name}` is not the {want} of `{frame.source.name}`'s other arguments"
            )
            loc = self.loc(at)
            if not unknown:
                self.require_equal(known, have, title, loc, "K0243", "pass arrays whose sizes agree")
                continue
            coefficient = want.terms[unknown[0]]
            scaled = facts.sub(have, known)
            if coefficient == 1:
                frame.symbols[unknown[0]] = scaled
                continue
            value_of = facts.constant(scaled)
            if value_of is not None and value_of % coefficient == 0:
                frame.symbols[unknown[0]] = core.Num(value_of // coefficient)
                continue
            quotient = self.frozen(core.Bin("//", scaled, core.Num(coefficient), loc))
            frame.symbols[unknown[0]] = quotient
            self.require_equal(facts.mul(core.Num(coefficient), quotient), scaled, title, loc, "K0243")

    def _renamed(self, value: Value, name: str) -> Value:
        """A view under the callee's name for it, so that messages there use its words."""
        if isinstance(value, View):
            return View.of(value.buffer, value.shape, value.place, name, value.whole)
        return value

    def _bind_scalar(self, frame: Frame, p: ParamSpec, e: core.Expr, at: ast.AST) -> None:
        """A scalar parameter: the argument itself when that cannot change or fail, else a variable."""
        rebound = frame.counts[p.name] > 0
        if not rebound and _cheap(e):
            frame.env[p.name] = Binding(e, p.loc)
            return
        if not rebound and frame.straight and _used_once(frame.source, p.name) and not facts.can_fault(e):
            frame.env[p.name] = Binding(e, p.loc)
            return
        var = core.Variable(p.name, p.loc, fixed=not rebound, checked=False)
        self.out.append(core.Assign(var, e, loc=self.loc(at)))
        frame.variables[p.name] = var
        frame.env[p.name] = Binding(var, p.loc)


def _cheap(e: core.Expr) -> bool:
    """Whether an argument can stand for its parameter wherever that is used."""
    return (
        isinstance(e, (core.Num, core.SizeVar, core.LoopRef))
        or (isinstance(e, core.Ref) and e.var.fixed)
        or (facts.stable(e) and facts.is_shape(e) and not facts.can_fault(e))
    )


def _used_once(source: KernelSource, name: str) -> bool:
    """Whether a straight function reads `name` once, where it is certainly evaluated."""
    count = 0
    for s in source.node.body:
        for n in ast.walk(s):
            if isinstance(n, (ast.IfExp, ast.BoolOp, ast.Compare)) and any(
                isinstance(m, ast.Name) and m.id == name for m in ast.walk(n)
            ):
                return False
            if isinstance(n, ast.Name) and n.id == name:
                count += 1
    return count <= 1


def _defined(source: KernelSource, p: ParamSpec | None = None) -> list[str | tuple[Loc, str]]:
    where = p.loc if p is not None else source.loc
    return [(where, "declared here" if p is not None else "defined here")] if where is not None else []
