"""The elementary functions of the kernels against mpmath, on vectors and on arrays."""

from functools import cache

import mpmath
import numpy as np
import pytest
from helpers.lanes import on_arrays

from uldnum.kernels.arrays import binding as array
from uldnum.kernels.source.functions import FORMATS, make_newton

DTYPES = [np.float64, np.float32]
POINTS = 16_000
LIMITS = {np.float64: (708.0, 1e5), np.float32: (87.0, 1e3)}


def points(name, dtype, n):
    """Return random arguments: over all magnitudes for log, else over the stated range; the ends are included."""
    rng = np.random.default_rng(7)
    top, far = LIMITS[dtype]
    drawn = {
        "log": lambda: np.exp(rng.uniform(-top, top, n)),
        "uniform": lambda: rng.uniform(0, 1, n) + 2.0**-33,
        "exp": lambda: rng.uniform(-top, top, n),
        "exp2": lambda: rng.uniform(FORMATS[dtype].least_power, top / np.log(2.0), n),
        "tanh": lambda: rng.uniform(-1, 1, n) * 10 ** rng.uniform(-8, 1.3, n),
        "near": lambda: rng.uniform(-2 * np.pi, 2 * np.pi, n),
        "far": lambda: rng.uniform(-far, far, n),
    }[name]()
    return drawn.astype(dtype)


# function, points, exact function, error bound of the docstring
CASES = [
    ("log", "log", mpmath.log, 2.1),
    ("log", "uniform", mpmath.log, 2.1),
    ("exp", "exp", mpmath.exp, 1.0),
    ("exp2", "exp2", lambda x: mpmath.mpf(2) ** x, 1.0),
    ("tanh", "tanh", mpmath.tanh, 3.0),
    ("cos", "near", mpmath.cos, 1.5),
    ("sin", "near", mpmath.sin, 1.5),
    ("cos", "far", mpmath.cos, 1.5),
    ("sin", "far", mpmath.sin, 1.5),
]


@cache
def cos_sin(dtype):
    return on_arrays(lambda core: core.functions.cos_sin_of, dtype, results=2)


@cache
def evaluate(name, dtype):
    """Return a function on vectors as a function of arrays."""
    if name in ("cos", "sin"):
        return lambda x: cos_sin(dtype)(x)[("cos", "sin").index(name)]
    return on_arrays(lambda core: getattr(core.functions, name), dtype)


def largest_error(name, where, exact, dtype, n):
    """Return the largest error in ulp of the result; for cos and sin in ulp of numbers between 1/2 and 1."""
    x = points(where, dtype, n)
    got = evaluate(name, dtype)(x)
    with mpmath.workprec(100):
        worst = 0.0
        for argument, value in zip(x.tolist(), got.tolist(), strict=True):
            true = exact(mpmath.mpf(argument))
            size = 0.75 if name in ("cos", "sin") else float(abs(true))
            worst = max(worst, float(abs(true - value) / mpmath.mpf(float(np.spacing(dtype(size))))))
    return worst


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "where", "exact", "bound"), CASES)
def test_largest_error(name, where, exact, bound, dtype):
    assert largest_error(name, where, exact, dtype, POINTS) < bound


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "where", "exact", "bound"), CASES)
def test_largest_error_on_a_million_points(name, where, exact, bound, dtype):
    assert largest_error(name, where, exact, dtype, 1_000_000) < bound


@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_and_vectors_agree_to_the_last_bits(dtype):
    """They differ in the last bits, because the array executor has no fused multiply-add."""
    functions = array.core(np.dtype(dtype)).functions
    for name, where in (("log", "log"), ("exp", "exp"), ("exp2", "exp2"), ("tanh", "tanh")):
        x = points(where, dtype, POINTS)
        np.testing.assert_allclose(getattr(functions, name)(x), evaluate(name, dtype)(x), rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
def test_at_the_ends(dtype):
    least, most = (-708.0, 709.0) if dtype is np.float64 else (-87.0, 88.0)
    x = np.array([-np.inf, -1e4, least, most, np.nan, 0.0, 1e4, np.inf], dtype)
    exp = evaluate("exp", dtype)(x)
    np.testing.assert_allclose(exp[:3], np.exp(dtype(least)), rtol=1e-6)
    np.testing.assert_allclose(exp[3], np.exp(dtype(most)), rtol=1e-6)
    assert np.isnan(exp[4])
    assert exp[5] == 1
    exp2 = evaluate("exp2", dtype)(x)
    smallest = 2.0 ** FORMATS[dtype].least_power
    np.testing.assert_array_equal(exp2[[0, 1, 5]], [smallest, smallest, 1])
    assert np.isnan(exp2[4])
    tanh = evaluate("tanh", dtype)(x)
    np.testing.assert_array_equal(tanh[[0, 1, 5, 6, 7]], [-1, -1, 0, 1, 1])
    assert np.isnan(tanh[4])
    assert evaluate("log", dtype)(np.ones(8, dtype))[0] == 0


def test_quotient_and_root_of_gpus():
    """The GPU's instructions round correctly if the first approximation does, on every seventh argument."""
    ops = array.ops(np.dtype(np.float32))

    def fma(x, y, z):
        return (x.astype(np.longdouble) * y + z).astype(np.float32)

    quotient, root = make_newton(
        ops.jit, fma, ops.larger, lambda x: (1 / x.astype(np.float64)).astype(np.float32),
        lambda x: (1 / np.sqrt(x.astype(np.float64))).astype(np.float32),
    )  # fmt: skip

    def between(least, most):
        first, last = np.array([least, most], np.float32).view(np.int32)
        return np.arange(first, last, 7, np.int32).view(np.float32)

    total, one = between(1, 2), np.float32(1)  # the exponent does not matter
    np.testing.assert_array_equal(quotient(-np.ones_like(total), total), -1 / total)
    m = between(np.sqrt(0.5), np.sqrt(2))  # as in log
    np.testing.assert_array_equal(quotient(m - one, m + one), (m - one) / (m + one))
    x = np.append(between(1, 4), [np.float32(0)])
    np.testing.assert_array_equal(root(x), np.sqrt(x))
