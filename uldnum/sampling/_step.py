"""step(): take one time step of an integrator on NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable

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
    score: Callable[[Array], ArrayLike],
    xi: ArrayLike | np.random.Generator,
) -> tuple[Array, Array | None]:
    """Take one time step of an integrator on NumPy arrays.

    This is the formula, for teaching and for loops of your own. `uldnum.sample` takes the same steps in compiled code,
    and shares the last score of a step, and its normals, with the next one.

    Parameters
    ----------
    integrator : str or Integrator
        A name, a splitting word, or an `Integrator`.
    x : array, shape (..., d)
        Positions.
    p : array, shape (..., d), optional
        Momenta, or whatever the scheme keeps in its second row; (..., k - 1, d) for k > 2 rows, none for k = 1.
    h, delta : float
        Step size, or ``h^2/2``.
    friction : float
        Friction.
    score : callable
        Gradient of the log density, (..., d) -> (..., d).
    xi : array, shape (..., m, d), or numpy.random.Generator
        The m standard normals of each coordinate in the order in which the step needs them, or what draws them. The
        error for another shape says how many there must be: 1 for BAOAB, 2 for OBABO.

    Returns
    -------
    x, p : arrays
        The state at the end of the step; p is None for k = 1.

    Raises
    ------
    ValueError
        If an argument is out of range or of the wrong shape; the message names it.

    Examples
    --------
    >>> import numpy as np
    >>> import uldnum
    >>> rng, x, p = np.random.default_rng(0), np.zeros((1000, 2)), np.zeros((1000, 2))
    >>> for _ in range(100):
    ...     x, p = uldnum.step("BAOAB", x, p, h=0.5, score=lambda x: -x, xi=rng)
    >>> bool(abs(x.var() - 1) < 0.15)
    True
    """
    scheme, size = find_integrator(integrator), step_size(h, delta)
    if size.ndim:
        raise ValueError(f"{'h' if delta is None else 'delta'}: must be a number, got shape {size.shape}")
    table = scheme.stages(size, friction=positive_number("friction", friction))
    function("score", score)
    position = converted("x", x)
    if not position.ndim:
        raise ValueError("x: must have shape (..., d), got a number")
    shape, k = position.shape, scheme.rows
    rows = {1: (*shape[:-1], 0, shape[-1]), 2: shape}.get(k, (*shape[:-1], k - 1, shape[-1]))
    if k == 1 and p is not None:
        raise ValueError(f"p: {scheme.name!r} remembers x alone; leave p out")
    memory = np.zeros(rows) if k == 1 else converted("p", np.nan if p is None else p)
    if memory.shape != rows:
        raise ValueError(f"p: {scheme.name!r} needs shape {rows}, got {'none' if p is None else memory.shape}")
    # A step alone shares no normals with the next one.
    maps = [table.open, *(stage.map for stage in table.stages[:-1]), table.close.compressed()]
    several = sum(map.normals for map in maps)
    wanted = (*shape[:-1], several, shape[-1])
    normals = xi.standard_normal(wanted) if isinstance(xi, np.random.Generator) else converted("xi", xi)
    if normals.shape != wanted:
        raise ValueError(f"xi: {scheme.name!r} needs normals of shape {wanted}, got {normals.shape}")

    def checked(y: Array) -> Array:
        found = result_of("score", score, y)
        if found.shape != shape:
            raise ValueError(f"score: must return the shape of its argument, {shape}, got {found.shape}")
        return found

    state = np.concatenate([position[..., None, :], memory.reshape(*shape[:-1], k - 1, shape[-1])], axis=-2)
    ends = np.cumsum([map.normals for map in maps])
    first, *others = np.split(normals, ends[:-1], axis=-2)
    u = enter(table, state, checked, first)
    for stage, map, here in zip(table.stages, maps[1:], others, strict=True):
        u = apply(map, u, checked(np.einsum("k,...kd->...d", stage.G, u)), here)
    return u[..., 0, :], None if k == 1 else u[..., 1:, :].reshape(rows)
