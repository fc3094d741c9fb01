"""From a kernel and a signature to a program: build, look up, lower, generate code, load.

KernelSource --frontend_ast.build--> Func --key--> cached artifact ------------------------------> program
                                      |  miss                                                  ^
                                      +--> passes.lower --> backend.compile --> artifact, stored +
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from kdsl.backends.base import Artifact
from kdsl.frontend_ast import build
from kdsl.frontend_ast.signature import ConstArg, ScalarArg, Signature
from kdsl.frontend_ast.source import MISSING, KernelSource
from kdsl.ir.nodes import Func
from kdsl.runtime import stored
from kdsl.runtime.cache import disk_cache
from kdsl.runtime.keys import Places, code_key
from kdsl.runtime.program import Program
from kdsl.target import Target

if TYPE_CHECKING:
    from kdsl.backends.llvm.entry import ScalarForm

log = logging.getLogger("kdsl")


@dataclass(frozen=True, slots=True)
class Request:
    """A kernel to be compiled for one signature and target."""

    source: KernelSource
    signature: Signature
    target: Target

    @property
    def entry(self) -> bool:
        """Whether positional calls determine this signature: then code may have a C-level entry.

        A call that leaves constexpr parameters out means their defaults; other parameters are all given.
        """
        code = self.source.fn.__code__
        kinds = [isinstance(a, ConstArg) for a in self.signature]
        given = kinds.index(True) if True in kinds else len(kinds)
        defaulted = all(
            isinstance(a, ConstArg) and p.default is not MISSING and _same(a.value, p.default)
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


def _same(a: object, b: object) -> bool:
    return type(a) is type(b) and a == b


def program(request: Request) -> Program:
    """The program for a request, from the disk cache if it is there."""
    start = perf_counter()
    func = front(request)
    tuple_result = isinstance(request.source.returns, tuple)
    if request.target.kind == "interpreter":
        from kdsl.backends.interp import InterpreterExecutor

        made = Program.of(func, InterpreterExecutor(lowered(func, request.target)), tuple_result)
    else:
        from kdsl.backends import llvm
        from kdsl.runtime.frame import CpuExecutor

        cpu = CpuExecutor.of(func, llvm.load(artifact(func, request)))
        made = Program.of(func, cpu, tuple_result, cpu.make_entry)
    log.debug("%s: ready for %s in %.1f ms", func.name, request.target.name, 1e3 * (perf_counter() - start))
    return made


def front(request: Request) -> Func:
    """The IR of a request, as the front end builds it."""
    return build(request.source, request.signature)


def artifact(func: Func, request: Request) -> Artifact:
    """Compiled code for `func`: the disk cache's, or new."""
    from kdsl.backends import llvm

    target, cache, places = request.target, disk_cache(), Places.of(func)
    forms = request.forms(func)
    variant = f"{request.entry} {sorted(forms.items())}"
    key = code_key(func, places, target, cache, variant)
    dump = _dumper(func.name, key)
    if cache is not None and dump is None:
        entry = cache.load(key)
        if entry is not None:
            log.debug("%s: found in the cache (%s)", func.name, key)
            return stored.artifact(entry, target, places)
    if dump is not None:
        dump("ir", _text(func))
    low = lowered(func, target, dump)
    made = llvm.compile(low, target, entry=request.entry, forms=forms)
    if dump is not None:
        dump("ll", llvm.llvm_text(low, target))
        dump("s", llvm.asm_text(low, target))
    if cache is not None:
        cache.store(key, stored.header(func.name, made, places), made.code)
    return made


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
    folder = Path(chosen) / f"{name}-{key[:8]}"
    folder.mkdir(parents=True, exist_ok=True)
    count = iter(range(100))

    def dump(stage: str, text: str) -> None:
        (folder / f"{next(count):02}-{stage}").write_text(text)

    return dump
