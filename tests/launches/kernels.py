"""Bound loop nests in the text of the IR."""

MATMUL = """
def matmul(A: f32[M, K], B: f32[K, N], C: f32[M, N]):
    for i_o in bind(range((M + 3) // 4), "grid.y"):
        for j_o in bind(range((N + 3) // 4), "grid.x"):
            acc: f32[4, 4]
            for i in bind(range(4), "block.y"):
                for j in bind(range(4), "block.x"):
                    acc[i, j] = 0.0
            for k_o in range((K + 3) // 4):
                As: f32[4, 4] @ "shared"
                Bs: f32[4, 4] @ "shared"
                for i in bind(range(4), "block.y"):
                    for j in bind(range(4), "block.x"):
                        As[i, j] = A[4 * i_o + i, 4 * k_o + j] if 4 * i_o + i < M and 4 * k_o + j < K else 0.0
                        Bs[i, j] = B[4 * k_o + i, 4 * j_o + j] if 4 * k_o + i < K and 4 * j_o + j < N else 0.0
                for i in bind(range(4), "block.y"):
                    for j in bind(range(4), "block.x"):
                        for k in range(4):
                            acc[i, j] += As[i, k] * Bs[k, j]
            for i in bind(range(4), "block.y"):
                for j in bind(range(4), "block.x"):
                    if i_o * 4 + i < M and j_o * 4 + j < N:
                        C[i_o * 4 + i, j_o * 4 + j] = acc[i, j]
"""

REGISTERS = """
def matmul(A: f32[M, K], B: f32[K, N], C: f32[M, N]):
    for i_o in bind(range((M + 7) // 8), "grid.y"):
        for j_o in bind(range((N + 7) // 8), "grid.x"):
            acc: f32[8, 8]
            for i in bind(range(4), "block.y"):
                for j in bind(range(2), "block.x"):
                    for i_r in range(2):
                        for j_r in range(4):
                            acc[2 * i + i_r, j + 2 * j_r] = 0.0
            for k in range(K):
                As: f32[8] @ "shared"
                Bs: f32[8] @ "shared"
                for i in bind(range(8), "block.x"):
                    if i_o * 8 + i < M:
                        As[i] = A[i_o * 8 + i, k]
                for j in range(8):
                    if j_o * 8 + j < N:
                        Bs[j] = B[k, j_o * 8 + j]
                for i in bind(range(4), "block.y"):
                    for j in bind(range(2), "block.x"):
                        for i_r in range(2):
                            for j_r in range(4):
                                if i_o * 8 + 2 * i + i_r < M and j_o * 8 + j + 2 * j_r < N:
                                    acc[2 * i + i_r, j + 2 * j_r] += As[2 * i + i_r] * Bs[j + 2 * j_r]
            for i in bind(range(4), "block.y"):
                for j in bind(range(2), "block.x"):
                    for i_r in range(2):
                        for r in range(4):
                            if 8 * i_o + 2 * i + i_r < M and 8 * j_o + j + 2 * r < N:
                                C[8 * i_o + 2 * i + i_r, 8 * j_o + j + 2 * r] = acc[2 * i + i_r, j + 2 * r]
"""

BLUR = """
def blur(X: f32[H + 2, W], Y: f32[H, W], Z: f32[H, W]):
    for y in bind(range((H + 3) // 4), "grid.y"):
        for x in bind(range((W + 3) // 4), "grid.x"):
            T: f32[6, 4] @ "shared"
            for b in bind(range(6), "block.y"):
                for a in bind(range(4), "block.x"):
                    if y * 4 + b < H + 2 and x * 4 + a < W:
                        T[b, a] = 2.0 * X[y * 4 + b, x * 4 + a]
            for b in bind(range(4), "block.y"):
                for a in bind(range(4), "block.x"):
                    if y * 4 + b < H and x * 4 + a < W:
                        Y[y * 4 + b, x * 4 + a] = T[b, a] + T[b + 1, a] + T[b + 2, a]
            for b in bind(range(4), "block.y"):
                for a in bind(range(4), "block.x"):
                    if y * 4 + b < H and x * 4 + a < W:
                        Z[y * 4 + b, x * 4 + a] = Y[y * 4 + b, x * 4 + a] + 1.0
"""

REDUCTION = """
def total(X: i64[N], Y: i64[1]):
    part: i64[4, 8]
    for g in bind(range(4), "grid.x"):
        for t in bind(range(8), "block.x"):
            part[g, t] = 0
            for i in range(g * 8 + t, N, 32):
                part[g, t] += X[i]
    s: i64
    s = 0
    for g in range(4):
        for t in range(8):
            s += part[g, t]
    Y[0] = s
"""

ROWS = """
def rows(X: i64[M, N], Y: i64[M, N], S: i64[M]):
    for i in bind(range(M), "grid.x"):
        part: i64[8]
        for t in bind(range(8), "block.x"):
            part[t] = 0
            for j in range(t, N, 8):
                part[t] += X[i, j]
        s: i64
        s = 0
        for t in range(8):
            s += part[t]
        S[i] = s
        for t in bind(range(8), "block.x"):
            for j in range(t, N, 8):
                Y[i, j] = X[i, j] - s
"""

TREE = """
def tree(X: i64[N], Y: i64[(N)]):
    for g in bind(range((N + 7) // 8), "grid.x"):
        T: i64[8] @ "shared"
        for t in bind(range(8), "block.x"):
            T[t] = X[g * 8 + t] if g * 8 + t < N else 0
        for r in range(3):
            U: i64[8] @ "shared"
            for t in bind(range(8), "block.x"):
                U[t] = T[t]
            for t in bind(range(8), "block.x"):
                if t >= (1 << r):
                    T[t] = U[t] + U[t - (1 << r)]
        for t in bind(range(8), "block.x"):
            if g * 8 + t < N:
                Y[g * 8 + t] = T[t]
"""

JACOBI = """
def jacobi(A: f32[N], T: i64):
    P: f32[N]
    for t in range(T):
        for i_o in bind(range((N + 3) // 4), "grid.x"):
            for i in bind(range(4), "block.x"):
                if 0 < i_o * 4 + i and i_o * 4 + i < N - 1:
                    P[i_o * 4 + i] = A[i_o * 4 + i - 1] + A[i_o * 4 + i + 1]
        for i in bind(range(1, N - 1, 2), "grid.x"):
            A[i] = P[i]
        for i in bind(range(N - 3, 0, -2), "grid.x"):
            if i % 2 == 0:
                A[i] = P[i] + f32(t)
"""

TRIANGLE = """
def triangle(A: i64[N, N]):
    for i in bind(range(N), "grid.x"):
        for j in bind(range(i, N), "grid.y"):
            A[j, i] = A[j, i] + 2 * i + j
"""

BETWEEN = """
def between(X: i64[M], Y: i64[M, N], Z: i64[M]):
    for i in bind(range(M), "grid.x"):
        x: i64
        x = X[i] * 3
        for j in bind(range(N), "grid.y"):
            Y[i, j] = x + j
        if i > 1:
            Z[i] = Y[i, 0] if N > 0 else x
        else:
            for j in bind(range(0, N, 2), "grid.y"):
                Y[i, j] = Y[i, j] * 2
"""

IMPERFECT = """
def imperfect(X: i64[M, 6], Y: i64[M, 6], Z: i64[M, 6]):
    for i in bind(range(M), "grid.x"):
        for a in bind(range(6), "block.x"):
            x: i64
            x = X[i, a]
            for b in bind(range(3), "block.y"):
                if b == a % 3:
                    Y[i, a] += x
            for k in range(2):
                y: i64
                y = x * k
                for b in bind(range(2), "block.y"):
                    if a == b:
                        Z[i, 2 * a + k] = y + Y[i, a]
"""

SCALARS = """
def scalars(X: i64[N], Y: i64[N], k: i32, z: f32):
    n: i64
    n = N // 2
    m: i64
    m = n + i64(k)
    s: i64
    s = 0
    for i in range(n):
        s += X[i]
    if z > 0.5:
        for i in bind(range(min(m, N)), "grid.x"):
            Y[i] = X[i] * s
    t: i64
    t = s + 1
    for i in bind(range(n), "grid.x"):
        Y[i] += t
"""

SCRATCH = """
def scratch(X: i64[M, N], Y: i64[M, N]):
    for i in bind(range(M), "grid.x"):
        for a in bind(range(4), "block.x"):
            T: i64[N]
            for j in range(N):
                T[j] = X[i, j] * a
            if a == 3:
                for j in range(N):
                    Y[i, j] = T[N - 1 - j]
"""

GROUP_SCRATCH = """
def group_scratch(X: i64[M, N], Y: i64[M, N]):
    for i in bind(range(M), "grid.x"):
        T: i64[N]
        for a in bind(range(4), "block.x"):
            for j in range(a, N, 4):
                T[j] = X[i, j] + a
        for a in bind(range(4), "block.x"):
            for j in range(a, N, 4):
                Y[i, j] = T[N - 1 - j]
"""

DEVICE = """
def device(X: i64[N, 8], Y: i64[N, 8]):
    for i in bind(range(N), "grid.x"):
        for a in bind(range(8), "block.x"):
            Y[i, a] = X[i, a]
        for r in range(3):
            for a in bind(range(4), "block.x"):
                Y[i, a] = Y[i, a] + Y[i, a + 4]
            for a in bind(range(4), "block.x"):
                Y[i, a + 4] = Y[i, 3 - a]
"""

ATOMIC = """
def atomic(X: i32[N], H: i32[4], C: i32[1], R: i32[N]):
    for g in bind(range((N + 7) // 8), "grid.x"):
        S: i32[4] @ "shared"
        for a in bind(range(4), "block.x"):
            S[a] = 0
        for a in bind(range(8), "block.x"):
            if g * 8 + a < N:
                atomic_add(S, i64(X[g * 8 + a]) % 4, 1)
        for a in bind(range(4), "block.x"):
            atomic_add(H, a, S[a])
        base: i32
        base = atomic_add(C, 0, 8)
        for a in bind(range(8), "block.x"):
            if g * 8 + a < N:
                R[g * 8 + a] = base - base + X[g * 8 + a]
"""

CHOSEN = """
def chosen(X: i64[M, 8], Y: i64[M, N], Z: i64[M, 8]):
    for i in bind(range(M), "grid.x"):
        if X[i, 0] > 1:
            for j in bind(range(N), "grid.y"):
                Y[i, j] = j
            X[i, 0] = 0
        else:
            for a in bind(range(4), "block.x"):
                if X[i, a] > 0:
                    for b in bind(range(2), "block.y"):
                        Z[i, 2 * a + b] = X[i, 4 + a] + b
                    X[i, a] = -1
                else:
                    X[i, a] = 7
"""

DOUBLE = """
def double(X: i64[M, N, 8], Y: i64[M, 8]):
    for i in bind(range(M), "grid.x"):
        T: i64[2, 8] @ "shared"
        for a in bind(range(8), "block.x"):
            T[0, a] = X[i, 0, a] if N > 0 else 0
        for k in range(N):
            for a in bind(range(8), "block.x"):
                if k + 1 < N:
                    T[(k + 1) % 2, a] = X[i, k + 1, a]
            for a in bind(range(8), "block.x"):
                Y[i, a] += T[k % 2, 7 - a]
"""

HALO = """
def halo(X: i64[N + 4], Y: i64[N]):
    for g in bind(range((N + 7) // 8), "grid.x"):
        T: i64[3, 4] @ "shared"
        for r in range(2):
            for a in bind(range(8), "block.x"):
                if 8 * r + a < 12 and 8 * g + 8 * r + a < N + 4:
                    T[(8 * r + a) // 4, (8 * r + a) % 4] = X[8 * g + 8 * r + a]
        for a in bind(range(8), "block.x"):
            if 8 * g + a < N:
                Y[8 * g + a] = T[a // 4, a % 4] + T[(a + 4) // 4, (a + 4) % 4]
"""

WAVES = """
def waves(A: i64[N, N], B: i64[N], C: i64[N, N]):
    for l in range(1, N):
        T: i64[N]
        for m in bind(range(max(N - l - 1, 0), N), "grid.x"):
            x: i64
            x = A[m, l] + l
            for a in bind(range(2), "block.x"):
                V: i64[N]
                for k in range(N):
                    V[k] = C[k, m] * a
                if a == 1:
                    A[m, l] = V[l] + x
            for j in bind(range(m, N), "grid.y"):
                if m == j:
                    B[j] += x
"""

LEAVING = """
def leaving(X: i64[M, 8], Y: i64[M, 8], Z: i64[M, 8]):
    for i in bind(range(M), "grid.x"):
        T: i64[8] @ "shared"
        n: i64
        n = 0
        while n < 3:
            for a in bind(range(8), "block.x"):
                T[a] = X[i, a] + n
            for a in bind(range(8), "block.x"):
                Y[i, a] += T[7 - a]
            n += X[i, 0] % 2 + 1
        for k in range(4):
            if X[i, 1] == k:
                continue
            for a in bind(range(8), "block.x"):
                T[a] = Z[i, a] + k
            if X[i, 2] == k:
                break
            for a in bind(range(8), "block.x"):
                Z[i, a] += T[7 - a]
        m: i64
        m = T[3] if X[i, 1] != 0 or X[i, 2] == 3 else n
        while T[0] + m > 20 and m > 0:
            for a in bind(range(8), "block.x"):
                T[a] = T[a] - a
            m = m - 1
"""

SEARCH = """
def search(X: i64[N], Y: i64[N], F: i64[2]):
    F[0] = 3
    while F[0] > 0:
        for i_o in bind(range((N + 3) // 4), "grid.x"):
            for i in bind(range(4), "block.x"):
                if 4 * i_o + i < N:
                    Y[4 * i_o + i] += X[4 * i_o + i] + F[0]
        F[0] = F[0] - 1
    for i_o in bind(range((N + 3) // 4), "grid.x"):
        for i in bind(range(4), "block.x"):
            if 4 * i_o + i < N:
                X[4 * i_o + i] = Y[4 * i_o + i]
"""

ALL = {
    name: text
    for name, text in list(globals().items())
    if name.isupper() and isinstance(text, str) and name != "ALL"
}
