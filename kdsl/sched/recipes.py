"""Recipes: composed schedules, plain functions on `Schedule` that work on every kernel of fitting form.

    fast = matmul.with_schedule(kdsl.recipes.gemm(matmul.schedule(), "i", "j", "k", "B", "C"))

A recipe names loops and arrays as primitives do. Each of its steps is proved or refused like one written by
hand, so a kernel that does not fit is refused, never run wrongly; `print(s.trace())` shows the steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kdsl.ir.nodes import Accumulate, Alloc, Loop
from kdsl.ir.walk import stmts
from kdsl.sched.rewriting.arith import names_in

if TYPE_CHECKING:
    from kdsl.sched.rewriting.layout import Layout
    from kdsl.sched.rewriting.ranges import Tail
    from kdsl.sched.schedule import Schedule


def vector_elementwise(s: Schedule, loop: str, lanes: int = 64, *, parallel: bool = True) -> Schedule:
    """A loop over elements in vectors, shared out to threads.

    before:
        for i in range(N):
            Y[i] = f(X[i])
    after: vector_elementwise(s, "i", 64)
        for i in parallel(range((N + 63) // 64)):
            for i_v in vectorize(range(64)):
                if i * 64 + i_v < N:
                    Y[i * 64 + i_v] = f(X[i * 64 + i_v])

    fits: loops whose iterations do not depend on each other. Several registers at a time (`lanes` twice or
    four times their length) hide the latency of long formulas.
    """
    s = s.vectorize(loop, lanes)
    return s.parallel(loop) if parallel else s


def vector_stream(s: Schedule, loop: str, lanes: int = 16, count: int = 8) -> Schedule:
    """A loop over elements, `count` vectors written out one after the other.

    before:
        for i in range(N):
            Y[i] = f(X[i])
    after: vector_stream(s, "i", 16, 2)
        for i_o in range(((N + 15) // 16 + 1) // 2):
            for i_i in unroll(range(2)):
                if i_o * 2 + i_i < (N + 15) // 16:
                    for i_v in vectorize(range(16)):
                        if (i_o * 2 + i_i) * 16 + i_v < N:
                            Y[(i_o * 2 + i_i) * 16 + i_v] = f(X[(i_o * 2 + i_i) * 16 + i_v])

    fits: short formulas over arrays that come from memory, where `lanes` is one register: each cache line is
    read, computed and written before the next, which memory serves faster than lines read together.
    """
    return s.vectorize(loop, lanes).split(loop, count).unroll(f"{loop}_i")


def vector_sum(s: Schedule, loop: str, lanes: int = 64) -> Schedule:
    """A loop that reduces into one cell, in vectors of partial results.

    before:
        for i in range(N):
            total += X[i]
    after: vector_sum(s, "i", 64)
        for i in range((N + 63) // 64):
            for i_v in vectorize(range(64)):
                if i * 64 + i_v < N:
                    total += X[i * 64 + i_v]

    fits: `+= *= min max`; four registers keep four independent sums.
    """
    return s.vectorize(loop, lanes)


def reduce_registers(s: Schedule, loop: str, lanes: int = 8, count: int = 8) -> Schedule:
    """A loop that reduces into one cell, in `count` vectors of partial results that are added one by one.

    before:
        for i in range(N):
            total += X[i]
    after: reduce_registers(s, "i", 8, 8)
        total_r: f32[64]
        ... total_r = -0.0 ...
        for i_o in range((N + 63) // 64):
            for i_i_o in unroll(range(8)):
                for i_i_i in vectorize(range(8)):
                    if i_o * 64 + i_i_o * 8 + i_i_i < N:
                        total_r[i_i_o * 8 + i_i_i] += X[i_o * 64 + i_i_o * 8 + i_i_i]
        ... total += total_r ...

    fits: `+= *= min max` over what comes from memory: NumPy's arrays begin 16 bytes after a cache line, so
    that of half lines (8 lanes of f32) only every second crosses into the next.
    """
    s = s.split(loop, lanes * count).rfactor(f"{loop}_i")
    for part in (f"{loop}_i_z", f"{loop}_i", f"{loop}_i_r"):
        s = s.split(part, lanes).vectorize(f"{part}_i", lanes).unroll(f"{part}_o")
    return s


def reduce_tree(
    s: Schedule, loop: str, block: int = 1 << 15, lanes: int = 64, *, parallel: bool = True
) -> Schedule:
    """A loop that reduces into one cell, in blocks with a partial result each, which threads share out.

    before:
        for i in range(N):
            total += X[i]
    after: reduce_tree(s, "i", 32768, 64)
        total_r: f32[(N + 32767) // 32768]
        ... total_r = -0.0 ...
        for i_o in parallel(range((N + 32767) // 32768)):
            for i_i in range(512):
                for i_i_v in vectorize(range(64)):
                    if i_o * 32768 + i_i * 64 + i_i_v < N:
                        total_r[i_o] += X[i_o * 32768 + i_i * 64 + i_i_v]
        for i_o_r in range((N + 32767) // 32768):
            total += total_r[i_o_r]

    fits: `+= *= min max` over some 10^5 elements or more; for fewer, `vector_sum` has less to start.
    """
    s = s.split(loop, block).rfactor(f"{loop}_o").vectorize(f"{loop}_i", lanes)
    return s.parallel(f"{loop}_o") if parallel else s


def parallel_rows(s: Schedule, row: str, columns: Sequence[str], lanes: int = 64) -> Schedule:
    """Rows shared out to threads, each loop over a row in vectors.

    before:
        for i in range(M):
            for j in range(N):
                total += X[i, j]
            for j_1 in range(N):
                Y[i, j_1] = X[i, j_1] / total
    after: parallel_rows(s, "i", ["j", "j_1"])
        for i in parallel(range(M)):
            for j in range((N + 63) // 64):
                for j_v in vectorize(range(64)): ...

    fits: softmax, normalisations, row sums: rows that do not depend on each other.
    """
    for column in columns:
        s = s.vectorize(column, lanes)
    return s.parallel(row)


def tile2d(
    s: Schedule, rows: str, columns: str, size: tuple[int, int] = (32, 256), lanes: int = 16
) -> Schedule:
    """Blocks of a plane, shared out to threads, their rows in vectors.

    before:
        for i in range(M):
            for j in range(N):
                S(i, j)
    after: tile2d(s, "i", "j", (32, 256), 16)
        for i_o in parallel(range((M + 31) // 32)):
            for j_o in range((N + 255) // 256):
                for i_i in range(32):
                    for j_i in range(16):
                        for j_i_v in vectorize(range(16)): ...

    fits: two nested loops whose iterations may run in any order: transposes, stencils of one sweep.
    """
    s = s.tile([rows, columns], list(size)).vectorize(f"{columns}_i", lanes)
    return s.parallel(f"{rows}_o")


def pack(s: Schedule, buffer: str, at: str, panel: int | None = None, lanes: int = 16) -> Schedule:
    """What one iteration of `at` touches of an array, copied together; the copy runs in vectors.

    before:
        for j_o in range(N // 64):
            ... B[k, j_o * 64 + j_i] ...
    after: pack(s, "B", "j_o", panel=16)
        for j_o in range(N // 64):
            B_s: f32[4, K, 16]
            ... fill B_s ...
            ... B_s[j_i // 16, k, j_i % 16] ...

    fits: regions that are read many times. With `panel` the last dimension is cut into panels of so many
    elements, one after the other in memory. Its innermost loop is the vector.
    """
    layout: Layout = {}
    if panel is not None:
        rank = next(len(a.shape) for a in s.func.arrays if a.name == buffer)
        layout = {"tile": (None,) * (rank - 1) + (panel,), "order": (rank - 1, *range(rank - 1), rank)}
    after = s.stage(buffer, at=at, layout=layout or None)
    return after.vectorize(_new_loops(s, after)[-1], lanes)


def register_tile(
    s: Schedule,
    rows: str,
    columns: str,
    terms: Sequence[str],
    size: tuple[int, int] = (6, 64),
    lanes: int = 16,
    *,
    outside: Sequence[str] = (),
    sums: str | None = None,
) -> Schedule:
    """Sums over `terms` for a tile of rows and columns at a time, which stays in registers.

    before:
        for i in range(M):
            for j in range(N):
                acc = 0.0
                for k in range(K):
                    acc += A[i, k] * B[k, j]
                C[i, j] = acc
    after: register_tile(s, "i", "j", ["k"], (6, 64), 16)
        for i_o in range((M + 5) // 6):
            for j_o in range((N + 63) // 64):
                acc: f32[6, 64]
                ... acc = 0 ...
                for k in range(K):
                    for i_i in unroll(range(6)):
                        for j_i in unroll(range(4)):
                            for j_i_v in vectorize(range(16)): ...
                ... C = acc ...

    fits: products and convolutions; loops named by `outside` (of the same nest) stay around the tile. When
    the terms go straight to an array, `sums` names it. rows * columns / lanes registers hold the tile; leave
    some for the operands.
    """
    i, j = f"{rows}_i", f"{columns}_i"
    s = s.tile([rows, columns], list(size))
    s = s.reorder(*outside, f"{rows}_o", f"{columns}_o", *terms, i, j)
    if sums is not None:
        s = _in_registers(s, sums, f"{columns}_o", lanes)
    return _written_out(s, [(i, j)], lanes)


def gemm(
    s: Schedule,
    rows: str,
    columns: str,
    terms: str,
    b: str,
    c: str,
    size: tuple[int, int] = (6, 64),
    blocks: tuple[int, int, int] = (240, 512, 1024),
    lanes: int = 16,
) -> Schedule:
    """A matrix product in the manner of GotoBLAS and BLIS.

    before:
        for i in range(M):
            for j in range(N):
                C[i, j] = 0.0
                for k in range(K):
                    C[i, j] += A[i, k] * B[k, j]
    after: gemm(s, "i", "j", "k", "B", "C")
        for j_o_o in range(...):                   # blocks of 512 columns
            B_s: f32[8, 1024, 64]                  # 1024 rows of them, packed into panels of 64 columns
            for i_o_o in range(...):               # blocks of 240 rows
                for j_o_i in parallel(range(8)):
                    for i_o_i in range(40):
                        C_s: f32[6, 64]            # in registers; starts at 0
                        for k_p in range(min(K, 1024)): ...
        for j_o_o in range(...):
            for k_o in range((K - 1) // 1024): ... # the same for the other terms; C_s starts at C

    fits: nests of two loops that set a cell and then accumulate into it; `b` is the operand that has
    `columns` in its last dimension. `size`: the register tile. `blocks`: rows, columns and terms at a time: a
    panel of terms * size[1] elements stays in the second-level cache, terms * blocks[1] in the third.
    Many terms at a time save passes over `c`, whose next tile is fetched ahead.
    The sources are Goto and van de Geijn (2008) and the BLIS papers.
    """
    (tall, wide), (mc, nc, kc) = size, blocks
    i, j, k = rows, columns, terms
    s = s.peel(k, kc).fission(j, after=1).fission(i, after=0).split(k, kc)
    s = s.tile([i, j], [tall, wide]).split(f"{i}_o", max(1, mc // tall)).split(f"{j}_o", max(1, nc // wide))
    for copy, outer, inner in ((0, (), f"{k}_p"), (1, (f"{k}_o",), f"{k}_i")):
        blocked = (f"{j}_o_o@{copy}", *outer, f"{i}_o_o@{copy}", f"{j}_o_i@{copy}", f"{i}_o_i@{copy}")
        # The first nest has two tiles when it is reordered: that of the zeros and that of the sums.
        s = s.reorder(*blocked, inner, f"{i}_i@{2 * copy}", f"{j}_i@{2 * copy}")
    for at in (f"{j}_o_o@0", f"{k}_o"):
        before, s = s, pack(s, b, at, panel=wide, lanes=lanes)
        s = s.parallel(_new_loops(before, s)[0])
    s = _in_registers(s, c, f"{i}_o_i", lanes).prefetch(c, f"{i}_o_i", 1)
    return _written_out(s, [(f"{i}_i", f"{j}_i")], lanes).parallel(f"{j}_o_i")


def time_tile(
    s: Schedule,
    time: str,
    first: str,
    second: str,
    columns: Sequence[str],
    rows: int = 64,
    lanes: int = 16,
) -> Schedule:
    """A stencil that goes to and fro between two arrays: all time steps for a block of rows before the next.

    before:
        for t in range(T):
            for i in range(1, N - 1):
                for j in range(1, N - 1):
                    B[i, j] = f(A, i, j)
            for i_1 in range(1, N - 1):
                for j_1 in range(1, N - 1):
                    A[i_1, j_1] = f(B, i_1, j_1)
    after: time_tile(s, "t", "i", "i_1", ["j", "j_1"])
        for i_o in range(...):                 # slanted blocks of 64 rows
            for t in range(...):
                for i_i in parallel(range(64)): ... B[i_o * 64 + i_i - t * 2, :] ...
                for i_i in parallel(range(64)): ... A[i_o * 64 + i_i - t * 2 - 1, :] ...

    fits: stencils of radius 1 in the rows, `time` of a constant number of steps. The rows that a block
    touches, rows + 2 * T of both arrays, should fit in the second-level cache.
    """
    s = s.fuse(first, second, shift=1).skew(first, time, 2).split(first, rows)
    s = s.reorder(f"{first}_o", time, f"{first}_i").fission(f"{first}_i", after=0)
    for column in columns:
        s = s.vectorize(column, lanes)
    return s.parallel(f"{first}_i")


def gpu_elementwise(s: Schedule, loop: str, lanes: int = 4, invocations: int = 64) -> Schedule:
    """A loop over elements on a GPU: each invocation a short vector of consecutive elements.

    before:
        for i in range(N):
            Y[i] = f(X[i])
    after: gpu_elementwise(s, "i")
        for i_o in bind(range((N + 255) // 256), "grid.x"):
            for i_i_o in bind(range(64), "block.x"):
                for i_i_i in vectorize(range(4)):
                    if i_o * 256 + i_i_o * 4 + i_i_i < N:
                        Y[i_o * 256 + i_i_o * 4 + i_i_i] = f(X[i_o * 256 + i_i_o * 4 + i_i_i])

    fits: loops whose iterations do not depend on each other.
    """
    s = s.split(loop, invocations * lanes).split(f"{loop}_i", lanes).vectorize(f"{loop}_i_i")
    return s.bind(f"{loop}_o", "grid.x").bind(f"{loop}_i_o", "block.x")


def gpu_tile(
    s: Schedule,
    rows: str,
    columns: str,
    terms: str | Sequence[str],
    operands: Sequence[str],
    size: tuple[int, int, int] = (64, 64, 8),
    registers: tuple[int, int] = (8, 8),
    lanes: int = 4,
    tail: Tail = "guard",
    *,
    outside: Sequence[str] = (),
) -> Schedule:
    """A product on a GPU: each work-group a tile, with operands in shared memory and sums in registers.

    before:
        for i in range(M):
            for j in range(N):
                acc = 0.0
                for k in range(K):
                    acc += A[i, k] * B[k, j]
                C[i, j] = acc
    after: gpu_tile(s, "i", "j", "k", ["A", "B"])
        for i_o in bind(range((M + 63) // 64), "grid.y"):
            for j_o in bind(range((N + 63) // 64), "grid.x"):
                acc: f32[8, 8, 8, 8]               # 8 x 8 registers of each of 8 x 8 invocations
                for k_o in range((K + 7) // 8):
                    B_s: f32[8, 64] @ "shared"     # copied by all invocations together
                    A_s: f32[64, 8] @ "shared"
                    for i_i_o in bind(range(8), "block.y"):
                        for j_i_o in bind(range(8), "block.x"):
                            for k_i in range(8):
                                for i_i_i in unroll(range(8)):
                                    for j_i_i in unroll(range(2)):
                                        for j_i_i_v in vectorize(range(4)): ...

    fits: sums over `terms` for a plane of cells, made in a local scalar. `size`: rows, columns and (of the
    first loop over terms) terms of a tile; `registers`: rows and columns of one invocation; a work-group has
    size / registers of them. Loops named by `outside` (of the same nest) stay around the tile.
    `tail="perfect"` is for sizes that these divide: checked at the call, and faster.
    """
    i, j, (k, *more) = rows, columns, [terms] if isinstance(terms, str) else terms
    s = s.tile([i, j], list(size[:2]), tail).tile([f"{i}_i", f"{j}_i"], list(registers))
    s = s.split(k, size[2], tail=tail)
    inside = (f"{k}_o", f"{k}_i", *more, f"{i}_i_i", f"{j}_i_i")
    s = s.reorder(*outside, f"{i}_o", f"{j}_o", f"{i}_i_o", f"{j}_i_o", *inside)
    s = s.bind(f"{i}_o", "grid.y").bind(f"{j}_o", "grid.x")
    s = s.bind(f"{i}_i_o", "block.y").bind(f"{j}_i_o", "block.x")
    for operand in operands:
        s = s.stage(operand, at=f"{k}_o", memory="shared")
    return _written_out(s, [(f"{i}_i_i", f"{j}_i_i")], lanes)


def gpu_register_tile(
    s: Schedule,
    rows: str,
    columns: str,
    terms: Sequence[str],
    registers: tuple[int, int] = (8, 8),
    invocations: int = 8,
    tail: Tail = "guard",
) -> Schedule:
    """A product on a GPU without shared memory: neighbouring invocations have neighbouring columns.

    before:
        for i in range(M):
            for j in range(N):
                acc = 0.0
                for k in range(K):
                    acc += A[i, k] * B[k, j]
                C[i, j] = acc
    after: gpu_register_tile(s, "i", "j", ["k"])
        for i_o in bind(range((M + 7) // 8), "grid.y"):
            for j_o in bind(range((N + 63) // 64), "grid.x"):
                for j_i_i in bind(range(8), "block.x"):
                    acc: f32[8, 8]                 # columns j_o * 64 + j_i_o * 8 + j_i_i
                    for k in range(K):
                        for i_i in unroll(range(8)):
                            for j_i_o in unroll(range(8)): ...

    fits: drivers that run a work-group in the lanes of a CPU (lavapipe), where shared memory is but memory.
    `tail="perfect"` as in `gpu_tile`.
    """
    i, j = rows, columns
    s = s.tile([i, j], [registers[0], registers[1] * invocations], tail).split(f"{j}_i", invocations)
    s = s.reorder(f"{i}_o", f"{j}_o", f"{j}_i_i", *terms, f"{i}_i", f"{j}_i_o")
    s = s.bind(f"{i}_o", "grid.y").bind(f"{j}_o", "grid.x").bind(f"{j}_i_i", "block.x")
    return s.unroll(f"{i}_i").unroll(f"{j}_i_o")


def gpu_sum(s: Schedule, loop: str, block: int = 4096, invocations: int = 64) -> Schedule:
    """A loop that reduces into one cell on a GPU: a partial result for each work-group, made of one for each
    of its invocations.

    before:
        for i in range(N):
            total += X[i]
    after: gpu_sum(s, "i")
        total_r: f32[(N + 4095) // 4096]
        ... total_r = -0.0 ...
        for i_o in bind(range((N + 4095) // 4096), "grid.x"):
            total_r_r: f32[64]
            ... total_r_r = -0.0 ...
            for i_i_i in bind(range(64), "block.x"):
                for i_i_o in range(64):
                    if i_o * 4096 + i_i_o * 64 + i_i_i < N:
                        total_r_r[i_i_i] += X[i_o * 4096 + i_i_o * 64 + i_i_i]
            for i_i_i_r in vectorize(range(64)):       # a GPU does this together
                total_r[i_o] += total_r_r[i_i_i_r]
        for i_o_r in range((N + 4095) // 4096):
            total += total_r[i_o_r]

    fits: `+= *= min max`; neighbouring invocations take neighbouring elements.
    """
    s = s.split(loop, block).rfactor(f"{loop}_o").bind(f"{loop}_o", "grid.x")
    s = s.split(f"{loop}_i", invocations).reorder(f"{loop}_i_i", f"{loop}_i_o")
    return s.rfactor(f"{loop}_i_i").bind(f"{loop}_i_i", "block.x").vectorize(f"{loop}_i_i_r")


def gpu_rows(s: Schedule, row: str, columns: Sequence[str], invocations: int = 64) -> Schedule:
    """Rows on a GPU: each a work-group, whose invocations share each loop over it and add up together.

    before:
        for i in range(M):
            total = 0.0
            for j in range(N):
                total += X[i, j]
            for j_1 in range(N):
                Y[i, j_1] = X[i, j_1] / total
    after: gpu_rows(s, "i", ["j", "j_1"])
        for i in bind(range(M), "grid.x"):
            total_r: f32[64]
            ... total_r = -0.0 ...
            for j_i in bind(range(64), "block.x"):
                for j_o in range((N + 63) // 64):
                    if j_o * 64 + j_i < N:
                        total_r[j_i] += X[i, j_o * 64 + j_i]
            for j_i_r in vectorize(range(64)):         # a GPU does this together
                total += total_r[j_i_r]
            for j_1_i in bind(range(64), "block.x"): ... Y[i, j_1_o * 64 + j_1_i] = ...

    fits: softmax, normalisations, products with a vector: long rows that do not depend on each other;
    neighbouring invocations take neighbouring elements.
    """
    for column in columns:
        s = gpu_share(s, column, invocations)
    return s.bind(row, "grid.x")


def gpu_share(s: Schedule, loop: str, invocations: int = 64) -> Schedule:
    """A loop of a work-group, shared by its invocations: as `gpu_rows` does it for each of its loops."""
    stem = loop.partition("@")[0]
    taken = {x.var for x in stmts(s.func.body) if isinstance(x, Loop)}
    n = next(n for n in range(1, len(taken) + 2) if not {_numbered(stem, w, n) for w in "oi"} & taken)
    outer, inner = _numbered(stem, "o", n), _numbered(stem, "i", n)
    s = s.split(loop, invocations, into=(outer, inner)).reorder(inner, outer)
    for buffer in _reduced(s, inner):
        before, s = s, s.rfactor(inner, buffer)
        for name in _new_loops(before, s):
            if buffer in _reduced(s, name):
                s = s.vectorize(name)
    return s.bind(inner, "block.x")


# ------------------------------------------------------------------------ helpers


def _numbered(stem: str, which: str, n: int) -> str:
    """The name of a part of a split loop; `n` tells several of one name apart."""
    return f"{stem}_{which}{n if n > 1 else ''}"


def _reduced(s: Schedule, loop: str) -> list[str]:
    """What the iterations of a loop reduce into: made outside of it, the same cells in each of them."""
    found = next(x for x in stmts(s.func.body) if isinstance(x, Loop) and x.var == loop)
    inside = list(stmts(found.body))
    made = {x.name for x in inside if isinstance(x, Alloc)}
    sums = [x for x in inside if isinstance(x, Accumulate) and x.buffer not in made]
    moving = {x.buffer for x in sums if loop in names_in(x.index)}
    return list(dict.fromkeys([x.buffer for x in sums if x.buffer not in moving]))


def _new_loops(before: Schedule, after: Schedule) -> list[str]:
    """The variables of the loops that `before` has not, in program order."""
    known = {x.var for x in stmts(before.func.body) if isinstance(x, Loop)}
    found = [x.var for x in stmts(after.func.body) if isinstance(x, Loop) and x.var not in known]
    return list(dict.fromkeys(found))


def _in_registers(s: Schedule, buffer: str, at: str, lanes: int) -> Schedule:
    """The part of a matrix that one iteration of `at` touches in registers; the copies are written out."""
    after = s.stage(buffer, at=at, memory="register")
    new = _new_loops(s, after)
    return _written_out(after, list(zip(new[::2], new[1::2])), lanes)


def _written_out(s: Schedule, pairs: Sequence[tuple[str, str]], lanes: int) -> Schedule:
    """Each pair of loops, over rows and columns, written out: vectors of columns one after the other."""
    for row, column in pairs:
        before, s = s, s.vectorize(column, lanes)
        if _new_loops(before, s):
            s = s.unroll(column)
        s = s.unroll(row)
    return s
