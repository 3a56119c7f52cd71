"""What studies measure, of a scheme's exact law."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from uldnum.diagnostics.bias import METRICS, known_moment
from uldnum.exact import ConvergenceError, UnstableError, gaussian, transfer_operator
from uldnum.schemes.catalogue import Integrator
from uldnum.targets import VectorTarget
from uldnum.targets.mixture import erf
from uldnum.typing import Array

__all__ = ["OBSERVABLES", "exact_answers", "has_exact_law", "is_gaussian"]

# Whose autocorrelation times are measured: on each axis.
OBSERVABLES = ("x", "x^2")


def is_gaussian(target: VectorTarget) -> bool:
    """Whether a target is one Gaussian, where every answer is linear algebra."""
    return target.precision is not None


def has_exact_law(target: VectorTarget) -> bool:
    """Whether the law of a scheme on this target can be had without sampling."""
    return target.shape == (1,) or is_gaussian(target)


def exact_answers(
    scheme: Integrator, target: VectorTarget, h: float, friction: float, tolerance: float, times: bool
) -> dict[str, Any]:
    """Return the exact bias in each of `METRICS`, and the time of each of `OBSERVABLES` and of relaxation, if wanted.

    Times are in score evaluations. What there is not is NaN: everything where the scheme is unstable, or not resolved,
    which ``fault`` says then.
    """
    fault = ""
    try:
        if is_gaussian(target):
            bias, time = gaussian_answers(scheme, target, h, friction)
        else:
            bias, time = one_dimensional_answers(scheme, target, h, friction, tolerance, times)
    except UnstableError:
        bias, time = {}, {}
    except ConvergenceError as error:
        fault, bias, time = f"no exact bias: {error}", {}, {}
    return {
        "bias": [float(bias.get(metric, np.nan)) for metric in METRICS],
        "time": [float(time.get(observable, np.nan)) for observable in (*OBSERVABLES, "relaxation")],
        "fault": fault,
    }


def gaussian_answers(
    scheme: Integrator, target: VectorTarget, h: float, friction: float
) -> tuple[dict[str, float], dict[str, float]]:
    """On a Gaussian every scheme's law is Gaussian, with the right mean and another covariance."""
    mean, precision = np.asarray(target.mean), np.asarray(target.precision)
    found = gaussian(scheme, h, precision=precision, friction=friction)
    if precision.ndim == 1:
        variance, law = 1 / precision, found.position_covariance
    else:
        variance, law = np.diag(np.linalg.inv(precision)), np.diag(found.position_covariance)
    ratio = np.sqrt(law / variance)  # of standard deviations, for each axis
    gap = (law - variance) / np.sqrt(2 * variance**2 + 4 * mean**2 * variance)
    bias = {
        "second_moment": np.sqrt(np.mean(gap**2)),
        "mean": np.mean(0 * ratio),
        "wasserstein_1": np.mean(np.abs(ratio - 1)) * np.sqrt(2 / np.pi),
        "kolmogorov": np.mean(normal_kolmogorov(ratio)),
    }
    # x^2 = (x - m)^2 + 2 m (x - m) + m^2: its two fluctuating parts, of variance 2 v^2 and 4 m^2 v, are uncorrelated.
    linear, square = found.autocorrelation_time("x"), found.autocorrelation_time("x^2")
    share = 2 * mean**2 / (law + 2 * mean**2)
    time = {
        "x": np.max(linear),
        "x^2": np.max(share * linear + (1 - share) * square),
        "relaxation": found.relaxation_time,
    }
    return bias, time


def normal_kolmogorov(ratio: Array) -> Array:
    """Kolmogorov distance of N(0, 1) and N(0, ratio^2): the gap of their cdfs where their densities cross."""
    log = np.log(ratio)
    other = np.where(log == 0, 1.0, log)
    crossing = np.where(log == 0, 1.0, np.sqrt(2 * other / -np.expm1(-2 * other)))
    return 0.5 * np.abs(erf(crossing / np.sqrt(2)) - erf(crossing / ratio / np.sqrt(2)))


def one_dimensional_answers(
    scheme: Integrator, target: VectorTarget, h: float, friction: float, tolerance: float, times: bool
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the metrics of the law that the transfer operator finds, and its times."""
    law = transfer_operator(scheme, target, h, friction=friction, tolerance=tolerance)
    first, second, fourth = (float(known_moment(target, order)[0]) for order in (1, 2, 4))
    deviation = np.sqrt(second - first**2)
    bias = {
        "second_moment": abs(law.expectation(np.square) - second) / np.sqrt(fourth - second**2),
        "mean": abs(law.expectation(np.asarray) - first) / deviation,
        "wasserstein_1": law.wasserstein_1 / deviation,
        "kolmogorov": law.kolmogorov,
    }
    if not times:
        return bias, {}
    time = {"relaxation": law.relaxation_time}
    functions: tuple[Callable[[Array], Array], ...] = (np.asarray, np.square)
    for observable, f in zip(OBSERVABLES, functions, strict=True):
        with suppress(ConvergenceError):  # it asks more of the grid than the law
            time[observable] = law.autocorrelation_time(f)
    return bias, time
