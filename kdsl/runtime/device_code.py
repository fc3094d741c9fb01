"""From the IR of a kernel to SPIR-V: loops without a place on the device get one, the rest follows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from kdsl.backends.base import Artifact
from kdsl.runtime.compile import lowered
from kdsl.target import Target

if TYPE_CHECKING:
    from kdsl.ir.launch import Launches
    from kdsl.ir.nodes import Func


def launches_of(func: Func, target: Target, dump: Callable[[str, str], None] | None = None) -> Launches:
    """The host program and the dispatches of `func`, as the front end or a schedule left it."""
    from kdsl.ir.launch_printer import print_launches
    from kdsl.passes.launches import launches
    from kdsl.sched.grid.binding import bound

    made = launches(lowered(bound(func, target), target, dump), target)
    if dump is not None:
        dump("launches", print_launches(made))
    return made


def spirv_artifact(func: Func, target: Target, dump: Callable[[str, str], None] | None = None) -> Artifact:
    """The SPIR-V module of `func` and its manifest."""
    from kdsl.backends import spirv

    made = spirv.compile(launches_of(func, target, dump), target)
    if dump is not None:
        dump("spvasm", spirv.text(made))
    return made


def spirv_text(func: Func, target: Target) -> str:
    """The SPIR-V module of `func` as assembly."""
    from kdsl.backends import spirv

    return spirv.text(spirv_artifact(func, target))
