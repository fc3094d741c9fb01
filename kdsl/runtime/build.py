"""Kernels as files that need no Python: `kdsl build`.

    Kernel, types --frontend_ast.build--> Func --sizes fixed, scheduled--> Func --passes.lower--> Func
        cpu      --> NAME.o, libNAME.so, NAME.h
        vulkan   --> NAME.spv, NAME.json, NAME_manifest.h

Files are written into a temporary folder and moved to their place when all are there.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdsl.backends import llvm
from kdsl.backends.c_interface import reserved, site_text
from kdsl.backends.llvm.c_header import c_header
from kdsl.backends.llvm.symbols import is_library_function
from kdsl.errors import CompileError, KdslError, TargetError
from kdsl.frontend_ast import build as front_end
from kdsl.ir.nodes import Func, Print, ScalarParam
from kdsl.ir.printer import print_func
from kdsl.ir.walk import stmts
from kdsl.runtime.compile import lowered
from kdsl.runtime.scheduling import scheduled
from kdsl.runtime.typed import decided, fixed, known_sizes, signature_of
from kdsl.target import Limits, Target

if TYPE_CHECKING:
    from kdsl.runtime.kernel import Kernel
    from kdsl.runtime.scheduling import Recipe


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be built: `given` types what the annotations leave open, `sizes` are fixed.

    `schedule`: instead of the kernel's own. `name`: of the C function and the files. `maker`: the version of
    kdsl, for the record.
    """

    kernel: Kernel[Any]
    given: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    schedule: Recipe | None = None
    name: str = ""
    maker: str = "kdsl"

    def func(self) -> Func:
        """The kernel's IR, scheduled."""
        source = self.kernel.__kdsl_source__
        func = front_end(source, signature_of(source, self.given))
        sizes = known_sizes(func, self.sizes)
        func = replace(fixed(func, sizes) if sizes else func, name=self.name or func.name)
        return scheduled(self.schedule or self.kernel._recipe(func), func)

    def about(self, func: Func) -> list[str]:
        """Lines on how it is made."""
        head = next(line for line in print_func(func).split("\n") if line.startswith("def ")).rstrip(":")
        fixed = ", ".join(f"{name} = {value}" for name, value in self.sizes.items())
        return [head, "", f"Made by {self.maker}" + (f" for {fixed}." if fixed else ".")]


# -------------------------------------------------------------------------- cpu


def build_cpu(order: Order, folder: Path, cpu: str = "native", shared: bool = True) -> list[Path]:
    """Writes `NAME.o`, `NAME.h` and, if `shared`, the shared library; gives their paths.

    `cpu`: "native", or a name that `llvm.cpu_target` knows. docs/build.md describes the C interface.
    """
    target = llvm.cpu_target(cpu)
    func = order.func()
    _check_name(func)
    _check_no_print(func)
    low = decided(lowered(func, target), order.sizes)
    about = [*order.about(func), f"Compiled for {llvm.cpu_text(target)}. Needs the C library and libm alone."]
    name = func.name
    files = {f"{name}.o": llvm.compile_library(low, target), f"{name}.h": c_header(low, about).encode()}
    return written(folder, files, lambda at: _link(at, f"{name}.o", _library_name(name)) if shared else None)


def _check_name(func: Func) -> None:
    """C has one name space: a kernel called `double` or `exp` cannot be a function of that name."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", func.name):
        why = "not letters, digits and `_` alone"
    elif reserved(func.name):
        why = "a word of C or C++"
    elif is_library_function(func.name):
        why = "a function of the C library"
    else:
        return
    near = re.sub("[^A-Za-z0-9_]|^_+", "", func.name)
    raise CompileError(
        "K0713",
        f"a C function cannot be called `{func.name}`",
        loc=func.loc,
        label=why,
        help=f"give the files and the function another name: --name {near}_kernel",
    )


def _check_no_print(func: Func) -> None:
    for s in stmts(func.body):
        if isinstance(s, Print):
            raise CompileError(
                "K0714",
                f"{func.name} prints, which a library without Python cannot",
                loc=s.loc,
                help="take the `print` out, or build a kernel without it",
            )


def _library_name(name: str) -> str:
    if sys.platform == "win32":
        return f"{name}.dll"
    return f"lib{name}.dylib" if sys.platform == "darwin" else f"lib{name}.so"


def _link(folder: Path, obj: str, library: str) -> None:
    """Links an object into a shared library with the system's C compiler."""
    command = [*_compiler(), "-shared", "-o", library, obj]
    if sys.platform == "linux":
        # Worker threads may be in the library's code when it is closed: it stays in the process.
        command += [f"-Wl,-soname,{library},-z,nodelete", "-pthread"]
    if sys.platform != "win32":
        command.append("-lm")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        raise TargetError(
            "K0715",
            f"the C compiler could not link {library}",
            notes=[shlex.join(command), *done.stderr.strip().splitlines()[:8]],
            help="build the object and the header alone: --no-shared",
        )


def _compiler() -> list[str]:
    """The command of the C compiler: `CC`, or the first that is there."""
    chosen = shlex.split(os.environ.get("CC", ""))
    for name in [chosen[0]] if chosen else ["cc", "gcc", "clang"]:
        found = shutil.which(name)
        if found is not None:
            return [found, *chosen[1:]]
    raise TargetError(
        "K0715",
        f"there is no C compiler `{chosen[0]}` to link a shared library"
        if chosen
        else "there is no C compiler to link a shared library",
        help="install gcc or clang, or build the object and the header alone: --no-shared",
    )


# ----------------------------------------------------------------------- vulkan

VULKAN_FEATURES = (
    "shaderFloat64", "shaderInt64", "shaderInt16", "storageBuffer16BitAccess", "storageBuffer8BitAccess",
    "shaderFloat16", "shaderInt8", "shaderBufferInt64Atomics", "shaderSharedInt64Atomics",
    "vulkanMemoryModel", "vulkanMemoryModelDeviceScope", "shaderSubgroupExtendedTypes",
    "shaderBufferFloat32Atomics", "shaderBufferFloat32AtomicAdd", "shaderBufferFloat64Atomics",
    "shaderBufferFloat64AtomicAdd", "shaderSharedFloat32Atomics", "shaderSharedFloat32AtomicAdd",
    "shaderSharedFloat64Atomics", "shaderSharedFloat64AtomicAdd",
    *[f"subgroup{what}" for what in ("Basic", "Vote", "Arithmetic", "Ballot", "Shuffle", "ShuffleRelative",
                                     "Clustered", "Quad")],
    *[f"shader{what}Float{bits}"
      for what in ("SignedZeroInfNanPreserve", "DenormPreserve", "RoundingModeRTE") for bits in (16, 32, 64)],
)  # fmt: skip
"""What a module can be allowed to need of a device, as Vulkan spells it."""


def vulkan_target(features: Sequence[str] = (), limits: Mapping[str, int] | None = None) -> Target:
    """Any device with Vulkan 1.1 that has these features, and limits that are the least which that promises,
    but for those given."""
    for feature in features:
        if feature not in VULKAN_FEATURES:
            near = difflib.get_close_matches(feature, VULKAN_FEATURES, 1)
            raise TargetError(
                "K0716",
                f"there is no feature `{feature}` that a kernel can use",
                notes=[] if near else [f"there are {', '.join(VULKAN_FEATURES)}"],
                help=f"did you mean `{near[0]}`?" if near else "leave it out",
            )
    least = Limits()
    names = [f.name for f in fields(Limits) if isinstance(getattr(least, f.name), int)]
    for limit in limits or ():
        if limit not in names:
            raise TargetError(
                "K0716",
                f"there is no limit `{limit}` of Vulkan devices",
                notes=[f"there are {', '.join(names)}"],
                help="write --limits buffers=8,shared_bytes=32768",
            )
    changed: dict[str, Any] = dict(limits or {})
    return Target(
        "vulkan",
        cpu="a device with Vulkan 1.1",
        features=",".join(sorted(features)),
        limits=replace(least, **changed),
    )


_WAYS_OUT = {
    "K0511": "where the devices have the feature: --features NAME",
    "K0515": "where the devices promise it: --features NAME",
    "K0512": "where the devices can do more: --limits invocations=N",
    "K0513": "where the devices can do more: --limits buffers=N or shared_bytes=N",
}
"""What helps against a refusal, by its code: the target is not one device, but what the user says of it."""


def _with_way_out(error: TargetError) -> TargetError:
    way_out = _WAYS_OUT.get(error.code, error.help)
    return TargetError(
        error.code, error.title, loc=error.loc, label=error.label, notes=error.notes, help=way_out
    )


def build_vulkan(order: Order, folder: Path, target: Target) -> list[Path]:
    """Writes `NAME.spv`, `NAME.json` and `NAME_manifest.h`; gives their paths. Needs no device.

    docs/build.md describes the manifest.
    """
    from kdsl.backends.c_manifest import c_manifest
    from kdsl.backends.spirv import unpack
    from kdsl.runtime.device_code import spirv_artifact

    func = order.func()
    _check_name(func)
    try:
        artifact = spirv_artifact(func, target)
    except TargetError as error:
        raise _with_way_out(error) from None
    device, module = unpack(artifact.code)
    manifest = {
        **device,
        "sizes": list(func.sizes),
        "scalars": [
            {"name": p.name, "dtype": p.dtype.name} for p in func.params if isinstance(p, ScalarParam)
        ],
        "condition_titles": [title for title, _ in artifact.conditions],
        "sites": [
            {"kind": s.kind, "line": s.loc.line if s.loc else 0, "message": site_text(s)}
            for s in artifact.sites
        ],
        "maker": order.maker,
    }
    name = func.name
    files = {
        f"{name}.spv": module,
        f"{name}.json": (json.dumps(manifest, indent=1) + "\n").encode(),
        f"{name}_manifest.h": c_manifest(manifest).encode(),
    }
    return written(folder, files)


# ------------------------------------------------------------------------ files


def written(
    folder: Path, files: Mapping[str, bytes], finish: Callable[[Path], None] = lambda at: None
) -> list[Path]:
    """Writes `files` into `folder`, which may be new, all or none; gives their paths.

    `finish(temporary folder)` makes further files of them.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".kdsl-", dir=folder) as temporary:
            at = Path(temporary)
            for name, content in files.items():
                (at / name).write_bytes(content)
            finish(at)
            made = sorted(at.iterdir())
            for path in made:
                os.replace(path, folder / path.name)
    except OSError as error:
        raise KdslError(
            "K0718",
            f"nothing was written to {folder}: {error.strerror or error}",
            help="choose another folder: -o DIR",
        ) from None
    return [folder / path.name for path in made]
