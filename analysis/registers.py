"""Page: registers and stack of the GPU kernels per thread, as NVIDIA's assembler reports them. No GPU is needed."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

import uldnum
from analysis import peers
from uldnum._util.typing import Array
from uldnum.kernels.cuda.binding import Kernel, ptx
from uldnum.kernels.cuda.chains import chain_kernel
from uldnum.kernels.cuda.form import ChainForm
from uldnum.kernels.cuda.stages import StageForm, stage_kernel
from uldnum.kernels.source.core import COVARIANCE, phase
from uldnum.schemes.stage import Affine, Step, first_row, table

__all__ = ["ARCHITECTURES", "Case", "Count", "assemble", "cases", "count_all", "main"]

PAGE = Path(__file__).with_suffix(".md")

# Integrators of the catalogue for pairs (rows, normals of a stage). `full` constructs one for the other pairs.
SCHEMES = {(1, 1): "ULA", (2, 1): "BAOAB", (2, 2): "UBU"}
PAIRS = tuple(product((1, 2), (0, 1, 2)))

# Dimensions and number of components of the mixtures.
DIMENSIONS = (1, 2, 3, 4, 8)
COMPONENTS = 8
ARCHITECTURES = ((8, 0), (9, 0))


@dataclass(frozen=True)
class Case:
    """A kernel to compile.

    Attributes
    ----------
    name : str
        "chains" for chains on a mixture with all quantities recorded, "levels" for chains without recorded quantities,
        "update" for one affine map of an image target.
    k, m : int
        Rows of the memory, and normals of a stage.
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
        scheme = SCHEMES.get((self.k, self.m)) or full(self.k, self.m)
        return chain_kernel(chain_form(scheme, self.d, np.dtype(self.dtype), records=self.name == "chains"))


@dataclass(frozen=True)
class Count:
    """Resources of a thread on an architecture: registers, and bytes of stack and of spilled registers."""

    architecture: tuple[int, int]
    registers: int
    stack: int
    spilled: int
    loose: int  # instructions that may be contracted or do not round as IEEE 754 requires; must be 0


def full(k: int, m: int) -> uldnum.Integrator:
    """Return an integrator with one stage in which every row depends on all rows and all normals."""

    def step(h: Array, friction: Array) -> Step:
        map = Affine(dA=table(h, [[h] * k] * k), b=table(h, [h] * k), C=table(h, [[h] * m] * k))
        return Step.on_step(first_row(map.b), map)

    return uldnum.Integrator(f"all of {k} rows and {m} normals", step)


def chain_form(scheme: str | uldnum.Integrator, d: int, dtype: np.dtype[Any], records: bool) -> ChainForm:
    """Return the form of the kernel of an integrator on an isotropic mixture."""
    means = np.random.default_rng(d).normal(size=(COMPONENTS, d))
    target = uldnum.GaussianMixture(np.full(COMPONENTS, 1 / COMPONENTS), means, np.ones(COMPONENTS))
    tables = phase(peers.program(target, dtype.type, scheme).tables, 0, 0)
    return ChainForm.of(tables, target.kernel_data(dtype), fast=False, moments=COVARIANCE * records, records=records)


def assembler() -> Path:
    """Return the path of NVIDIA's assembler in the package nvidia-cuda-nvcc."""
    package = find_spec("nvidia.cu13")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("ptxas is not installed; run: pip install 'cuda-toolkit[nvcc]==13.0.*'")
    return Path(next(iter(package.submodule_search_locations))) / "bin" / "ptxas"


def assemble(kernel: Kernel, architecture: tuple[int, int]) -> Count:
    """Compile a kernel for an architecture, and return the resources of a thread."""
    text = ptx(kernel, architecture)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(text)
        target = f"-arch=sm_{architecture[0]}{architecture[1]}"
        command = [str(part) for part in (assembler(), "-v", target, source, "-o", source.with_suffix(".cubin"))]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    stack, *spilled = re.findall(r"(\d+) bytes (?:stack frame|spill)", said)
    registers = re.search(r"Used (\d+) registers", said)
    assert registers is not None
    loose = re.findall(r"\b(?:mul|add|sub)\.f(?:32|64)\b|\.approx|\.ftz|div\.full", text)
    return Count(architecture, int(registers[1]), int(stack), sum(map(int, spilled)), len(loose))


def cases() -> list[Case]:
    """Return all kernels of the table."""
    kinds = [*(("chains", d) for d in DIMENSIONS), ("levels", 2), ("update", 0)]
    return [Case(name, k, m, d, t) for (name, d), (k, m), t in product(kinds, PAIRS, ("float32", "float64"))]


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
        "*Written by `python -m analysis registers` with the assembler `ptxas` of CUDA 13.0; no GPU is needed.*",
        "",
        "The columns sm_80 and sm_90 show registers of a thread and bytes of its stack on that architecture. Chains",
        f"run on a mixture of {COMPONENTS} isotropic components. The kernels named chains record mean and covariance",
        "at every step; the kernels named levels run through noise levels without recording. The stack contains arrays",
        "whose indices are not known when the kernel is compiled.",
        "",
        "| kernel | rows k | normals m | type | sm_80 | sm_90 | bytes spilled |",
        "|---|---|---|---|---|---|---|",
    ]
    for case, found in count_all(cases()):
        name = {"levels": f"levels, d = {case.d}", "update": "a map of images"}.get(case.name, f"chains, d = {case.d}")
        taken = " | ".join(f"{count.registers}, {count.stack}" for count in found)
        spilled = max(count.spilled for count in found)
        lines.append(f"| {name} | {case.k} | {case.m} | {case.dtype} | {taken} | {spilled} |")
    PAGE.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
