"""datamining: correlation, covariance."""

import numpy as np

import kdsl
from kdsl import f64
from tests.check import Program

M, N = kdsl.sizes("M N")


@kdsl.kernel
def correlation(float_n: f64, data: f64[N, M], corr: f64[M, M], mean: f64[M], stddev: f64[M]):
    eps = 0.1
    for j in range(M):
        mean[j] = 0.0
        for i in range(N):
            mean[j] += data[i, j]
        mean[j] /= float_n
    for j in range(M):
        stddev[j] = 0.0
        for i in range(N):
            stddev[j] += (data[i, j] - mean[j]) * (data[i, j] - mean[j])
        stddev[j] /= float_n
        stddev[j] = kdsl.sqrt(stddev[j])
        stddev[j] = 1.0 if stddev[j] <= eps else stddev[j]
    for i in range(N):
        for j in range(M):
            data[i, j] -= mean[j]
            data[i, j] /= kdsl.sqrt(float_n) * stddev[j]
    for i in range(M - 1):
        corr[i, i] = 1.0
        for j in range(i + 1, M):
            corr[i, j] = 0.0
            for k in range(N):
                corr[i, j] += data[k, i] * data[k, j]
            corr[j, i] = corr[i, j]
    corr[M - 1, M - 1] = 1.0


def correlation_oracle(float_n, data, corr, mean, stddev):
    corr[:] = np.corrcoef(data, rowvar=False)
    np.fill_diagonal(corr, 1.0)
    mean[:] = data.mean(axis=0)
    stddev[:] = data.std(axis=0)
    data[:] = (data - mean) / (np.sqrt(float_n) * stddev)


@kdsl.kernel
def covariance(float_n: f64, data: f64[N, M], cov: f64[M, M], mean: f64[M]):
    for j in range(M):
        mean[j] = 0.0
        for i in range(N):
            mean[j] += data[i, j]
        mean[j] /= float_n
    for i in range(N):
        for j in range(M):
            data[i, j] -= mean[j]
    for i in range(M):
        for j in range(i, M):
            cov[i, j] = 0.0
            for k in range(N):
                cov[i, j] += data[k, i] * data[k, j]
            cov[i, j] /= float_n - 1.0
            cov[j, i] = cov[i, j]


def covariance_oracle(float_n, data, cov, mean):
    cov[:] = np.cov(data, rowvar=False)
    mean[:] = data.mean(axis=0)
    data -= mean


SIZES = [(5, 7), (2, 5), (11, 13), (3, 31)]

PROGRAMS = [
    # Data wide enough that no column's deviation falls under the kernel's 0.1.
    Program(
        correlation,
        correlation_oracle,
        lambda d, m, n: (float(n), 10 * d.f64(n, m), d.f64(m, m), d.f64(m), d.f64(m)),
        SIZES,
    ),
    Program(
        covariance,
        covariance_oracle,
        lambda d, m, n: (float(n), d.f64(n, m), d.f64(m, m), d.f64(m)),
        SIZES,
    ),
]
