"""Networks with known output: noise levels as graphs, and exact scores of noised mixtures."""

import numpy as np
from onnx import TensorProto

from helpers.onnx_models import constant

SHAPE = (2, 2, 3)
EPS = np.finfo(np.float32).eps
BETAS = np.linspace(1e-4, 0.02, 1000)


def levels_of_betas(betas):
    """Return a graph function from the timestep to alpha and sigma, by a table computed from the definition."""
    kept = np.cumprod(1 - np.asarray(betas, float))

    def levels(graph, u):
        step = graph.node("Cast", u, to=TensorProto.INT64)
        row = graph.node("Squeeze", step, np.array([1]))
        return tuple(graph.node("Gather", part[:, None], row, axis=0) for part in (np.sqrt(kept), np.sqrt(1 - kept)))

    return levels


def vp_linear(graph, u):
    """Return alpha and sigma of the VP SDE with rate 0.1 + 19.9 t, for the condition u = 999 t."""
    t = u / 999.0
    kept = (t * -0.1 - t * t * (19.9 / 2)).exp()
    return kept**0.5, (constant(graph, 1.0) - kept) ** 0.5


def exact_image(mixture, alpha, sigma, z):
    """Return the mean of the image given z in float64, for isotropic components; alpha may be 0."""
    flat, v = z.reshape(len(z), -1).astype(float), mixture.variances[:, 0]
    total = alpha**2 * v + sigma**2
    gaps = flat[:, None] - alpha * mixture.means
    logs = np.log(mixture.weights) - np.log(total) * flat.shape[1] / 2 - (gaps**2).sum(axis=2) / (2 * total)
    share = np.exp(logs - logs.max(axis=1, keepdims=True))
    share /= share.sum(axis=1, keepdims=True)
    means = mixture.means + gaps * (alpha * v / total)[:, None]
    return (share[..., None] * means).sum(axis=1).reshape(z.shape)


def exact_output(mixture, what, alpha, sigma, z, sigma_data=0.5):
    """Return the output of an exact network with a parameterisation, in float64."""
    image = exact_image(mixture, alpha, sigma, z)
    eps, square = (z - alpha * image) / sigma, sigma**2 + sigma_data**2
    return {
        "score": -eps / sigma,
        "epsilon": eps,
        "noise": sigma * eps,
        "denoiser": image,
        "v": alpha * eps - sigma * image,
        "velocity": eps - image,
        "negative-velocity": image - eps,
        "edm": (F := (image - z * sigma_data**2 / square) * np.sqrt(square) / (sigma * sigma_data)),
        "negative-edm": -F,
    }[what]


def exact_answer(mixture, level, x):
    """Return the exact score of z in float64, and the magnitude of the terms whose float32 sum approximates it."""
    exact = mixture.noised(level.alpha, level.sigma).score(x.reshape(len(x), -1).astype(float)).reshape(x.shape)
    ax = level.form.score[0] * x
    return exact, np.abs(ax) + np.abs(exact - ax)
