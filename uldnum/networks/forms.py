r"""Affine maps from the output of a network to the image, the noise and the score, one for each parameterisation.

Let z = alpha x + sigma eps be the noised image. The input of the network is c z and its output is N. The denoised image
and the noise are

.. math:: x_0 = p z + q N(c z, \cdot), \qquad \varepsilon = r z + t N(c z, \cdot),

where the dot stands for the noise level and the other inputs of the network. The score is :math:`-\varepsilon/\sigma`.
The coefficients depend only on the noise level. The parameterisation defines p, q, r and t, and the scaling of the
input defines c. For every output N, :math:`\alpha x_0 + \sigma \varepsilon = z`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from uldnum.arithmetic.elementary import hypot, log
from uldnum.plans.schedules import flow, preserved
from uldnum.schemes.form import Form

__all__ = [
    "CONDITIONS",
    "NEEDS",
    "OF_NOISE",
    "PARAMETERISATIONS",
    "SCALINGS",
    "TIMED",
    "WHOLE",
    "WITH_NOISE",
    "alpha_and_sigma",
    "alpha_of",
    "form",
    "input_scale",
]


# Input of the network for each scaling, with the image x and the noise eps.
SCALINGS = {
    "ve": "x + sigma eps (variance exploding)",
    "vp": "alpha x + sigma eps with alpha^2 + sigma^2 = 1 (variance preserving)",
    "sub-vp": "alpha x + sigma eps with alpha^2 + sigma = 1 (sub-VP SDE)",
    "edm": "(x + sigma eps)/sqrt(sigma^2 + sigma_data^2) (Karras et al. 2022)",
    "flow": "alpha x + sigma eps with alpha + sigma = 1 (flow matching)",
}

# Quantity that the network receives as its noise level, for each condition: a description, and a function of alpha, of
# sigma and of the time of the schedule, or of the index of the step for the conditions in `WHOLE`.
CONDITIONS: dict[str, tuple[str, Callable[[float, float, float], Any]]] = {
    "sigma": ("sigma", lambda a, s, t: s),
    "sigma-squared": ("sigma^2", lambda a, s, t: s * s),
    "log-sigma": ("log(sigma)", lambda a, s, t: log(s)),
    "log-snr": ("log(alpha^2/sigma^2)", lambda a, s, t: 2 * (log(a) - log(s))),
    "alpha-bar": ("alpha^2", lambda a, s, t: a * a),
    "t": ("the time t of the schedule, a real number", lambda a, s, t: t),
    "timestep": (
        "the integer timestep t of the schedule; other noise levels are rounded to the nearest timestep",
        lambda a, s, t: t,
    ),
    "interpolated-timestep": ("the time t of the schedule, which may lie between two integers", lambda a, s, t: t),
    "index": ("the index of the level in the schedule, counted from 0 at its smallest time", lambda a, s, t: t),
    "none": ("none: the network infers the noise level from the image, or supports only one", lambda a, s, t: 0.0),
}

# Conditions that are integers, and conditions that need a schedule.
WHOLE = ("timestep", "index")
TIMED = ("t", "interpolated-timestep", *WHOLE)

# The coefficients ((p, q), (r, t)) of the image x0 = p z + q N and of the noise eps = r z + t N.
Maps = tuple[tuple[float, float], tuple[float, float]]

# Name -> (output N of the network, (a, s, sigma_data) -> ((p, q), (r, t))), with a for alpha and s for sigma.
PARAMETERISATIONS: dict[str, tuple[str, Callable[[float, float, float], Maps]]] = {
    "score": ("the score s", lambda a, s, data: ((1 / a, s * s / a), (0.0, -s))),
    "epsilon": ("the noise eps, s = -eps/sigma", lambda a, s, data: ((1 / a, -s / a), (0.0, 1.0))),
    "noise": ("the residual sigma eps, s = -residual/sigma^2", lambda a, s, data: ((1 / a, -1 / a), (0.0, 1 / s))),
    "denoiser": ("the image x, s = (alpha x - z)/sigma^2", lambda a, s, data: ((0.0, 1.0), (1 / s, -a / s))),
    # Salimans & Ho 2022, app. D
    "v": ("v = alpha eps - sigma x, s = -z - (alpha/sigma) v", lambda a, s, data: ((a, -s), (s, a))),
    # Lipman et al. 2023, and rectified flow (Liu et al. 2023)
    "velocity": ("the velocity eps - x", lambda a, s, data: ((1.0, -s), (1.0, a))),
    "negative-velocity": ("the velocity x - eps", lambda a, s, data: ((1.0, s), (1.0, -a))),
    # Karras et al. 2022, table 1: x = c_skip z + c_out F, with 1/c_in = (s^2 + sigma_data^2)^{1/2}
    "edm": ("F of EDM's preconditioning", lambda a, s, data: preconditioned(s, data, float(hypot(s, data)))),
    "negative-edm": (
        "-F of EDM's preconditioning",
        lambda a, s, data: negative(preconditioned(s, data, float(hypot(s, data)))),
    ),
}


def negative(maps: Maps) -> Maps:
    """Return the maps of an output with the opposite sign."""
    (p, q), (r, t) = maps
    return (p, -q), (r, -t)


def preconditioned(s: float, data: float, scale: float) -> Maps:
    """Return the maps of EDM's preconditioning, where ``scale`` is (s^2 + data^2)^{1/2}.

    The noise is (z - x)/s. Its coefficient of z, (1 - c_skip)/s, is simplified to avoid cancellation.
    """
    square = s * s + data * data
    return (data * data / square, s * data / scale), (s / square, -data / scale)


# Parameterisations whose output is noise. The image is (z - sigma eps)/alpha, so that an error of eps is multiplied by
# sigma/alpha in the image, and the image does not follow from the output at alpha = 0.
OF_NOISE = ("score", "epsilon", "noise")

# Scalings in which alpha falls to 0, the level of pure noise. In the others, alpha is 1 at every level.
WITH_NOISE = ("vp", "sub-vp", "flow")

# The scaling that a parameterisation requires.
NEEDS = {"v": "vp", "edm": "edm", "negative-edm": "edm", "velocity": "flow", "negative-velocity": "flow"}


def alpha_and_sigma(scaling: str, ratio: float) -> tuple[float, float]:
    """Return alpha and sigma of z at a noise level sigma/alpha, which may be infinite."""
    if scaling == "vp":
        alpha, sigma = preserved(ratio)
        return float(alpha), float(sigma)
    if scaling == "sub-vp":  # alpha is the positive solution of 1 - alpha^2 = ratio alpha
        alpha = 2 / (ratio + float(hypot(ratio, 2)))
        return alpha, 1.0 if np.isinf(ratio) else ratio * alpha
    if scaling == "flow":
        return 1 / (1 + ratio), float(flow().time(ratio))
    return 1.0, ratio


def alpha_of(scaling: str, sigma: float) -> float:
    """Return alpha of z at a noise level sigma."""
    squares = {"vp": 1 - sigma * sigma, "sub-vp": 1 - sigma, "flow": (1 - sigma) * (1 - sigma)}
    return float(np.sqrt(squares.get(scaling, 1.0)))


def form(parameterisation: str, alpha: float, sigma: float, sigma_data: float) -> Form:
    """Return the form of a parameterisation at a noise level."""
    _, maps = PARAMETERISATIONS[parameterisation]
    return Form.of(*maps(alpha, sigma, sigma_data), sigma)


def input_scale(scaling: str, sigma: float, sigma_data: float) -> float:
    """Return the factor c by which z is multiplied before it enters the network."""
    return 1 / float(hypot(sigma, sigma_data)) if scaling == "edm" else 1.0
