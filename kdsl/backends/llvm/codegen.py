"""LLVM at work: assembly text in, object code out. The one module that imports llvmlite.

text --parse, verify--> module --pass builder (-O3, vectorisers)--> module --> ELF object | assembly | text

A kernel with vector loops has its vectors already: then -O1, without LLVM's vectorisers and unroller.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from kdsl.backends.base import Artifact
from kdsl.backends.llvm import watch as watch_module
from kdsl.backends.llvm.emit import emit_library, emit_module
from kdsl.backends.llvm.entry import ScalarForm
from kdsl.backends.llvm.host import NATIVE
from kdsl.backends.llvm.pool import STATE, pool_text
from kdsl.backends.llvm.uniformity import is_instruction, is_vector
from kdsl.backends.llvm.watch import Lowering, Watch
from kdsl.errors import CompileError
from kdsl.forks import whole
from kdsl.ir.nodes import Func, Instruction, Loop
from kdsl.ir.walk import stmts
from kdsl.target import Target


@whole
def compile(
    func: Func, target: Target, *, entry: bool = True, forms: Mapping[str, ScalarForm] | None = None
) -> Artifact:
    """Object code for a lowered, verified `func`, with an entry if asked for (see `entry.py`)."""
    emitted = emit_module(func, target, entry=entry, forms=forms)
    context = _context()
    module = _kernel(func, emitted.text, target, context)
    module.link_in(_parsed(emitted.glue_text, target, context))
    code = bytes(_machine(target).emit_object(module))
    return Artifact(target, emitted.symbol, code, emitted.sites, emitted.conditions)


@whole
def compile_library(func: Func, target: Target) -> bytes:
    """Object code for a lowered, verified `func` that needs no Python: its C functions alone are visible."""
    emitted = emit_library(func, target)
    context = _context()
    module = _kernel(func, emitted.text, target, context)
    module.link_in(_parsed(emitted.glue_text, target, context))
    if emitted.pool:
        module.link_in(_optimised(pool_text(target, "pthread"), target, context=context))
    for symbol in (*module.functions, *module.global_variables):
        if symbol.name.startswith((emitted.symbol, STATE)) and not symbol.is_declaration:
            symbol.linkage = "internal"
    return bytes(_machine(target).emit_object(module))


@whole
def llvm_text(func: Func, target: Target, optimised: bool = True) -> str:
    """The LLVM assembly of `func`, as emitted or after LLVM's passes."""
    emitted = emit_module(func, target)
    return str(_kernel(func, emitted.text, target)) if optimised else emitted.text


@whole
def asm_text(func: Func, target: Target) -> str:
    """The machine code of `func` as assembly."""
    module = _kernel(func, emit_module(func, target).text, target)
    return str(_machine(target).emit_assembly(module))


@whole
def lowering(func: Func, target: Target) -> Lowering:
    """What became of the loops of a lowered `func`, those that LLVM's own vectoriser took included."""
    watch = Watch()
    text = str(_kernel(func, emit_module(func, target, watch=watch).text, target))
    return watch_module.lowering(watch, text)


def _kernel(func: Func, text: str, target: Target, context: Any = None) -> Any:
    """The module of a kernel after LLVM's passes."""
    used = {s.mark.instruction: s for s in stmts(func.body) if isinstance(s, Loop) and s.mark is not None}
    for instruction, loop in used.items():
        if instruction is not None and f"@{instruction.llvm}(" in text:
            _check_intrinsic(instruction, loop, text)
    return _optimised(text, target, scheduled(func), context)


def _check_intrinsic(instruction: Instruction, loop: Loop, text: str) -> None:
    """Refuses what LLVM does not know, or takes other operands."""
    import llvmlite.binding as llvm

    lines = [line for line in text.split("\n") if line.startswith("declare ")]
    declared = next(line for line in lines if f"@{instruction.llvm}(" in line)
    try:
        # LLVM gives attributes of its own accord to what it knows, and rewrites what it knows otherwise.
        known = f"{declared} #0" in str(llvm.parse_assembly(declared, _context()))
    except RuntimeError:
        known = False
    if not known:
        raise CompileError(
            "K0142",
            f"LLVM does not know the intrinsic of the instruction `{instruction.name}` in this form",
            loc=instruction.meaning.loc,
            label=declared.removeprefix("declare "),
            help="give the parameters in the intrinsic's order, with its numbers of elements",
        )


def scheduled(func: Func) -> bool:
    """Whether the schedule of `func` says what runs in vectors: then LLVM's vectorisers keep out."""
    return any(is_vector(s) or is_instruction(s) for s in stmts(func.body))


@whole
def assemble(text: str, target: Target) -> bytes:
    """Object code of a module given as LLVM assembly."""
    return bytes(_machine(target).emit_object(_optimised(text, target)))


@cache
def llvm_host() -> tuple[str, str, str]:
    """LLVM's name of this CPU, its features and the triple."""
    import llvmlite.binding as llvm

    return llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten(), llvm.get_default_triple()


@cache
def _machine(target: Target) -> Any:
    """The target machine. Position-independent, so that one mapping holds code, constants and stubs."""
    import llvmlite.binding as llvm

    cpu, features, triple = target.cpu, target.features, target.triple
    host = llvm_host()
    if not cpu or cpu.startswith(NATIVE):
        cpu, features = host[0], host[1]
    triple = triple or host[2]
    if triple == host[2]:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
    else:
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
    return llvm.Target.from_triple(triple).create_target_machine(
        cpu=cpu, features=features, opt=2, reloc="pic", codemodel="small"
    )


def _context() -> Any:
    """A context of its own for each compilation: what LLVM keeps in one is freed with it."""
    import llvmlite.binding as llvm

    return llvm.create_context()


def _parsed(text: str, target: Target, context: Any) -> Any:
    """The verified module of some assembly."""
    import llvmlite.binding as llvm

    machine = _machine(target)
    module = llvm.parse_assembly(text, context)
    module.triple = machine.triple
    module.data_layout = str(machine.target_data)
    module.verify()
    return module


def _optimised(text: str, target: Target, scheduled: bool = False, context: Any = None) -> Any:
    """The module after LLVM's passes, in a context of its own where none is given."""
    import llvmlite.binding as llvm

    module = _parsed(text, target, context or _context())
    options = llvm.create_pipeline_tuning_options(speed_level=1 if scheduled else 3)
    options.loop_vectorization = not scheduled
    options.slp_vectorization = not scheduled
    options.loop_interleaving = not scheduled
    options.loop_unrolling = not scheduled
    builder = llvm.create_pass_builder(_machine(target), options)
    manager = builder.getModulePassManager()
    try:
        manager.run(module, builder)
    finally:
        # llvmlite 0.50 never frees it: `ObjectRef._dispose` comes before the pass manager's own.
        llvm.newpassmanagers.NewPassManager._dispose(manager)
        manager.detach()
    return module


@whole
def make_engine(code: bytes, symbols: Mapping[str, int]) -> Any:
    """LLVM's own loader with the object `code` in it; it frees the code when it dies.

    `symbols` are addresses of what the code may refer to, beside the functions of the process.
    """
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    for name, address in symbols.items():
        llvm.add_symbol(name, address)
    machine = llvm.Target.from_default_triple().create_target_machine()
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return engine
