"""Cells of a plane that are nearly equally probable under a target, and the fractions of samples in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

from uldnum._util.typing import Array
from uldnum.diagnostics.jackknife import BATCHES, split

__all__ = ["Cells", "Plane", "plane_of_density", "plane_of_state", "shares"]

# Cells are divided while their probability is at least 2/FINE or they are longer than LONG bins, unless fewer than
# OCCUPIED independent samples are expected in a part. Without the length, cells would not resolve the tails. FIRST is
# the number of cells of the partition from which the number of independent samples is estimated.
FINE, LONG, OCCUPIED, FIRST = 256, 8, 10, 64

# Least probability of a cell, and least denominator of the number of independent samples.
LEAST = 1e-12

# Nodes of the Gauss-Legendre rule of a bin, on each axis.
NODES = 3


class Plane(NamedTuple):
    """Probabilities of the bins of a plane under a target.

    Attributes
    ----------
    edges : array, shape (2, n + 1)
        Equidistant edges of the bins of both axes. The outermost bins extend to infinity.
    mass : array, shape (n, n)
        Probabilities of the bins.
    """

    edges: Array
    mass: Array


class Cells(NamedTuple):
    """Fractions of samples in the cells of a plane.

    Attributes
    ----------
    P, Q : array, shape (cells,)
        Fractions of the samples, and probabilities under the target.
    noise : array, shape (B, cells)
        Contributions of B batches of chains to the deviations of P; they sum to 0.
    """

    P: Array
    Q: Array
    noise: Array


def plane_of_density(log_density: Callable[[Array], Array], edges: Array) -> Plane:
    """Return the plane of a density of two coordinates, by quadrature in each bin; ``log_density`` maps (n, 2) to (n,).

    The probability outside the edges is neglected.
    """
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    n, widths = edges.shape[1] - 1, np.diff(edges, axis=1)
    x, y = (edges[:, :-1, None] + widths[..., None] * (1 + nodes) / 2).reshape(2, -1)
    log = np.concatenate([log_density(np.stack([np.full_like(y, at), y], axis=1))[None] for at in x])
    density = np.exp(log - log.max()).reshape(n, NODES, n, NODES)
    mass = np.einsum("iajb,a,b->ij", density, weights, weights)
    return Plane(edges, mass / mass.sum())


def plane_of_state(cdf: Array, edges: Array, deviation: float) -> Plane:
    """Return the plane of x and p, given the cdf at the edges of x; p has a given standard deviation and is normal."""
    momenta = deviation * np.linspace(-8.0, 8.0, len(edges))
    mass = np.outer(np.diff(cdf), np.diff(ndtr(momenta / deviation)))
    return Plane(np.stack([edges, momenta]), mass / mass.sum())


def partition(mass: Array, least: float) -> Array:
    """Return the number of the cell of each bin; the cells are rectangles with probabilities of at least ``least``.

    The plane is divided into two parts of nearly equal probability along one axis, each part along the other axis, and
    so on. A part becomes a cell if it is small enough, or if a half would be too improbable along either axis.
    """
    labels, count = np.zeros(mass.shape, dtype=np.int64), 0
    parts = [(slice(0, mass.shape[0]), slice(0, mass.shape[1]), 0)]
    while parts:
        rows, columns, axis = parts.pop()
        for along in (axis, 1 - axis):
            below = mass[rows, columns].sum(axis=1 - along).cumsum()
            cut = int(np.argmin(np.abs(below - below[-1] / 2))) + 1
            whole = (rows, columns)[along]
            coarse = whole.stop - whole.start > LONG or below[-1] >= 2 / FINE
            if coarse and min(below[cut - 1], below[-1] - below[cut - 1]) >= least:
                halves = slice(whole.start, whole.start + cut), slice(whole.start + cut, whole.stop)
                parts += [(half, columns, 1) if along == 0 else (rows, half, 0) for half in halves]
                break
        else:
            labels[rows, columns] = count
            count += 1
    return labels


def shares(x: Array, plane: Plane) -> Cells:
    """Return the fractions of samples of shape (chains, 2) or (draws, chains, 2) in cells.

    The least probability of a cell is 10/N_e. The effective number of independent samples N_e is
    ``sum_k P_k (1 - P_k)/sum_k C_kk``, where C_kk are the variances of the P_k in a first partition.
    """
    low, widths, n = plane.edges[:, 0], np.diff(plane.edges[:, :2], axis=1)[:, 0], len(plane.mass)
    batches = split(x, BATCHES)
    bins = [np.clip(np.nan_to_num((batch - low) / widths), 0, n - 1).astype(np.int64) for batch in batches]
    sizes = np.array([len(batch) for batch in batches], dtype=float)[:, None]

    def cells(least: float) -> Cells:
        labels = partition(plane.mass, least)
        m = labels.max() + 1
        Q = np.bincount(labels.ravel(), plane.mass.ravel(), m)
        counts = np.array([np.bincount(labels[one[:, 0], one[:, 1]], minlength=m) for one in bins])
        P = counts.sum(axis=0) / sizes.sum()
        return Cells(P, Q, (counts - sizes * P) / sizes.sum())

    first = cells(1 / FIRST)
    if len(batches) < 2:
        return first
    variance = np.square(first.noise).sum() * len(batches) / (len(batches) - 1)
    return cells(max(OCCUPIED * variance / max((first.P * (1 - first.P)).sum(), LEAST), LEAST))
