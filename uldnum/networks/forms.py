r"""Affine maps from the output of a network to the score, one for each parameterisation.

Let z = alpha x + sigma eps be the noised image. The input of the network is c z and its output is N. The score is

.. math:: s(z) = a z + b N(c z, \cdot),

where the dot stands for the noise level and the other inputs of the network. The coefficients a, b and c depend only on
the noise level. The parameterisation defines a and b, and the scaling of the input defines c.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from uldnum.arithmetic.elementary import hypot
from uldnum.plans.schedules import preserved

__all__ = ["CONDITIONS", "PARAMETERISATIONS", "SCALINGS", "Form", "alpha_and_sigma", "form"]


class Form(NamedTuple):
    """The coefficients of ``s(z) = a z + b N(c z)``."""

    a: float
    b: float
    c: float


# Input of the network for each scaling, with the image x and the noise eps.
SCALINGS = {
    "ve": "x + sigma eps (variance exploding)",
    "vp": "alpha x + sigma eps with alpha^2 + sigma^2 = 1 (variance preserving)",
    "edm": "(x + sigma eps)/sqrt(sigma^2 + sigma_data^2) (Karras et al. 2022)",
}

# Quantity that the network receives as its noise level, for each condition.
CONDITIONS = {
    "sigma": "sigma",
    "log-sigma": "log(sigma)",
    "t": "the time t of the schedule, a real number",
    "timestep": "the integer timestep t of the schedule; other noise levels are rounded to the nearest timestep",
    "interpolated-timestep": "the time t of the schedule, which may lie between two integers",
    "none": "none: the network infers the noise level from the image, or supports only one",
}

# Name -> (output of the network, (alpha, sigma, sigma_data) -> (a, b)).
PARAMETERISATIONS: dict[str, tuple[str, Callable[[float, float, float], tuple[float, float]]]] = {
    "score": ("the score s", lambda alpha, sigma, data: (0.0, 1.0)),
    "epsilon": ("the noise eps, s = -eps/sigma", lambda alpha, sigma, data: (0.0, -1 / sigma)),
    "noise": ("the residual sigma eps, s = -residual/sigma^2", lambda alpha, sigma, data: (0.0, -1 / (sigma * sigma))),
    "denoiser": (
        "the image x, s = (alpha x - z)/sigma^2",
        lambda alpha, sigma, data: (-1 / (sigma * sigma), alpha / (sigma * sigma)),
    ),
    # x = alpha z - sigma v (Salimans & Ho 2022, app. D)
    "v": ("v = alpha eps - sigma x, s = -z - (alpha/sigma) v", lambda alpha, sigma, data: (-1.0, -alpha / sigma)),
    # x = c_skip z + c_out F with the constants of Karras et al. 2022, table 1. The term (c_skip - 1)/sigma^2 is
    # simplified algebraically to avoid cancellation.
    "edm": (
        "F of EDM's preconditioning",
        lambda alpha, sigma, data: (-1 / (sigma * sigma + data * data), data / (sigma * float(hypot(sigma, data)))),
    ),
}

# The scaling that a parameterisation requires.
NEEDS = {"v": "vp", "edm": "edm"}


def alpha_and_sigma(scaling: str, ratio: float) -> tuple[float, float]:
    """Return alpha and sigma of z at a noise level sigma/alpha."""
    if scaling == "vp":
        alpha, sigma = preserved(ratio)
        return float(alpha), float(sigma)
    return 1.0, ratio


def form(parameterisation: str, scaling: str, alpha: float, sigma: float, sigma_data: float) -> Form:
    """Return the coefficients of a parameterisation at a noise level."""
    _, numbers = PARAMETERISATIONS[parameterisation]
    return Form(*numbers(alpha, sigma, sigma_data), 1 / float(hypot(sigma, sigma_data)) if scaling == "edm" else 1.0)
