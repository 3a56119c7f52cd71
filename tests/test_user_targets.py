"""User-defined targets: compiled scores, array scores, TOML files, full covariances and fitted mixtures."""

from itertools import product

import numba
import numpy as np
import pytest
from helpers.scores import LIFTED, branching, two_modes

import uldnum
from uldnum.jit import values
from uldnum.kernels.numba import lift
from uldnum.kernels.numba.blocks import lanes_of
from uldnum.targets import UserTarget


@numba.njit
def gaussian_score(x, out):
    for i in range(len(x)):
        out[i] = -x[i] / (i + 1)


@numba.njit
def wrong_signature(x):
    return -x


@numba.njit
def nan_score(x, out):
    out[:] = np.nan


@numba.njit
def adding_score(x, out):
    for i in range(len(x)):
        out[i] -= x[i]


@numba.njit("void(float64[::1], float64[::1])")
def double_only(x, out):
    out[0] = -x[0]


MEAN, SPREAD = np.zeros(2), np.sqrt([1.0, 2.0])
PLAIN = uldnum.GaussianMixture([1.0], [[0.0, 0.0]], [[1.0, 2.0]])


def start(n, seed, first):
    return PLAIN.sample(n, seed, first)


@pytest.mark.parametrize(
    ("score", "dtype"),
    [
        pytest.param(gaussian_score, "float64", id="compiled float64"),
        # The fast tests cover compiled float32 kernels with `two_modes`, which is compared with the array backend.
        pytest.param(gaussian_score, "float32", id="compiled float32", marks=pytest.mark.slow),
        pytest.param(lambda x: -x / np.array([1.0, 2.0]), "float64", id="array float64"),
        pytest.param(lambda x: -x / np.array([1.0, 2.0], x.dtype), "float32", id="array float32"),
    ],
)
def test_a_user_score_equals_the_mixture(score, dtype):
    target = UserTarget(score, 2, sampler=start, mean=MEAN, standard_deviation=SPREAD)
    common = {"h": [0.3, 0.5], "steps": 30, "chains": 6, "seed": 2, "dtype": dtype, "progress": False, "bins": 8}
    mine, plain = (uldnum.sample(t, "OBABO", **common) for t in (target, PLAIN))
    assert mine.settings.backend == ("numba" if target.compiled else "array")
    np.testing.assert_allclose(mine.x, plain.x, atol=1e-12 if dtype == "float64" else 1e-5)
    np.testing.assert_allclose(mine.covariance, plain.covariance, atol=1e-12 if dtype == "float64" else 1e-5)


def test_a_number_is_the_scale_of_every_coordinate():
    target = UserTarget(gaussian_score, 2, mean=0.5, standard_deviation=2.0)
    np.testing.assert_array_equal([target.mean, target.standard_deviation], [[0.5, 0.5], [2.0, 2.0]])


def test_messages_name_missing_knowledge():
    target = UserTarget(gaussian_score, 2)
    with pytest.raises(ValueError, match="x0: must be given, because the target 'user' has no exact draws"):
        uldnum.sample(target, "ula", h=0.1, steps=3, chains=2)
    run = uldnum.sample(target, "ula", h=0.1, steps=3, chains=2, x0=np.ones((2, 2)))
    assert np.isfinite(run.mean).all()
    with pytest.raises(ValueError, match="bins: histograms need"):
        uldnum.sample(target, "ula", h=0.1, steps=3, chains=2, x0=np.ones((2, 2)), bins=5)
    with pytest.raises(ValueError, match=r"does not provide its moments.* or reference='long'$"):
        uldnum.studies.bias(target, "ula", 0.1)
    target = UserTarget(lambda x: -x, 2, lambda x: -(x**2).sum(1) / 2)
    with pytest.raises(ValueError, match=r"does not provide its moments.* or reference='metropolised'$"):
        uldnum.studies.bias(target, "ula", 0.1)


@pytest.mark.parametrize(
    ("score", "fault"),
    [
        (wrong_signature, r"score: failed as score\(x, out\)"),
        (nan_score, "score: must be finite at the mean"),
        (adding_score, "score: must be finite at the mean, in every entry"),
        (lambda x, y: x, "score: failed on an array of shape"),
        (lambda x: x.gradient, "score: failed on an array of shape"),
        (3, "score_function: must be a function"),
        (lambda x: x[:, :1], "score: must return the shape of its argument"),
        (lambda x: x * np.nan, "score: must be finite at the mean"),
    ],
)
def test_bad_scores_are_refused_when_the_target_is_made(score, fault):
    with pytest.raises(ValueError, match=fault):
        UserTarget(score, 2)


def banana_of_a_row(x):
    r = x[1] + 0.5 * (x[0] ** 2 - 1)
    return np.array([-x[0] - x[0] * r, -r])


def of_float32(x):
    if x.dtype != np.float32:
        raise TypeError(f"expected float, got {x.dtype}")
    return -x


class Recording(np.ndarray):
    """An array that looks like a PyTorch tensor which records gradients."""

    requires_grad = True


@pytest.mark.parametrize(
    ("score", "sentence"),
    [
        (banana_of_a_row, "failed on an array of shape (1, 2): .* written for one position, .* write x[:, 0] for x[0]"),
        (lambda x: -x / (1 + np.sum(x**2)), "for a chain depends on the other chains; .* sums over the last axis"),
        (lambda x: -x.sum(), "must return the shape of its argument, (1, 2), got ()$"),
        (lambda x: -x * x.max(axis=0), "depends on the other chains"),
        (of_float32, "expected float, got float64; it accepts only float32, .* x.astype('float32') .* x.float()"),
        (lambda x: (-x).view(Recording), "records gradients, .* decorate the function with @torch.no_grad()"),
    ],
)
def test_the_error_of_a_usual_mistake_names_the_remedy(score, sentence):
    pattern = sentence.replace("(", r"\(").replace(")", r"\)").replace("[", r"\[")
    with pytest.raises(ValueError, match=f"^score: .*{pattern}"):
        UserTarget(score, 2)


@pytest.mark.parametrize(
    "score",
    [
        lambda x: -x / (1 + np.sum(x**2, axis=-1, keepdims=True)),
        lambda x: -x + np.random.default_rng().normal(size=x.shape),  # noise of the score is not a mistake
        lambda x: np.stack([-x[:, 0], np.log(0.5 - x[:, 1])], axis=1),  # NaN one standard deviation from the mean
        lambda x: of_float32(x.astype(np.float32)),
    ],
)
def test_correct_scores_are_accepted(score):
    assert UserTarget(score, 2, standard_deviation=[1.0, 1.0]).shape == (2,)


def test_a_score_that_returns_float64_for_float32_is_reported_once():
    constants = np.array([1.0, 2.0])
    options = {"h": 0.1, "steps": 5, "chains": 2, "dtype": "float32", "x0": np.zeros((2, 2)), "progress": False}
    with pytest.warns(UserWarning, match=r"^score: returns float64 for positions in float32, .* by args") as found:
        run = uldnum.sample(UserTarget(lambda x: -x / constants, 2), "ula", **options)
    assert len(found) == 1
    same = uldnum.sample(UserTarget(lambda x, c: -x / c, 2, args=(constants,)), "ula", **options)
    np.testing.assert_allclose(run.x, same.x, rtol=1e-6, atol=1e-6)
    uldnum.sample(UserTarget(lambda x: -x / constants, 2), "ula", **options | {"dtype": "float64"})


# -------------------------------------------------------------------------------------------- targets at noise levels

DATA = uldnum.GaussianMixture([0.7, 0.3], [[1.0, 0.0], [-1.0, 2.0]], [0.5, 0.25])
LEVELS = uldnum.levels.geometric(5.0, 0.1, 6)


def array_level(alpha, sigma):
    return UserTarget(DATA.noised(alpha, sigma).score, 2)


@numba.njit
def scaled(x, out, variance):
    for i in range(len(x)):
        out[i] = -x[i] / variance


def compiled_level(alpha, sigma):
    return UserTarget(scaled, 2, args=(4 * alpha**2 + sigma**2,))


class OnlyNoised:
    """An object that is not a target, and knows nothing but its noised distributions."""

    def noised(self, alpha, sigma):
        return DATA.noised(alpha, sigma)


@pytest.mark.parametrize(
    ("data", "same", "backend"),
    [
        pytest.param(UserTarget(DATA.score, 2, noised=array_level), DATA, "array", id="array score"),
        pytest.param(UserTarget(DATA.score, 2, noised=DATA.noised), DATA, "numba", id="mixtures"),
        pytest.param(OnlyNoised(), DATA, "numba", id="no target"),
        pytest.param(
            UserTarget(scaled, 2, args=(4.0,), noised=compiled_level),
            uldnum.GaussianMixture([1.0], [[0.0, 0.0]], [4.0]),
            "numba",
            id="compiled score",
            marks=pytest.mark.slow,  # the kernel of this score must be compiled
        ),
    ],
)
@pytest.mark.parametrize("plan", ["heun", "BAOAB"])
def test_a_plan_runs_on_noised_distributions_of_the_user(data, same, backend, plan):
    """The run equals that of the mixture with the same noised distributions, to rounding."""
    options = {} if plan == "heun" else {"h": 0.5, "steps": 2, "boundary": "shared"}
    made = uldnum.plan(plan, LEVELS, **options)
    common = {"x0": 5 * np.linspace(-1, 1, 12).reshape(6, 2), "chains": 6, "seed": 3, "progress": False}
    run, expected = uldnum.anneal(data, made, **common), uldnum.anneal(same, made, **common)
    assert run.settings.backend == backend
    assert run.nfe == expected.nfe
    np.testing.assert_allclose(run.x, expected.x, rtol=1e-9, atol=1e-9)
    assert run.settings.target == getattr(data, "name", "OnlyNoised")


def wrong_model(alpha, sigma):
    """Return noised distributions of N((1, -2), (0.3, 2)) whose score has a wrong mean and variance, as a model's."""
    variance = np.array([0.3, 2.0]) * alpha**2 + sigma**2 * 1.1
    return uldnum.GaussianMixture([1.0], [[alpha, -2 * alpha + 0.1 * sigma]], [variance])


def test_the_exact_law_of_a_plan_on_noised_distributions_of_the_user():
    """A predictor without noise maps a point to the exact mean; Gaussian data have the law of their moments."""
    model = UserTarget(lambda x: -x, 2, noised=wrong_model)
    plan, x0 = uldnum.plan("dpm-solver++", LEVELS), np.array([[3.0, -4.0]])
    run = uldnum.anneal(model, plan, chains=1, x0=x0, progress=False)
    law = uldnum.exact.plan(plan, data=model, start_mean=x0[0], start_variance=0.0)
    np.testing.assert_allclose(law.mean[-1, :, 0], run.x[0], rtol=1e-12)
    np.testing.assert_array_equal(law.covariance[-1, :, 0, 0], 0)
    right = uldnum.GaussianMixture([1.0], [[1.0, -2.0]], [[0.3, 2.0]])
    plan = uldnum.plan("BAOAB", LEVELS, h=0.5, steps=3)
    known = uldnum.exact.plan(plan, data=right, start_mean=x0[0], start_variance=25.0)
    given = {"data_mean": [1.0, -2.0], "data_variance": [0.3, 2.0]}
    same = uldnum.exact.plan(plan, **given, start_mean=x0[0], start_variance=25.0)
    for one, other in zip(known, same, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)
    with pytest.raises(ValueError, match=r"^data: must not be given together with data_mean"):
        uldnum.exact.plan(plan, data=right, **given)
    with pytest.raises(ValueError, match=r"^data: must be Gaussian .* at alpha = 1, sigma = 5"):
        uldnum.exact.plan(plan, data=DATA)


def changing(alpha, sigma):
    return array_level(alpha, sigma) if sigma > 1 else DATA.noised(alpha, sigma)


@pytest.mark.parametrize(
    ("noised", "fault"),
    [
        (
            lambda alpha, sigma: -alpha,
            r"noised: must return a uldnum.targets.Target, .* got -1.0 at alpha = 1, sigma = 5",
        ),
        (changing, "noised: must return targets of one shape and one kind"),
        (lambda alpha, sigma: UserTarget(lambda x: -x, 1 + (sigma > 1)), "noised: must return targets of one shape"),
    ],
)
def test_invalid_noised_distributions_are_refused(noised, fault):
    target = UserTarget(DATA.score, 2, noised=noised)
    with pytest.raises(ValueError, match=fault):
        uldnum.anneal(target, uldnum.plan("heun", LEVELS), chains=3, x0=np.zeros((3, 2)))


def test_data_without_noised_distributions_are_refused():
    with pytest.raises(ValueError, match=r"^noised: must be a function"):
        UserTarget(DATA.score, 2, noised=3)
    for data in (UserTarget(DATA.score, 2), object()):
        with pytest.raises(ValueError, match=r"^data: must be .* UserTarget\(..., noised=f\), got"):
            uldnum.anneal(data, uldnum.plan("heun", LEVELS), chains=3, x0=np.zeros((3, 2)))


@pytest.mark.parametrize(
    ("known", "fault"),
    [
        ({"standard_deviation": [0.0, 1.0]}, "standard_deviation: must be positive"),
        ({"standard_deviation": [np.nan, 1.0]}, "standard_deviation: must be finite"),
        ({"standard_deviation": [1.0]}, "standard_deviation: must be a number or have shape"),
        ({"mean": [np.nan, 0.0]}, "mean: must be finite"),
        ({"mean": ["a", "b"]}, "mean: must be a number or an array of numbers"),
        ({"dimension": 0}, "dimension: must be at least 1"),
    ],
)
def test_invalid_arguments_are_refused(known, fault):
    with pytest.raises(ValueError, match=fault):
        UserTarget(**{"score_function": gaussian_score, "dimension": 2} | known)


def test_a_score_for_another_type_is_refused_before_the_run():
    target = UserTarget(double_only, 1, sampler=lambda n, seed, first: np.zeros((n, 1)))
    with pytest.raises(ValueError, match=r"score: failed as score\(x, out\) with two arrays of .* dtype float32"):
        uldnum.sample(target, "ula", h=0.1, steps=2, chains=2, dtype="float32")


# A kernel takes seven seconds to compile, and a score half a second. Therefore all scores are called in blocks of
# chains, but only two fast cases compile kernels: one with arguments on vectors, and one chain by chain.
IN_KERNELS = {(two_modes, "float32"), (branching, "float64")}
LIFTED_KERNELS = [
    pytest.param(*case, dtype, marks=[] if (case[0], dtype) in IN_KERNELS else pytest.mark.slow)
    for case, dtype in product(LIFTED, ("float64", "float32"))
]


@pytest.mark.parametrize(("score", "d", "args", "how", "dtype"), LIFTED_KERNELS)
def test_a_scalar_score_runs_on_vectors(score, d, args, how, dtype):
    """The compiled kernel equals calls for one row at a time, to rounding, also with a last block that is not full."""

    def start(n, seed, first):
        return np.linspace(-1, 1.5, n * d).reshape(n, d)

    target, tolerance = UserTarget(score, d, sampler=start, args=args), {"float64": 1e-12, "float32": 1e-4}[dtype]
    common = {"h": 0.1, "steps": 30, "chains": 75, "seed": 2, "dtype": dtype, "progress": False}
    run = uldnum.sample(target, "BAOAB", **common)
    assert run.info["score"].startswith(how)
    by_rows = uldnum.sample(target, "BAOAB", backend="array", **common)
    np.testing.assert_allclose(run.x, by_rows.x, rtol=tolerance, atol=tolerance)


def two_scores(alpha, sigma):
    return UserTarget(gaussian_score, 3) if sigma > 1 else UserTarget(branching, 3, args=(np.inf,))


def test_levels_with_different_scores():
    """Both backends agree on levels with separate compiled scores; other tests compile the kernels of both, too."""
    data, plan = UserTarget(gaussian_score, 3, noised=two_scores), uldnum.plan("BAOAB", LEVELS, steps=3, h=0.5)
    ours, theirs = (
        uldnum.anneal(data, plan, chains=3, x0=np.ones((3, 3)), seed=1, backend=backend, progress=False).x
        for backend in ("numba", "array")
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("score", "d", "args", "how"), LIFTED)
def test_a_scalar_score_is_called_in_blocks(score, d, args, how, dtype):
    """Calls on two blocks of chains equal calls for one row at a time, to rounding, and do not change the positions."""
    target, lanes = UserTarget(score, d, args=args), lanes_of(np.dtype(dtype), d)
    arguments = target.score_arguments(np.dtype(dtype))
    call, fault = lift.lift(score, np.dtype(dtype), lanes, tuple(numba.typeof(value) for value in arguments))
    assert how.startswith("called chain by chain" if fault else "on vectors")
    view = values.view(lanes)

    @numba.njit(error_model="numpy")
    def blocks(given, out, scratch, arguments):
        for b in range(len(given) // (d * lanes)):
            call(view(out, b * d, d), view(scratch, 0, 1), view(given, b * d, d), arguments, d)

    x = np.linspace(-1, 1.5, 2 * d * lanes, dtype=dtype).reshape(2, d, lanes)
    given, out = x.ravel().copy(), np.empty(x.size, dtype)
    blocks(given, out, np.empty(2 * d, dtype), arguments)
    np.testing.assert_array_equal(given, x.ravel())
    expected = target.score(x.transpose(0, 2, 1).reshape(-1, d))
    got = out.reshape(x.shape).transpose(0, 2, 1).reshape(-1, d)
    tolerance = 64 * np.finfo(dtype).eps
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


@numba.njit
def at_the_edges(x, out):
    y = x[0]
    out[0], out[1], out[2] = max(y, 0.0), max(0.0, y), np.maximum(y, 0.0)
    out[3], out[4], out[5] = min(y, 0.0), min(0.0, y), np.minimum(0.0, y)
    out[6], out[7], out[8] = np.log(y), y**-2, y**0
    out[9], out[10], out[11] = np.sqrt(y), np.tanh(y), abs(y)


def test_lifted_functions_equal_scalar_functions_at_special_values():
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -1.0, 1.0, 1e300, 1e-300])
    rows, expected = np.zeros((len(x), 12)), np.zeros((len(x), 12))
    rows[:, 0] = x
    with np.errstate(all="ignore"):
        for row, out in zip(rows, expected, strict=True):
            at_the_edges.py_func(row, out)
    score, fault = lift.lift(at_the_edges, np.dtype(float), 8, ())
    assert not fault
    view = values.view(8)

    @numba.njit
    def call(given, out):
        score(view(out, 0, 1), view(out, 0, 1), view(given, 0, 1), (), 12)

    got = np.empty(12 * 8)
    call(x.copy(), got)
    expected[0, 8] = np.nan  # NaN^0
    np.testing.assert_allclose(got.reshape(12, 8).T, expected, rtol=1e-15)


def test_divergence_is_detected_without_a_known_scale():
    """Score -x^3 at a large step: ULA exceeds 1e100 within six steps, and counts as diverged while it is finite."""
    target = UserTarget(lambda x: -(x**3), 1)
    with pytest.warns(UserWarning, match="diverged"), np.errstate(over="ignore", invalid="ignore"):
        run = uldnum.sample(target, "ula", h=1.0, steps=7, chains=3, x0=np.full((3, 1), 10.0), progress=False)
    assert run.diverged == 3
    assert np.isnan(run.mean).all()


def test_a_score_that_becomes_nan_is_a_divergence():
    target = UserTarget(branching, 3, sampler=lambda n, seed, first: np.zeros((n, 3)), args=(1.5,))
    with pytest.warns(UserWarning, match="diverged"):
        run = uldnum.sample(target, "ula", h=0.5, steps=300, chains=50, progress=False)
    assert run.diverged > 0
    assert np.isnan(run.mean).all()


def test_double_well_has_its_exact_moments():
    """BAOAB at a small step: second moment at 4 standard errors against the exact value of the scheme.

    The false-fail rate is 6e-5, and an error of 0.3% in the second moment is detected. The bias of the scheme is 0.06%.
    """
    target = uldnum.target("double-well")
    run = uldnum.sample(target, "BAOAB", h=0.1, steps=4000, burn_in=0, chains=512, seed=1, progress=False)
    square = run.moments.chain_square[:, 0]
    error = square.std() / np.sqrt(len(square))
    exact = uldnum.exact.transfer_operator("BAOAB", target, 0.1, tolerance=1e-4).expectation(np.square)
    assert error < 0.001 * exact
    assert abs(square.mean() - exact) < 4 * error
    assert exact == pytest.approx(target.moment(2)[0], rel=1e-3)
    x = np.linspace(-2, 2, 9)[:, None]
    slope = (target.log_density(x + 1e-5) - target.log_density(x - 1e-5)) / 2e-5
    np.testing.assert_allclose(target.score(x)[:, 0], slope, atol=1e-7)


TOML = """
weights = [0.7, 0.3]
means = [[1.5], [-1.5]]
variances = [1.0, 1.0]
"""


def test_a_toml_file_is_a_target(tmp_path):
    (tmp_path / "mine.toml").write_text(TOML)
    target = uldnum.target(tmp_path / "mine.toml")
    assert target.name == "mine"
    np.testing.assert_array_equal(target.sample(5), uldnum.target("bimodal-1d").sample(5))
    assert uldnum.sample(str(tmp_path / "mine.toml"), "ula", h=0.1, steps=2, chains=2).x.shape == (2, 1)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (TOML.replace("weights", "wieghts"), "unknown key 'wieghts'; the nearest is 'weights'"),
        (TOML + "foo = 3", r"unknown key 'foo'\. The keys are weights, means"),
        (TOML.replace("means", "# means"), "must have the key 'means'"),
        (TOML.replace("variances", "# variances"), "give exactly one of them"),
        (TOML.replace("0.7", "0.8"), "weights: must be positive and sum to 1"),
        (TOML.replace("[1.5]", "['a']"), "means: must be a number or an array of numbers"),
        ("weights = [", "cannot be read as TOML"),
        (TOML + "name = 3", "name: must be a string"),
    ],
)
def test_invalid_toml_is_refused(tmp_path, text, fault):
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(ValueError, match=f"mine.toml.*{fault}"):
        uldnum.target(tmp_path / "mine.toml")
    with pytest.raises(ValueError, match="cannot be read"):
        uldnum.target(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("covariances", "fault"),
    [
        ([[[1.0, 2.0], [2.0, 1.0]]], "covariances: component 0 is not positive definite"),
        ([[[1.0, 0.5], [0.4, 1.0]]], "covariances: must be symmetric"),
        ([[1.0, 2.0]], "covariances: must have shape"),
    ],
)
def test_bad_covariances_are_refused(covariances, fault):
    with pytest.raises(ValueError, match=fault):
        uldnum.GaussianMixture([1.0], [[0.0, 0.0]], covariances=covariances)


def test_full_covariances_agree_on_both_backends_and_with_the_target():
    """BAOAB has the exact covariance of a Gaussian: three numbers at 4 standard errors, false-fail rate 2e-4.

    Each standard error is below 0.6% of the variances, so an error of 2% of the variances is detected.
    """
    covariance = np.array([[2.0, 0.9], [0.9, 1.0]])
    target = uldnum.GaussianMixture([1.0], [[1.0, -1.0]], covariances=[covariance])
    np.testing.assert_allclose(target.covariance, covariance)
    common = {"h": 0.5, "steps": 20, "chains": 4, "seed": 1, "progress": False}
    a, b = (uldnum.sample(target, "BAOAB", backend=backend, **common) for backend in ("numba", "array"))
    np.testing.assert_allclose(a.x, b.x, atol=1e-12)
    run = uldnum.sample(target, "BAOAB", h=0.5, steps=500, burn_in=20, chains=1024, seed=1, progress=False)
    deviations = np.sqrt(np.diag(covariance))
    assert np.all(run.covariance_error < 0.006 * np.outer(deviations, deviations))
    assert np.all(np.abs(run.covariance - covariance) < 4 * run.covariance_error)
    noised = target.noised(0.6, 0.8)
    np.testing.assert_allclose(noised.covariance, 0.36 * covariance + 0.64 * np.eye(2))


def test_draws_of_full_covariances_do_not_depend_on_the_batch():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(2, 16, 16))
    target = uldnum.GaussianMixture([0.5, 0.5], rng.normal(size=(2, 16)), covariances=root @ root.swapaxes(1, 2))
    whole = target.sample(1000, seed=1)
    for n, first in ((1, 17), (7, 100), (500, 250)):
        np.testing.assert_array_equal(target.sample(n, seed=1, first=first), whole[first : first + n])


def test_covariances_symmetric_to_rounding_are_accepted():
    assert uldnum.GaussianMixture([1.0], [[0.0, 0.0]], covariances=[[[1.0, 1e-17], [0.0, 1.0]]]).shape == (2,)


@pytest.mark.parametrize("kind", ["full", "diag", "spherical"])
def test_a_mixture_fitted_to_data(kind):
    """A fit to 20,000 draws of well separated modes has weights, means and variances within several standard errors."""
    pytest.importorskip("sklearn")
    truth = uldnum.GaussianMixture([0.3, 0.7], [[-4.0, 0.0], [4.0, 1.0]], [1.0, 0.5])
    fitted = uldnum.GaussianMixture.fit(truth.sample(20_000, seed=1), 2, kind=kind)
    order = np.argsort(fitted.means[:, 0])
    np.testing.assert_allclose(fitted.weights[order], truth.weights, atol=0.02)
    np.testing.assert_allclose(fitted.means[order], truth.means, atol=0.06)
    np.testing.assert_allclose(fitted.variances[order], truth.variances, atol=0.08)
    with pytest.raises(ValueError, match="kind: must be"):
        uldnum.GaussianMixture.fit([[1.0], [2.0]], 1, kind="round")
