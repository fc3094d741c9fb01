"""Sorting, searching and dynamic programming."""

import functools

import numpy as np

import kdsl
from kdsl import f32, i32, i64, u8
from tests.check import Draw, Program

N, M = kdsl.sizes("N M")


@kdsl.kernel
def insertion_sort(x: f32[N]):
    for i in range(1, N):
        value = x[i]
        j = i
        while j > 0 and x[j - 1] > value:
            x[j] = x[j - 1]
            j -= 1
        x[j] = value


@kdsl.kernel
def shell_sort(x: i32[N]):
    gap = N // 2
    while gap > 0:
        for i in range(gap, N):
            value = x[i]
            j = i
            while j >= gap:
                if x[j - gap] <= value:
                    break
                x[j] = x[j - gap]
                j -= gap
            x[j] = value
        gap //= 2


@kdsl.kernel
def bubble_sort(x: i64[N]) -> i64:
    """Stops at the first pass without an exchange; returns the number of passes."""
    passes = 0
    while True:
        passes += 1
        swapped = False
        for i in range(N - 1):
            if x[i] > x[i + 1]:
                x[i], x[i + 1] = x[i + 1], x[i]
                swapped = True
        if not swapped:
            break
    return passes


def sort_oracle(x):
    x.sort()


def bubble_oracle(x):
    """An element moves one place left in each pass: passes = 1 + most larger elements before any element."""
    inversions = [int((x[:i] > x[i]).sum()) for i in range(len(x))]
    x.sort()
    return np.int64(1 + max(inversions, default=0))


@kdsl.kernel
def bitonic_rows(x: i32[N, 16]):
    """A sorting network on a local array of 16."""
    for row in range(N):
        a = kdsl.empty((16,), i32)
        for i in range(16):
            a[i] = x[row, i]
        for stage in kdsl.static_range(4):
            size = 2 << stage
            for step in kdsl.static_range(stage + 1):
                distance = size >> (step + 1)
                for i in range(16):
                    j = i ^ distance
                    if j > i:
                        ascending = (i & size) == 0
                        if (a[i] > a[j]) == ascending:
                            a[i], a[j] = a[j], a[i]
        for i in range(16):
            x[row, i] = a[i]


def bitonic_oracle(x):
    x.sort(axis=1)


@kdsl.kernel
def odd_even_network(x: f32[N, 5]):
    """Odd-even transposition of 5 values through `min` and `max`."""
    for row in range(N):
        a = kdsl.empty((5,), f32)
        for i in kdsl.static_range(5):
            a[i] = x[row, i]
        for phase in kdsl.static_range(5):
            for i in kdsl.static_range(phase % 2, 4, 2):
                low = min(a[i], a[i + 1])
                high = max(a[i], a[i + 1])
                a[i] = low
                a[i + 1] = high
        for i in kdsl.static_range(5):
            x[row, i] = a[i]


@kdsl.kernel
def counting_sort(x: u8[N], out: u8[N]):
    start = kdsl.zeros((257,), i64)
    for i in range(N):
        start[i64(x[i]) + 1] += 1
    for v in range(256):
        start[v + 1] += start[v]
    for i in range(N):
        out[start[x[i]]] = x[i]
        start[x[i]] += 1


def counting_oracle(x, out):
    out[:] = np.sort(x, kind="stable")


@kdsl.kernel
def merge(a: i32[N], b: i32[M], out: i32[N + M]):
    i = 0
    j = 0
    for k in range(N + M):
        if j >= M or (i < N and a[i] <= b[j]):
            out[k] = a[i]
            i += 1
        else:
            out[k] = b[j]
            j += 1


def merge_oracle(a, b, out):
    out[:] = np.sort(np.concatenate([a, b]))


@kdsl.kernel
def search(sorted_x: f32[N], queries: f32[M], at: i64[M]):
    """The first place where each query could stand (`np.searchsorted`)."""
    for q in range(M):
        low = 0
        high = N
        while low < high:
            middle = (low + high) // 2
            if sorted_x[middle] < queries[q]:
                low = middle + 1
            else:
                high = middle
        at[q] = low


def search_oracle(sorted_x, queries, at):
    at[:] = np.searchsorted(sorted_x, queries)


@kdsl.kernel
def find_first(x: i32[N], wanted: i32) -> i64:
    for i in range(N):
        if x[i] == wanted:
            return i
    return -1


def find_first_oracle(x, wanted):
    places = np.flatnonzero(x == wanted)
    return np.int64(places[0] if places.size else -1)


@kdsl.kernel
def argmax_rows(x: f32[N, M], at: i32[N], value: f32[N]):
    for i in range(N):
        best = x[i, 0]
        where = 0
        for j in range(1, M):
            if x[i, j] > best:
                best = x[i, j]
                where = j
        at[i] = where
        value[i] = best


def argmax_oracle(x, at, value):
    at[:] = x.argmax(axis=1)
    value[:] = x.max(axis=1)


@kdsl.kernel
def edit_distance(a: u8[N], b: u8[M]) -> i32:
    previous = kdsl.empty((M + 1,), i32)
    current = kdsl.empty((M + 1,), i32)
    for j in range(M + 1):
        previous[j] = j
    for i in range(N):
        current[0] = i + 1
        for j in range(M):
            substitute = previous[j] + (a[i] != b[j])
            current[j + 1] = min(substitute, previous[j + 1] + 1, current[j] + 1)
        for j in range(M + 1):
            previous[j] = current[j]
    return previous[M]


def edit_distance_oracle(a, b):
    @functools.cache
    def distance(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return i + j
        change = distance(i - 1, j - 1) + int(a[i - 1] != b[j - 1])
        return min(change, distance(i - 1, j) + 1, distance(i, j - 1) + 1)

    return np.int32(distance(len(a), len(b)))


@kdsl.kernel
def matrix_chain(p: i64[N + 1], cost: i64[N, N]):
    for i in range(N):
        cost[i, i] = 0
    for length in range(2, N + 1):
        for i in range(N - length + 1):
            j = i + length - 1
            cost[i, j] = 9223372036854775807
            for k in range(i, j):
                q = cost[i, k] + cost[k + 1, j] + p[i] * p[k + 1] * p[j + 1]
                if q < cost[i, j]:
                    cost[i, j] = q


def matrix_chain_oracle(p, cost):
    @functools.cache
    def best(i: int, j: int) -> int:
        splits = (best(i, k) + best(k + 1, j) + int(p[i] * p[k + 1] * p[j + 1]) for k in range(i, j))
        return min(splits, default=0)

    for i in range(len(cost)):
        for j in range(i, len(cost)):
            cost[i, j] = best(i, j)


@kdsl.kernel
def knapsack(weight: i32[N], value: i32[N], best: i64[M + 1]):
    for c in range(M + 1):
        best[c] = 0
    for i in range(N):
        for c in range(M, weight[i] - 1, -1):
            best[c] = max(best[c], best[c - weight[i]] + value[i])


def knapsack_oracle(weight, value, best):
    table = np.zeros_like(best)
    for w, v in zip(weight.tolist(), value.tolist()):
        shifted = np.concatenate([np.full(w, -1), table[: len(table) - w] + v])[: len(table)]
        table = np.maximum(table, shifted)
    best[:] = table


def words(d: Draw, n: int, m: int) -> tuple[object, ...]:
    return d.ints(97, 100, n, dtype=np.uint8), d.ints(97, 100, m, dtype=np.uint8)


def integers(d: Draw, n: int) -> tuple[object, ...]:
    return (d.ints(-50, 50, n, dtype=np.int32),)


LINES = [(0,), (1,), (2,), (37,)]

PROGRAMS = [
    Program(insertion_sort, sort_oracle, lambda d, n: (d.f32(n),), LINES),
    Program(shell_sort, sort_oracle, integers, LINES),
    Program(bubble_sort, bubble_oracle, lambda d, n: (d.ints(-50, 50, n),), LINES),
    Program(
        bitonic_rows, bitonic_oracle, lambda d, n: (d.ints(-50, 50, n, 16, dtype=np.int32),), [(0,), (3,)]
    ),
    Program(odd_even_network, bitonic_oracle, lambda d, n: (d.f32(n, 5),), [(0,), (7,)]),
    Program(
        counting_sort,
        counting_oracle,
        lambda d, n: (d.ints(0, 256, n, dtype=np.uint8), np.zeros(n, np.uint8)),
        LINES,
    ),
    Program(
        merge,
        merge_oracle,
        lambda d, n, m: (np.sort(integers(d, n)[0]), np.sort(integers(d, m)[0]), np.zeros(n + m, np.int32)),
        [(0, 0), (1, 0), (0, 3), (11, 7)],
    ),
    Program(
        search,
        search_oracle,
        lambda d, n, m: (np.sort(d.f32(n)), d.f32(m), np.zeros(m, np.int64)),
        [(0, 3), (1, 5), (37, 11), (8, 0)],
    ),
    Program(find_first, find_first_oracle, lambda d, n: (integers(d, n)[0], 7), [(0,), (1,), (200,), (201,)]),
    Program(
        argmax_rows,
        argmax_oracle,
        lambda d, n, m: (d.f32(n, m), np.zeros(n, np.int32), np.zeros(n, np.float32)),
        [(5, 7), (0, 3), (1, 1)],
    ),
    Program(edit_distance, edit_distance_oracle, words, [(9, 7), (0, 5), (5, 0), (0, 0), (1, 1)]),
    Program(
        matrix_chain,
        matrix_chain_oracle,
        lambda d, n: (d.ints(1, 50, n + 1), np.zeros((n, n), np.int64)),
        [(7,), (1,), (0,), (2,), (11,)],
    ),
    Program(
        knapsack,
        knapsack_oracle,
        lambda d, n, m: (
            d.ints(1, 9, n, dtype=np.int32),
            d.ints(1, 90, n, dtype=np.int32),
            np.zeros(m + 1, np.int64),
        ),
        [(7, 20), (0, 5), (3, 0), (5, 31)],
    ),
]
