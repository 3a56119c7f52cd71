"""Integrators of the catalogue: names, parameters, argument checks, and tables of published formulas."""

import numpy as np
import pytest
from helpers.catalogue import CATALOGUE

import uldnum
from uldnum.schemes.catalogue import Integrator
from uldnum.schemes.stage import Affine, Step, first_row, table
from uldnum.schemes.words import LETTERS, spelled

# Score evaluations per step, where there is more than one.
EVALUATIONS = {"BCSS-2": 2, "BCSS-3": 3, "ShOULD": 2, "QUICSORT": 2, "SRK": 3}


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_entry_builds_states_its_source_and_broadcasts_over_h(name):
    scheme = uldnum.integrator(name)
    assert scheme.name.lower() == name.lower()
    assert len(scheme.source) > 5
    assert scheme.nfe_per_step == EVALUATIONS.get(name, 1)
    one, many = scheme.stages(0.3), scheme.stages([0.1, 0.3])
    for single, group in zip((*one.stages, one), (*many.stages, many), strict=True):
        for map, maps in zip(maps_of(single), maps_of(group), strict=True):
            np.testing.assert_array_equal(map.dA, maps.dA[1])
            np.testing.assert_array_equal(map.b, maps.b[1])
            np.testing.assert_allclose(map.C, maps.C[1], rtol=1e-15)


@pytest.mark.parametrize("name", CATALOGUE)
def test_sampled_variances_are_the_exact_ones(name):
    """Var(x) over steps and chains, and Var(p) at the last step, are within 4 standard errors, 2% and 4%.

    With other seeds, one of the 60 comparisons would fail by chance in 4 of 1000 runs of this test.
    """
    options = {"steps": 100, "burn_in": 150, "chains": 20_000, "seed": 11, "progress": False}
    run, law = uldnum.sample("gaussian", name, h=0.4, **options), uldnum.exact.gaussian(name, h=0.4)
    assert run.covariance_error < 0.005 * law.position_covariance
    assert abs(run.covariance - law.position_covariance) < 4 * run.covariance_error
    if uldnum.integrator(name).momenta:
        found = uldnum.diagnostics.kinetic_temperature(run)
        assert abs(found.value - law.momentum_covariance) < 4 * found.error


def maps_of(part):
    return (part.open, part.close) if isinstance(part, Step) else (part.map,)


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("sgld", "ula"),
        ("LMC", "ula"),
        ("ald", "ula"),
        ("LFMiddle", "BAOA"),
        ("v r o r v", "BAOAB"),
        ("RVOVR", "ABOBA"),
        ("langevin-impulse", "BUB"),
        ("SPV", "AKA"),
        ("svv", "KAK"),
        ("gj-i", "GJF"),
        ("vec", "VEC-23"),
    ],
)
def test_other_names_of_the_literature_are_the_same_integrator(alias, name):
    one, other = uldnum.integrator(alias), uldnum.integrator(name)
    assert (one.name, one.order, one.source) == (other.name, other.order, other.source)
    for mine, theirs in zip(maps_of(one.stages(0.3).stages[0]), maps_of(other.stages(0.3).stages[0]), strict=True):
        np.testing.assert_array_equal(mine.dA, theirs.dA)
        np.testing.assert_array_equal(mine.C, theirs.C)


def test_each_name_and_alias_has_one_meaning():
    """No two entries share a name, and an alias is not a splitting word, whose integrator it would hide."""
    names = [name.lower() for entry in uldnum.integrators() for name in (entry.name, *entry.aliases)]
    assert len(set(names)) == len(names)
    for entry in uldnum.integrators():
        assert not any(set(spelled(alias)) <= set(LETTERS) for alias in entry.aliases)


def test_names_ignore_case_and_read_parameters():
    assert uldnum.integrator("ULA").name == "ula"
    assert uldnum.integrator("baoab").name == "BAOAB"
    assert uldnum.integrator("BAOAB-limit").name == "baoab-limit"
    assert uldnum.integrator("MILD( 0.25 )").name == "mild(0.25)"
    assert uldnum.integrator("noise-denoise", eta=2).name == "noise-denoise(2)"
    assert uldnum.integrator("abaoaba").nfe_per_step == 2
    scheme = uldnum.integrator("ula")
    assert uldnum.integrator(scheme) is scheme


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("baoab-limt", "nearest is 'baoab-limit'"),
        ("VVVR", "a name of openmmtools; here the scheme is 'OBABO'"),
        ("BAOABIntegrator", "a name of openmmtools; here the scheme is 'BAOAB'"),
        ("", "unknown name ''"),
        ("mild", "takes one parameter, 0 <= momentum < 1"),
        ("mild(1)", "needs 0 <= momentum < 1, got 1"),
        ("mild(x)", "'x' is not a number"),
        ("mild(0.1,0.2)", "takes one parameter"),
        ("noise-denoise(0)", "0 < eta"),
        ("noise-denoise(nan)", "0 < eta"),
        ("ula(2)", "takes no parameter"),
        ("BOB", "neither A nor U"),
        ("AKOKA", "mixes K with B or O"),
        ("UKU", "mixes U and K"),
        ("AOA", "neither B nor K"),
        ("Heun", "'Heun' is a predictor, which moves samples between noise levels; pass it to uldnum.plan"),
        ("ddim(0.5)", "'ddim(0.5)' is a predictor"),
        ("PIDLD(2,0.5,4.5)", "'PIDLD(2,0.5,4.5)' is a plan, because its coefficients depend on"),
        ("BAOABX", "The letters of splitting words are A (drift), B (kick), O (thermostat), U (drift and .*, not 'X'"),
    ],
)
def test_bad_names_are_refused(name, fault):
    with pytest.raises(ValueError, match=fault.replace("(", r"\(").replace(")", r"\)")):
        uldnum.integrator(name)


@pytest.mark.parametrize("name", ["mild", "ula", "ABAOABA", uldnum.integrator("ula")])
def test_wrong_keyword_is_refused(name):
    with pytest.raises(ValueError, match=r"^integrator"):
        uldnum.integrator(name, beta=0.5)


@pytest.mark.parametrize("value", [None, "a", [0.1, 0.2]])
def test_invalid_parameters_are_refused(value):
    with pytest.raises(ValueError, match=r"^momentum: must be a number"):
        uldnum.integrator("mild", momentum=value)


@pytest.mark.parametrize("name", [None, 3, ["BAOAB"]])
def test_invalid_names_are_refused(name):
    with pytest.raises(ValueError, match=r"^integrator: must be a name"):
        uldnum.integrator(name)
    with pytest.raises(ValueError, match=r"^word: must be a string"):
        uldnum.splitting(name)


@pytest.mark.parametrize(
    ("recipe", "sentence"),
    [
        (lambda h, friction: None, r"got None for 'mine'; does the function return its result\?$"),
        (lambda h, friction: uldnum.integrator("ula").stages(h).open, r"got Affine\("),
    ],
)
def test_a_recipe_that_does_not_return_a_step_is_refused(recipe, sentence):
    with pytest.raises(ValueError, match=f"^recipe: must return a uldnum.schemes.stage.Step, .*{sentence}"):
        Integrator("mine", recipe).stages(0.1)


def test_a_recipe_without_the_axes_of_h_is_refused():
    def recipe(h, friction):
        map = Affine(np.zeros((1, 1)), np.ones(1), np.ones((1, 1)))
        return Step.on_step(np.ones(1), map)

    with pytest.raises(ValueError, match=r"dA of stage 0 of 'mine' must have shape \(2, 1, 1\), .* got \(1, 1\)"):
        Integrator("mine", recipe).stages([0.1, 0.2])


@pytest.mark.parametrize("h", [0, -1, np.nan, np.inf, [0.1, -0.1], "a"])
def test_bad_step_sizes_are_refused(h):
    with pytest.raises(ValueError, match="h: must be"):
        uldnum.integrator("BAOAB").stages(h)


def test_bad_friction_is_refused():
    with pytest.raises(ValueError, match="friction: must be positive"):
        uldnum.integrator("BAOAB").stages(0.1, friction=0)


def test_delta_is_half_h_squared():
    scheme = uldnum.integrator("BAOAB")
    np.testing.assert_array_equal(scheme.stages(delta=0.08).close.b, scheme.stages(0.4).close.b)
    for arguments in ({}, {"h": 0.1, "delta": 0.1}):
        with pytest.raises(ValueError, match="exactly one"):
            scheme.stages(**arguments)


def test_baoab_limit_is_baoab_at_infinite_friction():
    """BAOAB at friction 1e3, where c = 0 in float64, has the position update of Jain & Poole 2022, eq. 10."""
    h = 0.6
    baoab, limit = uldnum.integrator("BAOAB").stages(h, friction=1e3), uldnum.integrator("baoab-limit").stages(h)
    stage, expected = baoab.stages[0].map, limit.stages[0].map
    # Row 1 of BAOAB before the last half kick is p = xi + (h/2) s, and row 1 of the limit is xi, so b differs in row 1.
    np.testing.assert_allclose(stage.dA[1], expected.dA[1], atol=1e-15)
    np.testing.assert_allclose(stage.C, expected.C, atol=1e-15)
    np.testing.assert_allclose(stage.dA[0], [0, h / 2], atol=1e-15)
    np.testing.assert_allclose(stage.b, [h**2 / 2, 0], atol=1e-15)


def test_a_new_integrator_is_a_few_lines():
    def recipe(h, friction):
        map = Affine(table(h, [[0]]), table(h, [h**2 / 2]), table(h, [[h]]))
        return Step.on_step(first_row(map.b), map)

    mine = Integrator("mine", recipe)
    theirs = uldnum.exact.gaussian("ula", 0.5)
    assert uldnum.exact.gaussian(mine, 0.5).position_covariance == theirs.position_covariance
