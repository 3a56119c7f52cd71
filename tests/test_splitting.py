"""Splitting words: maps and score evaluations against the flows of their letters, weak orders, and argument checks."""

import mpmath
import numpy as np
import pytest
from helpers.reference import stationary, word_map

import uldnum
from uldnum.exact import gaussian, propagator
from uldnum.exact.orders import underdamped_error
from uldnum.schemes.words import frozen_score, tanh_gap

# For each word: the normals of each stage, of the readout and of `open`, and whether `open` needs a score.
STRUCTURE = {
    "BAOAB": ([1], 0, 1, True),
    "BAOA": ([1], 0, 0, False),
    "OBABO": ([1], 1, 1, True),
    "ABOBA": ([1], 0, 0, False),
    "OABAO": ([1], 1, 1, False),
    "UBU": ([2], 2, 2, False),
    "BUB": ([2], 0, 2, True),
    "ABAOABA": ([1, 0], 0, 0, False),
    "BAB": ([0], 0, 0, True),
}


@pytest.mark.filterwarnings("ignore:word. 'BAB' has neither")
@pytest.mark.parametrize("word", STRUCTURE)
def test_structure(word):
    step = uldnum.splitting(word).stages(0.3)
    normals = [stage.map.normals for stage in step.stages]
    assert (normals, step.readout_normals, step.open.normals, step.open_uses_score) == STRUCTURE[word]


@pytest.mark.parametrize("seed", range(40))
def test_random_words_equal_their_letters_one_by_one(seed):
    rng = np.random.default_rng(seed)
    letters = "UB" if seed % 3 == 0 else "ABO"
    word = "".join(rng.permutation(list(letters) + list(rng.choice(list(letters), size=rng.integers(0, 6)))))
    shares = rng.uniform(0.2, 1, len(word))
    for name in letters:
        mine = np.array([other == name for other in word])
        shares[mine] /= shares[mine].sum()
    h, precision, friction = 0.4, 1.7, 0.8
    scheme = uldnum.splitting(word, shares)
    M, Q = word_map(word, shares, h, precision, friction)
    for steps in (1, 3):  # one step is only open and close; three steps have whole stages in between
        M_n, Q_n = np.eye(2), np.zeros((2, 2))
        for _ in range(steps):
            M_n, Q_n = M @ M_n, M @ Q_n @ M.T + Q
        got = propagator(scheme, h, precision=precision, friction=friction, steps=steps)
        np.testing.assert_allclose(got[0], M_n, atol=1e-13)
        np.testing.assert_allclose(got[1], Q_n, atol=1e-13)
    law = gaussian(scheme, h, precision=precision, friction=friction)
    S = stationary(M, Q)
    np.testing.assert_allclose(
        [law.position_covariance, law.cross_covariance, law.momentum_covariance],
        [S[0, 0], S[0, 1], S[1, 1]],
        rtol=1e-11,
    )
    np.testing.assert_allclose(law.spectral_radius, np.abs(np.linalg.eigvals(M)).max(), rtol=1e-12)


@pytest.mark.parametrize(
    ("word", "fractions", "fault"),
    [
        ("", None, "empty"),
        ("BAXAB", None, "'X'"),
        ("AOA", None, "neither B nor K"),
        ("BOB", None, "neither A nor U"),
        ("BUAB", None, "mixes U"),
        ("BUBO", None, "mixes U"),
        ("BAOAB", [0.5, 0.5], "needs 5 numbers"),
        ("BAOAB", [0.5, 0.5, 1, 0.5, 0.4], "must sum to 1 for each letter, got a sum of 0.9 for B in 'BAOAB'"),
        ("OBABO", [-1, 0.5, 1, 0.5, 2], "fractions: must be positive for O, U and K, .* for O"),
        ("UBU", [0, 1, 1], "fractions: must be positive for O, U and K, .* for U"),
        ("BAOAB", [np.nan, 0.5, 1, 0.5, 0.5], "finite"),
    ],
)
def test_invalid_words_are_refused(word, fractions, fault):
    with pytest.raises(ValueError, match=fault):
        uldnum.splitting(word, fractions)


@pytest.mark.parametrize(
    ("word", "fractions", "meaning"),
    [
        (
            "ubuu",
            None,
            "U for h/3, B for h, U for 2h/3 (B: kick, U: drift and thermostat together); weak order 1, 1 sc",
        ),
        (
            "A B O B A B O B A",
            None,
            "A for h/3, B for h/4, O for h/2, B for h/4, A for h/3, B for h/4, O for h/2, B fo",
        ),
        ("OBABO", [1 / 7, 0.5, 1, 0.5, 6 / 7], "O for h/7, B for h/2, A for h, B for h/2, O for 6h/7 (A: drift, B: ki"),
        ("BUB", [2**-0.5, 1, 1 - 2**-0.5], "B for 0.7071 h, U for h, B for 0.2929 h (B: kick, U: drift and thermostat"),
    ],
)
def test_the_source_of_a_word_says_what_it_does(word, fractions, meaning):
    assert uldnum.splitting(word, fractions).source.startswith(f"splitting word {meaning}")


@pytest.mark.parametrize("word", ["BAOAB", "baoab", "b a\to a b", "V R O R V", "vrorv"])
def test_words_are_read_in_one_spelling(word):
    scheme = uldnum.splitting(word)
    assert (scheme.name, scheme.order) == ("BAOAB", (2, 2))


def test_word_without_thermostat_warns():
    with pytest.warns(UserWarning, match="no thermostat"):
        uldnum.splitting("BAB")


@pytest.mark.parametrize("z", [1e-8, 1e-3, 0.1, 0.5, 0.999, 1.0, 1.001, 3.0, 40.0])
def test_tanh_gap_to_rounding(z):
    with mpmath.workdps(50):
        exact = mpmath.mpf(z) - mpmath.tanh(mpmath.mpf(z))
        assert abs(mpmath.mpf(float(tanh_gap(np.array(z)))) / exact - 1) < 2e-15


@pytest.mark.parametrize("a", [1e-6, 1e-3, 0.5, 5.0])
def test_frozen_score_does_not_cancel(a):
    kick = frozen_score(np.array(a), np.array(1.0)).b
    with mpmath.workdps(50):
        z = mpmath.mpf(a)
        exact = [z - 1 + mpmath.exp(-z), 1 - mpmath.exp(-z)]
        assert all(abs(mpmath.mpf(float(b)) / e - 1) < 2e-15 for b, e in zip(kick, exact, strict=True))


@pytest.mark.filterwarnings("ignore:word")
@pytest.mark.parametrize("seed", range(40))
def test_weak_orders_of_random_words(seed):
    """The stated weak order equals the measured slope of the error of the distribution of (x, p) after time 1."""
    rng = np.random.default_rng(seed)
    letters = ("UB", "ABO", "AB")[seed % 3 if seed % 10 else 2]
    word = "".join(rng.permutation(list(letters) + list(rng.choice(list(letters), size=rng.integers(0, 6)))))
    shares = rng.uniform(0.2, 1, len(word))
    if seed % 4 == 0:  # a palindrome
        word, shares = word + word[::-1], np.concatenate([shares, shares[::-1]])
    for name in letters:
        mine = np.array([other == name for other in word])
        shares[mine] /= shares[mine].sum()
    for scheme in (uldnum.splitting(word), uldnum.splitting(word, shares)):
        slope = np.log2(underdamped_error(scheme, 1 / 64) / underdamped_error(scheme, 1 / 128))
        assert slope == pytest.approx(scheme.order[0], abs=0.1)


@pytest.mark.parametrize(
    ("word", "order"),
    [("BUUBBBU", 2), ("UBBBUUB", 2), ("BUUBBU", 1), ("BAOOAB", 2), ("ABOABO", 1), ("BAABOOAABBAO", 1)],
)
def test_weak_orders_of_words(word, order):
    """The order conditions concern pairs of letters; words that are not palindromes may have order 2."""
    assert uldnum.splitting(word).order == (order, None)
