"""Assignments: to names, elements, slices and tuples of them."""

from __future__ import annotations

import ast

from kdsl.dtypes import DType, TypeVar
from kdsl.frontend_ast import core, facts
from kdsl.frontend_ast.exprs import BINARY
from kdsl.frontend_ast.frames import (
    EXPR,
    Array,
    Binding,
    Static,
    Tuple,
    Value,
    View,
)
from kdsl.frontend_ast.inlining import Inlining
from kdsl.source import Loc, syntax_tree


class Assignments(Inlining):
    """Everything that gives a name or an element a value."""

    def _assign(self, node: ast.Assign) -> None:
        target = node.targets[0]
        if len(node.targets) == 1 and isinstance(target, ast.Name):
            self.hint = target.id if isinstance(node.value, ast.Call) else ""
            value = self.expr(node.value)
            self.hint = ""
            self.bind(target, value, node)
            return
        value = self.expr(node.value)
        if len(node.targets) > 1 and isinstance(value, EXPR):
            value = self.frozen(value)
        for t in node.targets:
            self._assign_to(t, value, node)

    def _assign_to(self, target: ast.expr, value: Value, node: ast.stmt) -> None:
        match target:
            case ast.Name():
                self.bind(target, value, node)
            case ast.Subscript():
                self._store(target, value, node)
            case ast.Tuple():
                if not isinstance(value, Tuple):
                    self.error(
                        "K0223",
                        f"{self.describe(value)} cannot be unpacked into {len(target.elts)} names",
                        node,
                        help="give as many values as names",
                    )
                if len(value.items) != len(target.elts):
                    self.error(
                        "K0223",
                        f"{len(value.items)} values cannot be unpacked into {len(target.elts)} names",
                        node,
                        help="give as many values as names",
                    )
                items = self._saved(target.elts, list(value.items))
                for t, v in zip(target.elts, items):
                    self._assign_to(t, v, node)
            case _:
                self.error(
                    "K0110",
                    f"`{ast.unparse(target)}` cannot be assigned to",
                    target,
                    help="assign to a name or to an element: A[i] = ...",
                )

    def _saved(self, targets: list[ast.expr], values: list[Value]) -> list[Value]:
        """The right side of a tuple assignment, values that an earlier target changes in temporaries."""
        names: set[str] = set()
        stores = False
        out: list[Value] = []
        for target, value in zip(targets, values):
            if isinstance(value, EXPR) and not facts.stable(value):
                reads: list[core.Ref] = []
                facts.refs(value, reads)
                changed = any(r.var.name in names for r in reads) or (stores and facts.has_load(value))
                out.append(self.temp(value) if changed else value)
            else:
                out.append(value)
            for n in ast.walk(target):
                if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store):
                    names.add(n.id)
            stores = stores or not isinstance(target, ast.Name)
        return out

    def bind(self, target: ast.Name, value: Value, node: ast.stmt, declared: DType | None = None) -> None:
        """`target = value` for a name."""
        name, loc = target.id, self.loc(target)
        old = self.frame.env.get(name)
        self._check_rebinding(name, old, loc)
        if isinstance(value, EXPR):
            if self.frame.straight:
                same = isinstance(value, (core.Num, core.LoopRef, core.SizeVar))
                same = same or (isinstance(value, core.Ref) and value.var.fixed)
                if same and declared is None:
                    self.frame.env[name] = Binding(value, loc)
                    return
                var = core.Variable(name, loc, fixed=True, checked=False)
            else:
                var = self.frame.variable(name, loc)
            if self.frame.counts[name] == 1 and facts.is_shape(value):
                var.shape_value = value
            self.out.append(core.Assign(var, value, declared, loc=self.loc(node)))
            self.frame.env[name] = Binding(var, loc)
            return
        if isinstance(value, Array) and not isinstance(value, View):
            self.error(
                "K0224",
                "an array expression needs a place to go",
                node,
                help=f"make a local array first: {name} = kdsl.empty(shape, f32); {name}[...] = ...",
            )
        if isinstance(value, Static) and isinstance(value.value, str):
            self.error(
                "K0225",
                "a string cannot be kept in a variable",
                node,
                help="write the text where it is printed",
            )
        if isinstance(value, Static) and value.value is None:
            self.error(
                "K0225",
                "`None` cannot be kept in a variable",
                node,
                help="start with a number, and keep in a second variable whether it counts",
            )
        self.frame.env[name] = Binding(value, loc)

    def _check_rebinding(self, name: str, old: Binding | None, loc: Loc) -> None:
        if old is None:
            return
        if isinstance(old.value, core.LoopVar):
            notes = [(old.value.loc, "its loop")] if old.value.loc else []
            self.error(
                "K0226",
                f"loop variable `{name}` is assigned inside its loop",
                loc,
                notes=notes,
                help=f"use another name: a `for` loop sets `{name}` itself, so Python forgets this value too",
            )
        if old.argument:
            what = "array argument" if isinstance(old.value, View) else "compile-time constant"
            self.error(
                "K0227",
                f"{what} `{name}` is assigned to",
                loc,
                notes=[(old.loc, "defined here")] if old.loc else [],
                help=f"write {name}[...] = ... to set its elements, or use another name"
                if isinstance(old.value, View)
                else "use another name",
            )

    def _store(self, target: ast.Subscript, value: Value, node: ast.stmt) -> None:
        value, place = self.operands([lambda: value, lambda: self._place(target)])
        if isinstance(place, core.Load):
            written = node.value if isinstance(node, (ast.Assign, ast.AnnAssign)) else None
            e = self.scalar(value, written or node)
            self.out.append(core.Store(place.buffer, place.index, e, loc=self.loc(node)))
        else:
            assert isinstance(place, View)
            self.assign_slice(place, value, node)

    def _place(self, target: ast.Subscript) -> core.Load | View:
        """What `target` names for a store: one element or a view."""
        array = self.expr(target.value)
        if not isinstance(array, View):
            self.error(
                "K0214",
                f"{self.describe(array)} has no elements to assign to",
                target,
                help="only arrays can be written",
            )
        place = self.subscript(array, target)
        assert isinstance(place, (core.Load, View))
        return place

    def _augmented(self, node: ast.AugAssign) -> None:
        op = BINARY[type(node.op)]
        loc = self.loc(node)
        target = node.target
        if isinstance(target, ast.Subscript):
            place = self._place(target)
            if isinstance(place, View):
                self.assign_slice(place, self.expr(node.value), node, op)
                return
            old, value = self.operands([lambda: place, lambda: self.expr(node.value)])
            e = core.Bin(op, self.scalar(old, node), self.scalar(value, node.value), loc)
            self.out.append(core.Store(place.buffer, place.index, e, old is place, loc))
            return
        if not isinstance(target, ast.Name):
            self.error("K0110", f"`{ast.unparse(target)}` cannot be assigned to", target)
        binding = self.frame.env.get(target.id)
        current = self.name(ast.copy_location(ast.Name(target.id, ast.Load()), target))
        if isinstance(current, View):
            self.assign_slice(current, self.expr(node.value), node, op)
            return
        if isinstance(current, (Static, Tuple)):
            self.error("K0206", f"`{op}=` has no meaning for {self.describe(current)}", node)
        self._check_rebinding(target.id, binding, self.loc(target))
        old, value = self.operands([lambda: current, lambda: self.expr(node.value)])
        e = core.Bin(op, self.scalar(old, node), self.scalar(value, node.value), loc)
        if self.frame.straight:
            self.bind(target, e, node)
            return
        var = self.frame.variable(target.id, self.loc(target))
        same = isinstance(old, core.Ref) and old.var is var
        self.out.append(core.Assign(var, e, augmented=same, loc=loc))
        self.frame.env[target.id] = Binding(var, self.loc(target))

    def _annotated(self, node: ast.AnnAssign) -> None:
        if node.value is None or not isinstance(node.target, ast.Name):
            self.error(
                "K0116",
                "an annotation needs a name and a value",
                node,
                help="write m: f32 = 0, or make a local array: kdsl.empty(n, f32)",
            )
        annotation = self.expr(self._parsed(node.annotation))
        if not isinstance(annotation, Static) or not isinstance(annotation.value, (DType, core.Like)):
            known = isinstance(annotation, Static) and isinstance(annotation.value, TypeVar)
            self.error(
                "K0116",
                "type variable is not bound here"
                if known
                else "a local name can be annotated with a scalar type only",
                node.annotation,
                help="write f32, i64, ...; local arrays are made by kdsl.empty, zeros and full",
            )
        value = self.scalar_expr(node.value)
        declared = annotation.value
        if isinstance(declared, core.Like):
            self.bind(node.target, core.Cast(value, declared, value.loc), node)
        else:
            self.bind(node.target, value, node, declared)

    def _parsed(self, node: ast.expr) -> ast.expr:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            try:
                inner: ast.expr = syntax_tree(node.value, "eval").body
            except SyntaxError:
                self.error("K0116", f"`{node.value}` is not a type", node, help="write f32, i64, ...")
            for n in ast.walk(inner):
                ast.copy_location(n, node)
            return inner
        return node
