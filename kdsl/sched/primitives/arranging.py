"""Primitives that arrange the memory of local arrays: set_layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from kdsl.analysis.accesses import Access, collect
from kdsl.analysis.affine import constant
from kdsl.analysis.regions import Regions
from kdsl.dtypes import i64
from kdsl.ir.nodes import Body, Call, Expr, Loop
from kdsl.ir.printer import print_expr
from kdsl.sched.edit import Edit
from kdsl.sched.primitive import primitive
from kdsl.sched.rewriting.arith import const
from kdsl.sched.rewriting.arrays import Local, array_of, local_of
from kdsl.sched.rewriting.layout import ALIGN_BYTES, Arranged, Layout, layout_of
from kdsl.sched.rewriting.tree import Site, map_accesses, replaced


@primitive
def set_layout(
    edit: Edit,
    local: str,
    tile: Sequence[int | None] | None = None,
    order: Sequence[int] | None = None,
    pad: int = 0,
    align: int = ALIGN_BYTES,
) -> Edit:
    """The elements of a local array in another arrangement.

    before:
        T: f32[K, N]
        for k in range(K):
            for j_o in range((N + 15) // 16):
                for j_i in range(16):
                    if j_o * 16 + j_i < N:
                        T[k, j_o * 16 + j_i] = 0
    after: set_layout("T", tile=(None, 16), order=(1, 0, 2))
        T: f32[(N + 15) // 16, K, 16]
        for k in range(K):
            for j_o in range((N + 15) // 16):
                for j_i in range(16):
                    if j_o * 16 + j_i < N:
                        T[j_o, k, j_i] = 0

    `tile=(None, 16)` splits dimensions in place into outer and inner, `order=(1, 0, 2)` permutes the result,
    `pad` adds elements to the last dimension, `align` asks for a start at a multiple of so many bytes. The
    array is one of the kernel's own, or one that another step made; all its copies are arranged.

    legal: always. An index that depends on data is tested where the new array would have room for it; another
    one has to be proved to lie inside.
    known as: set_memory_layout, transform_layout (TVM), reorder_storage and align_storage (Halide).
    """
    layout: Layout = {"pad": pad, "align": align}
    if tile is not None:
        layout["tile"] = tile
    if order is not None:
        layout["order"] = order
    new: dict[int, Body] = {}
    regions = Regions(collect(edit.func))
    for found in local_of(edit, local):
        alloc, array = found.alloc, array_of(edit, found.alloc)
        arrangement = layout_of(edit, layout, alloc.name, len(array.shape), alloc.dtype)
        work = _Move(edit, found, Arranged(arrangement, array.shape, array.atoms), regions)
        new[alloc.id] = (replace(alloc, shape=work.memory.shape_exprs()),)
        for old, s in zip(found.scope, work.scope()):
            new[old.id] = (s,)
    return edit.keeps_order(replaced(edit.func, new))


@dataclass(slots=True)
class _Move:
    """Rewrites the accesses to one local."""

    edit: Edit
    local: Local
    memory: Arranged
    regions: Regions
    accesses: dict[int, list[Access]] = field(default_factory=dict)

    def scope(self) -> Body:
        """What follows the local, with its accesses moved."""
        for a in self.regions.accesses.accesses:
            self.accesses.setdefault(id(a.site), []).append(a)
        return map_accesses(self.local.scope, self.moved, self.local.outer)

    def moved(self, old: Site, new: Site, loops: tuple[Loop, ...]) -> Site:
        if new.buffer != self.local.alloc.name:
            return new
        at = [self.tested(old, dim, e) for dim, e in enumerate(new.index)]
        return replace(new, index=self.memory.placed(at, loops))

    def tested(self, old: Site, dim: int, index: Expr) -> Expr:
        """The index; one that data decide, and that is not proved to lie inside, with a test: its place in
        memory may exist though the element does not.
        """
        found = self.accesses.get(id(old), ())
        if all(self.regions.within(a, dim, constant(0), a.extent[dim]) for a in found):
            return index
        values, loc = self.regions.accesses.values, old.loc or self.local.alloc.loc
        used = values.closure(n for a in found for n in a.index[dim].names())
        size = self.memory.expr(self.memory.extents[dim])
        if any(values.symbols[n].kind == "opaque" for n in used):
            return Call("within", (index, size, const(dim)), i64, loc=loc)
        if not self.has_room(dim):
            return index
        name = self.local.alloc.name
        raise self.edit.refused(
            "K0310",
            f"cannot arrange `{name}` like this: an index may lie outside of it",
            loc=loc,
            label=f"not proved that 0 <= {print_expr(index, True)} < {print_expr(size, True)}",
            help="state what the sizes have in common, as in s.assume(...)",
        )

    def has_room(self, dim: int) -> bool:
        """Whether the memory goes on behind the end of the dimension."""
        layout = self.memory.layout
        t = layout.tile[dim]
        first = sum(1 + (t is not None) for t in layout.tile[:dim])
        ragged = t is not None and any(c % t for c in self.memory.extents[dim].terms.values())
        return ragged or (layout.pad > 0 and layout.order[-1] == first)
