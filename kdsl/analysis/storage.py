"""Locals and exits in a rewritten function: their cells correspond one to one to those of the original.

A local belongs to the iterations around its `Alloc`, and a `break` to the loop that it leaves. Dependences
are those of the original's cells, which speak for the new function only then.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kdsl.analysis.matching import Copy, Match
from kdsl.analysis.program import Leaf, Use
from kdsl.analysis.relations import Relations
from kdsl.analysis.shapes import shapes
from kdsl.analysis.turns import subscripts
from kdsl.analysis.verdict import Unproved


@dataclass(slots=True)
class StorageCheck:
    """One question for each local or exit of the original."""

    relations: Relations
    matches: list[Match]
    outside: frozenset[str] = frozenset()
    """Buffers that others use too, who find their cells where they were."""

    def buffers(self) -> list[str]:
        """The keys of the buffers to ask about."""
        uses = [u for match in self.matches for u in match.leaf.uses]
        return list(dict.fromkeys([u.buffer.key for u in uses if private(u)]))

    def verdict(self, key: str) -> Unproved | bool:
        """False when the cells of this buffer correspond one to one."""
        if self.kept(key):
            return False
        width = 1 + max(
            [len(u.buffer.hidden) + len(u.index) for m in self.matches for c in m.copies for u in c.leaf.uses]
        )
        numbers: dict[str, int] = {}
        total: Any = None
        for match, copy, use, new in self.pairs(key):
            if new is None:
                return wrong(use)
            if not (use.exact_cell and new.exact_cell):
                continue
            number = numbers.setdefault(new.buffer.key, len(numbers))
            cells = self.cells(match.leaf, copy, use, new, number, width)
            total = cells if total is None else total.union(cells)
            last = use
        if total is None:
            return False
        if key in self.outside:
            rank = len(last.buffer.hidden) + len(last.index)
            total = total.union(self.unchanged(numbers.setdefault(key, len(numbers)), rank, width))
        total = total.coalesce()
        return False if total.is_single_valued() and total.is_injective() else wrong(last)

    def kept(self, key: str) -> bool:
        """Whether each use has the subscripts that it had, all in one other order perhaps, a loop around the
        local as a subscript perhaps: then nothing has to be computed."""
        values = self.relations.values
        choices: list[set[int]] = []
        keys: set[str] = set()
        for match, copy, use, new in self.pairs(key):
            if new is None or copy.numbers is None:
                return False
            if not (use.exact_cell and new.exact_cell):
                continue
            before = shapes(values, subscripts(use), match.numbers)
            after = shapes(values, subscripts(new), copy.numbers)
            if before is None or after is None or len(before) != len(after):
                return False
            found = [{n for n, x in enumerate(before) if x == y} for y in after]
            choices = [a & b for a, b in zip(choices, found, strict=True)] if keys else found
            keys.add(new.buffer.key)
        if key in self.outside:
            return keys <= {key} and all(n in choice for n, choice in enumerate(choices))
        taken: set[int] = set()
        for choice in choices:
            taken |= set(sorted(choice - taken)[:1])
        return len(taken) == len(choices) and len(keys) <= 1

    def pairs(self, key: str) -> Iterator[tuple[Match, Copy, Use, Use | None]]:
        """Each use of the buffer with what became of it; None when that is not clear."""
        for match in self.matches:
            for n, (use, kind) in enumerate(numbered(match.leaf)):
                if use.buffer.key != key:
                    continue
                for copy in match.copies:
                    there = numbered(copy.leaf)
                    alike = [u for u, k in there if k == kind]
                    if len(alike) == sum(k == kind for _, k in numbered(match.leaf)):
                        at = sum(k == kind for _, k in numbered(match.leaf)[:n])
                        yield match, copy, use, alike[at]
                    elif kind == "control":
                        for new in alike:
                            if new.buffer.name == use.buffer.name:
                                yield match, copy, use, new
                    else:
                        yield match, copy, use, None

    def unchanged(self, number: int, rank: int, width: int) -> Any:
        """{ [cell] -> [number, cell] }, padded."""
        isl = self.relations.isl
        out = isl.Map.universe(isl.Space.alloc(self.relations.polyhedra.context, 0, rank, width))
        out = out.fix_val(isl.dim_type.out, 0, number)
        for n in range(width - 1):
            if n < rank:
                out = out.equate(isl.dim_type.in_, n, isl.dim_type.out, n + 1)
            else:
                out = out.fix_val(isl.dim_type.out, n + 1, 0)
        return out

    def cells(self, leaf: Leaf, copy: Copy, use: Use, new: Use, number: int, width: int) -> Any:
        """{ [cell] -> [number, new cell] }, padded."""
        r, isl = self.relations, self.relations.isl
        after = copy.pairs.apply_range(r.cells(copy.leaf, new))
        rank = len(new.buffer.hidden) + len(new.index)
        after = after.insert_dims(isl.dim_type.out, rank, width - 1 - rank)
        for at in range(rank, width - 1):
            after = after.fix_val(isl.dim_type.out, at, 0)
        after = after.insert_dims(isl.dim_type.out, 0, 1).fix_val(isl.dim_type.out, 0, number)
        return r.cells(leaf, use).reverse().apply_range(after)


def private(use: Use) -> bool:
    """True for cells that belong to iterations or loops."""
    return use.buffer.local or (
        use.buffer.dtype is None and use.buffer.name in ("break", "continue", "while")
    )


def numbered(leaf: Leaf) -> list[tuple[Use, str]]:
    """The uses of locals and exits by a leaf with their kinds: its own, virtual ones, those of control."""
    return [
        (u, u.buffer.name if u.buffer.dtype is None else "control" if u.control else "own")
        for u in leaf.uses
        if private(u)
    ]


def wrong(use: Use) -> Unproved:
    name = use.buffer.name
    if use.buffer.dtype is not None:
        return Unproved(f"the iterations that share the local `{name}` are not the same", use.loc)
    if name == "while":
        return Unproved("the `while` loop is not the same", use.loc)
    return Unproved(f"`{name}` would end other iterations", use.loc, f"write the `{name}` as an `if`")
