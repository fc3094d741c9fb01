"""An artifact as a cache entry, and back: JSON tables in which source places are numbers of `Places`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kdsl.backends.base import Artifact, Site
from kdsl.dtypes import DType, by_name
from kdsl.runtime.cache import Entry
from kdsl.source import Loc
from kdsl.target import Target

if TYPE_CHECKING:
    from kdsl.ir.places import Places


def header(kernel: str, artifact: Artifact, places: Places) -> dict[str, Any]:
    """The JSON part of an entry; the code is stored as it is."""
    return {
        "kernel": kernel,
        "target": artifact.target.name,
        "symbol": artifact.symbol,
        "sites": [_site(s, places) for s in artifact.sites],
        "conditions": [[title, places.number(loc)] for title, loc in artifact.conditions],
    }


def artifact(entry: Entry, target: Target, locs: tuple[Loc, ...] | None = None) -> Artifact:
    """The artifact that an entry holds. `locs` are the places of the IR at hand; without them it has none."""
    h = entry.header

    def place(number: int | None) -> Loc | None:
        return None if number is None or locs is None else locs[number]

    return Artifact(
        target,
        h["symbol"],
        entry.code,
        tuple([_read_site(s, place(s[3])) for s in h["sites"]]),
        tuple([(title, place(number)) for title, number in h["conditions"]]),
    )


def _site(s: Site, places: Places) -> list[Any]:
    items = [item if isinstance(item, str) else [item.name] for item in s.items]
    return [s.kind, s.text, s.dim, places.number(s.loc), items, s.sep, s.end]


def _read_site(fields: list[Any], loc: Loc | None) -> Site:
    kind, text, dim, _, items, sep, end = fields
    values: list[str | DType] = [item if isinstance(item, str) else by_name(item[0]) for item in items]
    return Site(kind, text, dim, loc, tuple(values), sep, end)
