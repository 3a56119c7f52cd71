"""The metrics of the bias study, of a scheme's exact law."""

from __future__ import annotations

import warnings

import numpy as np

from uldnum.diagnostics.bias import METRICS, known_moment
from uldnum.exact import ConvergenceError, UnstableError, gaussian, transfer_operator
from uldnum.integrators import Integrator
from uldnum.targets import GaussianMixture, VectorTarget
from uldnum.targets.mixture import erf
from uldnum.typing import Array

__all__ = ["exact_metrics", "has_exact_law"]


def has_exact_law(target: VectorTarget) -> bool:
    """Whether the law of a scheme on this target can be had without sampling."""
    return target.shape == (1,) or (isinstance(target, GaussianMixture) and len(target.weights) == 1)


def exact_metrics(scheme: Integrator, target: VectorTarget, h: float, friction: float, tolerance: float) -> Array:
    """Return the exact bias in each of `METRICS`; NaN where the scheme is unstable, or, with a warning, unresolved."""
    try:
        if isinstance(target, GaussianMixture) and len(target.weights) == 1:
            values = gaussian_metrics(scheme, target, h, friction)
        else:
            values = one_dimensional_metrics(scheme, target, h, friction, tolerance)
    except UnstableError:
        values = {}
    except ConvergenceError as error:
        warnings.warn(f"no exact bias: {error}", stacklevel=2)
        values = {}
    return np.array([values.get(metric, np.nan) for metric in METRICS])


def gaussian_metrics(scheme: Integrator, target: GaussianMixture, h: float, friction: float) -> dict[str, float]:
    """On a Gaussian every scheme's law is Gaussian, with the right mean and another covariance."""
    if target.covariances is None:
        law = gaussian(scheme, h, precision=1 / target.variances[0], friction=friction).position_covariance
    else:
        precision = np.linalg.inv(target.covariances[0])
        law = np.diag(gaussian(scheme, h, precision=precision, friction=friction).position_covariance)
    variance = target.variances[0]
    ratio = np.sqrt(law / variance)  # of standard deviations, for each axis
    gap = (law - variance) / np.sqrt(target.moment(4) - target.moment(2) ** 2)
    return {
        "second_moment": np.sqrt(np.mean(gap**2)),
        "mean": np.mean(0 * ratio),
        "wasserstein_1": np.mean(np.abs(ratio - 1)) * np.sqrt(2 / np.pi),
        "kolmogorov": np.mean(normal_kolmogorov(ratio)),
    }


def normal_kolmogorov(ratio: Array) -> Array:
    """Kolmogorov distance of N(0, 1) and N(0, ratio^2): the gap of their cdfs where their densities cross."""
    log = np.log(ratio)
    other = np.where(log == 0, 1.0, log)
    crossing = np.where(log == 0, 1.0, np.sqrt(2 * other / -np.expm1(-2 * other)))
    return 0.5 * np.abs(erf(crossing / np.sqrt(2)) - erf(crossing / ratio / np.sqrt(2)))


def one_dimensional_metrics(
    scheme: Integrator, target: VectorTarget, h: float, friction: float, tolerance: float
) -> dict[str, float]:
    """Return the metrics of the law that the transfer operator finds."""
    law = transfer_operator(scheme, target, h, friction=friction, tolerance=tolerance)
    first, second, fourth = (float(known_moment(target, order)[0]) for order in (1, 2, 4))
    deviation = np.sqrt(second - first**2)
    return {
        "second_moment": abs(law.expectation(np.square) - second) / np.sqrt(fourth - second**2),
        "mean": abs(law.expectation(np.asarray) - first) / deviation,
        "wasserstein_1": law.wasserstein_1 / deviation,
        "kolmogorov": law.kolmogorov,
    }
