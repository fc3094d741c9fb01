"""The command line: `kdsl devices`, `kdsl show FILE.py:kernel`, `kdsl cache info|clear`.

Errors are printed as kdsl writes them, without a traceback; the exit code is then 2.
"""

from __future__ import annotations

import argparse
import datetime
import difflib
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import kdsl
from kdsl.errors import KdslError


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; gives the exit code."""
    options = _parser().parse_args(argv)
    try:
        options.run(options)
    except KdslError as error:
        print(error, file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader (`| head`) has seen enough
        sys.stderr.close()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kdsl", description="Kernels in Python syntax: look at them and at the cache."
    )
    parser.add_argument("--version", action="version", version=f"kdsl {kdsl.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    devices = commands.add_parser("devices", help="list what kernels can run on here")
    devices.set_defaults(run=_devices)

    show = commands.add_parser("show", help="show what a kernel becomes")
    show.add_argument("kernel", metavar="FILE.py:kernel", help="a Python file and the name of a kernel in it")
    show.add_argument(
        "--stage", choices=("ir", "explain", "llvm", "asm", "spirv"), default="ir", help="default: ir, the loop nest"
    )
    show.add_argument("--size", metavar="M=1024,...", help="with --stage explain: numbers for these sizes")
    show.set_defaults(run=_show)

    cache = commands.add_parser("cache", help="look at the cache of compiled code, or empty it")
    cache.add_argument("action", choices=("info", "clear"))
    cache.set_defaults(run=_cache)
    return parser


def _devices(_: argparse.Namespace) -> None:
    for device in kdsl.devices():
        print(device)


def _show(options: argparse.Namespace) -> None:
    kernel = find_kernel(options.kernel)
    if options.stage == "explain":
        print(kernel.explain(**sizes(options.size or "")))
        return
    if options.size:
        raise KdslError(
            "K0705", "`--size` goes with `--stage explain`", help="leave it out, or add the stage"
        )
    print(getattr(kernel, options.stage)(), end="")


def sizes(text: str) -> dict[str, int]:
    """The sizes in a text like `M=1024,N=512`."""
    out = {}
    for part in text.replace(" ", "").split(","):
        name, equals, value = part.partition("=")
        if part and not (equals and name.isidentifier() and value.isdecimal()):
            raise KdslError("K0705", f"`{part}` gives no size", help="write --size M=1024,N=512")
        if part:
            out[name] = int(value)
    return out


def find_kernel(where: str) -> kdsl.Kernel[Any]:
    """The kernel that `FILE.py:name` means; the file is run as a module that is not `__main__`."""
    file, colon, name = where.rpartition(":")
    if not colon or not name.isidentifier():
        raise KdslError("K0701", f"`{where}` does not name a kernel", help="write FILE.py:kernel")
    path = Path(file)
    if not path.is_file():
        raise KdslError("K0702", f"there is no file `{file}`", help="give the path of a Python file")
    sys.path.insert(0, str(path.resolve().parent))
    try:
        found = runpy.run_path(str(path), run_name=path.stem)
    finally:
        sys.path.pop(0)
    kernels = [n for n, value in found.items() if isinstance(value, kdsl.Kernel)]
    if name not in kernels:
        near = difflib.get_close_matches(name, kernels, 1)
        known = f"its kernels are {', '.join(kernels)}" if kernels else "it has no kernels"
        raise KdslError(
            "K0703",
            f"there is no kernel `{name}` in {path.name}",
            help=f"did you mean `{near[0]}`?" if near else known,
        )
    kernel = found[name]
    assert isinstance(kernel, kdsl.Kernel)
    return kernel


def _cache(options: argparse.Namespace) -> None:
    from kdsl.runtime.cache import default_folder, disk_cache

    folder = default_folder()
    if folder is None:
        print("no cache: KDSL_CACHE_DIR is empty")
        return
    cache = disk_cache()
    if cache is None:
        raise KdslError(
            "K0704",
            f"the cache folder {folder} cannot be used",
            help="set KDSL_CACHE_DIR to a folder of your own",
        )
    if options.action == "clear":
        print(f"{cache.clear()} files removed from {folder}")
        return
    info = cache.info()
    print(f"folder   {info.folder}")
    print(f"entries  {info.entries}")
    print(f"proofs   {info.proofs}")
    print(f"size     {_size(info.bytes)}")
    if info.oldest_s is not None and info.newest_s is not None:
        print(f"used     {_time(info.oldest_s)} to {_time(info.newest_s)}")
    for name, count in info.kernels.items():
        print(f"  {count:4} {name}")


def _size(count: int) -> str:
    return f"{count / 1024:.1f} KiB" if count < 1 << 20 else f"{count / (1 << 20):.1f} MiB"


def _time(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds).isoformat(" ", "minutes")
