"""Log densities of user targets: array functions, Numba functions, and functions that compute score and log density."""

import pickle
from dataclasses import replace

import numba
import numpy as np
import pytest

import uldnum
from uldnum.jit import values
from uldnum.kernels.numba.blocks import lanes_of
from uldnum.kernels.numba.lift import lift, lift_density
from uldnum.targets import UserTarget


@numba.njit
def banana_score(x, out, a, b):
    out[0] = 2 * (a - x[0]) + 4 * b * x[0] * (x[1] - x[0] ** 2)
    out[1] = -2 * b * (x[1] - x[0] ** 2)


@numba.njit
def banana_density(x, a, b):
    return -((a - x[0]) ** 2) - b * (x[1] - x[0] ** 2) ** 2


@numba.njit
def banana(x, out, a, b):
    residual = x[1] - x[0] ** 2
    out[0] = 2 * (a - x[0]) + 4 * b * x[0] * residual
    out[1] = -2 * b * residual
    return -((a - x[0]) ** 2) - b * residual**2


@numba.njit
def branching_density(x, a, b):
    if x[0] > 1e9:
        return -1e9
    return -((a - x[0]) ** 2) - b * (x[1] - x[0] ** 2) ** 2


@numba.njit
def branching(x, out, a, b):
    out[1] = -2 * b * (x[1] - x[0] ** 2)
    out[0] = 2 * (a - x[0]) - 2 * x[0] * out[1]
    if x[0] > 1e9:
        return -1e9
    return -((a - x[0]) ** 2) - b * (x[1] - x[0] ** 2) ** 2


def score_of_arrays(x, a, b):
    residual = x[:, 1] - x[:, 0] ** 2
    return np.stack([2 * (a - x[:, 0]) + 4 * b * x[:, 0] * residual, -2 * b * residual], axis=1)


def density_of_arrays(x, a, b):
    return -((a - x[:, 0]) ** 2) - b * (x[:, 1] - x[:, 0] ** 2) ** 2


def both_of_arrays(x, a, b):
    return score_of_arrays(x, a, b), density_of_arrays(x, a, b)


ARGS = (1.0, 2.0)
WAYS = {
    "arrays": (score_of_arrays, density_of_arrays),
    "pair of arrays": (both_of_arrays, None),
    "compiled score": (banana_score, density_of_arrays),
    "compiled density": (score_of_arrays, banana_density),
    "compiled": (banana_score, banana_density),
    "compiled together": (banana, None),
    "branch": (banana_score, branching_density),
    "branch together": (branching, None),
}


def target_of(way):
    score, log_density = WAYS[way]
    known = {"args": ARGS, "standard_deviation": [0.7, 1.1], "returns_log_density": log_density is None}
    return UserTarget(score, 2, log_density, **known)


@pytest.mark.parametrize("way", WAYS)
def test_a_log_density_is_a_function_of_arrays(way):
    target, x = target_of(way), np.random.default_rng(0).normal(size=(5, 2))
    expected = density_of_arrays(x, *ARGS)
    copied = pickle.loads(pickle.dumps(target))
    for one in (target, replace(target, name="other"), copied):
        np.testing.assert_allclose(one.log_density(x), expected, rtol=1e-14)
        score, log_density = one.score_and_log_density(x.astype(np.float32))
        np.testing.assert_allclose(score, score_of_arrays(x, *ARGS), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(log_density, expected, rtol=1e-4, atol=1e-5)
        assert (one.compiled_log_density is None) == (way in ("arrays", "pair of arrays", "compiled score"))
    density = np.exp(target.log_density(np.stack([np.linspace(-1, 1, 5)] * 2, axis=1)))
    assert density.shape == (5,)


def test_other_libraries_compute_both():
    torch = pytest.importorskip("torch")
    target = UserTarget(
        lambda x: (-x, -(x**2).sum(dim=1) / 2), 2, returns_log_density=True, like=torch.zeros(1), sampler=drawn
    )
    np.testing.assert_array_equal(target.log_density([[1.0, 2.0]]), [-2.5])
    numpy = UserTarget(lambda x: -x, 2, lambda x: -(x**2).sum(axis=1) / 2, sampler=drawn)
    runs = [uldnum.sample(one, "ghmc", h=0.9, steps=20, chains=8, progress=False) for one in (target, numpy)]
    np.testing.assert_allclose(runs[0].x, runs[1].x, rtol=1e-12)
    wrong = (lambda x: -(x**2) / 2, "with shape"), (lambda x: (-x, -(x**2)), "as its second result")
    for score, _ in wrong:
        with pytest.raises(ValueError, match=r"^score: (must return log densities|failed .* must return the pair)"):
            UserTarget(score, 2, returns_log_density=True, like=torch.zeros(1))


def drawn(n, seed, first):
    return np.linspace(-1, 1, 2 * n).reshape(n, 2)


@numba.njit
def constant_result(x, out):
    out[0] = 0.0
    return 3


@numba.njit
def no_result(x, out):
    out[0] = -x[0]


@numba.njit
def nan_density(x):
    return np.nan * x[0]


@numba.njit
def pair_density(x):
    return x[0], x[0]


FAULTS = [
    ({"log_density": 3}, "^log_density: must be a function"),
    ({"log_density": lambda x: x}, r"^log_density: must return one number .*, got an array of shape \(2, 1\)"),
    ({"log_density": lambda x: -x[0] ** 2 / 2}, r"^log_density: must return one number .* shape \(1,\)"),
    ({"log_density": lambda x, a: x[:, 0]}, "^log_density: failed on an array of shape .*missing 1 required"),
    ({"log_density": lambda x: x[:, 0] - np.inf}, "^log_density: must be finite at the mean, got -inf"),
    ({"log_density": nan_density}, "^log_density: must be finite at the mean, got nan"),
    ({"log_density": pair_density}, r"^log_density: must return one number .* shape \(2, 2\)"),
    ({"log_density": no_result}, r"^log_density: failed on an array of shape \(1,\)"),
    ({"log_density": lambda x: -(x[:, 0] ** 2)}, "^log_density: its gradient must be the score, but at x = "),
    ({"log_density": lambda x: x[:, 0] ** 2 / 2}, "^log_density: its gradient must be the score"),
    ({"log_density": lambda x: -(x[:, 0] ** 2) / 2 - 0.1 * x[:, 0]}, "^log_density: its gradient must be the score"),
    ({"log_density": lambda x: -(x[:, 0] ** 2) / 2, "returns_log_density": True}, "^log_density: must be omitted if"),
    ({"returns_log_density": 1}, "^returns_log_density: must be True or False"),
    ({"returns_log_density": True}, r"^score: failed .* must return the pair \(score, log density\), because"),
    ({"score_function": lambda x: (-x, 0.0), "returns_log_density": True}, "^score: must return log densities"),
    ({"score_function": no_result, "returns_log_density": True}, "^score: must return the log density, .* got None"),
    ({"score_function": lambda x: (-x, -x[:, 0] ** 4), "returns_log_density": True}, "^log_density: its gradient must"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "fault"), FAULTS)
def test_wrong_log_densities_are_refused_when_the_target_is_made(options, fault):
    with pytest.raises(ValueError, match=fault):
        UserTarget(**{"score_function": lambda x: -x, "dimension": 1} | options)


@pytest.mark.parametrize(
    ("score", "log_density", "scale"),
    [
        (lambda x: -x / 1e-12, lambda x: -(x[:, 0] ** 2) / 2e-12, None),  # narrow, with an unknown scale
        (lambda x: -x / 1e12, lambda x: 100 - x[:, 0] ** 2 / 2e12, None),  # differences are lost to rounding
        (lambda x: -np.sign(x), lambda x: 1e3 - np.abs(x[:, 0]), [1.4]),  # a kink
        (lambda x: -x, lambda x: (-(x[:, 0].astype(np.float32) ** 2) / 2), [1.0]),  # computed in float32
        (lambda x: -x, lambda x: np.float32(-1e6) - (x[:, 0].astype(np.float32) ** 2) / 2, [1.0]),
        (
            lambda x: np.where(np.abs(x) < 0.2, 0.0, np.nan),
            lambda x: np.where(np.abs(x[:, 0]) < 0.2, 0.0, -np.inf),
            [1.0],
        ),
    ],
)  # fmt: skip
def test_correct_log_densities_are_accepted(score, log_density, scale):
    target = UserTarget(score, 1, log_density, standard_deviation=scale)
    assert np.isfinite(target.log_density([[0.0]])).all()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("way", ["compiled", "compiled together", "branch", "branch together"])
def test_kernel_functions_equal_calls_of_rows(way, dtype):
    """Scores and log densities of two blocks of chains are those of one row at a time; log densities are float64."""
    kind, lanes = np.dtype(dtype), lanes_of(np.dtype(dtype), 2)
    target, view = target_of(way), values.view(lanes)
    score, log_density = target.compiled_score, target.compiled_log_density
    numbers, together = tuple(map(numba.typeof, ARGS)), score is log_density
    call, fault = lift(score, kind, lanes, numbers, together)
    density, fault_of_density = (call, fault) if together else lift_density(log_density, kind, lanes, numbers)
    assert bool(fault_of_density) == way.startswith("branch")

    @numba.njit
    def blocks(given, out, found, scratch):
        for b in range(2):
            at, to, q = view(given, 2 * b, 2), view(out, 2 * b, 2), view(scratch, 0, 1)
            result = call(to, q, at, ARGS, 2)
            if together:
                view(found, b, 1)[0] = result
            else:
                view(found, b, 1)[0] = density(q, at, ARGS, 2)

    x = np.linspace(-1, 1.5, 4 * lanes, dtype=kind).reshape(2, 2, lanes)
    out, found = np.empty(x.size, kind), np.empty(2 * lanes)
    blocks(x.ravel().copy(), out, found, np.empty(4 * lanes, kind))
    rows = x.transpose(0, 2, 1).reshape(-1, 2)
    tolerance = 64 * np.finfo(kind).eps
    np.testing.assert_allclose(
        out.reshape(x.shape).transpose(0, 2, 1).reshape(-1, 2), target.score(rows), tolerance, tolerance
    )
    tolerance = tolerance if together else 1e-14
    np.testing.assert_allclose(found, density_of_arrays(rows.astype(float), *ARGS), tolerance, tolerance)


def test_a_constant_log_density_fills_all_lanes():
    call, fault = lift(constant_result, np.dtype(float), 8, (), True)
    view = values.view(8)

    @numba.njit
    def block(memory, found):
        view(found, 0, 1)[0] = call(view(memory, 0, 1), view(memory, 0, 1), view(memory, 0, 1), (), 1)

    found = np.zeros(8)
    block(np.zeros(8), found)
    assert not fault
    np.testing.assert_array_equal(found, 3.0)


# One kernel is compiled for fast tests; a kernel takes seven seconds.
FAST = ("compiled", "float64", None)
KERNELS = [
    pytest.param(way, dtype, mass, marks=[] if (way, dtype, mass) == FAST else pytest.mark.slow)
    for way in ("compiled", "compiled together", "branch", "branch together")
    for dtype in ("float64", "float32")
    for mass in (None, (1.0, 2.0))
]  # fmt: skip


@pytest.mark.parametrize(("way", "dtype", "mass"), KERNELS)
def test_kernels_take_the_steps_of_arrays(way, dtype, mass):
    """Rounding errors of x grow along a chain, and those of the log density are larger by the size of the score."""
    target = target_of(way)
    options = {"h": [0.2, 0.3], "steps": 10, "chains": 70, "x0": np.zeros((70, 2)), "seed": 3, "progress": False}
    options |= {"dtype": dtype, "mass": mass and list(mass)}
    run = uldnum.sample(target, "hmc(3)", **options)
    other = uldnum.sample(target_of("arrays"), "hmc(3)", backend="array", **options)
    assert run.settings.backend == "numba"
    if not way.endswith("together"):
        assert run.info["log density"].startswith("on vectors" if way == "compiled" else "called chain by chain")
    tolerance = {"float64": 1e-12, "float32": 1e-4}[dtype]
    np.testing.assert_array_equal(run.state.accepted, other.state.accepted)
    np.testing.assert_allclose(run.x, other.x, rtol=0, atol=tolerance)
    np.testing.assert_allclose(run.state.log_density, other.state.log_density, rtol=0, atol=tolerance)


def law_of_the_banana(name, steps, chains, smallest):
    """Compare moments with the exact ones; biases of ``smallest`` standard deviations are 8 standard errors.

    x_0 is N(a, 1/2), and x_1 given x_0 is N(x_0^2, 1/(2b)). Without a test, chains diverge at this step size.
    """
    a, b = ARGS
    mean = np.array([a, a**2 + 0.5])
    full = np.array([[0.5, a], [a, 2 * a**2 + 0.5 + 0.5 / b]])
    units = np.sqrt(np.multiply.outer(full.diagonal(), full.diagonal()))
    z = np.random.default_rng(5).normal(size=(2, chains)) / 2**0.5
    x0 = np.stack([a + z[0], (a + z[0]) ** 2 + z[1] / b**0.5], axis=1)
    run = uldnum.sample(
        target_of("compiled"), name, h=0.2, steps=steps, burn_in=20, chains=chains, x0=x0, seed=8, progress=False
    )
    assert run.settings.backend == "numba"
    assert 0.85 < run.acceptance < 0.92
    assert (8 * run.mean_error / units.diagonal() ** 0.5).max() < smallest
    assert (8 * run.covariance_error / units).max() < smallest
    assert (np.abs(run.mean - mean) < 4 * run.mean_error).all()
    assert (np.abs(run.covariance - full) < 4 * run.covariance_error).all()


@pytest.mark.parametrize("name", ["mala", "ghmc", "hmc(3)"])
def test_law_of_a_banana(name):
    """Five comparisons at 4 standard errors fail once in 3000 times; biases of 0.3 standard deviations are found."""
    law_of_the_banana(name, 10_000, 1000, 0.3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mala", "ghmc", "hmc(3)"])
def test_law_of_a_banana_in_long_runs(name):
    """Fails as seldom; biases of 0.03 standard deviations are found."""
    law_of_the_banana(name, 500_000, 2000, 0.03)


def test_a_compiled_score_needs_a_compiled_log_density():
    options = {"h": 0.2, "steps": 1, "chains": 2, "x0": np.zeros((2, 2)), "progress": False}
    target = target_of("compiled score")
    assert uldnum.sample(target, "mala", **options).settings.backend == "array"
    with pytest.raises(
        ValueError, match=r"^backend: 'numba' does not .* use 'array', or a log density that is a Numba"
    ):
        uldnum.sample(target, "mala", backend="numba", **options)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_resumed_runs_need_the_same_constant(dtype):
    """Chains carry their log density, so that another constant would change the first decisions without a word."""

    def target(constant):
        return UserTarget(lambda x: -x, 2, log_density=lambda x: constant - (x**2).sum(axis=1) / 2)

    options = {"h": 0.5, "chains": 8, "mass": [[2.0, 0.5], [0.5, 1.0]], "dtype": dtype, "progress": False}
    part = uldnum.sample(target(3.0), "ghmc", steps=5, x0=np.ones((8, 2)), **options)
    assert uldnum.sample(target(3.0), "ghmc", steps=9, resume=part, **options).recorded_steps == 9
    with pytest.raises(ValueError, match=r"^resume: must be a run with the same log density, which now differs by 1;"):
        uldnum.sample(target(2.0), "ghmc", steps=9, resume=part, **options)
