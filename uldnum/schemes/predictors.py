r"""Predictors as coefficient tables. A predictor maps a sample at one noise level to the next level.

At a noise level, the sample is ``z = a x0 + s eps``, where x0 are the data and eps is standard normal noise. The
formulas below write a for alpha, s for sigma and r = s/a for the noise-to-signal ratio. Symbols without a prime belong
to the level at which the predictor starts, and symbols with a prime to the next level. In the formulas, x0 and eps are
the estimates of data and noise at z, which satisfy z = a x0 + s eps, and xi is standard normal noise that is drawn in
the step.

Moves are affine in z, x0, eps and the score. x0, eps and the score are affine in z and the answer N of a network
(`uldnum.schemes.form`), so that moves are also affine in z and N. At a = 0, z is pure noise. If N determines x0 and eps
even there, the coefficients of z and N in a move are finite at a = 0. A score determines eps = -s score at every level,
but x0 = (z + s^2 score)/a only at a > 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from uldnum._util.arguments import shown
from uldnum._util.names import split_name, unknown
from uldnum._util.typing import Array
from uldnum.arithmetic.elementary import log
from uldnum.schemes.form import Form
from uldnum.schemes.stage import Affine, Step, first_row

__all__ = ["PREDICTORS", "Combination", "Move", "NoiseLevel", "Predictor", "denoising", "embedded", "predictor"]

SONG = "Song, Sohl-Dickstein, Kingma, Kumar, Ermon & Poole 2021"
KARRAS = "Karras, Aittala, Aila & Laine 2022"


class NoiseLevel(NamedTuple):
    """A noise level of ``z = a x0 + s eps``, or arrays of noise levels.

    Attributes
    ----------
    a : float or array
        Scale alpha of the data.
    s : float or array
        Standard deviation sigma of the noise.
    """

    a: Any
    s: Any

    @property
    def r(self) -> Any:
        """Noise-to-signal ratio s/a, which is infinite at a = 0."""
        with np.errstate(divide="ignore"):
            return np.divide(self.s, self.a)


class Move(NamedTuple):
    """One evaluation of a predictor and the affine map that uses it.

    The map is ``u' = A u + image x0 + noise eps + score S + C xi``. Here x0, eps and S are the data, the noise and the
    score at z, and z is row 0 of u. Coefficients are numbers, or arrays with one entry per level at which the predictor
    starts. An empty list means that all of its coefficients are 0.

    Attributes
    ----------
    A : nested list, shape (k, k)
        Transition matrix.
    C : list, shape (k,)
        Coefficients of the standard normal.
    place : NoiseLevel
        Noise level of the evaluation.
    image, noise, score : list, shape (k,) or (0,)
        Coefficients of the data, of the noise and of the score.
    before : float or array, default 0.0
        Standard deviation of noise that is added to row 0 before the evaluation.
    """

    A: list[list[Any]]
    C: list[Any]
    place: NoiseLevel
    image: Sequence[Any] = ()
    noise: Sequence[Any] = ()
    score: Sequence[Any] = ()
    before: Any = 0.0


# The arguments are the levels at which the moves start, the next levels, and the previous levels, each as arrays. The
# first of the previous levels has infinite noise.
Predictor = Callable[[NoiseLevel, NoiseLevel, NoiseLevel], list[Move]]


def ddim(here: NoiseLevel, there: NoiseLevel, last: NoiseLevel, eta: float) -> list[Move]:
    r"""Return the move z' = a' x0 + (s'^2 - v^2)^{1/2} eps + v xi, with v = eta s' (1 - r'^2/r^2)^{1/2}.

    The source is Song, Meng & Ermon 2021, eq. 12 and 16. With eta = 0 the move is an Euler step of the probability flow
    ODE d(z/a) = eps dr, and, on flow levels (a + s = 1), of dz = (eps - x0) ds.
    """
    v = eta * there.s * np.sqrt(1 - np.square(there.r / here.r))
    kept = np.sqrt(np.square(there.s) - np.square(v))
    return [Move([[0]], [v], here, image=[there.a], noise=[kept])]


def reverse_diffusion(here: NoiseLevel, there: NoiseLevel, last: NoiseLevel) -> list[Move]:
    """Return the move z' = (2 - k) z + g^2 score + g xi, where the forward process is z = k z' + g xi.

    The coefficients are k = a/a' and g^2 = s^2 - k^2 s'^2 (Song et al. 2021, eq. 46).
    """
    if not np.all(here.a):
        raise ValueError(
            "reverse-diffusion: needs alpha > 0 at the first level, because its step from alpha = 0 doubles the "
            "variance of the noise; use ddim or ancestral"
        )
    k = here.a / there.a
    variance = np.square(here.s) - np.square(k * there.s)
    return [Move([[2 - k]], [np.sqrt(variance)], here, score=[variance])]


def churned(here: NoiseLevel, churn: float, least: float, most: float, inflation: float) -> tuple[NoiseLevel, Any]:
    """Return the level with ratio r (1 + churn), and the standard deviation of the noise that is added to reach it.

    ``churn`` is gamma_i in Karras et al. 2022, Algorithm 2, at the levels with a ratio from ``least`` (S_tmin) to
    ``most`` (S_tmax), and 0 at the others. ``inflation`` (S_noise) multiplies the added noise, but does not change the
    returned level. The denoising step at the end of a plan has no churn.
    """
    raised = np.where((here.r >= least) & (here.r <= most), churn, 0.0)
    if np.any(raised[here.a == 0]):
        raise ValueError("churn: must be 0 if the first level has alpha = 0, whose noise cannot be raised")
    if least > most:
        raise ValueError(f"S_tmin: must be at most S_tmax, got {least:g} and {most:g}")
    more = NoiseLevel(here.a, here.s * (1 + raised))
    return more, inflation * np.sqrt(np.square(more.s) - np.square(here.s))


def edm_euler(here: NoiseLevel, there: NoiseLevel, last: NoiseLevel, *churn: float) -> list[Move]:
    """Return the move that adds noise up to the ratio r (1 + churn) and takes an Euler step of the ODE to r'."""
    start, noise = churned(here, *churn)
    (move,) = ddim(start, there, last, 0.0)
    return [move._replace(before=noise)]


def heun(here: NoiseLevel, there: NoiseLevel, last: NoiseLevel, *churn: float) -> list[Move]:
    """Return two moves that add noise up to the ratio r (1 + churn) and take a step of Heun's method to r'.

    The method solves the probability flow ODE d(z/a) = eps dr. If the first level has a = 0, where z/a is infinite, it
    solves the same ODE in other coordinates, dw = (eps - x0) dt with w = z/(a + s) and t = s/(a + s). On flow levels w
    is z and t is s. The first move writes an Euler step to row 0, and the same step with half of the slope to row 1.
    The second move evaluates the slope at row 0 and r'. It writes row 1 plus half of that slope to row 0.
    """
    start, noise = churned(here, *churn)
    flow = not np.all(here.a)
    unit, end = (start.a + start.s, there.a + there.s) if flow else (start.a, there.a)
    span = end * (there.s / end - start.s / unit)  # change of t, or of r, times the scale of z'
    carry = end / unit

    def slope(*shares: Any) -> dict[str, list[Any]]:
        """Return the coefficients for the given shares of the slope in each row."""
        noise = [share * span for share in shares]
        return {"noise": noise, "image": [-one for one in noise] if flow else []}

    first = Move([[carry, 0], [carry, 0]], [0, 0], start, **slope(1, 0.5), before=noise)
    return [first, Move([[0, 1], [0, 1]], [0, 0], there, **slope(0.5, 0))]


def dpm_solver(here: NoiseLevel, there: NoiseLevel, last: NoiseLevel, order: float) -> list[Move]:
    """Return the move of DPM-Solver++, a multistep method of order 2 or 3."""
    if order not in (2, 3):
        raise ValueError(f"order: dpm-solver++ needs 2 or 3, got {order:g}")
    return second_order(here, there, last) if order == 2 else third_order(here, there, last)


def second_order(here: NoiseLevel, there: NoiseLevel, last: NoiseLevel) -> list[Move]:
    """Return the move z' = (s'/s) z + a' (1 - r'/r) ((1 + c) x0 - c x0_last), with c = log(r/r')/(2 log(r_last/r)).

    x0_last is the estimate of the data in the previous move, and r_last is the ratio of the previous level (Lu et al.
    2022, Algorithm 2). Row 1 stores x0 for the next move. In the first move r_last is infinite, so c = 0.
    """
    with np.errstate(invalid="ignore"):  # inf/inf at a = 0, which is the first level
        c = np.where(here.a == 0, 0.0, log(here.r / there.r) / (2 * log(last.r / here.r)))
    weight = there.a * (1 - there.r / here.r)
    A = [[there.s / here.s, -weight * c], [0, 0]]
    return [Move(A, [0, 0], here, image=[weight * (1 + c), 1])]


def third_order(here: NoiseLevel, there: NoiseLevel, last: NoiseLevel) -> list[Move]:
    r"""Return the move of the multistep method of order 3, which uses the last three estimates of the data.

    With l = -log r, let h, h0 and h1 be the steps of l in this move and in the two moves before, and m0, m1 and m2 the
    estimates of the data in these moves. The move solves the ODE exactly if the estimate of the data is the quadratic
    in l through m0, m1 and m2:

        z' = (s'/s) z + a' (f1 m0 + f2 d1 - f3 d2),
        d1 = (1 + q) e0 - q e1,   d2 = w (e0 - e1),   q = h0/(h0 + h1),   w = 2 h/(h0 + h1),
        e0 = (h/h0) (m0 - m1),   e1 = (h/h1) (m1 - m2),
        f1 = 1 - e^{-h},   f2 = 1 - f1/h,   f3 = (h - f1)/h^2 - 1/2.

    The code of Lu et al., and other code that follows it, has w = h/(h0 + h1). With that factor the move is not exact
    for a quadratic, and the order is 2. The first move has order 1 (h0 is infinite) and the second one has order 2 (h1
    is infinite). Rows 1 and 2 store the estimates for the next moves.
    """
    with np.errstate(divide="ignore", invalid="ignore"):  # infinite steps at the first two levels and at a = 0
        earlier = np.append(np.inf, last.r[:-1])
        h, h0, h1 = log(here.r / there.r), log(last.r / here.r), log(earlier / last.r)
        f1 = 1 - there.r / here.r
        f2, f3, q, w = 1 - f1 / h, (h - f1) / np.square(h) - 0.5, h0 / (h0 + h1), 2 * h / (h0 + h1)
        first, second = (f2 * (1 + q) - f3 * w) * h / h0, (f2 * q - f3 * w) * h / h1
        first = there.a * np.where(np.isinf(last.r), 0.0, first)
        second = there.a * np.where(np.isinf(earlier), 0.0, second)
    A = [[there.s / here.s, -first - second, second], [0, 0, 0], [0, 1, 0]]
    return [Move(A, [0, 0, 0], here, image=[there.a * f1 + first, 1, 0])]


def ancestral(here: NoiseLevel, there: NoiseLevel, last: NoiseLevel) -> list[Move]:
    """Return the move of ancestral sampling, which is that of DDIM with eta = 1.

    On VE levels it is the sampler of Song et al. 2021, app. F. On VP levels it is the sampler of Ho et al. 2020 with
    the variance beta tilde.
    """
    return ddim(here, there, last, 1.0)


class Setting(NamedTuple):
    """Parameter of a predictor.

    Attributes
    ----------
    name : str
        Name of the parameter.
    default : float
        Default of the parameter.
    least, most : float
        Smallest and largest value of the parameter.
    """

    name: str
    default: float
    least: float
    most: float


class PredictorEntry(NamedTuple):
    """Entry of the table of predictors.

    Attributes
    ----------
    moves : callable
        Function that returns a list of `Move`. Its arguments are three `NoiseLevel` and the parameters, if there are
        any.
    source : str
        Reference that defines the predictor.
    settings : tuple of Setting, default ()
        Parameters, in the order of the arguments.
    """

    moves: Callable[..., list[Move]]
    source: str
    settings: tuple[Setting, ...] = ()

    def signature(self, name: str) -> str:
        """Return a name with the names of the parameters, for example ``ddim(eta)``."""
        return f"{name}({','.join(setting.name for setting in self.settings)})" if self.settings else name


CHURN = (
    Setting("churn", 0.0, 0.0, math.sqrt(2) - 1),
    Setting("S_tmin", 0.0, 0.0, math.inf),
    Setting("S_tmax", math.inf, 0.0, math.inf),
    Setting("S_noise", 1.0, 0.0, 10.0),
)
PREDICTORS = {
    "ddim": PredictorEntry(ddim, "Song, Meng & Ermon 2021, eq. 12 and 16", (Setting("eta", 0.0, 0.0, 1.0),)),
    "ancestral": PredictorEntry(ancestral, f"{SONG}, app. F (VE); Ho, Jain & Abbeel 2020, eq. 7 (VP)"),
    "reverse-diffusion": PredictorEntry(reverse_diffusion, f"{SONG}, eq. 46"),
    "edm-euler": PredictorEntry(edm_euler, f"{KARRAS}, Algorithm 2, without lines 9 to 11", CHURN),
    "heun": PredictorEntry(heun, f"{KARRAS}, Algorithms 1 and 2", CHURN),
    "dpm-solver++": PredictorEntry(
        dpm_solver,
        "Lu, Zhou, Bao, Chen, Li & Zhu 2022, Algorithm 2 (2M); order 3 extrapolates a quadratic instead of a line",
        (Setting("order", 2.0, 2.0, 3.0),),
    ),
}


def predictor(name: str) -> tuple[str, Predictor, str]:
    """Return the full name, the function and the reference of a predictor, given a name such as ``ddim(0.5)``.

    Parameters
    ----------
    name : str
        A name in `PREDICTORS`, with its parameters in parentheses if it has any, such as ``heun(0.1,0.05,50,1.003)``.
        Parameters that are omitted have their defaults. Case is ignored.

    Returns
    -------
    tuple of (str, callable, str)
        The name, the function that returns the moves, and the reference. The name includes the parameters up to the
        last one that is not the default.

    Raises
    ------
    ValueError
        If there is no such predictor, or if a parameter is invalid. For an unknown name, the message suggests a
        similar one.
    """
    if not isinstance(name, str):
        raise ValueError(f"predictor: must be a name, got {shown(name)}")
    start, argument = split_name(name)
    stem = start.lower()
    if stem not in PREDICTORS:
        raise unknown("predictor", name, PREDICTORS, f"The predictors are {', '.join(PREDICTORS)}")
    entry = PREDICTORS[stem]
    given = [] if argument is None else argument.split(",")
    if len(given) > len(entry.settings):
        count = len(entry.settings)
        wanted = f"takes at most {count} parameter{'s' if count > 1 else ''}" if count else "takes no parameter"
        raise ValueError(f"predictor: {stem!r} {wanted}")
    values = [setting.default for setting in entry.settings]
    for i, (text, setting) in enumerate(zip(given, entry.settings, strict=False)):
        try:
            values[i] = float(text)
        except ValueError:
            raise ValueError(f"predictor: {shown(name)}: {shown(text)} is not a number") from None
        if not setting.least <= values[i] <= setting.most:
            bounds = f"{setting.least:g} <= {setting.name} <= {setting.most:.3g}"
            raise ValueError(f"{setting.name}: {stem} needs {bounds}, got {values[i]:g}")

    def moves(*places: NoiseLevel) -> list[Move]:
        return entry.moves(*places, *values)

    changed = [i for i, setting in enumerate(entry.settings) if values[i] != setting.default]
    own = ",".join(f"{value:g}" for value in values[: changed[-1] + 1]) if changed else ""
    full = f"{stem}({own})" if own else stem
    return full, moves, entry.source


class Combination(NamedTuple):
    """The maps ``u' = u + dA u + parts [x0, eps, S]`` of a move at all levels, without normals. S is the score.

    Attributes
    ----------
    dA : float64 array, shape (levels, k, k)
        Transition matrix minus the identity.
    parts : float64 array, shape (levels, k, 3)
        Coefficients of the data, of the noise and of the score.
    """

    dA: Array
    parts: Array

    def split(self) -> list[Combination]:
        """Return one combination for each level. Each has a leading axis of length 1."""
        return [Combination(self.dA[i : i + 1], self.parts[i : i + 1]) for i in range(len(self.dA))]

    def answered(self, form: Form) -> tuple[Array, Array]:
        """Return dA and the coefficients b of the answer N of a form."""
        found = np.asarray(sum(self.parts[..., i, None] * np.array(part) for i, part in enumerate(form)))
        dA = self.dA.copy()
        dA[..., 0] += found[..., 0]
        return dA, found[..., 1]


def in_score(move: Move, row: int) -> tuple[Any, Any]:
    """Return the coefficients of z and of the score that replace the image, noise and score of one row of a move.

    They follow from x0 = (z + s^2 score)/a and eps = -s score. The order of operations determines the last bits of
    stored results.
    """
    (a, s), r = move.place, move.place.r
    image, score = (part[row] if part else 0 for part in (move.image, move.score))
    if move.noise:
        b = s * (image * r - move.noise[row])
    elif isinstance(image, int):
        b = image * np.square(s) / a
    else:
        b = image / a * np.square(s)
    return image / a, b + score


def embedded(move: Move, k: int) -> tuple[Step, Combination]:
    """Return the step of a move in terms of the score, and its combination, for chains with k rows.

    Both have a leading axis of levels. Row 0 of the move is row 0 of the chain, and its other rows are the last rows of
    the chain. The step is not finite at levels with a = 0.
    """
    own, count = [0, *range(k - len(move.C) + 1, k)], len(move.place.s)
    dA, parts, C = np.zeros((count, k, k)), np.zeros((count, k, 3)), np.zeros((count, k, 1))
    change, b = np.zeros((count, k)), np.zeros((count, k))
    with np.errstate(divide="ignore", invalid="ignore"):
        for i, row in enumerate(own):
            for j, column in enumerate(own):
                dA[:, row, column] = move.A[i][j]
            for p, given in enumerate((move.image, move.noise, move.score)):
                parts[:, row, p] = given[i] if given else 0
            change[:, row], b[:, row] = in_score(move, i)
            C[:, row, 0] = move.C[i]
    whole = dA.copy()
    whole[:, :, 0] += change
    for one in (dA, whole):
        one[:, own, own] -= 1
    step = Step.on_step(first_row(b), Affine(whole, b, C if C.any() else C[..., :0]))
    if np.any(move.before):
        before = np.zeros((count, k, 1))
        before[:, 0, 0] = move.before
        step = replace(step, open=Affine(np.zeros((count, k, k)), np.zeros((count, k)), before))
    return step, Combination(dA, parts)


def denoising(place: NoiseLevel, k: int) -> tuple[Step, Combination]:
    """Return what `embedded` returns for z' = x0, the mean of the data given z (Tweedie's formula)."""
    return embedded(Move([[0]], [0], place, image=[1]), k)
