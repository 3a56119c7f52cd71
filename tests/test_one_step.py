"""`uldnum.step`, one time step on NumPy arrays, and the reference formulas that it uses."""

import numpy as np
import pytest
from helpers.catalogue import CATALOGUE
from helpers.normals import normals
from helpers.reference import word_map

import uldnum
from uldnum.kernels import reference
from uldnum.kernels.arrays.executor import ArrayExecutor
from uldnum.kernels.source.core import DYNAMICS, READOUT, lay_out
from uldnum.kernels.state import State
from uldnum.sampling._sample import one_phase
from uldnum.sampling.launch import recording_of

CHAINS, D, SEED, H, FRICTION = 5, 2, 3, 0.4, 0.7
TARGET = uldnum.GaussianMixture([0.4, 0.6], [[1.0, 0.0], [-1.0, 0.5]], [[0.5, 2.0], [1.0, 1.5]])


def drawn(m, kind, first):
    """Normals number first ... first + m - 1 of each coordinate, shape (chains, m, d)."""
    flat = normals(D * first, D * m, np.arange(CHAINS), kind, SEED, np.dtype(float))
    return flat.T.reshape(CHAINS, D, m).swapaxes(1, 2)


@pytest.mark.parametrize("name", [*CATALOGUE, "ABAOABA"])
def test_the_reference_formulas_equal_the_executor(name):
    """Three steps of the array executor equal the reference formulas with the same normals, to rounding."""
    scheme = uldnum.integrator(name)
    rows = np.random.default_rng(0).normal(size=(CHAINS, scheme.rows, D))
    tables = lay_out([scheme.stages(np.array([H]), friction=FRICTION)], np.dtype(float))
    recording, *_ = recording_of(TARGET, None, 1, 0, 0, None)
    state = State.start(rows[None].copy(), record=None)
    ArrayExecutor(one_phase(TARGET, tables, 9, recording, SEED)).advance(state, 3)

    table, used = scheme.stages(H, friction=FRICTION), scheme.unit.open.normals
    u = reference.enter(table, rows, TARGET.score, drawn(used, DYNAMICS, 0))
    for n in range(1, 4):
        blocks = []
        for stage in table.stages:
            blocks.append(drawn(stage.map.normals, DYNAMICS, used))
            used += stage.map.normals
        eta = drawn(table.readout_normals, READOUT, n * table.readout_normals)
        u, read = reference.advance(table, u, TARGET.score, np.concatenate(blocks, axis=1), eta)
    np.testing.assert_allclose(read, state.phase_space[0], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(u, state.u[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("word", ["BAOAB", "ABOBA", "OBABO", "OABAO", "BAOA", "UBU", "BUB", "ABAOABA"])
def test_a_step_is_the_product_of_its_letters(word):
    """On N(0, 1/precision), the matrix and the noise covariance of a step equal the product of its letters."""
    precision = 1.7

    def stepped(state, xi):
        x, p = uldnum.step(word, *state[:, None], h=H, friction=FRICTION, score=lambda x: -precision * x, xi=xi)
        return np.concatenate([x, p])

    with pytest.raises(ValueError, match="needs normals of shape") as error:
        stepped(np.zeros(2), np.zeros((9, 1)))
    several = int(str(error.value).partition("shape (")[2].partition(",")[0])
    assert several == {"OBABO": 2, "UBU": 4}.get(word, several)
    matrix = np.stack([stepped(row, np.zeros((several, 1))) for row in np.eye(2)], axis=1)
    noise = np.stack([stepped(np.zeros(2), row[:, None]) for row in np.eye(several)], axis=1)
    expected, covariance = word_map(word, [1 / word.count(name) for name in word], H, precision, FRICTION)
    np.testing.assert_allclose(matrix, expected, atol=1e-14)
    np.testing.assert_allclose(noise @ noise.T, covariance, atol=1e-14)


def test_many_steps_reach_the_stationary_variance_of_the_scheme():
    """ULA on N(0, 1) has variance 1/(1 - h^2/4) = 4/3 at h = 1, within 4 standard errors of 20,000 chains, 0.053."""
    rng, x = np.random.default_rng(0), np.zeros((20_000, 1))
    for _ in range(30):
        x, p = uldnum.step("ula", x, h=1.0, score=lambda x: -x, xi=rng)
    assert p is None
    assert x.var() == pytest.approx(4 / 3, abs=0.053)


def test_shapes_of_results():
    x, p = uldnum.step("BAOAB", np.zeros(3), np.zeros(3), delta=0.1, score=lambda x: -x, xi=np.random.default_rng(0))
    assert x.shape == p.shape == (3,)
    image = np.zeros((2, 4, 5))
    assert uldnum.step("ula", image, h=0.1, score=lambda x: -x, xi=np.random.default_rng(0))[0].shape == image.shape


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"h": None}, "h"),
        ({"h": [0.1, 0.2]}, "h: must be a number"),
        ({"friction": -1.0}, "friction: must be"),
        ({"x": 1.0}, r"x: must have shape \(..., d\)"),
        ({"p": None}, r"p: 'BAOAB' needs shape \(4, 2\), got none"),
        ({"p": np.zeros((4, 3))}, r"p: 'BAOAB' needs shape \(4, 2\), got \(4, 3\)"),
        ({"score": "no"}, "score: must be a function"),
        ({"score": lambda x: x[:, 0]}, r"score: must return the shape of its argument, \(4, 2\)"),
        ({"xi": np.zeros((4, 2))}, r"xi: 'BAOAB' needs normals of shape \(4, 1, 2\)"),
        ({"integrator": "no such"}, "integrator"),
    ],
)
def test_bad_arguments_are_refused(change, message):
    given = {"integrator": "BAOAB", "x": np.zeros((4, 2)), "p": np.zeros((4, 2)), "h": 0.1, "score": lambda x: -x}
    given |= {"xi": np.random.default_rng(0)} | change
    with pytest.raises(ValueError, match=message):
        uldnum.step(**given)
