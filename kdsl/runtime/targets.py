"""The targets by name: what can run here, and the back end of each."""

from __future__ import annotations

import difflib
import importlib.util
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdsl.errors import TargetError

if TYPE_CHECKING:
    from kdsl.target import Target

DESCRIPTIONS: dict[str, str] = {
    "cpu": "native code through LLVM",
    "interpreter": "runs the IR step by step and checks everything",
}
"""The targets that there are, in the order in which they are listed."""


@dataclass(frozen=True, slots=True)
class Device:
    """A place where kernels run. `missing`: None when it can be used here, else what to install."""

    name: str
    description: str
    missing: str | None = None

    @property
    def available(self) -> bool:
        return self.missing is None

    def __str__(self) -> str:
        return f"{self.name:12} {self.description}" + ("" if self.missing is None else f" -- {self.missing}")


def devices() -> list[Device]:
    """What kernels can run on here (`available`), and what is missing for the rest."""
    out = []
    for name, description in DESCRIPTIONS.items():
        missing = _missing(name)
        if missing is None and name == "cpu":
            target = resolve(name)
            cores = os.cpu_count() or 1
            description += f": {8 * target.vector_bytes}-bit vectors, {cores} core{'s' * (cores != 1)}"
        out.append(Device(name, description, missing))
    return out


def default_name() -> str:
    """The target of a kernel that names none: `KDSL_TARGET`, or the CPU."""
    return os.environ.get("KDSL_TARGET") or "cpu"


def check_name(name: object) -> str:
    """`name` if it is a target's; TargetError else."""
    if isinstance(name, str) and name in DESCRIPTIONS:
        return name
    near = difflib.get_close_matches(str(name), DESCRIPTIONS, 1, cutoff=0.7)  # "gpu" is not meant to be "cpu"
    raise TargetError(
        "K0501",
        f"there is no target {name!r}",
        help=f'did you mean "{near[0]}"?' if near else f"the targets are {', '.join(DESCRIPTIONS)}",
    )


def resolve(name: str) -> Target:
    """The target called `name` on this machine; TargetError when there is none or something is missing."""
    check_name(name)
    missing = _missing(name)
    if missing is not None:
        raise TargetError(
            "K0502", f"target {name!r} cannot be used here: {missing}", help="see `kdsl devices`"
        )
    if name == "cpu":
        from kdsl.backends.llvm import host_target

        return host_target()
    from kdsl.target import Target

    return Target("interpreter")


def _missing(name: str) -> str | None:
    if name == "cpu" and importlib.util.find_spec("llvmlite") is None:
        return "llvmlite is not installed (pip install llvmlite)"
    return None
