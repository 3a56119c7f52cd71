"""Elementary functions and dense algebra that do not depend on the processor, and a check of where they are used."""

import ast
import re
from pathlib import Path

import mpmath
import numpy as np
import pytest

import uldnum
from uldnum.arithmetic import dense, elementary
from uldnum.exact import precise
from uldnum.targets import factors

PACKAGE = Path(uldnum.__file__).parent


def signed(low, high, n, seed):
    """Return random numbers between 10^low and 10^high, and their negatives."""
    size = 10.0 ** np.random.default_rng(seed).uniform(low, high, n)
    return np.concatenate([size, -size])


def around_one(n):
    """Return numbers from 0.1 to 1.9, most of them near 1."""
    return 1 + signed(-15, -0.05, n, 1)


ARGUMENTS = {
    "exp": [signed(-20, 2.85, 500, 0), signed(-4, 1, 500, 1)],
    "expm1": [signed(-20, 2.5, 500, 2), signed(-4, 1, 500, 3)],
    "tanh": [signed(-20, 2, 500, 4), signed(-4, 1, 500, 5)],
    "log": [signed(-300, 300, 1000, 6)[:1000], around_one(500)],
    "log2": [signed(-300, 300, 1000, 7)[:1000], around_one(500)],
    "log1p": [signed(-20, 300, 1000, 8)[:1000], signed(-20, -0.01, 500, 9)],
    "sin": [signed(-20, 300, 200, 10), signed(-2, 1, 500, 11)],
    "cos": [signed(-20, 300, 200, 12), signed(-2, 1, 500, 13)],
}


def error(values, exact):
    """Return the largest error of float64 numbers in units in the last place."""
    gaps = [abs(mpmath.mpf(float(v)) - e) / np.spacing(abs(v)) for v, e in zip(values, exact, strict=True)]
    return float(max(gaps))


@pytest.mark.parametrize("name", ARGUMENTS)
def test_functions_are_correctly_rounded(name):
    exact = {"log2": lambda x: mpmath.log(x, 2)}.get(name, getattr(mpmath, name, None))
    with mpmath.workdps(60):
        for x in ARGUMENTS[name]:
            assert error(getattr(elementary, name)(x), [exact(mpmath.mpf(float(v))) for v in x]) < 0.5000002


def test_powers_are_correctly_rounded_except_near_ties():
    rng = np.random.default_rng(0)
    x, y = 10.0 ** rng.uniform(-20, 20, 1000), rng.uniform(-10, 10, 1000)
    with mpmath.workdps(60):
        exact = [mpmath.mpf(float(a)) ** mpmath.mpf(float(b)) for a, b in zip(x, y, strict=True)]
        assert error(elementary.power(x, y), exact) < 0.501


def test_logarithms_of_powers_of_two_are_exact():
    n = np.arange(-1074, 1024)
    np.testing.assert_array_equal(elementary.log2(np.ldexp(1.0, n)), n)


SPECIAL = np.array(
    [0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324, -1e-320, 1e308, 709.7, 709.8, -745.0, -746.0, -1, 1, -2]
)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_special_values_are_those_of_numpy(name):
    values = getattr(elementary, name)(SPECIAL)
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(SPECIAL)
    np.testing.assert_allclose(values, expected, rtol=1e-15, atol=0)
    np.testing.assert_array_equal(np.signbit(values[values == 0]), np.signbit(expected[values == 0]))


def test_special_powers_are_those_of_numpy():
    x, y = np.meshgrid(np.abs(SPECIAL), SPECIAL)
    with np.errstate(all="ignore"):
        expected = np.power(x, y)
    np.testing.assert_allclose(elementary.power(x, y), expected, rtol=1e-13)
    assert np.isnan(elementary.power(-1.0, 2.5))


@pytest.mark.parametrize("name", ARGUMENTS)
def test_scalars_and_arrays_of_any_shape_agree(name):
    function, x = getattr(elementary, name), np.linspace(0.1, 3, 12)
    values = function(x)
    np.testing.assert_array_equal(function(x.reshape(3, 4)), values.reshape(3, 4))
    np.testing.assert_array_equal([function(float(one)) for one in x], values)
    assert isinstance(function(0.5), float)
    assert function(np.empty((0, 2))).shape == (0, 2)


def test_objects_use_their_own_methods():
    value = elementary.expm1(precise.lift(np.array([-0.5])))[0]
    assert abs(float(value) - float(mpmath.expm1(mpmath.mpf("-0.5")))) < 1e-15
    assert isinstance(value, precise.Number)


def test_hypot_neither_overflows_nor_underflows():
    x, y = signed(-300, 300, 2000, 14), signed(-300, 300, 2000, 15)
    np.testing.assert_allclose(elementary.hypot(x, y), np.hypot(x, y), rtol=4e-16)
    assert elementary.hypot(0.0, 0.0) == 0
    assert elementary.hypot(3e-320, 4e-320) == pytest.approx(5e-320, rel=1e-4)


def test_interpolation_and_geometric_sequences_are_those_of_numpy():
    rng = np.random.default_rng(0)
    places, values, x = np.sort(rng.normal(size=50)), rng.normal(size=50), rng.normal(size=400) * 2
    np.testing.assert_allclose(elementary.interp(x, places, values), np.interp(x, places, values), atol=1e-14)
    np.testing.assert_array_equal(elementary.interp(places, places, values), values)
    for ends in ((0.1, 1.6), (50, 0.01), (1e-3, 1e4)):
        for count in (1, 2, 3, 12):
            got = elementary.geomspace(*ends, count)
            np.testing.assert_allclose(got, np.geomspace(*ends, count), rtol=1e-14)


def test_products_and_totals_are_those_of_numpy():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(5, 1, 3, 4)), rng.normal(size=(2, 4, 6))
    np.testing.assert_allclose(dense.product(a, b), a @ b, rtol=0, atol=1e-14)
    np.testing.assert_array_equal(dense.product(a[..., :0], b[:, :0]), np.zeros((5, 2, 3, 6)))
    for axis in range(4):
        np.testing.assert_allclose(dense.total(a, axis), a.sum(axis=axis), rtol=0, atol=1e-14)
    assert dense.total(np.zeros((3, 0))).tolist() == [0, 0, 0]


def random_covariances(d):
    """Return the covariances of three random Gaussians."""
    root = np.random.default_rng(d).normal(size=(3, d, d + 2))
    return root @ root.swapaxes(1, 2)


@pytest.mark.parametrize("d", [1, 2, 7, 33])
def test_factors_are_those_of_lapack(d):
    covariances = random_covariances(d)
    lower = factors.cholesky(covariances)
    np.testing.assert_allclose(lower, np.linalg.cholesky(covariances), rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(np.triu(lower, 1), 0)
    np.testing.assert_allclose(factors.inverse(lower) @ lower, np.broadcast_to(np.eye(d), lower.shape), atol=1e-10)
    least = np.linalg.eigvalsh(covariances)
    np.testing.assert_allclose(factors.least_eigenvalues(covariances), least[:, 0], atol=1e-14 * d * least.max())


def test_singular_covariances_are_refused():
    rng = np.random.default_rng(0)
    for d in (2, 3, 8):
        for _ in range(20):
            rows = rng.integers(1, 10, size=(d - 1, d)).astype(float)  # so that the matrix is exactly singular
            singular = rows.T @ rows
            with pytest.raises(ValueError, match="covariances: component 1 is not positive definite"):
                uldnum.GaussianMixture([0.5, 0.5], np.zeros((2, d)), covariances=[np.eye(d), singular])


# ---------------------------------------------------------------------------------------------- where they are used

# These modules compute the numbers on which chains depend. The check exempts the functions named here, on which no
# chain depends: densities, probabilities, fits and the names of objects other than tables.
GUARDED = {
    "schemes/adaptive.py": (),
    "sampling/_anneal.py": (),
    "arithmetic/dense.py": (),
    "arithmetic/elementary.py": (),
    "schemes/catalogue.py": (),
    "schemes/controlled.py": (),
    "schemes/molecular.py": (),
    "schemes/runge_kutta.py": (),
    "sampling/launch.py": (),
    "plans/levels.py": (),
    "plans/_plan.py": (),
    "schemes/predictors.py": (),
    "plans/schedules.py": (),
    "schemes/words.py": (),
    "schemes/stage.py": (),
    "kernels/arrays/adaptive.py": (),
    "kernels/source/core.py": (),
    "kernels/numba/drawing.py": (),
    "targets/factors.py": (),
    "kernels/source/functions.py": (),
    "kernels/source/mixture.py": (),
    "networks/card.py": (),
    "networks/forms.py": (),
    "networks/score.py": ("check",),
    "studies/common.py": (),
    "targets/mixture.py": ("fit", "log_density", "responsibilities", "log_shares", "cdf", "erf"),
    "targets/noised.py": (),
    "targets/presets.py": (),
    "targets/user.py": (),
}

# Functions of NumPy and of `math` whose results, or whose order of summation, depend on the processor.
INEXACT = re.findall(
    r"\w+",
    """
    exp exp2 expm1 log log2 log10 log1p logaddexp power float_power pow cbrt sin cos tan sinh cosh tanh arcsin arccos
    arctan arctan2 arcsinh arccosh arctanh asin acos atan atan2 hypot erf erfc gamma lgamma fsum dist geomspace logspace
    interp sum mean average std var prod trapezoid dot vdot inner matmul einsum tensordot linalg convolve polyval
    """,
)
METHODS = ("sum", "mean", "std", "var", "prod", "dot")
NUMPY = tuple(f"np.{name}" for name in METHODS)  # the attribute check finds these


def names(node):
    """Return the names that a definition or an assignment defines."""
    if isinstance(node, ast.Assign):
        return {target.id for target in node.targets if isinstance(target, ast.Name)}
    return {node.name} if isinstance(node, ast.FunctionDef) else set()


def constant(node):
    """Whether an expression is a number, with or without a sign."""
    return isinstance(node.operand if isinstance(node, ast.UnaryOp) else node, ast.Constant)


def faults(source, exempt):
    """Return the lines of a module that use operations that depend on the processor; skip the exempt functions."""
    tree = ast.parse(source)
    named = (node for node in ast.walk(tree) if names(node) & set(exempt))
    skipped = {inner for node in named for inner in ast.walk(node)}
    found = []
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("np", "math"):
            bad = node.attr in INEXACT and ast.unparse(node) != "math.prod"  # used for integers only
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            bad = node.func.attr in METHODS and ast.unparse(node.func) not in ("math.prod", *NUMPY)
        elif isinstance(node, ast.BinOp):
            constants = constant(node.left) and constant(node.right)
            bad = isinstance(node.op, ast.MatMult) or (isinstance(node.op, ast.Pow) and not constants)
        else:
            bad = False
        if bad:
            found.append(f"{node.lineno}: {ast.unparse(node)}")
    return found


@pytest.mark.parametrize("module", GUARDED)
def test_modules_use_nothing_that_depends_on_the_processor(module):
    assert faults((PACKAGE / module).read_text(), GUARDED[module]) == []


def test_the_check_finds_every_forbidden_operation():
    source = "np.exp(x); math.log(2); a @ b; x**y; x**2; np.linalg.inv(a); a.sum(); np.sqrt(x); 2**48; math.prod(s)"
    assert len(faults(source, ())) == 7
    assert faults("def f():\n    return np.exp(1)", ("f",)) == []
