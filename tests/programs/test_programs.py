"""Every program on every target against its oracle."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import kdsl
import tests.programs
from tests.check import Program


def _programs() -> list[Program]:
    found: list[Program] = []
    for module in pkgutil.walk_packages(tests.programs.__path__, "tests.programs."):
        if not module.ispkg and ".test_" not in module.name:
            found += importlib.import_module(module.name).PROGRAMS
    return found


PROGRAMS = _programs()


@pytest.mark.parametrize(
    ("program", "target"), [pytest.param(p, t, id=f"{p.id}-{t}") for p in PROGRAMS for t in p.targets]
)
def test_program(program: Program, target: str) -> None:
    try:
        program.check(target)
    except kdsl.TargetError as error:
        if target == "vulkan" and error.code == "K0511":  # a feature that this device has not
            pytest.skip(str(error).splitlines()[0])
        raise


def test_names_are_unique() -> None:
    names = [p.id for p in PROGRAMS]
    assert sorted(names) == sorted(set(names))


def test_all_of_polybench_is_here() -> None:
    import tests.programs.polybench as polybench

    modules = [m.name for m in pkgutil.iter_modules(polybench.__path__, "tests.programs.polybench.")]
    kernels = {p.kernel.__name__ for m in modules for p in importlib.import_module(m).PROGRAMS}
    assert len(kernels - {"gemm_f32", "jacobi_2d_f32"}) == 30
