"""An artifact as a cache entry, and back: JSON tables in which source places are numbers of `Places`."""

from __future__ import annotations

from typing import Any

from kdsl.backends.base import Artifact, Site
from kdsl.dtypes import DType, by_name
from kdsl.runtime.cache import Entry
from kdsl.runtime.keys import Places
from kdsl.target import Target


def header(kernel: str, artifact: Artifact, places: Places) -> dict[str, Any]:
    """The JSON part of an entry; the code is stored as it is."""
    return {
        "kernel": kernel,
        "target": artifact.target.name,
        "symbol": artifact.symbol,
        "sites": [_site(s, places) for s in artifact.sites],
        "conditions": [[title, places.number(loc)] for title, loc in artifact.conditions],
    }


def artifact(entry: Entry, target: Target, places: Places) -> Artifact:
    """The artifact that an entry holds, with the source places of the IR at hand."""
    h = entry.header
    return Artifact(
        target,
        h["symbol"],
        entry.code,
        tuple([_read_site(s, places) for s in h["sites"]]),
        tuple([(title, places.loc(number)) for title, number in h["conditions"]]),
    )


def _site(s: Site, places: Places) -> list[Any]:
    items = [item if isinstance(item, str) else [item.name] for item in s.items]
    return [s.kind, s.text, s.dim, places.number(s.loc), items, s.sep, s.end]


def _read_site(fields: list[Any], places: Places) -> Site:
    kind, text, dim, number, items, sep, end = fields
    values: list[str | DType] = [item if isinstance(item, str) else by_name(item[0]) for item in items]
    return Site(kind, text, dim, places.loc(number), tuple(values), sep, end)
