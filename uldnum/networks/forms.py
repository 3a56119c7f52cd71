r"""What a network computes: every parameterisation is an affine map to the score.

Write z = alpha x + sigma eps for the noised image. A network is fed with c z and answers N; then the score is

.. math:: s(z) = a z + b N(c z, \cdot),

with numbers a, b, c that depend on the noise level alone. They are the whole difference between parameterisations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from uldnum.arithmetic.elementary import hypot
from uldnum.plans.schedules import preserved

__all__ = ["CONDITIONS", "PARAMETERISATIONS", "SCALINGS", "Form", "alpha_and_sigma", "form"]


class Form(NamedTuple):
    """The numbers of ``s(z) = a z + b N(c z)``."""

    a: float
    b: float
    c: float


# What the network is fed with.
SCALINGS = {
    "ve": "x + sigma eps (variance exploding)",
    "vp": "alpha x + sigma eps with alpha^2 + sigma^2 = 1 (variance preserving)",
    "edm": "(x + sigma eps)/sqrt(sigma^2 + sigma_data^2) (Karras et al. 2022)",
}

# By which number it knows the noise level.
CONDITIONS = {
    "sigma": "sigma",
    "log-sigma": "log(sigma)",
    "t": "the schedule's t, any number",
    "timestep": "the schedule's t, whole numbers: the nearest noise level of the schedule is taken",
    "interpolated-timestep": "the schedule's t, numbers between whole ones too",
    "none": "nothing: the network finds the noise level itself, or knows one only",
}

# Name -> (what the network answers, (alpha, sigma, sigma_data) -> (a, b)).
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
    # x = c_skip z + c_out F with the constants of Karras et al. 2022, table 1: (c_skip - 1)/sigma^2 cannot cancel so.
    "edm": (
        "F of EDM's preconditioning",
        lambda alpha, sigma, data: (-1 / (sigma * sigma + data * data), data / (sigma * float(hypot(sigma, data)))),
    ),
}

# The scaling without which a parameterisation has no meaning.
NEEDS = {"v": "vp", "edm": "edm"}


def alpha_and_sigma(scaling: str, ratio: float) -> tuple[float, float]:
    """Return alpha and sigma of z at a noise level sigma/alpha."""
    if scaling == "vp":
        alpha, sigma = preserved(ratio)
        return float(alpha), float(sigma)
    return 1.0, ratio


def form(parameterisation: str, scaling: str, alpha: float, sigma: float, sigma_data: float) -> Form:
    """Return the numbers of a parameterisation at a noise level."""
    _, numbers = PARAMETERISATIONS[parameterisation]
    return Form(*numbers(alpha, sigma, sigma_data), 1 / float(hypot(sigma, sigma_data)) if scaling == "edm" else 1.0)
