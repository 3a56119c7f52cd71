"""Page: registers, stack and instructions of the GPU kernels per thread, by NVIDIA's tools. No GPU is needed."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numba
import numpy as np
from tqdm.auto import tqdm

import uldnum
from analysis import peers
from uldnum._util.typing import Array
from uldnum.kernels.cuda.binding import Kernel, ptx
from uldnum.kernels.cuda.chains import chain_kernel
from uldnum.kernels.cuda.executor import score_form
from uldnum.kernels.cuda.form import ChainForm
from uldnum.kernels.cuda.stages import StageForm, stage_kernel
from uldnum.kernels.source.core import COVARIANCE, MOMENTS, phase
from uldnum.schemes.stage import Affine, Step, first_row, table
from uldnum.targets.presets import ring_8

__all__ = ["ARCHITECTURES", "Case", "Count", "assemble", "cases", "count_all", "instructions", "kernel_of", "main"]

PAGE = Path(__file__).with_suffix(".md")

# Integrators of the catalogue for pairs (rows, normals of a stage). `full` constructs one for the other pairs.
SCHEMES = {(1, 1): "ULA", (2, 1): "BAOAB", (2, 2): "UBU"}
PAIRS = tuple(product((1, 2), (0, 1, 2)))

# Steps with Metropolis tests, by the same pairs, where the second number includes the normals of the readout.
TESTED = {(2, 1): "mala", (2, 2): "ghmc"}

# Dimensions and number of components of the mixtures.
DIMENSIONS = (1, 2, 3, 4, 8)
COMPONENTS = 8

# Dimensions of the kernels with a user's score.
USER_DIMENSIONS = (1, 2, 4)

NAMES = {"user": "a user's score", "tested": "Metropolis tests"}
ARCHITECTURES = ((8, 0), (9, 0))

# Instructions that `make_newton` refines to results that round as IEEE 754 requires.
SEEDS = r"\b(?:rcp|rsqrt)\.approx\.ftz\.f32\b"

# Instructions by kind; all others are loads, moves, comparisons, choices, conversions, branches and special functions.
KINDS = {
    "floating-point": r"[FD](ADD|MUL|FMA|MNMX)",
    "integer": r"U?(IADD3|IMAD|LOP3|SHF|LEA|ISETP|SEL)|VIADD",
}

# Type, whether the mode is fast, and index of the moments that are recorded.
STEPS = (("float32", False, 0), ("float32", False, COVARIANCE), ("float32", True, 0), ("float64", False, 0))


@dataclass(frozen=True)
class Case:
    """A kernel to compile.

    Attributes
    ----------
    name : str
        "chains" for chains on a mixture with all quantities recorded, "levels" for chains without recorded quantities,
        "user" for chains on a user's score, "tested" for chains with Metropolis tests, "update" for one map of images.
    k, m : int
        Rows of the memory, and normals of a stage; with Metropolis tests, also those of the readout.
    d : int
        Dimension of the mixture; 0 for "update".
    dtype : str
        "float32" or "float64".
    """

    name: str
    k: int
    m: int
    d: int
    dtype: str

    def kernel(self) -> Kernel:
        """Return the kernel."""
        if self.name == "update":
            return stage_kernel(StageForm(self.dtype, False, self.k, self.k, self.m, 0, 0, 0, True))
        schemes = TESTED if self.name == "tested" else SCHEMES
        scheme = schemes.get((self.k, self.m)) or full(self.k, self.m)
        target = uldnum.UserTarget(lattice, self.d, args=(0.5,)) if self.name == "user" else mixture(self.d)
        return kernel_of(target, scheme, np.dtype(self.dtype), records=self.name != "levels")


@dataclass(frozen=True)
class Count:
    """Resources of a thread on an architecture: registers, and bytes of stack and of spilled registers."""

    architecture: tuple[int, int]
    registers: int
    stack: int
    spilled: int
    loose: int  # instructions that may be contracted or do not round as IEEE 754 requires, except `SEEDS`; must be 0


def full(k: int, m: int) -> uldnum.Integrator:
    """Return an integrator with one stage in which every row depends on all rows and all normals."""

    def step(h: Array, friction: Array) -> Step:
        map = Affine(dA=table(h, [[h] * k] * k), b=table(h, [h] * k), C=table(h, [[h] * m] * k))
        return Step.on_step(first_row(map.b), map)

    return uldnum.Integrator(f"all of {k} rows and {m} normals", step)


def mixture(d: int) -> uldnum.GaussianMixture:
    """Return a mixture of isotropic components."""
    means = np.random.default_rng(d).normal(size=(COMPONENTS, d))
    return uldnum.GaussianMixture(np.full(COMPONENTS, 1 / COMPONENTS), means, np.ones(COMPONENTS))


@numba.njit
def lattice(x, out, stiffness):  # type: ignore[no-untyped-def]
    """Write the score of a chain of quartic wells that are coupled by springs, with a bump at the origin."""
    for i in range(len(x)):
        out[i] = x[i] - x[i] ** 3 + x[i] * np.exp(-(x[i] ** 2))
    for i in range(len(x) - 1):
        pull = stiffness * (x[i + 1] - x[i])
        out[i] += pull
        out[i + 1] -= pull


def kernel_of(target: Any, scheme: str | uldnum.Integrator, dtype: np.dtype[Any], records: bool = True) -> Kernel:
    """Return the kernel of an integrator on a target, which records everything or nothing."""
    asked = peers.program(target, dtype.type, scheme)
    form = ChainForm.of(phase(asked.tables, 0, 0), score_form(asked, 0), False, COVARIANCE * records, records)
    return chain_kernel(form)


def tool(name: str, package: str) -> Path:
    """Return the path of a tool of NVIDIA."""
    found = find_spec("nvidia.cu13")
    for folder in (found and found.submodule_search_locations) or ():
        if (path := Path(folder) / "bin" / name).exists():
            return path
    raise ModuleNotFoundError(f"{name} is not installed; run: pip install '{package}'")


def output(*command: Any) -> str:
    """Run a command and return what it prints."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def machine_code(text: str, architecture: tuple[int, int], folder: str) -> tuple[Path, str]:
    """Assemble PTX for an architecture; return the path of the machine code, and what the assembler prints."""
    source = Path(folder) / "kernel.ptx"
    source.write_text(text)
    path = source.with_suffix(".cubin")
    target = f"-arch=sm_{architecture[0]}{architecture[1]}"
    return path, output(tool("ptxas", "cuda-toolkit[nvcc]==13.0.*"), "-v", target, source, "-o", path)


def assemble(kernel: Kernel, architecture: tuple[int, int]) -> Count:
    """Compile a kernel for an architecture, and return the resources of a thread."""
    text = ptx(kernel, architecture)
    with tempfile.TemporaryDirectory() as folder:
        _, said = machine_code(text, architecture, folder)
    stack, *spilled = re.findall(r"(\d+) bytes (?:stack frame|spill)", said)
    registers = re.search(r"Used (\d+) registers", said)
    assert registers is not None
    loose = re.findall(r"\b(?:mul|add|sub)\.f(?:32|64)\b|\.approx|\.ftz|div\.full", re.sub(SEEDS, "", text))
    return Count(architecture, int(registers[1]), int(stack), sum(map(int, spilled)), len(loose))


def instructions(scheme: str, dtype: str, fast: bool, moments: int, architecture: tuple[int, int]) -> dict[str, float]:
    """Return the numbers of instructions of a time step on ring-8, by kind and in all."""
    asked = peers.program(ring_8(), np.dtype(dtype).type, scheme)
    form = ChainForm.of(phase(asked.tables, 0, 0), score_form(asked, 0), fast, moments, False)
    with tempfile.TemporaryDirectory() as folder:
        path, _ = machine_code(ptx(chain_kernel(form), architecture), architecture, folder)
        names = loop(output(tool("nvdisasm", "nvidia-cuda-nvdisasm"), "-c", path))
    found = Counter(kind for name in names for kind, pattern in KINDS.items() if re.match(pattern, name))
    return {kind: count / form.window for kind, count in {"all": len(names), **found}.items()}


def loop(listing: str) -> list[str]:
    """Return the names of the instructions of the innermost loop with a square root, which draws normals.

    Branches that skip steps, or that lead to subroutines for unusual arguments, are not taken.
    """
    labels: dict[str, int] = {}
    lines: list[tuple[str, str, str]] = []
    for line in listing.splitlines():
        if label := re.match(r"(\.L_x_\d+):", line):
            labels[label[1]] = len(lines)
        elif found := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(@\S+ +)?([A-Z]\S*)(.*);", line):
            lines.append((found[1], found[2], found[3]))
    where = [re.search(r"\.L_x_\d+", rest) if name == "BRA" else None for _, name, rest in lines]
    targets = [labels[label[0]] if label else None for label in where]
    roots = [i for i, (_, name, _) in enumerate(lines) if name.startswith("MUFU.RSQ")]
    ends = [(end - begin, begin, end) for end, begin in enumerate(targets) if begin is not None and begin <= end]
    _, i, end = min(part for part in ends if any(part[1] <= root <= part[2] for root in roots))
    names = []
    while i <= end:
        (guard, name, _), target = lines[i], targets[i] or 0
        names.append(name)
        unusual = next(other for _, other, _ in lines[i + 1 :] if re.match("BRA|CALL|EXIT", other)).startswith("CALL")
        i = target if i < target and (unusual or not guard) else i + 1
    return names


def cases() -> list[Case]:
    """Return all kernels of the table."""
    kinds = [*(("chains", d) for d in DIMENSIONS), ("levels", 2), ("update", 0)]
    plain = [(*kind, pair) for kind, pair in product(kinds, PAIRS)]
    users = [("user", d, pair) for d, pair in product(USER_DIMENSIONS, SCHEMES)]
    tested = [("tested", d, pair) for d, pair in product(DIMENSIONS, TESTED)]
    return [Case(name, *pair, d, t) for (name, d, pair), t in product(plain + users + tested, ("float32", "float64"))]


def counts(architectures: Sequence[tuple[int, int]], case: Case) -> list[Count]:
    """Assemble one kernel for several architectures."""
    kernel = case.kernel()
    return [assemble(kernel, architecture) for architecture in architectures]


def count_all(
    chosen: Sequence[Case], architectures: Sequence[tuple[int, int]] = ARCHITECTURES
) -> Iterator[tuple[Case, list[Count]]]:
    """Assemble kernels on all cores, and yield their resources."""
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        found = pool.map(partial(counts, architectures), chosen)
        yield from tqdm(zip(chosen, found, strict=True), total=len(chosen), disable=None)


def main() -> None:
    """Write the page."""
    lines = [
        "# Registers of the GPU kernels",
        "",
        "*Written by `python -m analysis registers` with `ptxas` of CUDA 13.0 and `nvdisasm`; no GPU is needed.*",
        "",
        "The columns sm_80 and sm_90 show registers of a thread and bytes of its stack on that architecture. Chains",
        f"run on a mixture of {COMPONENTS} isotropic components. The kernels named chains record mean and covariance",
        "at every step; the kernels named levels run through noise levels without recording. A user's score is one of",
        "coupled quartic wells. The steps with Metropolis tests are mala and ghmc, whose m includes the normal of the",
        "readout. The stack contains arrays whose indices are not known when the kernel is compiled.",
        "",
        "| kernel | rows k | normals m | type | sm_80 | sm_90 | bytes spilled |",
        "|---|---|---|---|---|---|---|",
    ]
    for case, found in count_all(cases()):
        name = "a map of images" if case.name == "update" else f"{NAMES.get(case.name, case.name)}, d = {case.d}"
        taken = " | ".join(f"{count.registers}, {count.stack}" for count in found)
        spilled = max(count.spilled for count in found)
        lines.append(f"| {name} | {case.k} | {case.m} | {case.dtype} | {taken} | {spilled} |")
    lines += [
        "",
        "## Instructions of a time step",
        "",
        "Instructions of a thread for one step on ring-8 on sm_90, with its share of the random numbers. Branches for",
        "unusual arguments, and those that skip a step, are not taken. With moments, the count includes their",
        "accumulation, which a run in float32 does at every second step by default. The guide lists the",
        "[changes that reduced these numbers](guide/gpu.md#fewer-instructions).",
        "",
        "| integrator | backend | type | moments | instructions | floating-point | integer |",
        "|---|---|---|---|---|---|---|",
    ]
    for scheme, (dtype, fast, moments) in product(("ULA", "BAOA"), STEPS):
        numbers = instructions(scheme, dtype, fast, moments, (9, 0))
        cells = " | ".join(f"{numbers[kind]:g}" for kind in ("all", *KINDS))
        backend = "cuda-fast" if fast else "cuda"
        lines.append(f"| {scheme} | {backend} | {dtype} | {MOMENTS[moments] or 'none'} | {cells} |")
    PAGE.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
