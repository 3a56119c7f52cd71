"""The command line, as a user meets it."""

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
import xarray as xr
from onnx import TensorProto, helper

from uldnum import cli, networks, sampling, studies


def uldnum(monkeypatch, capsys, *arguments):
    """Run the command line in this process; return its exit status, output and errors."""
    monkeypatch.setattr(sys, "argv", ["uldnum", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
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
        (("bias", "--h", "0.1:x"), "neither first:last:count"),
        (("bias", "--h", "0:1:3"), "h: must be positive"),
        (("bias", "--h", "0.1:1:0"), "asks for 0 step sizes"),
        (("bias", "--h", "0.1,0.1"), "several different step sizes"),
        (("bias", "--h", "0.1", "--delta", "0.1"), "exactly one"),
        (("bias", "--exact-only", "--target", "ring-8"), "no exact answer on 'ring-8'"),
        (("bias", "--exact-only", "--tolerance", "1e-15"), "tolerance: must be a number between"),
        (("bias", "--integrators", "ULA,ula"), "each once"),
        (("sample", "--steps", "5", "--every", "6"), "every: must be at most"),
        (("sample", "--friction", "-1"), "friction: must be positive"),
        (("sample", "--out", "chain.gif"), "ends in .png"),
        (("bias", "--h", "0"), "h: must be positive"),
        (("bias", "--out", "/proc/nowhere"), "out: cannot write"),
        (("sample", "--network", "galaxy"), "nearest is 'galaxygrad-hsc32'"),
        (("sample", "--out", "/proc/nowhere/chain.png"), "out: cannot write"),
    ],
)
def test_mistakes_are_one_line(monkeypatch, capsys, tmp_path, arguments, fault):
    monkeypatch.chdir(tmp_path)
    code, out, err = uldnum(monkeypatch, capsys, *arguments)
    assert code == 2
    assert fault in err
    lines = [line for line in err.splitlines() if not line.startswith("compiling")]
    assert len(lines) == 1
    assert "Traceback" not in err + out


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
    code, _, _ = uldnum(monkeypatch, capsys, "bias", *options, "--out", str(tmp_path))
    assert code == 0
    study = xr.load_dataset(tmp_path / "bias.nc")
    wanted = {"target": "ring-8", "friction": 2.0, "seed": 7, "nfe_recorded": 50, "nfe_burn_in": 0, "chains": 32}
    assert wanted.items() <= study.attrs.items()
    np.testing.assert_allclose(study.h, 0.2)


def test_exact_bias_without_sampling(monkeypatch, capsys, tmp_path):
    """ULA on a Gaussian in closed form, and beyond its stability nothing."""
    arguments = ("bias", "--exact-only", "--target", "gaussian", "--integrators", "ULA", "--h", "0.5,2.1")
    code, out, _ = uldnum(monkeypatch, capsys, *arguments, "--out", str(tmp_path), "--json")
    assert code == 0
    results = {(line["h"], line["metric"]): line for line in json.loads(out)["results"]}
    assert results[0.5, "second_moment"]["exact"] == pytest.approx((1 / (1 - 0.0625) - 1) / np.sqrt(2))
    assert results[2.1, "second_moment"]["exact"] is None
    assert set(results[0.5, "mean"]) == {"integrator", "h", "metric", "exact"}
    assert (tmp_path / "bias.png").is_file()
    code, out, _ = uldnum(monkeypatch, capsys, *arguments, "--out", str(tmp_path))
    assert code == 0
    assert "Exact bias of the second moment" in out
    assert "4.71e-02" in out
    assert out.count("none") == 1


@pytest.mark.filterwarnings("default::UserWarning")
def test_bias_where_all_diverge_says_so(monkeypatch, capsys, tmp_path):
    options = ("--target", "gaussian", "--integrators", "ULA,BAOAB", "--h", "3,4", "--nfe", "300", "--chains", "8")
    code, out, err = uldnum(monkeypatch, capsys, "bias", *options, "--out", str(tmp_path))
    assert code == 0
    assert out.count("diverged") == 4
    assert "warning: ula diverged at h = 3 (8 of 8 chains" in err
    assert (tmp_path / "bias.png").is_file()


def test_ctrl_c_ends_in_one_line(monkeypatch, capsys, tmp_path):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(studies, "bias", stop)
    code, _, err = uldnum(monkeypatch, capsys, "bias", "--out", str(tmp_path))
    assert code == 130
    assert "interrupted: nothing was written" in err
    assert list(tmp_path.iterdir()) == []


def test_sample_draws_and_stores_states(monkeypatch, capsys, tmp_path):
    """The whole command on a stub network of score -x."""
    info = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", 1, 4, 4])]
    info.append(helper.make_tensor_value_info("t", TensorProto.FLOAT, ["b"]))
    out = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["b", 1, 4, 4])
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["score"])], "stub", info, [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "stub.onnx")
    card = networks.NETWORKS["galaxygrad-hsc32"]._replace(fetch=lambda cache: tmp_path / "stub.onnx")
    monkeypatch.setitem(networks.NETWORKS, "galaxygrad-hsc32", card)
    options = ("--steps", "15", "--every", "4", "--chains", "3", "--seed", "5", "--friction", "2", "--sigma", "0.6")
    strip = str(tmp_path / "strips" / "chain.png")
    code, _, err = uldnum(
        monkeypatch, capsys, "sample", "--integrator", "BAOAB", "--h", "0.5", *options, "--out", strip
    )
    assert code == 0, err
    stored = np.load(tmp_path / "strips" / "chain.npz")
    assert stored["trace"].shape == stored["denoised"].shape == (3, 3, 1, 4, 4)
    level = networks.OnnxScore(tmp_path / "stub.onnx", "stub").at(0.6)
    run = sampling.sample(level, "BAOAB", h=0.5, friction=2.0, steps=15, chains=3, seed=5, progress=False)
    np.testing.assert_array_equal(stored["x"], run.x)
    np.testing.assert_array_equal(stored["p"], run.p)
    np.testing.assert_allclose(stored["denoised"], 0.8 * stored["trace"], rtol=1e-5)
    assert (tmp_path / "strips" / "chain.png").is_file()


def test_list_and_doctor(monkeypatch, capsys):
    _, out, _ = uldnum(monkeypatch, capsys, "list")
    for name in ("BAOAB", "mild(momentum)", "ring-8", "galaxygrad-hsc32", "numba", "Leimkuhler"):
        assert name in out
    _, out, _ = uldnum(monkeypatch, capsys, "doctor")
    for name in ("numba", "works", "onnx", "pip install 'uldnum["):
        assert name in out


@pytest.mark.parametrize("command", [[], ["bias"], ["sample"], ["list"], ["doctor"]])
def test_help_teaches(monkeypatch, capsys, command):
    code, out, _ = uldnum(monkeypatch, capsys, *command, "--help")
    assert code == 0
    assert "Usage" in out


def test_a_missing_extra_names_its_command(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, _, err = uldnum(monkeypatch, capsys, "bias", "--out", str(tmp_path))
    assert code == 2
    assert "pip install 'uldnum[plot]'" in err


def test_import_is_light():
    """Optional parts are imported where they are used, Numba too: 'uldnum list' does not wait for it."""
    script = "import sys, uldnum, uldnum.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {"matplotlib", "onnx", "onnxruntime", "numba"} & set(done.stdout.split())
