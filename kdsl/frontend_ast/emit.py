"""Core statements to IR: storage types by fixpoint, names, accumulations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from kdsl.dtypes import DType, bool_, i64
from kdsl.errors import CompileError
from kdsl.frontend_ast import core, facts
from kdsl.frontend_ast.types import Ty, arithmetic, join
from kdsl.frontend_ast.typing import Names, Typist, Unready
from kdsl.frontend_ast.webs import Web, Webs
from kdsl.ir import nodes as ir
from kdsl.source import Loc

_ACCUMULATE: dict[str, Literal["+", "*", "min", "max"]] = {
    "+": "+",
    "-": "+",
    "*": "*",
    "min": "min",
    "max": "max",
}


class Emitter:
    """Emits one kernel's body."""

    def __init__(self, webs: Webs, names: Names) -> None:
        self.webs = webs
        self.names = names
        self.types = Typist(webs, names)
        self.homes: dict[int, list[Web]] = {}
        for web in webs.all:
            if web.before is not None and web.param is None:
                self.homes.setdefault(id(web.before), []).append(web)

    # ---- types of storage

    def find_types(self, body: core.Body) -> None:
        """Joins the types of all values that each web is given, to a fixpoint."""
        values: list[tuple[Web, core.Stmt]] = []
        _collect(body, self.webs, values)
        known = self.types.web_types
        for web in self.webs.all:
            if web.declared is not None:
                known[id(web)] = Ty(web.declared)
            else:
                for d in web.definitions:
                    if d.stmt is None and d.var.param is not None and web.param is None:
                        known[id(web)] = Ty(d.var.param.dtype, d.var.param.weak)
        taken = set(self.names.taken)
        changed = True
        while changed:
            changed = False
            for web, s in values:
                if web.declared is not None:
                    continue
                try:
                    if isinstance(s, core.Atomic):
                        ty = Ty(self.types.dtype(s.buffer.dtype))
                    else:
                        assert isinstance(s, core.Assign)
                        ty = self.types.expr(s.value)[1]
                except (Unready, CompileError):
                    # A type may still grow; what stays wrong is reported when the statement is emitted.
                    continue
                old = known.get(id(web))
                new = ty if old is None else join(old, ty)
                if new != old:
                    known[id(web)] = new
                    changed = True
        self.names.forget(taken)

    # ---- statements

    def body(self, body: core.Body) -> ir.Body:
        out: list[ir.Stmt] = []
        for s in body:
            for web in self.homes.get(id(s), ()):
                out += self._alloc_web(web)
            self._stmt(s, out)
        return tuple(out)

    def _alloc_web(self, web: Web) -> list[ir.Stmt]:
        ty = self.types.web_types.get(id(web))
        loc = next((d.stmt.loc for d in web.definitions if d.stmt is not None), web.var.loc)
        if ty is None:
            # No value could be typed: emitting its first one reports why.
            for d in web.definitions:
                if isinstance(d.stmt, core.Assign):
                    try:
                        self.types.expr(d.stmt.value)
                    except Unready:
                        continue
            raise CompileError(
                "K0256",
                f"the type of `{web.var.name}` cannot be found: its value depends on itself",
                loc=loc,
                help=f"annotate it: {web.var.name}: f32 = ...",
            )
        param = next(
            (d.var.param for d in web.definitions if d.stmt is None and d.var.param is not None), None
        )
        name = self.names.fresh(web.var.name)
        self.types.web_names[id(web)] = name
        out: list[ir.Stmt] = [ir.Alloc(name, ty.dtype, (), loc=loc)]
        if param is not None:
            value = self.types.convert(
                (ir.Var(param.name, param.dtype), Ty(param.dtype, param.weak)), ty.dtype, loc
            )
            out.append(ir.Store(name, (), value, loc=loc))
        return out

    def _stmt(self, s: core.Stmt, out: list[ir.Stmt]) -> None:
        types = self.types
        match s:
            case core.Assign():
                web = self.webs.of_stmt[id(s)]
                if id(web) not in types.web_names:
                    # Never read: evaluated for its faults and type errors all the same.
                    out += self._alloc_web(web)
                name = types.web_names[id(web)]
                self._write(
                    name, (), (), types.web_types[id(web)], s.value, s.augmented, web, None, s.loc, out
                )
            case core.Store():
                dtype = types.dtype(s.buffer.dtype)
                index = tuple(types.index(i) for i in s.index)
                name = types.buffer_names.get(id(s.buffer), s.buffer.name)
                self._write(name, index, s.index, Ty(dtype), s.value, s.augmented, None, s.buffer, s.loc, out)
            case core.For():
                lo, hi, step = (self._bound(e) for e in (s.lo, s.hi, s.step))
                name = self.names.fresh(s.loop.name)
                types.loop_names[id(s.loop)] = name
                out.append(ir.Loop(name, lo, hi, step, self.body(s.body), loc=s.loc))
            case core.While():
                out.append(ir.While(types.cond(s.cond), self.body(s.body), loc=s.loc))
            case core.If():
                out.append(ir.If(types.cond(s.cond), self.body(s.then), self.body(s.orelse), loc=s.loc))
            case core.Break():
                out.append(ir.Break(loc=s.loc))
            case core.Continue():
                out.append(ir.Continue(loc=s.loc))
            case core.Return():
                out.append(ir.Return(loc=s.loc))
            case core.Alloc():
                dtype = types.dtype(s.buffer.dtype)
                if isinstance(s.buffer.dtype, core.Like):
                    types.like_types[id(s.buffer.dtype)] = dtype
                name = self.names.fresh(s.buffer.name)
                types.buffer_names[id(s.buffer)] = name
                shape = tuple(types.convert(types.expr(e), i64, e.loc) for e in s.buffer.shape)
                out.append(ir.Alloc(name, dtype, shape, loc=s.loc))
            case core.Atomic():
                self._atomic(s, out)
            case core.Assert():
                out.append(ir.Assert(types.cond(s.cond), s.message, loc=s.loc))
            case core.Print():
                items: list[str | ir.Expr] = []
                for item in s.items:
                    if isinstance(item, str):
                        items.append(item)
                    else:
                        value = types.expr(item)
                        items.append(types.convert(value, value[1].dtype, item.loc))
                out.append(ir.Print(tuple(items), s.sep, s.end, loc=s.loc))
            case core.Block() | core.Exit():
                raise AssertionError("blocks were removed")

    def _bound(self, e: core.Expr) -> ir.Expr:
        x, ty = self.types.expr(e)
        if ty.dtype.is_float or ty.dtype == bool_:
            raise CompileError(
                "K0229",
                "a loop bound must be an integer",
                loc=e.loc,
                label=f"this is a {ty}",
                help="write int(x), or use `//` instead of `/`",
            )
        return self.types.convert((x, ty), i64, e.loc)

    def _atomic(self, s: core.Atomic, out: list[ir.Stmt]) -> None:
        types = self.types
        dtype = types.dtype(s.buffer.dtype)
        if dtype == bool_:
            raise CompileError(
                "K0257", "an atomic cannot update bools", loc=s.loc, help="use an array of i32"
            )
        value = self._stored(s.value, dtype, s.loc)
        old = ""
        if s.old is not None:
            web = self.webs.of_stmt.get(id(s))
            if web is not None and id(web) in types.web_names:
                old = types.web_names[id(web)]
                if types.web_types[id(web)].dtype != dtype:
                    raise AssertionError("the old value has the array's type")
        index = tuple(types.index(i) for i in s.index)
        name = types.buffer_names.get(id(s.buffer), s.buffer.name)
        out.append(ir.Atomic(s.op, name, index, value, old, loc=s.loc))

    def _stored(self, e: core.Expr, to: DType, loc: Loc | None) -> ir.Expr:
        """A value cast as a NumPy assignment casts it."""
        value = self.types.expr(e)
        if to == bool_:
            return self.types.cast(value, to, loc)
        return self.types.convert(value, to, loc)

    # ---- accumulations

    def _write(
        self,
        name: str,
        index: tuple[ir.Expr, ...],
        core_index: tuple[core.Expr, ...],
        ty: Ty,
        value: core.Expr,
        augmented: bool,
        web: Web | None,
        buffer: core.Buffer | None,
        loc: Loc | None,
        out: list[ir.Stmt],
    ) -> None:
        """`name[index] = value`, as accumulations when the value is the cell and something more."""

        def cell(e: core.Expr) -> bool:
            if isinstance(e, core.Ref):
                return web is not None and not e.var.let and self.webs.of_ref.get(id(e)) is web
            if isinstance(e, core.Load) and e.buffer is buffer:
                return [facts.key(i) for i in e.index] == [facts.key(i) for i in core_index]
            return False

        def reads_cell(e: core.Expr) -> bool:
            return cell(e) or any(reads_cell(c) for c in facts.children(e))

        terms = _terms(value, cell, augmented)
        if terms is not None and ty.dtype != bool_ and not any(reads_cell(v) for _, v in terms):
            emitted = []
            for op, term in terms:
                typed = self.types.expr(term)
                sum_type = arithmetic(op, ty, typed[1])
                wraps = op in ("+", "-", "*") and ty.dtype.is_int and not sum_type.dtype.is_float
                wraps = wraps and typed[1].dtype != bool_
                if sum_type.dtype != ty.dtype and not wraps:
                    break
                if op in ("min", "max") and term is not terms[0][1]:
                    break
                if sum_type.dtype != ty.dtype:
                    x = self.types.convert(
                        (self.types.convert(typed, sum_type.dtype, loc), sum_type), ty.dtype, loc
                    )
                else:
                    x = self.types.convert(typed, ty.dtype, loc)
                if op == "-":
                    x = _negated(x, loc)
                emitted.append(ir.Accumulate(_ACCUMULATE[op], name, index, x, loc=loc))
            else:
                out += emitted
                return
        out.append(ir.Store(name, index, self._stored(value, ty.dtype, loc), loc=loc))


def _negated(x: ir.Expr, loc: Loc | None) -> ir.Expr:
    if isinstance(x, ir.Const) and (x.type.is_float or x.type.min <= -x.value <= x.type.max):
        return ir.Const(-x.value, x.type, loc=x.loc)
    return ir.Unary("-", x, loc=loc)


def _terms(
    value: core.Expr, cell: Callable[[core.Expr], bool], augmented: bool
) -> list[tuple[str, core.Expr]] | None:
    """The operators and terms when `value` is `cell op term op term ...`, else None.

    `cell + a - b`, `a + cell`, `cell * a`, `max(cell, a)`.
    """
    if not isinstance(value, core.Bin) or value.op not in _ACCUMULATE:
        return None
    if cell(value.a):
        return [(value.op, value.b)]
    if augmented:
        return None
    if value.op in ("+", "*") and cell(value.b):
        return [(value.op, value.a)]
    if value.op in ("+", "-", "*") and isinstance(value.a, core.Bin):
        same = {"+": ("+", "-"), "-": ("+", "-"), "*": ("*",)}[value.op]
        if value.a.op in same:
            inner = _terms(value.a, cell, False)
            if inner is not None:
                return [*inner, (value.op, value.b)]
    return None


def _collect(body: core.Body, webs: Webs, out: list[tuple[Web, core.Stmt]]) -> None:
    """Every assignment with its web, in program order."""
    for s in body:
        match s:
            case core.Assign():
                out.append((webs.of_stmt[id(s)], s))
            case core.Atomic() if s.old is not None:
                out.append((webs.of_stmt[id(s)], s))
            case core.For() | core.While() | core.Block():
                _collect(s.body, webs, out)
            case core.If():
                _collect(s.then, webs, out)
                _collect(s.orelse, webs, out)
            case _:
                pass
