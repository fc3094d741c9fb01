"""Calls of kernels and device functions: the callee's body in place, and its results."""

from __future__ import annotations

import ast
import types
from typing import Any

from kdsl.dtypes import ArrayType, DType, TypeVar
from kdsl.frontend_ast import core
from kdsl.frontend_ast.arguments import Arguments
from kdsl.frontend_ast.frames import (
    EXPR,
    Frame,
    Result,
    Tuple,
    Value,
    View,
    bound_names,
    returns_of,
    statements_of,
)
from kdsl.frontend_ast.source import KernelSource
from kdsl.source import Loc

_PLAIN: dict[types.CodeType, KernelSource] = {}


class Inlining(Arguments):
    """`inline` elaborates a call of another function of the language."""

    def body(self, nodes: list[ast.stmt]) -> bool:
        raise AssertionError("defined in Statements")

    def inline(self, callee: Any, node: ast.Call, want: bool) -> Value | None:
        """The callee's body here; its result, or None when it has none."""
        source = self._source_of(callee, node)
        if any(f.source is source for f in self.frames):
            chain = [f.source.name for f in self.frames[[f.source for f in self.frames].index(source) :]]
            self.error(
                "K0240",
                f"`{source.name}` calls itself",
                node,
                label=" -> ".join([*chain, source.name]),
                help="write a loop: a kernel has no call stack",
            )
        hint, self.hint = self.hint, ""
        values = self._bound_arguments(source, node)
        body = statements_of(source.node)
        frame = Frame(source, counts=bound_names(body), overrides=self.frame.overrides)
        frame.straight = _is_straight(source, body)
        self._bind_parameters(frame, values, node)
        returns = returns_of(body)
        if not frame.straight:
            self._prepare_results(frame, returns, hint, node, want)
        return self._run(frame, body, node)

    def _source_of(self, callee: Any, node: ast.Call) -> KernelSource:
        source = getattr(callee, "__kdsl_source__", None)
        if isinstance(source, KernelSource):
            return source
        if self.plain_functions and isinstance(callee, types.FunctionType):
            known = _PLAIN.get(callee.__code__)
            if known is None:
                known = _PLAIN[callee.__code__] = KernelSource(callee, "func")
            return known
        name = getattr(callee, "__name__", type(callee).__name__)
        self.error(
            "K0204", f"`{name}` cannot be called from a kernel", node, help="decorate it with `@kdsl.func`"
        )

    # ---- results and body

    def _prepare_results(
        self, frame: Frame, returns: list[ast.Return], hint: str, node: ast.Call, want: bool
    ) -> None:
        """Makes the places that `return` fills: arrays before the body, or scalar variables."""
        source = frame.source
        annotation = source.returns
        loc = self.loc(node)
        if annotation is None:
            valued = [r for r in returns if r.value is not None and not _is_none(r.value)]
            if source.kind == "func" and valued:
                first = valued[0].value
                count = len(first.elts) if isinstance(first, ast.Tuple) else 1
                frame.results = [
                    Result(var=core.Variable(source.name, loc, checked=False)) for _ in range(count)
                ]
            return
        annotations = annotation if isinstance(annotation, tuple) else (annotation,)
        results: list[Result] = []
        for number, a in enumerate(annotations):
            if isinstance(a, ArrayType):
                outer, self.frame = self.frame, frame
                try:
                    extents = [self.size(s, source.loc) for s in a.shape]
                finally:
                    self.frame = outer
                dtype = self.result_dtype(frame, a.dtype)
                shape = self.local_shape(extents, loc)
                name = hint or returned_name(returns, number, len(annotations)) or source.name
                outer_locals, self.frame.result_locals = (
                    self.frame.result_locals,
                    (self.frame.result_locals if hint else {}),
                )
                view = self.new_array(name, dtype, shape, loc)
                self.frame.result_locals = outer_locals
                results.append(Result(array=view))
            elif isinstance(a, TypeVar):
                bound = frame.types.get(a.name)
                results.append(
                    Result(
                        var=core.Variable(source.name, loc, checked=False),
                        declared=bound if isinstance(bound, DType) else None,
                    )
                )
            else:
                assert isinstance(a, DType)
                results.append(Result(var=core.Variable(source.name, loc, checked=False), declared=a))
        frame.results = results
        frame.result_locals = returned_locals(statements_of(source.node), returns, results)

    def result_dtype(self, frame: Frame, dtype: DType | TypeVar) -> DType | core.Like:
        """The element type of a result, type variables bound by the arguments."""
        if isinstance(dtype, DType):
            return dtype
        bound = frame.types.get(dtype.name)
        if bound is None:
            self.error(
                "K0209", f"no argument of `{frame.source.name}` gives the type `{dtype.name}` of its result",
                frame.source.loc, help="annotate an argument with it",
            )  # fmt: skip
        return bound

    def _run(self, frame: Frame, body: list[ast.stmt], node: ast.Call) -> Value | None:
        """Elaborates the callee's body in place and gives its result."""
        loc = self.loc(node)
        block = core.Block([], loc)
        frame.block = block
        outer_frame, outer_out, certain = self.frame, self.out, self.certain
        self.frame = frame
        self.frames.append(frame)
        if not frame.straight:
            self.out = block.body
        try:
            falls = self.body(body)
            if falls and (frame.results is not None):
                self.falls_off_end(frame.source)
        finally:
            self.frame, self.out = outer_frame, outer_out
            self.frames.pop()
        if frame.straight:
            value = frame.returned
            declared = frame.source.returns
            if isinstance(value, Tuple) and isinstance(declared, tuple):
                return Tuple(tuple(self._declared(frame, v, d, node) for v, d in zip(value.items, declared)))
            if value is not None and not isinstance(declared, tuple):
                return self._declared(frame, value, declared, node)
            return value
        mark = len(self.out)
        _splice(block, self.out)
        self.certain = certain and not any(may_leave(s) for s in self.out[mark:])
        if frame.results is None:
            return None
        values = tuple(self._result_value(r, loc) for r in frame.results)
        return Tuple(values) if isinstance(frame.source.returns, tuple) or len(values) > 1 else values[0]

    def _declared(self, frame: Frame, value: Value, declared: object, node: ast.AST) -> Value:
        """A straight function's result in its annotated type."""
        if not isinstance(value, EXPR):
            return value
        if isinstance(declared, TypeVar):
            declared = frame.types.get(declared.name)
        if isinstance(declared, (DType, core.Like)):
            return self.cast(declared, value, self.loc(node))
        return value

    def _result_value(self, result: Result, loc: Loc | None) -> Value:
        if result.array is not None:
            return result.array
        assert result.var is not None
        return core.Ref(result.var, loc)

    def falls_off_end(self, source: KernelSource) -> None:
        """The error of a path without `return` in a function with results."""
        self.error(
            "K0234",
            f"`{source.name}` can reach its end without a `return`",
            source.loc,
            label="it has a result",
            help="end every path with `return`",
        )


def returned_name(returns: list[ast.Return], number: int, count: int) -> str:
    """The name that every `return` gives for result `number`, or an empty string."""
    names = set()
    for r in returns:
        value = r.value
        if count > 1 or isinstance(value, ast.Tuple):
            value = value.elts[number] if isinstance(value, ast.Tuple) and len(value.elts) == count else None
        names.add(value.id if isinstance(value, ast.Name) else "")
    return names.pop() if len(names) == 1 else ""


def returned_locals(
    body: list[ast.stmt], returns: list[ast.Return], results: list[Result]
) -> dict[str, View]:
    """The local arrays that can be the results themselves: assigned once, at the top level of the body, by
    a call, and returned by every `return` as the same result, once."""
    counts = bound_names(body)
    top = {
        s.targets[0].id
        for s in body
        if isinstance(s, ast.Assign) and len(s.targets) == 1 and isinstance(s.targets[0], ast.Name)
        and isinstance(s.value, ast.Call)
    }  # fmt: skip
    out: dict[str, View] = {}
    for number, result in enumerate(results):
        name = returned_name(returns, number, len(results))
        if (
            name in top
            and counts[name] == 1
            and name not in out
            and result.array is not None
            and result.array.shape
        ):
            out[name] = result.array
    return out


def may_leave(s: core.Stmt) -> bool:
    """Whether the statement may leave the function, or never end."""
    match s:
        case core.Return() | core.While() | core.Exit():
            return True
        case core.For() | core.Block():
            return any(may_leave(n) for n in s.body)
        case core.If():
            return any(may_leave(n) for n in [*s.then, *s.orelse])
        case _:
            return False


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _is_straight(source: KernelSource, body: list[ast.stmt]) -> bool:
    """Whether a device function is assignments to names and one `return` of scalars at the end."""
    if source.kind != "func" or not body or not isinstance(body[-1], ast.Return) or body[-1].value is None:
        return False
    for s in body[:-1]:
        match s:
            case ast.Assign(targets=[ast.Name() | ast.Tuple()]) | ast.AugAssign(target=ast.Name()):
                continue
            case _:
                return False
    return True


def _splice(block: core.Block, out: core.Body) -> None:
    """Appends a function's body; the block itself is kept only when something leaves it early."""
    if block.body and isinstance(block.body[-1], core.Exit) and block.body[-1].block is block:
        block.body.pop()
    if exits(block.body, block):
        out.append(block)
    else:
        out.extend(block.body)


def exits(body: core.Body, block: core.Block) -> bool:
    """Whether a statement of `body` leaves `block`."""
    for s in body:
        match s:
            case core.Exit():
                if s.block is block:
                    return True
            case core.For() | core.While() | core.Block():
                if exits(s.body, block):
                    return True
            case core.If():
                if exits(s.then, block) or exits(s.orelse, block):
                    return True
            case _:
                pass
    return False
