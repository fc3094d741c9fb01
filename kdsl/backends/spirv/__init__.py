"""SPIR-V from a kernel's host program: bytes alone, no device is needed.

`compile` gives an artifact whose code is a module and its manifest (`unpack`); `text` shows the module. The
emitter loads when something is compiled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdsl.backends.base import Artifact
from kdsl.backends.spirv.manifest import pack, unpack
from kdsl.target import Target

if TYPE_CHECKING:
    from kdsl.ir.launch import Launches

__all__ = ["compile", "pack", "text", "unpack"]


def compile(launches: Launches, target: Target) -> Artifact:
    """As `emit.compile`."""
    from kdsl.backends.spirv import emit

    return emit.compile(launches, target)


def text(artifact: Artifact) -> str:
    """The module of an artifact as assembly."""
    from kdsl.backends.spirv.disassemble import disassemble

    return disassemble(unpack(artifact.code)[1])
