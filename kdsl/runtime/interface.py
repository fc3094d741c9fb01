"""What a call needs to know of a compiled kernel, and its form in the cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kdsl.dtypes import Size, by_name
from kdsl.frontend_ast.signature import ConstArg, Signature
from kdsl.frontend_ast.source import KernelSource
from kdsl.ir.params import ArrayParam, Param, ScalarParam

if TYPE_CHECKING:
    from kdsl.ir.nodes import Func


@dataclass(frozen=True, slots=True)
class Interface:
    """The outside of a `Func`. `tuple_result`: the call returns a tuple, also of one."""

    name: str
    params: tuple[Param, ...]
    sizes: tuple[str, ...]
    may_alias: frozenset[str]
    tuple_result: bool

    @staticmethod
    def of(func: Func, source: KernelSource) -> Interface:
        """The interface of `func`, which was built from `source`."""
        aliases = frozenset(func.options.may_alias)
        return Interface(func.name, func.params, func.sizes, aliases, isinstance(source.returns, tuple))

    @property
    def arrays(self) -> tuple[ArrayParam, ...]:
        """The array arguments; results are not among them."""
        return tuple([p for p in self.params if isinstance(p, ArrayParam) and not p.result])

    @property
    def results(self) -> tuple[ArrayParam, ...]:
        """The arrays that the call makes and returns."""
        return tuple([p for p in self.params if isinstance(p, ArrayParam) and p.result])

    def to_json(self) -> dict[str, Any]:
        """All but the places in the source."""
        return {
            "name": self.name,
            "params": [_param(p) for p in self.params],
            "sizes": self.sizes,
            "may_alias": sorted(self.may_alias),
            "tuple_result": self.tuple_result,
        }

    @staticmethod
    def from_json(data: dict[str, Any], source: KernelSource, signature: Signature) -> Interface:
        """The interface that `to_json` wrote, with the places of `source`."""
        passed = [p.loc for p, a in zip(source.params, signature) if not isinstance(a, ConstArg)]
        locs = [*passed, *[source.loc for _ in data["params"]]]
        return Interface(
            data["name"],
            tuple([_read_param(p, loc) for p, loc in zip(data["params"], locs)]),
            tuple(data["sizes"]),
            frozenset(data["may_alias"]),
            data["tuple_result"],
        )


def _param(p: Param) -> list[Any]:
    if isinstance(p, ScalarParam):
        return [p.name, p.dtype.name]
    shape = [[s.terms, s.const] for s in p.shape]
    return [p.name, p.dtype.name, shape, p.contiguous, p.written, p.result]


def _read_param(fields: list[Any], loc: Any) -> Param:
    name, dtype, *rest = fields
    if not rest:
        return ScalarParam(name, by_name(dtype), loc=loc)
    shape, contiguous, written, result = rest
    sizes = tuple([Size(terms, const) for terms, const in shape])
    return ArrayParam(name, by_name(dtype), sizes, contiguous, written, result, loc=loc)
