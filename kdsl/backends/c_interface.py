"""A kernel as a C function: its name, the order of its parameters, its codes, and what failures have to say.

    int matmul(const float *A, const float *B, float *C, int64_t M, int64_t N, int64_t K);
               arrays in call order, results behind them; sizes; scalars in call order

Messages are those that Python shows. What a call knows of them (an index, the sizes) are values of a format.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from kdsl.backends.base import Site
from kdsl.dtypes import DType
from kdsl.errors import ArgumentError, KdslError
from kdsl.ir.faults import condition_error, fault
from kdsl.ir.nodes import ArrayParam, Func, ScalarParam
from kdsl.source import Loc

CODES = {
    "ArgumentError": 1,
    "IndexError": 2,
    "ZeroDivisionError": 3,
    "AssertionError": 4,
    "ValueError": 5,
    "MemoryError": 6,
}
"""What the C function gives, by the class of the error that Python raises; 0 when it is done."""

_CLASSES = {
    "index": "IndexError",
    "zero_division": "ZeroDivisionError",
    "assertion": "AssertionError",
    "zero_step": "ValueError",
    "negative_power": "ValueError",
    "memory": "MemoryError",
}
_WORDS = (
    "alignas alignof and and_eq asm atomic_cancel atomic_commit atomic_noexcept auto bitand bitor bool "
    "break case catch char char8_t char16_t char32_t class co_await co_return co_yield compl concept "
    "const const_cast consteval constexpr constinit continue decltype default delete do double "
    "dynamic_cast else enum explicit export extern false float for friend goto if inline int long mutable "
    "namespace new noexcept not not_eq nullptr operator or or_eq private protected public register "
    "reinterpret_cast requires restrict return short signed sizeof static static_assert static_cast "
    "struct switch template this thread_local throw true try typedef typeid typename typeof typeof_unqual "
    "union unsigned using virtual void volatile wchar_t while xor xor_eq main linux unix NULL errno EOF "
    "stdin stdout stderr int8_t int16_t int32_t int64_t uint8_t uint16_t uint32_t uint64_t "
)
_KEYWORDS = frozenset(_WORDS.split())
"""Words of C, C++ and their usual macros, which cannot name a function or parameter."""


@dataclass(frozen=True, slots=True)
class Message:
    """What one failure has to say: `error` is its class, `form` a format of `printf` for `values`.

    A value is "value", "extent", or the name of a size. `condition`: the number of the call condition.
    """

    error: str
    form: str
    values: tuple[str, ...]
    loc: Loc | None = None
    condition: int = 0


_C_TYPES = {
    "f16": "uint16_t", "bf16": "uint16_t", "f32": "float", "f64": "double", "bool_": "uint8_t",
    "i8": "int8_t", "i16": "int16_t", "i32": "int32_t", "i64": "int64_t",
    "u8": "uint8_t", "u16": "uint16_t", "u32": "uint32_t", "u64": "uint64_t",
}  # fmt: skip


def c_type(t: DType) -> str:
    """The C type of an element; of an f16 or bf16, its bits."""
    return _C_TYPES[t.name]


def reserved(name: str) -> bool:
    """Whether `name` means something else in C or C++."""
    return name in _KEYWORDS


def arrays(func: Func) -> tuple[ArrayParam, ...]:
    """The arrays in the order of the C function's parameters."""
    return func.arrays


def scalars(func: Func) -> tuple[ScalarParam, ...]:
    """The scalars in the order of the C function's parameters."""
    return tuple([p for p in func.params if isinstance(p, ScalarParam)])


def c_names(func: Func) -> dict[str, str]:
    """The C name of each parameter and size: its own, unless that is taken or no identifier of C."""
    out: dict[str, str] = {}
    taken = {func.name, f"{func.name}_error", f"{func.name}_fault", f"{func.name}_last_fault"}
    for name in [*[p.name for p in arrays(func)], *func.sizes, *[p.name for p in scalars(func)]]:
        plain = re.sub(r"[^A-Za-z0-9_]", "_", name)
        # A leading underscore and a capital, or two, are the compiler's own.
        plain = f"p{plain}" if re.match(r"_[_A-Z]|[0-9]", plain) else plain
        while reserved(plain) or plain in taken:
            plain += "_"
        taken.add(plain)
        out[name] = plain
    return out


# ---------------------------------------------------------------- what is said


def template(
    error: str,
    make: Callable[[Mapping[str, int]], KdslError],
    values: Mapping[str, int],
    *,
    condition: int = 0,
) -> Message:
    """The message of `make(values)` as a format; `values` are numbers that stand in no other place of it."""
    made = make(values)
    names = {str(number): name for name, number in values.items()}
    found: list[str] = []

    def form(match: re.Match[str]) -> str:
        found.append(names[match[0]])
        return "%lld"

    text = made.render().replace("%", "%%")
    if names:
        text = re.sub("|".join(map(re.escape, names)), form, text)
    return Message(error, text, tuple(found), made.loc, condition)


@cache
def _marker(n: int) -> int:
    return 7_391_840_265_000_000_001 + 1_000_003 * n


def argument_message(code: str, title: str, loc: Loc | None, help: str, size: str = "") -> Message:
    """An argument that the C function refuses; `{value}` in the title is the value of `size`."""

    def make(values: Mapping[str, int]) -> KdslError:
        return ArgumentError(code, title.format(value=values.get(size)), loc=loc, help=help)

    return template("ArgumentError", make, {size: _marker(0)} if size else {})


def condition_messages(func: Func) -> list[Message]:
    """One for each call condition, in order."""
    sizes = {name: _marker(n) for n, name in enumerate(func.sizes)}
    out = []
    for number, c in enumerate(func.conditions, 1):

        def make(values: Mapping[str, int], title: str = c.title, loc: Loc | None = c.loc) -> KdslError:
            return condition_error(title, loc, values)

        out.append(template("ArgumentError", make, sizes, condition=number))
    return out


def site_messages(site: Site) -> Iterator[Message]:
    """What a site can say: an index has one text for each of `index_class`, others have one."""
    kind = site.kind
    assert kind != "print"

    def make(values: Mapping[str, int]) -> KdslError:
        return fault(kind, site.loc, text=site.text, dim=site.dim, **values)

    if kind == "index":
        for value in (_marker(0), -_marker(0)):
            for extent in (0, 1, _marker(1)):

                def of_index(values: Mapping[str, int], extent: int = extent) -> KdslError:
                    return make({"extent": extent, **values})

                changing = {"value": value} | ({"extent": extent} if extent > 1 else {})
                yield template("IndexError", of_index, changing)
    else:
        changing = {"value": _marker(0)} if kind in ("memory", "negative_power") else {}
        yield template(_CLASSES[kind], make, changing)


def site_text(site: Site) -> str:
    """What a site says, with `{value}` and `{extent}` for what only the call knows."""
    message = next(m for n, m in enumerate(site_messages(site)) if site.kind != "index" or n == 2)
    text = message.form.replace("%%", "%")
    for name in message.values:
        text = text.replace("%lld", f"{{{name}}}", 1)
    return text


INDEX_CLASSES = 6
"""Texts of an index: (0 or more, below 0) times (no elements, one, many)."""


def prints(sites: Sequence[Site]) -> Site | None:
    """The first site that prints, if any."""
    return next((s for s in sites if s.kind == "print"), None)
