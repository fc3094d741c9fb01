"""Python statements: dispatch, assertions, results."""

from __future__ import annotations

import ast

from kdsl.frontend_ast import core, facts
from kdsl.frontend_ast.control import Control
from kdsl.frontend_ast.frames import (
    EXPR,
    Array,
    Result,
    Static,
    Tuple,
    Value,
    View,
)


class Statements(Control):
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
                count = f"{len(results)} value{'s' * (len(results) != 1)}"
                self.error(
                    "K0233",
                    f"`{frame.source.name}` returns {count}, not {given}",
                    node,
                    help="return what the annotation says",
                )
            for result, v in zip(results, self._settled(results, values)):
                self._deliver(result, v, node)
        self.certain = False
        self.out.append(core.Return(loc) if frame.block is None else core.Exit(frame.block, loc))

    def _settled(self, results: list[Result], values: list[Value]) -> list[Value]:
        """The returned values, safe from the stores of the results themselves."""
        if len(values) < 2:
            return values
        return [self.frozen(v) if isinstance(v, EXPR) and facts.has_load(v) else v for v in values]

    def _deliver(self, result: Result, value: Value, node: ast.Return) -> None:
        loc = self.loc(node)
        if result.array is not None and result.array.shape:
            target = result.array
            if not isinstance(value, Array):
                self.error(
                    "K0233",
                    f"an array of rank {len(target.shape)} must be returned here, not {self.describe(value)}",
                    node,
                    help="return a local array, or change the annotation",
                )
            if isinstance(value, View) and value.buffer is target.buffer:
                return
            if len(value.shape) != len(target.shape):
                self.error(
                    "K0233",
                    f"an array of rank {len(target.shape)} must be returned here, not {len(value.shape)}",
                    node,
                    help="return a local array of the annotated rank, or change the annotation",
                )
            if isinstance(value, View) and value.buffer.dtype != target.buffer.dtype:
                have = value.buffer.dtype
                self.error(
                    "K0233",
                    f"the result is annotated {target.buffer.dtype} but `{value.text}` is of {have}",
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
