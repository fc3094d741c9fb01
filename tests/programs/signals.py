"""Signals and images: FFT, convolution, blur, resize, prefix sums, Mandelbrot, Game of Life."""

import math

import numpy as np
import scipy.ndimage
import scipy.signal

import kdsl
from kdsl import bool_, f32, f64, i32, i64, u8
from tests.check import Program

N, M, H, W, KH, KW, C, F = kdsl.sizes("N M H W KH KW C F")


@kdsl.kernel
def fft(re: f64[N], im: f64[N]):
    """Radix-2, in place; N is a power of two."""
    assert N & (N - 1) == 0, "the length must be a power of two"
    j = 0
    for i in range(1, N):
        bit = N >> 1
        while j & bit:
            j ^= bit
            bit >>= 1
        j |= bit
        if i < j:
            re[i], re[j] = re[j], re[i]
            im[i], im[j] = im[j], im[i]
    half = 1
    while half < N:
        for start in range(0, N, 2 * half):
            for k in range(half):
                angle = -math.pi * k / half
                wr = kdsl.cos(angle)
                wi = kdsl.sin(angle)
                a = start + k
                b = a + half
                tr = re[b] * wr - im[b] * wi
                ti = re[b] * wi + im[b] * wr
                re[b] = re[a] - tr
                im[b] = im[a] - ti
                re[a] += tr
                im[a] += ti
        half *= 2


def fft_oracle(re, im):
    spectrum = np.fft.fft(re + 1j * im)
    re[:], im[:] = spectrum.real, spectrum.imag


@kdsl.kernel
def dft_pairs(x: f64[N, 2], y: f64[N, 2]):
    """Complex numbers as pairs: the plain sum."""
    for k in range(N):
        sum_re, sum_im = 0.0, 0.0
        for n in range(N):
            angle = -2.0 * math.pi * ((k * n) % N) / N
            c, s = math.cos(angle), math.sin(angle)
            sum_re += x[n, 0] * c - x[n, 1] * s
            sum_im += x[n, 0] * s + x[n, 1] * c
        y[k, 0] = sum_re
        y[k, 1] = sum_im


def dft_oracle(x, y):
    if len(x):
        y[:] = np.fft.fft(x.view(np.complex128)[:, 0])[:, None].view(np.float64)


@kdsl.kernel
def conv2d(x: f32[C, H + KH - 1, W + KW - 1], w: f32[F, C, KH, KW], bias: f32[F], y: f32[F, H, W]):
    for f in range(F):
        for i in range(H):
            for j in range(W):
                acc = bias[f]
                for c in range(C):
                    for ki in range(KH):
                        for kj in range(KW):
                            acc += x[c, i + ki, j + kj] * w[f, c, ki, kj]
                y[f, i, j] = max(acc, 0)


def conv2d_oracle(x, w, bias, y):
    windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], axis=(1, 2))
    y[:] = np.maximum(np.einsum("chwij,fcij->fhw", windows, w) + bias[:, None, None], 0)


@kdsl.kernel
def blur(src: f32[H + 2, W + 2], dst: f32[H, W]):
    """3 x 3 box in two passes, the rows kept in a local array."""
    rows = kdsl.empty((H + 2, W), f32)
    for y, x in kdsl.grid(H + 2, W):
        rows[y, x] = (src[y, x] + src[y, x + 1] + src[y, x + 2]) / 3
    for y, x in kdsl.grid(H, W):
        dst[y, x] = (rows[y, x] + rows[y + 1, x] + rows[y + 2, x]) / 3


def blur_oracle(src, dst):
    if dst.size:
        dst[:] = scipy.signal.convolve2d(src, np.full((3, 3), 1 / 9, np.float32), "valid")


@kdsl.kernel
def blur_bytes(src: u8[H, W], dst: u8[H, W]):
    """5-point average of bytes with rounding; the border is repeated."""
    for y in range(H):
        for x in range(W):
            up = src[max(y - 1, 0), x]
            down = src[min(y + 1, H - 1), x]
            left = src[y, max(x - 1, 0)]
            right = src[y, min(x + 1, W - 1)]
            total = i32(up) + down + left + right + 4 * i32(src[y, x])
            dst[y, x] = (total + 4) >> 3


def blur_bytes_oracle(src, dst):
    if src.size:
        kernel = np.array([[0, 1, 0], [1, 4, 1], [0, 1, 0]])
        dst[:] = (scipy.ndimage.convolve(src.astype(np.int64), kernel, mode="nearest") + 4) // 8


@kdsl.kernel
def resize_bilinear(src: f32[H, W], dst: f32[M, N]):
    for y in range(M):
        fy = y * (H - 1) / max(M - 1, 1)
        y0 = i64(kdsl.floor(fy))
        y1 = min(y0 + 1, H - 1)
        ty = f32(fy - y0)
        for x in range(N):
            fx = x * (W - 1) / max(N - 1, 1)
            x0 = i64(kdsl.floor(fx))
            x1 = min(x0 + 1, W - 1)
            tx = f32(fx - x0)
            top = src[y0, x0] * (1 - tx) + src[y0, x1] * tx
            bottom = src[y1, x0] * (1 - tx) + src[y1, x1] * tx
            dst[y, x] = top * (1 - ty) + bottom * ty


def resize_oracle(src, dst):
    rows = np.linspace(0, src.shape[0] - 1, dst.shape[0]) if dst.shape[0] > 1 else np.zeros(1)
    columns = np.linspace(0, src.shape[1] - 1, dst.shape[1]) if dst.shape[1] > 1 else np.zeros(1)
    at = np.meshgrid(rows, columns, indexing="ij")
    dst[:] = scipy.ndimage.map_coordinates(src.astype(np.float64), at, order=1)


@kdsl.kernel
def prefix_sum(x: i32[N], out: i32[N]) -> i32:
    running = i32(0)
    for i in range(N):
        running += x[i]
        out[i] = running
    return running


def prefix_sum_oracle(x, out):
    out[:] = np.cumsum(x, dtype=np.int32)
    return np.int32(x.sum(dtype=np.int32))


@kdsl.kernel
def integral_image(x: u8[H, W], out: i64[H + 1, W + 1]):
    for i in range(H + 1):
        out[i, 0] = 0
    for j in range(W + 1):
        out[0, j] = 0
    for i in range(H):
        for j in range(W):
            out[i + 1, j + 1] = x[i, j] + out[i, j + 1] + out[i + 1, j] - out[i, j]


def integral_image_oracle(x, out):
    out[:] = np.pad(np.cumsum(np.cumsum(x, axis=0, dtype=np.int64), axis=1), ((1, 0), (1, 0)))


@kdsl.kernel
def mandelbrot(x0: f64, x1: f64, y0: f64, y1: f64, limit: i32, counts: i32[H, W]):
    for i in range(H):
        for j in range(W):
            cr = x0 + (x1 - x0) * j / W
            ci = y0 + (y1 - y0) * i / H
            zr = 0.0
            zi = 0.0
            n = 0
            while zr * zr + zi * zi <= 4.0 and n < limit:
                zr, zi = zr * zr - zi * zi + cr, 2.0 * zr * zi + ci
                n += 1
            counts[i, j] = n


def mandelbrot_oracle(x0, x1, y0, y1, limit, counts):
    h, w = counts.shape
    if not counts.size:
        return
    c = (x0 + (x1 - x0) * np.arange(w) / w) + 1j * (y0 + (y1 - y0) * np.arange(h) / h)[:, None]
    z = np.zeros_like(c)
    counts[:] = 0
    for _ in range(limit):
        inside = z.real * z.real + z.imag * z.imag <= 4
        counts[inside] += 1
        z = np.where(inside, z * z + c, z)


@kdsl.kernel
def life(old: bool_[H, W], new: bool_[H, W]):
    """One generation on a torus."""
    for i in range(H):
        for j in range(W):
            n = 0
            for di in range(-1, 2):
                for dj in range(-1, 2):
                    if (di != 0 or dj != 0) and old[(i + di) % H, (j + dj) % W]:
                        n += 1
            new[i, j] = n == 3 or (old[i, j] and n == 2)


def life_oracle(old, new):
    shifts = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if (a, b) != (0, 0)]
    n = sum(np.roll(old, s, axis=(0, 1)).astype(int) for s in shifts)
    new[:] = (n == 3) | (old & (n == 2))


@kdsl.kernel
def life_bytes(cells: u8[H, W], generations: i32):
    """In place, through a local copy, with dead borders."""
    for g in range(generations):
        old = kdsl.zeros((H + 2, W + 2), u8)
        for i, j in kdsl.grid(H, W):
            old[i + 1, j + 1] = cells[i, j]
        for i, j in kdsl.grid(H, W):
            n = old[i, j] + old[i, j + 1] + old[i, j + 2] + old[i + 1, j]
            n += old[i + 1, j + 2] + old[i + 2, j] + old[i + 2, j + 1] + old[i + 2, j + 2]
            if n == 3:
                cells[i, j] = 1
            elif n != 2:
                cells[i, j] = 0


def life_bytes_oracle(cells, generations):
    ring = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]])
    for _ in range(generations if cells.size else 0):
        n = scipy.signal.convolve2d(cells, ring, "same")
        cells[:] = (n == 3) | ((n == 2) & (cells == 1))


@kdsl.kernel
def sobel(src: f32[H + 2, W + 2]) -> f32[H, W]:
    out = kdsl.empty((H, W), f32)
    for i, j in kdsl.grid(H, W):
        gx = 0.0
        gy = 0.0
        for k in kdsl.static_range(3):
            weight = 2 - abs(k - 1)
            gx += weight * (src[i + k, j + 2] - src[i + k, j])
            gy += weight * (src[i + 2, j + k] - src[i, j + k])
        out[i, j] = kdsl.sqrt(gx * gx + gy * gy)
    return out


def sobel_oracle(src):
    inner = src[1:-1, 1:-1].shape
    if 0 in inner:
        return np.empty(inner, np.float32)
    gx = scipy.ndimage.sobel(src, axis=1)[1:-1, 1:-1]
    gy = scipy.ndimage.sobel(src, axis=0)[1:-1, 1:-1]
    return np.hypot(gx, gy)


IMAGE = [(5, 7), (1, 1), (0, 3), (4, 0), (11, 13)]

PROGRAMS = [
    Program(fft, fft_oracle, lambda d, n: (d.f64(n), d.f64(n)), [(8,), (1,), (2,), (64,)]),
    Program(
        dft_pairs, dft_oracle, lambda d, n: (d.f64(n, 2), d.f64(n, 2)), [(7,), (1,), (0,), (20,)], terms=4
    ),
    Program(
        conv2d,
        conv2d_oracle,
        lambda d, f, c, h, w, kh, kw: (
            d.f32(c, h + kh - 1, w + kw - 1),
            d.f32(f, c, kh, kw),
            d.f32(f),
            d.f32(f, h, w),
        ),
        [(2, 3, 4, 5, 3, 3), (1, 1, 1, 1, 1, 1), (1, 0, 2, 2, 1, 1), (2, 2, 5, 3, 2, 1)],
    ),
    Program(blur, blur_oracle, lambda d, h, w: (d.f32(h + 2, w + 2), d.f32(h, w)), IMAGE),
    Program(
        blur_bytes,
        blur_bytes_oracle,
        lambda d, h, w: (d.ints(0, 256, h, w, dtype=np.uint8), np.zeros((h, w), np.uint8)),
        IMAGE,
    ),
    Program(
        resize_bilinear,
        resize_oracle,
        lambda d, h, w, m, n: (d.f32(h, w), d.f32(m, n)),
        [(3, 4, 5, 7), (1, 1, 3, 2), (5, 3, 1, 1), (4, 4, 4, 4), (7, 5, 2, 3)],
    ),
    Program(
        prefix_sum,
        prefix_sum_oracle,
        lambda d, n: (d.ints(-(2**31), 2**31, n, dtype=np.int32), np.zeros(n, np.int32)),
        [(0,), (1,), (37,)],
    ),
    Program(
        integral_image,
        integral_image_oracle,
        lambda d, h, w: (d.ints(0, 256, h, w, dtype=np.uint8), d.ints(0, 9, h + 1, w + 1)),
        IMAGE,
    ),
    Program(
        mandelbrot,
        mandelbrot_oracle,
        # Away from the boundary of the set: near it one rounding changes a count.
        lambda d, h, w: (-2.03, 0.61, -1.13, 1.17, 30, np.zeros((h, w), np.int32)),
        [(7, 11), (1, 1), (0, 3)],
    ),
    Program(
        life,
        life_oracle,
        lambda d, h, w: (d.f64(h, w) > 0, np.zeros((h, w), bool)),
        [(5, 7), (1, 1), (2, 2), (3, 0), (11, 13)],
    ),
    Program(
        life_bytes,
        life_bytes_oracle,
        lambda d, h, w: (d.ints(0, 2, h, w, dtype=np.uint8), 3),
        IMAGE,
    ),
    Program(sobel, sobel_oracle, lambda d, h, w: (d.f32(h + 2, w + 2),), IMAGE),
]
