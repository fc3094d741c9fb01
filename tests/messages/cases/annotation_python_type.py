import kdsl


@kdsl.kernel
def kernel(A: list, n: int):
    A[0] = n
