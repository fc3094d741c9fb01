"""The options of `@kdsl.kernel`, checked."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Any

from kdsl.dtypes import ArrayType
from kdsl.errors import CompileError
from kdsl.frontend_ast.source import KernelSource
from kdsl.ir.params import Options

OPTIONS = ("bounds", "fastmath", "may_alias", "name", "schedule", "strict", "target")


def kernel_source(
    fn: Callable[..., Any],
    name: str | None,
    strict: bool,
    fastmath: bool,
    bounds: str,
    may_alias: tuple[str, ...],
    unknown: Iterable[str],
) -> KernelSource:
    """The source of a kernel with these options; CompileError for options that make no sense."""
    aliases = (may_alias,) if isinstance(may_alias, str) else tuple(may_alias)
    options = Options(bool(strict), bool(fastmath), bounds == "unchecked", aliases)
    source = KernelSource(fn, "kernel", name, options)
    for option in unknown:
        near = difflib.get_close_matches(option, OPTIONS, 1)
        raise CompileError(
            "K0106",
            f"`@kdsl.kernel` has no option `{option}`",
            loc=source.loc,
            help=f"did you mean `{near[0]}`?" if near else f"its options are {', '.join(OPTIONS)}",
        )
    if name is not None and not (isinstance(name, str) and name.isidentifier()):
        raise CompileError(
            "K0106",
            f"`name={name!r}` is not an identifier",
            loc=source.loc,
            help='use letters, digits and "_": name="matmul_small"',
        )
    for option, value in (("strict", strict), ("fastmath", fastmath)):
        if not isinstance(value, bool):
            raise CompileError(
                "K0106",
                f"`{option}={value!r}` is neither True nor False",
                loc=source.loc,
                help=f"write {option}=True, or leave it out",
            )
    if strict and fastmath:
        raise CompileError(
            "K0106",
            "`strict` and `fastmath` contradict each other",
            loc=source.loc,
            label="one keeps every bit, the other gives bits away for speed",
            help="choose one",
        )
    if bounds not in ("checked", "unchecked"):
        raise CompileError(
            "K0106",
            f"`bounds={bounds!r}` is not a choice",
            loc=source.loc,
            help='write bounds="checked" or bounds="unchecked"',
        )
    arrays = [p.name for p in source.params if p.annotation is None or isinstance(p.annotation, ArrayType)]
    for alias in aliases:
        if alias not in arrays:
            raise CompileError(
                "K0106",
                f"`may_alias` names `{alias}`, which is not an array argument of {source.name}",
                loc=source.loc,
                help=f"its array arguments are {', '.join(arrays) or 'none'}",
            )
    return source
