"""Runs of the GPU kernels in Numba's simulator.

This module is run as a script, in a process of its own, and stores the results of the runs. Numba determines whether to
simulate a GPU only once per process.
"""

import sys
import warnings
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import uldnum
from analysis.gpu_check import Images, NoisedImages
from helpers.catalogue import METROPOLISED, SHAPES
from helpers.onnx_models import Graph, Value
from helpers.plans import stop_and_go_on
from helpers.scores import LIFTED, WITH_DENSITY, branching, counting_conditions, rosenbrock
from uldnum.networks.score import NetworkLevel

DTYPES = ("float64", "float32")
TOLERANCE = {"float64": 1e-13, "float32": 5e-6}
ADAPTIVE_TOLERANCE = {"float64": 1e-12, "float32": 5e-6}  # step sizes are computed from sums in another order
SCHEMES = [*SHAPES, "ABAOABA"]
# A scheme whose readout uses normals of its own with a noisy score, at another temperature.
NOISY, CONDITIONS = ("UBU", "2", "float64"), {"temperature": 2.0, "score_noise": 0.7}
# Score noise that differs between the coordinates: in registers, partly in registers, and in global memory.
ERRORS = [("BAOAB", "2", "float64"), ("UBU", "2", "float32"), ("UBU", "5", "float64"), ("OABAO", "9 full", "float64")]
# Masses in the dimensions of the targets; the frame of a chain is read in registers and in global memory.
MASSES = [
    (("BAOAB", name, dtype), mass)
    for name, d in (("2", 2), ("2 full", 2), ("9 full", 9))
    for dtype in DTYPES
    for mass in (2 + np.arange(d) / d, np.eye(d) + 0.5)
]
# Momenta that are recorded: in registers, partly in registers, and in global memory.
MOMENTA = [
    ((scheme, name, dtype), f"phase-space-{moments}")
    for scheme, name, dtype, moments in (
        ("BAOAB", "1", "float64", "covariance"),
        ("OBABO", "2", "float32", "covariance"),
        ("UBU", "3 diagonal", "float64", "variance"),
        ("UBU", "5", "float32", "covariance"),
        ("BAOAB", "9 full", "float64", "covariance"),
    )
]
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


def mixture(d, kind="isotropic", components=3):
    rng = np.random.default_rng(d)
    weights, means = np.full(components, 1 / components), rng.normal(size=(components, d))
    if kind == "isotropic":
        return uldnum.GaussianMixture(weights, means, rng.uniform(0.5, 2, size=components))
    if kind == "equal":
        return uldnum.GaussianMixture(weights, means, np.full(components, 0.7))
    if kind == "diagonal":
        return uldnum.GaussianMixture(weights, means, rng.uniform(0.5, 2, size=(components, d)))
    roots = np.eye(d) + 0.3 * np.tril(rng.normal(size=(components, d, d)))
    return uldnum.GaussianMixture(weights, means, covariances=roots @ roots.swapaxes(1, 2))


# Chains in registers, mostly in registers, and in global memory; mixtures in registers and in global memory.
TARGETS = {
    "1": mixture(1),
    "2": mixture(2),
    "2 equal": mixture(2, "equal", 5),
    "3 diagonal": mixture(3, "diagonal"),
    "2 full": mixture(2, "full"),
    "2 of 40": mixture(2, components=40),
    "5": mixture(5),
    "9 full": mixture(9, "full"),
}
CASES = [(scheme, "2", dtype) for scheme in SCHEMES for dtype in DTYPES]
CASES += [(scheme, name, dtype) for scheme in ("BAOAB", "UBU") for name in TARGETS if name != "2" for dtype in DTYPES]


def sample(case, backend, steps=7, **changes):
    scheme, name, dtype = case
    arguments = {"h": [0.2, 0.4], "burn_in": 2, "chains": 3, "first_chain": 4, "seed": 2**40 + 5, "thin": 3}
    options = {"bins": 0 if name == "5" else 8, "dtype": dtype, "backend": backend, "steps": steps, "progress": False}
    return uldnum.sample(TARGETS[name], scheme, **arguments | options | changes)


# Steps with Metropolis tests, which reject some proposals.
TESTED = [(word, "2", dtype) for word in (*METROPOLISED, "OO{BABAB}O", "O{ABA}") for dtype in DTYPES]
TESTED += [("ghmc", name, dtype) for name in TARGETS if name not in ("2", "2 of 40") for dtype in DTYPES]


def sample_tested(case, backend, **changes):
    """Sample with Metropolis tests."""
    return sample(case, backend, **{"h": [0.9, 1.4], "friction": 0.8, "temperature": 1.5} | changes)


# Scores of users, also of chains that are partly and entirely in global memory. In the simulator the sum of two
# conditions is a condition, so it cannot run the score that counts them.
USERS = [
    (score, d, args, dtype)
    for score, d, args, _ in [*LIFTED, (rosenbrock, 6, (1.0, 5.0), ""), (rosenbrock, 9, (1.0, 5.0), "")]
    if score is not counting_conditions
    for dtype in DTYPES
]


# Log densities of users.
DENSITIES = [(*case, dtype) for case in WITH_DENSITY for dtype in DTYPES]


def sample_density(case, backend):
    """Sample with a user's log density, and with Metropolis tests that reject some proposals."""
    score, density, d, args, dtype = case
    own = {"log_density": density, "returns_log_density": density is None}
    return sample_user((score, d, args, dtype), backend, scheme="ghmc", known=own, h=[0.3, 0.5])


def sample_user(case, backend, scheme="UBU", known=None, **changes):
    """Sample with a user's score, and with a mass that is not diagonal."""
    score, d, args, dtype = case

    def start(n, seed, first):
        return np.linspace(-1, 1.5, n * d).reshape(n, d)

    target = uldnum.UserTarget(score, d, sampler=start, args=args, **known or {})
    options = {"h": [0.1, 0.2], "steps": 9, "burn_in": 2, "chains": 3, "first_chain": 4, "seed": 2**40 + 5, "thin": 3}
    options |= {"mass": np.eye(d) + 0.5 if d % 3 == 0 else None, "dtype": dtype, "backend": backend}
    return uldnum.sample(target, scheme, progress=False, **options | changes)


def anneal_user(backend):
    """Run a plan whose levels have different scores, with arguments of different types."""

    def noised(alpha, sigma):
        return uldnum.UserTarget(
            *((branching, 3) if sigma > 1 else (rosenbrock, 3)), args=(np.inf,) if sigma > 1 else (1, 0.5)
        )

    plan = uldnum.plan("BAOAB", uldnum.levels.geometric(2.0, 0.5, 4), steps=3, h=0.2)
    data = uldnum.UserTarget(branching, 3, args=(np.inf,), noised=noised)
    return uldnum.anneal(data, plan, chains=3, x0=np.ones((3, 3)), seed=1, backend=backend, progress=False)


IMAGES = Images((3, 2, 2), np.zeros(1)), Images((1, 5), np.zeros(1))
IMAGE_CASES = [
    (scheme, images, dtype)
    for scheme in ("BAOAB", "OBABO", "UBU", "mild(0.5)", "ABAOABA", "ULA")
    for images in IMAGES
    for dtype in DTYPES
]


def sample_images(case, backend):
    """Sample images at two step sizes. With ULA the second step size is far from stable."""
    scheme, images, dtype = case
    h = [0.2, 60.0] if scheme == "ULA" else [0.2, 0.4]
    options = {"h": h, "steps": 5, "burn_in": 1, "chains": 3, "first_chain": 4, "seed": 2**40 + 5, "thin": 2}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return uldnum.sample(images, scheme, dtype=dtype, backend=backend, progress=False, **options)


def sample_with_errors(case, backend):
    """Sample with another score noise in each coordinate."""
    return sample(case, backend, score_noise=0.3 + np.arange(TARGETS[case[1]].shape[0]), temperature=2.0)


def results(run):
    state = run.state
    own = (state.sums, state.products, state.counts, state.escape_step, state.nfe)
    carried = (state.score, state.log_density, state.accepted)
    parts = (state.u, state.phase_space, run.trace, *own, *carried)
    return [np.asarray(part) for part in parts]


def update(u, s, coefficients, apart, first_chain):
    """Launch one map on u (rows, chains, size), with tables of each chain (apart = 1) or common tables (apart = 0)."""
    from uldnum.kernels.cuda.device import device
    from uldnum.kernels.cuda.stages import Batch, MapTable, Numbers, StageForm, stage_kernel
    from uldnum.kernels.source.core import NEVER

    k, chains, size = u.shape
    dA, b, C = (part.ravel() for part in coefficients)
    flat, bound = u.reshape(-1), np.full(size, 1e9)
    values = {
        "images": Batch(flat, flat, s.ravel(), -bound, bound, np.full(chains, NEVER)),
        "of": MapTable(dA, b, C, apart),
        "numbers": Numbers(chains, size, first_chain, 6, 0, np.uint64(1), np.uint64(2), 3),
    }
    kernel = stage_kernel(StageForm("float64", False, k, k, 1, 0, 2, 0, False))
    device().launch(kernel, (chains * -(-size // 4), 1), values)


def tables_of_each_chain():
    """Return the difference between one launch with separate tables for each chain, and one launch per chain."""
    rng = np.random.default_rng(0)
    k, chains, size = 2, 3, 5
    u, s = rng.normal(size=(k, chains, size)), rng.normal(size=(chains, size))
    coefficients = [rng.normal(size=(chains, *shape)) for shape in ((k, k), (k,), (k, 1))]
    together = u.copy()
    update(together, s, coefficients, 1, 0)
    for c in range(chains):
        alone = u[:, c : c + 1].copy()
        update(alone, s[c : c + 1], [part[c] for part in coefficients], 0, c)
        u[:, c : c + 1] = alone
    return np.abs(together - u)


def stopped_plans(path):
    """Return ends of a plan with phases of two forms: of a whole run, and of runs stopped between or within phases."""
    from uldnum.kernels.cuda.executor import CudaExecutor

    levels = uldnum.levels.geometric(2.0, 0.5, 3)
    plan = uldnum.plan("UBU", levels, steps=3, h=0.5, predictor="ancestral", momentum="refreshed")
    options = {"chains": 3, "first_chain": 4, "seed": 5, "backend": "cuda"}
    ends = []
    with pytest.MonkeyPatch.context() as patch:
        for launch, checks, keep in ((1, 3, False), (1, 3, True), (1, 5, False)):
            patch.setattr(CudaExecutor, "first_launch", lambda executor, state, launch=launch: launch)
            whole, stopped, longer = stop_and_go_on(
                patch, path, checks, TARGETS["3 diagonal"], plan, keep=keep, **options
            )
            assert stopped.state.step == checks
            ends += [whole.state.phase_space, longer.state.phase_space, *(longer.trace[-1:] if keep else ())]
    return ends


def stopped_adaptive_plan(path, backend):
    """Return the ends of a plan of images with adaptive step sizes: of a whole run, and of one stopped in a phase."""
    plan = uldnum.plan("BAOAB", uldnum.levels.geometric(2.0, 0.5, 2), steps=4, snr=0.16)
    options = {"chains": 3, "x0": "target", "seed": 5, "backend": backend}
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.filterwarnings("ignore", ".*biases the samples")
        law = NoisedImages((1, 5), np.zeros(1))
        whole, stopped, longer = stop_and_go_on(patch, path, 6, law, plan, **options)
    assert 4 < stopped.state.step < 8
    return [np.concatenate([run.state.phase_space.ravel(), run.state.nfe.ravel()]) for run in (whole, longer)]


# Images with more blocks of four coordinates than a chain has threads, with two normals per coordinate.
NORMS = {"size": 1030, "chains": 3, "first": 5, "m": 2, "seed": 2**40 + 5}


def scores_of_norms():
    return np.random.default_rng(0).normal(size=(NORMS["chains"], NORMS["size"]))


def sums_of_squares(first_chain, chains):
    """Return the sums of squares of normals and scores of some chains, as the GPU computes them, shape (2, chains)."""
    from uldnum.kernels.cuda.device import device
    from uldnum.kernels.cuda.images import ImageExecutor
    from uldnum.kernels.source.core import split_seed

    machine = ImageExecutor.__new__(ImageExecutor)
    machine.device, machine.dtype, machine.fast, machine.size = device(), np.dtype(float), False, NORMS["size"]
    machine.key, machine.program = split_seed(np.uint64(NORMS["seed"])), SimpleNamespace(first_chain=first_chain)
    return np.array(machine.squares([scores_of_norms()[first_chain:][:chains]], NORMS["first"], NORMS["m"]))


# Runs that two GPUs share: cases, and options that change their number of chains and what they record.
SPLIT = [
    (("UBU", "2", "float64"), {"chains": 6}),
    (("BAOAB", "2", "float32"), {"chains": 5, "bins": 0}),
    (("ULA", "1", "float64"), {"chains": 36, "steps": 5}),  # 32 batches, of one and two chains
]


def split_runs():
    """Yield the same results on one GPU and on two."""
    for case, options in SPLIT:
        yield [results(sample(case, "cuda", **options, devices=devices)) for devices in (None, [1, 0])]
    case, options = SPLIT[0]
    first = sample(case, "cuda", **options | {"steps": 4}, devices=[0, 1])
    yield [results(sample(case, "cuda", **options)), results(sample(case, "cuda", **options, resume=first))]
    plan = uldnum.plan("UBU", uldnum.levels.geometric(2.0, 0.5, 3), h=0.5, predictor="ancestral", momentum="refreshed")
    options = {"chains": 5, "seed": 5, "keep": True, "backend": "cuda", "progress": False}
    yield [results(uldnum.anneal(TARGETS["2"], plan, **options, devices=devices)) for devices in (None, [0, 1])]


def coupled_module():
    """Return a PyTorch denoiser whose output for an image depends on all images of a call, and on a label."""
    import torch

    class Coupled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.tensor(0.5))

        def forward(self, z, sigma, label):
            return self.weight * z + torch.tanh(z.sum()) / 8 + label[:, None, None, None]

    return Coupled().eval()


def coupled_model(path):
    """Write an ONNX model of the same function."""
    graph = Graph()
    z, label = Value(graph, "z"), Value(graph, "label")
    total = graph.node("Tanh", graph.node("ReduceSum", z, keepdims=1))
    shift = graph.node("Reshape", label, np.array([-1, 1, 1, 1]))
    graph.node("Add", graph.node("Add", z * np.float32(0.5), total * np.float32(0.125)), shift, output="denoised")
    sizes = {"z": ["n", 1, 1, 5], "sigma": ["n"], "label": ["n"], "denoised": ["n", 1, 1, 5]}
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in sizes.items()]
    made = helper.make_graph(graph.nodes, "coupled", values[:3], values[3:], graph.weights)
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def split_networks(path):
    """Yield the same results of chains on networks on one GPU and on two.

    Networks run on the CPU here, where the simulator has the chains. Three labels belong to seven chains in turn, and a
    call has two images.
    """
    card = {"parameterisation": "denoiser", "scaling": "ve", "condition": "sigma", "shape": (1, 1, 5)}
    options = {"inputs": {"label": np.array([0.0, 0.3, 0.7], np.float32)}, "chunk": 2}
    common = {"chains": 7, "first_chain": 4, "seed": 5, "backend": "cuda", "progress": False}
    levels = uldnum.levels.geometric(2.0, 0.5, 3)
    plans = [
        uldnum.plan("UBU", levels, steps=2, h=0.5, predictor="ancestral", momentum="refreshed"),
        uldnum.plan("heun", levels),
        uldnum.plan("ula", levels, snr=0.16),
    ]
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*biases the samples")
        patch.setattr(NetworkLevel, "like", np.zeros(1))
        for source in (coupled_module(), coupled_model(path)):
            net = uldnum.networks.Network(source, card, **options)
            runs = [partial(uldnum.sample, net.at(0.5), "UBU", h=[0.2, 0.4], steps=5, burn_in=1, thin=2)]
            runs += [partial(uldnum.anneal, net, plan, keep=True) for plan in plans]
            for run in runs:
                yield [results(run(devices=devices, **common)) for devices in (None, [0, 1])]
            few = partial(runs[0], **common | {"chains": 2})
            with pytest.raises(ValueError, match="chains: must be at least 3, for 2 GPUs that evaluate 2 images"):
                few(devices=[0, 1])
        assert min(net.model.seconds, net.model.copies[1].seconds) > 0
        coupled = uldnum.plan("ula", levels, snr=0.16, coupled=True)
        with pytest.raises(ValueError, match="devices: must be one GPU for coupled step sizes"):
            uldnum.anneal(net, coupled, devices=[0, 1], **common)
        np.testing.assert_array_equal(*(uldnum.anneal(net, coupled, devices=one, **common).x for one in (None, [1])))


def launches_by_device():
    """Return the numbers of launches of each GPU in a run that two share."""
    from uldnum.kernels.cuda.device import Simulator

    seen, launch = [], Simulator.launch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Simulator, "launch", lambda here, *given: (seen.append(here.number), launch(here, *given)))
        sample(SPLIT[0][0], "cuda", chains=2, devices=[0, 1])
    return [seen.count(number) for number in (0, 1)]


def unlike_cpu():
    """Yield runs of plans on the GPU and on the CPU that take less common paths of the executor.

    These are phases of several forms, chains in global memory with two forms, levels that do not fit into one launch,
    and chains that diverge.
    """

    def both(target, plan):
        options = {"chains": 4, "first_chain": 9, "seed": 5, "progress": False}
        return [uldnum.anneal(target, plan, backend=backend, **options).state for backend in ("cuda", "numba")]

    levels = uldnum.levels.geometric(2.0, 0.5, 4)
    plan = uldnum.plan("UBU", levels, steps=3, h=0.5, predictor="ancestral", momentum="refreshed")
    yield both(TARGETS["3 diagonal"], plan)
    yield both(TARGETS["9 full"], plan)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("uldnum.kernels.cuda.executor.MAX_COEFFICIENTS", 400)
        yield both(TARGETS["2 of 40"], uldnum.plan("ula", uldnum.levels.geometric(5.0, 0.1, 7), h=0.5))
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", UserWarning)
        wild = uldnum.plan("ula", uldnum.levels.given([1.0, 0.9, 0.8]), steps=10, h=2.6)
        yield both("ring-8", wild)


def simulate(path):
    """Run every case in the simulator, one of them in two pieces, and compute the known answers."""
    from analysis import gpu_check
    from uldnum.kernels.cuda.binding import SIMULATED, ops
    from uldnum.kernels.cuda.device import device
    from uldnum.kernels.source.core import make_core

    assert SIMULATED
    saved = {}
    with np.errstate(over="ignore"):
        philox = make_core(ops(np.dtype(float), False)).philox
        for n, (counter, key, _) in enumerate(KNOWN_ANSWERS):
            words = philox(*map(np.uint64, counter), *map(np.uint64, key))
            saved[f"philox {n}"] = np.array([int(word) & 0xFFFFFFFF for word in words])
    for n, case in enumerate(CASES):
        saved |= {f"{n} {i}": part for i, part in enumerate(results(sample(case, "cuda")))}
    for n, case in enumerate(IMAGE_CASES):
        saved |= {f"image {n} {i}": part for i, part in enumerate(results(sample_images(case, "cuda")))}
    gpu_check.CHAINS, gpu_check.STEPS, gpu_check.SCHEMES = 2, 10, ("BAOAB",)
    saved["checked"] = np.array([row["relative, 20 steps"] for row in gpu_check.bits() if row["dtype"] == "float64"])
    with pytest.MonkeyPatch.context() as patch:
        for name, few in {"KINDS": "float64", "USER_DIMENSIONS": 2, "TESTED": "ghmc", "TESTED_ON": "ring-8"}.items():
            patch.setattr(gpu_check, name, (few,))
        rows = [*gpu_check.user_bits(), *gpu_check.tested_bits()]
    saved["checked further"] = np.array([row["relative, 20 steps"] for row in rows])
    saved["varies"] = np.array([name for found in gpu_check.invariance(device()).values() for name in found])
    saved["images"] = np.array([row["relative"] for row in gpu_check.image_chains(device())])
    gpu_check.PLAN_LEVELS = 3
    plans = gpu_check.plans()
    saved["plans"] = np.array([row["relative"] / TOLERANCE[row["dtype"]] for row in plans])
    saved["plans count"] = np.array([row["left and nfe equal"] for row in plans])
    for n, (gpu, cpu) in enumerate(unlike_cpu()):
        saved |= {
            f"gpu {n}": gpu.phase_space,
            f"cpu {n}": cpu.phase_space,
            f"left {n}": np.array([gpu.escape_step, cpu.escape_step, gpu.nfe, cpu.nfe]),
        }
    saved |= {f"stopped {i}": part for i, part in enumerate(stopped_plans(path.with_name("plan.nc")))}
    adaptive = gpu_check.adaptive_chains(device())
    saved["adaptive"] = np.array([row["relative"] / ADAPTIVE_TOLERANCE[row["dtype"]] for row in adaptive])
    saved["adaptive count"] = np.array([row["left and nfe equal"] for row in adaptive])
    saved["adaptive diverged"] = np.array([row["diverged"] for row in adaptive])
    saved["adaptive stopped"] = np.array(stopped_adaptive_plan(path.with_name("adaptive.nc"), "cuda"))
    for n, both in enumerate([*split_runs(), *split_networks(path.with_name("coupled.onnx"))]):
        for where, parts in zip(("one", "two"), both, strict=True):
            saved |= {f"{where} {n} {i}": part for i, part in enumerate(parts)}
    saved["launches"] = np.array(launches_by_device())
    saved["norms"] = sums_of_squares(0, NORMS["chains"])
    saved["norms alone"] = np.concatenate([sums_of_squares(c, 1) for c in range(NORMS["chains"])], axis=1)
    saved["apart"] = tables_of_each_chain()
    first = sample(("UBU", "3 diagonal", "float64"), "cuda", steps=4)
    whole = sample(("UBU", "3 diagonal", "float64"), "cuda", steps=7, resume=first)
    saved |= {f"resumed {i}": part for i, part in enumerate(results(whole))}
    saved |= {f"conditions {i}": part for i, part in enumerate(results(sample(NOISY, "cuda", **CONDITIONS)))}
    for n, case in enumerate(ERRORS):
        saved |= {f"errors {n} {i}": part for i, part in enumerate(results(sample_with_errors(case, "cuda")))}
    for n, (case, mass) in enumerate(MASSES):
        saved |= {f"mass {n} {i}": part for i, part in enumerate(results(sample(case, "cuda", mass=mass)))}
    for n, case in enumerate(TESTED):
        saved |= {f"tested {n} {i}": part for i, part in enumerate(results(sample_tested(case, "cuda")))}
    part = sample_tested(TESTED[0], "cuda", steps=4)
    whole = sample_tested(TESTED[0], "cuda", resume=part)
    saved |= {f"tested resumed {i}": one for i, one in enumerate(results(whole))}
    saved["acceptance"] = np.stack([whole.acceptance, whole.acceptance_error])
    for n, case in enumerate(USERS):
        saved |= {f"user {n} {i}": part for i, part in enumerate(results(sample_user(case, "cuda")))}
    for n, case in enumerate(DENSITIES):
        saved |= {f"density {n} {i}": part for i, part in enumerate(results(sample_density(case, "cuda")))}
    part = sample_user(USERS[0], "cuda", steps=4)
    saved |= {f"user resumed {i}": one for i, one in enumerate(results(sample_user(USERS[0], "cuda", resume=part)))}
    saved["user levels"] = anneal_user("cuda").x
    for n, (case, record) in enumerate(MOMENTA):
        saved |= {f"momenta {n} {i}": part for i, part in enumerate(results(sample(case, "cuda", record=record)))}
    np.savez(path, **saved)


if __name__ == "__main__":
    simulate(Path(sys.argv[1]))
