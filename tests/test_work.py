"""Shadow work: the first law of every chain, exact means on Gaussians, and the divergence that follows from it."""

import numpy as np
import pytest

import uldnum
from uldnum.diagnostics import kl_by_shadow_work, shadow_work
from uldnum.diagnostics.work import beginning, process_of, works
from uldnum.kernels.numba.drawing import chain_normals
from uldnum.kernels.source.core import DYNAMICS

WIDE = uldnum.GaussianMixture([1.0], [np.zeros(8)], [1.0])


def expected(name, h, steps, friction=1.0, joint=True):
    """Return the mean work of both runs of the estimate for one coordinate of N(0, 1), by linear algebra.

    The covariance S of (x, p) follows each letter. The energy is tr(S)/2 on average, and the heat of a letter is half
    the change of Var(p).
    """
    word, flows = uldnum.integrator(name).word[0], process_of("gaussian", name, np.array(h), friction).flows

    def work(S):
        mean = -np.trace(S) / 2
        for letter, flow in steps * list(zip(word, flows, strict=True)):
            M = np.eye(2) + flow.dA - np.outer(flow.b, [1.0, 0.0])
            T = M @ S @ M.T + flow.C @ flow.C.T
            mean -= (T[1, 1] - S[1, 1]) / 2 if letter in "OU" else 0.0
            S = T
        return mean + np.trace(S) / 2, S

    first, S = work(np.eye(2))
    second, _ = work(S if joint else np.diag([S[0, 0], 1.0]))
    return first, second, (first - second) / 2


@pytest.mark.parametrize("name", ["OBABO", "BAOAB", "BUB", "UBU", "BCSS-2"])
@pytest.mark.parametrize("target", ["double-well", "ring-8"])
def test_the_work_is_that_of_the_letters_other_than_the_thermostat(name, target):
    """The change of the potential energy in A and U, and of the kinetic energy in B, for every chain."""
    process = process_of(target, name, np.array(0.3), 1.5)
    u, steps, seed = beginning(process, 4, 6, 3)
    work, end = works(process, u, 0, steps, seed)
    x, p = u[:, 0], u[:, 1]
    d, m = x.shape[1], sum(flow.normals for flow in process.flows)
    xi = iter(np.moveaxis(chain_normals(0, d * m * steps, 0, 6, DYNAMICS, seed, x.dtype).reshape(6, -1, d), 1, 0))
    wanted = np.zeros(6)
    for letter, flow in steps * list(zip(process.scheme.word[0], process.flows, strict=True)):
        noise = [next(xi) for _ in range(flow.normals)]
        s = process.target.score(x)
        x_new = x + flow.dA[0, 1] * p + flow.b[0] * s + sum(c * z for c, z in zip(flow.C[0], noise, strict=True))
        p_new = p + flow.dA[1, 1] * p + flow.b[1] * s + sum(c * z for c, z in zip(flow.C[1], noise, strict=True))
        wanted += process.log_density(x) - process.log_density(x_new)
        if letter == "B":
            wanted += np.square(p_new).sum(axis=1) / 2 - np.square(p).sum(axis=1) / 2
        x, p = x_new, p_new
    np.testing.assert_allclose(end, np.stack([x, p], axis=1), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(work, wanted, rtol=1e-11, atol=1e-11)


def test_the_chains_are_those_of_sample():
    """The word BAOAB has one normal per step, so that its compiled step uses the same normals."""
    process = process_of("ring-8", "BAOAB", np.array(0.3), 1.0)
    state, steps, seed = beginning(process, 20, 5, 7)
    _, end = works(process, state, 0, steps, seed)
    run = uldnum.sample("ring-8", "BAOAB", h=0.3, steps=20, chains=5, seed=7, backend="array", progress=False)
    np.testing.assert_allclose(end, run.state.phase_space[0], rtol=1e-9)
    halves = [works(process, state, 0, 10, seed)]
    halves.append(works(process, halves[0][1], 10, 20, seed))
    np.testing.assert_array_equal(halves[1][1], end)
    np.testing.assert_allclose(sum(work for work, _ in halves), works(process, state, 0, 20, seed)[0], atol=1e-12)


def test_there_is_no_work_without_forces():
    """O is exact, A and U move freely, and B has no force; only rounding remains."""
    flat = uldnum.UserTarget(
        lambda x: 0 * x, 2, log_density=lambda x: 0 * x[:, 0], sampler=lambda n, seed, first: np.zeros((n, 2))
    )
    for name in ("OBABO", "UBU", "BAOA"):
        np.testing.assert_allclose(shadow_work(flat, name, h=1.0, steps=9, chains=4), 0, atol=1e-13)


@pytest.mark.parametrize(("name", "h"), [("OBABO", 0.5), ("BAOAB", 1.0), ("ABOBA", 1.0), ("UBU", 1.0), ("BAOA", 0.5)])
def test_the_mean_work_is_exact_on_gaussians(name, h):
    """4 standard errors, false-fail rate 6e-5 each; exp(-W) has the mean 1 at any step size (Jarzynski's equality).

    The means are 0.002 to 2.2 per coordinate, and 6 to 170 standard errors. Without the heat of the second O, the mean
    of OBABO would be wrong by 50 standard errors.
    """
    work = shadow_work(WIDE, name, h=h, steps=20, chains=4000, seed=1)
    assert abs(work.mean() - 8 * expected(name, h, 20)[0]) < 4 * work.std() / np.sqrt(len(work))
    weights = np.exp(-shadow_work("gaussian", name, h=h, steps=5, chains=4000, seed=1))
    assert abs(weights.mean() - 1) < 4 * weights.std() / np.sqrt(len(weights))


def exact(name, h):
    """Return the exact divergences of x and of (x, p) on N(0, 1)."""
    law = uldnum.exact.gaussian(name, h=h)
    return law.position_kl, law.phase_space_kl


@pytest.mark.parametrize("h", [0.4, 0.55, 0.7])
@pytest.mark.parametrize("name", ["OBABO", "BAOAB"])
def test_divergences_on_gaussians(name, h):
    """4 standard errors of the estimate from its exact mean, and of the exact divergence, false-fail rate 6e-5 each.

    The divergences of eight coordinates are 3 to 9 standard errors, except that of x for BAOAB, which is 0. The
    approximation is wrong by at most 5%, which is less than half a standard error.
    """
    for joint, divergence in enumerate(exact(name, h)):
        found = kl_by_shadow_work(WIDE, name, h=h, steps=15, chains=8000, seed=2, joint=bool(joint))
        assert abs(found.value - 8 * expected(name, h, 15, joint=joint)[2]) < 4 * found.error
        assert abs(found.value - 8 * divergence) < 4 * found.error


@pytest.mark.parametrize("name", ["OBABO", "OABAO", "BAOAB", "ABOBA", "BAOA", "BCSS-2", "ABAOABA", "OABA"])
def test_the_mean_of_the_estimate_approaches_the_divergence(name):
    """The relative error falls as h^2: by a factor of 4 when h is halved. This is linear algebra, without noise."""
    for joint in (False, True):
        errors = []
        for h in (0.5, 0.25):
            divergence = exact(name, h)[joint]
            if divergence < 1e-12:
                assert abs(expected(name, h, 200, joint=joint)[2]) < 1e-12
                continue
            errors.append(expected(name, h, 200, joint=joint)[2] / divergence - 1)
        assert not errors or (abs(errors[0]) < 0.1 and 3.5 < errors[0] / errors[1] < 4.5)


@pytest.mark.parametrize("name", ["UBU", "BUB", "ABO"])
def test_words_that_dissipate_are_refused(name):
    """The error of the estimate for them does not vanish with h: it exceeds a tenth of both divergences at h = 1/16."""
    for joint in (False, True):
        assert abs(expected(name, 1 / 16, 800, joint=joint)[2] / exact(name, 1 / 16)[joint] - 1) > 0.1
    with pytest.raises(ValueError, match=r"integrator: must be a word of A, B and O whose reverse is a rotation"):
        kl_by_shadow_work("gaussian", name, h=0.5, steps=2, chains=4)


def test_temperatures():
    """On a Gaussian all variables scale with sqrt(T), and W/T does not depend on T."""
    cold, hot = (
        shadow_work("gaussian", uldnum.integrator("OBABO").at(temperature=T), h=0.8, steps=9, chains=5)
        for T in (1.0, 4.0)
    )
    np.testing.assert_allclose(cold, hot, rtol=1e-12)


def test_refusals():
    given = {"h": 0.5, "steps": 2, "chains": 4}
    for name in ("ula", "AKA", "O {BAB} O", "GJF"):
        with pytest.raises(ValueError, match="integrator: must be a splitting word with O or U and without K"):
            shadow_work("gaussian", name, **given)
    with pytest.raises(ValueError, match=r"score_noise: must be 0 for shadow work, got 0\.1"):
        shadow_work("gaussian", uldnum.integrator("BAOAB").at(score_noise=0.1), **given)
    with pytest.raises(ValueError, match=r"h: must be a number, got shape \(2,\)"):
        shadow_work("gaussian", "BAOAB", h=[0.1, 0.2], steps=2, chains=4)
    with pytest.raises(ValueError, match="does not provide its energy; define its 'log_density'"):
        shadow_work(uldnum.UserTarget(lambda x: -x, 1), "BAOAB", **given)
    with pytest.raises(ValueError, match="does not provide exact draws; define its 'draws'"):
        shadow_work(uldnum.UserTarget(lambda x: -x, 1, log_density=lambda x: -(x[:, 0] ** 2) / 2), "BAOAB", **given)
    with pytest.raises(ValueError, match=r"known on Gaussians and in one dimension, but not for 'ring-8'$"):
        shadow_work("ring-8", uldnum.integrator("BAOAB").at(temperature=2.0), **given)  # there are no references
    assert np.isnan(shadow_work("gaussian", "BAOAB", h=3.0, steps=60, chains=4)).all()
    assert np.isnan(kl_by_shadow_work("gaussian", "BAOAB", h=3.0, steps=60, chains=4)).all()
    assert np.isnan(kl_by_shadow_work("gaussian", "BAOAB", h=0.5, steps=2, chains=1).error)
