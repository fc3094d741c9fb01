"""A kernel's source and the types of one call's arguments to `ir.Func`."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from kdsl.dtypes import ArrayType, DType, Size, TypeVar, constexpr
from kdsl.errors import CompileError
from kdsl.frontend_ast import core, scope
from kdsl.frontend_ast.blocks import remove_blocks
from kdsl.frontend_ast.emit import Emitter
from kdsl.frontend_ast.frames import (
    EXPR,
    Binding,
    Frame,
    Result,
    View,
    bound_names,
    returns_of,
    statements_of,
)
from kdsl.frontend_ast.inlining import returned_locals, returned_name
from kdsl.frontend_ast.resolve import resolve_params
from kdsl.frontend_ast.signature import ArrayArg, ConstArg, ScalarArg, Signature
from kdsl.frontend_ast.source import KernelSource
from kdsl.frontend_ast.stmts import Statements
from kdsl.frontend_ast.types import Ty
from kdsl.frontend_ast.typing import Names, Typist
from kdsl.frontend_ast.webs import Webs, find_webs, place
from kdsl.ir import nodes as ir
from kdsl.ir.binding import binding_plan
from kdsl.ir.definition import Definition
from kdsl.ir.walk import stmts


def build(source: KernelSource, signature: Signature) -> ir.Func:
    """The typed IR of `source` for arguments of these types. Raises CompileError."""
    names = Names()
    body = statements_of(source.node)
    frame = Frame(source, counts=bound_names(body))
    sizes: list[str] = []
    params: list[ir.Param] = []
    elaborator = Statements(frame)
    elaborator.may_alias = source.options.may_alias
    resolved = resolve_params(source, signature)
    frame.types.update(resolved.types)

    def symbols_of(shape: Sequence[Size]) -> None:
        for s in shape:
            for name in s.terms:
                if name not in sizes:
                    sizes.append(name)
                    names.fresh(name)
                    frame.symbols[name] = core.SizeVar(name)

    for p in resolved.params:
        if isinstance(p.annotation, ArrayType):
            symbols_of(p.annotation.shape)
    free = _fresh_symbols(source, signature, sizes, names, frame)
    for number, (p, arg) in enumerate(zip(resolved.params, signature)):
        match arg:
            case ConstArg():
                try:
                    value = scope.wrap(arg.value, elaborator.size, False, p.loc)
                except scope.Unknown as unknown:
                    raise CompileError(
                        "K0204", f"argument `{p.name}`: {unknown.title}", loc=p.loc, help=unknown.help
                    ) from None
                frame.env[p.name] = Binding(value, p.loc, True)
            case ScalarArg():
                name = names.fresh(p.name)
                param = core.Param(name, arg.dtype, arg.weak)
                var = core.Variable(p.name, p.loc, fixed=frame.counts[p.name] == 0, param=param)
                frame.variables[p.name] = var
                frame.env[p.name] = Binding(var, p.loc)
                params.append(ir.ScalarParam(name, arg.dtype, loc=p.loc))
            case ArrayArg():
                shape = p.annotation.shape if isinstance(p.annotation, ArrayType) else free[number]
                dtype = arg.dtype
                name = names.fresh(p.name)
                extents = tuple(elaborator.size(s, p.loc) for s in shape)
                buffer = core.Buffer(name, dtype, extents, True, arg.contiguous, p.loc)
                view = View.of(buffer, extents, lambda index: index, p.name, whole=True)
                frame.env[p.name] = Binding(view, p.loc, True)
                params.append(ir.ArrayParam(name, dtype, shape, arg.contiguous, loc=p.loc))
    results = _results(elaborator, frame, body, names, symbols_of)
    falls = elaborator.body(body)
    if frame.results is not None and falls:
        elaborator.falls_off_end(source)
    program = elaborator.program
    if program.body and isinstance(program.body[-1], core.Return):
        program.body.pop()
    webs = find_webs(program.body)
    flat = remove_blocks(program.body, webs)
    place(flat, webs)
    emitter = Emitter(webs, names)
    emitter.find_types(flat)
    ir_body = emitter.body(flat)
    conditions = tuple(ir.Condition(emitter.types.cond(c.cond), c.title, loc=c.loc) for c in program.checks)
    written = {s.buffer for s in stmts(ir_body) if isinstance(s, (ir.Store, ir.Accumulate, ir.Atomic))}
    all_params = tuple(
        replace(p, written=p.result or p.name in written) if isinstance(p, ir.ArrayParam) else p
        for p in [*params, *results]
    )
    unsolved = binding_plan(all_params, tuple(sizes)).unsolved
    if unsolved:
        raise CompileError(
            "K0211",
            f"no argument gives the size `{unsolved[0]}`",
            loc=source.loc,
            label="it appears only in the result, or only together with other unknown sizes",
            help=f"add an array argument with `{unsolved[0]}` in its shape",
        )
    return ir.Func(source.name, all_params, ir_body, tuple(sizes), conditions, source.options, loc=source.loc)


def _fresh_symbols(
    source: KernelSource, signature: Signature, sizes: list[str], names: Names, frame: Frame
) -> dict[int, tuple[Size, ...]]:
    """Shapes for unannotated arrays: `A_0`, `A_1`, ... by parameter number."""
    taken = {*names.taken, *(p.name for p in source.params)}
    out: dict[int, tuple[Size, ...]] = {}
    for number, (p, arg) in enumerate(zip(source.params, signature)):
        if isinstance(arg, ArrayArg) and not isinstance(p.annotation, ArrayType):
            shape = []
            for dim in range(arg.rank):
                name = f"{p.name}_{dim}"
                while name in taken:
                    name += "_"
                taken.add(name)
                names.fresh(name)
                sizes.append(name)
                frame.symbols[name] = core.SizeVar(name)
                shape.append(Size({name: 1}))
            out[number] = tuple(shape)
    return out


def _results(
    elaborator: Statements,
    frame: Frame,
    body: list[ast.stmt],
    names: Names,
    symbols_of: Callable[[Sequence[Size]], None],
) -> list[ir.ArrayParam]:
    """The result parameters of the kernel's annotation; a local array that is returned may be one."""
    source = frame.source
    if source.returns is None:
        return []
    annotations = source.returns if isinstance(source.returns, tuple) else (source.returns,)
    returns = returns_of(body)
    out: list[ir.ArrayParam] = []
    frame.results = []
    for number, a in enumerate(annotations):
        shape: tuple[Size, ...] = ()
        if isinstance(a, ArrayType):
            symbols_of(a.shape)
            shape, element = a.shape, a.dtype
        else:
            assert isinstance(a, (DType, TypeVar))
            element = a
        dtype = elaborator.result_dtype(frame, element)
        assert isinstance(dtype, DType)
        wish = returned_name(returns, number, len(annotations)) if shape else ""
        if wish in frame.env:
            wish = ""
        name = names.fresh(wish or "result")
        extents = tuple(elaborator.size(s, source.loc) for s in shape)
        buffer = core.Buffer(name, dtype, extents, True, True, source.loc)
        view = View.of(buffer, extents, lambda index: index, wish or "result", whole=True)
        frame.results.append(Result(array=view))
        out.append(ir.ArrayParam(name, dtype, shape, True, result=True, loc=source.loc))
    frame.result_locals = returned_locals(body, returns, frame.results)
    return out


# ---------------------------------------------------------------- definitions


def build_definition(
    fn: Callable[..., Any], name: str, dtypes: Sequence[DType], bindings: Mapping[str, object]
) -> Definition:
    """A straight-line Python function of scalars as parameters, a chain of `Let`s and a result.

    `dtypes` are the parameters' types. `bindings` gives some free names (such as a type `T`) a meaning,
    also in the functions that `fn` calls; all others are looked up in the functions' own modules.
    """
    source = KernelSource(fn, "func", name)
    body = statements_of(source.node)
    frame = Frame(source, counts=bound_names(body), overrides=dict(bindings), straight=True)
    elaborator = Statements(frame, plain_functions=True)
    names = Names()
    params = []
    for p, dtype in zip(source.params, dtypes, strict=True):
        assert not (p.annotation is constexpr or isinstance(p.annotation, ArrayType))
        param = core.Param(names.fresh(p.name), dtype, False)
        var = core.Variable(p.name, p.loc, fixed=True, param=param, let=True)
        frame.env[p.name] = Binding(var, p.loc)
        params.append(param)
        frame.variables[p.name] = var
    elaborator.body(body)
    result = elaborator.scalar(frame.returned, source.loc) if frame.returned is not None else None
    if result is None or not isinstance(result, EXPR):
        raise CompileError("K0234", f"`{name}` has no result", loc=source.loc, help="end it with `return`")
    typist = Typist(Webs({}, {}, []), names)
    for var in frame.variables.values():
        if var.param is not None:
            typist.lets[id(var)] = (ir.Var(var.param.name, var.param.dtype), Ty(var.param.dtype))
    lets = []
    for s in elaborator.out:
        if not isinstance(s, core.Assign) or not s.var.fixed:
            raise CompileError(
                "K0258",
                f"`{name}` is not a straight line of assignments",
                loc=s.loc,
                help="use kdsl.where or `a if c else b` instead of branches and loops",
            )
        s.var.let = True
        value, ty = typist.expr(s.value)
        if s.declared is not None:
            value, ty = typist.convert((value, ty), s.declared, s.loc), Ty(s.declared)
        value = typist.convert((value, ty), ty.dtype, s.loc)
        let_name = names.fresh(s.var.name)
        typist.lets[id(s.var)] = (ir.Var(let_name, ty.dtype, loc=s.loc), ty)
        lets.append((let_name, value, s.loc))
    value, ty = typist.expr(result)
    out = typist.convert((value, ty), ty.dtype, source.loc)
    for let_name, bound, loc in reversed(lets):
        out = ir.Let(let_name, bound, out, loc=loc)
    return Definition(name, tuple(ir.ScalarParam(p.name, p.dtype) for p in params), out)
