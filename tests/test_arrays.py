"""The array executor on arrays of libraries other than NumPy."""

from dataclasses import replace

import array_api_strict as strict
import numpy as np
import pytest
from helpers.simulation import DTYPES, IMAGES, TARGETS, TOLERANCE

import uldnum
from analysis.gpu_check import Images
from uldnum._util.arraylib import NUMPY, Space


class StrictMixture(uldnum.GaussianMixture):
    like = strict.zeros(1)


def strict_mixture(mixture):
    shape = {"variances": mixture.variances} if mixture.covariances is None else {"covariances": mixture.covariances}
    return StrictMixture(mixture.weights, mixture.means, **shape)


def run(target, scheme, dtype="float64", **changes):
    options = {"h": [0.2, 0.3], "steps": 6, "burn_in": 1, "chains": 5, "seed": 3, "thin": 2, "progress": False}
    return uldnum.sample(target, scheme, dtype=dtype, **options | changes)


def assert_equal(a, b, dtype):
    for part in ("u", "phase_space", "sums", "products", "counts", "escape_step", "nfe"):
        ours, theirs = getattr(a.state, part), getattr(b.state, part)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE[dtype] * np.abs(theirs).max(initial=0))
    np.testing.assert_allclose(a.trace, b.trace, rtol=0, atol=10 * TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["1", "3 diagonal", "2 full"])
@pytest.mark.parametrize("scheme", ["ula", "BAOAB", "UBU", "mild(0.5)", "ABAOABA"])
def test_mixtures_on_strict_arrays(scheme, name, dtype):
    """Only operations of the array API standard are used, and the results agree with the compiled kernel."""
    ours = run(strict_mixture(TARGETS[name]), scheme, dtype, bins=8, backend="array")
    assert ours.info["arrays"].startswith("array_api_strict")
    assert_equal(ours, run(TARGETS[name], scheme, dtype, bins=8, backend="numba"), dtype)


def sinh_target(like):
    """Return a target whose score checks that it receives strict arrays if ``like`` is given, and NumPy's otherwise."""

    def score(x):
        xp = strict if like is not None else np
        assert x.__array_namespace__() is xp
        return -xp.sinh(x)

    return uldnum.UserTarget(score, 2, sampler=lambda n, seed, first: np.full((n, 2), 0.5), like=like)


def test_a_score_is_called_with_the_arrays_that_it_takes():
    target = sinh_target(strict.zeros(1))
    ours = run(target, "OBABO")
    assert_equal(ours, run(sinh_target(None), "OBABO"), "float64")
    np.testing.assert_array_equal(target.score(np.ones((3, 2))), -np.sinh(np.ones((3, 2))))
    part = run(target, "OBABO", steps=3)
    assert_equal(run(target, "OBABO", resume=part), ours, "float64")


def place(library):
    """Return an array of a library, on a GPU if there is one, and the library's sinh."""
    if library == "torch":
        torch = pytest.importorskip("torch")
        return torch.zeros(1, device="cuda" if torch.cuda.is_available() else "cpu"), torch.sinh
    cupy = pytest.importorskip("cupy")
    try:
        return cupy.zeros(1), cupy.sinh
    except cupy.cuda.runtime.CUDARuntimeError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("library", ["torch", "cupy"])
def test_installed_libraries(library, dtype):
    like, sinh = place(library)
    target = uldnum.UserTarget(lambda x: -sinh(x), 2, sampler=lambda n, seed, first: np.full((n, 2), 0.5), like=like)
    assert_equal(run(target, "UBU", dtype), run(sinh_target(None), "UBU", dtype), dtype)


def test_images():
    ours = run(Images((3, 2, 2), strict.zeros(1)), "UBU", "float32")
    assert_equal(ours, run(IMAGES[0], "UBU", "float32"), "float32")


def test_start_from_any_library():
    x0 = TARGETS["1"].sample(5, 1, 0)
    ours, theirs = (run(TARGETS["1"], "BAOAB", x0=start) for start in (strict.asarray(x0), x0))
    np.testing.assert_array_equal(ours.x, theirs.x)


@pytest.mark.filterwarnings("ignore:score. returns float64 for positions in float32")
def test_a_score_in_another_type_does_not_change_that_of_the_run():
    """The ends of launches depend on time, so a score in float64 must not change the state's dtype between launches."""
    precision = np.array([1.0, 3.0])
    target = uldnum.UserTarget(lambda x: -x * precision, 2, sampler=lambda n, seed, first: np.ones((n, 2)))
    whole = run(target, "BAOAB", "float32")
    part = run(target, "BAOAB", "float32", steps=2)
    np.testing.assert_array_equal(run(target, "BAOAB", "float32", resume=part).x, whole.x)


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match="score: must return the shape of its argument"):
        uldnum.UserTarget(lambda x: strict.sum(x, axis=1), 2, like=strict.zeros(1))
    with pytest.raises(ValueError, match="like: a Numba score accepts only NumPy arrays"):
        replace(uldnum.target("double-well"), like=strict.zeros(1))


def test_where_arrays_live():
    assert Space.of(None) is NUMPY
    assert Space.of(np.ones(2)) is NUMPY
    assert Space.of(strict.ones(2)).namespace is strict
