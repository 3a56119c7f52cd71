"""Random numbers against known answers and distributions, the mixture score against SciPy, for NumPy and Numba."""

import numba
import numpy as np
import pytest
from helpers.normals import normals
from scipy import special, stats

import uldnum
from uldnum.jit import values
from uldnum.kernels.arrays import binding as array
from uldnum.kernels.initial import initial_uniform, initial_uniforms
from uldnum.kernels.numba.binding import core
from uldnum.kernels.numba.drawing import chain_normals
from uldnum.kernels.source.core import DYNAMICS, INITIAL, READOUT
from uldnum.schemes.catalogue import Integrator
from uldnum.schemes.stage import Affine, Step, first_row, table
from uldnum.targets import PRESETS, GaussianMixture, target

ONES = 0xFFFFFFFF
# Known-answer vectors of Random123: counter, key, words.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ((ONES,) * 4, (ONES,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


def philox(backend, *words):
    """Return the words of a counter and a key, computed by the core on arrays or on vectors."""
    if backend == "array":
        return [int(w[0]) for w in array.core(np.dtype(float)).philox(*(np.array([w], np.uint64) for w in words))]
    generate, view = core(np.dtype(float), 8).philox, values.view(8)

    @numba.njit
    def call(given, out):
        row = view(given, 0, 1)
        w = generate(row[0], row[1], row[2], row[3], given[32], given[40])
        for j, word in enumerate(w):
            view(out, 0, 1)[j] = word

    out = np.empty(32, np.uint64)
    call(np.repeat(np.array(words, np.uint64), 8), out)
    assert np.all(out.reshape(4, 8) == out[::8, None])
    return [int(word) for word in out[::8]]


@pytest.mark.parametrize("backend", ["array", "vectors"])
@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_philox_known_answers(backend, counter, key, answer):
    words = philox(backend, *counter, *key)
    assert " ".join(f"{word & ONES:08x}" for word in words) == answer


def test_streams_are_numbered_as_documented():
    assert (DYNAMICS, INITIAL, READOUT) == (0, 1, 2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_normals_are_box_muller_of_the_words_in_order(dtype):
    """Number j is made of word j mod 4 of block j div 4, whose counter is (block low, block high, chain, stream)."""
    dtype, seed, chain, block = np.dtype(dtype), 0x123456789ABCDEF, 7, 2**32 + 5
    key = np.uint64(seed & ONES), np.uint64(seed >> 32)
    w = philox("array", 5, 1, chain, DYNAMICS, *key)
    w = [word & ONES for word in w]
    radius = np.sqrt(-2 * np.log(np.array([w[0], w[2]], float) * 2.0**-32 + 2.0**-33))
    angle = np.pi * np.array([w[1], w[3]], np.uint64).astype(np.uint32).view(np.int32) * 2.0**-31
    expected = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).ravel()
    chains = np.array([chain], np.uint64)
    got = normals(4 * block, 4, chains, DYNAMICS, seed, dtype)[:, 0]
    eps = np.finfo(dtype).eps  # the error of an angle, up to pi, is half an ulp; the largest radius is 6.8
    np.testing.assert_allclose(got, expected, rtol=8 * eps, atol=12 * eps)
    np.testing.assert_array_equal(normals(4 * block + 1, 2, chains, DYNAMICS, seed, dtype)[:, 0], got[1:3])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("first", "count", "n"),
    [(4, 2, 100), (8, 12, 40), (6, 3, 33), (6, 4, 20), (7, 1, 33), (1, 131, 3), (2**35 + 3, 9, 5), (6, 0, 2)],
)
def test_compiled_normals_of_chains_are_those_of_arrays(first, count, n, dtype):
    """They agree up to the last places, because compiled code uses fused multiply-adds."""
    dtype, seed, chain = np.dtype(dtype), 2**40 + 3, 2**32 - n  # the last possible chains
    got = chain_normals(first, count, chain, n, INITIAL, seed, dtype)
    expected = normals(first, count, np.arange(chain, chain + n), INITIAL, seed, dtype).T
    assert got.dtype == dtype
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(got, expected, rtol=8 * eps, atol=12 * eps)


def test_compiled_uniforms_are_the_first_words_of_chains():
    key = np.uint64(5), np.uint64(1)
    words = [philox("array", 0, 0, chain, INITIAL, *key)[0] & ONES for chain in range(90, 140)]
    expected = np.array(words) * 2.0**-32 + 2.0**-33
    np.testing.assert_array_equal(initial_uniform(50, 2**32 + 5, 90), expected)


@pytest.mark.parametrize("begin", [0, 4, 8])
def test_uniform_starts_use_words_that_no_normal_uses(begin):
    """They start with block 2^32, whose high word is 1; normals of fewer than 2^34 coordinates end before it."""
    key = np.uint64(5), np.uint64(1)
    words = [[word & ONES for word in philox("array", begin // 4, 1, chain, INITIAL, *key)] for chain in range(90, 140)]
    expected = np.array(words) * 2.0**-32 + 2.0**-33
    np.testing.assert_array_equal(initial_uniforms(50, 2**32 + 5, 90, begin, 4), expected)


@pytest.mark.parametrize(
    ("numbers", "fault"),
    [((-1, 0, 0), "n: "), ((1, -1, 0), "seed: "), ((1, 2**64, 0), "seed: "), ((1, 0, -1), "first: "),
     ((2, 0, 2**32 - 1), "first: must be at least 0 and at most 4294967294")],
)  # fmt: skip
def test_draws_with_invalid_chains_and_seeds_are_refused(numbers, fault):
    with pytest.raises(ValueError, match=f"^{fault}"):
        target("ring-8").sample(*numbers)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_normals_are_normal(dtype):
    """Moments up to order 4 and a Kolmogorov-Smirnov test on 1e7 numbers, drawn by the compiled kernels.

    Each bound is at 5 standard errors, a false-fail rate of 6e-7 per moment. It detects an error of 0.0016 in the mean,
    of 0.0022 in the variance, and of 0.006 or 0.016 in the third or fourth moment. The level of the KS test is 1e-6.
    """

    def recipe(h, friction):
        map = Affine(table(h, [[-1]]), table(h, [0]), table(h, [[1]]))  # x' = xi
        return Step.on_step(first_row(map.b), map)

    scheme = Integrator("noise", recipe)
    run = uldnum.sample("gaussian", scheme, h=1.0, steps=1000, chains=10_000, thin=1, seed=3, dtype=dtype)
    z = run.trace.ravel().astype(float)
    for order, moment in ((1, 0), (2, 1), (3, 0), (4, 3)):
        error = np.sqrt(stats.norm.moment(2 * order) - moment**2) / np.sqrt(z.size)
        assert abs((z**order).mean() - moment) < 5 * error
    assert stats.kstest(z, "norm").pvalue > 1e-6


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_largest_normal(dtype):
    """The smallest word gives the radius (66 log 2)^(1/2), the largest word gives 0 or nearly 0."""
    word = np.array([0, 2**32 - 1], np.uint64).astype(f"u{np.dtype(dtype).itemsize}")
    c, s = array.core(np.dtype(dtype)).box_muller(word, np.zeros_like(word))
    np.testing.assert_allclose(c, [np.sqrt(66 * np.log(2)), 0], atol=3e-5)
    np.testing.assert_array_equal(s, 0)


def test_neighbouring_chains_steps_and_streams_are_uncorrelated():
    """Correlations over 1e6 pairs, at 5 standard errors (0.005): false-fail rate 6e-7 each."""
    chains = np.arange(1000, dtype=np.uint64)
    z = normals(0, 1001, chains, DYNAMICS, 3, np.dtype(float))
    other = normals(0, 1001, chains, np.uint64(2), 3, np.dtype(float))
    next_seed = normals(0, 1001, chains, DYNAMICS, 4, np.dtype(float))
    for a, b in ((z[1:], z[:-1]), (z[:, 1:], z[:, :-1]), (z, other), (z, next_seed), (z[2:], z[:-2])):
        assert abs(np.mean(a * b)) < 5e-3
        assert abs(np.mean((a**2 - 1) * (b**2 - 1))) < 5 * 2e-3


def full_mixture():
    rng = np.random.default_rng(4)
    roots = rng.normal(size=(3, 4, 4))
    return GaussianMixture([0.2, 0.3, 0.5], rng.normal(size=(3, 4)), covariances=roots @ roots.swapaxes(1, 2))


MIXTURES = [*(name for name in PRESETS if name != "double-well"), "full"]


@pytest.mark.parametrize("name", MIXTURES)
def test_mixture_score_and_density_against_scipy(name):
    mixture = full_mixture() if name == "full" else target(name)
    full = mixture.covariances if name == "full" else [np.diag(variance) for variance in mixture.variances]
    x = mixture.sample(50, seed=1)
    logs = np.log(mixture.weights) + np.stack(
        [stats.multivariate_normal(mean, cov).logpdf(x) for mean, cov in zip(mixture.means, full, strict=True)], axis=1
    )
    density = special.logsumexp(logs, axis=1, keepdims=True)
    np.testing.assert_allclose(mixture.log_density(x), density[:, 0], rtol=1e-11)
    shares = np.exp(logs - density)
    np.testing.assert_allclose(mixture.responsibilities(x), shares, rtol=1e-9, atol=1e-12)
    pull = np.stack([np.linalg.solve(cov, (mean - x).T).T for mean, cov in zip(mixture.means, full, strict=True)])
    expected = np.einsum("nk,knd->nd", shares, pull)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(mixture.score(x), expected, rtol=1e-9, atol=1e-12 * scale)
    np.testing.assert_allclose(mixture.score(x.astype(np.float32)), expected, rtol=1e-3, atol=1e-4 * scale)


def test_score_far_away_does_not_overflow():
    mixture = GaussianMixture([0.5, 0.5], [[0.0, 1.0], [2.0, 0.0]], [[1.0, 0.5], [0.3, 2.0]])
    x = np.array([[1e4, -1e4], [-1e4, 1e4]])
    assert np.isfinite(mixture.score(x)).all()
    assert np.isfinite(mixture.score(x.astype(np.float32))).all()


def test_bins_and_their_overflow():
    """Four bins on [-1, 1): x below -1 and NaN are in bin 0, x >= 1 is in bin 5."""
    bin_of = array.core(np.dtype(float)).bin_of
    wanted = {
        -1e300: 0,
        -1.001: 0,
        -1.0: 1,
        -0.51: 1,
        -0.49: 2,
        0.0: 3,
        0.99: 4,
        1.0: 5,
        np.inf: 5,
        -np.inf: 0,
        np.nan: 0,
    }
    with np.errstate(over="ignore"):
        assert {x: int(bin_of(np.float64(x), -1.0, 2.0, 4.0)) for x in wanted} == wanted
