"""From a kernel and a signature to a program.

```
KernelSource --quick_key--> record --> cached code ------------------------------------------> program
    |  no record                           ^                                                     ^
    +--frontend_ast.build--> Func --code_key                                                     |
                              |  no code                                                         |
                              +--> passes.lower --> backend.compile --> code and record stored --+
```
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from kdsl.backends import llvm
from kdsl.backends.base import Artifact
from kdsl.errors import CompileError
from kdsl.forks import whole
from kdsl.frontend_ast.signature import ConstArg, ScalarArg, Signature
from kdsl.frontend_ast.source import MISSING, KernelSource
from kdsl.runtime import log, stored
from kdsl.runtime.arguments import identity
from kdsl.runtime.cache import DiskCache, Entry, disk_cache
from kdsl.runtime.fingerprint import quick_key
from kdsl.runtime.frame import CpuExecutor
from kdsl.runtime.interface import Interface
from kdsl.runtime.program import Program
from kdsl.target import Target

if TYPE_CHECKING:
    from kdsl.backends.llvm.entry import ScalarForm
    from kdsl.ir.nodes import Func
    from kdsl.runtime.scheduling import Recipe


@dataclass(frozen=True, slots=True)
class Request:
    """A kernel to be compiled for one signature and target, in program order or by a schedule."""

    source: KernelSource
    signature: Signature
    target: Target
    schedule: Recipe | None = None

    @property
    def entry(self) -> bool:
        """Whether positional calls determine this signature: then code may have a C-level entry.

        A call that leaves constexpr parameters out means their defaults; other parameters are all given.
        """
        code = self.source.fn.__code__
        kinds = [isinstance(a, ConstArg) for a in self.signature]
        given = kinds.index(True) if True in kinds else len(kinds)
        defaulted = all(
            isinstance(a, ConstArg) and p.default is not MISSING and identity(a.value) == identity(p.default)
            for a, p in zip(self.signature[given:], self.source.params[given:])
        )
        return defaulted and given <= len(kinds) - code.co_kwonlyargcount

    def forms(self, func: Func) -> dict[str, ScalarForm]:
        """Which objects each scalar parameter takes: an unannotated one only what it was compiled for."""
        out: dict[str, ScalarForm] = {}
        passed = [(p, a) for p, a in zip(self.source.params, self.signature) if not isinstance(a, ConstArg)]
        for param, (p, a) in zip(func.params, passed):
            if isinstance(a, ScalarArg):
                out[param.name] = "any" if p.annotation is not None else "python" if a.weak else "numpy"
        return out


def program(request: Request) -> Program:
    """The program for a request, from the disk cache if it is there."""
    try:
        return _program(request)
    except RecursionError:
        raise too_deep(request.source) from None


def too_deep(source: KernelSource) -> CompileError:
    """The error for a tree that the compiler, which recurses over it, cannot walk."""
    return CompileError(
        "K0120",
        f"the expressions or blocks of {source.name} are nested too deeply",
        loc=source.loc,
        help="store parts of long expressions in variables",
    )


def _program(request: Request) -> Program:
    start = perf_counter()
    if request.target.kind == "interpreter":
        from kdsl.backends.interp import InterpreterExecutor

        func = front(request)
        executor = InterpreterExecutor(lowered(func, request.target))
        made = Program.of(Interface.of(func, request.source), executor)
    elif request.target.kind == "vulkan":
        made = _vulkan_program(request)
    else:
        made = _cpu_program(request)
    name, on = request.source.name, request.target.name
    log.debug("%s: ready for %s in %.1f ms", name, on, 1e3 * (perf_counter() - start))
    return made


def _cpu_program(request: Request) -> Program:
    compiled = _cached(request) or _compiled(request)
    executable = llvm.load(compiled.artifact)
    executor = CpuExecutor.of(compiled.interface, executable, compiled.explain)
    return Program.of(compiled.interface, executor, executor.make_entry)


def _vulkan_program(request: Request) -> Program:
    from kdsl.runtime.vulkan_executor import VulkanExecutor

    compiled = _cached(request) or _compiled(request)
    executor = VulkanExecutor.of(compiled.interface, compiled.artifact, compiled.explain)
    return Program.of(compiled.interface, executor, allocator=executor.allocator, again=executor.seen)


@whole
def front(request: Request) -> Func:
    """The IR of a request: as the front end builds it, then scheduled."""
    from kdsl.frontend_ast import build

    try:
        func = build(request.source, request.signature)
    except RecursionError:
        raise too_deep(request.source) from None
    if request.schedule is None:
        return func
    from kdsl.runtime.scheduling import scheduled

    return scheduled(request.schedule, func)


def _quick_key(request: Request, cache: DiskCache) -> str | None:
    """The name of the request's record in the cache; None when its meaning is known only after `front`."""
    steps: str | None = ""
    if request.schedule is not None:
        from kdsl.runtime.scheduling import steps_text

        steps = steps_text(request.schedule)
    if steps is None:
        return None
    return quick_key(request.source, request.signature, request.target, f"{request.entry} {steps}", cache)


@dataclass(frozen=True, slots=True)
class Compiled:
    """Code for the CPU or a Vulkan device. `explain` gives the artifact with the places in the source."""

    interface: Interface
    artifact: Artifact
    explain: Callable[[], Artifact]


def _cached(request: Request) -> Compiled | None:
    """What the disk cache has for a request, found without building its IR."""
    cache = disk_cache()
    if cache is None or os.environ.get("KDSL_DEBUG"):
        return None
    quick = _quick_key(request, cache)
    record = cache.load(quick) if quick is not None else None
    entry = cache.load(record.header["code"]) if record is not None else None
    if record is None or entry is None:
        return None
    interface = Interface.from_json(record.header["interface"], request.source, request.signature)
    log.debug("%s: found in the cache (%s)", request.source.name, quick)
    return _restored(request, interface, entry)


def _restored(request: Request, interface: Interface, entry: Entry) -> Compiled:
    def explain() -> Artifact:
        from kdsl.ir.places import Places

        return stored.artifact(entry, request.target, Places.of(front(request)).locs)

    return Compiled(interface, stored.artifact(entry, request.target), explain)


def _compiled(request: Request) -> Compiled:
    """Code for a request whose IR has to be built; compiled unless other source gave the same IR."""
    from kdsl.ir.places import Places
    from kdsl.runtime.keys import code_key

    target, cache = request.target, disk_cache()
    func = front(request)
    interface, places, forms = Interface.of(func, request.source), Places.of(func), request.forms(func)
    key = code_key(func, places, target, f"{request.entry} {sorted(forms.items())}", cache)
    dump = _dumper(func.name, key)
    entry = cache.load(key) if cache is not None and dump is None else None
    if entry is not None:
        log.debug("%s: its IR is in the cache (%s)", func.name, key)
        compiled = _restored(request, interface, entry)
    else:
        if dump is not None:
            if request.schedule is not None:
                dump("unscheduled.ir", _text(front(replace(request, schedule=None))))
            dump("ir", _text(func))
        made = _made(request, func, forms, dump)
        if cache is not None:
            cache.store(key, stored.header(func.name, made, places), made.code)
        compiled = Compiled(interface, made, lambda: made)
    if cache is not None:
        quick = _quick_key(request, cache)
        if quick is not None:
            cache.store(quick, {"code": key, "interface": interface.to_json()})
    return compiled


def _made(
    request: Request, func: Func, forms: dict[str, ScalarForm], dump: Callable[[str, str], None] | None
) -> Artifact:
    """Code for the IR of a request."""
    target = request.target
    if target.kind == "vulkan":
        from kdsl.runtime.device_code import spirv_artifact

        return spirv_artifact(func, target, dump)
    low = lowered(func, target, dump)
    made = llvm.compile(low, target, entry=request.entry, forms=forms)
    if dump is not None:
        dump("ll", llvm.llvm_text(low, target))
        dump("s", llvm.asm_text(low, target))
    return made


@whole
def lowered(func: Func, target: Target, dump: Callable[[str, str], None] | None = None) -> Func:
    """`func` through the pipeline of passes."""
    from kdsl.mathlib import definition
    from kdsl.passes import lower

    if dump is None:
        return lower(func, target, definition)
    return lower(func, target, definition, on_stage=lambda name, after: dump(f"{name}.ir", _text(after)))


def _text(func: Func) -> str:
    from kdsl.ir.printer import print_func

    return print_func(func)


def _dumper(name: str, key: str) -> Callable[[str, str], None] | None:
    """Writes the stages of a compilation below the folder `KDSL_DEBUG`, if that is set."""
    chosen = os.environ.get("KDSL_DEBUG")
    if not chosen:
        return None
    folder = Path(chosen).expanduser() / f"{name}-{key[:8]}"
    count = itertools.count()

    def dump(stage: str, text: str) -> None:
        path = folder / f"{next(count):02}-{stage}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        except OSError as e:
            log.warning("%s not written: %s", path, e)

    return dump
