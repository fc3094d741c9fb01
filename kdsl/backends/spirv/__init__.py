"""SPIR-V from a kernel's host program: bytes alone, no device is needed.

`compile` gives an artifact whose code is a module and its manifest (`unpack`); `text` shows the module.
"""

from __future__ import annotations

from kdsl.backends.base import Artifact
from kdsl.backends.spirv.disassemble import disassemble
from kdsl.backends.spirv.emit import compile
from kdsl.backends.spirv.manifest import pack, unpack

__all__ = ["compile", "disassemble", "pack", "text", "unpack"]


def text(artifact: Artifact) -> str:
    """The module of an artifact as assembly."""
    return disassemble(unpack(artifact.code)[1])
