"""Python statements."""

from __future__ import annotations

import ast
from collections.abc import Callable

from kdsl.dtypes import DType, TypeVar
from kdsl.frontend_ast import core
from kdsl.frontend_ast.exprs import BINARY
from kdsl.frontend_ast.frames import (
    EXPR,
    Array,
    Binding,
    Poison,
    Result,
    Static,
    Tuple,
    Value,
    View,
    bound_names,
)
from kdsl.frontend_ast.inlining import Inlining, may_leave
from kdsl.frontend_ast.scope import Function
from kdsl.source import Loc

UNROLL_LIMIT = 4096


class Statements(Inlining):
    """`body` elaborates a block; it tells whether its end can be reached."""

    def body(self, nodes: list[ast.stmt]) -> bool:
        return all(self.statement(node) for node in nodes)

    def statement(self, node: ast.stmt) -> bool:
        """One statement; False when control never goes on to the next one."""
        match node:
            case ast.Assign():
                self._assign(node)
            case ast.AugAssign():
                self._augmented(node)
            case ast.AnnAssign():
                self._annotated(node)
            case ast.For():
                return self._for(node)
            case ast.While():
                return self._while(node)
            case ast.If():
                return self._if(node)
            case ast.Return():
                self.return_(node)
                return False
            case ast.Break() | ast.Continue():
                self._leave(node)
                return False
            case ast.Assert():
                self._assert(node)
            case ast.Expr():
                self._expression(node)
            case ast.Pass():
                pass
            case _:
                self.error("K0110", f"`{ast.unparse(node)}` cannot be used in a kernel", node)
        return True

    def _expression(self, node: ast.Expr) -> None:
        value = node.value
        if isinstance(value, ast.Constant):
            return
        if not isinstance(value, ast.Call):
            self.error(
                "K0115",
                "this expression has no effect",
                node,
                help="assign it to a name, or remove it",
            )
        if not self.atomic_statement(value):
            self.call_any(value, False)

    # ---- assignment

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
                        "K0223", f"{self.describe(value)} cannot be unpacked into {len(target.elts)} names", node,
                        help="give as many values as names",
                    )  # fmt: skip
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
        """The right side of a tuple assignment, with those values in temporaries that an earlier target changes."""
        names: set[str] = set()
        stores = False
        out: list[Value] = []
        for target, value in zip(targets, values):
            if isinstance(value, EXPR) and not core.stable(value):
                reads: list[core.Ref] = []
                core.refs(value, reads)
                changed = any(r.var.name in names for r in reads) or (stores and core.has_load(value))
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
                if isinstance(value, (core.Num, core.LoopRef, core.SizeVar)) and declared is None:
                    self.frame.env[name] = Binding(value, loc)
                    return
                var = core.Variable(name, loc, fixed=True, checked=False)
            else:
                var = self.frame.variable(name, loc)
            if self.frame.counts[name] == 1 and core.is_shape(value):
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
            e = self.scalar(value, node)
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
                inner = ast.parse(node.value, mode="eval").body
            except SyntaxError:
                self.error("K0116", f"`{node.value}` is not a type", node, help="write f32, i64, ...")
            for n in ast.walk(inner):
                ast.copy_location(n, node)
            return inner
        return node

    # ---- control flow

    def _if(self, node: ast.If) -> bool:
        cond = self.truth(self.expr(node.test), node.test)
        if isinstance(cond, core.Num):
            return self.body(node.body if cond.value else node.orelse)
        before = dict(self.frame.env)
        falls = [True, True]
        envs: list[dict[str, Binding]] = []
        bodies: list[core.Body] = []
        for side, nodes in enumerate((node.body, node.orelse)):
            self.frame.env = dict(before)

            def run(side: int = side, nodes: list[ast.stmt] = nodes) -> None:
                falls[side] = self.body(nodes)

            bodies.append(self.in_body(run))
            envs.append(self.frame.env)
        loc = self.loc(node)
        self.out.append(core.If(cond, bodies[0], bodies[1], loc))
        if not all(falls):
            self.certain = False
        if falls[0] and falls[1]:
            self.frame.env = self._merged(envs[0], envs[1])
        else:
            self.frame.env = envs[0] if falls[0] else envs[1]
        return falls[0] or falls[1]

    def _merged(self, a: dict[str, Binding], b: dict[str, Binding]) -> dict[str, Binding]:
        """The names after two paths meet. Scalars are sorted out later, arrays must be the same on both."""
        out: dict[str, Binding] = {}
        for name in [*a, *(n for n in b if n not in a)]:
            x, y = a.get(name), b.get(name)
            one = x or y
            assert one is not None
            if x is not None and y is not None:
                if x.value is y.value or _same_constant(x.value, y.value):
                    out[name] = x
                else:
                    out[name] = Binding(Poison("differs between the paths that lead here", y.loc), y.loc)
            elif isinstance(one.value, core.Variable):
                out[name] = one
            else:
                out[name] = Binding(Poison("is set on one path only", one.loc), one.loc)
        return out

    def _loop_body(
        self, nodes: list[ast.stmt], head: Callable[[], None] | None = None
    ) -> tuple[core.Body, bool]:
        """A loop's body: names that it binds to arrays or constants do not survive an iteration."""
        env = self.frame.env
        names = bound_names(nodes)
        for name in names:
            old = env.get(name)
            if (
                old is not None
                and not old.argument
                and not isinstance(old.value, (core.Variable, core.LoopVar, Poison))
            ):
                env[name] = Binding(Poison("is set again later in this loop", old.loc), old.loc)
        before = dict(env)
        falls = [True]

        def run() -> None:
            if head is not None:
                head()
            falls[0] = self.body(nodes)

        body = self.in_body(run)
        after = self.frame.env
        for name, binding in after.items():
            old = before.get(name)
            if old is not None and old.value is binding.value:
                continue
            if not isinstance(binding.value, core.Variable):
                after[name] = Binding(
                    Poison("is set inside a loop that may not have run", binding.loc), binding.loc
                )
        return body, falls[0]

    def _while(self, node: ast.While) -> bool:
        loc = self.loc(node)
        statements, cond = self.captured(lambda: self.truth(self.expr(node.test), node.test))
        endless = isinstance(cond, core.Num) and bool(cond.value)
        if isinstance(cond, core.Num) and not cond.value:
            return True
        if statements:
            # The test calls functions: it moves into the loop.
            test = cond
            again, cond = self.lazy(lambda: self.truth(self.expr(node.test), node.test))
            if again:
                test = cond
                head: core.Body = [*again, core.If(core.Un("not", test, loc), [core.Break(loc)], [], loc)]
                self.frame.leaves.append(None)
                body, _ = self._loop_body(node.body, lambda: self.out.extend(head))
                self.frame.leaves.pop()
                self.out.append(core.While(core.Num(True, loc=loc), body, loc))
                self.certain = False
                return True
        self.frame.leaves.append(None)
        body, _ = self._loop_body(node.body)
        self.frame.leaves.pop()
        self.out.append(core.While(cond, body, loc))
        self.certain = False
        return not endless or _breaks(node.body)

    def _for(self, node: ast.For) -> bool:
        loc = self.loc(node)
        iterated = node.iter
        fn = self.expr(iterated.func) if isinstance(iterated, ast.Call) else None
        name = fn.value.name if isinstance(fn, Static) and isinstance(fn.value, Function) else ""
        if not isinstance(iterated, ast.Call) or name not in ("py.range", "grid", "static_range"):
            value = self.expr(iterated)
            if isinstance(value, Array):
                text = ast.unparse(iterated)
                self.error(
                    "K0117", "an array cannot be iterated over", iterated,
                    help=f"loop over its indices: for i in range(len({text})): ... {text}[i]",
                )  # fmt: skip
            self.error(
                "K0117",
                f"a loop over {self.describe(value)} cannot be compiled",
                iterated,
                help="loop over range(...), kdsl.grid(...) or kdsl.static_range(...)",
            )
        if name == "static_range":
            return self._unrolled(node, iterated)
        values = [
            self._loop_bound(v, n)
            for v, n in zip(self.plain(iterated, 1, 8, ast.unparse(iterated.func)), iterated.args)
        ]
        if name == "grid":
            return self._grid(node, iterated, values)
        if len(values) > 3:
            self.error("K0208", "`range` takes 1 to 3 arguments", iterated)
        one, zero = core.Num(1, loc=loc), core.Num(0, loc=loc)
        lo, hi, step = (
            (zero, values[0], one)
            if len(values) == 1
            else (values[0], values[1], values[2] if len(values) == 3 else one)
        )
        if isinstance(step, core.Num) and step.value == 0:
            self.error(
                "K0228", "the step of `range` is 0", iterated, help="use a positive or a negative step"
            )
        if not isinstance(node.target, ast.Name):
            self.error(
                "K0118",
                "`range` gives one value, so it needs one name",
                node.target,
                help="write `for i in range(n):`",
            )
        loop = self._loop_variable(node.target)
        self.frame.leaves.append(None)
        body, _ = self._loop_body(node.body)
        self.frame.leaves.pop()
        self.frame.env[node.target.id] = Binding(self._after(loop), loop.loc)
        self.out.append(core.For(loop, lo, hi, step, body, self._head(node)))
        self._after_loop(body)
        return True

    def _head(self, node: ast.For) -> Loc:
        """The `for` line without its body."""
        at, last = self.loc(node), self.loc(node.iter)
        return Loc(at.filename, at.line, at.col, last.end_line, last.end_col + 1)

    def _after_loop(self, body: core.Body) -> None:
        if any(may_leave(s) for s in body):
            self.certain = False

    def _loop_bound(self, value: Value, node: ast.expr) -> core.Expr:
        e = self.scalar(value, node, "a loop bound")
        if isinstance(e, core.Num) and not isinstance(e.value, int):
            self.error(
                "K0229",
                "a loop bound must be an integer",
                node,
                label="this is a float",
                help="write int(x), or use `//`",
            )
        return e

    def _loop_variable(self, target: ast.Name) -> core.LoopVar:
        name, loc = target.id, self.loc(target)
        old = self.frame.env.get(name)
        if old is not None and isinstance(old.value, core.LoopVar):
            notes = [(old.value.loc, "the outer loop")] if old.value.loc else []
            self.error(
                "K0230",
                f"a loop over `{name}` is nested in a loop over `{name}`",
                target,
                notes=notes,
                help="give the inner loop another variable",
            )
        self._check_rebinding(name, old, loc)
        loop = core.LoopVar(name, self.frame.variable(name, loc), loc)
        self.frame.env[name] = Binding(loop, loc)
        return loop

    def _after(self, loop: core.LoopVar) -> core.Variable:
        assert loop.variable is not None
        return loop.variable

    def _grid(self, node: ast.For, iterated: ast.Call, extents: list[core.Expr]) -> bool:
        targets = list(node.target.elts) if isinstance(node.target, ast.Tuple) else [node.target]
        if len(targets) != len(extents) or not all(isinstance(t, ast.Name) for t in targets):
            self.error(
                "K0118",
                f"`{ast.unparse(iterated.func)}` gives {len(extents)} values, so it needs {len(extents)} names",
                node.target,
                help=f"write `for {', '.join('ijklmnop'[: len(extents)])} in {ast.unparse(iterated)}:`",
            )
        loc = self.loc(node)
        if len(extents) > 1:
            extents = [self.frozen(e, "extent") for e in extents]
        block = core.Block([], loc)
        loops = [self._loop_variable(t) for t in targets if isinstance(t, ast.Name)]
        self.frame.leaves.append((block, None) if len(extents) > 1 else None)
        body, _ = self._loop_body(node.body)
        self.frame.leaves.pop()
        for loop, extent in reversed(list(zip(loops, extents))):
            zero, one = core.Num(0, loc=loc), core.Num(1, loc=loc)
            body = [core.For(loop, zero, extent, one, body, self._head(node))]
            self.frame.env[loop.name] = Binding(self._after(loop), loop.loc)
        block.body = body
        self.out.append(block)
        self._after_loop(body)
        return True

    def _unrolled(self, node: ast.For, iterated: ast.Call) -> bool:
        shown = ast.unparse(iterated.func)
        values = []
        for v, n in zip(self.plain(iterated, 1, 3, shown), iterated.args):
            e = self.scalar(v, n)
            if not isinstance(e, core.Num) or not isinstance(e.value, int):
                self.error(
                    "K0231", f"`{shown}` needs constants", n, label="this is known only when the kernel runs",
                    help="use `range`, or make the argument a kdsl.constexpr",
                )  # fmt: skip
            values.append(int(e.value))
        if len(values) == 3 and values[2] == 0:
            self.error(
                "K0228", f"the step of `{shown}` is 0", iterated, help="use a positive or a negative step"
            )
        numbers = range(*values)
        if len(numbers) > UNROLL_LIMIT:
            self.error(
                "K0231", f"`{shown}` would be unrolled {len(numbers)} times", iterated,
                label=f"the limit is {UNROLL_LIMIT}", help="use `range`",
            )  # fmt: skip
        if not isinstance(node.target, ast.Name):
            self.error("K0118", f"`{shown}` gives one value, so it needs one name", node.target)
        loc = self.loc(node)
        name = node.target.id
        old = self.frame.env.get(name)
        self._check_rebinding(name, old, self.loc(node.target))
        leaves = _leaves(node.body)
        whole = core.Block([], loc)
        outer, falls = self.out, True
        if leaves:
            self.out = whole.body
        self.frame.unrolling += 1
        for number in numbers:
            self.frame.env[name] = Binding(
                core.Num(number, loc=self.loc(node.target)), self.loc(node.target), True
            )
            if not leaves:
                falls = self.body(node.body)
                if not falls:
                    break
                continue
            once = core.Block([], loc)
            self.frame.leaves.append((whole, once))
            body, _ = self._loop_body(node.body)
            self.frame.leaves.pop()
            once.body = body
            self.out.append(once)
        self.frame.unrolling -= 1
        self.out = outer
        if leaves:
            self.out.append(whole)
            self.certain = False
        binding = self.frame.env.pop(name, None)
        if binding is not None and numbers:
            self.frame.env[name] = Binding(Poison("is read after its loop", binding.loc), binding.loc)
        return falls

    def _leave(self, node: ast.Break | ast.Continue) -> None:
        """`break` or `continue`: plain in a plain loop, an exit of a block in unrolled loops and grids."""
        loc = self.loc(node)
        target = self.frame.leaves[-1]
        breaks = isinstance(node, ast.Break)
        if target is not None:
            whole, once = target
            if breaks:
                self.out.append(core.Exit(whole, loc))
                return
            if once is not None:
                self.out.append(core.Exit(once, loc))
                return
        self.out.append(core.Break(loc) if breaks else core.Continue(loc))

    def _assert(self, node: ast.Assert) -> None:
        message = ast.unparse(node.test)
        if node.msg is not None:
            if not isinstance(node.msg, ast.Constant) or not isinstance(node.msg.value, str):
                self.error(
                    "K0119", "the text of an assertion must be a constant string", node.msg,
                    help="write the text without values, and print them before if they matter",
                )  # fmt: skip
            message = node.msg.value
        cond = self.truth(self.expr(node.test), node.test)
        if isinstance(cond, core.Num) and cond.value:
            return
        self.out.append(core.Assert(cond, message, self.loc(node)))

    # ---- results

    def return_(self, node: ast.Return) -> None:
        """`return`: results are stored, then the function is left."""
        frame = self.frame
        loc = self.loc(node)
        frame.returns_seen = True
        value = self.expr(node.value) if node.value is not None else None
        if isinstance(value, Static) and value.value is None:
            value = None
        if frame.straight:
            frame.returned = value
            return
        results = frame.results
        if results is None:
            if value is not None:
                self.error(
                    "K0232", f"`{frame.source.name}` returns a value but has no result annotation", node,
                    help="add one: `-> f32` for a scalar, `-> f32[M, N]` for an array",
                )  # fmt: skip
        else:
            values = _result_values(value, len(results))
            if values is None:
                given = "nothing" if value is None else self.describe(value)
                self.error(
                    "K0233", f"`{frame.source.name}` returns {len(results)} value{'s' * (len(results) != 1)}, not {given}",
                    node, help="return what the annotation says",
                )  # fmt: skip
            for result, v in zip(results, self._settled(results, values)):
                self._deliver(result, v, node)
        self.certain = False
        self.out.append(core.Return(loc) if frame.block is None else core.Exit(frame.block, loc))

    def _settled(self, results: list[Result], values: list[Value]) -> list[Value]:
        """The returned values, safe from the stores of the results themselves."""
        if len(values) < 2:
            return values
        return [self.frozen(v) if isinstance(v, EXPR) and core.has_load(v) else v for v in values]

    def _deliver(self, result: Result, value: Value, node: ast.Return) -> None:
        loc = self.loc(node)
        if result.array is not None and result.array.shape:
            target = result.array
            if not isinstance(value, Array):
                self.error(
                    "K0233", f"an array of rank {len(target.shape)} must be returned here, not {self.describe(value)}",
                    node, help="return a local array, or change the annotation",
                )  # fmt: skip
            if isinstance(value, View) and value.buffer is target.buffer:
                return
            if len(value.shape) != len(target.shape):
                self.error(
                    "K0233", f"an array of rank {len(target.shape)} must be returned here, not of rank {len(value.shape)}",
                    node, help="return a local array of the annotated rank, or change the annotation",
                )  # fmt: skip
            if isinstance(value, View) and value.buffer.dtype != target.buffer.dtype:
                self.error(
                    "K0233",
                    f"the result is annotated {target.buffer.dtype} but `{value.text}` is of {value.buffer.dtype}",
                    node,
                    help="change the annotation, or the type of the local array",
                )
            for n, (a, b) in enumerate(zip(value.shape, target.shape)):
                self.require_equal(
                    a,
                    b,
                    f"dimension {n} of the returned array must be what the annotation says",
                    loc,
                    "K0233",
                )
            self.assign_slice(target, value, node)
            return
        e = self.scalar(value, node, "a scalar result")
        if result.array is not None:
            self.out.append(core.Store(result.array.buffer, (), e, loc=loc))
        else:
            assert result.var is not None
            self.out.append(core.Assign(result.var, e, result.declared, loc=loc))


def _result_values(value: Value | None, count: int) -> list[Value] | None:
    if value is None:
        return None
    if isinstance(value, Tuple):
        return list(value.items) if len(value.items) == count else None
    return [value] if count == 1 else None


def _same_constant(a: object, b: object) -> bool:
    if isinstance(a, Static) and isinstance(b, Static):
        return a.value == b.value
    return isinstance(a, core.Num) and isinstance(b, core.Num) and core.key(a) == core.key(b)


def _leaves(body: list[ast.stmt]) -> bool:
    """Whether a `break` or `continue` in `body` belongs to the loop around it."""
    for s in body:
        if isinstance(s, (ast.Break, ast.Continue)):
            return True
        if isinstance(s, ast.If) and (_leaves(s.body) or _leaves(s.orelse)):
            return True
    return False


def _breaks(body: list[ast.stmt]) -> bool:
    """Whether a `break` in `body` leaves the loop around it."""
    for s in body:
        if isinstance(s, ast.Break):
            return True
        if isinstance(s, ast.If) and (_breaks(s.body) or _breaks(s.orelse)):
            return True
        # An unrolled loop's own `break` leaves that loop only.
    return False
