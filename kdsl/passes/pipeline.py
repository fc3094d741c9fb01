"""The pipeline: a tuple of passes and the runner that times, verifies and shows each."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

from kdsl.ir.definition import Resolver
from kdsl.ir.nodes import Func
from kdsl.ir.verify import verify as verify_ir
from kdsl.passes.bounds import bounds
from kdsl.passes.expand_math import expand_math
from kdsl.passes.full_tiles import full_tiles
from kdsl.passes.hints import short
from kdsl.passes.instructions import instructions
from kdsl.passes.registers import registers
from kdsl.passes.rows import rows
from kdsl.passes.simplify import simplify
from kdsl.passes.trim import trim
from kdsl.passes.unbind import unbind
from kdsl.passes.unroll import unroll
from kdsl.target import Target

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Lowering:
    """What passes may depend on besides the IR."""

    target: Target
    resolve: Resolver


PASSES: tuple[tuple[str, Callable[[Func, Lowering], Func]], ...] = (
    # The interpreter keeps these marks: it looks for races. On a GPU, `launches` takes them.
    ("unbind", lambda func, to: unbind(func) if to.target.kind == "cpu" else func),
    ("instructions", lambda func, to: instructions(func, to.target)),
    ("registers", lambda func, _: registers(func)),
    ("hints", lambda func, to: short(func) if to.target.kind == "vulkan" else func),
    ("trim", lambda func, _: trim(func)),
    ("simplify", lambda func, _: simplify(func)),
    # Before copies are made of loop bodies, and trees grow by math functions: each access is proved once.
    ("bounds", lambda func, _: bounds(func)),
    ("full_tiles", lambda func, to: full_tiles(func, masks=to.target.kind != "vulkan")),
    ("unroll", lambda func, _: unroll(func)),
    ("fold", lambda func, _: simplify(func)),
    ("rows", lambda func, _: rows(func)),
    ("expand_math", lambda func, to: expand_math(func, to.resolve)),
)


def lower(
    func: Func,
    target: Target,
    resolve: Resolver,
    *,
    verify: bool = False,
    on_stage: Callable[[str, Func], None] | None = None,
) -> Func:
    """`func` as back ends take it: accesses proved, moved to `conditions` or `checked`; no math calls.

    `resolve` gives the definitions of math functions. `verify` checks the IR after each pass, `on_stage`
    is called with each pass's name and result.
    """
    to = Lowering(target, resolve)
    for name, run in PASSES:
        start = perf_counter()
        func = run(func, to)
        log.debug("%s: %s took %.2f ms", func.name, name, (perf_counter() - start) * 1e3)
        if verify:
            verify_ir(func)
        if on_stage is not None:
            on_stage(name, func)
    return func
