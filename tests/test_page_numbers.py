"""Numbers in the README and in the guide are those of the stored files, or of the commands beside them."""

import ast
import json
import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import uldnum
from analysis import quality

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


def test_speed_and_bits_on_a_gpu():
    data = json.loads((DATA / "gpu-nvidia-h200-2026-11-27.json").read_text())
    times = {}
    for row in data["throughput"]:
        if row["dtype"] == "float32":
            times[row["peer"]] = 1e6 * np.median(row["seconds a step"])
    jax = min(time for peer, time in times.items() if peer.startswith("JAX"))
    page = text("README.md")
    assert f"| {times['uldnum, BAOA']:.1f} microseconds; JAX {jax:.0f} |" in page
    cases = data["bits"]
    assert f"equal bits in {sum(not case['chains that differ'] for case in cases)} of {len(cases)} cases" in page
    assert {case["steps"] for case in cases} == {1000}


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
