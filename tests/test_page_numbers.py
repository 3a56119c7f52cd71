"""Numbers in the README and in the guide are those of the stored files, or of the commands beside them."""

import ast
import json
import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from helpers.simulation import ADAPTIVE_TOLERANCE

import uldnum
from analysis import costs, gpu_check, quality, throughput
from uldnum.kernels.state import BATCHES
from uldnum.networks.prompts import ENCODINGS
from uldnum.networks.score import CHUNK, VALUES
from uldnum.sampling.launch import COVARIANCE_UP_TO, default_every

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


def test_the_frontier_of_forty_gaussians():
    study = stored("frontier-gmm-40")
    assert f"no scheme mixes in {study.nfe_recorded} evaluations" in text("analysis/guide/studies.md")
    assert not study.cost_resolved.any()


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
        weights, variance = study.weights.sel(plan=name), abs(study.variance.sel(plan=name) - 1)
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
    largest = np.sqrt(-2 * np.log(2.0**-33))  # of a normal from a uniform number of 32 bits, shifted by half a bit
    assert "their magnitude is at most 6.77" in text("analysis/guide/conventions.md")
    assert 6.76 < largest <= 6.77


def test_agreement():
    data = stored("agreement")
    most = float(np.abs((data.sampled - data.exact) / data.error).max())
    limit = float(re.search(r"within ([\d.]+) standard errors of the exact", text("README.md"))[1])
    assert limit - 0.1 < most <= limit
    assert data.sizes["integrator"] == 13
    assert data.sizes["h"] == 3


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
