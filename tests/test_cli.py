"""The command line: outputs, stored files, help texts, errors and interrupts of all commands."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import warnings
from contextlib import contextmanager
from functools import wraps
from importlib.metadata import metadata
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import xarray as xr
from helpers.onnx_models import Graph, Value
from matplotlib.figure import Figure
from onnx import TensorProto, helper
from packaging.requirements import Requirement
from PIL import Image

from uldnum import levels, networks, studies
from uldnum._util import files
from uldnum._util.extras import EXTRAS, installed, requirements, unmet
from uldnum._util.parsing import whole
from uldnum.cli import app
from uldnum.cli.options import in_flags
from uldnum.exact import properties
from uldnum.plans import _plan
from uldnum.plotting import pictures
from uldnum.plotting.pictures import draw_gif
from uldnum.sampling import _anneal, _sample, launch
from uldnum.sampling.run import Run
from uldnum.schemes.catalogue import FAMILIES
from uldnum.version import VERSION


def uldnum(monkeypatch, capsys, *arguments):
    """Run the command line in this process, and return the exit status, the output and the error output."""
    monkeypatch.setattr(sys, "argv", ["uldnum", *arguments])
    with pytest.raises(SystemExit) as end:
        app.main()
    return end.value.code or 0, *capsys.readouterr()


QUICK = ("--nfe", "50", "--burn-in", "0", "--chains", "32")


def test_bias_writes_data_and_figure(monkeypatch, capsys, tmp_path):
    names = "ULA,BAOAB,noise-denoise(2)"
    code, out, _ = uldnum(
        monkeypatch,
        capsys,
        "bias",
        "--integrators",
        names,
        "--h",
        "0.1:0.4:3",
        *QUICK,
        "--out",
        str(tmp_path / "a" / "b"),
    )
    assert code == 0
    assert "bias.png" in out
    study = xr.load_dataset(tmp_path / "a" / "b" / "bias.nc")
    assert list(study.integrator.values) == ["ula", "BAOAB", "noise-denoise(2)"]
    np.testing.assert_allclose(study.h, [0.1, 0.2, 0.4])
    assert (tmp_path / "a" / "b" / "bias.png").is_file()


STUDIES = (["mixing"], ["frontier"], ["advise"])
GRID = ("--target", "gaussian", "--integrators", "ULA,BAOAB", "--h", "0.5,1.0", "--friction", "1,2", "--nfe", "2000")


@pytest.mark.parametrize("study", ["mixing", "frontier"])
def test_mixing_and_frontier_write_data_and_figure(monkeypatch, capsys, tmp_path, study):
    options = (*GRID, "--chains", "64", "--out", str(tmp_path))
    code, out, _ = uldnum(monkeypatch, capsys, study, *options)
    assert code == 0
    assert out.startswith("Score evaluations for an independent sample ± their standard error")
    assert out.count("friction ") == 2
    assert "BAOAB" in out
    data = xr.load_dataset(tmp_path / f"{study}.nc")
    assert dict(data.sizes)["friction"] == 2
    assert (tmp_path / f"{study}.png").is_file()
    count = len(list((tmp_path / "points").iterdir()))
    code, out, _ = uldnum(monkeypatch, capsys, study, *options, "--json")
    assert code == 0
    answer = json.loads(out)
    assert answer["study"] == study
    assert len(list((tmp_path / "points").iterdir())) == count  # no point was computed again


def test_an_exact_cost_replaces_a_lower_bound(monkeypatch, capsys, tmp_path):
    """On N(0, 1) a sample of ULA at delta = 0.005 costs (2 - delta)/delta = 399 evaluations; the chains have 200."""
    options = ("--target", "gaussian", "--integrators", "ULA", "--h", "0.1", "--friction", "1", "--nfe", "200")
    for flag, cell in ((), r"399 \(exact\)"), (("--no-exact",), r"> \d+"):
        code, out, _ = uldnum(monkeypatch, capsys, "mixing", *options, *flag, "--chains", "64", "--out", str(tmp_path))
        assert code == 0
        assert re.search(rf"^ +0\.1 +{cell}$", out, re.MULTILINE), out


def test_advise_prints_a_recommendation(monkeypatch, capsys, tmp_path):
    options = (*GRID, "--chains", "256", "--out", str(tmp_path))
    code, out, _ = uldnum(monkeypatch, capsys, "advise", "--max-bias", "0.001", *options)
    assert code == 0
    assert out.startswith("To keep the bias of second_moment below 0.001 on gaussian, use BAOAB at h = 1 and friction ")
    code, out, _ = uldnum(monkeypatch, capsys, "advise", "--max-bias", "0.001", *options, "--json")
    assert json.loads(out)["integrator"] == "BAOAB"
    code, _, err = uldnum(monkeypatch, capsys, "advise", "--max-bias", "1e-12", *options, "--integrators", "ULA")
    assert code == 2
    assert err.splitlines()[-1].startswith("error: --max-bias: no point was shown to have a bias below 1e-12")
    assert xr.load_dataset(tmp_path / "frontier.nc").integrator.values.tolist() == ["ula"]  # the study is stored


def test_bias_json(monkeypatch, capsys, tmp_path):
    options = ("--target", "gaussian", "--integrators", "ula", "--h", "0.5", *QUICK, "--json")
    code, out, _ = uldnum(monkeypatch, capsys, "bias", *options, "--out", str(tmp_path))
    assert code == 0
    answer = json.loads(out)
    assert answer["target"] == "gaussian"
    (second,) = [row for row in answer["results"] if row["metric"] == "second_moment"]
    assert answer["target_parameters"]["weights"] == [1.0]
    assert second["exact"] == pytest.approx((1 / (1 - 0.0625) - 1) / np.sqrt(2))
    assert answer["results"][0]["diverged"] == 0


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (("bias", "--target", "gausian"), "nearest is 'gaussian'"),
        (("bias", "--integrators", "BAOABX"), "unknown name 'BAOABX'"),
        (("bias", "--h", "0.1:x"), "must be first:last:count"),
        (("bias", "--h", "0:1:3"), "h: must be positive"),
        (("bias", "--h", "0.1:1:0"), "the count in first:last:count must be at least 1"),
        (("bias", "--h", "0.1,0.1"), "one or more distinct numbers"),
        (("bias", "--h", "0.1", "--delta", "0.1"), "exactly one"),
        (("bias", "--exact-only", "--target", "ring-8"), "no exact answer on 'ring-8'"),
        (("bias", "--exact-only", "--tolerance", "1e-15"), "tolerance: must be at least 1e-9"),
        (("bias", "--exact-only", "--tolerance", "1"), "tolerance: must be at least 1e-9 and less than 1, got 1"),
        (("bias", "--integrators", "ULA,ula"), "each only once"),
        (("advise", "--max-bias", "0"), "error: --max-bias: must be positive"),
        (("advise", "--max-bias", "0.1", "--metric", "men"), "nearest is 'mean'"),
        (("frontier", "--friction", "1,-1"), "friction: must be positive"),
        (("mixing", "--target", "nowhere.toml"), "nowhere.toml"),
        (("sample", "--steps", "5", "--every", "6"), "every: must be at most"),
        (("sample", "--friction", "-1"), "friction: must be positive"),
        (("sample", "--states", "chain.npz"), "must end in .nc"),
        (("sample", "--sigma", "0.5", "--sigma-ratio", "1"), "error: --sigma and --sigma-ratio: give only one of them"),
        (("sample", "--sigma", "100"), "mnist was trained for sigma from 0.02 to 20"),
        (("sample", "--backend", "numba"), "backend: must be one of array, cuda"),
        (("sample", "--set", "colours=grey!"), "colours must be a Matplotlib colour map"),
        (("sample", "--set", "sigma"), "set: must be NAME=VALUE"),
        (("sample", "--set", "sigm=1"), "nearest is 'sigma'"),
        (("sample", "--input", "text=none.npy"), "is not a number, and not an array in NumPy's format"),
        (("sample", "--network", "none.onnx"), "none.onnx"),
        (("sample", "--resume"), "resume: "),
        (("sample", "--resume"), "is not a saved run"),
        (("anneal", "--levels", "geometrc:5:1:3"), "nearest is 'geometric'"),
        (("anneal", "--levels", "geometric:5:1"), "must be geometric:FIRST:LAST:COUNT with numbers"),
        (("anneal", "--levels", "geometric:5:x:3"), "levels: "),
        (("anneal", "--levels", "own:20", "--data", "gmm-40"), "own:COUNT needs a network that has a schedule"),
        (("anneal", "--method", "mild-cifar10"), "--levels: mnist was trained for sigma from 0.02 to 20, got"),
        (("quality", "--samplers", "BAOAB@50"), "--samplers: 'BAOAB@50': mnist was trained for sigma from 0.02 to 20"),
        (
            ("anneal", "--data", "gmm-40", "--guidance", "2", "--set", "sigma=1"),
            "error: --data: must be a network, which the options of networks need, got 'gmm-40'",
        ),
        (("anneal", "--data", "mnist-images:5", "--class", "3"), "--data: must be a network, which the options of"),
        (("sample", "--class", "3"), "--input: --class: needs a model with one integer input, besides the noise level"),
        (("sample", "--class", "1,x"), "--class: must be a whole number, such as 10000 or 1e4, got 'x'"),
        (("anneal", "--class", "1,1"), "--class: must be different classes"),
        (("quality", "--class", "1,2"), "--class, --prompt: must be one class and one prompt, whose images"),
        (("sample", "--class", "1,2", "--prompt", "a", "--prompt", "b"), "--class, --prompt: must be one class or one"),
        (("anneal", "--method", "ula"), "error: --h, --eps, --snr: give exactly one"),
        (("anneal", "--method", "mild-ncsn", "--h", "1"), "has its own levels, steps and step sizes; leave out --h"),
        (("anneal", "--method", "mild-ncsn", "--no-denoise"), "leave out --denoise"),
        (("anneal", "--data", "gmm-4o"), "data: unknown name 'gmm-4o'; the nearest is 'gmm-40'"),
        (("anneal", "--data", "double-well"), "data: must be a GaussianMixture, a DataMixture, a network (without"),
        (("anneal", "--method", "heun", "--steps", "3"), "'heun' is a predictor"),
        (("anneal", "--predictor", "ddim"), "method: must be an integrator with --predictor, and the default 'heun'"),
        (("anneal", "--method", "hun"), "method: unknown name 'hun'; the nearest is 'heun'"),
        (("anneal", "--predictor", "ddmi", "--method", "ula", "--h", "1"), "nearest is 'ddim'"),
        (("sample", "--features", "digits"), "error: --features: must be given together with --reference"),
        (("anneal", "--data-range", "0,1"), "error: --data-range: must be given together with --reference"),
        (("fetch", "galaxy"), "nearest is 'galaxygrad-ztf64'"),
        (("bias", "--h", "0"), "error: --h: must be positive"),
        (("bias", "--score-noise", "-1"), "error: --score-noise: must be finite"),
        (("bias", "--target", "ring-8", "--reference", "none.npy"), "error: --reference: "),
        (("anneal", "--data-range", "0", "--reference", "none.npy"), "error: --data-range: must be LOW,HIGH"),
        (("bias", "--out", "/proc/nowhere"), "out: must be a writable folder"),
        (("sample", "--network", "galaxy"), "nearest is 'galaxygrad-ztf64'"),
        (("sample", "--out", "/proc/nowhere"), "out: must be a writable folder"),
        (("sample", "--steps", "1000000", "--every", "1", "--chains", "100000"), "run.nc' needs 570 TiB, but"),
    ],
)
def test_mistakes_are_one_line(monkeypatch, capsys, tmp_path, arguments, fault):
    monkeypatch.chdir(tmp_path)
    code, out, err = uldnum(monkeypatch, capsys, *arguments)
    assert code == 2
    assert fault in err
    assert len(err.splitlines()) == 1  # nothing was announced
    assert "Traceback" not in err + out
    if arguments[0] in ("bias", "mixing", "frontier", "advise") and "--exact-only" not in arguments:
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "h, delta: exactly one must be given; delta = h^2/2",
            "--h, --delta: exactly one must be given; delta = h^2/2",
        ),
        ("h and target_name: text", "--h and target_name: text"),
        ("exact: 3 points; exact=True computes them", "--exact: 3 points; --exact computes them"),
        ("exact=False", "--no-exact"),
        ("clip=False", "clip=False"),
        ("inputs: missing x (in Python inputs={'x': 1})", "--input: missing x (in Python inputs={'x': 1})"),
        ("needs samples; pass reference=samples, or x", "needs samples; pass --reference=samples, or x"),
        ("state the range as data_range=(low, high)", "state the range as --data-range=low,high"),
        ("samplers: 'heun': data-range: no", "samplers: 'heun': --data-range: no"),
        ("the file 'h=1.nc' at h == 1 (in Python card={'h': 1}), keep=True", None),
        ("no target: the reference has no mean", None),
    ],
)
def test_messages_name_flags(text, shown):
    at = {
        "h": "--h",
        "inputs": "--input",
        "delta": "--delta",
        "reference": "--reference",
        "data_range": "--data-range",
        "target": "--target",
    }
    options = [
        SimpleNamespace(name=name, opts=["-x", flag], secondary_opts=[], is_flag=False) for name, flag in at.items()
    ]
    options.append(SimpleNamespace(name="exact", opts=["--exact"], secondary_opts=["--no-exact"], is_flag=True))
    options.append(SimpleNamespace(name="clip", opts=["--clip"], secondary_opts=[], is_flag=True))
    assert in_flags(text, options) == (shown or text)


def test_warnings_name_flags(monkeypatch, capsys, tmp_path):
    def warn(*_, **__):
        warnings.warn("score_noise: too large; exact=True helps", stacklevel=1)
        raise ValueError("target: no")

    monkeypatch.setattr(studies.common.StepGrid, "of", warn)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        code, _, err = uldnum(monkeypatch, capsys, "bias", "--out", str(tmp_path))
    assert (code, err) == (2, "warning: --score-noise: too large; --exact helps\nerror: --target: no\n")


@pytest.mark.parametrize("value", ["1.5", "1e-3", "ten", "nan", "1e30", "0"])
@pytest.mark.parametrize("option", [("bias", "--nfe"), ("sample", "--steps"), ("anneal", "--chains")])
def test_counts_that_are_no_whole_numbers_are_refused(monkeypatch, capsys, tmp_path, option, value):
    monkeypatch.chdir(tmp_path)
    code, _, err = uldnum(monkeypatch, capsys, *option, value)
    assert code == 2
    assert f"Invalid value for '{option[1]}': must be" in " ".join(err.replace("│", "").split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "number"),
    [("5", 5), ("1e4", 10_000), ("2.5E3", 2500), ("1_000", 1000), ("12e-1", None), ("1e99999999", None)],
)
def test_whole_numbers_may_be_in_scientific_notation(text, number):
    if number is None:
        with pytest.raises(ValueError, match="must be a whole number, such as 10000 or 1e4"):
            whole(text)
    else:
        assert whole(text) == number


def test_every_count_takes_scientific_notation(monkeypatch, capsys, tmp_path):
    options = ("--target", "gaussian", "--integrators", "ula", "--h", "0.5:1:2e0", "--nfe", "5e1", "--burn-in", "0e0")
    options += ("--chains", "3.2e1", "--seed", "1e1")
    code, _, _ = uldnum(monkeypatch, capsys, "bias", *options, "--out", str(tmp_path))
    assert code == 0
    study = xr.load_dataset(tmp_path / "bias.nc")
    assert study.sizes["h"] == 2
    assert {"nfe_recorded": 50, "nfe_burn_in": 0, "chains": 32, "seed": 10}.items() <= study.attrs.items()
    options = ("--data", "ring-8", "--method", "ula", "--h", "0.5", "--levels", "geometric:5:0.1:1e1", "--steps", "2e0")
    code, out, _ = uldnum(monkeypatch, capsys, "anneal", *options, "--chains", "1e2", "--out", str(tmp_path))
    assert (code, "ula: 21 evaluations of 100 chains" in out) == (0, True)


def test_anneal_compares_with_the_target_at_the_temperature(monkeypatch, capsys, tmp_path):
    options = ("anneal", "--data", "ring-8", "--method", "ula", "--h", "0.5", "--levels", "geometric:5:0.1:5")
    code, out, _ = uldnum(monkeypatch, capsys, *options, "--temperature", "2", "--out", str(tmp_path))
    assert code == 0
    assert out.startswith("ula at temperature 2: 6 evaluations of ")
    assert "distances to ring-8 at temperature 2 are not known" in out
    assert "exact samples" not in out


@pytest.mark.parametrize("exact", [(), ("--exact-only",)])
def test_bias_takes_several_frictions(monkeypatch, capsys, tmp_path, exact):
    """Each friction has its table, and the values of the study of that friction alone; ULA has the same at each."""
    quick = () if exact else ("--nfe", "200", "--burn-in", "50", "--chains", "32")
    options = ("bias", "--target", "gaussian", "--integrators", "UBU,ula", "--h", "0.5,1", *quick, *exact)
    code, out, err = uldnum(monkeypatch, capsys, *options, "--friction", "0.5,2", "--out", str(tmp_path / "both"))
    assert code == 0, err
    assert [line for line in out.splitlines() if line.startswith("friction ")] == ["friction 0.5", "friction 2"]
    both = xr.load_dataset(tmp_path / "both" / "bias.nc")
    assert both.exact.dims == ("integrator", "friction", "h", "metric")
    assert (tmp_path / "both" / "bias.png").is_file()
    code, out, _ = uldnum(monkeypatch, capsys, *options, "--friction", "2", "--out", str(tmp_path / "one"))
    assert code == 0
    assert not [line for line in out.splitlines() if line.startswith("friction ")]
    one = xr.load_dataset(tmp_path / "one" / "bias.nc")
    assert one.attrs["friction"] == 2.0
    for name in one.data_vars:
        part = both[name].sel(friction=2.0, drop=True) if "friction" in both[name].dims else both[name]
        xr.testing.assert_equal(part, one[name])
    exact = both.exact.sel(metric="second_moment")
    assert exact.sel(integrator="ula").std("friction").max() == 0
    assert exact.sel(integrator="UBU").std("friction").min() > 1e-4


@pytest.mark.filterwarnings("default::UserWarning")
@pytest.mark.parametrize(
    ("command", "remedy"),
    [
        (("sample", "--steps", "4", "--every", "2", "--h", "50"), "at h = 50 sigma; take a smaller --h"),
        (
            ("anneal", "--data", "ring-8", "--method", "ula", "--h", "50", "--levels", "geometric:5:0.1:9"),
            "at the step sizes of the plan; take smaller steps or more levels",
        ),
    ],
)
def test_a_run_in_which_all_chains_diverge_is_an_error(monkeypatch, capsys, tmp_path, command, remedy):
    """The run is stored, but nothing is drawn or compared, and the command fails with a sentence."""
    code, out, err = uldnum(monkeypatch, capsys, *command, "--chains", "2", "--out", str(tmp_path))
    assert code == 2
    assert err.splitlines()[-1].startswith("error: all 2 chains diverged, the first at step ")
    assert f"{remedy}; the result is in {tmp_path}" in err
    assert out == ""
    assert [path.suffix for path in tmp_path.iterdir()] == [".nc"]


def test_a_word_that_is_not_in_the_catalogue_is_explained(monkeypatch, capsys, tmp_path):
    said = "UBUU is not in the catalogue (the nearest is UBU): splitting word U for h/3, B for h, U for 2h/3"
    options = ("--exact-only", "--target", "gaussian", "--h", "0.5", "--out", str(tmp_path))
    code, out, err = uldnum(monkeypatch, capsys, "bias", "--integrators", "ubuu,sgld,V R O R V,mild(0.5)", *options)
    assert code == 0
    assert err.startswith(said)
    assert len(err.splitlines()) == 1
    assert re.search(r" UBUU +ula +BAOAB +mild\(0.5\)", out)
    options = ("--data", "ring-8", "--levels", "geometric:5:0.1:3", "--h", "0.5", "--out", str(tmp_path))
    code, _, err = uldnum(monkeypatch, capsys, "anneal", "--method", "UBUU", *options)
    assert (code, err.startswith(said)) == (0, True)


@pytest.mark.parametrize(
    "command",
    [
        ("sample", "--network", "galaxygrad-hsc32", "--integrator", "BAOABX"),
        ("sample", "--network", "galaxygrad-hsc32", "--h", "-1"),
        ("anneal", "--data", "galaxygrad-hsc32", "--method", "BAOABX"),
        ("anneal", "--data", "galaxygrad-hsc32", "--method", "ula", "--h", "-1"),
        ("sample", "--network", "galaxygrad-hsc32", "--features", "pixels"),
        ("anneal", "--data", "galaxygrad-hsc32", "--data-range", "0,1"),
    ],
)
def test_arguments_are_checked_before_a_network_is_loaded(monkeypatch, capsys, tmp_path, command):
    def load(*_, **__):
        raise AssertionError("the network was loaded")

    monkeypatch.setattr(networks, "network", load)
    code, _, err = uldnum(monkeypatch, capsys, *command, "--out", str(tmp_path))
    assert (code, len(err.splitlines())) == (2, 1)


def test_bias_records_every_option(monkeypatch, capsys, tmp_path):
    options = (
        "--target",
        "ring-8",
        "--integrators",
        "UBU",
        "--delta",
        "0.02",
        "--friction",
        "2",
        "--seed",
        "7",
        *QUICK,
    )
    code, _, err = uldnum(monkeypatch, capsys, "bias", *options, "--out", str(tmp_path))
    assert code == 0
    assert err.endswith("sampling point by point\n")  # exact values are not known on this target
    study = xr.load_dataset(tmp_path / "bias.nc")
    wanted = {"target": "ring-8", "friction": 2.0, "seed": 7, "nfe_recorded": 50, "nfe_burn_in": 0, "chains": 32}
    assert wanted.items() <= study.attrs.items()
    np.testing.assert_allclose(study.h, 0.2)


def test_exact_values_are_chosen_on_the_command_line(monkeypatch, capsys, tmp_path):
    options = ("bias", "--target", "gaussian", "--integrators", "ULA", "--h", "0.5", "--nfe", "20", "--chains", "8")
    for flags, known, said in (
        ((), True, "point; then exact values, for as long as sampling takes, but at least 1 s\n"),
        (("--exact",), True, "without a limit of time"),
        (("--no-exact",), False, "sampling point by point\n"),
        (("--exact-seconds", "9"), True, "then exact values, for 9 s"),
    ):
        code, _, err = uldnum(monkeypatch, capsys, *options, *flags, "--out", str(tmp_path))
        assert code == 0
        assert said in err
        assert bool(xr.load_dataset(tmp_path / "bias.nc").exact.notnull().all()) is known
    code, _, err = uldnum(monkeypatch, capsys, *options, "--exact-only", "--no-exact", "--out", str(tmp_path))
    assert code == 2
    assert "exact: --exact-only computes only exact values" in err


def test_exact_bias_without_sampling(monkeypatch, capsys, tmp_path):
    """The exact bias of ULA on a Gaussian agrees with the closed form, and is absent beyond the stability limit."""
    arguments = ("bias", "--exact-only", "--target", "gaussian", "--integrators", "ULA", "--h", "0.5,2.1")
    code, out, _ = uldnum(monkeypatch, capsys, *arguments, "--out", str(tmp_path), "--json")
    assert code == 0
    results = {(line["h"], line["metric"]): line for line in json.loads(out)["results"]}
    assert results[0.5, "second_moment"]["exact"] == pytest.approx((1 / (1 - 0.0625) - 1) / np.sqrt(2))
    assert results[2.1, "second_moment"]["exact"] is None
    assert set(results[0.5, "mean"]) == {"integrator", "h", "metric", "exact", "exact_signed"}
    assert (tmp_path / "bias.png").is_file()
    code, out, _ = uldnum(monkeypatch, capsys, *arguments, "--out", str(tmp_path))
    assert code == 0
    assert "Exact bias of the second moment" in out
    rows = [line.split() for line in out.splitlines() if line.startswith("  ")]
    assert rows[-2:] == [["0.5", "+4.71e-02"], ["2.1", "-"]]


def test_biases_below_the_tolerance_are_printed_as_bounds(monkeypatch, capsys, tmp_path):
    """At h = 0.02 the bias of baoab-limit is 2e-9, computed with the tolerance 1e-7, and thus below 1e-4."""
    options = "--target", "double-well", "--integrators", "ULA,baoab-limit", "--h", "0.02", "--tolerance", "1e-4"
    code, out, _ = uldnum(monkeypatch, capsys, "bias", "--exact-only", *options, "--out", str(tmp_path))
    assert code == 0
    assert re.search(r"0\.02 +[+-]\d\.\d\de-\d\d +< 1e-04\n", out)
    assert "with the sign of its mean over axes, to about 1e-04; " in out


def test_no_bias_on_a_gaussian_is_printed_as_0(monkeypatch, capsys, tmp_path):
    """BAOAB samples x of a Gaussian exactly; OBABO has the bias h^2/(4 - h^2)/sqrt(2), also if it is tiny."""
    options = "--target", "gaussian", "--integrators", "BAOAB,OBABO", "--h", "1e-7,1.3"
    code, out, _ = uldnum(monkeypatch, capsys, "bias", "--exact-only", *options, "--out", str(tmp_path))
    assert code == 0
    rows = [line.split() for line in out.splitlines() if line.startswith("  ")]
    assert rows[-2:] == [["1e-07", "0", "+1.77e-15"], ["1.3", "0", "+5.17e-01"]]


@pytest.mark.filterwarnings("default::UserWarning")
def test_bias_reports_divergence_of_all_points(monkeypatch, capsys, tmp_path):
    options = ("--target", "gaussian", "--integrators", "ULA,BAOAB", "--h", "3,4", "--nfe", "300", "--chains", "8")
    code, out, err = uldnum(monkeypatch, capsys, "bias", *options, "--out", str(tmp_path))
    assert code == 0
    assert out.count("diverged") == 4
    assert "warning: ula diverged at h = 3, 4; " in err
    assert (tmp_path / "bias.png").is_file()


def test_ctrl_c_ends_in_one_line(monkeypatch, capsys, tmp_path):
    @wraps(studies.bias)
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(studies, "bias", stop)
    code, _, err = uldnum(monkeypatch, capsys, "bias", "--out", str(tmp_path))
    assert code == 130
    assert err.splitlines()[-1] == f"interrupted: the same command continues from the points in {tmp_path / 'points'}"
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def stub(tmp_path):
    """A network with score -x on images of 4 x 4 pixels, with its card beside it."""
    info = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", 1, 4, 4])]
    info.append(helper.make_tensor_value_info("t", TensorProto.FLOAT, ["b"]))
    out = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["b", 1, 4, 4])
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["score"])], "stub", info, [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "stub.onnx")
    card = 'parameterisation = "score"\nscaling = "vp"\ncondition = "sigma"\nsigma = 0.6\n'
    (tmp_path / "stub.toml").write_text(card)
    return tmp_path / "stub.onnx"


OPENING = ("--set", "parameterisation=denoiser", "--set", "scaling=ve", "--set", "condition=sigma")
OPENING += ("--input", "label=three.npy", "--unconditional", "label=ten.npy", "--guidance", "1.5")
OPENING += ("--clip", "--chunk", "3")


@pytest.fixture
def labelled(tmp_path, monkeypatch):
    """The file name of a denoiser x/2 + label/20 on images of 2 x 2 pixels, and its arguments in Python."""
    monkeypatch.chdir(tmp_path)
    graph = Graph()
    label = graph.node("Cast", Value(graph, "label"), to=TensorProto.FLOAT)
    shift = graph.node("Reshape", label, np.array([-1, 1, 1, 1])) * np.float32(0.05)
    graph.node("Add", Value(graph, "x") * np.float32(0.5), shift, output="denoised")
    image = ("float32", ["n", 1, 2, 2])
    inputs = {"x": image, "sigma": ("float32", ["n"]), "label": ("int64", ["n"])}
    graph.save(tmp_path / "labelled.onnx", inputs, {"denoised": image})
    np.save("three.npy", [3])
    np.save("ten.npy", [10])
    card = {"parameterisation": "denoiser", "scaling": "ve", "condition": "sigma"}
    options = {"inputs": {"label": [3]}, "unconditional": {"label": [10]}, "guidance": 1.5, "clip": True, "chunk": 3}
    return "labelled.onnx", {"card": card, **options}


def test_commands_open_a_network_with_the_same_options(monkeypatch, capsys, labelled):
    """The options of networks are the arguments of `network`, in every command that opens one."""
    path, options = labelled
    opened = []

    def record(source, **given):
        opened.append((source, given))
        raise ValueError("recorded")

    monkeypatch.setattr(networks, "network", record)
    for command, option in (("sample", "--network"), ("anneal", "--data"), ("quality", "--network")):
        _, _, err = uldnum(monkeypatch, capsys, command, option, path, *OPENING, "--out", command)
        assert err == "error: recorded\n"
    assert opened == [(path, {"device": "cpu", **options})] * 3


def test_anneal_takes_the_options_of_networks(monkeypatch, capsys, labelled):
    path, options = labelled
    chosen = ("--method", "ddim", "--levels", "geometric:5:0.1:4", "--chains", "4")
    code, _, err = uldnum(monkeypatch, capsys, "anneal", "--data", path, *OPENING, *chosen)
    assert code == 0, err
    net = networks.network(path, **options)
    run = _anneal.anneal(net, _plan.plan("ddim", levels.geometric(5.0, 0.1, 4)), chains=4, progress=False)
    np.testing.assert_array_equal(Run.load("out/anneal.nc").x, run.x)
    code, _, err = uldnum(monkeypatch, capsys, "anneal", "--data", path, *OPENING[:6], *chosen)
    assert code == 2
    assert "error: --input: the model needs label: tensor(int64)['n']; missing label (--input NAME=" in err


@pytest.mark.parametrize("command", [("anneal", "--data"), ("sample", "--network")])
def test_classes_are_repeated_over_the_chains(monkeypatch, capsys, labelled, command):
    """The class is the one integer input; several classes alternate, and each has a row of the grid, with its label."""
    path, options = labelled
    name, option = command
    short = {"anneal": ("--method", "ddim", "--levels", "geometric:5:0.1:4"), "sample": ("--steps", "3", "--h", "1")}
    drawn = []
    monkeypatch.setattr(pictures, "draw_images", lambda *arguments: drawn.append(arguments))
    common = (name, option, path, *OPENING[:6], *short[name], "--chains", "5")
    code, _, err = uldnum(monkeypatch, capsys, *common, "--class", "3,8")
    assert code == 0, err
    rows = [3, 8, 3, 8, 3]
    net = networks.network(path, options["card"], inputs={"label": rows})
    if name == "anneal":
        run = _anneal.anneal(net, _plan.plan("ddim", levels.geometric(5.0, 0.1, 4)), chains=5, progress=False)
        stored = Run.load("out/anneal.nc")
    else:
        run = _sample.sample(net.at(), "baoab-limit", h=1.0, steps=3, chains=5, progress=False)
        stored = Run.load("out/run.nc")
    np.testing.assert_array_equal(stored.x, run.x)
    images, titles, _, _, labels = drawn[-1]
    assert (titles, labels) == (["", "", ""], ["class 3", "class 8"])
    final = run.x if name == "anneal" else net.at().denoise(run.x)
    white = np.ones_like(pictures.coloured(final, net.display)[:1])
    shown = pictures.coloured(final[[0, 2, 4, 1, 3]], net.display)
    np.testing.assert_array_equal(images, np.concatenate([shown, white]))
    guided = ("--unconditional", "class=10", "--guidance", "2")
    code, _, err = uldnum(monkeypatch, capsys, *common, "--class", "3", *guided, "--out", "guided")
    assert code == 0, err
    assert len(drawn[-1]) == 4
    code, _, err = uldnum(monkeypatch, capsys, *common, "--class", "3", *guided[2:], "--out", "guided")
    assert code == 2
    assert "--unconditional: the model needs label: tensor(int64)['n']; missing label (--unconditional NAME=" in err


@pytest.fixture
def vectors(tmp_path):
    """Return a function that writes a network with score -x on vectors of d coordinates, and returns its path."""

    def write(d):
        graph, path = Graph(), tmp_path / f"vectors{d}.onnx"
        graph.node("Neg", Value(graph, "x"), output="score")
        shape = ("float32", ["n", d])
        path.with_suffix(".toml").write_text('parameterisation = "score"\nscaling = "vp"\ncondition = "sigma"\n')
        return graph.save(path, {"x": shape, "t": ("float32", ["n"])}, {"score": shape})

    return write


@pytest.mark.parametrize("d", [1, 3])
def test_vectors_are_drawn_as_points(monkeypatch, capsys, tmp_path, vectors, d):
    """Histograms of one coordinate, and the first two of more, of the last states of all chains."""
    figures, path = [], str(vectors(d))
    monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: figures.append(self))
    common = ("--chains", "70", "--out", str(tmp_path))
    code, out, err = uldnum(monkeypatch, capsys, "sample", "--network", path, "--steps", "3", "--h", "1", *common)
    assert code == 0, err
    assert f" evaluations of 70 vectors on vectors{d} at sigma 0.5: " in out
    assert not (tmp_path / "strip.png").exists()
    levels = ("--levels", "geometric:5:0.1:4", "--method", "ddim")
    code, out, err = uldnum(monkeypatch, capsys, "anneal", "--data", path, *levels, *common)
    assert code == 0, err
    assert "distance" not in out
    ends = files.load(tmp_path / "run.nc").denoised.values[-1], Run.load(tmp_path / "anneal.nc").x
    for figure, points in zip(figures, ends, strict=True):
        (axes,) = figure.axes
        if d == 1:
            heights = np.array([bar.get_height() for bar in axes.patches])
            edges = np.array([bar.get_x() for bar in axes.patches] + [points.max()])
            counts = heights * np.diff(edges) * len(points)
            np.testing.assert_allclose(counts, np.histogram(points, edges)[0], atol=1e-3)
        else:
            np.testing.assert_allclose(axes.collections[0].get_offsets(), points[:, :2], rtol=1e-6)
    code, _, err = uldnum(monkeypatch, capsys, "sample", "--network", path, "--gif", *common)
    assert (code, err) == (2, f"error: --gif: needs images, but the samples of vectors{d} have the shape ({d},)\n")


@pytest.mark.parametrize("command", [("anneal", "--data"), ("sample", "--network")])
def test_prompts_are_repeated_over_the_chains(monkeypatch, capsys, tmp_path, stub, command):
    """The command passes the prompts; several prompts have rows of the grid."""
    given, drawn, real = [], [], networks.network

    def network(source, prompt=None, negative_prompt=None, **options):
        given.append((prompt, negative_prompt))
        return real(source, **options)

    monkeypatch.setattr(networks, "network", network)
    monkeypatch.setattr(pictures, "draw_images", lambda *arguments: drawn.append(arguments))
    name, option = command
    short = {"anneal": ("--method", "ddim", "--levels", "geometric:5:0.1:4"), "sample": ("--steps", "3", "--h", "1")}
    common = (name, option, str(stub), *short[name], "--chains", "5", "--out", str(tmp_path))
    texts = ("a cat", "a very long description of a dog that needs several lines in the label of its row")
    code, _, err = uldnum(monkeypatch, capsys, *common, "--prompt", texts[0], "--prompt", texts[1])
    assert code == 0, err
    assert given.pop() == ([*texts], None)
    assert drawn[-1][4][0] == "a cat"
    assert max(map(len, drawn[-1][4][1].split("\n"))) <= 25
    code, _, err = uldnum(monkeypatch, capsys, *common, "--prompt", texts[0], "--negative-prompt", "blur")
    assert (code, given.pop()) == (0, ([texts[0]], "blur")), err
    assert len(drawn[-1]) == 4


def test_points_of_classes_have_their_colours(monkeypatch, tmp_path):
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: figures.append(self))
    points = np.arange(10.0).reshape(5, 2)
    points[3, 1] = np.nan  # a chain that diverged
    pictures.draw_points(points, "five points", tmp_path / "points.png", ["class 1", "class 2"])
    (axes,) = figures[0].axes
    found = [collection.get_offsets().tolist() for collection in axes.collections]
    assert found == [points[[0, 2, 4]].tolist(), points[[1]].tolist()]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["class 1", "class 2"]


TIMED = ("--set", "parameterisation=score", "--set", "condition=timestep", "--set", "scaling=vp")
TIMED += ("--set", 'schedule={kind = "linear", beta_start = 1e-4, beta_end = 0.02, timesteps = 1000}')


@pytest.mark.parametrize(
    ("asked", "chosen", "given"),
    [
        ((), lambda net: net.levels(20), None),
        (("--levels", "own:7"), lambda net: net.levels(7), None),
        (("--levels", "karras:20:0.02:9"), lambda net: net.nearest(levels.karras(20.0, 0.02, 9)), 9),
        (("--levels", "geometric:20:0.011:90"), lambda net: net.nearest(levels.geometric(20.0, 0.011, 90)), 90),
    ],
)
def test_anneal_moves_levels_to_timesteps(monkeypatch, capsys, tmp_path, stub, asked, chosen, given):
    """Every notation of levels works for a network with integer timesteps; its own schedule is the default."""
    stub.with_suffix(".toml").unlink()
    options = ("--data", str(stub), *TIMED, "--method", "ddim", "--chains", "2", "--out", str(tmp_path), *asked)
    code, out, err = uldnum(monkeypatch, capsys, "anneal", *options)
    assert code == 0, err
    card = {"parameterisation": "score", "condition": "timestep", "scaling": "vp"}
    card["schedule"] = {"kind": "linear", "beta_start": 1e-4, "beta_end": 0.02, "timesteps": 1000}
    net = networks.network(stub, card)
    at = chosen(net)
    run = _anneal.anneal(net, _plan.plan("ddim", at), chains=2, progress=False)
    np.testing.assert_array_equal(Run.load(tmp_path / "anneal.nc").x, run.x)
    first, last = (f"sigma/alpha = {at.ratio[i]:.4g} (t = {net.time(at.ratio[i]):g})" for i in (0, -1))
    said = [f"noise levels: from {first} to {last}"]
    if given is not None:
        said.append(f"the {given} levels are moved to the nearest timesteps of stub; {len(at)} differ")
    assert out.splitlines()[1:-2] == said
    assert given != 90 or len(at) < 90


OPTIONS = ("--steps", "15", "--every", "4", "--chains", "3", "--seed", "5", "--friction", "2", "--h", "0.5")


@pytest.mark.parametrize("suffix", ["nc", "zarr"])
def test_sample_draws_and_stores_states(monkeypatch, capsys, tmp_path, stub, suffix):
    """The command writes all its files, and the states of the same chains in Python."""
    folder = tmp_path / "a" / "b"
    options = ("--network", str(stub), "--integrator", "BAOAB", *OPTIONS, "--out", str(folder), "--gif", "--profile")
    states = folder / f"run.{suffix}"
    named = () if suffix == "nc" else ("--states", str(states))
    code, out, err = uldnum(monkeypatch, capsys, "sample", *options, *named)
    assert code == 0, err
    assert "images a second" in out
    assert "network" in out
    stored = files.load(states)
    assert stored.denoised.dims == ("draw", "chain", "channel", "row", "column")
    level = networks.network(stub).at(0.6)
    run = _sample.sample(
        level, "BAOAB", h=0.5, friction=2.0, steps=15, chains=3, seed=5, thin=4, progress=False, backend="array"
    )
    np.testing.assert_array_equal(run.trace, stored.trace)
    np.testing.assert_allclose(stored.denoised, 0.8 * run.trace, rtol=1e-5)
    assert stored.attrs["sigma"] == 0.6
    for name in ("strip.png", "grid.png", "chains.gif"):
        with Image.open(folder / name) as picture:
            assert getattr(picture, "n_frames", 1) == (3 if name == "chains.gif" else 1)


@pytest.mark.filterwarnings("default:stopped after")
def test_a_stopped_sample_is_resumed(monkeypatch, capsys, tmp_path):
    """Ctrl-C stores the completed steps, and --resume reaches the bits of an uninterrupted run."""
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    options = ("--chunk", "2", *OPTIONS)  # three chains take two calls of the network
    code, _, _ = uldnum(monkeypatch, capsys, "sample", *options, "--out", str(whole))
    assert code == 0
    usual = launch.interruptible

    @contextmanager
    def interruptible():
        with usual():
            asked = iter([False] * 5)
            yield lambda: next(asked, True)

    monkeypatch.setattr(launch, "interruptible", interruptible)
    monkeypatch.setattr(launch, "next_launch", lambda *_: 1)  # check for interrupts after every step
    code, _, err = uldnum(monkeypatch, capsys, "sample", *options, "--out", str(stopped))
    assert code == 130
    assert "interrupted: 5 of 15 steps are in" in err
    monkeypatch.setattr(launch, "interruptible", usual)
    code, _, err = uldnum(monkeypatch, capsys, "sample", *options, "--out", str(stopped))
    assert code == 2
    assert "holds a run that was stopped after 5 of 15 steps; continue it with --resume" in err
    code, _, err = uldnum(monkeypatch, capsys, "sample", *options, "--out", str(stopped), "--resume")
    assert code == 0, err
    for group in (None, "resume"):
        xr.testing.assert_identical(files.load(whole / "run.nc", group), files.load(stopped / "run.nc", group))
    code, _, err = uldnum(monkeypatch, capsys, "sample", *options, "--out", str(stopped), "--resume", "--chunk", "3")
    assert code == 2
    assert "resume: the run was made with other settings: the target or its options differ" in err


def test_a_foreign_file_is_not_overwritten(monkeypatch, capsys, tmp_path):
    (tmp_path / "anneal.nc").write_bytes(b"mine")
    code, _, err = uldnum(monkeypatch, capsys, "anneal", "--data", "ring-8", "--out", str(tmp_path))
    assert code == 2
    assert "out: " in err
    assert "anneal.nc' is not a saved run" in err
    assert (tmp_path / "anneal.nc").read_bytes() == b"mine"


def test_the_run_is_stored_even_if_denoising_fails(monkeypatch, capsys, tmp_path, stub):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(networks.NetworkLevel, "denoise", stop)
    code, _, _ = uldnum(monkeypatch, capsys, "sample", "--network", str(stub), *OPTIONS, "--out", str(tmp_path))
    assert code != 0
    assert Run.load(tmp_path / "run.nc").complete


COMMANDS = {
    "sample": ("--steps", "2", "--every", "1", "--chains", "2"),
    "anneal": ("--levels", "karras:20:0.02:6", "--chains", "2"),
    "bias": ("--exact-only", "--target", "gaussian", "--integrators", "ULA", "--h", "0.5"),
}


def written(folder, name):
    """Return the path and the content of the result that a command stored in a spare folder."""
    (path,) = folder.glob(f"uldnum-*-{name}.nc")
    return path, files.load(path) if name == "bias" else Run.load(path)


@pytest.mark.parametrize(("command", "name"), [("sample", "run"), ("anneal", "anneal"), ("bias", "bias")])
def test_a_result_is_stored_in_a_spare_folder_if_its_own_is_full(monkeypatch, capsys, tmp_path, command, name):
    spare, out = tmp_path / "spare", tmp_path / "out"
    spare.mkdir()
    write = xr.Dataset.to_netcdf

    def full(self, path, **options):
        if Path(path).parent == out:
            raise RuntimeError("NetCDF: HDF error")
        write(self, path, **options)

    monkeypatch.setattr(xr.Dataset, "to_netcdf", full)
    monkeypatch.setattr(tempfile, "tempdir", str(spare))
    code, _, err = uldnum(monkeypatch, capsys, command, *COMMANDS[command], "--out", str(out))
    path, found = written(spare, name)
    assert code == 2
    assert f"error: cannot write '{out}/{name}.nc': NetCDF: HDF error" in err.splitlines()[-1]
    assert err.endswith(f"; the result is in {path} instead\n")
    assert found.attrs["target"] == "gaussian" if command == "bias" else found.complete
    assert not list(out.glob("*.nc"))


def test_the_error_reports_a_lost_result_if_no_folder_is_writable(monkeypatch, capsys, tmp_path):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(xr.Dataset, "to_netcdf", full)
    code, _, err = uldnum(monkeypatch, capsys, "anneal", *COMMANDS["anneal"], "--out", str(tmp_path))
    assert code == 2
    assert err.endswith(": No space left on device; no other folder is writable either, and the result is lost\n")


@pytest.mark.parametrize("suffix", ["nc", "zarr"])
def test_ctrl_c_while_a_run_is_stored(monkeypatch, capsys, tmp_path, suffix):
    """The run is stored completely before the command ends."""
    name = {"nc": "to_netcdf", "zarr": "to_zarr"}[suffix]
    write = getattr(xr.Dataset, name)

    def interrupting(*arguments, **options):
        os.kill(os.getpid(), signal.SIGINT)
        return write(*arguments, **options)

    monkeypatch.setattr(xr.Dataset, name, interrupting)
    states = tmp_path / f"run.{suffix}"
    options = (*COMMANDS["sample"], "--out", str(tmp_path), "--states", str(states))
    code, _, err = uldnum(monkeypatch, capsys, "sample", *options)
    assert code == 130
    assert err.splitlines()[-1] == f"interrupted: the result is in {states}"
    assert Run.load(states).complete
    assert [path.name for path in tmp_path.iterdir()] == [states.name]


def test_the_error_of_a_figure_names_the_stored_run(monkeypatch, capsys, tmp_path):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    code, _, err = uldnum(monkeypatch, capsys, "anneal", *COMMANDS["anneal"], "--out", str(tmp_path))
    assert code == 2
    assert err.splitlines()[-1] == (
        f"error: cannot write '{tmp_path}/anneal.png': No space left on device; the result is in {tmp_path}/anneal.nc"
    )
    assert Run.load(tmp_path / "anneal.nc").complete


@pytest.mark.parametrize(("command", "name"), [("sample", "run"), ("anneal", "anneal")])
def test_a_run_is_stored_even_if_standard_output_fails(monkeypatch, capsys, tmp_path, command, name):
    def full(*_, **__):  # the error of '> /dev/full'
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("typer.echo", full)
    code, _, err = uldnum(monkeypatch, capsys, command, *COMMANDS[command], "--out", str(tmp_path))
    assert code == 2
    assert err.endswith(f"No space left on device; the result is in {tmp_path}/{name}.nc\n")
    assert Run.load(tmp_path / f"{name}.nc").complete


def test_the_shipped_network_draws_digits(monkeypatch, capsys, tmp_path):
    """'uldnum sample' with fewer steps draws images with the fractions of black and white of MNIST digits."""
    code, _, err = uldnum(monkeypatch, capsys, "sample", "--steps", "30", "--chains", "8", "--out", str(tmp_path))
    assert code == 0, err
    images = files.load(tmp_path / "run.nc").denoised.values[-1]
    assert images.shape == (8, 1, 28, 28)
    white, black = (images > 0.5).mean(axis=(1, 2, 3)), (images < -0.8).mean(axis=(1, 2, 3))
    # Of the MNIST images, 95% have a white fraction between 0.04 and 0.20, and a black one between 0.72 and 0.92.
    assert 0.04 < np.median(white) < 0.20
    assert 0.72 < np.median(black) < 0.92
    assert np.abs(images).max() < 1.3


def test_anneal_goes_from_noise_to_data(monkeypatch, capsys, tmp_path):
    options = ("anneal", "--method", "heun", "--levels", "karras:20:0.02:6", "--chains", "4", "--out", str(tmp_path))
    code, out, err = uldnum(monkeypatch, capsys, *options)
    assert code == 0, err
    assert "heun: 11 evaluations of 4 chains" in out
    assert (tmp_path / "anneal.png").is_file()
    run = _anneal.anneal(
        networks.network(), _plan.plan("heun", levels.karras(20.0, 0.02, 6)), chains=4, backend="array", progress=False
    )
    np.testing.assert_array_equal(Run.load(tmp_path / "anneal.nc").x, run.x)


def test_anneal_on_a_mixture_prints_the_distance(monkeypatch, capsys, tmp_path):
    options = ("--data", "ring-8", "--method", "BAOAB", "--h", "0.5", "--steps", "2", "--boundary", "shared")
    options += ("--levels", "geometric:5:0.1:8", "--chains", "200", "--momentum", "refreshed", "--out", str(tmp_path))
    code, out, err = uldnum(monkeypatch, capsys, "anneal", *options)
    assert code == 0, err
    assert "BAOAB: 18 evaluations of 200 chains" in out
    assert (tmp_path / "anneal.png").is_file()
    assert re.search(r"sliced Wasserstein-2 distance \S+ ± \S+ \(as many exact samples: \S+ ± \S+\)\n", out)
    code, out, err = uldnum(monkeypatch, capsys, "anneal", *options, "--resume", "--x0", "target")
    assert code == 0, err
    one = ("--data", "ring-8", "--chains", "1", "--levels", "geometric:5:0.1:8", "--out", str(tmp_path))
    code, out, err = uldnum(monkeypatch, capsys, "anneal", *one)
    assert (code, "distance" in out) == (0, False), err


def test_a_movie_of_denoised_images(tmp_path):
    """A display turns images (n, channels, height, width) into frames; without it they are refused."""
    level = networks.network().noised(1.0, 0.5)
    images = [level.denoise(level.sample(4, seed)) for seed in (0, 1)]
    path = draw_gif(images, tmp_path / "movie.gif", networks.network().display)
    with Image.open(path) as picture:
        assert picture.n_frames == 2
    with pytest.raises(ValueError, match=r"^frames: must be arrays of shape \(n, height, width, 3\); pass display="):
        draw_gif(images, tmp_path / "movie.gif")


def test_fetch_names_the_file(monkeypatch, capsys):
    code, out, _ = uldnum(monkeypatch, capsys, "fetch", "mnist")
    assert code == 0
    assert out.strip().endswith("mnist.onnx")


def test_version(monkeypatch, capsys):
    assert uldnum(monkeypatch, capsys, "--version") == (0, f"uldnum {VERSION}\n", "")


def test_list_takes_a_kind_and_a_word(monkeypatch, capsys):
    """One table for each family, with the entries that contain the word; each licence is printed once."""
    _, out, _ = uldnum(monkeypatch, capsys, "list", "Integrators")
    assert [line.split(" (")[0] for line in out.splitlines() if line.startswith("Integrators: ")] == [
        f"Integrators: {family}" for family in FAMILIES
    ]
    assert "ula                 (2, 2)" in out
    assert "also called lmc, sgld, ald" in out
    assert "cannot be part of an integrator" in out
    assert "order 1 in its own time step delta = h^2/2" in out
    _, out, _ = uldnum(monkeypatch, capsys, "list", "integrators", "diffrax")
    assert [line.split()[0] for line in out.splitlines() if "diffrax" in line] == ["ALIGN", "ShOULD", "QUICSORT"]
    assert out.count("Integrators: ") == 1
    _, out, _ = uldnum(monkeypatch, capsys, "list", "predictors")
    assert "  heun(churn,S_tmin,S_tmax,S_noise)       Karras" in out
    _, out, _ = uldnum(monkeypatch, capsys, "list", "plans")
    assert "  pidld(k_p,k_i,k_d)  Chen" in out
    _, out, _ = uldnum(monkeypatch, capsys, "list", "networks", "GALAXY")
    names = [line.split()[0] for line in out.splitlines() if "[1]" in line]
    assert len(names) == 10
    assert all(name.startswith("galaxygrad-") for name in names[:-1])
    assert out.count("none stated") == 1
    _, out, _ = uldnum(monkeypatch, capsys, "list", "networks")
    assert out.count("licence") == len({entry.card["licence"] for entry in networks.NETWORKS.values()}) == 3


def test_show_prints_the_properties_of_an_integrator(monkeypatch, capsys):
    code, out, _ = uldnum(monkeypatch, capsys, "show", "sgld", "--h", "1", "--friction", "2")
    assert (code, out) == (0, f"{properties('ula', 1.0, friction=2.0)!r}\n")
    code, out, _ = uldnum(monkeypatch, capsys, "show", "ghmc", "--h", "1.5")
    assert code == 0
    assert "acceptance on N(0, 1) at h = 1.5: 0.745848, at any friction" in out
    code, out, _ = uldnum(monkeypatch, capsys, "show", "ald-cifar10")
    assert code == 0
    assert "ald-cifar10" in out
    code, out, err = uldnum(monkeypatch, capsys, "show", "BAOABX")
    assert (code, out) == (2, "")
    assert "The letters of splitting words are" in err
    code, _, err = uldnum(monkeypatch, capsys, "show", "BAOAB", "--h", "0")
    assert code == 2
    assert err.startswith("error: --h: must be positive")


def test_list_and_doctor(monkeypatch, capsys):
    _, out, _ = uldnum(monkeypatch, capsys, "list")
    for name in ("BAOAB", "mild(momentum)", "ring-8", "galaxygrad-hsc32", "numba", "Leimkuhler"):
        assert name in out
    _, out, _ = uldnum(monkeypatch, capsys, "doctor")
    for name in ("numba", "works", "onnx", "pip install 'uldnum["):
        assert name in out


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["bias"],
        ["sample"],
        ["list"],
        ["show"],
        ["doctor"],
        ["fetch"],
        ["anneal"],
        ["mixing"],
        ["frontier"],
        ["advise"],
    ],
)
def test_help_teaches(monkeypatch, capsys, command):
    code, out, _ = uldnum(monkeypatch, capsys, *command, "--help")
    assert code == 0
    assert "Usage" in out


def test_help_breaks_lines_at_the_width_of_the_terminal():
    """A paragraph of a help text is one line of the source that the terminal breaks."""
    for command in app.app.registered_commands:
        assert "\n" not in command.help.replace("\n\n", "")
        assert command.help.split() == command.callback.__doc__.split()


def test_every_extra_has_a_purpose():
    extras = set(metadata("uldnum").get_all("Provides-Extra"))
    assert extras - {"test", "dev"} == set(EXTRAS)
    base, train = ({one.name for one in requirements(extra)} for extra in ("", "train"))
    assert {"onnx", "onnxruntime"} <= train  # this extra includes another one
    assert {"numpy", "numba"} <= base
    assert "matplotlib" not in base


def test_requirements_that_are_not_met_are_named():
    found = installed("numpy")
    assert unmet(Requirement("numpy>=2.1")) == ""
    assert unmet(Requirement("numpy<2")) == f"numpy {found} does not fit <2"
    assert unmet(Requirement("no-such-package>=1")) == "missing no-such-package"


def test_a_missing_extra_names_its_command(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, _, err = uldnum(monkeypatch, capsys, "bias", "--out", str(tmp_path))
    assert code == 2
    assert "pip install 'uldnum[plot]'" in err


def test_import_is_light():
    """Importing the command line does not import optional packages or Numba, which are slow to import."""
    script = "import sys, uldnum, uldnum.cli.app; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {"matplotlib", "onnx", "onnxruntime", "numba"} & set(done.stdout.split())


def test_a_command_exits_without_a_search_for_cycles():
    """When the interpreter exits, the objects of the imported libraries are no longer subject to garbage collection."""
    script = "import atexit, gc; atexit.register(lambda: print(gc.get_freeze_count()))"
    script += "; from uldnum.cli.command import main; main()"
    done = subprocess.run([sys.executable, "-c", script, "--version"], capture_output=True, text=True, check=True)
    version, frozen = done.stdout.splitlines()
    assert version == f"uldnum {VERSION}"
    assert int(frozen) > 10_000
