"""Exact acceptance of steps with a Metropolis test on Gaussian targets."""

from __future__ import annotations

from functools import reduce

import numpy as np

from uldnum._util.arguments import positive, step_size
from uldnum._util.typing import Array, ArrayLike
from uldnum.schemes.catalogue import Integrator
from uldnum.schemes.catalogue import integrator as find_integrator

__all__ = ["acceptance"]


def acceptance(
    integrator: str | Integrator, *, h: ArrayLike | None = None, delta: ArrayLike | None = None, precision: float = 1.0
) -> Array:
    """Return the mean acceptance of a step with a Metropolis test on N(0, 1/precision).

    It is that of stationary chains, and depends neither on the friction nor on the temperature.

    Parameters
    ----------
    integrator : str or Integrator
        Integrator with a Metropolis test: "mala", "ghmc", "hmc(n)", or a word with braces, such as "O {BABAB} O".
    h, delta : float or array_like
        Step size, or ``delta = h^2/2``. Give exactly one of them.
    precision : float, default 1.0
        Inverse variance of the target.

    Returns
    -------
    float64 array, shape of ``h``
        Probability that the state proposed by a step is accepted.

    Raises
    ------
    ValueError
        If an argument is not positive, or the integrator is unknown or has no Metropolis test.

    Notes
    -----
    In the coordinates ``(sqrt(precision) x, p)``, which are standard normal, the proposal is a matrix ``M`` with
    determinant 1. Because it is reversible, ``M_11 = M_22``. Its energy error is a quadratic form in two independent
    normals, with the mean ``mu = (tr(M^T M) - 2)/2 = (M_12 + M_21)^2/2``, and a reversible proposal that preserves
    volume is accepted with the probability ``2 P(dH < 0)`` (Neal 2011, Handbook of MCMC, ch. 5). This gives::

        acceptance = 1 - (2/pi) arctan(sqrt(mu/2))

    For one leapfrog step, ``mu = h^6 precision^3/32``.

    Examples
    --------
    >>> from uldnum import exact
    >>> exact.acceptance("ghmc", h=[0.5, 1.0, 1.5]).round(6).tolist()
    [0.990054, 0.920833, 0.745848]
    >>> float(exact.acceptance("hmc(3)", h=0.5).round(6))
    0.979491
    """
    scheme = find_integrator(integrator)
    if not scheme.metropolised:
        raise ValueError(f"integrator: {scheme.name!r} has no Metropolis test, and takes every step")
    size, scale = step_size(h, delta), np.sqrt(positive("precision", precision))
    # On N(0, 1/precision), a step of size h is that on N(0, 1) of size h sqrt(precision), in the coordinates above.
    proposal = scheme.stages(size * scale).proposal
    maps = [np.eye(2) + stage.map.dA - stage.map.b[..., :, None] * stage.G[..., None, :] for stage in proposal]
    M = reduce(lambda before, after: after @ before, maps)
    return 1 - 2 / np.pi * np.arctan(np.abs(M[..., 0, 1] + M[..., 1, 0]) / 2)
