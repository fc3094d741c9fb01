"""What a module asks of a device, held against what its target has: TargetError names feature and device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kdsl.backends.spirv.module import Module
from kdsl.backends.spirv.opcodes import Capability
from kdsl.errors import TargetError
from kdsl.ir.nodes import Func
from kdsl.target import Target

if TYPE_CHECKING:
    from kdsl.backends.spirv.entry import Entry

FEATURES = {
    Capability.Int64: ("shaderInt64", "integers of 64 bits"),
    Capability.Float64: ("shaderFloat64", "floats of 64 bits"),
    Capability.Int64Atomics: ("shaderBufferInt64Atomics", "atomics on 64 bits"),
    Capability.GroupNonUniform: ("subgroupBasic", "subgroups"),
    Capability.GroupNonUniformArithmetic: ("subgroupArithmetic", "reductions in subgroups"),
    Capability.StorageBuffer16BitAccess: ("storageBuffer16BitAccess", "arrays of 16-bit elements"),
    Capability.StorageBuffer8BitAccess: ("storageBuffer8BitAccess", "arrays of 8-bit elements"),
}
"""For a capability the feature of Vulkan that it needs, and what kernels have of it."""

_EXACT = ("llvmpipe", "SwiftShader")
"""Devices, by the start of their names, that round division and square root correctly and keep denormals,
measured; what they report of themselves is less."""


def exact_device(target: Target) -> bool:
    """Whether division and square root are known to be correctly rounded, with denormals."""
    return target.cpu.startswith(_EXACT)


def drops_zeros(target: Target) -> bool:
    """Whether the driver takes x + 0 for x, x * 0 for 0 and x / 0 for undefined, whatever x is (llvmpipe)."""
    return target.cpu.startswith("llvmpipe")


def device_name(target: Target) -> str:
    """The device as messages name it."""
    return f"`{target.name}` ({target.cpu})" if target.cpu else f"`{target.name}`"


def check(module: Module, entries: Sequence[Entry], buffers: int, func: Func, target: Target) -> list[str]:
    """The features that the module needs, all of which the target has; its sizes are within the limits."""
    device = device_name(target)
    needed = []
    for capability, loc in module.reasons.items():
        if capability not in FEATURES:
            continue
        feature, what = FEATURES[capability]
        if not target.has([feature]):
            raise TargetError(
                "K0511",
                f"`{func.name}` needs {what}, which {device} cannot do",
                loc=loc or func.loc,
                notes=(f"the device lacks the feature `{feature}`",),
                help='use a narrower type, or another target: `kernel.on("cpu")`',
            )
        needed.append(feature)
    _strict(module, func, target)
    limits = target.limits
    if buffers > limits.buffers:
        raise TargetError(
            "K0513",
            f"`{func.name}` uses {buffers} buffers at once, and {device} has {limits.buffers} for a kernel",
            loc=func.loc,
            help="put arrays together, or cut the kernel into several",
        )
    for e in entries:
        total = e.block[0] * e.block[1] * e.block[2]
        if total > limits.invocations or any(n > most for n, most in zip(e.block, limits.block)):
            sizes = " x ".join(map(str, e.block))
            raise TargetError(
                "K0512",
                f"the work-group of `{func.name}` is too large for {device}: {sizes} invocations",
                loc=func.loc,
                notes=(f"the device allows {limits.invocations} in all, and {limits.block} along x, y, z",),
                help="bind shorter loops to the axes of the block",
            )
        if e.shared_bytes > limits.shared_bytes:
            raise TargetError(
                "K0513",
                f"`{func.name}` needs {e.shared_bytes} bytes of work-group memory, and {device} has "
                f"{limits.shared_bytes}",
                loc=func.loc,
                help="stage smaller tiles",
            )
    return sorted(needed)


def _strict(module: Module, func: Func, target: Target) -> None:
    """A strict kernel needs denormals and rounding to nearest, which the device must promise."""
    if not func.options.strict or exact_device(target):
        return
    for bits in (32, *((64,) if Capability.Float64 in module.reasons else ())):
        for feature in (f"shaderDenormPreserveFloat{bits}", f"shaderRoundingModeRTEFloat{bits}"):
            if not target.has([feature]):
                raise TargetError(
                    "K0515",
                    f"`{func.name}` is strict, and {device_name(target)} may compute other bits",
                    loc=func.loc,
                    notes=(f"the device does not promise `{feature}`",),
                    help="leave `strict` away, or use another target",
                )
