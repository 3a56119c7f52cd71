"""Implementations of the same sampler with other libraries: BAOA (blackjax: ULA) on Gaussian mixtures.

A peer is a function ``make(case, dtype)`` that returns a function of the number of steps. That function runs all chains
and waits for the result. All peers use one score evaluation per step, and each is written as an experienced user of the
library would write it. For JAX there are several variants, of which the fastest is reported.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import numba
import numpy as np

import uldnum
from uldnum._util.extras import require
from uldnum._util.typing import Array
from uldnum.kernels.numba.executor import NumbaExecutor
from uldnum.kernels.program import Executor, Program
from uldnum.kernels.source.core import RECORDS, lay_out
from uldnum.kernels.state import State
from uldnum.sampling._sample import one_phase
from uldnum.sampling.launch import recorded_moments, recording_of
from uldnum.targets.presets import bimodal_1d, ring_8

CHAINS, H, FRICTION = 10_000, 0.1, 1.0
FOREVER = 2**60  # number of steps of a program without an end
Peer = Callable[[uldnum.GaussianMixture, type], Callable[[int], object]]


def cases() -> dict[str, uldnum.GaussianMixture]:
    """Return the targets by the names of their columns in the table."""
    rng = np.random.default_rng(0)
    return {
        "1-D, K = 2": bimodal_1d(),
        "2-D, K = 8": ring_8(),
        "16-D, K = 4": equal(4, 16, rng),
        "64-D, K = 8": equal(8, 64, rng),
    }


def equal(K: int, d: int, rng: np.random.Generator) -> uldnum.GaussianMixture:
    """Return a mixture of K components of equal weight and unit variance at random places."""
    return uldnum.GaussianMixture(np.full(K, 1 / K), rng.normal(size=(K, d)), np.ones(K))


def coefficients(dtype: type) -> list[Any]:
    """Return the coefficients of BAOA: a, b, c of x' = x + a p + b s + c xi, and of p' = (1 + a) p + b s + c xi."""
    stage = uldnum.integrator("BAOA").stages(H, friction=FRICTION).stages[0].map
    (_, ax), (_, ap) = stage.dA
    return [dtype(value) for value in (ax, stage.b[0], stage.C[0, 0], ap, stage.b[1], stage.C[1, 0])]


def parameters(case: uldnum.GaussianMixture, dtype: type) -> tuple[Array, Array, Array]:
    """Return the log weights with normalisation, the means and the precisions of isotropic components."""
    precision = 1 / case.variances[:, 0]
    logs = np.log(case.weights) + case.shape[0] / 2 * np.log(precision)
    return logs.astype(dtype), case.means.astype(dtype), precision.astype(dtype)


def ours(case: uldnum.GaussianMixture, dtype: type, integrator: str = "BAOA") -> Callable[[int], object]:
    """Return the kernel of this package with BAOA, without recorded quantities."""
    return kernel(case, dtype, integrator, recorded=False)


def our_ula(case: uldnum.GaussianMixture, dtype: type) -> Callable[[int], object]:
    """Return the kernel of this package with ULA, without recorded quantities."""
    return kernel(case, dtype, "ula", recorded=False)


def with_moments(case: uldnum.GaussianMixture, dtype: type) -> Callable[[int], object]:
    """Return the kernel of this package with BAOA, which records what `uldnum.sample` records by default."""
    return kernel(case, dtype, "BAOA", recorded=True)


def program(
    case: uldnum.GaussianMixture,
    dtype: type,
    integrator: str | uldnum.Integrator,
    recorded: bool = True,
    h: float = H,
    record: str | None = None,
    record_every: int | None = None,
) -> Program:
    """Return the program that `uldnum.sample` would run, without an end. If not ``recorded``, it has no moments."""
    tables = lay_out([uldnum.integrator(integrator).stages(np.array([h]), friction=FRICTION)], np.dtype(dtype))
    asked = recorded_moments(record, record_every, FOREVER, case.shape, np.dtype(dtype))
    record, every = asked if recorded else (None, 1)
    recording, *_ = recording_of(case, record, every, 0, 0 if recorded else FOREVER, None)
    return one_phase(case, tables, FOREVER, recording, 0)


def kernel(
    case: uldnum.GaussianMixture,
    dtype: type,
    integrator: str,
    recorded: bool,
    make: Callable[[Program], Executor] = NumbaExecutor,
    **options: Any,
) -> Callable[[int], object]:
    """Return a function that advances the executor of `uldnum.sample` from zero states, as the other peers do."""
    asked = program(case, dtype, integrator, recorded, **options)
    executor = make(asked)
    start = np.zeros((1, CHAINS, asked.tables.b.shape[2], *case.shape), dtype)
    names = {RECORDS[name]: name for name in RECORDS}
    record = names[asked.recording.moments, asked.recording.rows]
    state = State.start(start, record=record, metropolised=asked.metropolised)
    executor.advance(state, 1)  # compile, and enter the recurrence
    return lambda steps: executor.advance(state, state.step + steps)


def numpy_peer(case: uldnum.GaussianMixture, dtype: type) -> Callable[[int], object]:
    """Return a NumPy implementation, with all chains in one array of shape (d, chains)."""
    logs, means, precision = parameters(case, dtype)
    ax, bx, cx, ap, bp, cp = coefficients(dtype)
    rng = np.random.default_rng(0)
    half = (precision / 2)[:, None]

    def score(x: Array) -> Array:
        gaps = means[:, :, None] - x
        q = logs[:, None] - half * np.einsum("kdn,kdn->kn", gaps, gaps)
        q -= q.max(axis=0)
        w = np.exp(q)
        w *= precision[:, None] / w.sum(axis=0)
        return np.einsum("kn,kdn->dn", w, gaps)

    def run(steps: int) -> Array:
        x: Array = np.zeros((case.shape[0], CHAINS), dtype)
        p = np.zeros_like(x)
        for _ in range(steps):
            s, xi = score(x), rng.standard_normal(x.shape, dtype)
            x += ax * p + bx * s + cx * xi
            p += ap * p + bp * s + cp * xi
        return x

    return run


@numba.njit(parallel=True, fastmath=True)
def plain_loop(x, p, steps, logs, means, precision, c):  # type: ignore[no-untyped-def]
    """Run BAOA chain by chain in a straightforward loop with `numba.prange`."""
    n, d = x.shape
    K = len(logs)
    for i in numba.prange(n):
        q, s = np.empty(K, x.dtype), np.empty(d, x.dtype)
        for _ in range(steps):
            top = x.dtype.type(-np.inf)
            for k in range(K):
                square = x.dtype.type(0)
                for j in range(d):
                    square += (means[k, j] - x[i, j]) ** 2
                q[k] = logs[k] - precision[k] * square / 2
                top = max(top, q[k])
            total = x.dtype.type(0)
            s[:] = 0
            for k in range(K):
                w = np.exp(q[k] - top)
                total += w
                for j in range(d):
                    s[j] += w * precision[k] * (means[k, j] - x[i, j])
            for j in range(d):
                xi, force = np.random.standard_normal(), s[j] / total  # noqa: NPY002
                x[i, j] += c[0] * p[i, j] + c[1] * force + c[2] * xi
                p[i, j] += c[3] * p[i, j] + c[4] * force + c[5] * xi


def numba_peer(case: uldnum.GaussianMixture, dtype: type) -> Callable[[int], object]:
    """Return a straightforward Numba implementation."""
    c = np.array(coefficients(dtype))
    x: Array = np.zeros((CHAINS, case.shape[0]), dtype)
    p = np.zeros_like(x)
    return lambda steps: plain_loop(x, p, steps, *parameters(case, dtype), c)


def jax_variants(devices: int) -> dict[str, Peer]:
    """Return the JAX variants: form of the score, layout, random generator, and number of CPU devices."""
    options = product(("formula", "grad"), ("chains first", "chains last"), ("threefry2x32", "rbg"), {1, devices})
    return {
        f"JAX, {', '.join(map(str, option[:3]))}, {option[3]} devices": partial(jax_peer, option=option)
        for option in options
    }


def jax_score(case: uldnum.GaussianMixture, dtype: type, how: str = "formula") -> Callable[[Any], Any]:
    """Return the score of one chain in JAX, from its formula or as the gradient of the log density."""
    import jax
    import jax.numpy as jnp

    logs, means, precision = (jnp.asarray(part) for part in parameters(case, dtype))

    def log_density(x: Any) -> Any:
        gaps = means - x
        return jax.nn.logsumexp(logs - precision * jnp.sum(gaps * gaps, axis=1) / 2)

    def formula(x: Any) -> Any:
        gaps = means - x
        w = jax.nn.softmax(logs - precision * jnp.sum(gaps * gaps, axis=1) / 2)
        return (w * precision) @ gaps

    return formula if how == "formula" else jax.grad(log_density)


def jax_peer(case: uldnum.GaussianMixture, dtype: type, option: tuple[str, str, str, int]) -> Callable[[int], object]:
    """Return a JAX implementation with a compiled loop over steps."""
    jax = require("jax", "bench")
    import jax.numpy as jnp

    how, layout, generator, devices = option
    axis = 0 if layout == "chains first" else 1
    score = jax.vmap(jax_score(case, dtype, how), in_axes=axis, out_axes=axis)
    ax, bx, cx, ap, bp, cp = coefficients(dtype)
    shape = (CHAINS, case.shape[0]) if axis == 0 else (case.shape[0], CHAINS)
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]), ("chains",))
    spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*("chains", None)[:: 1 if axis == 0 else -1]))
    key = jax.random.key(0, impl=generator)

    def step(t: Any, state: Any) -> Any:
        x, p = state
        s = score(x)
        xi = jax.lax.with_sharding_constraint(jax.random.normal(jax.random.fold_in(key, t), shape, dtype), spread)
        return x + (ax * p + bx * s + cx * xi), p + (ap * p + bp * s + cp * xi)

    loop = jax.jit(lambda steps, x, p: jax.lax.fori_loop(0, steps, step, (x, p)))
    x = p = jax.device_put(jnp.zeros(shape, dtype), spread)
    return lambda steps: jax.block_until_ready(loop(steps, x, p))


def diffrax_peer(case: uldnum.GaussianMixture, dtype: type) -> Callable[[int], object]:
    """Return diffrax's ALIGN at a constant step size, its underdamped scheme with one score evaluation per step."""
    diffrax = require("diffrax", "bench")
    import jax
    import jax.numpy as jnp

    score = jax_score(case, dtype)
    d = case.shape[0]
    gamma, u = (jnp.full(d, value, dtype) for value in (FRICTION, 1.0))

    @partial(jax.jit, static_argnums=0)
    def solve(steps: int, keys: Any) -> Any:
        def chain(key: Any) -> Any:
            path = diffrax.UnsafeBrownianPath(
                jax.ShapeDtypeStruct((d,), dtype), key, levy_area=diffrax.SpaceTimeLevyArea
            )
            drift = diffrax.UnderdampedLangevinDriftTerm(gamma, u, lambda x, _: -score(x))
            terms = diffrax.MultiTerm(drift, diffrax.UnderdampedLangevinDiffusionTerm(gamma, u, path))
            start = jnp.zeros(d, dtype), jnp.zeros(d, dtype)
            end = dtype(steps * H)
            return diffrax.diffeqsolve(
                terms, diffrax.ALIGN(0.1), dtype(0), end, dtype(H), start, max_steps=steps + 2,
                adjoint=diffrax.ForwardMode(), saveat=diffrax.SaveAt(t1=True),
            ).ys  # fmt: skip

        return jax.vmap(chain)(keys)

    keys = jax.random.split(jax.random.key(0), CHAINS)
    return lambda steps: jax.block_until_ready(solve(steps, keys))


def blackjax_peer(case: uldnum.GaussianMixture, dtype: type) -> Callable[[int], object]:
    """Return blackjax's ``sgld``, which is ULA."""
    blackjax = require("blackjax", "bench")
    import jax
    import jax.numpy as jnp

    score = jax_score(case, dtype)
    sgld = blackjax.sgld(lambda x, _: score(x))
    key = jax.random.key(0)

    def step(t: Any, x: Any) -> Any:
        keys = jax.random.split(jax.random.fold_in(key, t), CHAINS)
        return jax.vmap(lambda k, position: sgld.step(k, position, jnp.zeros(()), dtype(H**2 / 2)))(keys, x)

    loop = jax.jit(lambda steps, x: jax.lax.fori_loop(0, steps, step, x))
    x = jnp.zeros((CHAINS, case.shape[0]), dtype)
    return lambda steps: jax.block_until_ready(loop(steps, x))
