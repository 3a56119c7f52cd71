"""Random calls of all public functions, with up to two invalid arguments.

Every call must return a value, or raise an error of a documented class whose message names an argument, within a time
limit. Warnings other than UserWarning are failures, because a RuntimeWarning of NumPy indicates a missing check.
"""

import io
import re
import signal
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from fractions import Fraction
from functools import partial
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from helpers.onnx_models import Graph, Value
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

import uldnum
from uldnum import diagnostics, exact, levels, networks, plotting, studies
from uldnum._util.extras import MissingExtraError
from uldnum.exact import ConvergenceError
from uldnum.targets import DataMixture

# Maximum processor time of a call in seconds, about two thousand times that of most calls.
PATIENCE = 20

ERRORS = (ValueError, TypeError, ConvergenceError, MissingExtraError)


class Broken:
    """An object that raises an error in every special method."""

    def fails(self, *_):
        raise RuntimeError("broken")

    __repr__ = __array__ = __index__ = __float__ = __len__ = __iter__ = __getitem__ = __call__ = fails


def score(x):
    return -x


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Valid and invalid arguments, in a temporary working directory."""
    patch = pytest.MonkeyPatch()
    patch.chdir(tmp_path_factory.mktemp("fuzz"))
    yield World.made(Path.cwd())
    patch.undo()


@dataclass(frozen=True)
class World:
    """Valid objects of the package, calls, and invalid values."""

    folder: Path
    mixture: uldnum.GaussianMixture
    user: uldnum.UserTarget
    images: DataMixture
    run: uldnum.Run
    plan: uldnum.Plan
    levels: levels.Levels
    study: xr.Dataset
    bias: xr.Dataset
    law: exact.TransferOperator
    net: networks.Network
    calls: dict = field(default_factory=dict)
    hostile: dict = field(default_factory=dict)

    @classmethod
    def made(cls, folder):
        mixture = uldnum.GaussianMixture([0.6, 0.4], [[1.0], [-1.0]], [1.0, 0.5])
        user = uldnum.UserTarget(score, 1, lambda x: -(x[:, 0] ** 2) / 2, draw, [0.0], [1.0], moment, cdf)
        images = DataMixture(np.linspace(-1, 1, 12).reshape(3, 1, 2, 2))
        run = uldnum.sample(mixture, "BAOAB", h=0.3, steps=24, chains=8, thin=1, bins=8, backend="array")
        rungs = levels.geometric(3, 0.5, 3)
        few = {"nfe": 64, "burn_in": 8, "chains": 8, "backend": "array", "exact": True}
        study = studies.frontier(mixture, ["ula", "BAOAB"], [0.1, 0.2], **few)
        bias = studies.exact_bias("gaussian", ["ula", "BAOAB"], [0.1, 0.2])
        law = exact.transfer_operator("ula", mixture, 0.5, tolerance=1e-2)
        graph = Graph()
        graph.node("Neg", Value(graph, "sample"), output="answer")
        shape = {"answer": ("float32", ["n", 1, 2, 2])}
        path = graph.save(folder / "net.onnx", {"sample": shape["answer"]}, shape)
        net = networks.network(path, CARD)
        run.save(folder / "run.nc")
        study.to_netcdf(folder / "study.nc")
        world = cls(folder, mixture, user, images, run, uldnum.plan("ula", rungs, h=1), rungs, study, bias, law, net)
        world.calls.update(public_calls(world))
        world.hostile.update(hostile_values(world))
        return world


CARD = {"parameterisation": "score", "scaling": "ve", "condition": "none"}


def draw(n, seed, first):
    return uldnum.target("gaussian").sample(n, seed, first)


def cdf(x):
    return np.clip(np.reshape(x, (-1, 1)) / 6 + 0.5, 0, 1)


def moment(order):
    return uldnum.target("gaussian").moment(order)


# Names that an error may use instead of the name of an argument, because they are parts of its value.
SCHEME = ["integrator", "word", "momentum", "eta", "churn"]
ALSO = {
    "integrator": SCHEME, "integrators": SCHEME, "method": SCHEME, "predictor": SCHEME, "name": ["word", "target"],
    "text": ["levels"], "count": ["levels"], "source": ["network"], "score_function": ["score"],
}  # fmt: skip


def public_calls(w):
    """Return the calls by name: a function, and lists of valid values for each of its arguments."""
    x, trace = w.run.x, w.run.trace
    target = [w.mixture, "gaussian", w.user]
    scheme = ["ula", "BAOAB", "mild(0.5)", uldnum.integrator("UBU")]
    noise = {"temperature": [None, 2.0], "score_noise": [None, 0.5]}
    step = {"h": [0.3, [0.1, 0.2]], "delta": [None], "friction": [1, 2.0]}
    noisy_step = {**step, **noise}
    common = {"chains": [2], "seed": [0, 7], "first_chain": [0, 5], "dtype": [None, "float32"], "backend": ["array"],
              "threads": [None, 1], "devices": [None], "resume": [None], "progress": [False]}  # fmt: skip
    # On a target with one mode no hops are counted, and points take milliseconds.
    joint = exact.transfer_operator("OBABO", "gaussian", 0.5, tolerance=1e-2).phase_space
    study = {"target": ["gaussian"], "integrators": ["ula", ["ula", "BAOAB"]], "h": [[0.3], 0.2],
             "delta": [None], "friction": [1.0], "nfe": [8], "burn_in": [0, 2], "chains": [8], "seed": [0],
             "tolerance": [0.1], "backend": ["array"], "store": [None], "executor": [None],
             "progress": [False], "mass": [None, 2.0, "inverse-covariance"], **noise}  # fmt: skip
    positions = {"x": [x, trace, x.astype(np.float32)], "target": [w.mixture, "bimodal-1d"]}
    run = {"run": [w.run], "target": target}
    drawing = {"ax": [Figure().subplots()], "colours": [None, {"ula": "k"}], "labels": [None, {"ula": "ULA"}]}
    return {
        "target": (uldnum.target, {"name": ["gaussian", "ring-8"]}),
        "GaussianMixture": (uldnum.GaussianMixture, {
            "weights": [[0.5, 0.5]], "means": [[[0.0], [1.0]]], "variances": [[1.0, 2.0], None],
            "covariances": [None, [[[1.0]], [[2.0]]]], "name": ["mixture"],
        }),
        "GaussianMixture.fit": (uldnum.GaussianMixture.fit, {
            "data": [x], "components": [1, 2], "kind": ["full", "diag"], "seed": [0],
        }),
        **{f"GaussianMixture.{name}": (getattr(w.mixture, name), {"x": [x]})
           for name in ("score", "log_density", "responsibilities", "cdf")},
        "GaussianMixture.noised": (w.mixture.noised, {"alpha": [1.0], "sigma": [0.5]}),
        "GaussianMixture.moment": (w.mixture.moment, {"order": [0, 3]}),
        "GaussianMixture.sample": (w.mixture.sample, {"n": [0, 3], "seed": [0], "first": [0, 4]}),
        "UserTarget": (uldnum.UserTarget, {
            "score_function": [score], "dimension": [1, 2], "log_density": [None], "sampler": [None, draw],
            "mean": [None], "standard_deviation": [None], "moment": [None], "cdf": [None, cdf], "name": ["user"],
            "args": [()], "like": [None], "noised": [None, w.mixture.noised], "returns_log_density": [False],
        }),
        "UserTarget.score": (w.user.score, {"x": [x]}),
        "double-well.cdf": (uldnum.target("double-well").cdf, {"x": [x]}),
        "double-well.moment": (uldnum.target("double-well").moment, {"order": [2]}),
        "DataMixture": (DataMixture, {"images": [np.ones((2, 1, 2, 2))], "name": ["data"]}),
        "DataMixture.at": (w.images.at, {"sigma": [0.5], "alpha": [1.0]}),
        "integrator": (uldnum.integrator, {"name": ["mild", "mild(0.3)", "BAOAB"], "momentum": [0.5]}),
        "splitting": (uldnum.splitting, {"word": ["BAOAB", "OBABO"], "fractions": [None, [0.5, 0.5, 1, 0.5, 0.5]]}),
        "Integrator": (uldnum.Integrator, {
            "name": ["mine"], "recipe": [uldnum.integrator("ula").recipe], "order": [(2, None)], "source": ["user"],
            "memory": [1.0],
        }),
        "Integrator.stages": (uldnum.integrator("BAOAB").stages, step),
        "sample": (uldnum.sample, {
            "target": [w.mixture, "gaussian", w.images.at(1.0)], "integrator": scheme, **noisy_step, "steps": [1, 4],
            "burn_in": [0, 1], "x0": ["target"], "thin": [None, 1], "bins": [0, 4],
            "record": [None, "variance"], "record_every": [None, 2], **common,
        }),
        "anneal": (uldnum.anneal, {
            "data": [w.mixture, w.images], "plan": [w.plan], "x0": [None, "normal"], "keep": [False, True], **common,
        }),
        "plan": (uldnum.plan, {
            "method": ["ula", "BAOAB", "ddim", "heun"], "levels": [w.levels], "steps": [1, 2], "h": [1.0, None],
            "eps": [None], "snr": [None], "coupled": [False], "friction": [1.0], "predictor": [None, "ddim(0.5)"],
            "momentum": ["kept", "refreshed"], "boundary": ["own", "shared"], "denoise": [True, False],
            "restarts": [(), [(3, 2, 0.3, 1.0)]], **noise,
        }),
        "preset": (uldnum.preset, {"name": ["mild-ncsn"]}),
        "Run.load": (uldnum.Run.load, {"path": [w.folder / "run.nc"]}),
        "Run.save": (w.run.save, {"path": [w.folder / "copy.nc"]}),
        "geometric": (levels.geometric, {"first": [3.0], "last": [0.1], "count": [1, 4]}),
        "karras": (levels.karras, {"first": [3.0], "last": [0.1], "count": [4], "rho": [7.0, 1]}),
        "linear": (levels.linear, {"count": [4], "beta_start": [0.1], "beta_end": [20.0], "last": [1e-3]}),
        "cosine": (levels.cosine, {"count": [4], "timesteps": [50], "max_beta": [0.9]}),
        "given": (levels.given, {"sigma": [[2.0, 1.0]], "alpha": [1.0, [1.0, 1.0]]}),
        "Levels": (levels.Levels, {"alpha": [[1.0, 1.0]], "sigma": [[2.0, 1.0]]}),
        "Levels.below": (w.levels.below, {"sigma_max": [1.0]}),
        "parse": (levels.parse, {"text": ["geometric:3:1:4", "cosine:5"]}),
        "exact.gaussian": (exact.gaussian, {"integrator": scheme, **noisy_step, "precision": [1.0, [1.0, 2.0]]}),
        "GaussianLaw.autocorrelation_time": (exact.gaussian("BAOAB", 0.3).autocorrelation_time, {
            "observable": ["x", "x^2", [1.0]],
        }),
        "acceptance": (exact.acceptance, {"integrator": ["ghmc"], "h": [0.1], "delta": [None], "precision": [1.0]}),
        "max_stable_h": (exact.max_stable_h, {"integrator": scheme, "precision": [1.0], "friction": [1.0]}),
        "properties": (exact.properties, {"integrator": scheme, "h": [0.5], "friction": [1.0]}),
        "propagator": (exact.propagator, {"integrator": scheme, **noisy_step, "precision": [1.0], "steps": [1, 3]}),
        "measured_orders": (exact.measured_orders, {"integrator": [Broken()]}),
        "exact.plan": (exact.plan, {
            "run": [w.plan], "data": [None], "data_mean": [0.0], "data_variance": [1.0, [1.0, 2.0]],
            "start_mean": [0.0], "start_variance": [1.0],
        }),
        "transfer_operator": (exact.transfer_operator, {
            "integrator": ["ula"], "target": ["gaussian"], "h": [0.5], "delta": [None], "friction": [1.0],
            "tolerance": [0.05], **noise,
        }),
        "TransferOperator.expectation": (w.law.expectation, {"f": [np.square, np.cos]}),
        "TransferOperator.density": (w.law.density, {"x": [0.5, x]}),
        "TransferOperator.cdf": (w.law.cdf, {"x": [0.5, x]}),
        "PhaseSpaceLaw.expectation": (joint.expectation, {"f": [np.multiply]}),
        "PhaseSpaceLaw.density": (joint.density, {"x": [0.5, x], "p": [0.0]}),
        "TransferOperator.autocorrelation_time": (w.law.autocorrelation_time, {"f": [np.square]}),
        **{name: (getattr(diagnostics, name), run) for name in ("mean_bias", "second_moment_bias", "relaxation")},
        **{name: (getattr(diagnostics, name), {"run": [w.run, x], "target": target, "summary": [np.mean, np.max]})
           for name in ("wasserstein_1", "kolmogorov")},
        "total_variation": (diagnostics.total_variation, {
            "run": [w.run, x], "target": target, "summary": [np.mean, np.max], "joint": [False, True],
        }),
        "kl": (diagnostics.kl, {"run": [w.run, x], "target": target, "joint": [False, True]}),
        **{name: (getattr(diagnostics, name), {"run": [w.run]})
           for name in ("chain_mean_times", "effective_sample_size", "kinetic_temperature")},
        **{name: (getattr(diagnostics, name), {
            "target": target, "integrator": ["BAOAB", "OBABO"], "h": [0.5], "delta": [None], "friction": [1.0],
            "steps": [2], "chains": [4], "seed": [0], **extra,
        }) for name, extra in (("shadow_work", {}), ("kl_by_shadow_work", {"joint": [False, True]}))},
        "autocorrelation_time": (diagnostics.autocorrelation_time, {"series": [trace[..., 0]], "nfe": [1, 2.0]}),
        "hopping_rate": (diagnostics.hopping_rate, {
            "trace": [trace], "target": [w.mixture, "bimodal-1d"], "nfe": [1, 2.0],
        }),
        "time_below": (diagnostics.time_below, {"times": [[1, 2]], "distances": [[3.0, 1.0]], "bound": [2.0]}),
        "mode_weights": (diagnostics.mode_weights, positions),
        "virial": (diagnostics.virial, {**positions, "x": [w.run, x]}),
        "kernel_stein_discrepancy": (diagnostics.kernel_stein_discrepancy, positions),
        "sliced_wasserstein_2": (diagnostics.sliced_wasserstein_2, positions | {"seed": [0]}),
        "maximum_mean_discrepancy": (diagnostics.maximum_mean_discrepancy, positions | {"seed": [0]}),
        "bias": (studies.bias, study),
        "mixing": (studies.mixing, study),
        "frontier": (studies.frontier, study),
        "exact_bias": (studies.exact_bias, {key: study[key] for key in signature(studies.exact_bias).parameters}),
        "advise": (studies.advise, {"study": [w.study], "max_bias": [1.0], "metric": ["second_moment", "mean"]}),
        "sweep": (studies.sweep, {"tasks": [[]], "store": [None], "executor": [None], "progress": [False]}),
        "network": (networks.network, {
            "source": [w.folder / "net.onnx"], "card": [CARD], "prompt": [None], "negative_prompt": [None],
        }),
        "fetch": (networks.fetch, {"source": ["mnist"], "name": [None], "sha256": [None], "card": [None]}),
        "parse_value": (networks.parse_value, {"text": ["1.5", "[1, 2]"]}),
        "Network": (networks.Network, {
            "source": [w.folder / "net.onnx"], "card": [CARD], "like": [None], "device": ["cpu"], "inputs": [None, {}],
            "unconditional": [None], "guidance": [1.0], "clip": [False, True], "chunk": [4], "threads": [1],
            "tf32": [False], "latents": [None],
        }),
        "Network of a function": (networks.Network, {
            "source": [lambda z, t: z], "card": [CARD], "like": [np.zeros((1, 1, 2, 2), np.float32)], "inputs": [None],
            "unconditional": [None], "guidance": [1.0], "clip": [False, True], "chunk": [4],
        }),
        **{f"card {key}": (partial(card_with, w.folder / "net.onnx", key), {key: [value]})
           for key, value in CARD_KEYS.items()},
        "Network.at": (w.net.at, {"sigma": [0.5, None], "ratio": [None], "t": [None]}),
        "Network.levels": (w.net.levels, {"count": [3]}),
        "NetworkLevel.score": (w.net.at(0.5).score, {"x": [np.ones((2, 1, 2, 2), np.float32)]}),
        "draw_bias": (plotting.draw_bias, {"study": [w.bias, {"one": w.bias}], **drawing, "metric": [None, "mean"],
                                         "exact": [None, w.bias]}),  # which has exact values too
        "draw_mixing": (plotting.draw_mixing, {"study": [w.folder / "run.nc"], **drawing, "friction": [None, 1.0]}),
        "draw_frontier": (plotting.draw_frontier, {"study": [w.study, {"one": w.study}, w.folder / "study.nc"],
                                                   **drawing, "metric": ["mean"]}),
        "look": (plotting.look, {"name": ["BAOAB", "mine"]}),
        "save": (lambda out: plotting.save(Figure(), out), {"out": [w.folder / "f.svg"]}),
    }  # fmt: skip


CARD_KEYS = {
    "parameterisation": "score", "scaling": "ve", "condition": "none", "condition_scale": 1.0,
    "schedule": {"kind": "karras", "first": 1.0, "last": 0.1, "timesteps": 8}, "sigma_data": 0.5, "sigma_min": 0.0,
    "sigma_max": 9.0, "shape": [1, 2, 2], "image_input": "", "output": "", "data_range": (-1, 1), "sigma": 0.5,
    "h": 1.0, "display": (0, 1), "gamma": 1.0, "colours": "gray", "name": "net", "sha256": "",
}  # fmt: skip


def card_with(path, key, **values):
    return networks.network(path, CARD | {key: values[key]})


def hostile_values(w):
    """Return functions that create invalid values, by name."""
    values = {
        "None": None, "True": True, "0": 0, "-1": -1, "2": 2, "2**63": 2**63, "10**400": 10**400,
        "-10**400": -(10**400), "10**5000": 10**5000, "0.5": 0.5, "-0.0": -0.0, "nan": float("nan"),
        "inf": float("inf"), "-inf": -float("inf"),
        "1e300": 1e300, "1e155": 1e155, "1e40": 1e40, "1e-320": 5e-324, "1e-40": 1e-40, "complex": 1 + 2j,
        "Fraction": Fraction(1, 2), "Decimal": Decimal("0.5"), "date": date(2020, 1, 1),
        "datetime64": np.datetime64("2020-01-01"), "timedelta64": np.timedelta64(1, "D"),
        "dates": np.array(["2020-01-01"], "M8[s]"), "float32": np.float32(0.5), "int64": np.int64(1),
        "bool_": np.True_, "longdouble": np.longdouble("1e400"), "empty string": "", "digit": "1", "string": "nothing",
        "escape": "\x1b[31mred", "NUL": "a\0b", "surrogate": "\udc80", "macro": "$\\badmacro{$", "long": "a" * 100_000,
        "colons": "geometric:1:2:" + "9" * 5000, "brackets": "mild(" + "9" * 5000 + ")", "superscript": "cosine:²",
        "bytes": b"BAOAB", "path": Path("nothing.nc"), "toml": "nothing.toml", "onnx": Path("nothing.onnx"),
        "empty list": [], "nested": [[]], "ragged": [[1.0], [2.0, 3.0]], "holes": [1.0, None], "strings": ["1", "2"],
        "negative": [-1.0, 2.0], "pair": [0.5, 0.5], "ones": np.ones(3), "none of them": np.zeros((0, 3)),
        "5-d": np.ones((1, 2, 1, 2, 1)), "0-d": np.array(0.5), "column": np.ones((3, 1)), "square": np.ones((2, 2)),
        "objects": np.array([object()]), "bools": np.array([True, False]), "imaginary": np.array([1j, 2]),
        "nans": np.array([np.nan, 1.0]), "huge numbers": np.array([1e308, -1e308]), "tiny": np.full(3, 5e-324),
        "integers": np.arange(3), "int list": [10**400, 1], "record": np.zeros(2, "i4,f4"), "class": int,
        "array class": np.ndarray, "object": object(), "broken": Broken(), "function": lambda *_: None,
        "raises": raises, "dict": {}, "odd dict": {1: 2, "a": object()}, "set": {1, 2}, "range": range(3),
        "Ellipsis": ..., "module": np, "Dataset": xr.Dataset(), "run": w.run, "mixture": w.mixture, "user": w.user,
        "plan": w.plan, "levels": w.levels, "integrator": uldnum.integrator("BAOAB"), "network": w.net,
        "level": w.net.at(0.5), "images": w.images, "study": w.study, "trace": w.run.trace, "x": w.run.x,
        "law": w.law, "word": "ABABABAB",
    }  # fmt: skip
    return {name: lambda value=value: value for name, value in values.items()} | {
        "generator": lambda: (value for value in (1.0, 2.0)),
        "open file": lambda: io.BytesIO(b"run"),
    }


def raises(*_, **__):
    raise KeyError("an error in the user's function")


class Hang(BaseException):
    """Raised when a call exceeds the time limit."""


@contextmanager
def bounded():
    """Raise `Hang` if a call exceeds the limit of processor time, which does not depend on other processes."""

    def ring(*_):
        raise Hang

    before = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, PATIENCE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def check(world, name, chosen, wrong):
    """Make a call and verify its outcome."""
    function, arguments = world.calls[name]
    values = {key: arguments[key][index % len(arguments[key])] for key, index in zip(arguments, chosen, strict=True)}
    # The default backend is excluded because compiling kernels would dominate the run time.
    values |= {key: world.hostile[kind]() for key, kind in wrong.items() if (key, kind) != ("backend", "None")}
    with warnings.catch_warnings(), bounded():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            function(**values)
        except ERRORS as error:
            message = str(error)
            names = [name for own in arguments for name in (own, *ALSO.get(own, []))]
            named = any(re.search(rf"\b{re.escape(one)}\b", message) for one in names)
            if not (named or isinstance(error, ConvergenceError | MissingExtraError)):
                raise AssertionError(f"the error names no argument: {type(error).__name__}: {message}") from error
            assert len(message) < 2000, f"the error has {len(message)} characters"
            assert message.replace("\n", "").isprintable(), f"the error has unprintable characters: {message!r}"


@st.composite
def cases(draw, calls, hostile):
    """Draw a call, indices of the valid values of its arguments, and up to two invalid arguments."""
    name = draw(st.sampled_from(sorted(calls)))
    arguments = sorted(calls[name][1])
    chosen = draw(st.lists(st.integers(0, 5), min_size=len(arguments), max_size=len(arguments)))
    keys = draw(st.lists(st.sampled_from(arguments), min_size=0, max_size=2, unique=True))
    return name, tuple(chosen), {key: draw(st.sampled_from(sorted(hostile))) for key in keys}


def fuzz(world, examples, **options):
    """Verify the outcome of ``examples`` random calls."""

    @settings(max_examples=examples, deadline=None, database=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck), print_blob=False, **options)  # fmt: skip
    @given(cases(world.calls, world.hostile))
    def run(case):
        check(world, *case)

    run()


def test_every_call_ends_in_a_value_or_an_error_that_names_an_argument(world):
    fuzz(world, 2000, derandomize=True)


@pytest.mark.slow
def test_many_more_calls_end_in_a_value_or_an_error_that_names_an_argument(world):
    fuzz(world, 50_000)
