"""The house holds: rooms import only rooms on lower floors, and heavy libraries stay in their rooms."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "kdsl"

# Floor of each room (docs/architecture.md); on one floor, rooms do not import each other.
FLOORS = {
    "source": 0,
    "error_codes": 0,
    "forks": 0,
    "dtypes": 1,
    "errors": 1,
    "target": 1,
    "ir": 2,
    "analysis": 3,
    "lang": 3,
    "frontend_ast": 4,
    "passes": 4,
    "sched": 5,
    "backends": 5,
    "mathlib": 5,
    "tune": 6,
    "runtime": 7,
    "cli": 8,
    "instructions": 8,
    "__init__": 9,
    "__main__": 10,
}
HOMES = {"llvmlite": "backends/llvm", "islpy": "analysis", "vulkan": "backends/vulkan"}
HEAVY = tuple(HOMES)


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of each import, those inside functions and of type checking included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            base = node.module or ""
            # `from kdsl import lang` names a room too; `from kdsl.ir import nodes` is in the base already.
            names = [f"{base}.{a.name}" for a in node.names] if base == "kdsl" else [base]
            for name in names:
                yield node.lineno, name


def test_every_room_has_a_floor() -> None:
    assert {room(p) for p in modules()} <= set(FLOORS)


def test_imports_go_down() -> None:
    wrong = []
    for path in modules():
        here = room(path)
        for line, name in imports(path):
            parts = name.split(".")
            if parts[0] != "kdsl" or len(parts) < 2 or parts[1] not in FLOORS or parts[1] == here:
                continue
            if FLOORS[parts[1]] >= FLOORS[here]:
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {name}")
    assert not wrong


@pytest.mark.parametrize("library", HEAVY)
def test_heavy_libraries_stay_in_their_rooms(library: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in modules()
        for line, name in imports(path)
        if name.split(".")[0] == library
        and not path.relative_to(PACKAGE).as_posix().startswith(HOMES[library])
    ]
    assert not wrong


def test_importing_kdsl_loads_nothing_heavy() -> None:
    code = f"import sys, kdsl; print([m for m in {HEAVY!r} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert out.stdout.strip() == "[]"
