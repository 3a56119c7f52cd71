"""Networks whose answer is known: noise levels as graphs, and scores of noised mixtures."""

import numpy as np
from onnx import TensorProto

from helpers.onnx_models import constant

SHAPE = (2, 2, 3)
EPS = np.finfo(np.float32).eps
BETAS = np.linspace(1e-4, 0.02, 1000)


def levels_of_betas(betas):
    """alpha and sigma of a step, by a table of the definition."""
    kept = np.cumprod(1 - np.asarray(betas, float))

    def levels(graph, u):
        step = graph.node("Cast", u, to=TensorProto.INT64)
        row = graph.node("Squeeze", step, np.array([1]))
        return tuple(graph.node("Gather", part[:, None], row, axis=0) for part in (np.sqrt(kept), np.sqrt(1 - kept)))

    return levels


def vp_linear(graph, u):
    """The SDE of rate 0.1 + 19.9 t, told 999 t."""
    t = u / 999.0
    kept = (t * -0.1 - t * t * (19.9 / 2)).exp()
    return kept**0.5, (constant(graph, 1.0) - kept) ** 0.5


def exact_answer(mixture, level, x):
    """Score of the law of z in float64, and the size of what is added up to it in float32."""
    exact = mixture.noised(level.alpha, level.sigma).score(x.reshape(len(x), -1).astype(float)).reshape(x.shape)
    ax = level.level.form.a * x
    return exact, np.abs(ax) + np.abs(exact - ax)
