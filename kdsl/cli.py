"""The command line: `kdsl devices`, `kdsl cache info|clear`, `kdsl show|bench|tune|build FILE.py:kernel`.

Errors are printed as kdsl writes them, without a traceback; the exit code is then 2.
"""

from __future__ import annotations

import argparse
import datetime
import difflib
import functools
import io
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

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
        prog="kdsl", description="Kernels in Python syntax: look at them, time them, build libraries of them."
    )
    parser.add_argument("--version", action="version", version=f"kdsl {kdsl.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    devices = commands.add_parser("devices", help="list what kernels can run on here")
    devices.set_defaults(run=_devices)

    show = commands.add_parser("show", help="show what a kernel becomes")
    show.add_argument("kernel", metavar="FILE.py:kernel", help="a Python file and the name of a kernel in it")
    show.add_argument(
        "--stage",
        choices=("ir", "explain", "llvm", "asm", "spirv"),
        default="ir",
        help="default: ir, the loop nest",
    )
    show.add_argument("--size", metavar="M=1024,...", help="with --stage explain: numbers for these sizes")
    show.set_defaults(run=_show)

    bench = commands.add_parser(
        "bench",
        help="time a kernel",
        description="Times calls of a kernel on random arrays: floats in [0, 1), integers below all sizes.",
    )
    _kernel_options(bench, "numbers for all sizes")
    bench.add_argument("--target", metavar="NAME", help="where it runs (see `kdsl devices`)")
    bench.add_argument("--threads", type=int, metavar="N", help="threads that share a parallel loop")
    bench.add_argument(
        "--against", metavar="FILE.py:function", help="time this function too, called with the same arguments"
    )
    bench.add_argument(
        "--seconds", type=float, default=1.0, metavar="S", help="how long to time (default: 1)"
    )
    bench.set_defaults(run=_bench)

    tune = commands.add_parser(
        "tune",
        help="search a fast schedule for a kernel",
        description="Searches a fast schedule for a kernel on random arrays (floats in [0, 1), integers "
        'below all sizes), prints it as Python, and stores it for `schedule="auto"`. Ctrl-C ends the search '
        "and keeps what was found. --export and --import take the stored results elsewhere.",
    )
    tune.add_argument(
        "kernel", metavar="FILE.py:kernel", nargs="?", help="a Python file and the name of a kernel in it"
    )
    _typing_options(tune, "numbers for all sizes")
    tune.add_argument("--target", metavar="NAME", help="where it runs (see `kdsl devices`)")
    tune.add_argument("--threads", type=int, metavar="N", help="threads that share a parallel loop")
    tune.add_argument("--seconds", type=float, metavar="S", help="how long to search (default: 60)")
    tune.add_argument("--trials", type=int, metavar="N", help="candidates to try (default: no limit)")
    tune.add_argument("--seed", type=int, default=0, metavar="N", help="of the search (default: 0)")
    tune.add_argument(
        "--space",
        metavar="FILE.py:function",
        help="a schedule function with choices, instead of the whole space",
    )
    tune.add_argument("--prefix", metavar="FILE.py:function", help="a schedule function whose steps are kept")
    tune.add_argument("--pin", action="append", default=[], metavar="KNOB=VALUE", help="hold a knob")
    tune.add_argument("--fresh", action="store_true", help="do not go on from earlier results")
    tune.add_argument("--report", metavar="OUT.html", help="write a page about it")
    tune.add_argument(
        "--plot", metavar="OUT.png", help="draw the best time over the seconds (needs matplotlib)"
    )
    tune.add_argument(
        "--export", metavar="OUT.jsonl", help="write all stored results as text, and do no more"
    )
    tune.add_argument(
        "--import", dest="take", metavar="IN.jsonl", help="take stored results from a text, and do no more"
    )
    tune.set_defaults(run=_tune)

    build = commands.add_parser(
        "build",
        help="write a kernel as files that need no Python",
        description="Writes a kernel as files that need no Python. For a CPU: NAME.o, libNAME.so and the C "
        "header NAME.h. For Vulkan devices: NAME.spv, its manifest NAME.json, and the same as a C header, "
        "NAME_manifest.h.",
        epilog="docs/build.md describes the C interface and the manifest.",
    )
    _kernel_options(build, "fix these sizes: they are no parameters any more")
    build.add_argument("--target", choices=("cpu", "vulkan"), default="cpu", help="default: cpu")
    build.add_argument(
        "-o", dest="folder", metavar="DIR", default=".", help="where the files go (default: .)"
    )
    build.add_argument("--name", metavar="NAME", help="of the function and the files (default: the kernel's)")
    build.add_argument(
        "--cpu",
        metavar="CPU",
        help="native (default: this machine), or x86-64, x86-64-v2, x86-64-v3, x86-64-v4: what all CPUs of a "
        "level have",
    )
    build.add_argument(
        "--no-shared", action="store_true", help="no shared library, which a C compiler has to link"
    )
    build.add_argument(
        "--features",
        metavar="NAME,...",
        help="what the Vulkan device has beyond Vulkan 1.1, as Vulkan spells it: shaderInt64,shaderFloat64",
    )
    build.add_argument(
        "--limits",
        metavar="NAME=N,...",
        help="limits of the Vulkan device that are above the least ones: buffers=8,shared_bytes=32768",
    )
    build.set_defaults(run=_build)

    cache = commands.add_parser("cache", help="look at the cache of compiled code, or empty it")
    cache.add_argument("action", choices=("info", "clear"))
    cache.set_defaults(run=_cache)
    return parser


def _kernel_options(parser: argparse.ArgumentParser, sizes: str) -> None:
    """The kernel, and what fixes its types, sizes and schedule without a call."""
    parser.add_argument(
        "kernel", metavar="FILE.py:kernel", help="a Python file and the name of a kernel in it"
    )
    _typing_options(parser, sizes)
    parser.add_argument(
        "--schedule", metavar="FILE.py:function", help="a function that schedules it, instead of its own"
    )


def _typing_options(parser: argparse.ArgumentParser, sizes: str) -> None:
    """What fixes types and sizes."""
    parser.add_argument("--size", metavar="M=1024,...", default="", help=sizes)
    parser.add_argument(
        "--arg",
        action="append",
        default=[],
        metavar="NAME=TYPE",
        help="what the annotations leave open: x=f32[:,:] or n=i64 for an argument, T=f32 for a type "
        "variable, BLOCK=64 for a constexpr",
    )


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


def words(given: Sequence[str], option: str = "--arg", example: str = "x=f32[:,:]") -> dict[str, str]:
    """What options like `--arg x=f32[:]` give, by name."""
    out = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (equals and name.strip().isidentifier() and value.strip()):
            what = "types" if option == "--arg" else "holds"
            raise KdslError("K0710", f"`{option} {text}` {what} nothing", help=f"write {option} {example}")
        out[name.strip()] = value.strip()
    return out


def find_kernel(where: str) -> kdsl.Kernel[Any]:
    """The kernel that `FILE.py:name` means."""
    file, name, found = _names(where, "kernel")
    kernels = [n for n, value in found.items() if isinstance(value, kdsl.Kernel)]
    if name not in kernels:
        near = difflib.get_close_matches(name, kernels, 1)
        known = f"its kernels are {', '.join(kernels)}" if kernels else "it has no kernels"
        raise KdslError(
            "K0703",
            f"there is no kernel `{name}` in {file}",
            help=f"did you mean `{near[0]}`?" if near else known,
        )
    kernel = found[name]
    assert isinstance(kernel, kdsl.Kernel)
    return kernel


def find_function(where: str) -> Any:
    """The function (or Schedule, or kernel) that `FILE.py:name` means."""
    file, name, found = _names(where, "function")
    if not callable(found.get(name)):
        functions = [n for n, value in found.items() if callable(value) and not n.startswith("_")]
        near = difflib.get_close_matches(name, functions, 1)
        raise KdslError(
            "K0717",
            f"there is no function `{name}` in {file}",
            help=f"did you mean `{near[0]}`?" if near else "define it there",
        )
    return found[name]


def _names(where: str, what: str) -> tuple[str, str, dict[str, Any]]:
    """File and name of `FILE.py:name`, and the names that the file defines."""
    file, colon, name = where.rpartition(":")
    if not colon or not name.isidentifier():
        raise KdslError("K0701", f"`{where}` does not name a {what}", help=f"write FILE.py:{what}")
    path = Path(file)
    if not path.is_file():
        raise KdslError("K0702", f"there is no file `{file}`", help="give the path of a Python file")
    return path.name, name, _namespace(path.resolve())


@functools.cache
def _namespace(path: Path) -> dict[str, Any]:
    """What the file defines; it is run once, as a module that is not `__main__`."""
    sys.path.insert(0, str(path.parent))
    try:
        return runpy.run_path(str(path), run_name=path.stem)
    finally:
        sys.path.pop(0)


def _build(options: argparse.Namespace) -> None:
    from kdsl.runtime.build import Order, build_cpu, build_vulkan, vulkan_target

    order = Order(
        find_kernel(options.kernel),
        words(options.arg),
        sizes(options.size),
        find_function(options.schedule) if options.schedule else None,
        options.name or "",
        f"kdsl {kdsl.__version__}",
    )
    for option, target in {
        "cpu": "cpu",
        "no_shared": "cpu",
        "features": "vulkan",
        "limits": "vulkan",
    }.items():
        if getattr(options, option) and options.target != target:
            text = "--" + option.replace("_", "-")
            raise KdslError(
                "K0716",
                f"`{text}` goes with `--target {target}`",
                help=f"leave it out, or add --target {target}",
            )
    folder = Path(options.folder)
    if options.target == "cpu":
        made = build_cpu(order, folder, options.cpu or "native", not options.no_shared)
    else:
        features = [f for f in (options.features or "").replace(" ", "").split(",") if f]
        made = build_vulkan(order, folder, vulkan_target(features, sizes(options.limits or "")))
    for path in made:
        print(path)


def _bench(options: argparse.Namespace) -> None:
    from kdsl.runtime.bench import bench

    if options.threads is not None:
        kdsl.set_num_threads(options.threads)
    kernel = find_kernel(options.kernel)
    if options.target:
        kernel = kernel.on(options.target)
    if options.schedule:
        kernel = kernel.with_schedule(find_function(options.schedule))
    against = find_function(options.against) if options.against else None
    print(bench(kernel, words(options.arg), sizes(options.size), against, options.seconds))


def _tune(options: argparse.Namespace) -> None:
    from kdsl.runtime.auto import tuning_database
    from kdsl.runtime.bench import arguments_for

    if options.export or options.take:
        store = tuning_database()
        if options.take:
            with _opened(options.take, "r") as file:
                print(f"{store.read(file)} rows taken into {store.path or 'memory'}")
        if options.export:
            with _opened(options.export, "w") as file:
                file.writelines(line + "\n" for line in store.lines())
        return
    if options.kernel is None:
        raise KdslError(
            "K0701", "`kdsl tune` needs a kernel", help="write kdsl tune FILE.py:kernel --size M=1024,..."
        )
    if options.threads is not None:
        kdsl.set_num_threads(options.threads)
    kernel = find_kernel(options.kernel)
    if options.target:
        kernel = kernel.on(options.target)
    pins: dict[str, Any] = {}
    for name, value in words(options.pin, "--pin", "rows=4").items():
        pins.setdefault(name, []).append(int(value) if value.lstrip("-").isdecimal() else value)
    seconds = options.seconds
    if seconds is None and options.trials is None:
        seconds = 60.0
    result = kdsl.autotune(
        kernel,
        arguments_for(kernel, words(options.arg), sizes(options.size)),
        seconds=seconds,
        trials=options.trials,
        space=find_function(options.space) if options.space else None,
        prefix=find_function(options.prefix) if options.prefix else None,
        pins=pins,
        seed=options.seed,
        resume=not options.fresh,
    )
    print(result)
    if options.plot:
        print(f"# {result.plot(options.plot)}")
    if options.report:
        print(f"# {result.report(options.report)}")


def _opened(path: str, mode: str) -> TextIO:
    try:
        found = open(path, mode)  # noqa: SIM115
    except OSError as error:
        raise KdslError(
            "K0718", f"`{path}`: {error.strerror}", help="give the path of a file of your own"
        ) from None
    assert isinstance(found, io.TextIOWrapper)
    return found


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
