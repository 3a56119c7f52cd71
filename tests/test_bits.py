"""Results have the same bits on any processor: hashes of results, in processes that emulate other processors.

Each process computes the rows of `bits`, which are compared with stored hashes. It also resumes the runs that earlier
processes stopped and saved.
"""

import json
import os
import platform
import subprocess
import sys

import pytest
from helpers import bits
from numpy._core._multiarray_umath import __cpu_dispatch__

# NumPy uses no instructions beyond those that its build requires.
NUMPY = {"NPY_DISABLE_CPU_FEATURES": " ".join(__cpu_dispatch__)}
# OpenBLAS uses the kernels for the oldest processors with SSE3.
OPENBLAS = {"OPENBLAS_CORETYPE": "Prescott"}
# The C library uses no fused multiply-add. The names with a suffix are those of versions before 2.33.
GLIBC = {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-AVX2_Usable,-FMA_Usable"}
# Numba compiles for an old processor. Without the second variable, the features of this machine would remain.
NUMBA = {"NUMBA_CPU_NAME": "x86-64-v2", "NUMBA_CPU_FEATURES": ""}

# The order matters: the plain process resumes runs of an emulated one, and later processes resume runs of both.
ENVIRONMENTS = {"numpy": NUMPY, "plain": {}, "openblas": OPENBLAS, "glibc": GLIBC}
X86 = platform.machine().lower() in ("x86_64", "amd64")


def run(folder, process, environment):
    """Run a process, and return what it reports."""
    everything = {name: value for name, value in os.environ.items() if name not in NUMPY | OPENBLAS | GLIBC | NUMBA}
    everything |= {"NUMBA_ENABLE_CUDASIM": "1"} | environment
    subprocess.run([sys.executable, bits.__file__, folder, process], env=everything, check=True)
    return json.loads((folder / f"{process}.json").read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("bits")


@pytest.fixture(scope="module")
def reports(folder):
    return {process: run(folder, process, environment) for process, environment in ENVIRONMENTS.items()}


def check_effect(process, found, plain):
    """Fail if an emulation has no effect; skip if this machine has nothing that the emulation could disable."""
    if process == "numpy":
        if not plain["numpy"]:
            pytest.skip("NumPy uses no instructions here beyond those that its build requires")
        assert found["numpy"] == []
    elif process == "openblas":
        if not (X86 and plain["openblas"]):
            pytest.skip("neither NumPy nor SciPy uses OpenBLAS for x86 here")
        assert set(found["openblas"]) <= {"Prescott", "Katmai"}  # two names of the same kernels
    elif process == "glibc":
        if not (X86 and platform.libc_ver()[0] == "glibc" and {"FMA3", "AVX2"} <= set(plain["instructions"])):
            pytest.skip("the C library is not glibc, or the processor has no fused multiply-add that it would use")
        assert found["libm"] != plain["libm"]
    elif process == "numba":
        if not X86:
            pytest.skip("this processor is no x86-64")
        assert found["numba"] == ["xmm"]


def differences(expected, found):
    """Return a line for each row in which results differ, with the names of the parts that differ."""
    faults = []
    for name in sorted(expected.keys() | found.keys()):
        if name not in found or name not in expected:
            faults.append(f"{name}: {'missing' if name in expected else 'new'}")
        elif expected[name] != found[name]:
            every = expected[name].keys() | found[name].keys()
            other = sorted(part for part in every if expected[name].get(part) != found[name].get(part))
            faults.append(f"{name}: {', '.join(other)}")
    return faults


def check_rows(report):
    expected = json.loads(bits.DATA.read_text())
    if faults := differences(expected, report["rows"]):
        lines = [f"{len(faults)} of {len(expected)} rows are not those of {bits.DATA}:", *faults]
        pytest.fail("\n".join([*lines, f"Where results are meant to change, see {bits.__file__}."]), pytrace=False)


def check_resumed(report, writers):
    """Check that resumed runs end like runs that were not stopped, whichever process stopped them."""
    expected = json.loads(bits.DATA.read_text())
    found = {f"{name} of {writer}": row for writer, name, row in report["resumed"]}
    whole = {f"{name} of {writer}": expected[f"whole {name}"] for writer in writers for name in bits.RESUMED}
    refused = {name: row["error"] for name, row in found.items() if "error" in row}
    faults = [f"{name}: {error}" for name, error in refused.items()]
    faults += differences(*({name: rows[name] for name in rows.keys() - refused} for rows in (whole, found)))
    if faults:
        pytest.fail("\n".join(["resumed runs are refused, or end elsewhere:", *faults]), pytrace=False)


@pytest.mark.parametrize("process", ENVIRONMENTS)
def test_bits(reports, process):
    check_effect(process, reports[process]["effect"], reports["plain"]["effect"])
    check_rows(reports[process])


@pytest.mark.parametrize("process", ENVIRONMENTS)
def test_resumed(reports, process):
    order = list(ENVIRONMENTS)
    check_resumed(reports[process], order[: order.index(process) + 1])


@pytest.mark.slow
def test_an_old_processor(reports, folder):
    """All emulations at once; the fused multiply-add of Numba's code is then a function of the C library."""
    report, plain = run(folder, "numba", NUMPY | OPENBLAS | GLIBC | NUMBA), reports["plain"]["effect"]
    for process in ("numba", "numpy", "openblas", "glibc"):
        check_effect(process, report["effect"], plain)
    check_rows(report)
    check_resumed(report, [*ENVIRONMENTS, "numba"])


def test_differences_are_named():
    stored = {"a": {"states": "1", "nfe": "2"}, "b": {"states": "3"}, "c": {"states": "4"}}
    found = {"a": {"states": "1", "nfe": "0", "trace": "5"}, "c": {"states": "4"}, "d": {"states": "6"}}
    assert differences(stored, stored) == []
    assert differences(stored, found) == ["a: nfe, trace", "b: missing", "d: new"]
