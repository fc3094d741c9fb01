"""A step of a schedule as data: a primitive's name and its arguments; its text; reading it back.

s.split("i", 64)   <->   Step("split", (("loop", "i"), ("factor", 64)))
                       <->   {"do": "split", "loop": "i", "factor": 64}
"""

from __future__ import annotations

import inspect
import json
import operator
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal, Protocol, TypeAlias

from kdsl.errors import ScheduleError
from kdsl.ir import instructions
from kdsl.ir.nodes import Instruction
from kdsl.source import Loc

Value: TypeAlias = "bool | int | float | str | tuple[Value, ...] | Record | None"


class Record(dict[str, Any]):
    """A dict of arguments as a value: it has a hash and is never changed."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))


class Meaningful(Protocol):
    """A kernel, or what `@kdsl.instruction` makes of one."""

    @property
    def __kdsl_instruction__(self) -> Instruction: ...


InstructionLike: TypeAlias = Meaningful | str
"""An instruction, or its name."""


class Named(str):
    """The name of an instruction, with the instruction that it meant when the step was made."""

    instruction: Instruction

    @staticmethod
    def of(instruction: Instruction) -> Named:
        """The name of `instruction`."""
        new = Named(instruction.name)
        new.instruction = instruction
        return new

    def __reduce__(self) -> tuple[Any, ...]:
        return Named.of, (self.instruction,)


@dataclass(frozen=True, slots=True)
class Step:
    """One call of a primitive. `args` in the order of its signature, defaults left out.

    `loc` is the line of the user's program that made it.
    """

    name: str
    args: tuple[tuple[str, Value], ...]
    text: str
    loc: Loc | None = field(default=None, compare=False, repr=False)

    @property
    def unsafe(self) -> bool:
        """The user vouches for this step."""
        return dict(self.args).get("unsafe") is True

    @property
    def instructions(self) -> tuple[Instruction, ...]:
        """The instructions that its arguments name."""
        return tuple([value.instruction for _, value in self.args if isinstance(value, Named)])

    def __str__(self) -> str:
        return self.text


def bind(
    name: str, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any], loc: Loc | None
) -> tuple[Step, Any]:
    """The step that a call of the primitive `fn` means, and its checked arguments (`BoundArguments`)."""
    signature = inspect.signature(fn)
    own = signature.replace(parameters=list(signature.parameters.values())[1:])
    try:
        bound = own.bind(*args, **kwargs)
    except TypeError as error:
        raise ScheduleError(
            "K0301",
            f"`{name}` cannot be called like this: {error}",
            loc=loc,
            help=f"write s.{name}{_shown(own)}",
        ) from None
    hints = _hints(fn)
    kept: list[tuple[str, Value]] = []
    texts: list[str] = []
    for parameter in own.parameters.values():
        if parameter.name not in bound.arguments:
            continue
        given = bound.arguments[parameter.name]
        many = parameter.kind is parameter.VAR_POSITIONAL
        hint = hints[parameter.name]
        if many:
            hint = types.GenericAlias(tuple, (hint, ...))
        value = _checked(given, hint)
        if value is _WRONG:
            raise ScheduleError(
                "K0302",
                f"`{parameter.name}` of `{name}` takes {_wanted(hint)}, not {_value_text(given)}",
                loc=loc,
                help=f"write s.{name}{_shown(own)}",
            )
        bound.arguments[parameter.name] = value
        if value == parameter.default and type(value) is type(parameter.default):
            continue
        kept.append((parameter.name, value))
        if many:
            texts += map(_value_text, value)
        elif parameter.default is parameter.empty:
            texts.append(_value_text(value))
        else:
            texts.append(f"{parameter.name}={_value_text(value)}")
    return Step(name, tuple(kept), f"s.{name}({', '.join(texts)})", loc), bound


def to_json(kernel: str, steps: Sequence[Step]) -> str:
    """Steps as text."""
    rows = [{"do": s.name, **dict(s.args)} for s in steps]
    return json.dumps({"kernel": kernel, "steps": rows}, indent=1)


def from_json(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Names and arguments of the steps in a text that `to_json` made."""
    try:
        rows = json.loads(text)["steps"]
        found = [(row["do"], {k: v for k, v in row.items() if k != "do"}) for row in rows]
        if all(isinstance(name, str) for name, _ in found):
            return found
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise ScheduleError(
        "K0303",
        "this text is no schedule",
        help="pass the text that `s.to_json()` gave, whole",
    )


# --------------------------------------------------------------- types of arguments

_WRONG: Any = object()


def _hints(fn: Any) -> dict[str, Any]:
    return typing.get_type_hints(fn)


def _checked(value: Any, hint: Any) -> Any:
    """`value` as data of type `hint` (lists become tuples), or `_WRONG`."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        for choice in inner:
            found = _checked(value, choice)
            if found is not _WRONG:
                return found
        return _WRONG
    if origin is Literal:
        return value if isinstance(value, str) and value in inner else _WRONG
    if origin in (tuple, Sequence):
        if not isinstance(value, (tuple, list)):
            return _WRONG
        wanted = inner[:1] * len(value) if origin is Sequence or inner[-1] is Ellipsis else inner
        if len(wanted) != len(value):
            return _WRONG
        out = tuple(_checked(v, h) for v, h in zip(value, wanted))
        return _WRONG if any(v is _WRONG for v in out) else out
    if typing.is_typeddict(hint):
        fields = typing.get_type_hints(hint)
        if not isinstance(value, dict) or not value.keys() <= fields.keys():
            return _WRONG
        record = Record({k: _checked(value[k], h) for k, h in fields.items() if k in value})
        return _WRONG if any(v is _WRONG for v in record.values()) else record
    if hint is bool:
        return value if isinstance(value, bool) else _WRONG
    if hint is float:
        number = isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool))
        return value if number and (isinstance(value, float) or _in_64_bits(value)) else _WRONG
    if hint is int:
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            return _WRONG
        index = operator.index(value)
        return index if _in_64_bits(index) else _WRONG
    if hint is type(None):
        return None if value is None else _WRONG
    if hint is Meaningful:
        return _instruction(value)
    assert hint is str, hint
    return value if isinstance(value, str) else _WRONG


def _in_64_bits(value: int) -> bool:
    return -(1 << 63) <= value < 1 << 63


def _instruction(value: Any) -> Any:
    """The name of the instruction that `value` is or names, or `_WRONG`."""
    if isinstance(value, Named):
        return value
    found = instructions.find(value) if isinstance(value, str) else _meaning(value)
    return _WRONG if found is None else Named.of(found)


def _meaning(value: Any) -> Instruction | None:
    found = getattr(value, "__kdsl_instruction__", None)
    return found if isinstance(found, Instruction) else None


def _wanted(hint: Any) -> str:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if typing.is_typeddict(hint):
        return "a dict of " + ", ".join(f"`{k}`" for k in typing.get_type_hints(hint))
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_wanted(h) for h in inner)
    if origin is Literal:
        return " or ".join(_value_text(v) for v in inner)
    if origin is tuple and inner[-1] is not Ellipsis:
        return "a pair of " + {str: "names", int: "integers"}[inner[0]]
    if origin in (tuple, Sequence):
        return {str: "names", int: "a list of integers"}.get(inner[0], "a list")
    if hint is Meaningful:
        return "an instruction"
    return {str: "a name", int: "an integer", bool: "True or False", type(None): "None"}[hint]


def _value_text(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(map(_value_text, value)) + "]"
    if isinstance(value, dict):
        return "dict(" + ", ".join(f"{k}={_value_text(v)}" for k, v in value.items()) + ")"
    if isinstance(value, float) and value in (inf, -inf):
        return f'float("{value}")'
    if isinstance(value, int) and not _in_64_bits(value):
        return f"an integer of {value.bit_length()} bits"
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)
    return f"a {type(value).__name__}"


def _shown(signature: inspect.Signature) -> str:
    """A signature without its types: `(loop, factor, into=None, tail="guard")`."""
    parts = []
    for p in signature.parameters.values():
        if p.kind is p.VAR_POSITIONAL:
            parts.append(f"*{p.name}")
        elif p.default is p.empty:
            parts.append(p.name)
        elif p.name != "unsafe":
            parts.append(f"{p.name}={_value_text(p.default)}")
    return f"({', '.join(parts)})"
