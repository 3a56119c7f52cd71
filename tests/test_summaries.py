"""Short descriptions of objects: what they print, and their tables in notebooks."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

import uldnum
from uldnum import exact, networks
from uldnum._util.summary import Summary

VP = {"kind": "vp-sde", "beta_start": 0.1, "beta_end": 20.0}


class Cells(HTMLParser):
    """The texts of a table, by tag, and the tags that are open."""

    def __init__(self, text):
        super().__init__()
        self.found, self.open = {"caption": [], "th": [], "td": []}, []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)
        if tag in self.found:
            self.found[tag].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.found[self.open[-1]][-1] += data


def test_names_are_escaped():
    """A table in HTML has the cells of the text, and no name can add a tag or a line."""
    hostile = "<script>alert(1)</script>&\n\x1b[31m"
    made = Summary(hostile, ["h", hostile], [["1", "2"], ["10", hostile]])
    plain = hostile.replace("\n", "\\n").replace("\x1b", "\\x1b")
    assert str(made).splitlines() == [plain, f"  h   {plain}", "  1   2", f"  10  {plain}"]
    cells = Cells(made.html)
    assert cells.open == []
    assert cells.found == {"caption": [plain], "th": ["h", plain], "td": ["1", "2", "10", plain]}


def rows_of(thing):
    """Return the cells of the rows of an object's text; cells are separated by two spaces or more."""
    return [re.split(r" {2,}", line.strip()) for line in repr(thing).splitlines()[1:]]


@pytest.mark.filterwarnings("ignore:OBABO")  # a warning of unstable steps
def test_a_gaussian_law_prints_variances_and_biases():
    """At h = 1, OBABO has Var(x) = 4/3; at h = 3 it is unstable."""
    law = exact.gaussian("OBABO", h=[1.0, 3.0])
    title = "Stationary distribution of OBABO on a Gaussian, 1 evaluation per step"
    header = ["h", "friction", "Var(x)", "bias of Var(x)", "Var(p)", "relaxation time (evaluations)"]
    assert repr(law).splitlines()[0] == title
    assert rows_of(law) == [
        header,
        ["1", "1", "1.333", "0.3333", "1", f"{law.relaxation_time[0]:.4g}"],
        ["3", "1", "unstable"],
    ]
    cells = Cells(law._repr_html_()).found
    assert cells["caption"] == [title]
    assert cells["th"] == header
    assert len(cells["td"]) == 12


@pytest.mark.parametrize("precision", [np.arange(1.0, 6.0), np.diag(np.arange(1.0, 6.0))])
def test_a_law_of_many_points_and_coordinates_is_short(precision):
    """Eight points, from the first to the last, and three coordinates; the diagonal if the precision is a matrix."""
    law = exact.gaussian("ula", h=np.full((5, 1), 0.1), friction=np.linspace(1, 2, 6), precision=precision)
    assert repr(law).splitlines()[0].endswith(", 8 of 30 points shown")
    header, *rows = rows_of(law)
    assert "Var(p)" not in header  # ULA has one row
    assert [rows[0][1], rows[-1][1]] == ["1", "2"]
    assert len(rows) == 8
    variances = 1 / np.arange(1.0, 4) / (1 - 0.005 * np.arange(1.0, 4) / 2)
    assert rows[0][2] == f"[{', '.join(f'{v:.4g}' for v in variances)}, ...]"


@pytest.mark.filterwarnings("ignore:BAOAB")
@pytest.mark.parametrize("h", [1e-30, 1e200])
def test_extreme_laws_are_printed(h):
    assert f"{h:g}" in repr(exact.gaussian("BAOAB", h=h, friction=1e-8, precise=h < 1))


def test_a_transfer_operator_prints_moments_and_distances():
    law = exact.transfer_operator("ULA", "bimodal-1d", h=0.4, tolerance=1e-3)
    mean = law.expectation(lambda x: x)
    assert repr(law).startswith("Stationary distribution of ula at h = 0.4 on 'bimodal-1d', on ")
    found = {name: values for name, *values in rows_of(law)[1:]}
    assert float(found["mean"][0]) == pytest.approx(mean, rel=1e-5)
    assert float(found["mean"][1]) == pytest.approx(0.6, abs=1e-6)
    assert float(found["variance"][0]) == pytest.approx(law.expectation(lambda x: (x - mean) ** 2), rel=1e-5)
    assert float(found["variance"][1]) == pytest.approx(2.89, abs=1e-5)
    assert float(found["Wasserstein-1 distance"][0]) == pytest.approx(law.wasserstein_1, rel=1e-3)
    assert found["relaxation time"] == [f"{law.relaxation_time:.4g} evaluations"]
    assert Cells(law._repr_html_()).found["th"] == ["", "scheme", "target"]


def test_a_plan_and_its_law_print_phases():
    plan = uldnum.plan("BAOAB", uldnum.levels.geometric(10.0, 0.1, 20), h=0.5, denoise=False)
    law = exact.plan(plan, data_mean=[0.0, 1.0], start_variance=100.0)
    _, *rows = rows_of(law)
    assert rows[-1] == [
        "20", f"[{law.mean[-1, 0, 0]:.4g}, {law.mean[-1, 1, 0]:.4g}]",
        f"[{', '.join([f'{law.covariance[-1, 0, 0, 0] ** 0.5:.4g}'] * 2)}]",
    ]  # fmt: skip
    header, *phases = rows_of(plan)
    assert [row[0] for row in phases] == [row[0] for row in rows] == ["1", "4", "6", "9", "12", "15", "17", "20"]
    assert repr(plan).splitlines()[0] == "Plan BAOAB: 20 phases, 20 steps, 8 of 20 phases shown"
    assert Cells(plan._repr_html_()).found["th"] == header
    (caption,) = Cells(law._repr_html_()).found["caption"]
    assert caption == "Distribution of x after 20 phases of a plan, 8 of 20 phases shown"
    mean, covariance = law  # it is still a tuple
    assert mean is law.mean
    assert covariance is law.covariance


def test_integrators_print_their_orders_and_cost():
    assert rows_of(uldnum.integrator("UBU"))[-1] == ["one step", "1 score evaluation, 2 rows, 2 normals"]
    assert rows_of(uldnum.splitting("ABAOABA"))[-3:] == [
        ["order in h", "2 for expectations after a fixed time, unknown for the stationary distribution of x"],
        ["source", uldnum.splitting("ABAOABA").source], ["one step", "2 score evaluations, 2 rows, 1 normal"],
    ]  # fmt: skip

    def recipe(h, friction):
        raise KeyError("h")

    assert rows_of(uldnum.Integrator("mine", recipe))[-1] == ["one step", "the recipe failed with KeyError"]
    for entry in uldnum.integrators():
        assert repr(entry).startswith(f"Integrator {entry.signature}\n  update      ")
    update = [text for label, text in uldnum.integrator("noise-denoise(1.5)").summary.rows if label in ("update", "")]
    assert " ".join(update).startswith("the step x' = x + eta sigma^2 s + (eta - 1) sigma p + sigma xi, p' = xi, with")
    assert update[-1].endswith("Here eta = 1.5.")
    for name, steps in (("mala", 1), ("hmc(3)", 3)):
        assert f"Here steps = {steps}." in " ".join(repr(uldnum.integrator(name)).split())


def test_formulas_of_a_step_in_numbers():
    """The printed coefficients are those of the update of BAOAB and, with three rows and two scores, of QUICSORT."""
    c, h = np.exp(-0.5), 0.5
    rows = uldnum.exact.properties("BAOAB", h).summary.rows
    assert ("evaluation 1", "s at x") in rows
    assert ("", f"p' = {c:.4g} p + {c * h:.4g} s + {np.sqrt(1 - c**2):.4g} xi1") in rows
    assert rows[-4:] == [
        ("stable on N(0, 1)", "up to h = 2"), ("Var(x) on N(0, 1)", "1"), ("Var(p) on N(0, 1)", "0.9375"),
        ("relaxation time", "4 score evaluations"),
    ]  # fmt: skip
    found = uldnum.exact.properties("QUICSORT", h)
    assert ("evaluation 2", "s at x + q") in found.summary.rows
    assert ("memory", "row 0 is x; row 1 is p; row 2 is q") in found.summary.rows
    assert ("memory", "row 0 is x; row 1 is p") in uldnum.exact.properties("mild(0.4)", h).summary.rows
    assert found.position_variance == pytest.approx(0.999501755, abs=1e-9)
    assert found.momentum_variance == pytest.approx(0.997423244, abs=1e-9)
    assert np.isnan(uldnum.exact.properties("ula", h).momentum_variance)
    assert uldnum.exact.properties("BAOAB", 2.5).summary.rows[-1] == ("on N(0, 1)", "unstable")
    rows = uldnum.exact.properties("GJ-III", 0.5, friction=5.0).summary.rows  # c2 is below -1
    assert ("formulas", "the coefficients are not finite at this step size and friction") in rows
    assert "nan" not in f"{rows}"
    for wrong in ({"h": -1.0}, {"h": [0.1, 0.2]}, {"friction": 0.0}):
        with pytest.raises(ValueError, match=f"^{next(iter(wrong))}: "):
            uldnum.exact.properties("BAOAB", **wrong)


def test_levels_print_their_range():
    assert repr(uldnum.levels.given([2.0, 1.0])) == "2 noise levels, sigma from 2 to 1, alpha = 1"
    assert repr(uldnum.levels.given([0.6], [0.8])) == "1 noise level, sigma = 0.6, alpha = 0.8"


def test_a_card_prints_what_it_states():
    card = networks.Card("v", "vp", "t", schedule=VP, shape=(3, 8, 8), name="mine", licence="MIT")
    rows = dict(rows_of(card))
    assert repr(card).startswith("Card of mine\n")
    assert rows["noise level"].startswith("t of the schedule vp-sde, sigma from ")
    assert rows["images"] == "3 x 8 x 8, values from -1 to 1"
    assert rows["licence"] == "MIT"
    assert "citation" not in rows
    with pytest.raises(ValueError, match="schedule"):
        networks.Card("v", "vp", "sigma", schedule={"kind": "none of these"})
