"""The C header of a manifest computes what the expressions mean in Python."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from kdsl.backends.c_manifest import c_manifest

MANIFEST: dict[str, Any] = {
    "version": 1,
    "kernel": "waves",
    "spirv": "1.3",
    "features": ["shaderInt64"],
    "sizes": ["M", "N", "register"],
    "scalars": [{"name": "a", "dtype": "f64"}, {"name": "s", "dtype": "i64"}],
    "conditions": ["M >= 1 or N == 0", "N // s + N % s > -100 and not M == 7", "a > 0.5"],
    "condition_titles": ['M is "too" small\\', "N and s", "100 % a"],
    "sites": [{"message": "index {value}\nout"}],
    "buffers": [
        {"binding": 0, "name": "A", "kind": "argument", "dtype": "f32", "shape": ["M", "2 * N - 3"],
         "read": True, "written": False},
        {"binding": 2, "name": "$status", "kind": "status", "dtype": "u32", "shape": ["9"],
         "read": True, "written": True},
        {"binding": 3, "name": "p", "kind": "parameters"},
    ],
    "parameters": {
        "in": "buffer",
        "bytes": 28,
        "fields": [
            {"name": "M", "kind": "size", "dtype": "i32", "offset": 0},
            {"name": "t", "kind": "host", "dtype": "i32", "offset": 4},
            {"name": "a", "kind": "scalar", "dtype": "f64", "offset": 8},
            {"name": "s", "kind": "scalar", "dtype": "i64", "offset": 16},
            {"name": "$sequence", "kind": "sequence", "dtype": "i32", "offset": 24},
        ],
    },
    "entries": [
        {"name": "waves_0", "groups": ["(M + t + 15) // 16", "N", "max(register, 1)"], "block": [16, 1, 1]},
        {"name": "waves_1", "groups": ["min(M, 3)", "(N if M > 2 else 1)", "1"], "block": [1, 1, 1]},
    ],
    "program": [
        {"for": "t", "lo": "M", "hi": "-2", "step": "-s", "do": [
            {"dispatch": 0},
            {"if": "t % 3 == 1", "then": [{"dispatch": 1}], "else": [
                {"for": "u", "lo": "0", "hi": "min(2, N)", "step": "1", "do": [{"dispatch": 0}]},
            ]},
        ]},
    ],
}  # fmt: skip

PROGRAM = r"""
#include <stdio.h>
#include "waves_manifest.h"
static int show(void *host, int entry, const uint32_t groups[3], const unsigned char *bytes) {
    int32_t m, t, number;
    double a;
    int64_t s;
    memcpy(&m, bytes, 4), memcpy(&t, bytes + 4, 4), memcpy(&a, bytes + 8, 8), memcpy(&s, bytes + 16, 8);
    memcpy(&number, bytes + 24, 4);
    if (number != *(int *)host) return 100;
    printf("%s %u %u %u ", waves_entries[entry], groups[0], groups[1], groups[2]);
    printf("%d %d %g %lld\n", m, t, a, (long long)s);
    return ++*(int *)host == 40;
}
int main(int argc, char **argv) {
    waves_values v = {0};
    for (int n = 1; n + 1 < argc; n += 2)
        if (!waves_set(&v, argv[n], argv[n + 1])) return 2;
    const char *failing = waves_check(&v);
    if (failing) return puts(failing), 0;
    for (int n = 0; n < waves_BUFFER_COUNT; n++)
        printf("%s %lld\n", waves_buffers[n].name, (long long)waves_elements(n, &v));
    int calls = 0;
    printf("%d\n", waves_run(&v, show, &calls));
    return waves_set(&v, "t", "1") || waves_PUSH;
}
"""


def expected(values: dict[str, Any]) -> list[str]:
    """What the C program is to print."""
    scope = {"min": min, "max": max, **values}

    def value(text: str) -> Any:
        return eval(text, scope)

    for text, title in zip(MANIFEST["conditions"], MANIFEST["condition_titles"]):
        if not value(text):
            return [title]
    lines = []
    for b in MANIFEST["buffers"]:
        count = 1
        for extent in b.get("shape", ()):
            count *= max(0, value(extent))
        lines.append(f"{b['name']} {count}")

    def steps(program: Sequence[dict[str, Any]]) -> Iterator[str]:
        for step in program:
            if "dispatch" in step:
                entry = MANIFEST["entries"][step["dispatch"]]
                groups = [value(g) for g in entry["groups"]]
                if min(groups) > 0:
                    counts = " ".join(map(str, groups))
                    yield f"{entry['name']} {counts} {scope['M']} {scope['t']} {scope['a']:g} {scope['s']}"
            elif "for" in step:
                for i in range(value(step["lo"]), value(step["hi"]), value(step["step"])):
                    scope[step["for"]] = i
                    yield from steps(step["do"])
            else:
                yield from steps(step["then"] if value(step["if"]) else step["else"])

    calls = list(steps(MANIFEST["program"]))
    return [*lines, *calls[:40], str(int(len(calls) >= 40))]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cc = next((path for path in map(shutil.which, ("cc", "gcc", "clang")) if path), None)
    if cc is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("manifest")
    (folder / "waves_manifest.h").write_text(c_manifest(MANIFEST))
    (folder / "main.c").write_text(PROGRAM)
    strict = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    subprocess.run([cc, *strict, "-o", "main", "main.c"], cwd=folder, check=True)
    return folder / "main"


@pytest.mark.parametrize(
    "values",
    [
        {"M": 5, "N": 4, "register": 0, "a": 2.5, "s": 2},
        {"M": 40, "N": 1, "register": 3, "a": 1, "s": 1},
        {"M": 9, "N": 0, "register": 1, "a": 1, "s": 3},
        {"M": 0, "N": 3, "register": 1, "a": 1, "s": 3},
        {"M": 7, "N": 3, "register": 1, "a": 1, "s": -3},
        {"M": 3, "N": 7, "register": 1, "a": 0.25, "s": -3},
    ],
)
def test_the_header_means_what_the_manifest_means(program: Path, values: dict[str, Any]) -> None:
    words = [word for name, value in values.items() for word in (name, str(value))]
    done = subprocess.run([str(program), *words], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == expected(values)


def test_sizes_have_a_range(program: Path) -> None:
    done = subprocess.run([str(program), "N", str(1 << 30)], capture_output=True, text=True, check=True)
    assert done.stdout == "the size N is out of range\n"
