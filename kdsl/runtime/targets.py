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
    "vulkan": "GPUs, and CPUs as such, through SPIR-V",
    "interpreter": "runs the IR step by step and checks everything",
}
"""The targets that there are, in the order in which they are listed. `vulkan:1` is the second device."""


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
        if name == "vulkan" and missing is None:
            out += _vulkan_devices()
            continue
        if missing is None and name == "cpu":
            target = resolve(name)
            cores = os.cpu_count() or 1
            description += f": {8 * target.vector_bytes}-bit vectors, {cores} core{'s' * (cores != 1)}"
        out.append(Device(name, description, missing))
    return out


def default_name() -> str:
    """The target of a kernel that names none: `KDSL_TARGET`, or the CPU."""
    return os.environ.get("KDSL_TARGET") or "cpu"


def _vulkan_devices() -> list[Device]:
    from kdsl.backends import vulkan

    return [
        Device(
            "vulkan" if n == 0 else f"vulkan:{n}",
            f"{d.kind} {d.name}, Vulkan {d.version[0]}.{d.version[1]}",
            d.missing,
        )
        for n, d in enumerate(vulkan.devices())
    ]


def check_name(name: object) -> str:
    """`name` if it is a target's; TargetError else. "vulkan:0" is "vulkan"."""
    if isinstance(name, str):
        kind, _, number = name.partition(":")
        if kind == "vulkan" and number.isascii() and number.isdecimal():
            return kind if int(number) == 0 else f"vulkan:{int(number)}"
        if name in DESCRIPTIONS:
            return name
    near = difflib.get_close_matches(str(name), DESCRIPTIONS, 1, cutoff=0.7)  # "gpu" is not meant to be "cpu"
    raise TargetError(
        "K0501",
        f"there is no target {name!r}",
        help=f'did you mean "{near[0]}"?' if near else f"the targets are {', '.join(DESCRIPTIONS)}",
    )


def index_of(name: str) -> int:
    """The number of the device in a target's name: 1 for "vulkan:1"."""
    return int(check_name(name).partition(":")[2] or 0)


def resolve(name: str) -> Target:
    """The target called `name` on this machine; TargetError when there is none or something is missing."""
    name = check_name(name)
    kind = name.partition(":")[0]
    missing = _missing(kind)
    if missing is not None:
        raise TargetError(
            "K0502", f"target {name!r} cannot be used here: {missing}", help="see `kdsl devices`"
        )
    if name == "cpu":
        from kdsl.backends.llvm import host_target

        return host_target()
    if kind == "vulkan":
        return _vulkan_target(index_of(name))
    from kdsl.target import Target

    return Target("interpreter")


def _vulkan_target(index: int) -> Target:
    from kdsl.backends import vulkan

    found = vulkan.devices()
    if index >= len(found):
        raise TargetError(
            "K0520",
            f"there is no Vulkan device {index}: this machine has {len(found)}",
            help="see `kdsl devices`",
        )
    if found[index].missing is not None:
        raise TargetError(
            "K0520", f"{found[index].name} cannot be used: {found[index].missing}", help="see `kdsl devices`"
        )
    return found[index].target(index)


def _missing(name: str) -> str | None:
    if name == "cpu" and importlib.util.find_spec("llvmlite") is None:
        return "llvmlite is not installed (pip install llvmlite)"
    if name == "vulkan":
        from kdsl.backends import vulkan

        return vulkan.available()
    return None
