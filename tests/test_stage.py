"""Composition of affine maps and compression of their noise, against plain matrix algebra."""

import numpy as np
import pytest
from helpers.catalogue import CATALOGUE

import uldnum
from uldnum.kernels.reference import advance, enter
from uldnum.schemes.form import Form
from uldnum.schemes.stage import Affine, Step, table, triangular


def random_map(rng, leading=(3,), k=2, m=2):
    return Affine(rng.normal(size=(*leading, k, k)), rng.normal(size=(*leading, k)), rng.normal(size=(*leading, k, m)))


def covariance(noise):
    return noise @ noise.swapaxes(-1, -2)


def test_composition_equals_sequential_application():
    rng = np.random.default_rng(1)
    first, second = random_map(rng), random_map(rng, m=1)
    both = first.then(second)
    u, s, xi = rng.normal(size=(3, 2)), 0.7, rng.normal(size=(3, 3))

    def apply(map, u, xi):
        return u + np.einsum("hij,hj->hi", map.dA, u) + map.b * s + np.einsum("him,hm->hi", map.C, xi)

    expected = apply(second, apply(first, u, xi[:, :2]), xi[:, 2:])
    np.testing.assert_allclose(apply(both, u, xi), expected, rtol=1e-13)


def test_triangular_factor_keeps_the_covariance_and_drops_dependent_rows():
    noise = np.random.default_rng(2).normal(size=(5, 4, 3))
    noise[:, 2] = 2 * noise[:, 0] - noise[:, 1]
    factor, pivots = triangular(noise)
    assert pivots == [0, 1, 3]
    assert factor.shape == (5, 4, 3)
    np.testing.assert_allclose(covariance(factor), covariance(noise), atol=1e-13)
    assert np.all(factor[:, 0, 1:] == 0)


def test_triangular_factor_keeps_a_nearly_dependent_row():
    noise = np.array([[1.0, 0.0], [1.0, 1e-5]])
    factor, pivots = triangular(noise)
    assert pivots == [0, 1]
    np.testing.assert_allclose(covariance(factor), covariance(noise), rtol=1e-14)


def test_triangular_factor_of_no_noise_has_no_columns():
    factor, pivots = triangular(np.zeros((2, 3, 4)))
    assert factor.shape == (2, 3, 0)
    assert pivots == []


def test_inside_stage_keeps_the_joint_distribution_of_stage_and_readout():
    rng = np.random.default_rng(3)
    before, after = random_map(rng, m=2), random_map(rng, m=1)
    step = Step.inside_stage((), before, after, open_uses_score=True)
    stage, m = step.stages[0].map, step.stages[0].map.normals
    assert m == 2
    whole = before.then(after)
    reading = np.concatenate([before.C, np.zeros((3, 2, 1))], axis=-1)
    padded = np.concatenate([stage.C, np.zeros((3, 2, step.readout_normals))], axis=-1)
    np.testing.assert_allclose(covariance(padded), covariance(whole.C), atol=1e-12)
    np.testing.assert_allclose(covariance(step.close.C), covariance(before.C), atol=1e-12)
    np.testing.assert_allclose(
        padded @ step.close.C.swapaxes(-1, -2), whole.C @ reading.swapaxes(-1, -2), atol=1e-12
    )  # fmt: skip
    np.testing.assert_allclose(covariance(step.open.C), covariance(after.C), atol=1e-12)


@pytest.mark.parametrize("shape", [(), (4,)])
def test_table_has_the_axes_of_h_first(shape):
    h = np.full(shape, 0.5)
    assert table(h, [[1, h], [0, 2 * h]]).shape == (*shape, 2, 2)
    assert table(h, [[], []]).shape == (*shape, 2, 0)


@pytest.mark.parametrize("name", [*CATALOGUE, "ABAOABA", "BABAOABAB"])
def test_tables_in_the_answer_of_a_form_equal_those_in_the_score(name):
    """Steps with the answer N equal steps with the score a y + b N, for every stage, for `open` and for `close`."""
    form, rng = Form.of((0.3, -0.7), (-0.4, 1.1), 0.8), np.random.default_rng(0)
    a, b = form.score
    assert (a, b) == pytest.approx((0.5, -1.375))
    step = uldnum.integrator(name).stages(np.array(0.6), friction=1.3)
    start = rng.normal(size=(step.rows, 5))
    opening, xi = (rng.normal(size=(m, 5)) for m in (step.open.normals, sum(one.map.normals for one in step.stages)))
    reading = rng.normal(size=(step.readout_normals, 5))
    ends = []
    for tables, function in (
        (step, lambda y: a * y + b * np.sin(3 * y)),
        (step.answered(form), lambda y: np.sin(3 * y)),
    ):
        u = enter(tables, start, function, opening)
        ends.append(advance(tables, u, function, xi, reading))
    for ours, theirs in zip(*ends, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-13)


def test_forms_at_another_scale():
    """For z' = 3 z, the image and the noise are the same, and the score is a third."""
    form = Form.of((0.3, -0.7), (-0.4, 1.1), 0.8)
    scaled, z, answer = form.rescaled(3.0, 2.4), 0.9, 0.2
    for part, factor in (("image", 1), ("noise", 1), ("score", 3)):
        (p, q), (r, t) = getattr(form, part), getattr(scaled, part)
        assert p * z + q * answer == pytest.approx(factor * (r * 3 * z + t * answer), rel=1e-14)
