"""The Mandelbrot set, written to mandelbrot.png: a `while` loop in vectors.

    python examples/gallery/mandelbrot.py [--size 1024] [--target cpu|vulkan]

In a vector loop each lane leaves the `while` when its point has escaped; the vector goes on until all
have. NumPy has to iterate over whole images.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import common
import numpy as np

import kdsl
from kdsl import f32, i32

H, W = kdsl.sizes("H W")
LIMIT = 200


@kdsl.kernel
def mandelbrot(x0: f32, y0: f32, step: f32, counts: i32[H, W]):
    for i in range(H):
        for j in range(W):
            cr = x0 + step * j
            ci = y0 + step * i
            zr = f32(0)
            zi = f32(0)
            n = i32(0)
            while zr * zr + zi * zi <= 4.0 and n < LIMIT:
                t = zr * zr - zi * zi + cr
                zi = 2.0 * zr * zi + ci
                zr = t
                n += 1
            counts[i, j] = n


def on_cpu(s: kdsl.Schedule) -> kdsl.Schedule:
    return s.vectorize("j", 32).parallel("i")


def on_vulkan(s: kdsl.Schedule) -> kdsl.Schedule:
    return s.split("j", 64).bind("i", "grid.y").bind("j_o", "grid.x").bind("j_i", "block.x")


def by_numpy(x0, y0, step, h, w):
    """Escaped points leave the working set after each iteration."""
    j, i = np.meshgrid(np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32))
    c = (np.float32(x0) + np.float32(step) * j + 1j * (np.float32(y0) + np.float32(step) * i)).ravel()
    counts, where, z = np.zeros(h * w, np.int32), np.arange(h * w), np.zeros(h * w, np.complex64)
    for _ in range(LIMIT):
        inside = z.real * z.real + z.imag * z.imag <= 4
        where, z, c = where[inside], z[inside], c[inside]
        counts[where] += 1
        z = z * z + c
    return counts.reshape(h, w)


def png(path: Path, pixels: common.Array) -> None:
    """Writes u8[height, width, 3] as PNG: one zlib stream of rows, each behind the number 0 (no filter)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    h, w, _ = pixels.shape
    rows = np.pad(pixels.reshape(h, 3 * w), ((0, 0), (1, 0))).tobytes()
    header = struct.pack(">IIBBBBB", w, h, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)


def colours(counts: common.Array) -> common.Array:
    """Waves of three lengths; the set itself black."""
    t = np.sqrt(counts / LIMIT)[..., None]
    waves = 0.5 - 0.5 * np.cos(2 * np.pi * t * np.array([1.0, 1.6, 2.6]))
    return np.where(counts[..., None] == LIMIT, 0, 255 * waves).astype(np.uint8)


def main() -> None:
    options = common.options(__doc__, 1024, "columns of the picture")
    w, target = options.size, options.target
    h = max(1, 3 * w // 4)
    view = (-2.2, -1.2, 3.2 / w)
    (counts,) = common.there(target, np.empty((h, w), np.int32))
    kernel = mandelbrot.on(target)
    fast = kernel.with_schedule((on_cpu if target == "cpu" else on_vulkan)(kernel.schedule()))
    fast(*view, counts)
    found, expected = common.here(counts), by_numpy(*view, h, w)
    # Near the border of the set one rounding decides when a point escapes.
    if np.mean(found != expected) > 0.03:
        raise SystemExit(f"mandelbrot: {np.mean(found != expected):.1%} of the pixels differ")
    path = Path("mandelbrot.png")
    png(path, colours(found))
    print(f"wrote {path}: {w} x {h}")
    runs = {"NumPy": lambda: by_numpy(*view, h, w)}
    if target == "cpu":
        runs["kdsl as written"] = lambda: mandelbrot(*view, counts)
    common.race(target, options.repeat, {**runs, "kdsl": lambda: fast(*view, counts)})


if __name__ == "__main__":
    main()
