"""The command line, as a user meets it."""

import json
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

from uldnum import cli


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
    assert second["exact"] == pytest.approx((1 / (1 - 0.0625) - 1) / np.sqrt(2))
    assert answer["results"][0]["diverged"] == 0


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (("bias", "--target", "gausian"), "nearest is 'gaussian'"),
        (("bias", "--integrators", "BAOABX"), "unknown name 'BAOABX'"),
        (("bias", "--h", "0.1:x"), "neither first:last:count"),
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
    assert err.strip().count("\n") == 0
    assert "Traceback" not in err + out


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
