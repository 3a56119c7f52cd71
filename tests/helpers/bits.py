"""Hashes of results that must have the same bits on any processor; `test_bits` compares them with stored hashes.

This module is run as a script, in a process of its own, with ``NUMBA_ENABLE_CUDASIM=1``. The reason is that libraries
choose their variant when they are loaded: whether Numba simulates a GPU, which vector instructions NumPy uses, and
which kernels the BLAS and C libraries use. After an intended change of results, this command computes the hashes and
stores them in ``tests/data/bits.json``:

    NUMBA_ENABLE_CUDASIM=1 python tests/helpers/bits.py --write

The guarantee holds for the catalogue, splitting words and mixtures. It does not hold for networks, for `DataMixture`,
for recipes and scores of users, or for mixtures on arrays of a library other than NumPy, which call the exponential
function of that library. None of these is included here; `double-well` is, because its score belongs to the package.
The parameters of mixtures are dyadic rationals from integer arithmetic, so that a row depends only on the package.
"""

import hashlib
import json
import math
import sys
import warnings
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from itertools import product
from pathlib import Path
from unittest.mock import patch

import array_api_strict as strict
import numpy as np
from threadpoolctl import threadpool_info

import uldnum
from uldnum import anneal, levels, plan, sample
from uldnum.kernels.initial import initial_normals, initial_uniform
from uldnum.kernels.numba.executor import NumbaExecutor
from uldnum.kernels.source.core import lay_out
from uldnum.networks.forms import PARAMETERISATIONS, form
from uldnum.plans.presets import PRESETS as PLANS
from uldnum.plans.schedules import schedule
from uldnum.sampling import launch
from uldnum.sampling._anneal import tables_of
from uldnum.schemes.predictors import PREDICTORS
from uldnum.studies import points
from uldnum.targets.presets import PRESETS as TARGETS

DATA = Path(__file__).parents[1] / "data" / "bits.json"
DTYPES = "float64", "float32"

PARAMETERS = {"noise-denoise": ["noise-denoise(1.3)"], "mild": ["mild(0.38)", "mild(0)"], "hmc": ["hmc(3)"]}
CATALOGUE = {
    name: uldnum.integrator(name) for entry in uldnum.integrators() for name in PARAMETERS.get(entry.name, [entry.name])
}
# Integrators whose runs are hashed. Of the others, which have tables of the same shapes, the tables are hashed.
NAMES = (
    "ula", "baoab-limit", "noise-denoise(1.3)", "mild(0.38)", "mild(0)", "BAOAB", "BAOA", "OBABO", "ABOBA", "OABAO",
    "UBU", "BUB", "euler-maruyama", "exponential-euler", "mala", "hmc(3)", "ghmc",
)  # fmt: skip
INTEGRATORS = {name: CATALOGUE[name] for name in NAMES} | {
    "ABAOABA": uldnum.splitting("ABAOABA"),
    "BUUB": uldnum.splitting("BUUB"),
    "OBAABAO": uldnum.splitting("OBAABAO"),
    "BUBUB, fractions": uldnum.splitting("BUBUB", [0.2, 0.3, 0.5, 0.7, 0.3]),
    "BABOBAB, fractions": uldnum.splitting("BABOBAB", [0.2, 0.4, 0.3, 1, 0.4, 0.6, 0.1]),
}  # fmt: skip

THREE_ROWS = {"QUICSORT": CATALOGUE["QUICSORT"]}

# The number of chains is not a multiple of the block size, the first chain is not 0, and the key has a high word.
CHAINS = {"chains": 70, "first_chain": 5, "seed": 2**40 + 7, "progress": False}
STEPS = {"steps": 21, "burn_in": 4, "thin": 5, "bins": 24}
GROUPS = {"h": [0.2, 0.45], "friction": 1.3}


def hashed(*values):
    """Return a hash of arrays, with their shapes and dtypes, and of text; all NaN hash alike, whatever their sign."""
    sha = hashlib.sha256()
    for value in values:
        array = np.asarray(value)
        if array.dtype.kind == "f":
            array = np.where(np.isnan(array), array.dtype.type(np.nan), array)
        array = array.astype(array.dtype.newbyteorder("<"), order="C")
        sha.update(f"{array.dtype.str}{array.shape}".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()[:16]


def coefficients(tables):
    return {part: hashed(getattr(tables, part)) for part in ("G", "dA", "b", "C")}


def parts(run):
    """Return the hashes of the results of a run."""
    state, settings = run.state, run.settings
    row = {
        "keys": hashed(settings.coefficients, settings.fingerprint),
        "states": hashed(state.u, state.phase_space, state.escape_step),
        "nfe": hashed(state.nfe),
    }
    if settings.metropolised:
        row["tests"] = hashed(state.score, state.log_density, state.accepted)
    if state.sums.size:
        row["moments"] = hashed(state.sums, state.products, run.centre)
        names = "mean", settings.record, "mean_error", f"{settings.record}_error"
        row["statistics"] = hashed(*(getattr(run, name) for name in names))
    if settings.bins:
        row["histogram"] = hashed(run.histogram, run.edges)
    if run.kept:
        row["trace"] = hashed(run.trace)
    return row


# ------------------------------------------------------------------------------------------------------------- targets


def integers(seed, least, most, *shape):
    """Return random integers from least to most, by integer arithmetic only."""
    raw = np.random.PCG64(seed).random_raw(math.prod(shape)).reshape(shape)
    return (raw >> 32).astype(np.int64) % (most - least + 1) + least


@cache
def mixture(d, kind, components=3):
    """Return a mixture whose means, variances and covariances are dyadic; the weights differ."""
    weights = np.arange(1, components + 1) / (components * (components + 1) // 2)
    means = integers(d, -40, 40, components, d) / 16
    if kind == "full":
        roots = np.tril(integers(d + 100, -5, 5, components, d, d), -1) + 12 * np.eye(d, dtype=int)
        return uldnum.GaussianMixture(weights, means, covariances=roots @ roots.swapaxes(1, 2) / 256)
    shape = (components,) if kind == "isotropic" else (components, d)
    return uldnum.GaussianMixture(weights, means, integers(d + 200, 9, 60, *shape) / 32)


class StrictGaussian(uldnum.GaussianMixture):
    """A target whose chains run on arrays of another library; with one component it needs no exponential function."""

    like = strict.zeros(1)


MIXTURES = {
    "isotropic 1": mixture(1, "isotropic"),
    "isotropic 2 of 7": mixture(2, "isotropic", 7),
    "isotropic 10": mixture(10, "isotropic"),
    "diagonal 2": mixture(2, "diagonal"),
    "diagonal 7": mixture(7, "diagonal"),
    **{f"full {d}": mixture(d, "full") for d in (2, 3, 5, 8, 13)},
    "full 2 of 40": mixture(2, "full", 40),
}
ALPHA, SIGMA = np.linspace(0.05, 1, 200), np.linspace(30, 0.02, 200)


def target_row(target):
    """Return the hashes of the quantities of a target that chains and the keys of studies depend on."""
    at = np.asarray(target.mean) + np.asarray(target.standard_deviation) * np.arange(-12, 13)[:, None] / 4
    row = {
        "fingerprint": hashed(target.fingerprint),
        "mean": hashed(target.mean, target.standard_deviation),
        "draws": hashed(target.sample(70, 3, 5)),
        "score": hashed(target.score(at), target.score(at.astype(np.float32))),
        "keys of studies": hashed(*points.fingerprint(target)),
    }
    if isinstance(target, uldnum.GaussianMixture):
        row["moments"] = hashed(target.covariance, *(target.moment(order) for order in range(5)))
        row["largest precision"] = hashed(target.largest_precision)
        for dtype in map(np.dtype, DTYPES):
            row[f"data {dtype}"] = hashed(*target.kernel_data(dtype))
            row[f"levels {dtype}"] = hashed(*target.kernel_levels(ALPHA, SIGMA, dtype))
        noised = target.noised(0.7, 0.9)
        row["noised"] = hashed(noised.fingerprint, noised.mean, noised.standard_deviation, noised.sample(70, 3, 5))
    return row


def target_rows():
    for name in TARGETS:
        yield f"target {name}", target_row(uldnum.target(name))
    for name, target in MIXTURES.items():
        yield f"target mixture, {name}", target_row(target)


# -------------------------------------------------------------------------------------------------------------- tables

LEVELS = {
    "geometric": levels.geometric(232.0, 0.01, 200),
    "karras": levels.karras(80.0, 0.002, 200),
    "karras, rho 3": levels.karras(50.0, 0.01, 100, 3.0),
    "linear": levels.linear(200),
    "scaled-linear": levels.scaled_linear(100, timesteps=500),
    "vp-sde": levels.vp_sde(200),
    "vp-sde, other rates": levels.vp_sde(100, 0.2, 12.0, 0.01),
    "cosine": levels.cosine(200),
    "cosine, few timesteps": levels.cosine(100, 80, 0.9),
    "flow": levels.flow(200, 3.0),
}
SCHEDULES = {
    "vp-sde": {"beta_start": 0.1, "beta_end": 20.0},
    "linear": {"beta_start": 1e-4, "beta_end": 0.02, "timesteps": 1000},
    "scaled-linear": {"beta_start": 0.00085, "beta_end": 0.012, "timesteps": 1000},
    "cosine": {"timesteps": 1000},
    "geometric": {"first": 0.01, "last": 50.0},
    "geometric, timesteps": {"first": 50.0, "last": 0.01, "timesteps": 1000},
    "karras": {"first": 0.002, "last": 80.0},
    "betas": {"values": [i / 4096 for i in range(1, 65)]},
    "alphas-cumprod": {"alphas_cumprod": [1 - i / 128 for i in range(1, 128)]},
    "alphas-cumprod, to 0": {"alphas_cumprod": [1 - i / 128 for i in range(1, 129)]},
    "flow": {},
    "flow, reverse": {"reverse": True},
}


def table_rows():
    """Yield rows of tables of integrators and plans, levels, schedules, forms of networks, and random numbers."""
    sizes, frictions = np.arange(1, 41) ** 2 / 512, np.array([1e-9, 0.003, 0.3, 1.0, 2.7, 40.0, 1e5])
    h, friction = (grid.ravel() for grid in np.meshgrid(sizes, frictions))
    for name, scheme in (CATALOGUE | INTEGRATORS).items():
        yield f"tables {name}", coefficients(lay_out([scheme.stages(h, friction=friction)], np.dtype(float)))
    for name in PLANS:
        yield f"tables preset {name}", {"tables": hashed(tables_of(uldnum.preset(name))[1])}
    for name, made in {**RUN_PLANS, **ADAPTIVE_PLANS}.items():
        tables, digest = tables_of(made)
        own = {"tables": hashed(digest), "levels": hashed(made.alpha, made.sigma)}
        yield f"tables plan {name}", own | coefficients(tables)
    for name, family in product(PREDICTORS, ("karras", "cosine")):
        yield f"tables {name}, {family}", {"tables": hashed(tables_of(plan(name, LEVELS[family]))[1])}
    for name, at in LEVELS.items():
        yield f"levels {name}", {"alpha": hashed(at.alpha), "sigma": hashed(at.sigma), "ratio": hashed(at.ratio)}
    for name, described in SCHEDULES.items():
        known = schedule({"kind": name.partition(",")[0]} | described)
        ratios = [known.ratio(known.end * i / 512) for i in range(513)]
        times = [known.time(ratio) for ratio in ratios[1:-1]]
        yield f"schedule {name}", {"ratio": hashed(ratios), "time": hashed(times), "limits": hashed(known.limits)}
    for name in PARAMETERISATIONS:
        forms = [form(name, a, s, 0.47) for a, s in zip(ALPHA.tolist(), SIGMA.tolist(), strict=True)]
        yield f"form {name}", {"numbers": hashed(forms)}
    drawn = 70, 2**40 + 7, 5
    yield (
        "random numbers",
        {"uniform": hashed(initial_uniform(*drawn)), "normal": hashed(initial_normals(*drawn, 3, 41))},
    )


# ----------------------------------------------------------------------------------------------- runs at a single level


def sample_rows():
    """Yield runs of all integrators and on all targets by the Numba executor, and some by the array executor."""
    given = CHAINS | STEPS | GROUPS
    one = mixture(2, "full", 1)
    foreign = StrictGaussian(one.weights, one.means, covariances=one.covariances)
    for dtype in DTYPES:
        run = partial(sample, **given, dtype=dtype)
        for name, scheme in (INTEGRATORS | THREE_ROWS).items():
            yield f"sample {name} {dtype}", parts(run(mixture(2, "diagonal"), scheme))
        for name in TARGETS:
            target = uldnum.target(name)
            h = float(np.min(target.standard_deviation)) * np.array(GROUPS["h"])
            # The Numba executor would compile a user's score again in each process.
            backend = "array" if name == "double-well" else "numba"
            yield f"sample on {name} {dtype}", parts(run(target, "OBABO", h=h, backend=backend))
        for name, target in MIXTURES.items():
            yield f"sample on mixture, {name} {dtype}", parts(run(target, "UBU"))
        for name in ("ula", "mild(0.38)", "BAOAB", "UBU", "ghmc"):
            for kind in ("diagonal", "full"):
                yield f"arrays {name} {kind} {dtype}", parts(run(mixture(2, kind), name, backend="array"))
        yield f"strict arrays OBABO full {dtype}", parts(run(foreign, "OBABO", backend="array"))
        yield f"sample diverging {dtype}", parts(run(mixture(2, "diagonal"), "ula", h=[0.3, 40.0]))
    yield "sample one delta", parts(sample(mixture(3, "full"), "BAOAB", delta=0.03, **CHAINS | STEPS))


def simulator_rows():
    """Yield runs of a few chains by the CUDA kernels in Numba's simulator."""
    from uldnum.kernels.cuda.binding import SIMULATED

    assert SIMULATED, "set NUMBA_ENABLE_CUDASIM=1 before Numba is imported"
    three = CHAINS | {"chains": 3, "backend": "cuda"}
    few = {"steps": 4, "burn_in": 1, "thin": 2, "bins": 8} | GROUPS | three
    annealed = plan("BAOAB", levels.geometric(3.0, 0.3, 3), steps=2, h=0.5)
    for dtype in DTYPES:
        for name, target in (
            ("ula", mixture(1, "isotropic")),
            ("BAOAB", mixture(2, "diagonal")),
            ("UBU", mixture(2, "full")),
        ):
            yield f"simulator {name} {dtype}", parts(sample(target, name, dtype=dtype, **few))
        yield f"simulator plan {dtype}", parts(anneal(mixture(2, "full"), annealed, dtype=dtype, **three))


# --------------------------------------------------------------------------------------------------------------- plans

VE, KARRAS = levels.geometric(8.0, 0.1, 7), levels.karras(8.0, 0.1, 7)
VP, COSINE = levels.vp_sde(7, last=0.05), levels.cosine(7)

RUN_PLANS = {
    "ALD": plan("ula", VE, steps=3, eps=0.004),
    "ALD, linear": plan("ula", VP, steps=3, h=0.3),
    "BAOAB, karras": plan("BAOAB", KARRAS, steps=3, h=0.5, friction=2.0),
    "BAOAB, cosine, shared": plan("BAOAB", COSINE, steps=3, h=0.5, boundary="shared"),
    "OBABO, shared, refreshed": plan("OBABO", VE, h=0.7, boundary="shared", momentum="refreshed"),
    "UBU, refreshed": plan("UBU", VE, steps=2, h=0.6, momentum="refreshed", denoise=False),
    "baoab-limit, linear": plan("baoab-limit", VP, steps=2, h=1.0),
    "MILD, rescaled": plan("mild(0.38)", VE, steps=2, h=0.3, momentum="rescaled"),
    "predictor-corrector": plan("ula", VE, h=0.3, predictor="reverse-diffusion"),
    "heun and BAOAB, linear": plan("BAOAB", VP, h=0.3, steps=2, predictor="heun(0.1)"),
    "ddim, cosine": plan("ddim", COSINE),
    "ddim(0.5), linear": plan("ddim(0.5)", VP),
    "ancestral, cosine": plan("ancestral", COSINE),
    "reverse-diffusion": plan("reverse-diffusion", VE),
    "edm-euler(0.3), karras": plan("edm-euler(0.3)", KARRAS),
    "heun, karras": plan("heun", KARRAS),
    "dpm-solver++, linear": plan("dpm-solver++", VP),
    "dpm-solver++(3), linear": plan("dpm-solver++(3)", VP),
    "noise of EDM, karras": plan("heun(0.2,0.3,4,1.01)", KARRAS),
    "restart, karras": plan("heun", KARRAS, restarts=[(3, 2, 0.4, 2.0)]),
    "PIDLD": plan("pidld(2,0.5,4.5,0.9,0.8)", VE, steps=2, eps=0.001),
    "MILD, a momentum for each level": plan([f"mild({i / 16})" for i in range(7)], VE, steps=2, h=0.3),
}
# Plans in which a rule chooses the step size of each chain; they need the array executor and at least 64 dimensions.
ADAPTIVE_PLANS = {
    "adaptive steps": plan("ula", VE, steps=2, snr=0.16, predictor="reverse-diffusion"),
    "adaptive steps, linear, coupled": plan("BAOAB", VP, snr=0.16, coupled=True),
}


def plan_rows():
    for name, made in RUN_PLANS.items():
        for kind, dtype in (("diagonal", "float64"), ("full", "float64"), ("isotropic", "float32")):
            yield f"plan {name} {kind} {dtype}", parts(anneal(mixture(2, kind), made, dtype=dtype, **CHAINS))
    for kind, dtype in (("full", "float64"), ("full", "float32")):
        run = anneal(mixture(5, kind), RUN_PLANS["predictor-corrector"], dtype=dtype, backend="array", **CHAINS)
        yield f"arrays plan {kind} {dtype}", parts(run)
    for x0 in ("target", "normal", "uniform"):
        run = anneal(mixture(3, "full"), RUN_PLANS["MILD, rescaled"], x0=x0, keep=True, **CHAINS)
        yield f"plan from {x0}", parts(run)
    for name, made in ADAPTIVE_PLANS.items():
        yield f"plan {name}", parts(anneal("high-dim", made, backend="array", **CHAINS))


# ------------------------------------------------------------------------------------------------- stopped and resumed

# Name -> a run, and the number of checks for Ctrl-C after which it is stopped, within a level of a plan.
RESUMED = {
    "sample": (partial(sample, mixture(3, "full"), "UBU", **CHAINS | STEPS | GROUPS), 3),
    "sample, float32": (partial(sample, mixture(5, "full"), "BAOAB", dtype="float32", **CHAINS | STEPS | GROUPS), 3),
    "anneal": (partial(anneal, mixture(2, "full"), RUN_PLANS["BAOAB, karras"], keep=True, **CHAINS), 9),
    "anneal, linear": (partial(anneal, mixture(2, "diagonal"), RUN_PLANS["heun and BAOAB, linear"], **CHAINS), 9),
}


@contextmanager
def stopping(checks):
    """Stop runs after a number of checks for Ctrl-C, in launches of one step."""

    @contextmanager
    def interruptible():
        asked = iter([False] * checks)
        yield lambda: next(asked, True)

    with ExitStack() as stack:
        stack.enter_context(patch.object(launch, "interruptible", interruptible))
        stack.enter_context(patch.object(launch, "next_launch", lambda *_: 1))
        stack.enter_context(patch.object(NumbaExecutor, "first_launch", lambda executor, state: 1))
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", "stopped after")
        yield


def whole_rows():
    for name, (whole, _) in RESUMED.items():
        yield f"whole {name}", parts(whole())


def chained_rows():
    """Yield runs that start from positions without a seed, and from the ends of other runs."""
    options = {"h": 0.3, "steps": 5, "progress": False}
    start = np.arange(-70.0, 70.0).reshape(70, 2) / 64
    first = sample(mixture(2, "full"), "BAOAB", x0=start, chains=70, first_chain=5, **options)
    runs = {"positions": first, "a run": sample(mixture(2, "diagonal"), "UBU", x0=first, **options)}
    runs["a run, plan"] = anneal(mixture(2, "full"), RUN_PLANS["BAOAB, karras"], x0=runs["a run"], progress=False)
    for name, run in runs.items():
        yield f"from {name}", parts(run) | {"key": hashed(np.array([run.settings.key], np.uint64))}


def resumed_rows(folder, process):
    """Resume the runs that this process and earlier ones stopped and stored.

    Yields the process that stopped a run, the name of the run, and its row or the error with which it was refused.
    """
    for name, (whole, checks) in RESUMED.items():
        with stopping(checks):
            stopped = whole()
        assert not stopped.complete
        assert stopped.state.step > 2
        stopped.save(folder / f"{process}-{name}.nc")
        for path in sorted(folder.glob(f"*-{name}.nc")):
            try:
                row = parts(whole(resume=path))
            except ValueError as error:
                row = {"error": str(error)}
            yield path.name.partition("-")[0], name, row


# ----------------------------------------------------------------------------------------------------- keys of studies


def key_rows():
    """Yield the keys of points of studies, without the version and the hash of the sources."""
    with patch.multiple(points, VERSION="", CODE=[]):
        for target in (*map(uldnum.target, ("gaussian", "ring-8", "ill-conditioned")), mixture(3, "full")):
            row = {}
            for name, scheme in INTEGRATORS.items():
                exact = points.Exact(target, scheme, 0.3, 1.7, 1e-6, True)
                sampled = points.Sampled(target, scheme, 0.3, 1.7, 1000, 10, 64, 3, None)
                row[name] = hashed(exact.key, sampled.key)
            yield f"keys {target.name}", row


# ------------------------------------------------------------------------------------------------------------- process


def effect():
    """Return the instructions of NumPy and Numba, the kernels of OpenBLAS, and the variant of libm in this process."""
    import scipy.linalg  # noqa: F401  (loads its own OpenBLAS)
    from numba import njit
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    @njit("void(float64[::1], float64[::1])")
    def add(x, y):
        for i in range(len(x)):
            y[i] += x[i]

    (code,) = add.inspect_asm().values()
    x = [i / 64 for i in range(1, 2049)]
    return {
        "instructions": [name for name, there in __cpu_features__.items() if there],
        "numpy": [name for name in __cpu_dispatch__ if __cpu_features__[name]],
        "openblas": [library["architecture"] for library in threadpool_info() if library["internal_api"] == "openblas"],
        "libm": hashed(*([function(value) for value in x] for function in (math.exp, math.sin, math.cos, math.atan))),
        "numba": [register for register in ("xmm", "ymm", "zmm") if register in code],
    }


PARTS = table_rows, target_rows, sample_rows, simulator_rows, plan_rows, whole_rows, chained_rows, key_rows


def rows():
    """Return all rows: name -> hashes of the parts of a result, which show where a difference starts."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* diverged")
        # 32-bit words wrap around in the simulator.
        warnings.filterwarnings("ignore", ".*overflow encountered", RuntimeWarning)
        return {name: row for part in PARTS for name, row in part()}


def text(found):
    """Return rows as JSON, one per line."""
    return "{\n" + ",\n".join(f"{json.dumps(name)}: {json.dumps(found[name])}" for name in sorted(found)) + "\n}\n"


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        DATA.parent.mkdir(exist_ok=True)
        DATA.write_text(text(rows()))
    else:
        folder, process = Path(sys.argv[1]), sys.argv[2]
        report = {"effect": effect(), "rows": rows(), "resumed": list(resumed_rows(folder, process))}
        (folder / f"{process}.json").write_text(json.dumps(report))
