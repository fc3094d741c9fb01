"""Programs as C functions: what they compute through ctypes equals a call from Python, bit for bit."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kdsl.backends import llvm
from kdsl.backends.c_interface import arrays, scalars
from kdsl.ir.binding import binding_plan
from kdsl.ir.nodes import ArrayParam, Func, Print
from kdsl.ir.walk import stmts
from kdsl.runtime.arguments import arguments
from kdsl.runtime.compile import Request, front, lowered
from kdsl.runtime.sizes import bind_sizes
from tests.check import Draw, Program, clone, results
from tests.programs.test_programs import PROGRAMS

CHOSEN = [p for p in PROGRAMS if "cpu" in p.targets][::5]  # each is compiled, linked and loaded: some 0.4 s
C_SCALARS = {"f32": ctypes.c_float, "f64": ctypes.c_double}


@pytest.mark.parametrize("program", CHOSEN, ids=lambda p: p.id)
def test_as_a_c_function(program: Program, tmp_path: Path) -> None:
    cc = next((path for path in map(shutil.which, ("cc", "gcc", "clang")) if path), None)
    if cc is None:
        pytest.skip("no C compiler")
    args = [_contiguous(a) for a in program.arguments(Draw(len(program.sizes) - 1), *program.sizes[-1])]
    source = program.kernel.__kdsl_source__
    given = arguments(source, args, {})
    request = Request(source, given.signature, llvm.host_target(), program.kernel._schedule)
    func = front(request)
    if any(isinstance(s, Print) for s in stmts(func.body)):
        pytest.skip("it prints")
    (tmp_path / "f.o").write_bytes(llvm.compile_library(lowered(func, request.target), request.target))
    command = [cc, "-shared", "-o", "f.so", "f.o", "-lm", "-pthread"]
    subprocess.run(command, cwd=tmp_path, check=True)
    library = ctypes.CDLL(str(tmp_path / "f.so"))

    expected = [clone(a) for a in args]
    returned = results(program.kernel.on("cpu")(*expected))
    mine = arguments(source, [clone(a) for a in args], {}).for_ir()
    made = called(library[func.name], func, mine)
    for got, want in zip(mine, arguments(source, expected, {}).for_ir()):
        if isinstance(want, np.ndarray):
            assert got.tobytes() == want.tobytes()
    assert [r.tobytes() for r in made] == [np.asarray(r).tobytes() for r in returned]


def called(function: Any, func: Func, values: list[Any]) -> list[Any]:
    """Calls the C function of `func`; gives its results."""
    shapes = {n: v.shape for n, (p, v) in enumerate(zip(func.params, values)) if isinstance(p, ArrayParam)}
    plan = binding_plan(func.params, func.sizes)
    sizes = bind_sizes(func.name, func.params, plan, shapes)
    made = [np.empty([e.evaluate(sizes) for e in p.shape], p.dtype.np) for p in func.results]
    named = dict(zip([p.name for p in func.params], [*values, *made]))
    passed: list[Any] = [ctypes.c_void_p(named[p.name].ctypes.data) for p in arrays(func)]
    passed += [ctypes.c_int64(sizes[s]) for s in func.sizes]
    for p in scalars(func):
        raw = named[p.name].tobytes()
        form = C_SCALARS.get(p.dtype.name)
        passed.append(form.from_buffer_copy(raw) if form else ctypes.c_int64(int.from_bytes(raw, "little")))
    assert function(*passed) == 0
    return made


def _contiguous(a: Any) -> Any:
    return np.ascontiguousarray(a) if isinstance(a, np.ndarray) and a.ndim else a
