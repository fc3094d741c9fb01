"""What figures depend on: the machine, the versions of packages, the commit."""

from __future__ import annotations

import os
import platform
import subprocess
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import kdsl
from kdsl.runtime.targets import resolve

ROOT = Path(__file__).resolve().parents[1]
CURVE = ROOT / "examples" / "matmul" / "compare.py"
"""Measures GFLOP/s of products by size, and draws them."""
PACKAGES = ("numpy", "llvmlite", "numba", "torch", "scipy", "threadpoolctl", "ml_dtypes")


def processor() -> str:
    """Its name as the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def versions(packages: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Of the packages that are installed."""
    found = {}
    for package in packages:
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def blas() -> dict[str, str]:
    """NumPy's: library, version, the processor it takes this one for; empty without threadpoolctl."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return {}
    names = {"internal_api": "library", "version": "version", "architecture": "architecture"}
    for pool in threadpool_info():
        if pool["user_api"] == "blas":
            return {ours: str(pool[theirs]) for theirs, ours in names.items() if pool.get(theirs)}
    return {}


def commit() -> str:
    """The short hash, with "+" behind it where files differ from it; empty outside of a repository."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=10", "HEAD") + "+" * bool(changed)
    except (OSError, subprocess.CalledProcessError):
        return ""


def facts() -> dict[str, Any]:
    """All of it, as JSON."""
    target = resolve("cpu")
    settings = ("OPENBLAS_", "OMP_", "MKL_", "NUMBA_", "KDSL_")
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit(),
        "processor": processor(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "threads": kdsl.get_num_threads(),
        "vector_bits": 8 * target.vector_bytes,
        "load_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "versions": {"kdsl": kdsl.__version__, **versions()},
        "blas": blas(),
        "environment": {
            n: v for n, v in sorted(os.environ.items()) if n.startswith(settings) and n != "KDSL_CACHE_DIR"
        },
    }


def line() -> str:
    """Processor, Python, and the versions of the packages that matter."""
    packages = ", ".join(f"{n} {v}" for n, v in versions(("numpy", "llvmlite", "numba")).items())
    return f"{processor()}, Python {platform.python_version()}, {packages}"
