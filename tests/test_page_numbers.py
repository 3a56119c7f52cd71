"""Numbers in the README, the guide and the page of figures are those of stored files or of the commands beside them."""

import ast
import json
import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from helpers.simulation import ADAPTIVE_TOLERANCE

import uldnum
from analysis import acceptance, costs, denoising, frontier, gpu_check, quality, temperature, throughput
from uldnum.kernels.state import BATCHES
from uldnum.networks.prompts import ENCODINGS
from uldnum.networks.score import CHUNK, VALUES
from uldnum.sampling.launch import COVARIANCE_UP_TO, default_every
from uldnum.schemes.form import START

ROOT = Path(__file__).parents[1]
DATA = ROOT / "analysis" / "data"


def text(name):
    """The text of a page with single spaces."""
    return " ".join((ROOT / name).read_text().split())


def stored(name):
    return xr.load_dataset(DATA / f"{name}.nc")


def rounded(value):
    return f"{value:.1f}" if value < 10 else f"{value:.0f}"


def cheapest(study, names, bias):
    """The advice on each integrator alone."""
    return [uldnum.studies.advise(study.sel(integrator=[name]), bias, metric="wasserstein_1") for name in names]


def test_temperatures():
    row = stored("temperature").sel(h=0.02)
    assert "the variance on N(0, 1) is 0.500 (" in text("README.md")
    assert [f"{row.variance.sel(integrator=name):.3f}" for name in ("mild(0.5)", "noise-denoise(1)")] == ["0.500"] * 2


def test_the_gain_of_mild():
    first = quality.gain_table(stored("quality"), "network", "frechet").splitlines()[2].split(" | ")
    assert first[0] == "| T = 3, h = 0.5, beta = 0.38"
    ald, cold, mild = first[1], first[4], first[5].removesuffix(" |")
    said = (
        f"have a Frechet distance of {mild} with MILD and of {ald} with annealed Langevin dynamics. With the effective "
        f"step and the temperature of MILD, annealed Langevin dynamics has {cold}"
    )
    assert said in text("README.md")


def test_costs_of_integrators():
    baoab, obabo, ula = cheapest(stored("frontier-bimodal-1d"), ("BAOAB", "OBABO", "ula"), 0.01)
    said = (
        f"costs {rounded(baoab.cost)} score evaluations with BAOAB, {rounded(obabo.cost)} with OBABO and {ula.cost:.0f}"
    )
    assert said in text("README.md")


def test_orders_in_the_first_figure():
    """The slopes of exact biases between h = 0.2 and 0.3; the README rounds them to whole numbers."""
    bias = stored("bias-exact").exact.sel(metric="second_moment").sel(h=[0.2, 0.3], method="nearest")
    slopes = np.log(bias[:, 1] / bias[:, 0]) / np.log(bias.h[1] / bias.h[0])
    assert "falls with the fourth power of the step size, and that of ULA, BAOAB, OBABO and UBU with the second" in (
        text("README.md")
    )
    assert slopes.sel(integrator="baoab-limit").round() == 4
    assert (slopes.sel(integrator=["ula", "BAOAB", "OBABO", "UBU"]).round() == 2).all()


@pytest.mark.parametrize(
    ("target", "label", "biases"),
    [("bimodal-1d", "two modes", (0.003, 0.01, 0.03)), ("ring-8", "`ring-8`", (0.01, 0.03))],
)
def test_the_table_of_costs(target, label, biases):
    page, study = text("analysis/guide/choosing.md"), stored(f"frontier-{target}")
    for bias in biases:
        row = cheapest(study, ("BAOAB", "UBU", "baoab-limit", "OBABO", "ula"), bias)
        cells = " | ".join(f"{rounded(one.cost)} ({one.h:.2f})" for one in row)
        assert f"| {label} | {bias:g} | {cells} |" in page


def test_the_best_frictions():
    page = text("analysis/guide/choosing.md")
    assert "The best friction is always the smallest of the three, 0.5 on two modes and 1 on `ring-8`" in page
    for target, biases in (("bimodal-1d", (0.003, 0.01, 0.03)), ("ring-8", (0.01, 0.03))):
        study = stored(f"frontier-{target}")
        found = [row for bias in biases for row in cheapest(study, ("BAOAB", "UBU", "OBABO"), bias)]
        assert {row.friction for row in found} == {float(study.friction.min())}
    assert "On `ring-8`, the errors are too large to show a bias below 0.003" in page
    with pytest.raises(ValueError, match=r"no point was shown to have a bias below 0\.003; the least is 0\.0030"):
        uldnum.studies.advise(stored("frontier-ring-8"), 0.003, metric="wasserstein_1")


def test_the_frontier_of_an_ill_conditioned_gaussian():
    study, page = stored("frontier-condition-100"), text("figures/README.md")
    best = cheapest(study, ("BAOAB", "UBU", "baoab-limit", "OBABO", "ula"), 0.01)
    first, *others = (one.cost for one in best)
    assert f"| `condition-100` (exact) | {first:.1f} | {' | '.join(f'{cost:.0f}' for cost in others)} |" in page
    costs = f"costs {best[0].cost:.1f} evaluations with BAOAB and {best[2].cost:.0f} with BAOAB-limit"
    assert costs in text("analysis/guide/studies.md")
    at, bias = study.exact_cost.isel(h=-1), study.exact.sel(metric="wasserstein_1")
    kinetic = at.sel(integrator=["BAOAB", "UBU", "OBABO"], friction=1.0)
    overdamped = at.sel(integrator=["ula", "baoab-limit"])
    assert kinetic.max() < 1.01 * kinetic.min()
    assert f"costs {kinetic.min():.1f} to {kinetic.max():.1f} evaluations at this step size" in page
    assert f"BAOAB-limit {overdamped.min():.0f} to {overdamped.max():.0f}. ULA and OBABO have equal biases" in page
    np.testing.assert_allclose(bias.sel(integrator="ula"), bias.sel(integrator="OBABO"))
    assert not bias.sel(integrator=["BAOAB", "baoab-limit"]).any()
    assert f"or below {bias.sel(integrator='mild(0.5)').min():.3f} on `condition-100`" in page
    ends = [float(bias.sel(integrator=name, friction=1.0).isel(h=-1)) for name in ("UBU", "OBABO")]
    assert "On `condition-100` these are UBU from {:.2g} and OBABO from {:.1g}, by".format(*ends) in page


def test_the_table_of_frictions():
    page = text("analysis/guide/choosing.md")
    for friction in (0.1, 0.5, 1.0, 2.0, 10.0):
        time = uldnum.exact.gaussian("BAOAB", h=0.5, friction=friction).autocorrelation_time("x^2")
        assert f"| {friction:g} | {time:.3g} |" in page


def test_noisy_scores():
    distance = stored("score_error").distance.sel(target="bimodal-1d", friction=1.0)
    ratio = distance.sel(integrator="ula") / distance.sel(integrator="BAOAB")
    said = (
        f"is {ratio.sel(tau=0):.0f} times as large for ULA as for BAOAB. With noise of standard deviation 2 it is "
        f"{ratio.sel(tau=2):.2f} times as large"
    )
    assert said in text("README.md")


def test_predictors():
    distance = stored("annealing").distance
    solver, ald = distance.sel(plan="DPM-Solver++(2M)", cost=16), distance.sel(plan="ALD", cost=512)
    page = text("README.md")
    assert f"to the target is {solver:.2f} after 15 evaluations, like that of exact samples" in page
    assert f"That of annealed ULA is {ald:.1f} after 512 (" in page
    assert int(stored("annealing").nfe.sel(plan="DPM-Solver++(2M)", cost=16)) == 15
    exact = stored("annealing").exact_distance
    assert exact.min() < solver < exact.max()


def cpu_times(dtype):
    """Nanoseconds of each repeat, for each program and target, on two threads."""
    table = {}
    for row in json.loads((DATA / "throughput.json").read_text())["results"]:
        if (row["threads"], row["dtype"]) == (2, dtype):
            table.setdefault(row["peer"], {})[row["column"]] = np.array(row["nanoseconds"])
    return table


def ratios(table, name, ours="uldnum"):
    """The smallest and the largest median ratio over the targets, for the fastest program whose name begins so."""
    peers, base = [peer for peer in table if peer.startswith(name)], table[ours]
    least = [
        min(np.median(table[peer][column] / base[column]) for peer in peers if column in table[peer]) for column in base
    ]
    return f"{min(least):.0f} to {max(least):.0f}"


def test_speed_on_a_cpu():
    table, readme, page = cpu_times("float64"), text("README.md"), text("analysis/guide/speed.md")
    times = sorted(np.median(repeats) for repeats in table["uldnum"].values())
    assert f"| {times[0]:.2f} to {times[-1]:.0f} ns |" in readme
    jax, diffrax, numpy = (ratios(table, name) for name in ("JAX", "diffrax", "NumPy"))
    assert f"| {jax}, {diffrax}, {numpy} times as long |" in readme
    for label, found in (
        ("JAX, the best of 16 ways to write the loop, float64", jax),
        ("JAX, the same in float32", ratios(cpu_times("float32"), "JAX")),
        ("diffrax, ALIGN", diffrax),
        ("NumPy", numpy),
        ("a Numba loop over chains with `prange`", ratios(table, "Numba")),
        ("blackjax, sgld (against ULA)", ratios(table, "blackjax", "uldnum, ULA")),
    ):
        assert f"| {label} | {found} |" in page


def test_times_and_shares_of_the_limit_on_a_cpu():
    page, shares = text("analysis/guide/speed.md"), {}
    times = [np.median(repeats) for repeats in cpu_times("float64")["uldnum"].values()]
    assert "takes {:.2f}, {:.1f}, {:.1f} and {:.0f} ns per chain".format(*times) in page
    groups = throughput.grouped(json.loads(throughput.DATA.read_text())["results"])
    for (_, _, threads), group in groups.items():
        shares.setdefault(threads, []).append(group["limit"][0] / np.median(group["uldnum"]))
    one, two = (f"{100 * min(shares[n]):.0f} to {100 * max(shares[n]):.0f}%" for n in (1, 2))
    assert f"reaches {two} of this bound on two threads, and {one} on one" in page
    drawn = ("JAX", "diffrax ALIGN", "blackjax sgld (ULA)", "NumPy", "Numba, plain prange")
    two_threads = [throughput.ratios(group) for (_, _, threads), group in groups.items() if threads == 2]
    medians = [np.median(found[name]) for found in two_threads for name in drawn]
    assert f"for the same chains, {min(medians):.0f} to {max(medians):.0f}]" in page


def gpu_times(data, dtype):
    """Microseconds of a step on a GPU by program, for JAX those of the fastest one."""
    rows = [row for row in data["throughput"] if row["dtype"] == dtype]
    times = {row["peer"]: 1e6 * np.median(row["seconds a step"]) for row in rows}
    return times | {"JAX": min(time for peer, time in times.items() if peer.startswith("JAX"))}


def test_speed_and_bits_on_a_gpu():
    data = json.loads((DATA / "gpu-nvidia-h200-2026-11-27.json").read_text())
    single, double = gpu_times(data, "float32"), gpu_times(data, "float64")
    page, guide = text("README.md"), text("analysis/guide/speed.md")
    assert f"| {single['uldnum, BAOA']:.1f} microseconds; JAX {single['JAX']:.0f} |" in page
    assert f"| BAOA, microseconds per step | {single['uldnum, BAOA']:.1f} | {double['uldnum, BAOA']:.0f} |" in guide
    assert f"| JAX, microseconds per step | {single['JAX']:.0f} | {double['JAX']:.0f} |" in guide
    assert f"ULA takes {single['uldnum, ULA']:.1f} microseconds in float32" in guide
    assert "`cuda-fast` is 1.2 times as fast as `cuda` in float32" in guide
    assert {f"{single[f'uldnum, {name}'] / single[f'uldnum fast, {name}']:.1f}" for name in ("ULA", "BAOA")} == {"1.2"}
    shares = [row["copy in a graph"] / row["accurate in a graph"] for row in data["images"]]
    assert f"reaches {100 * min(shares):.0f} to {100 * max(shares):.0f}% of the memory bandwidth of a copy" in guide
    bound = 1e6 * 190 / 32 / (4 * 132 * 1.76e9)  # seconds for a million chains on four schedulers of each processor
    assert f"{1e6 * bound:.1f}" == f"{1e6 * gpu_check.FLOOR:.1f}" == "6.4"
    assert "would take 6.4 microseconds on 132 multiprocessors at 1.76 GHz" in guide
    cases, plans = data["bits"], data["plans"]
    assert f"equal bits in {sum(not case['chains that differ'] for case in cases)} of {len(cases)} cases" in page
    assert (
        f"in all {len(cases)} cases of five integrators, six mixtures and two floating-point types, after 1000 steps"
        in (text("analysis/guide/gpu.md"))
    )
    assert "ran five integrators on six mixtures over 1000 steps, and ten plans of 20 noise levels" in guide
    assert [len({case[key] for case in cases}) for key in ("scheme", "target", "dtype")] == [5, 6, 2]
    assert {case["steps"] for case in cases} == {1000}
    assert not any(plan["chains that differ"] for plan in plans)
    assert (len({plan["plan"] for plan in plans}), {plan["levels"] for plan in plans}) == (10, {20})


def test_the_tables_of_costs():
    for name, table in costs.tables().items():
        page = costs.TABLES[name][0]
        assert table in (costs.GUIDE / page).read_text(), f"python -m analysis draw costs writes the table to {page}"
    found = json.loads(costs.DATA.read_text())
    assert (found["chains"], found["repeats"]) == (2000, 11)
    for page in ("exact.md", "speed.md"):
        assert "2000 chains" in text(f"analysis/guide/{page}")
        assert "the median of eleven interleaved repeats and, in parentheses, the quartiles" in (
            text(f"analysis/guide/{page}")
        )


def test_the_time_outside_the_kernel():
    rows = re.findall(r"^\| [^|]+ \| \d \| .*$", (ROOT / "analysis/overhead.md").read_text(), re.MULTILINE)
    shares = [float(re.match(r" ([\d.]+)%", cell)[1]) for row in rows for cell in row.split("|")[4:6]]
    assert len(shares) == 18
    assert f"In runs with 20 000 chains or more, [{min(shares)} to {max(shares)}% of the time]" in (
        text("analysis/guide/plans.md")
    )


def test_the_classifier_of_digits():
    accuracy = json.loads((DATA / "digits_training.json").read_text())["accuracy"]["held_out"]
    assert f"It recognises {accuracy:.2%} of the held-out digits" in text("analysis/guide/images.md")


def test_the_plans_of_forty_gaussians():
    page, study = text("analysis/guide/plans.md"), stored("annealing")
    assert "With a momentum of 0.22 or more, both errors grow again as the number of levels increases" in page
    for name in ("MILD(0.22)", "MILD(0.38)", "MILD(0.6)"):
        weights = study.weights.sel(plan=name)
        variance = abs(study.variance.sel(plan=name) / study.exact_variance.mean() - 1)
        assert weights.sel(cost=512) > weights.min()
        assert variance.sel(cost=512) > variance.min()


def test_the_variances_of_two_words():
    page, law = text("analysis/guide/concepts.md"), uldnum.exact.gaussian
    x = [f"{law(name, h=1.0).position_covariance:.4g}" for name in ("BAOAB", "OBABO")]
    p = [f"{law(name, h=1.0).momentum_covariance:.4g}" for name in ("BAOAB", "OBABO")]
    assert (
        f"the variance of x is {x[0]} for BAOAB and {x[1]} for OBABO, while that of p is {p[0]} for BAOAB and {p[1]}"
        in (page)
    )


def test_equal_biases_at_different_costs():
    page, study = text("analysis/guide/choosing.md"), stored("frontier-bimodal-1d").sel(metric="wasserstein_1")
    assert "modes at h = 0.35, ULA needs 109 evaluations and OBABO 14, and their biases are nearly equal" in page
    ula, obabo = (study.sel(integrator=name, friction=0.5).sel(h=0.35, method="nearest") for name in ("ula", "OBABO"))
    assert (f"{ula.exact_cost:.0f}", f"{obabo.exact_cost:.0f}") == ("109", "14")
    assert float(ula.exact) == pytest.approx(float(obabo.exact), rel=0.01)


def test_registers_of_gpu_kernels():
    page = (ROOT / "analysis/registers.md").read_text()
    assert (
        "the kernels of isotropic mixtures in up to eight dimensions and the kernels of images spill [no registers]"
        in (text("analysis/guide/speed.md"))
    )
    spilled = re.findall(r"^\| (?:chains, d = \d|levels, d = 2|a map of images) \|.* (\d+) \|$", page, re.MULTILINE)
    assert len(spilled) > 80
    assert set(spilled) == {"0"}


def test_simulated_gpus():
    limits = "to {float64:.0e} in float64 and {float32:.0e} in float32".format(**ADAPTIVE_TOLERANCE)
    assert limits.replace("e-0", "e-") in text("analysis/guide/gpu.md")


def test_defaults_in_the_guide():
    """Defaults that pages state equal those of the code."""
    speed, gpu, networks = (text(f"analysis/guide/{name}.md") for name in ("speed", "gpu", "networks"))
    assert f"the covariance is recorded in at most {COVARIANCE_UP_TO} dimensions" in speed
    for rows, record, dimensions in (
        ("| 1 to 4 | covariance | step in float64, second step in float32 |", "covariance", range(1, 5)),
        ("| 5 to 32 | covariance | d/2 steps, rounded down |", "covariance", range(5, 33)),
        ("| more | variance | second step |", "variance", (33, 1000)),
    ):
        assert rows in speed
        for d in dimensions:
            every = [default_every(record, d, np.dtype(kind)) for kind in ("float64", "float32")]
            assert every == ([1, 2] if d <= 4 else [d // 2] * 2 if record == "covariance" else [2, 2])
    assert f"A run with histograms (`bins=`) has {BATCHES} batches of chains" in gpu
    assert f"by default {CHUNK} images, or as many vectors as have 2^{np.log2(VALUES):.0f} values" in networks
    weights = [f"{encoding.guidance:g}" for encoding in ENCODINGS.values()]
    assert "{} for versions 1 and 2, {} for XL and {} for version 3".format(*weights) in networks
    cosine = uldnum.levels.cosine(1000)
    assert "A cosine schedule ends at sigma/alpha = 20 000" in networks
    assert cosine.sigma[0] / cosine.alpha[0] == pytest.approx(20_000, rel=0.02)
    assert f"start at sigma/alpha = {START:g} at most" in networks
    assert "A run of n steps of BAOAB costs n + 1 evaluations" in text("analysis/guide/conventions.md")
    assert uldnum.sample("gaussian", "BAOAB", h=0.5, steps=7, chains=2, progress=False).nfe == 8
    largest = np.sqrt(-2 * np.log(2.0**-33))  # of a normal from a uniform number of 32 bits, shifted by half a bit
    assert "their magnitude is at most 6.77" in text("analysis/guide/conventions.md")
    assert 6.76 < largest <= 6.77


def test_agreement():
    data = stored("agreement")
    most = at_most((data.sampled - data.exact) / data.error)
    assert f"within {most} standard errors of the exact values" in text("README.md")
    assert "13 integrators, 1e9 chain-steps at each of 3 step sizes" in text("README.md")
    assert (data.sizes["integrator"], data.sizes["h"]) == (13, 3)
    assert int(data.chains) * int(data.steps) == 1e9


def test_the_bond_between_carbon_and_hydrogen():
    kT, k, m = 0.0083145 * 300, 2.8e5, 12.011 * 1.008 / 13.019
    page = text("analysis/guide/conventions.md")
    for word in ("V R O R V", "O V R V O"):
        bond = uldnum.exact.gaussian(word, h=0.002, friction=1.0, precision=k / kT, mass=m / kT)
        variance = bond.position_covariance * k / kT
        assert f"| `{word}` | {variance:.4g} | {bond.kinetic_temperature:.3g} |" in page


def test_momenta_and_divergences():
    page = text("analysis/guide/exact.md")
    for name in ("BAOAB", "OBABO", "UBU"):
        law = uldnum.exact.gaussian(name, h=1.0)
        cells = f"{law.kinetic_temperature:.3g} | {abs(law.position_kl.round(9)):.3g} | {law.phase_space_kl:.3g}"
        assert f"| {name} | {cells} |" in page


def test_the_table_of_masses():
    page, precision = text("analysis/guide/exact.md"), uldnum.target("ill-conditioned").precision
    for mass, h, friction in ((1.0, 0.1, 0.2), ("inverse-covariance", 1.0, 2.0)):
        cells = []
        for name in ("BAOAB", "baoab-limit", "ula"):
            law = uldnum.exact.gaussian(name, h, precision=precision, friction=friction, mass=mass)
            cells.append(f"{max(law.autocorrelation_time(x).max() for x in ('x', 'x^2')):.5g}")
        label = f'`"{mass}"`' if isinstance(mass, str) else "1"
        shown = [f"{float(cell):.3g}" if float(cell) < 10 else f"{float(cell):.0f}" for cell in cells]
        assert f"| {label} | {' | '.join(shown)} |" in page


def test_acceptance_of_a_leapfrog_step():
    shares = [f"{1 - 2 / np.pi * np.arctan(h**3 / 8):.0%}" for h in (0.5, 1, 1.5)]
    assert f"whatever the friction: {shares[0]}, {shares[1]} and {shares[2]} at h = 0.5, 1 and 1.5" in text(
        "analysis/guide/exact.md"
    )


def test_numbers_of_the_figure_of_annealing():
    page, study = text("figures/README.md"), stored("annealing")
    distance = {name: float(study.distance.sel(plan=name, cost=16)) for name in study.plan.values}
    exact = study.exact_distance
    assert (
        f"the distance of DPM-Solver++(2M) is {distance['DPM-Solver++(2M)']:.2f}, and that of DDIM and Heun is 1.7"
        in page
    )
    assert f"{distance['DDIM']:.1f}" == f"{distance['Heun']:.1f}" == "1.7"
    assert (
        f"is {exact.mean():.2f} on average over sixteen sets, with a standard deviation of {exact.std(ddof=1):.2f}"
        in page
    )
    last = study.sel(cost=512)
    annealed, cold = last.sel(plan="ALD"), last.sel(plan="MILD(0.6)")
    assert f"of annealed ULA is {distance['ALD']:.1f} at 16 evaluations and {annealed.distance:.1f} at 512" in page
    assert f"(standard error {annealed.error:.1f})" in page
    share = float(cold.variance / study.exact_variance.mean())
    assert f"is {share:.2f} of the exact one, and {float(cold.weights):.0%} of the weight is in the wrong modes" in page


def test_numbers_of_the_figure_of_bias():
    page, study = text("figures/README.md"), stored("bias")
    exact = stored("bias-exact").exact.sel(metric="second_moment")
    curves = {
        name: interp(exact.h, exact.sel(integrator=name)) for name in ("baoab-limit", "BAOAB", "OBABO", "UBU", "ula")
    }
    slopes = [float(np.log(bias(0.3) / bias(0.2)) / np.log(1.5)) for bias in curves.values()]
    assert (
        f"grows as the power {slopes[0]:.1f} of h for BAOAB-limit, and as the power {min(slopes[1:]):.1f} to " in page
    )
    assert f"{max(slopes[1:]):.1f} for BAOAB, OBABO, UBU and ULA" in page
    limit, baoab, *others = (float(bias(1.0)) for bias in curves.values())
    assert (
        f"1 it is {limit:.4f} for BAOAB-limit, {baoab:.4f} for BAOAB, and {min(others):.2f} to {max(others):.2f}"
        in page
    )
    signed = stored("bias-exact").exact_signed.sel(moment="second_moment").isel(axis=0)
    assert "at h = 1.37 for BAOAB, at 1.41 for BAOAB-limit and at 1.08 for MILD(0.5)" in page
    for name, h in (("BAOAB", 1.37), ("baoab-limit", 1.41), ("mild(0.5)", 1.08)):
        before, after = signed.sel(integrator=name).interp(h=[h - 0.005, h + 0.005]).values
        assert before * after < 0
    runs = study.sizes["integrator"] * study.sizes["h"]
    most = at_most((study.signed_bias - study.exact_signed) / study.signed_error)
    assert f"Both moments of all {runs} runs lie within {most} standard errors" in page


def interp(h, values):
    """A function that interpolates a curve of the step size, in logarithms."""
    return lambda at: np.exp(np.interp(np.log(at), np.log(h), np.log(values)))


def at_most(deviations):
    """The largest deviation in standard errors, rounded up to one decimal."""
    return f"{np.ceil(10 * float(np.max(np.abs(deviations)))) / 10:.1f}"


def test_numbers_of_the_figure_of_densities():
    found = stored("densities").total_variation
    names = ("baoab-limit", "BAOAB", "ABOBA", "UBU")
    values = [f"{found.sel(integrator=name):.3f}" for name in names]
    page = text("figures/README.md")
    assert "is {} for BAOAB-limit, {} for BAOAB, {} for ABOBA, {} for UBU, and 0.14 for ULA".format(*values) in page
    assert {f"{found.sel(integrator=name):.2f}" for name in ("ula", "OBABO", "mild(0.5)")} == {"0.14"}


def test_numbers_of_the_figure_of_mixing():
    page, study = text("figures/README.md"), stored("mixing")
    costs = study.exact_cost.sel(h=0.1)
    kinetic = costs.sel(integrator=["BAOAB", "OBABO", "UBU"]).round().transpose("friction", "integrator")
    assert [set(row) for row in kinetic.values] == [{51}, {80}, {144, 145}]
    assert "need 51 score evaluations at friction 0.5, 80 at friction 1 and 144 to 145 at friction 2" in page
    assert "and ULA and BAOAB-limit need 1380" in page
    assert {f"{cost:.3g}" for cost in costs.sel(integrator=["ula", "baoab-limit"]).values.ravel()} == {"1.38e+03"}
    large = study.exact_cost.sel(friction=1.0, h=1.3, method="nearest")
    told = [f"{large.sel(integrator=name):.1f}" for name in ("BAOAB", "OBABO", "UBU", "ula", "baoab-limit")]
    assert "BAOAB needs {}, OBABO {}, UBU {}, ULA {} and BAOAB-limit {}".format(*told) in page
    deviations = ((study.time - study.exact_time) / study.time_error).where(study.resolved)
    assert f"All {int(deviations.count())} resolved times lie within {at_most(deviations)} standard errors" in page


def test_numbers_of_the_figure_of_temperature():
    page, study = text("figures/README.md"), stored("temperature").sel(h=0.02)
    variances = [f"{study.variance.sel(integrator=f'mild({beta})'):.4f}" for beta in (0.22, 0.38, 0.5)]
    assert "the variance on N(0, 1) is {}, {} and {} for beta = 0.22, 0.38 and 0.5".format(*variances) in page
    weights = [f"{study.weight.sel(integrator=name):.3f}" for name in ("mild(0.5)", "ula")]
    assert "has a weight of {} at beta = 0.5 instead of {}".format(*weights) in page


def test_numbers_of_the_figure_of_trajectories():
    page, study = text("figures/README.md"), stored("trajectories")
    modes = {
        (str(name), float(friction)): f"{float(seen):.1f}"
        for name, friction, seen in zip(study.name.values, study.friction.fillna(0), study.mean_modes_seen, strict=True)
    }
    assert f"visits {modes['baoab-limit', 0]} modes with BAOAB-limit and {modes['ula', 0]} with ULA" in page
    assert f"it visits {modes['BAOAB', 1]} modes with BAOAB and {modes['OBABO', 1]} with OBABO" in page
    assert f"visits {modes['BAOAB', 0.1]} modes at friction 0.1, and {modes['BAOAB', 10]} at friction 10" in page
    assert f"MILD(0.5) {modes['mild(0.5)', 0]} and noise-denoise(1) {modes['noise-denoise(1)', 0]}" in page


def test_numbers_of_the_figure_of_the_frontier():
    page, study = text("figures/README.md"), stored("frontier-bimodal-1d")
    moments, cost = map(at_most, frontier.deviations(study))
    assert f"within {moments} standard errors of the exact values, and the resolved costs within {cost}." in page
    moments, cost = map(at_most, frontier.deviations(stored("frontier-condition-100")))
    assert f"moments of all coordinates lie within {moments}, and the costs within {cost}." in page


@pytest.mark.parametrize("module", [acceptance, temperature])
def test_written_pages(module, monkeypatch, tmp_path):
    """The pages of other analyses are tested with their modules."""
    written = tmp_path / "page.md"
    page = module.PAGE.read_text()
    monkeypatch.setattr(module, "PAGE", written)
    module.write_page()
    assert written.read_text() == page


def test_the_page_on_denoising():
    assert denoising.page(stored("denoising")) == denoising.PAGE.read_text()


def test_the_troubleshooting_list_quotes_messages():
    """Every piece of a quoted message occurs in a string of the package."""
    pieces = []
    for path in (ROOT / "uldnum").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [str(part.value) if isinstance(part, ast.Constant) else "\0" for part in node.values]
                pieces.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                pieces.append(node.value)
    everything = "\n".join(pieces)
    section = (ROOT / "analysis/guide/networks.md").read_text().split("## Troubleshooting")[1]
    quoted = re.findall(r"^\| `(.+?)` \| ", section, re.MULTILINE)
    assert len(quoted) > 10
    missing = [part for message in quoted for part in message.split("...") if part.strip() not in everything]
    assert not missing
