"""Preset targets, which `uldnum.target` returns by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from uldnum._util.typing import Array
from uldnum.arithmetic.elementary import cos, exp, geomspace, log1p, sin
from uldnum.targets.mixture import GaussianMixture
from uldnum.targets.user import UserTarget, quadrature_target

__all__ = ["PRESETS", "TargetPreset"]


class TargetPreset(NamedTuple):
    """Entry of the table of preset targets.

    Attributes
    ----------
    make : callable
        Function without arguments that returns the target.
    source : str
        One-line description, with a reference where the target is from the literature.

    Examples
    --------
    >>> from uldnum.targets import PRESETS
    >>> PRESETS["gaussian"].make().shape
    (1,)
    """

    make: Callable[[], GaussianMixture | UserTarget]
    source: str


def gaussian() -> GaussianMixture:
    """Return N(0, 1)."""
    return GaussianMixture([1.0], [[0.0]], [1.0], name="gaussian")


def bimodal_1d() -> GaussianMixture:
    """Return 0.7 N(1.5, 1) + 0.3 N(-1.5, 1)."""
    return GaussianMixture([0.7, 0.3], [[1.5], [-1.5]], [1.0, 1.0], name="bimodal-1d")


def equal(means: Array, variance: float, name: str) -> GaussianMixture:
    """Return a mixture of isotropic components with equal weights and one variance."""
    return GaussianMixture(np.full(len(means), 1 / len(means)), means, np.full(len(means), variance), name=name)


def ring_8() -> GaussianMixture:
    """Return eight components of variance 0.25 on a circle of radius 2."""
    angle = np.arange(8) * np.pi / 4
    return equal(2 * np.stack([cos(angle), sin(angle)], axis=1), 0.25, "ring-8")


def grid_25() -> GaussianMixture:
    """Return 25 components of variance 0.25 on a square grid of spacing 2."""
    ticks = np.linspace(-4, 4, 5)
    return equal(np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(25, 2), 0.25, "grid-25")


def gmm_40() -> GaussianMixture:
    """Return 40 components of standard deviation softplus(1), with means that are uniform in a square of side 80.

    The target is that of Midgley et al. 2023 (FAB), sec. 4.1. The means are the float32 numbers of
    ``torch.manual_seed(0); (torch.rand(40, 2) - 0.5) * 80``, which PyTorch computes from the low 24 bits of each 32-bit
    word of the same Mersenne Twister.
    """
    twister = np.random.MT19937()
    twister._legacy_seeding(0)
    uniform = (twister.random_raw(80) & 0xFFFFFF) / 2**24
    return equal(80 * (uniform.reshape(40, 2) - 0.5), np.square(1 + log1p(exp(-1.0))), "gmm-40")


def ill_conditioned() -> GaussianMixture:
    """Return a Gaussian in 50 dimensions with variances from 0.01 to 100 in geometric progression.

    The covariance is diagonal. All integrators commute with rotations, so a rotation would only change the cost.
    """
    return GaussianMixture([1.0], [np.zeros(50)], [geomspace(0.01, 100, 50)], name="ill-conditioned")


def high_dim() -> GaussianMixture:
    """Return eight unit Gaussians in 64 dimensions with orthogonal means at distance 5.7 from each other.

    The means are half of eight rows of a Hadamard matrix.
    """
    hadamard = np.ones((1, 1))
    while len(hadamard) < 64:
        hadamard = np.block([[hadamard, hadamard], [hadamard, -hadamard]])
    return equal(hadamard[1:9] / 2, 1.0, "high-dim")


@cache
def quartic_score() -> Any:
    """Return the score of the double well; the function is cached, so that its kernels are compiled only once."""
    import numba

    @numba.njit
    def score(x, out):  # type: ignore[no-untyped-def]
        out[0] = -8 * x[0] * (x[0] * x[0] - 1)

    return score


def double_well() -> UserTarget:
    """Return the density proportional to ``exp(-2 (x^2 - 1)^2)``, with moments by quadrature."""
    return quadrature_target(quartic_score(), quartic, -4.0, 4.0, "double-well")


def quartic(x: Array) -> Array:
    """Return the log density of the double well up to a constant, (n,) -> (n,)."""
    return -2 * np.square(np.square(x) - 1)


PRESETS = {
    "gaussian": TargetPreset(gaussian, "N(0, 1): every integrator's bias is known exactly"),
    "bimodal-1d": TargetPreset(bimodal_1d, "0.7 N(1.5, 1) + 0.3 N(-1.5, 1): two overlapping modes of unequal weight"),
    "ring-8": TargetPreset(ring_8, "8 equal Gaussians of variance 0.25 on a circle of radius 2"),
    "grid-25": TargetPreset(grid_25, "25 equal Gaussians of variance 0.25 on a square grid of spacing 2"),
    "gmm-40": TargetPreset(
        gmm_40, "40 Gaussians in the square of side 80: Midgley et al. 2023 (FAB), sec. 4.1, torch seed 0"
    ),
    "ill-conditioned": TargetPreset(ill_conditioned, "a Gaussian in 50 dimensions, condition number 1e4"),
    "high-dim": TargetPreset(high_dim, "8 equal unit Gaussians in 64 dimensions, 5.7 apart"),
    "double-well": TargetPreset(
        double_well, "exp(-2 (x^2 - 1)^2): double well, not a mixture; its score is a compiled function"
    ),
}
