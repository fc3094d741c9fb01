"""What a kernel became in the LLVM back end, as data for those who explain it.

A `Watch` goes along when a module is emitted: it notes how the lanes of vector loops meet memory and which
loops go to the worker pool, and tags the other loops, so that the ones that LLVM's own vectoriser took can
be told in the optimised text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from kdsl.source import Loc

if TYPE_CHECKING:
    from kdsl.backends.llvm.builder import ModuleText

Way = Literal[
    "broadcast", "contiguous", "reversed", "strided", "gather", "scatter", "last lane", "partial sums",
    "sum of lanes", "lane by lane",
]  # fmt: skip
"""How the elements of all lanes are read or written at once.

broadcast     one scalar load, the same for all lanes       partial sums  one a lane, combined behind the loop
contiguous    one vector load or store                      sum of lanes  combined in each iteration
reversed      the same and a shuffle                        last lane     one scalar store
strided       several vector loads and shuffles             lane by lane  atomics
gather, scatter   an address a lane
"""


@dataclass(frozen=True, slots=True)
class LaneNote:
    """The lanes of a vector loop meet `buffer` at the source place `site`. `step`: elements between lanes."""

    loop: Loc | None
    site: Loc | None
    buffer: str
    mode: Literal["load", "store"]
    way: Way
    step: int | None = None
    masked: bool = False


@dataclass(slots=True)
class Watch:
    """Notes on one module. Loops are told by their source places."""

    lanes: list[LaneNote] = field(default_factory=list)
    parallel: set[Loc | None] = field(default_factory=set)
    tags: list[Loc | None] = field(default_factory=list)

    def tag(self, module: ModuleText, loc: Loc | None) -> str:
        """The suffix of a loop's back edge that names the loop."""
        self.tags.append(loc)
        number = module.metadata(f'!{{!"{_TAG}", i32 {len(self.tags) - 1}}}')
        return f", !llvm.loop {module.metadata(f'distinct !{{!self, {number}}}')}"


@dataclass(frozen=True, slots=True)
class Lowering:
    """What became of the loops of a kernel, by their source places.

    `vectorised`: loops that LLVM made vectors of by itself, with the lanes of the widest vector in each;
    `dissolved`: those that are no loops any more behind its passes.
    """

    lanes: tuple[LaneNote, ...]
    parallel: frozenset[Loc | None]
    vectorised: dict[Loc | None, int]
    dissolved: frozenset[Loc | None]


_TAG = "kdsl.loop"
_METADATA = re.compile(r"^!(\d+) = (?:distinct )?!\{(.*)\}$", re.M)
_BACK = re.compile(r"!llvm\.loop !(\d+)")
_VECTOR = re.compile(r"<(\d+) x (?:i\d+|half|bfloat|float|double)>")


def lowering(watch: Watch, text: str) -> Lowering:
    """The notes, and what the tagged loops have become in the optimised assembly `text`."""
    nodes = {m[1]: m[2] for m in _METADATA.finditer(text)}
    found: dict[Loc | None, int] = {}
    for block in text.split("\n\n"):
        back = _BACK.search(block)
        if back is None:
            continue
        inside = [nodes.get(n, "") for n in re.findall(r"!(\d+)", nodes[back[1]])]
        tag = next((i for i in inside if _TAG in i), None)
        if tag is None:
            continue
        lanes = 1
        if any("llvm.loop.isvectorized" in i for i in inside):
            lanes = max([int(n) for n in _VECTOR.findall(block)], default=1)
        loc = watch.tags[int(tag.rsplit(" ", 1)[1])]
        found[loc] = max(lanes, found.get(loc, 1))
    vectors = {loc: lanes for loc, lanes in found.items() if lanes > 1}
    return Lowering(
        tuple(watch.lanes), frozenset(watch.parallel), vectors, frozenset(watch.tags) - set(found)
    )
