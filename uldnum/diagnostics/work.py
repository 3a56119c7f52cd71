"""Shadow work of splitting schemes, and the Kullback-Leibler divergence that follows from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from uldnum._util.arguments import flag, positive_number, shown, step_size, whole_number
from uldnum._util.typing import Array
from uldnum.diagnostics.expectations import at_temperature
from uldnum.diagnostics.mixing import Estimate
from uldnum.diagnostics.samples import scores_at
from uldnum.kernels.initial import initial_normals
from uldnum.kernels.reference import energy
from uldnum.kernels.source.core import DYNAMICS
from uldnum.sampling.launch import centre_and_scale, escape_distance
from uldnum.sampling.moments import standard_error
from uldnum.sampling.start import find_start, initial_state
from uldnum.schemes.catalogue import Integrator
from uldnum.schemes.catalogue import integrator as find_integrator
from uldnum.schemes.stage import Affine
from uldnum.schemes.words import FLOWS, MOVING, NOISY
from uldnum.targets import Target, lacking, vector_target

__all__ = ["kl_by_shadow_work", "shadow_work"]


def shadow_work(
    target: Target | str,
    integrator: str | Integrator,
    *,
    h: float | None = None,
    delta: float | None = None,
    friction: float = 1.0,
    steps: int,
    chains: int,
    seed: int = 0,
) -> Array:
    """Return the shadow work of a splitting scheme along chains that start from the target.

    Parameters
    ----------
    target : str, GaussianMixture, UserTarget or another Target
        Target with a log density and exact draws, or its name. Its samples are vectors.
    integrator : str or Integrator
        Splitting word of A, B and O, or of B and U, or its name.
    h : float
        Step size in units of time. Give exactly one of ``h`` and ``delta``.
    delta : float
        Step size as ``delta = h^2/2``.
    friction : float, default 1.0
        Friction in units of 1/time.
    steps : int
        Number of time steps.
    chains : int
        Number of chains. They start from draws of the target and from momenta of variance T.
    seed : int, default 0
        Seed of the random numbers.

    Returns
    -------
    float64 array, shape (chains,)
        Shadow work of each chain, divided by the temperature T. It is NaN for chains that diverged.

    Raises
    ------
    ValueError
        If the integrator is not a word with O or U, or has K, braces or score noise, if the target has no log density
        or no exact draws at the temperature of the integrator, or if another argument is out of range.

    Notes
    -----
    The energy of a state is ``E = p^2/2 - log density(x)``. The heat of a letter O or U is the change of ``p^2/2`` in
    this letter: O leaves the distribution of the momenta invariant, and so does U, whose positions move freely. The
    shadow work is what the other letters change, ``W = E_end - E_begin - heat``. It is also the change of
    ``-log density(x)`` in A and U, plus that of ``p^2/2`` in B. It vanishes for exact dynamics.

    ``E[exp(-W/T)] = 1`` for chains that start from the target, at any step size (Sivak et al. 2013). Therefore
    ``E[W] >= 0``.

    The letters of the word are applied one after another with array operations, because the compiled step contains
    only their composition. A step takes much longer than in `uldnum.sample`.

    References
    ----------
    D. A. Sivak, J. D. Chodera and G. E. Crooks 2013, Using nonequilibrium fluctuation theorems to understand and
    correct errors in equilibrium and nonequilibrium simulations of discrete Langevin dynamics, Phys. Rev. X 3, 011007.

    Examples
    --------
    >>> import numpy as np
    >>> import uldnum
    >>> work = uldnum.diagnostics.shadow_work("gaussian", "BAOAB", h=0.5, steps=10, chains=10_000)
    >>> bool(abs(np.exp(-work).mean() - 1) < 4 * np.exp(-work).std() / 100)
    True
    """
    process = process_of(target, integrator, step_size(h, delta), friction)
    state, n, seed = beginning(process, steps, chains, seed)
    return works(process, state, 0, n, seed)[0]


def kl_by_shadow_work(
    target: Target | str,
    integrator: str | Integrator,
    *,
    h: float | None = None,
    delta: float | None = None,
    friction: float = 1.0,
    steps: int,
    chains: int,
    seed: int = 0,
    joint: bool = False,
) -> Estimate:
    """Return an estimate of the Kullback-Leibler divergence of a splitting scheme from its target, from shadow work.

    The estimate needs no histogram, so it applies in any dimension. It is accurate for small divergences only.

    Parameters
    ----------
    target : str, GaussianMixture, UserTarget or another Target
        Target with a log density and exact draws, or its name. Its samples are vectors.
    integrator : str or Integrator
        Splitting word of A, B and O, or its name. The word in reverse order must describe the same chain, as for every
        palindrome.
    h : float
        Step size in units of time. Give exactly one of ``h`` and ``delta``.
    delta : float
        Step size as ``delta = h^2/2``.
    friction : float, default 1.0
        Friction in units of 1/time.
    steps : int
        Number of time steps of each of two runs. The first run must reach the stationary distribution of the scheme.
    chains : int
        Number of chains.
    seed : int, default 0
        Seed of the random numbers.
    joint : bool, default False
        Whether to return the divergence of the joint distribution of x and p instead of that of x.

    Returns
    -------
    Estimate
        Divergence in nats, with its standard error. Both are NaN if a chain diverged, and the error is NaN for a single
        chain. The error does not include the error of the approximation.

    Raises
    ------
    ValueError
        If the word is not as described, and for the reasons of `shadow_work`.

    Notes
    -----
    Let pi be the target of x with momenta of variance T, and let rho be the stationary distribution of the scheme.
    Chains start from pi, reach rho in ``steps`` steps with the mean shadow work ``W_pi``, and continue for as many
    steps with ``W_rho``. Near equilibrium, ``KL(rho, pi) = (W_pi - W_rho)/(2 T)`` (Sivak & Crooks 2012). For the
    divergence of x, the momenta are drawn anew before the second run (Fass et al. 2018).

    The relative error of the approximation vanishes as h^2 if the word and its reverse describe the same chain. The
    work that the scheme dissipates in its stationary distribution is then of higher order. Other words, and words with
    U, dissipate more than the divergence; for UBU and BUB the relative error tends to a constant. They are refused.
    Where KL of x is much smaller than KL of (x, p), as for BAOAB, the error of the approximation may exceed it.

    References
    ----------
    J. Fass, D. A. Sivak, G. E. Crooks, K. A. Beauchamp, B. Leimkuhler and J. D. Chodera 2018, Quantifying
    configuration-sampling error in Langevin simulations of complex molecular systems, Entropy 20, 318.
    D. A. Sivak and G. E. Crooks 2012, Near-equilibrium measurements of nonequilibrium free energy, Phys. Rev. Lett.
    108, 150601.

    Examples
    --------
    On N(0, 1) at h = 0.5, the divergence of OBABO is 0.001064 and the estimate is 0.001042 on average:

    >>> import uldnum
    >>> options = dict(h=0.5, steps=20, chains=10_000)
    >>> found = uldnum.diagnostics.kl_by_shadow_work("gaussian", "OBABO", **options)
    >>> bool(abs(found.value - 0.001042) < 4 * found.error)
    True
    """
    process = process_of(target, integrator, step_size(h, delta), friction)
    check_reversible(process.scheme)
    with_momenta = flag("joint", joint)
    state, n, seed = beginning(process, steps, chains, seed)
    first, state = works(process, state, 0, n, seed)
    if not with_momenta:
        (chains, _, d), deviation = state.shape, process.scheme.start_deviation
        state[:, 1] = deviation * initial_normals(chains, seed, 0, 2 * d, d)  # the first 2 d gave x and p
    second, _ = works(process, state, n, 2 * n, seed)
    each = (first - second) / 2
    return Estimate(each.mean(), standard_error(each, axis=0))


class Process(NamedTuple):
    """A splitting word on a target, letter by letter.

    Attributes
    ----------
    target : Target
        Target, with draws at the temperature of the scheme.
    log_density : callable
        Its log density at temperature 1.
    scheme : Integrator
        The scheme.
    flows : list of Affine
        Flows of the letters of its word, at its temperature.
    """

    target: Target
    log_density: Callable[[Array], Array]
    scheme: Integrator
    flows: list[Affine]


def process_of(target: Target | str, integrator: str | Integrator, h: Array, friction: float) -> Process:
    """Return a process, or raise if its shadow work is not defined."""
    scheme, given, gamma = find_integrator(integrator), vector_target(target), positive_number("friction", friction)
    letters = set(scheme.word[0])
    if "K" in letters or not letters & {"O", "U"}:
        raise ValueError(
            "integrator: must be a splitting word with O or U and without K or braces, whose heat is the change of the "
            f"kinetic energy in O or U, got {scheme.name!r}"
        )
    if scheme.score_noise:
        raise ValueError(f"score_noise: must be 0 for shadow work, got {shown(scheme.score_noise)}")
    if h.ndim:
        raise ValueError(f"h: must be a number, got shape {h.shape}")
    if given.log_density is None:
        raise lacking(given, "its energy", "log_density")
    known = at_temperature(given, scheme.temperature)
    if known.draws is None:
        raise lacking(given, "exact draws", "draws")
    flows = [FLOWS[letter](share * h, np.asarray(gamma)) for letter, share in zip(*scheme.word, strict=True)]
    warm = [replace(flow, C=np.sqrt(scheme.temperature) * flow.C) for flow in flows]
    return Process(known, given.log_density, scheme, warm)


def check_reversible(scheme: Integrator) -> None:
    """Raise unless a word consists of A, B and O, and its reverse describes the same chain."""
    letters = list(zip(*scheme.word, strict=True))
    rotations = [letters[i:] + letters[:i] for i in range(len(letters))]
    if "U" in scheme.word[0] or letters[::-1] not in rotations:
        raise ValueError(
            "integrator: must be a word of A, B and O whose reverse is a rotation of the word, such as a palindrome, "
            f"because other schemes dissipate work in their stationary distribution, got {scheme.name!r}"
        )


def beginning(process: Process, steps: int, chains: int, seed: int) -> tuple[Array, int, int]:
    """Return states (x, p) from the target, shape (chains, 2, d), the number of steps and the seed, or raise."""
    seed, scheme = whole_number("seed", seed, 0, 2**64 - 1), process.scheme
    chains = whole_number("chains", chains, 1, 2**31)
    start = find_start(process.target, "target", chains, None, seed, temperature=scheme.temperature)
    (state,) = initial_state(start, np.array([scheme.start_deviation]), True, 1, float)
    return state, whole_number("steps", steps, 1, 2**31), seed


def works(process: Process, state: Array, begin: int, end: int, seed: int) -> tuple[Array, Array]:
    """Return the shadow work of steps begin + 1 ... end in units of T, shape (chains,), and the final states.

    The normals of step n follow those of steps 1 ... n - 1 in the stream of the dynamics. A score is evaluated again
    only after a letter that moves x.
    """
    from uldnum.kernels.numba.drawing import chain_normals  # importing Numba takes half a second

    target, log_density, scheme, flows = process
    n, _, d = state.shape
    m, word = sum(flow.normals for flow in flows), scheme.word[0]
    u, heat = np.ascontiguousarray(np.moveaxis(state, 1, 0)), np.zeros(n)  # the rows first, which is faster
    with np.errstate(all="ignore"):  # diverged chains may overflow
        s = scores_at(u[0], target, target.shape)
        for step in range(begin, end):
            drawn = chain_normals(d * m * step, d * m, 0, n, DYNAMICS, seed, u.dtype)
            xi = np.moveaxis(drawn.reshape(n, m, d), 1, 0)
            for letter, flow in zip(word, flows, strict=True):
                here, xi = np.split(xi, [flow.normals])
                noise = np.einsum("km,mnd->knd", flow.C, here)
                before, u = u, u + (np.einsum("kl,lnd->knd", flow.dA, u) + np.multiply.outer(flow.b, s) + noise)
                if letter in NOISY:
                    heat += np.square(u[1]).sum(axis=-1) / 2 - np.square(before[1]).sum(axis=-1) / 2
                if letter in MOVING:
                    s = scores_at(u[0], target, target.shape)
        last = np.moveaxis(u, 0, 1)
        work = (energy(last, log_density) - energy(state, log_density) - heat) / scheme.temperature
        centre, scale = centre_and_scale(target)
        distance = escape_distance(scale, scheme.temperature / target.temperature_of_expectations)
        inside = (np.abs(u[0] - centre) <= distance).all(axis=-1)
    return np.where(inside & np.isfinite(work), work, np.nan), last
