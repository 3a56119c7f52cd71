"""Flow matching, and plans from pure noise, alpha = 0, with networks whose output is exact for a Gaussian mixture."""

import re
from functools import cache, partial

import numpy as np
import pytest
from helpers.networks import EPS, SHAPE, exact_image, levels_of_betas, vp_linear
from helpers.onnx_models import save_mixture

import uldnum
from uldnum.networks import Network
from uldnum.networks.forms import NEEDS, OF_NOISE, PARAMETERISATIONS, form
from uldnum.plans.schedules import schedule

MIXTURE = uldnum.GaussianMixture(
    [0.5, 0.3, 0.2], np.random.default_rng(0).normal(size=(3, 12)), [0.1, 0.4, 1.0], name="three"
)

# Twelve betas of which the last is 1, so that alpha is 0 at the last timestep.
ZERO = [*np.linspace(0.05, 0.6, 11), 1.0]
KEPT = np.cumprod(1 - np.array(ZERO))
ZERO_CARD = {"scaling": "vp", "condition": "timestep", "schedule": {"kind": "betas", "values": ZERO}}


def zero_network(path, what):
    """Return a network on the schedule of `ZERO` that is exact for the mixture."""
    return Network(save_mixture(path / "net.onnx", MIXTURE, SHAPE, what, levels_of_betas(ZERO)),
                   ZERO_CARD | {"parameterisation": what})  # fmt: skip


def flow_network(path, what, reverse=False):
    """Return a network of flow matching that is exact for the mixture, with times from 0 to 1000."""

    def levels(graph, u):
        t = u / 1000.0
        return (t, 1.0 - t) if reverse else (1.0 - t, t)

    path = save_mixture(path / "net.onnx", MIXTURE, SHAPE, what, levels)
    return Network(path, {"parameterisation": what, "scaling": "flow", "condition": "t", "condition_scale": 1000.0,
                          "schedule": {"kind": "flow", "reverse": reverse}})  # fmt: skip


NETWORKS = {name: (zero_network, name) for name in ("denoiser", "v")} | {
    "flow denoiser": (flow_network, "denoiser"),
    "flow velocity": (flow_network, "velocity"),
    "reversed flow": (partial(flow_network, reverse=True), "negative-velocity"),
}


@pytest.fixture(params=NETWORKS)
def net(request, tmp_path):
    make, what = NETWORKS[request.param]
    return make(tmp_path, what)


def estimates(alpha, sigma, z):
    """Return the exact image and noise of z in float64."""
    image = exact_image(MIXTURE, alpha, sigma, z)
    return image, (z - alpha * image) / sigma


def ddim(levels, z):
    """Return the end of DDIM from z, step by step in float64, with the denoising step."""
    for a, s, b, t in zip(levels.alpha, levels.sigma, levels.alpha[1:], levels.sigma[1:], strict=False):
        image, noise = estimates(a, s, z)
        z = b * image + t * noise
    return exact_image(MIXTURE, levels.alpha[-1], levels.sigma[-1], z)


def heun(levels, z):
    """Return the end of Heun's method for dw = (eps - x0) dt, w = z/(alpha + sigma) and t = sigma/(alpha + sigma)."""
    sums = levels.alpha + levels.sigma
    w, times = z / sums[0], levels.sigma / sums

    def slope(n, w):
        image, noise = estimates(levels.alpha[n], levels.sigma[n], w * sums[n])
        return noise - image

    for n in range(len(levels) - 1):
        step, first = times[n + 1] - times[n], slope(n, w)
        w = w + step * (first + slope(n + 1, w + step * first)) / 2
    return exact_image(MIXTURE, levels.alpha[-1], levels.sigma[-1], w * sums[-1])


def dpm_solver(levels, z):
    """Return the end of DPM-Solver++(2M), whose first two steps are of first order after log(sigma/alpha) = inf."""
    with np.errstate(divide="ignore"):
        rates = -np.log(levels.ratio)
    before = None
    for n in range(len(levels) - 1):
        image, _ = estimates(levels.alpha[n], levels.sigma[n], z)
        data = image
        if n > 1:
            share = (rates[n + 1] - rates[n]) / (rates[n] - rates[n - 1]) / 2
            data = (1 + share) * image - share * before
        weight = 1 - levels.ratio[n + 1] / levels.ratio[n]
        z = levels.sigma[n + 1] / levels.sigma[n] * z + levels.alpha[n + 1] * weight * data
        before = image
    return exact_image(MIXTURE, levels.alpha[-1], levels.sigma[-1], z)


@pytest.mark.parametrize(
    ("name", "reference"), [("ddim", ddim), ("edm-euler", ddim), ("heun", heun), ("dpm-solver++", dpm_solver)]
)
def test_deterministic_predictors_from_pure_noise_equal_loops_in_float64(net, name, reference):
    levels = net.levels(6)
    assert levels.alpha[0] == 0
    start = np.random.default_rng(1).normal(size=(8, *SHAPE))
    run = uldnum.anneal(net, uldnum.plan(name, levels), chains=8, x0=start, progress=False)
    np.testing.assert_allclose(run.x, reference(levels, start.astype(np.float32).astype(float)), rtol=0, atol=1e-4)
    assert run.nfe == (2 * 5 + 1 if name == "heun" else 6)


# Every output with every scaling: how the network receives the noise level, and alpha and sigma as functions of that.
SCALED = {
    "ve": ({"condition": "log-sigma"}, lambda g, u: (u * 0.0 + 1.0, u.exp())),
    "edm": ({"condition": "log-sigma"}, lambda g, u: (u * 0.0 + 1.0, u.exp())),
    "vp": ({"condition": "t", "condition_scale": 999.0, "schedule": {
        "kind": "vp-sde", "beta_start": 0.1, "beta_end": 20.0}}, vp_linear),
    "flow": ({"condition": "t", "schedule": {"kind": "flow"}}, lambda g, u: (1.0 - u, u)),
}  # fmt: skip
SHORT = [("score", "ve"), ("epsilon", "vp"), ("denoiser", "flow"), ("v", "vp"), ("velocity", "flow"), ("edm", "edm")]
PAIRS = [
    pytest.param(what, scaling, marks=[] if (what, scaling) in SHORT else pytest.mark.slow)
    for what in PARAMETERISATIONS for scaling in SCALED if NEEDS.get(what, scaling) == scaling
]  # fmt: skip
METHODS = {
    "ddim(0.5)": {}, "ancestral": {}, "reverse-diffusion": {}, "edm-euler(0.1)": {}, "heun": {}, "heun(0.1)": {},
    "dpm-solver++": {}, "UBU": {"h": 0.5, "predictor": "ddim"}, "baoab-limit": {"h": 0.7, "steps": 2},
}  # fmt: skip


@cache
def exact_plans(levels):
    """Return the start of chains and their ends with each method, in float64 on the mixture."""
    start = np.random.default_rng(1).normal(size=(6, 12)) * levels.sigma[0]
    plans = {name: uldnum.plan(name, levels, **more) for name, more in METHODS.items()}
    return start, {plan: uldnum.anneal(MIXTURE, plan, x0=start, backend="array", **RUNS).x for plan in plans.values()}


RUNS = {"chains": 6, "seed": 5, "progress": False}
LEVELS_OF = {}  # by scaling; all networks of a scaling have the same levels


@pytest.mark.parametrize(("what", "scaling"), PAIRS)
def test_every_output_and_scaling_equals_the_mixture_in_plans_and_chains(tmp_path, what, scaling):
    """Chains in float32 on the network equal chains in float64 on the mixture, with the same random numbers.

    The levels extend from sigma/alpha = 30, where an error of epsilon is multiplied by 30 in the image, to 0.02. The
    bound is 30 times 16 rounding errors of float32, times the size of the values, 4 in the image and 4 sigma in chains.
    """
    card, conditioned = SCALED[scaling]
    path = save_mixture(tmp_path / "net.onnx", MIXTURE, SHAPE, what, conditioned, edm=scaling == "edm")
    net = Network(path, card | {"parameterisation": what, "scaling": scaling, "data_range": (-30.0, 30.0)})
    at = [net.at(ratio=one) for one in np.geomspace(30.0, 0.02, 9)]
    given = uldnum.levels.given([level.sigma for level in at], [level.alpha for level in at])
    start, ends = exact_plans(LEVELS_OF.setdefault(scaling, given))
    for plan, end in ends.items():
        run = uldnum.anneal(net, plan, x0=start.reshape(6, *SHAPE), **RUNS)
        np.testing.assert_allclose(run.x.reshape(6, 12), end, rtol=0, atol=30 * 16 * 4 * EPS)
    for level in (at[0], at[4], at[-1]):
        law = MIXTURE.noised(level.alpha, level.sigma)
        begin = law.sample(6, seed=3)
        run = uldnum.sample(level, "UBU", h=0.5, steps=5, x0=begin.reshape(6, *SHAPE), **RUNS)
        exact = uldnum.sample(law, "UBU", h=0.5 * level.sigma, friction=1 / level.sigma, steps=5, x0=begin,
                              backend="array", **RUNS)  # fmt: skip
        room = 16 * 4 * EPS * (level.sigma + level.alpha)
        np.testing.assert_allclose(run.x.reshape(6, 12), exact.x, rtol=0, atol=room)


def shifted(t, a):
    return a * t / (1 + (a - 1) * t)


def test_ddim_is_the_euler_step_of_flow_matching(tmp_path):
    """z' = z + (t' - t) v, for every t; the last step to t = 0 is the denoising step."""
    net = flow_network(tmp_path, "velocity")
    levels = uldnum.levels.flow(7, shift=3.0)
    z = start = np.random.default_rng(1).normal(size=(8, *SHAPE)).astype(np.float32)
    for t, later in zip(levels.sigma, [*levels.sigma[1:], 0.0], strict=True):
        z = (z + (later - t) * net.evaluate(z, 1.0, 1000 * t)).astype(np.float32)
    run = uldnum.anneal(net, uldnum.plan("ddim", levels), chains=8, x0=start, progress=False)
    np.testing.assert_allclose(run.x, z, rtol=0, atol=1e-5)


@pytest.mark.parametrize("reverse", [False, True])
def test_times_of_flow_matching(reverse):
    found = schedule({"kind": "flow", "reverse": reverse})
    t = np.array([0, 1e-9, 0.2, 0.5, 0.9, 1.0])
    with np.errstate(divide="ignore"):
        ratio = (1 - t) / t if reverse else t / (1 - t)
    np.testing.assert_allclose(found.ratio(t), ratio, rtol=1e-14)
    np.testing.assert_allclose(found.time(ratio), t, rtol=1e-14)
    assert found.limits == (0, np.inf)


def test_levels_of_flow_matching():
    levels = uldnum.levels.flow(5, shift=2.0, first=0.9, last=0.1)
    np.testing.assert_allclose(levels.sigma, shifted(np.linspace(0.9, 0.1, 5), 2.0), rtol=1e-14)
    np.testing.assert_allclose(levels.alpha + levels.sigma, 1, rtol=1e-15)
    parsed = uldnum.levels.parse("flow:5:2:0.9:0.1")
    np.testing.assert_array_equal(parsed.sigma, levels.sigma)
    for given, fault in (
        ((1,), "count: must"),
        ((4, 0.0), "shift: must be positive"),
        ((4, 1, 1.5), "0 < last < first"),
    ):
        with pytest.raises(ValueError, match=fault):
            uldnum.levels.flow(*given)


def test_default_levels_of_flow_matching(tmp_path):
    net = flow_network(tmp_path, "velocity")
    np.testing.assert_allclose(net.levels(5).sigma, np.linspace(1, 1e-3, 5), rtol=1e-12)
    net = flow_network(tmp_path, "negative-velocity", reverse=True)
    np.testing.assert_allclose(net.levels(5).sigma, np.linspace(1, 1e-3, 5), rtol=1e-12)


def test_a_single_move_from_pure_noise(net):
    """It ends at alpha times the mean of the mixture plus sigma times the start."""
    levels, start = net.levels(2), np.random.default_rng(1).normal(size=(8, *SHAPE)).astype(np.float32)
    run = uldnum.anneal(net, uldnum.plan("ddim", levels, denoise=False), chains=8, x0=start, progress=False)
    end = levels.alpha[1] * MIXTURE.mean.reshape(SHAPE) + levels.sigma[1] * start
    np.testing.assert_allclose(run.x, end, rtol=0, atol=1e-6)


@pytest.mark.parametrize("what", [one for one in PARAMETERISATIONS if one not in OF_NOISE and NEEDS.get(one) != "edm"])
@pytest.mark.parametrize("name", ["ddim", "ddim(0.5)", "ancestral", "edm-euler", "dpm-solver++"])
def test_tables_at_pure_noise_are_the_limit_of_small_alpha(what, name):
    """With errors of order alpha; Heun's method changes the coordinates, and is tested above."""
    small = 1e-9
    found = []
    for alpha in (0.0, small):
        levels = uldnum.levels.given([1.0, 0.8, 0.3], [alpha, 0.6, 0.9])
        phase = uldnum.plan(name, levels).phases[0]
        found.append(phase.answered(form(what, alpha, 1.0, 0.5)).close)
    for part in ("dA", "b", "C"):
        exact, near = (getattr(one, part) for one in found)
        np.testing.assert_allclose(exact, near, rtol=0, atol=5 * small)


def test_chains_at_pure_noise_see_a_normal_distribution(net):
    """The score is -z, the denoised image is the mean of the mixture, and Langevin steps forget the start."""
    level = net.at(ratio=np.inf)
    assert (level.alpha, level.sigma) == (0.0, 1.0)
    z = np.random.default_rng(2).normal(size=(5, *SHAPE)).astype(np.float32)
    np.testing.assert_allclose(level.score(z), -z, rtol=0, atol=1e-6)
    image = np.broadcast_to(MIXTURE.mean.reshape(SHAPE), z.shape)
    np.testing.assert_allclose(level.denoise(z), image, rtol=0, atol=1e-6)
    run = uldnum.sample(level, "BAOAB", h=0.5, steps=5, chains=4, seed=3, progress=False)
    normal = uldnum.GaussianMixture([1.0], [np.zeros(12)], [1.0])
    plain = uldnum.sample(normal, "BAOAB", h=0.5, steps=5, chains=4, seed=3, dtype="float32", progress=False)
    np.testing.assert_allclose(run.x.reshape(4, 12), plain.x, rtol=0, atol=1e-5)


def test_samples_of_a_data_mixture_from_pure_noise_are_its_images():
    """All predictors and correctors end at one of the images, whose distances are about 5."""
    images = MIXTURE.means.reshape(3, *SHAPE)
    data = uldnum.targets.DataMixture(images.astype(np.float32))
    levels = uldnum.levels.given([1.0, 0.95, 0.8, 0.6, 0.4, 0.2], [0.0, 0.05, 0.2, 0.4, 0.6, 0.8])
    for name, options in (("ancestral", {}), ("ddim(0.5)", {}), ("baoab-limit", {"h": 0.5, "predictor": "ddim"})):
        run = uldnum.anneal(data, uldnum.plan(name, levels, **options), chains=50, seed=4, progress=False)
        distance = np.abs(run.x[:, None] - images).max(axis=(2, 3, 4)).min(axis=1)
        assert (distance < 1e-3).mean() > 0.9


def test_a_schedule_that_ends_at_pure_noise():
    """Timesteps are exact, and alpha/sigma is linear between the last two of them."""
    found = schedule({"kind": "betas", "values": ZERO})
    ratio = np.sqrt((1 - KEPT[:-1]) / KEPT[:-1])
    np.testing.assert_allclose(found.ratio(np.arange(11.0)), ratio, rtol=1e-12)
    assert found.limits == (pytest.approx(ratio[0]), np.inf)
    assert 1 / found.ratio(10.25) == pytest.approx(0.75 / ratio[-1], rel=1e-12)
    np.testing.assert_allclose(found.time(found.ratio(np.array([0, 3.7, 10, 10.6, 11]))), [0, 3.7, 10, 10.6, 11])


def cosine_network(path, what, **keys):
    """Return a network on the cosine schedule with 1000 timesteps that is exact for the mixture."""
    kept = np.cos((np.arange(1001) / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2
    betas = np.minimum(1 - kept[1:] / kept[:-1], 0.999)
    model = save_mixture(path / "net.onnx", MIXTURE, SHAPE, what, levels_of_betas(betas))
    return Network(model, {"parameterisation": what, "scaling": "vp", "condition": "timestep",
                           "schedule": {"kind": "cosine", "timesteps": 1000}, **keys})  # fmt: skip


@pytest.mark.parametrize("name", ["ddim", "ancestral", "heun", "baoab-limit"])
def test_default_levels_tolerate_errors_of_the_noise(tmp_path, monkeypatch, name):
    """With an error of 1e-3 in epsilon, samples from the default levels are near the exact ones, up to 1e-3 times 30.

    DDIM from the last timestep, where sigma/alpha is 2e4, warns, and most values of the images are wrong.
    """
    net = cosine_network(tmp_path, "epsilon")
    exact, options = Network.evaluate, {"h": 0.5, "predictor": "ddim"} if name == "baoab-limit" else {}
    errors = 1e-3 * np.random.default_rng(3).normal(size=(64, *SHAPE)).astype(np.float32)

    def with_error(self, x, *others):
        return exact(self, x, *others) + errors

    def run(levels):
        return uldnum.anneal(net, uldnum.plan(name, levels, **options), chains=64, seed=2, progress=False).x

    levels = net.levels(20)
    assert 28 < levels.ratio[0] <= 30
    wanted = run(levels)
    monkeypatch.setattr(Network, "evaluate", with_error)
    assert np.median(np.abs(run(levels) - wanted)) < 0.03
    if name != "ddim":
        return
    net = cosine_network(tmp_path, "epsilon", spacing={"kind": "linspace"})
    beyond = r"ddim: \d\d% of the values of the final states are far outside the range of the data of net, -1 to 1, so"
    with (
        pytest.warns(UserWarning, match=r"starts at sigma/alpha = 2\.0.*e\+04, and the move .* or less"),
        pytest.warns(UserWarning, match=beyond),
    ):
        far = run(net.levels(20))
    assert np.median(np.abs(far - wanted)) > 0.3


def excess(x):
    """Return six statistics of the mixture minus their exact values, and their standard errors.

    They are the posterior probabilities of the three components, and these times the squared distance from the mean of
    the component, divided by the dimension and the variance. Both have the weights of the components as expectations.
    """
    x, variances = x.reshape(len(x), 12).astype(float), MIXTURE.variances[:, 0]
    squares = ((x[:, None] - MIXTURE.means) ** 2).sum(axis=2)
    logs = np.log(MIXTURE.weights) - 6 * np.log(variances) - squares / (2 * variances)
    share = np.exp(logs - logs.max(axis=1, keepdims=True))
    share /= share.sum(axis=1, keepdims=True)
    found = np.concatenate([share, share * squares / (12 * variances)], axis=1) - np.tile(MIXTURE.weights, 2)
    return found.mean(axis=0), found.std(axis=0) / len(x) ** 0.5


@pytest.mark.parametrize(
    ("chains", "count", "bias"), [(1024, 50, 0.08), pytest.param(4096, 100, 0.04, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("name", ["ddim", "ancestral", "heun", "ula"])
def test_samples_from_default_levels_have_the_law_of_the_data(tmp_path, monkeypatch, name, chains, count, bias):
    """With an error of 1e-3 in epsilon, six statistics agree within the bias of the plan and 4.5 standard errors.

    ``bias`` bounds the bias of the four plans on the exact network: 0.071 for 50 levels and 0.039 for 100, of ancestral
    sampling, measured with 4096 chains. A right sampler fails with probability 2e-4 at most, over all methods. Errors
    of 0.08 + 9 x 0.016 = 0.22 are always found, and of 0.12 in the slow version. DDIM from the last timestep is found.
    """
    net, options = cosine_network(tmp_path, "epsilon"), {"h": 0.5, "predictor": "ddim"} if name == "ula" else {}
    exact = Network.evaluate
    errors = 1e-3 * np.random.default_rng(3).normal(size=(chains, *SHAPE)).astype(np.float32)
    monkeypatch.setattr(Network, "evaluate", lambda self, x, *others: exact(self, x, *others) + errors)

    def deviations(levels):
        run = uldnum.anneal(net, uldnum.plan(name, levels, **options), chains=chains, seed=2, progress=False)
        found, error = excess(run.x)
        return np.abs(found) / (bias + 4.5 * error)

    assert deviations(net.levels(count)).max() < 1
    net = cosine_network(tmp_path, "epsilon", spacing={"kind": "linspace"})
    with pytest.warns(
        UserWarning, match=r"starts at sigma/alpha = 2\.0|diverged|far outside the range of the data"
    ) as caught:  # Heun's method also diverges, and values of DDIM are far too large
        found = deviations(net.levels(20))
    assert "starts at sigma/alpha = 2.0" in str(caught[0].message)
    if name == "ddim":
        assert found.max() > 1


def test_default_levels_stay_in_the_range_of_the_card(tmp_path):
    """Levels have whole timesteps between sigma_min and sigma_max, and v reaches the last timestep."""
    levels = cosine_network(tmp_path, "v", sigma_min=0.1, sigma_max=0.9).levels(9)
    assert 0.89 < levels.sigma[0] <= 0.9
    assert 0.1 <= levels.sigma[-1] < 0.11
    assert cosine_network(tmp_path, "v").levels(9).ratio[0] > 1e4
    given = {"condition": "t", "schedule": {"kind": "geometric", "first": 0.01, "last": 100.0}, "scaling": "ve"}
    levels = Network(tmp_path / "net.onnx", given | {"parameterisation": "noise", "sigma_min": 0.1}).levels(4)
    np.testing.assert_allclose(levels.sigma, np.geomspace(30.0, 0.1, 4), rtol=1e-12)


LEVELS = uldnum.levels.given([1.0, 0.6], [0.0, 0.8])


@pytest.mark.parametrize(
    ("call", "fault"),
    [
        (lambda: uldnum.levels.given([1.0], [0.0]), "alpha: must be positive and finite, or 0 at the first of several"),
        (lambda: uldnum.levels.given([1.0, 0.5], [1.0, 0.0]), "alpha: must be positive and finite, or 0 at the first"),
        (lambda: uldnum.plan("heun(0.2)", LEVELS), "churn: must be 0 if the first level has alpha = 0"),
        (lambda: uldnum.plan("edm-euler(0.2)", LEVELS), "churn: must be 0 if the first level has alpha = 0"),
        (lambda: uldnum.plan("reverse-diffusion", LEVELS), "reverse-diffusion: needs alpha > 0 at the first level"),
        (lambda: uldnum.plan("ula", LEVELS, snr=0.1), "snr: needs levels with alpha > 0"),
        (lambda: uldnum.plan("ddim", LEVELS, score_noise=0.1), "score_noise: must be 0 at a level with alpha = 0"),
        (lambda: uldnum.anneal(MIXTURE, uldnum.plan("ddim", LEVELS), chains=2),
         "levels: must have alpha > 0, because .*; start at a finite sigma/alpha, such as 30"),
        (lambda: uldnum.exact.plan(uldnum.plan("ddim", LEVELS), data_mean=0.0, data_variance=1.0),
         "levels: must have alpha > 0, because"),
    ],
)  # fmt: skip
def test_what_is_undefined_at_pure_noise_is_refused(call, fault):
    with pytest.raises(ValueError, match=fault):
        call()


@pytest.mark.parametrize("what", ["score", "epsilon", "noise"])
def test_outputs_that_do_not_determine_the_image_are_refused(tmp_path, what):
    """The messages name levels at which the network can be used."""
    net = zero_network(tmp_path, what)
    remedy = re.escape("; use net.levels(n)")
    with pytest.raises(
        ValueError, match=r"sigma-ratio: must be a level with alpha > 0, because net predicts the .*, from .*" + remedy
    ):
        net.at(ratio=np.inf)
    with pytest.raises(ValueError, match="levels: must be a level with alpha > 0, because net predicts .*" + remedy):
        uldnum.anneal(net, uldnum.plan("ddim", LEVELS), chains=2)
    with pytest.raises(ValueError, match="must be a level whose nearest timestep has alpha > 0.*" + remedy):
        net.at(ratio=30.0)
    run = uldnum.anneal(net, uldnum.plan("ddim", net.levels(10)), chains=2, progress=False)
    assert np.abs(run.x).max() < 10
    with pytest.raises(ValueError, match="start at a finite sigma/alpha, such as 30"):
        Network(net.model.path, {"parameterisation": what, "scaling": "vp", "condition": "sigma"}).at(ratio=np.inf)
    assert Network(net.model.path, {"parameterisation": what, "scaling": "vp", "condition": "sigma"}).at(ratio=30.0)


def test_levels_that_the_card_lacks_are_refused(tmp_path):
    path = save_mixture(tmp_path / "net.onnx", MIXTURE, SHAPE, "denoiser", vp_linear)
    card = {"parameterisation": "denoiser", "condition": "sigma"}
    with pytest.raises(ValueError, match="because the scaling 've' has alpha = 1"):
        Network(path, card | {"scaling": "ve"}).at(ratio=np.inf)
    assert Network(path, card | {"scaling": "vp"}).at(1.0).alpha == 0
    sde = {"scaling": "vp", "condition": "t", "schedule": {"kind": "vp-sde", "beta_start": 0.1, "beta_end": 20.0}}
    with pytest.raises(ValueError, match=r"because the schedule of net ends at sigma/alpha = 152\.2"):
        Network(path, card | sde).at(1.0)
