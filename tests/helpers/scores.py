"""Functions of users: scores of one position with dimensions, arguments, and how a CPU calls them; log densities."""

import math

import numba
import numpy as np


@numba.njit
def rosenbrock(x, out, a, b):
    for i in range(len(x)):
        out[i] = 0.0
    for i in range(x.size - 1):
        slope = x[i + 1] - x[i] ** 2
        out[i] += 2 * b * slope * x[i] + 2 * a * (1 - x[i])
        out[i + 1] -= b * slope


@numba.njit
def rosenbrock_density(x, a, b):
    total = 0.0
    for i in range(len(x) - 1):
        total -= b * (x[i + 1] - x[i] ** 2) ** 2 / 2 + a * (1 - x[i]) ** 2
    return total


@numba.njit
def quartic_and_density(x, out):
    total = 0.0
    for i in range(len(x)):
        out[i] = -(x[i] ** 3)
        total -= np.exp(4 * np.log(np.abs(x[i]) + 1e-300)) / 4
        x[i] = 0.0  # a function may write to its argument
    return total


@numba.njit
def two_modes(x, out, means, logs):
    first = second = 0.0
    for i in range(x.shape[0]):
        first += (means[0, i] - x[i]) ** 2
        second += (means[1, i] - x[i]) ** 2
    first, second = logs[0] - first / 2, logs[1] - second / 2
    top = max(first, second)
    u, v = math.exp(first - top), np.exp(second - top)
    for i in range(x.shape[0]):
        out[i] = (u * (means[0, i] - x[i]) + v * (means[1, i] - x[i])) / (u + v)


@numba.njit
def everything(x, out):
    y = x[-1]
    out[0] = (
        -y
        - math.tanh(y)
        - 0.1 * math.sin(3 * y)
        + 0.1 * np.cos(y)
        + 0.01 * abs(y)
        - np.where(y > 1, 0.5 * y, 0.0)
        - 0.1 * min(y, 3.0)
        + 0.1 * np.log(1 + y * y)
        - 0.1 * np.sqrt(np.abs(y))
        + 0.1 * (2 + y * y) ** -1
        - 0.01 * np.maximum(y, 0.1) * np.tanh(y)
    )


@numba.njit
def branching(x, out, limit):
    for i in range(len(x)):
        if abs(x[i]) > limit:
            out[i] = np.nan
        else:
            out[i] = -x[i] if x[i] > 0 else -2 * x[i]


@numba.njit
def listing(x, out):
    terms = [x[0], 2 * x[0]]
    for term in terms:
        out[0] = -term


@numba.njit
def scribbling(x, out):
    x[0] = 2 * x[0]
    out[0] = -x[0]


@numba.njit
def counting_conditions(x, out):
    out[0] = -x[0] * ((x[0] > -0.5) + (x[0] > 0.5) + 1)


@numba.njit(cache=False, fastmath=True, parallel=False)
def powers_in_place(x, out):
    y = x[0] * 1.0
    y **= 3
    out[0] = -y


LIFTED = [
    (listing, 1, (), "on vectors"),
    (scribbling, 1, (), "called chain by chain"),
    (counting_conditions, 1, (), "called chain by chain"),
    (powers_in_place, 1, (), "on vectors"),
    (rosenbrock, 4, (1.0, 5.0), "on vectors"),
    (two_modes, 2, (np.array([[1.5, 0.0], [-1.5, 0.5]]), np.log([0.7, 0.3])), "on vectors"),
    (everything, 1, (), "on vectors"),
    (branching, 3, (np.inf,), "called chain by chain because it does not run on vectors: "),
]

# Scores with their log densities, or None if the score returns it, dimensions and arguments.
WITH_DENSITY = [
    (rosenbrock, rosenbrock_density, 4, (1.0, 5.0)),
    (rosenbrock, rosenbrock_density, 9, (1.0, 5.0)),
    (quartic_and_density, None, 3, ()),
]
