"""The function `uldnum.step`: take one time step of an integrator on NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from uldnum._util.arguments import converted, function, positive_number, result_of, step_size
from uldnum._util.typing import Array, ArrayLike
from uldnum.kernels.reference import apply, enter
from uldnum.schemes.catalogue import Integrator
from uldnum.schemes.catalogue import integrator as find_integrator

__all__ = ["step"]


def step(
    integrator: str | Integrator,
    x: ArrayLike,
    p: ArrayLike | None = None,
    *,
    h: float | None = None,
    delta: float | None = None,
    friction: float = 1.0,
    temperature: float | None = None,
    score_noise: ArrayLike | None = None,
    score: Callable[[Array], ArrayLike],
    xi: ArrayLike | np.random.Generator,
) -> tuple[Array, Array | None]:
    """Take one time step of an integrator on NumPy arrays.

    The function is a plain implementation for teaching and for loops written by the user. `uldnum.sample` takes the
    same steps in compiled code.

    Parameters
    ----------
    integrator : str or Integrator
        Name of a catalogue entry (see `uldnum.integrators`), a splitting word such as "BAOAB", or an `Integrator`.
    x : array_like, shape (..., d)
        Positions.
    p : array_like, optional
        Memory of the integrator besides x. An integrator has k rows of memory, and x is the first. For k = 2, p is the
        second row, usually the momenta, with shape (..., d). For k > 2, p holds the k - 1 other rows, with shape
        (..., k - 1, d). For k = 1, such as for "ula", omit p.
    h : float
        Step size in units of time. Give exactly one of ``h`` and ``delta``.
    delta : float
        Step size as ``delta = h^2/2``.
    friction : float, default 1.0
        Friction in units of 1/time. It must be positive.
    temperature : float, optional
        Temperature T. All noise is multiplied by sqrt(T), and the score is not scaled. The default is that of the
        integrator, which is 1 in the catalogue.
    score_noise : float or array_like of shape (d,), optional
        Standard deviation tau of the error of the score, in units of 1/x: the integrator uses ``s + tau zeta``, where
        the standard normals zeta are independent for each coordinate and evaluation. A vector holds one standard
        deviation for each coordinate. The default is that of the integrator, which is 0 in the catalogue.
    score : callable
        Gradient of the log density, mapping an array of shape (..., d) to one of the same shape.
    xi : array_like, shape (..., m, d), or numpy.random.Generator
        The m standard normals of each coordinate, in the order in which the step uses them, or a generator that draws
        them. The number m depends on the integrator: 1 for BAOAB, 2 for OBABO. The error for a wrong shape states it.

    Returns
    -------
    x : float64 array, shape (..., d)
        Positions at the end of the step.
    p : float64 array or None
        Memory at the end of the step, with the shape of the argument ``p``; None for k = 1.

    Raises
    ------
    ValueError
        If an argument is out of range or of the wrong shape. The message names it.

    Notes
    -----
    BAOAB (Leimkuhler & Matthews 2013) with unit mass, ``c = exp(-friction h)`` and one normal xi is::

        p <- p + (h/2) score(x)
        x <- x + (h/2) p
        p <- c p + sqrt(1 - c^2) xi
        x <- x + (h/2) p
        p <- p + (h/2) score(x)

    A single step evaluates the score at both of its ends. `uldnum.sample` reuses the last score of a step, and any
    normals that two steps share, in the next step. With score noise, the score at the end of one call
    and that at the start of the next are at the same position, but have independent errors. `uldnum.sample` evaluates
    this score once, with one error.

    References
    ----------
    B. Leimkuhler and C. Matthews, "Rational construction of stochastic numerical methods for molecular sampling",
    Applied Mathematics Research eXpress 2013, 34-56.

    Examples
    --------
    >>> import numpy as np
    >>> import uldnum
    >>> x, p = uldnum.step("BAOAB", [1.0], [0.0], h=0.1, score=lambda x: -x, xi=[[0.0]])
    >>> round(float(x[0]), 6), round(float(p[0]), 6)
    (0.995238, -0.095004)

    A hundred steps of 1000 chains sample the standard normal distribution:

    >>> rng, x, p = np.random.default_rng(0), np.zeros((1000, 2)), np.zeros((1000, 2))
    >>> for _ in range(100):
    ...     x, p = uldnum.step("BAOAB", x, p, h=0.5, score=lambda x: -x, xi=rng)
    >>> bool(abs(x.var() - 1) < 0.15)
    True
    """
    scheme = find_integrator(integrator).at(temperature=temperature, score_noise=score_noise)
    if scheme.metropolised:
        raise ValueError(
            f"integrator: {scheme.name!r} has a Metropolis test, which uldnum.step does not support; uldnum.sample does"
        )
    size = step_size(h, delta)
    if size.ndim:
        raise ValueError(f"{'h' if delta is None else 'delta'}: must be a number, got shape {size.shape}")
    table = scheme.stages(size, friction=positive_number("friction", friction))
    function("score", score)
    position = converted("x", x)
    if not position.ndim:
        raise ValueError("x: must have shape (..., d), got a number")
    shape, k = position.shape, scheme.rows
    scheme.check_errors(shape[-1:])
    rows = {1: (*shape[:-1], 0, shape[-1]), 2: shape}.get(k, (*shape[:-1], k - 1, shape[-1]))
    if k == 1 and p is not None:
        raise ValueError(f"p: {scheme.name!r} has no memory besides x; omit p")
    memory = np.zeros(rows) if k == 1 else converted("p", np.nan if p is None else p)
    if memory.shape != rows:
        raise ValueError(f"p: {scheme.name!r} needs shape {rows}, got {'none' if p is None else memory.shape}")
    # The normals of `close` may include some that the next step uses, too; a single step can do with at most k instead.
    close = table.close.compressed()
    if scheme.errors:  # a normal for the error of the last score, which `compressed` has removed
        close = replace(close, C=np.insert(close.C, close.normals, 0.0, axis=-1))
    maps = [table.open, *(stage.map for stage in table.stages[:-1]), close]
    several = sum(map.normals for map in maps)
    wanted = (*shape[:-1], several, shape[-1])
    normals = xi.standard_normal(wanted) if isinstance(xi, np.random.Generator) else converted("xi", xi)
    if normals.shape != wanted:
        raise ValueError(f"xi: {scheme.name!r} needs normals of shape {wanted}, got {normals.shape}")

    def checked(y: Array, here: Array) -> Array:
        found = result_of("score", score, y)
        if found.shape != shape:
            raise ValueError(f"score: must return the shape of its argument, {shape}, got {found.shape}")
        return found + scheme.errors * here[..., -1, :] if scheme.errors else found

    state = np.concatenate([position[..., None, :], memory.reshape(*shape[:-1], k - 1, shape[-1])], axis=-2)
    ends = np.cumsum([map.normals for map in maps])
    first, *others = np.split(normals, ends[:-1], axis=-2)
    u = enter(table, state, lambda y: checked(y, first), first)
    for stage, map, here in zip(table.stages, maps[1:], others, strict=True):
        u = apply(map, u, checked(np.einsum("k,...kd->...d", stage.G, u), here), here)
    return u[..., 0, :], None if k == 1 else u[..., 1:, :].reshape(rows)
