"""The manifest of a Vulkan kernel as a C header: `NAME_manifest.h`, for hosts that have no JSON.

    {"groups": ["(M + 15) // 16", ...]}     static int matmul_run(matmul_values *v, ...) {
    {"dispatch": 0}                  -->        { const uint32_t groups[3] = {(M + 15) / 16, ...}; ... }

It has functions for what depends on sizes and scalars: extents of buffers, parameters, the host program.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kdsl.backends.c_interface import c_type, reserved
from kdsl.dtypes import DType, bool_, by_name, f64, i64
from kdsl.ir.nodes import Binary, Cast, Compare, Const, Expr, Let, Logic, Select, Unary, Var
from kdsl.ir.parser_exprs import ExprParser
from kdsl.ir.walk import substitute
from kdsl.source import syntax_tree

_HELPERS = """\
static inline int64_t NAME_div(int64_t a, int64_t b) { return a / b - (a % b != 0 && (a ^ b) < 0); }
static inline int64_t NAME_mod(int64_t a, int64_t b) { return a - NAME_div(a, b) * b; }
static inline int64_t NAME_min(int64_t a, int64_t b) { return b < a ? b : a; }
static inline int64_t NAME_max(int64_t a, int64_t b) { return b > a ? b : a; }
"""

_TYPES = """\
/* The sizes, the scalar arguments, and the variables of loops on the host. */
typedef struct {
VALUES
} NAME_values;

/* A storage buffer. `kind`: argument; scratch, for one call; status, of zeros before a call; parameters. */
typedef struct {
    const char *name, *kind, *dtype;
    int binding, element_bytes, read, written;
} NAME_buffer;

/* Called for each dispatch in order: number of the entry point, work-groups, parameters. 0: go on. */
typedef int NAME_dispatch(void *host, int entry, const uint32_t groups[3], const unsigned char *parameters);
"""


def c_manifest(manifest: Mapping[str, Any]) -> str:
    """The text of the header for a manifest, as `kdsl build` writes it."""
    return _Header(manifest).text()


@dataclass(slots=True)
class _Header:
    manifest: Mapping[str, Any]
    name: str = field(init=False)
    types: dict[str, DType] = field(init=False)
    """Of the values: sizes, scalars, variables of host loops."""

    def __post_init__(self) -> None:
        self.name = self.manifest["kernel"]
        self.types = dict.fromkeys(self.manifest["sizes"], i64)
        self.types |= {s["name"]: by_name(s["dtype"]) for s in self.manifest["scalars"]}
        self.types |= dict.fromkeys(_loop_variables(self.manifest["program"]), i64)

    def text(self) -> str:
        m, upper = self.manifest, self.name.upper()
        guard = f"KDSL_{upper}_MANIFEST_H"
        parameters = m["parameters"]
        entries = m["entries"]
        sites = ["", *[s["message"] for s in m["sites"]]]
        parts = [
            f"/* How a Vulkan host runs {self.name}.spv; as {self.name}.json says. */",
            f"#ifndef {guard}",
            f"#define {guard}",
            "",
            "#include <stdint.h>",
            "#include <stdlib.h>",
            "#include <string.h>",
            "",
            self._named(_TYPES).replace("VALUES", "\n".join(self._values())),
            "enum {",
            f"    {self.name}_BUFFER_COUNT = {len(m['buffers'])},",
            f"    {self.name}_ENTRY_COUNT = {len(entries)},",
            f"    {self.name}_PARAMETER_BYTES = {parameters['bytes']},",
            f"    {self.name}_PUSH = {int(parameters['in'] == 'push')} /* parameters are push constants */",
            "};",
            "",
            f"static const char *const {self.name}_entries[] = {_strings([e['name'] for e in entries])};",
            "/* Features of the device that the module needs, as Vulkan spells them. */",
            f"static const char *const {self.name}_features[] = {_strings(m['features'])};",
            "/* What a fault at a place of the kernel (1, 2, ...) says, of a {value} and an {extent}. */",
            f"static const char *const {self.name}_sites[] = {_strings(sites)};",
            f"static const {self.name}_buffer {self.name}_buffers[] = {{",
            *self._buffers(),
            "};",
            "",
            self._named(_HELPERS),
            *self._set(),
            *self._check(),
            *self._elements(),
            *self._parameters(),
            *self._run(),
            f"#endif /* {guard} */",
            "",
        ]
        return "\n".join(parts)

    def _named(self, text: str) -> str:
        return text.replace("NAME", self.name)

    def member(self, name: str) -> str:
        """The member of the values that has a size, scalar or variable."""
        plain = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in name)
        return f"{plain}_" if reserved(plain) else plain

    def _values(self) -> Iterator[str]:
        for name, dtype in self.types.items():
            yield f"    {_value_type(dtype)} {self.member(name)};"
        if not self.types:
            yield "    char none;"

    def _buffers(self) -> Iterator[str]:
        for b in self.manifest["buffers"]:
            dtype = b.get("dtype", "u32")
            words = ", ".join(map(_string, (b["name"], b["kind"], dtype)))
            how = f"{int(b.get('read', True))}, {int(b.get('written', False))}"
            yield f"    {{{words}, {b['binding']}, {by_name(dtype).bytes}, {how}}},"

    def _set(self) -> Iterator[str]:
        """Values by name, as they stand on a command line."""
        yield "/* Sets a size or scalar; 0 when there is none of that name. */"
        yield self._named("static inline int NAME_set(NAME_values *v, const char *name, const char *text) {")
        for name in (*self.manifest["sizes"], *[s["name"] for s in self.manifest["scalars"]]):
            dtype = self.types[name]
            read = "strtod(text, 0)" if dtype.is_float else "strtoll(text, 0, 0)"
            yield (
                f"    if (strcmp(name, {_string(name)}) == 0) "
                f"return v->{self.member(name)} = ({_value_type(dtype)}){read}, 1;"
            )
        yield "    (void)v, (void)name, (void)text;"
        yield "    return 0;"
        yield "}\n"

    def _check(self) -> Iterator[str]:
        yield "/* Why it cannot run for these values, or 0. */"
        yield f"static inline const char *{self.name}_check(const {self.name}_values *v) {{"
        for name in self.manifest["sizes"]:
            size, said = f"v->{self.member(name)}", _string(f"the size {name} is out of range")
            yield f"    if ({size} < 0 || {size} >= 1 << 30) return {said};"
        for b in self.manifest["buffers"]:
            extents = [f"(double){self._extent(text)}" for text in b.get("shape", ())]
            if extents:
                said = _string(f"`{b['name']}` is too large")
                yield f"    if ({' * '.join(extents)} >= 1 << 30) return {said};"
        for text, title in zip(self.manifest["conditions"], self.manifest["condition_titles"]):
            yield f"    if (!({self.expr(text, bool_)})) return {_string(title)};"
        yield "    (void)v;"
        yield "    return 0;"
        yield "}\n"

    def _elements(self) -> Iterator[str]:
        yield "/* The number of elements of a buffer. */"
        yield f"static inline int64_t {self.name}_elements(int buffer, const {self.name}_values *v) {{"
        yield "    switch (buffer) {"
        for n, b in enumerate(self.manifest["buffers"]):
            extents = [self._extent(text) for text in b.get("shape", ())]
            yield f"    case {n}: return {' * '.join(extents) or '1'};"
        yield "    }"
        yield "    (void)v;"
        yield "    return 0;"
        yield "}\n"

    def _extent(self, text: str) -> str:
        return f"{self.name}_max({self.expr(text, i64)}, 0)"

    def _parameters(self) -> Iterator[str]:
        yield "/* The parameters of the dispatch number `sequence` (from 0) of a call. */"
        yield self._named("static inline void NAME_parameters(")
        yield self._named("    const NAME_values *v, int64_t sequence, unsigned char *bytes) {")
        for f in self.manifest["parameters"]["fields"]:
            type_ = c_type(by_name(f["dtype"]))
            value = "sequence" if f["kind"] == "sequence" else f"v->{self.member(f['name'])}"
            yield f"    {{ {type_} x = ({type_}){value}; memcpy(bytes + {f['offset']}, &x, sizeof x); }}"
        yield "    (void)v, (void)sequence, (void)bytes;"
        yield "}\n"

    def _run(self) -> Iterator[str]:
        yield "/* The host program: gives what `dispatch` gives, when that is not 0. */"
        yield self._named("static inline int NAME_run(NAME_values *v, NAME_dispatch *dispatch, void *host) {")
        yield f"    unsigned char bytes[{max(1, self.manifest['parameters']['bytes'])}] = {{0}};"
        yield "    int64_t sequence = 0;"
        yield "    int code;"
        yield from self._steps(self.manifest["program"], "    ")
        yield "    (void)v, (void)dispatch, (void)host, (void)bytes, (void)sequence, (void)code;"
        yield "    return 0;"
        yield "}\n"

    def _steps(self, steps: Sequence[Mapping[str, Any]], indent: str) -> Iterator[str]:
        for step in steps:
            if "dispatch" in step:
                yield from self._dispatch(step["dispatch"], indent)
            elif "for" in step:
                yield from self._loop(step, indent)
            else:
                yield f"{indent}if ({self.expr(step['if'], bool_)}) {{"
                yield from self._steps(step["then"], indent + "    ")
                if step.get("else"):
                    yield f"{indent}}} else {{"
                    yield from self._steps(step["else"], indent + "    ")
                yield f"{indent}}}"

    def _dispatch(self, number: int, indent: str) -> Iterator[str]:
        yield f"{indent}{{"
        for axis, text in zip("xyz", self.manifest["entries"][number]["groups"]):
            yield f"{indent}    const int64_t {axis} = {self.expr(text, i64)};"
        yield f"{indent}    if (x > 0 && y > 0 && z > 0) {{"
        yield f"{indent}        const uint32_t groups[3] = {{(uint32_t)x, (uint32_t)y, (uint32_t)z}};"
        yield f"{indent}        {self.name}_parameters(v, sequence++, bytes);"
        yield f"{indent}        if ((code = dispatch(host, {number}, groups, bytes))) return code;"
        yield f"{indent}    }}"
        yield f"{indent}}}"

    def _loop(self, step: Mapping[str, Any], indent: str) -> Iterator[str]:
        """Bounds are evaluated once, and the step may be below 0."""
        variable = f"v->{self.member(step['for'])}"
        yield f"{indent}{{"
        for key in ("lo", "hi", "step"):
            yield f"{indent}    const int64_t {key} = {self.expr(step[key], i64)};"
        more = f"step < 0 ? {variable} > hi : {variable} < hi"
        yield f"{indent}    for ({variable} = lo; {more}; {variable} += step) {{"
        yield from self._steps(step["do"], indent + "        ")
        yield f"{indent}    }}"
        yield f"{indent}}}"

    # -- expressions

    def expr(self, text: str, dtype: DType) -> str:
        """An expression of the manifest in C."""
        parser = ExprParser("", "", scope=dict(self.types))
        return self._c(parser.expr(syntax_tree(text, "eval").body, dtype))

    def _c(self, e: Expr) -> str:
        match e:
            case Const(value=bool() as truth):
                return str(int(truth))
            case Const(value=int() as value):
                return str(value) if -(1 << 31) < value < 1 << 31 else f"INT64_C({value})"
            case Const(value=value):
                return repr(value)
            case Var(name=name):
                return f"v->{self.member(name)}"
            case Unary(op=op, x=x):
                return f"({'!' if op == 'not' else op}{self._c(x)})"
            case Binary(op="//" | "%" | "min" | "max" as op, a=a, b=b) if e.dtype.is_int:
                function = {"//": "div", "%": "mod"}.get(op, op)
                return f"{self.name}_{function}({self._c(a)}, {self._c(b)})"
            case Binary(op=op, a=a, b=b):
                return f"({self._c(a)} {op} {self._c(b)})"
            case Compare(op=op, a=a, b=b):
                return f"({self._c(a)} {op} {self._c(b)})"
            case Logic(op=logic, a=a, b=b):
                return f"({self._c(a)} {'&&' if logic == 'and' else '||'} {self._c(b)})"
            case Select(cond=cond, a=a, b=b):
                return f"({self._c(cond)} ? {self._c(a)} : {self._c(b)})"
            case Cast(x=x, type=type_) if type_ in (i64, f64):
                return f"({c_type(type_)}){self._c(x)}"
            case Let(name=name, value=value, body=body):
                return self._c(substitute(body, {name: value}))
        raise AssertionError(f"{type(e).__name__} in a host program")


def _value_type(t: DType) -> str:
    """The C type of a size or scalar: a float for an f16 or bf16, which it must be exactly."""
    return "float" if t.is_float and t.bytes == 2 else c_type(t)


def _loop_variables(steps: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for step in steps:
        if "for" in step:
            yield step["for"]
        for key in ("do", "then", "else"):
            yield from _loop_variables(step.get(key, ()))


def _string(text: str) -> str:
    """A C string literal."""
    out = []
    for c in text.encode():
        if c == 10:
            out.append("\\n")
        elif chr(c) in '"\\':
            out.append("\\" + chr(c))
        else:
            out.append(chr(c) if 32 <= c < 127 else f"\\{c:03o}")
    return '"' + "".join(out) + '"'


def _strings(texts: Sequence[str]) -> str:
    return "{" + ", ".join([*map(_string, texts), "0"]) + "}"
