"""Instructions by name, for the text of the IR, of schedules and of traces.

A name is `module:qualified_name`; those that kdsl ships go by the bare name of their function. What its
module does not have under its name, as `kernel.with_schedule(s)`, has `#` and a digest of its content behind.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdsl.ir.nodes import Instruction

SHIPPED = "kdsl.instructions"
"""The module of the instructions that kdsl ships. It registers them when it is imported."""

_known: dict[str, Callable[[], Instruction]] = {}


def register(name: str, make: Callable[[], Instruction]) -> None:
    """Makes an instruction known; `make` is called when it is used. The newest of a name counts."""
    _known[name] = make


def name_of(module: str, qualified: str) -> str:
    """The name of the instruction that a function of this module declares."""
    return qualified if module == SHIPPED else f"{module}:{qualified}"


def find(name: str) -> Instruction | None:
    """The instruction of that name; None when the modules that are loaded have none."""
    if ":" not in name:
        importlib.import_module(SHIPPED)
    make = _known.get(name)
    return make() if make is not None else getattr(named(name), "__kdsl_instruction__", None)


def named(name: str) -> Any:
    """The object of that name in its module, if that is loaded; else None."""
    module, _, path = name.rpartition(":")
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    return found


def digest(instruction: Instruction) -> str:
    """A few letters that stand for the content."""
    return hashlib.sha256(content(instruction).encode()).hexdigest()[:8]


def shipped() -> tuple[str, ...]:
    """The names of the instructions that kdsl ships."""
    importlib.import_module(SHIPPED)
    return tuple(sorted(name for name in _known if ":" not in name))


def content(instruction: Instruction) -> str:
    """All that code made with an instruction depends on, as text for cache keys."""
    from kdsl.ir.printer import print_func

    i = instruction
    software = "" if i.software is None else print_func(i.software)
    return "\0".join((i.name, i.llvm, *i.features, str(i.exact), print_func(i.meaning), software))
