"""The reference executor on arrays of other libraries than NumPy."""

import array_api_strict as strict
import numpy as np
import pytest
from test_cuda import DTYPES, IMAGES, TARGETS, TOLERANCE

import uldnum
from uldnum.kernels.space import NUMPY, Space


def run(target, scheme, x0, dtype, **changes):
    options = {"h": [0.2, 0.3], "steps": 6, "burn_in": 1, "chains": 5, "seed": 3, "thin": 2, "progress": False}
    return uldnum.sample(target, scheme, x0=x0, dtype=dtype, **options | changes)


def assert_equal(a, b, dtype):
    for part in ("u", "xp", "sums", "squares", "counts", "left", "nfe"):
        ours, theirs = getattr(a.state, part), getattr(b.state, part)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE[dtype] * np.abs(theirs).max(initial=0))
    np.testing.assert_allclose(a.trace, b.trace, rtol=0, atol=10 * TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["1", "3 diagonal", "2 full"])
@pytest.mark.parametrize("scheme", ["ula", "BAOAB", "UBU", "mild(0.5)", "ABAOABA"])
def test_mixtures_on_strict_arrays(scheme, name, dtype):
    """Nothing beyond the standard is used, and the numbers are those of the compiled kernel."""
    target = TARGETS[name]
    x0 = target.sample(5, 1, 0)
    ours = run(target, scheme, strict.asarray(x0), dtype, bins=8)
    assert ours.info == {"arrays": "array_api_strict"}
    assert_equal(ours, run(target, scheme, x0, dtype, bins=8, backend="numba"), dtype)


def test_a_score_is_called_with_the_arrays_that_it_was_given():
    def score(x):
        xp = x.__array_namespace__()
        seen.add(xp)
        return -xp.sinh(x)

    seen = set()
    target = uldnum.UserTarget(score, 2)
    x0 = np.random.default_rng(0).normal(size=(5, 2))
    ours = run(target, "OBABO", lambda chains, seed, first: strict.asarray(x0), "float64")
    assert strict in seen
    assert_equal(ours, run(target, "OBABO", x0, "float64"), "float64")


def test_images():
    x0 = IMAGES[0].sample(5, 0, 0)
    ours = run(IMAGES[0], "UBU", strict.asarray(x0), "float32")
    assert_equal(ours, run(IMAGES[0], "UBU", x0, "float32"), "float32")


def test_what_runs_on_numpy_alone_refuses():
    x0 = strict.asarray(TARGETS["1"].sample(5, 1, 0))
    with pytest.raises(ValueError, match="x0: arrays of array_api_strict need backend 'array'"):
        run(TARGETS["1"], "BAOAB", x0, "float64", backend="numba")
    with pytest.raises(ValueError, match="and a score on arrays"):
        run("double-well", "BAOAB", x0, "float64")


def test_where_arrays_live():
    assert Space.of([1.0, 2.0]) is NUMPY
    assert Space.of(np.ones(2)) is NUMPY
    assert Space.of(strict.ones(2)).namespace is strict
