"""Python in a process of its own, with kdsl importable and a chosen environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def environment(kdsl: Path = ROOT, **changes: str) -> dict[str, str]:
    """This process's environment with changes; kdsl comes from this checkout, or from the folder `kdsl`."""
    path = os.pathsep.join(filter(None, [str(kdsl), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path, **changes}


def run_python(
    *args: str, check: bool = True, kdsl: Path = ROOT, **changes: str
) -> subprocess.CompletedProcess[str]:
    """Runs `python *args`; `changes` go to the environment. Fails with the output unless `check` is off."""
    done = subprocess.run(
        [sys.executable, *args],
        env=environment(kdsl, **changes),
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert not check or done.returncode == 0, done.stderr
    return done


def copy_of_kdsl(folder: Path) -> Path:
    """A folder with a copy of kdsl: an edit of this checkout between two processes changes cache keys."""
    if not folder.exists():
        shutil.copytree(ROOT / "kdsl", folder / "kdsl")
    return folder
