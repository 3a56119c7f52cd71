"""Targets: exact moments and draws, argument checks, and the optional abilities that the package uses."""

import ast
import doctest
import importlib
import pkgutil
from pathlib import Path

import numpy as np
import pytest
from scipy import integrate

import uldnum
from uldnum.diagnostics import hopping_rate, kolmogorov, mean_bias, mode_weights, relaxation, sliced_wasserstein_2
from uldnum.exact import transfer_operator
from uldnum.kernels.initial import initial_uniform
from uldnum.targets import PRESETS, Law, Modes, Target, protocol
from uldnum.targets.points import mixture_points

PACKAGE = Path(uldnum.__file__).parent


def test_moments_against_quadrature():
    mixture = uldnum.GaussianMixture([0.6, 0.4], [[1.0], [-2.0]], [0.5, 1.5])

    def density(x):
        return np.exp(mixture.log_density(np.array([[x]])))[0]

    for order in range(6):
        expected, _ = integrate.quad(lambda x, n=order: x**n * density(x), -15, 15, epsabs=1e-12, limit=200)
        np.testing.assert_allclose(mixture.moment(order), expected, rtol=1e-9)
    assert mixture.covariance[0, 0] == pytest.approx(mixture.moment(2)[0] - mixture.mean[0] ** 2)


def test_gmm_40_is_the_benchmarks():
    """The first two means equal the published ones of torch.manual_seed(0); (torch.rand(40, 2) - 0.5) * 80."""
    np.testing.assert_allclose(uldnum.target("gmm-40").means[:2], [[-0.2995, 21.4577], [-32.9218, -29.4376]], atol=1e-4)


def test_moments_of_bimodal_1d():
    target = uldnum.target("bimodal-1d")
    np.testing.assert_allclose([target.mean[0], target.moment(2)[0]], [0.6, 3.25], rtol=1e-15)


@pytest.mark.parametrize("name", PRESETS)
def test_samples_have_the_moments(name):
    """Draws at 5 standard errors: false-fail rate 6e-7 per check; an error of 2% in a variance is detected.

    In many dimensions there are fewer draws, and an error of 4% is detected.
    """
    target = uldnum.target(name)
    n = 400_000 if target.shape[0] <= 2 else 100_000
    x = target.sample(n, seed=5)
    square = x * x
    for values, exact in ((x, target.mean), (square, target.moment(2)), (square * square, target.moment(4))):
        assert np.all(np.abs(values.mean(axis=0) - exact) < 5 * values.std(axis=0) / np.sqrt(n))
    if isinstance(target, uldnum.GaussianMixture):
        for i in range(min(8, x.shape[1])):
            products = (x[:, i : i + 1] - target.mean[i]) * (x - target.mean)
            assert np.all(np.abs(products.mean(axis=0) - target.covariance[i]) < 5 * products.std(axis=0) / np.sqrt(n))
    places = np.quantile(x[:, 0], [0.1, 0.5, 0.9])
    assert np.all(np.abs(target.cdf(places)[:, 0] - [0.1, 0.5, 0.9]) < 5 * 0.5 / np.sqrt(n))


def test_draws_depend_only_on_seed_and_number():
    ring = uldnum.target("ring-8")
    np.testing.assert_array_equal(ring.sample(10, seed=2)[4:], ring.sample(6, seed=2, first=4))
    assert np.all(ring.sample(10, seed=3) != ring.sample(10, seed=2))


@pytest.mark.parametrize(("components", "full"), [(1, False), (7, True), (8, False), (300, False)])
def test_points_of_mixtures_equal_inversion(components, full):
    """Draws equal direct inversion, also for uniform numbers at and next to the cumulative weights.

    Some weights are so small that many components share a cell of the guide table, and the sum of the weights is as far
    from 1 as permitted. With eight equal components, the component changes at edges of cells.
    """
    rng, d = np.random.default_rng(0), 3
    weights = rng.dirichlet(np.full(components, 0.1)) + 1e-12
    weights = np.full(8, 1 / 8) if components == 8 else weights * (1 - 9e-10) / weights.sum()
    means, factors = rng.normal(size=(components, d)), rng.normal(size=(components, d, d if full else 1))
    sums = np.cumsum(weights)[:-1]
    cells = np.arange(4096) / 4096  # edges of the cells of the guide table
    near = [cells[1:], np.nextafter(cells[1:], 0), sums, np.nextafter(sums, 0), np.nextafter(sums, 1)]
    u = np.concatenate([rng.random(500), *near, [2.0**-33, 1 - 2.0**-33]])
    z = rng.normal(size=(len(u), d))
    k = (sums < u[:, None]).sum(axis=1)
    expected = means[k] + (np.einsum("nij,nj->ni", factors[k], z) if full else factors[k, :, 0] * z)
    assert max(k) == components - 1
    np.testing.assert_allclose(mixture_points(weights, means, factors, u, z), expected, rtol=1e-14, atol=1e-14)


def test_noised_is_the_distribution_of_the_noised_variable():
    ring, alpha, sigma = uldnum.target("ring-8"), 0.6, 0.8
    noised = ring.noised(alpha, sigma)
    np.testing.assert_allclose(noised.mean, alpha * ring.mean, atol=1e-15)
    np.testing.assert_allclose(noised.covariance, alpha**2 * ring.covariance + sigma**2 * np.eye(2), atol=1e-15)
    assert uldnum.target("gaussian").noised(alpha, sigma).score([[0.5]]) == pytest.approx(-0.5)


@pytest.mark.parametrize(
    ("weights", "means", "variances", "fault"),
    [
        ([0.5, 0.4], [[0.0], [1.0]], [1.0, 1.0], "weights: must be positive and sum to 1"),
        ([1.5, -0.5], [[0.0], [1.0]], [1.0, 1.0], "weights: must be positive"),
        ([], [[0.0]], [1.0], "weights: must have shape"),
        ([1.0], [0.0], [1.0], "means: must have shape"),
        ([0.5, 0.5], [[0.0]], [1.0], "means: must have shape"),
        ([1.0], [[0.0, 0.0]], [[1.0]], "variances: must have shape"),
        ([1.0], [[0.0]], [0.0], "variances: must be positive"),
        ([1.0], [[np.nan]], [1.0], "means: must be finite"),
    ],
)
def test_bad_mixtures_are_refused(weights, means, variances, fault):
    with pytest.raises(ValueError, match=fault):
        uldnum.GaussianMixture(weights, means, variances)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_equal_variances_have_a_shorter_score(dtype):
    """The score with one precision is that with a precision for each component; levels have the form of the data."""
    target, other = (uldnum.GaussianMixture([0.2, 0.5, 0.3], [[1, 0], [-1, 2], [0, -3]], [0.3] * 3) for _ in range(2))
    object.__setattr__(other, "equal", False)
    x = (3 * np.random.default_rng(1).normal(size=(1000, 2))).astype(dtype)
    np.testing.assert_allclose(target.score(x), other.score(x), rtol=0, atol=80 * np.finfo(dtype).eps)
    np.testing.assert_array_equal(target.log_density(x), other.log_density(x))
    assert target.kernel_data(np.dtype(dtype)).precisions.shape == (1,)
    assert target.kernel_levels(np.ones(4), np.arange(4.0), np.dtype(dtype)).precisions.shape == (4, 1)
    unequal = uldnum.GaussianMixture([0.5, 0.5], [[0.0], [1.0]], [0.3, 0.1 + 0.2])
    assert target.noised(0.5, 1.0).equal
    assert not unequal.noised(1.0, 5.0).equal


def test_bad_points_and_names_are_refused():
    with pytest.raises(ValueError, match=r"x: must have shape \(n, 2\)"):
        uldnum.target("ring-8").score([1.0, 2.0])
    with pytest.raises(ValueError, match="nearest is 'ring-8'"):
        uldnum.target("ring8")


# ----------------------------------------------------------------------------------------------------------- abilities


class Scored(Target):
    """A target with only the required members: the score of the logistic distribution."""

    name, shape = "scored", (1,)

    def score(self, x):
        return -np.tanh(x / 2)


class Logistic(Scored):
    """The logistic distribution with all abilities that studies use; its modes are the two half-lines."""

    name = "logistic"
    standard_deviation = np.full(1, np.pi / np.sqrt(3))
    modes = Modes(np.array([0.5, 0.5]), lambda x: np.hstack([x < 0, x >= 0]).astype(float))

    def draws(self, n, seed=0, first=0):
        u = initial_uniform(n, seed, first)[:, None]
        return np.log(u / (1 - u))

    def moment(self, order):
        return np.array([{0: 1.0, 1: 0.0, 2: np.pi**2 / 3, 4: 7 * np.pi**4 / 15}[order]])

    def cdf(self, x):
        return 1 / (1 + np.exp(-np.reshape(x, (-1, 1))))


def sampled(target, **options):
    given = {"h": 0.5, "steps": 8, "burn_in": 0, "chains": 64, "seed": 1, "progress": False}
    return uldnum.sample(target, "BAOAB", **given | options)


def test_a_target_needs_only_a_name_a_shape_and_a_score():
    run = sampled(Scored(), x0="normal")
    assert run.settings.backend == "array"
    assert np.isfinite(run.covariance).all()
    assert sampled(Scored(), x0="normal", steps=9, resume=run).nfe > run.nfe
    with pytest.raises(TypeError, match="abstract"):
        type("Nothing", (Target,), {})()


def test_messages_name_missing_abilities():
    target, run = Scored(), sampled(Scored(), x0="normal", thin=1)
    for measure, fault in (
        (lambda: sampled(target), "x0: must be given, because the target 'scored' has no exact draws"),
        (lambda: sampled(target, x0="normal", bins=4), "bins: histograms need .* a known standard deviation"),
        (lambda: sampled(target, x0="normal", backend="numba"), "'numba' runs mixtures and compiled scores; 'scored'"),
        (lambda: mean_bias(run, target), "target: 'scored' does not provide its moments; define its 'moment'"),
        (lambda: kolmogorov(run, target), "target: 'scored' does not provide its cdf; define its 'cdf'"),
        (lambda: mode_weights(run.x, target), "target: 'scored' does not provide its modes; define its 'modes'"),
        (lambda: hopping_rate(run.recorded, target), "target: 'scored' does not provide its modes"),
        (lambda: sliced_wasserstein_2(run.x, target), "target: 'scored' does not provide exact draws; define"),
        (lambda: relaxation(run, target), "target: 'scored' has no cdf, exact draws or modes; define"),
        (lambda: transfer_operator("ula", target, 0.5), "does not provide its standard deviation"),
        (lambda: uldnum.studies.bias(target, "ula", 0.5), "does not provide its moments and cdf; define"),
        (lambda: uldnum.studies.mixing(target, "ula", 0.5), "does not provide its standard deviation"),
        (
            lambda: uldnum.anneal(target, uldnum.preset("ald-cifar10")),
            r"data: must be .* object with a function noised\(alpha, sigma\), .* got Scored",
        ),
        (lambda: sampled(object()), "target: must be a name, a GaussianMixture"),
        (lambda: sampled(uldnum.targets.DataMixture(np.ones((1, 1, 2, 2)))), r"got .*noise level by its method at"),
    ):
        with pytest.raises(ValueError, match=fault):
            measure()


def test_abilities_of_a_new_target_are_used():
    """Runs and studies use the draws, moments, cdf and modes of a user-defined class.

    The sampled bias of ULA agrees with the exact one within 5 standard errors.
    """
    target = Logistic()
    run = sampled(target, thin=1, bins=512, chains=256)
    assert list(relaxation(run, target).distance.values) == [
        "wasserstein_1", "kolmogorov", "sliced_wasserstein_2", "mode_weights",
    ]  # fmt: skip
    assert 0 < hopping_rate(run.recorded, target).value < 1
    study = uldnum.studies.bias(target, "ula", 1.0, friction=1.0, chains=64, nfe=64, burn_in=16, progress=False)
    found = study.sel(metric="second_moment").squeeze()
    assert abs(found.bias - found.exact) < 5 * found.error
    assert found.exact > 0.02
    np.testing.assert_array_equal(target.draws(9, 3)[4:], target.draws(5, 3, 4))


def disguised(mixture):
    """A target of another class with all abilities of a mixture."""
    names = {"name", "shape", *dir(Target)}
    return type("Disguised", (Target,), {name: getattr(mixture, name) for name in names if name[0] != "_"})()


def test_nothing_depends_on_a_target_s_class():
    """A target of another class with the abilities of a mixture has the same results, bit by bit, on all backends."""
    for mixture in (uldnum.target("bimodal-1d"), uldnum.target("gaussian")):
        other = disguised(mixture)
        assert sampled(other).settings == sampled(mixture).settings
        for options in ({"backend": "array"}, {"thin": 1, "bins": 512}):
            mine, its = sampled(other, **options), sampled(mixture, **options)
            assert mine.settings.backend == options.get("backend", "numba")
            np.testing.assert_array_equal(mine.x, its.x)
        assert relaxation(mine, other).identical(relaxation(its, mixture))
        budget = {"chains": 8, "nfe": 64, "burn_in": 8, "friction": 1.0, "progress": False}
        mine, its = (uldnum.studies.bias(target, "BAOAB", 0.8, **budget) for target in (other, mixture))
        assert mine.identical(its)
        plan = uldnum.plan("BAOAB", uldnum.levels.geometric(4, 0.5, 5), h=0.5)
        mine, its = (uldnum.anneal(law, plan, chains=8, backend="array", progress=False) for law in (other, mixture))
        np.testing.assert_array_equal(mine.x, its.x)
    with pytest.warns(UserWarning, match="no stationary distribution: .*stable up to h = 2 "):
        sampled(other, h=2.001)


def test_the_example_of_the_protocol_runs():
    assert doctest.testmod(protocol).attempted >= 5
    assert doctest.testmod(protocol).failed == 0


def derived(law):
    """Names of a class and of all classes that derive from it."""
    return {law.__name__}.union(*map(derived, law.__subclasses__()))


def test_no_code_outside_targets_tests_the_class_of_a_target():
    """Outside `uldnum.targets`, no ``isinstance``, ``issubclass``, type comparison or class pattern names a class."""
    for module in pkgutil.walk_packages(uldnum.__path__, "uldnum."):
        importlib.import_module(module.name)
    classes = {*derived(Law), "Target"} - {"Scored", "Logistic"}
    assert {"GaussianMixture", "UserTarget", "DataMixture", "DataLevel", "Network", "NetworkLevel"} < classes
    found = []
    for path in (*PACKAGE.rglob("*.py"), *(PACKAGE.parent / "analysis").glob("*.py")):
        if path.parent.name == "targets":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            asks = isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "issubclass")
            asks |= isinstance(node, ast.Compare) and "type(" in ast.unparse(node)
            if asks or isinstance(node, ast.MatchClass):
                names = {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
                names |= {one.attr for one in ast.walk(node) if isinstance(one, ast.Attribute)}
                found += [f"{path.name}: {ast.unparse(node)}"] * bool(names & classes)
    assert found == []


def test_kernels_do_not_import_targets():
    """No import of `uldnum.targets` in `uldnum.kernels`, not even inside functions."""
    for path in (PACKAGE / "kernels").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                modules = [f"{node.module}.{alias.name}" for alias in node.names]
            assert not [name for name in modules if name.startswith("uldnum.targets")], path
