"""Branches and loops, and what names stand for where paths meet."""

from __future__ import annotations

import ast
from collections.abc import Callable

from kdsl.frontend_ast import core, facts
from kdsl.frontend_ast.assign import Assignments
from kdsl.frontend_ast.frames import (
    Array,
    Binding,
    Poison,
    Static,
    Value,
    View,
    bound_names,
)
from kdsl.frontend_ast.inlining import may_leave
from kdsl.frontend_ast.scope import Function
from kdsl.source import Loc

UNROLL_LIMIT = 4096


class Control(Assignments):
    """`if`, `while`, `for` and their exits."""

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
                if x.value is y.value or _same_value(x.value, y.value):
                    out[name] = x
                else:
                    out[name] = Binding(
                        Poison("stands for different things on the paths that lead here", y.loc, True), y.loc
                    )
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
        if isinstance(lo, core.Num) and lo.value >= 0 and isinstance(step, core.Num) and step.value > 0:
            hi = facts.raw_length(hi)
            loop.extent, loop.first = hi, int(lo.value)
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
                f"`{ast.unparse(iterated.func)}` over {len(extents)} extents needs {len(extents)} names",
                node.target,
                help=f"write `for {', '.join('ijklmnop'[: len(extents)])} in {ast.unparse(iterated)}:`",
            )
        loc = self.loc(node)
        if len(extents) > 1:
            extents = [self.frozen(e, "extent") for e in extents]
        block = core.Block([], loc)
        extents = [facts.raw_length(e) for e in extents]
        loops = [self._loop_variable(t) for t in targets if isinstance(t, ast.Name)]
        for loop, extent in zip(loops, extents):
            loop.extent = extent
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


def _same_value(a: object, b: object) -> bool:
    if isinstance(a, Static) and isinstance(b, Static):
        return a.value == b.value
    if isinstance(a, View) and isinstance(b, View):
        return a.buffer is b.buffer and _same_elements(a, b)
    return isinstance(a, core.Num) and isinstance(b, core.Num) and facts.key(a) == facts.key(b)


def _same_elements(a: View, b: View) -> bool:
    """Whether two views of one buffer are the same, element by element."""
    if [facts.poly(e) for e in a.shape] != [facts.poly(e) for e in b.shape]:
        return False
    probe = tuple(core.LoopRef(core.LoopVar("probe", None)) for _ in a.shape)
    places = [[facts.poly(facts.untested(e)) for e in v.place(probe)] for v in (a, b)]
    return places[0] == places[1]


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
