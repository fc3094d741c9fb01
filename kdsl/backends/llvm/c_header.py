"""The C header of a kernel that was built as a library."""

from __future__ import annotations

from collections.abc import Sequence

from kdsl.backends.c_interface import CODES, arrays, c_names, c_type, scalars
from kdsl.ir.nodes import ArrayParam, Func, Loop
from kdsl.ir.walk import stmts
from kdsl.source import display_name

_NOTES = {"f16": "the bits of an IEEE binary16", "bf16": "the bits of a bfloat16", "bool_": "0 or 1"}


def c_header(func: Func, made: Sequence[str]) -> str:
    """The text of `NAME.h`; `made` are lines about how the library was made."""
    name = func.name
    guard = f"KDSL_{name.upper()}_H"
    codes = [f"    {name.upper()}_{_code(c)} = {number}" for c, number in CODES.items()]
    parts = [
        f"/* {name}: a kernel from {display_name(func.loc.filename) if func.loc else 'Python'}.",
        " *",
        *[f" * {line}".rstrip() for line in made],
        " */",
        f"#ifndef {guard}",
        f"#define {guard}",
        "",
        "#include <stdint.h>",
        "",
        "#ifdef __cplusplus",
        'extern "C" {',
        "#endif",
        "",
        "/* What a call gives: 0 when it is done, else the kind of error. */",
        "enum {",
        f"    {name.upper()}_OK = 0,",
        ",\n".join(codes),
        "};",
        "",
        "/* " + "\n * ".join(_about(func)) + "\n */",
        _prototype(func),
        "",
        "/* The last failure of a call in this thread; its `code` is 0 when there was none. */",
        f"typedef struct {name}_fault {{",
        "    int code;         /* what the call gave */",
        "    int condition;    /* the number of the call condition that failed, 0 for other errors */",
        "    int64_t value;    /* the index, the exponent, or the bytes for which there was no memory */",
        "    int64_t extent;   /* the extent that the index was tested against */",
        "    const char *file; /* the place in the kernel's source */",
        "    int line;",
        f"}} {name}_fault;",
        f"const {name}_fault *{name}_last_fault(void);",
        "",
        "/* Its message, with the line of the source; empty when there was none. */",
        f"const char *{name}_error(void);",
        "",
        "#ifdef __cplusplus",
        "}",
        "#endif",
        "",
        f"#endif /* {guard} */",
        "",
    ]
    return "\n".join(parts)


def _code(error: str) -> str:
    """INDEX_ERROR for IndexError."""
    return "".join(f"_{c}" if c.isupper() and n else c for n, c in enumerate(error)).upper()


def _about(func: Func) -> list[str]:
    names = c_names(func)
    lines = ["Arrays lie in C order without gaps:"]
    for p in arrays(func):
        shape = "".join(f"[{extent}]" for extent in p.shape)
        how = "result" if p.result else "written" if p.written else "read"
        notes = [how, *([_NOTES[p.dtype.name]] if p.dtype.name in _NOTES else [])]
        lines.append(f"    {names[p.name]}{shape}: {p.dtype}, {', '.join(notes)}")
    for s in scalars(func):
        if s.dtype.name in _NOTES:
            lines.append(f"{names[s.name]}: {s.dtype}, {_NOTES[s.dtype.name]}")
    if func.options.may_alias:
        lines.append(f"These may overlap: {', '.join(func.options.may_alias)}.")
    if any(p.written for p in arrays(func)):
        lines.append(
            "An array that is written overlaps no other one. When an index error, a division by zero or an"
        )
        lines.append("assertion ends a call, arrays that it writes may be partly written.")
    if func.conditions:
        lines.append("Call conditions; nothing is written when one does not hold:")
        lines += [f"    {n}. {_plain(c.title)}" for n, c in enumerate(func.conditions, 1)]
    marks = [s.mark.kind for s in stmts(func.body) if isinstance(s, Loop) and s.mark is not None]
    if "parallel" in marks:
        lines.append("Parallel loops have worker threads: KDSL_NUM_THREADS in all, else one for each CPU.")
    lines.append("May be called from several threads at once.")
    return lines


def _plain(text: str) -> str:
    """`text` inside a comment."""
    return text.replace("*/", "* /").replace("\n", " ")


def _prototype(func: Func) -> str:
    names = c_names(func)
    params = [_array(p, names[p.name]) for p in arrays(func)]
    params += [f"int64_t {names[s]}" for s in func.sizes]
    params += [f"{c_type(p.dtype)} {names[p.name]}" for p in scalars(func)]
    return f"int {func.name}({', '.join(params) or 'void'});"


def _array(p: ArrayParam, name: str) -> str:
    const = "" if p.written or p.result else "const "
    return f"{const}{c_type(p.dtype)} *{name}"
