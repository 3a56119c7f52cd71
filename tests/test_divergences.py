"""Divergences of marginals from histograms, total variation, and the virial theorem: truth, bias and errors."""

import numpy as np
import pytest
from scipy import stats

import uldnum
from uldnum.diagnostics import kl, total_variation, virial
from uldnum.diagnostics.histograms import Cumulative, cell_edges, edges_of, joint_divergence, relative
from uldnum.diagnostics.planes import partition, plane_of_density, shares

NORMAL = uldnum.target("gaussian")


def moving(seed, chains, steps, rho, variance):
    """Positions N(0, variance) of chains whose correlation is rho from step to step, shape (steps, chains, 1)."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(steps, chains))
    for n in range(1, steps):
        x[n] = rho * x[n - 1] + np.sqrt(1 - rho**2) * x[n]
    return np.sqrt(variance) * x[..., None]


def gaussian_kl(variance):
    return (variance - 1 - np.log(variance)) / 2


@pytest.mark.parametrize(("variance", "loss"), [(4 / 3, 0.006), (1.05, 0.0035), (0.75, 0.003)])
def test_cells_lose_little(variance, loss):
    """The divergence between the probabilities of cells is smaller than that of Gaussians, by the stated share."""
    edges = np.linspace(-8, 8, 513)
    found, known = (
        Cumulative(stats.norm.cdf(edges, 0, scale), np.zeros((2, 513))) for scale in (np.sqrt(variance), 1.0)
    )
    value, products, projections = relative(found, known, cell_edges(512), 10 / 1e5)
    assert 0 < 1 - value / gaussian_kl(variance) < 1.05 * loss
    assert not products.any()
    assert not projections.any()


def test_cells_of_any_number_of_bins():
    for bins in (1, 2, 7, 127, 128, 129, 512, 1000):
        edges = cell_edges(bins)
        assert (edges[0], edges[-1]) == (0, bins)
        assert len(edges) <= 129
        assert (np.diff(edges) > 0).all()


@pytest.mark.parametrize(("chains", "steps", "rho"), [(640, 1, 0.0), (320, 20, 0.8)])
@pytest.mark.parametrize("variance", [1.0, 1.25])
def test_divergences_without_their_bias(chains, steps, rho, variance):
    """The mean of 100 values is the divergence to 4 standard errors, and errors are those of the values to 35%.

    The false-fail rate of the mean is 6e-5. The bias of the histogram, about 8 standard errors of the mean at the
    variance 1, would be detected. A ratio of standard deviations of 100 values has a relative error of 7% or more, as
    values have a skewed distribution.
    """
    found = np.array([kl(moving(seed, chains, steps, rho, variance), NORMAL) for seed in range(100, 200)])
    values, errors, floors = found.T
    spread = values.std(ddof=1)
    # With 640 independent positions, the divergence between the probabilities of cells is smaller by 11%.
    loss = 0.11 * gaussian_kl(variance)
    assert -loss - 0.4 * spread < values.mean() - gaussian_kl(variance) < 0.4 * spread
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(spread, rel=0.35)
    if variance == 1:
        assert np.sqrt(np.mean(floors**2)) == pytest.approx(spread, rel=0.35)


def test_divergences_of_several_axes_are_means():
    """Axes that are equal have the divergence and the error of one of them; independent ones have smaller errors."""
    x = moving(3, 640, 4, 0.3, 1.2)
    plane = uldnum.GaussianMixture([1.0], [[0.0, 0.0]], [1.0])
    one, same = kl(x, NORMAL), kl(np.concatenate([x, x], axis=-1), plane)
    np.testing.assert_allclose(same, one, rtol=1e-10)
    apart = kl(np.concatenate([x, moving(4, 640, 4, 0.3, 1.2)], axis=-1), plane)
    assert apart.error < 0.95 * one.error


def test_divergences_from_reference_samples():
    """With samples instead of the cdf, the mean of 60 values of equal distributions is 0 to 4 standard errors."""
    values = [
        kl(moving(seed, 640, 1, 0.0, 1.0), NORMAL, reference=moving(1000 + seed, 1280, 1, 0.0, 1.0)[0])
        for seed in range(60)
    ]
    values, errors, _ = np.array(values).T
    assert abs(values.mean()) < 4 * values.std(ddof=1) / np.sqrt(60)
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(values.std(ddof=1), rel=0.45)


def test_positions_in_one_cell():
    """All positions are above the histogram, where the target has almost no probability."""
    found = kl(np.full((64, 1), 20.0), NORMAL)
    assert found.value > 20
    assert found.error == 0


@pytest.mark.filterwarnings("ignore:.* diverged")
def test_single_chains_and_diverged_ones_have_no_divergence():
    run = uldnum.sample("gaussian", "ula", h=0.5, steps=20, chains=1, bins=64, backend="array")
    assert np.isnan(kl(run, NORMAL)).all()
    run = uldnum.sample("gaussian", "ula", h=2.5, steps=4000, chains=4, bins=64, backend="array", x0=[[1.0]] * 4)
    assert np.isnan([*kl(run, NORMAL), *(part[0] for part in total_variation(run, NORMAL))]).all()
    run = uldnum.sample("gaussian", "ula", h=[0.5, 1.0], steps=20, chains=8, bins=64, backend="array")
    assert kl(run, NORMAL).value.shape == (2,)
    assert total_variation(run, NORMAL).value.shape == (2, 1)


def test_total_variation():
    """The total variation distance of Gaussians, by many positions, is twice their Kolmogorov distance."""
    grid = np.linspace(-6, 6, 6001)
    truth = 2 * np.abs(stats.norm.cdf(grid) - stats.norm.cdf(grid / 1.3)).max()
    found = total_variation(moving(0, 40_000, 1, 0.0, 1.69), NORMAL, np.mean)
    assert abs(found.value - truth) < 4 * found.error
    assert found.error < truth / 40
    assert total_variation(moving(0, 40_000, 1, 0.0, 1.0), NORMAL, np.mean).value < 1.3 * found.floor


# ---------------------------------------------------------------------------------------------- joint distributions

RING, PLANE = uldnum.target("ring-8"), uldnum.GaussianMixture([1.0], [[0.0, 0.0]], [1.0])


def banana():
    """Return the density of (x, y), where x is N(0, 1) and y - x^2 is N(0, 1/4), and its draws."""

    def draws(n, seed, first):
        z = PLANE.sample(n, seed, first)
        return np.stack([z[:, 0], z[:, 0] ** 2 + z[:, 1] / 2], axis=1)

    def log_density(x):
        return -(x[:, 0] ** 2) / 2 - 2 * (x[:, 1] - x[:, 0] ** 2) ** 2

    def score(x):
        gap = 4 * (x[:, 1] - x[:, 0] ** 2)
        return np.stack([2 * x[:, 0] * gap - x[:, 0], -gap], axis=1)

    # The variance of y is that of x^2, which is 2, plus 1/4.
    return uldnum.UserTarget(score, 2, log_density, draws, [0.0, 1.0], [1.0, 1.5], name="banana")


def test_bins_of_a_plane_integrate_the_density():
    """The mass of rows and columns of bins are differences of the exact marginal cdfs."""
    edges = edges_of(RING)[:, ::2]
    mass = plane_of_density(RING.log_density, edges).mass
    for axis, column in enumerate(np.diff(RING.cdf(edges.T), axis=0).T):
        np.testing.assert_allclose(mass.sum(axis=1 - axis), column, atol=1e-9)


@pytest.mark.parametrize(("samples", "loss"), [(1e4, 0.15), (1e5, 0.045), (1e6, 0.02)])
def test_cells_of_a_plane_lose_little(samples, loss):
    """The divergence between the exact probabilities of cells is smaller by the stated share; no cell is too small."""
    edges = np.linspace(-8, 8, 257)
    Q, P = (np.outer(*2 * [np.diff(stats.norm.cdf(edges / scale))]) for scale in (1.0, np.sqrt(4 / 3)))
    labels = partition(Q, 10 / samples)
    q, p = (np.bincount(labels.ravel(), mass.ravel()) for mass in (Q, P))
    assert q.min() >= 10 / samples
    assert 0 < 1 - np.sum(p * np.log(p / q)) / (2 * gaussian_kl(4 / 3)) < 1.05 * loss
    for cell in range(len(q)):
        rows, columns = np.nonzero(labels == cell)
        assert len(rows) == np.prod([np.ptp(one) + 1 for one in (rows, columns)])  # a rectangle


@pytest.mark.parametrize("target", [RING, banana()], ids=["ring-8", "banana"])
@pytest.mark.parametrize(("chains", "steps", "rho"), [(2000, 1, 0.0), (500, 12, 0.7)])
def test_joint_divergences_of_a_target_from_itself(target, chains, steps, rho):
    """The mean of 50 values is 0 to 4 standard errors (false-fail rate 6e-5), and floors are the spread to 35%.

    A chain keeps its last draw with the probability rho. Without the correction, the mean would be wrong by tens of
    standard errors.
    """
    plane, values, floors = plane_of_density(target.log_density, edges_of(target)[:, ::2]), [], []
    for seed in range(50):
        x = target.sample(chains * steps, seed).reshape(steps, chains, 2)
        kept = np.random.default_rng(seed).random((steps, chains, 1)) < rho
        for n in range(1, steps):
            x[n] = np.where(kept[n], x[n - 1], x[n])
        found = joint_divergence(shares(x, plane))
        values.append(found.value)
        floors.append(found.floor)
    assert kl(x, target, joint=True) == pytest.approx(found)
    away = total_variation(x, target, joint=True)
    assert 0.7 < away.value / away.floor < 1.4
    spread = np.std(values, ddof=1)
    assert abs(np.mean(values)) < 4 * spread / np.sqrt(50)
    assert np.sqrt(np.mean(np.square(floors))) == pytest.approx(spread, rel=0.35)


def test_joint_divergences_of_wrong_samples():
    """The value is the divergence of the Gaussians to 4 errors and the loss of cells, which is 3% to 6% here."""
    S = np.array([[1.5, 0.4], [0.4, 1.0]])
    x = PLANE.sample(100_000, 5) @ np.linalg.cholesky(S).T
    truth = (np.trace(S) - 2 - np.log(np.linalg.det(S))) / 2
    found = kl(x, PLANE, joint=True)
    assert -0.06 * truth - 4 * found.error < found.value - truth < 4 * found.error
    assert found.error < 0.02 * truth
    # The marginals do not show a correlation.
    turned = PLANE.sample(20_000, 5) @ np.linalg.cholesky([[1.0, 0.5], [0.5, 1.0]]).T
    assert abs(kl(turned, PLANE).value) < 4 * kl(turned, PLANE).floor
    assert kl(turned, PLANE, joint=True).value > 0.1


@pytest.mark.parametrize("options", [{}, {"temperature": 2.0, "mass": 3.0}])
def test_joint_distributions_of_position_and_momentum(options):
    """On a mixture, x of BAOAB is better than (x, p); the values are those of the transfer operator.

    The interval is 4 errors (false-fail rate 6e-5) and a loss of 15% in cells; the divergences are 20 errors or more.
    """
    h = np.sqrt(options.get("mass", 1.0))
    given = {"friction": 1.0 / h, **options}
    run = uldnum.sample(
        "bimodal-1d", "BAOAB", h=[0.8 * h, h], steps=60, chains=100_000, progress=False, backend="numba", **given
    )
    found, away = kl(run, "bimodal-1d", joint=True), total_variation(run, "bimodal-1d", joint=True)
    law = uldnum.exact.transfer_operator("BAOAB", "bimodal-1d", h, tolerance=1e-4, **given).phase_space
    assert -0.15 * law.kl - 4 * found.error[1] < found.value[1] - law.kl < 4 * found.error[1]
    assert found.error[1] < 0.06 * law.kl
    assert abs(away.value[1] - law.total_variation) < 4 * away.error[1] + away.floor[1] ** 2 / law.total_variation
    assert found.value[0] < found.value[1]


def test_joint_distributions_of_schemes_with_three_rows():
    """The third row of ShOULD is neither x nor p; at h = 0.1 its divergence is below a tenth of the error."""
    run = uldnum.sample("gaussian", "ShOULD", h=0.1, steps=2, chains=2000, progress=False, backend="array")
    found = kl(run, "gaussian", joint=True)
    assert abs(found.value) < 4 * found.error


def test_joint_distributions_that_are_unknown():
    x = np.zeros((4, 3))
    with pytest.raises(ValueError, match=r"joint: must be False for samples of shape \(3,\)"):
        kl(x, uldnum.GaussianMixture([1.0], [[0.0] * 3], [1.0]), joint=True)
    with pytest.raises(ValueError, match="run: must be a Run of an integrator with momenta"):
        kl(x[:, :1], "gaussian", joint=True)
    with pytest.raises(ValueError, match="reference: must be None with joint"):
        kl(x[:, :2], RING, joint=True, reference=np.zeros((9, 2)))
    with pytest.raises(ValueError, match="does not provide its density; define its 'log_density'"):
        total_variation(x[:, :2], uldnum.UserTarget(lambda x: -x, 2, standard_deviation=[1.0, 1.0]), joint=True)
    hot = uldnum.sample("ring-8", "OBABO", h=0.2, steps=2, chains=8, temperature=2.0, backend="array")
    with pytest.raises(ValueError, match=r"known on Gaussians and in one dimension, but not for 'ring-8'$"):
        kl(hot, RING, joint=True)  # without the advice to give a reference
    run = uldnum.sample("gaussian", "BAOAB", h=0.5, steps=2, chains=1, backend="array")
    assert np.isnan(kl(run, "gaussian", joint=True)).all()


def test_virial():
    """On a Gaussian with the precision Lambda, samples of covariance S have tr(Lambda S)/d - 1; a score suffices."""
    scale, rng = np.array([0.5, 2.0]), np.random.default_rng(0)
    target = uldnum.GaussianMixture([1.0], [[3.0, -1.0]], [scale**2])
    x = target.mean + scale * np.sqrt([1.3, 0.9]) * rng.normal(size=(40_000, 2))
    found = virial(x, target)
    assert found.value == pytest.approx(0.1, abs=4 * found.error)
    assert found.error < 0.01
    scored = uldnum.UserTarget(lambda x: -(x - target.mean) / scale**2, dimension=2)
    assert virial(x, scored) == pytest.approx(found, rel=1e-9)
    assert virial(x[None].repeat(3, axis=0), target) == pytest.approx(found, rel=1e-12)


@pytest.mark.filterwarnings("ignore:.* diverged")
def test_virial_of_runs():
    """A run is measured at its temperature; ULA on N(0, 1) has the error k/(2 - k), with k = h^2/2, at any."""
    h = np.array([0.7, 1.0, 2.5])
    for thin in (None, 50):
        run = uldnum.sample(
            "gaussian", "ula", h=h, steps=200, chains=20_000, temperature=3.0, thin=thin, backend="array"
        )
        found, k = virial(run, "gaussian"), h[:2] ** 2 / 2
        assert (np.abs(found.value[:2] - k / (2 - k)) < 4 * found.error[:2]).all()
        assert (found.error[:2] < 0.05 * k).all()
        assert np.isnan([part[2] for part in found]).all()


def test_virial_of_networks():
    """The network denoises images of variance 1/4, so that those at sigma = 1 have the variance 5/4.

    ULA at h = 1 on N(0, 5/4) has the error 1/4, which is 40 standard errors; the false-fail rate is 6e-5.
    """
    card = {"parameterisation": "denoiser", "scaling": "ve", "condition": "sigma", "shape": [1, 2, 2]}
    like = np.zeros(1, np.float32)
    net = uldnum.networks.network(lambda z, sigma: z / (1 + 4 * sigma[0] ** 2), card, like=like)
    run = uldnum.sample(net.at(1.0), "ula", h=1.0, steps=20, chains=10_000, x0="normal", progress=False)
    found = virial(run, net.at(1.0))
    assert abs(found.value - 1 / 4) < 4 * found.error
    assert found.error < 0.01
    assert virial(run.x, net.at(1.0)) == pytest.approx(found, rel=1e-6)


GIVEN = {"nfe": 400, "burn_in": 40, "chains": 2048, "backend": "numba", "progress": False, "exact": True}


@pytest.mark.parametrize(("temperature", "mass"), [(1.0, 1.0), (2.0, 4.0)])
def test_studies_measure_and_know_them(temperature, mass):
    """Sampled values agree with exact ones to 4 errors, or 2% for the loss of cells; the false-fail rate is 1e-3."""
    h = np.sqrt(mass) * np.array([1.0])
    found = uldnum.studies.bias(
        "gaussian", ["OBABO", "ula"], h=h, friction=1.0, temperature=temperature, mass=mass, **GIVEN
    )
    names = ["total_variation", "kl", "virial"]
    exact = found.exact.sel(metric=names).squeeze()
    np.testing.assert_allclose(exact.sel(metric="kl"), gaussian_kl(4 / 3), rtol=1e-9)
    np.testing.assert_allclose(exact.sel(metric="virial"), 1 / 3, rtol=1e-9)
    gap = np.abs(found.bias.sel(metric=names).squeeze() - exact)
    assert (gap < 4 * found.error.sel(metric=names).squeeze() + 0.02 * exact).all()
    assert (found.error.sel(metric="kl") < 0.1 * gaussian_kl(4 / 3)).all()


def test_exact_values_in_one_dimension():
    """They are those of the transfer operator; the virial theorem by quadrature with its density."""
    found = uldnum.studies.exact_bias("bimodal-1d", ["ula"], h=[0.8], tolerance=1e-6).exact.squeeze()
    law = uldnum.exact.transfer_operator("ula", "bimodal-1d", 0.8)
    target = uldnum.target("bimodal-1d")
    x = np.linspace(-12, 12, 4001)
    value = np.trapezoid(-(x - law.law.mean) * target.score(x[:, None])[:, 0] * law.density(x), x) - 1
    wanted = [law.total_variation, law.kl, abs(value)]
    np.testing.assert_allclose(found.sel(metric=["total_variation", "kl", "virial"]), wanted, rtol=1e-5)
