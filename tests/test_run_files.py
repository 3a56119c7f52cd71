"""Files of runs: altered or damaged files raise a clear error and are never resumed."""

import json
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

import uldnum
from uldnum import levels
from uldnum.sampling.run import Run
from uldnum.sampling.storage import content_digest

RING = uldnum.target("ring-8")
ARGUMENTS = {"h": [0.2, 0.4], "steps": 20, "burn_in": 4, "chains": 5, "seed": 3, "bins": 12, "thin": 6}


@pytest.fixture(scope="module")
def runs():
    plan = uldnum.plan("BAOAB", levels.geometric(2.0, 0.1, 4), steps=2, h=0.4)
    return {
        "sample": uldnum.sample(RING, "OBABO", **ARGUMENTS, progress=False),
        "anneal": uldnum.anneal(RING, plan, chains=5, seed=3, keep=True, progress=False),
    }


def resized(name, axis, change):
    def alter(data):
        array = data[name].values
        wider = np.repeat(array, 2, axis) if change > 0 else np.delete(array, -1, axis)
        return data.drop_vars(name).assign({name: ([f"other_{i}" for i in range(wider.ndim)], wider)})

    return alter


def retyped(name, dtype):
    return lambda data: data.assign({name: data[name].astype(dtype)})


def filled(name, value):
    return lambda data: data.assign({name: data[name] * 0 + value})


def setting(**changes):
    return lambda data: data.assign_attrs(settings=json.dumps(json.loads(data.attrs["settings"]) | changes))


def attribute(**changes):
    return lambda data: data.assign_attrs(**changes)


ARRAYS = ("u", "phase_space", "sums", "products", "counts", "escape_step", "nfe", "trace", "centre", "low", "high")
ALTERED = {
    **{f"{name} without its last of axis 0": resized(name, 0, -1) for name in ARRAYS},
    **{f"{name} twice along its last axis": resized(name, -1, 1) for name in ARRAYS if name != "nfe"},
    **{f"{name} as float32": retyped(name, "float32") for name in ARRAYS if name != "trace"},
    **{f"{name} missing": lambda data, name=name: data.drop_vars(name) for name in ARRAYS},
    **{f"{name} not finite": filled(name, np.nan) for name in ("u", "phase_space", "sums", "centre")},
    "nfe below 0": filled("nfe", -1), "left in the future": filled("escape_step", 10**6),
    "more chains": setting(chains=6), "no chains": setting(chains=0), "chains in words": setting(chains="five"),
    "another shape": setting(shape=[3]), "a huge shape": setting(shape=[2**62, 2]), "no shape": setting(shape=[]),
    "another type": setting(dtype="float32"), "no type": setting(dtype="object"), "one step size": setting(h=[0.2]),
    "endless steps": setting(h=[0.2, float("inf")]), "more bins": setting(bins=13), "many bins": setting(bins=2**40),
    "another thinning": setting(thin=5), "a longer burn-in": setting(burn_in=23), "a new setting": setting(colour=1),
    "a seed below 0": setting(seed=-1), "no settings": attribute(settings="[]"), "a step beyond": attribute(step=25),
    "a step below 0": attribute(step=-1), "half a step": attribute(step=3.5), "no digest": attribute(digest=""),
    "tables of another shape": resized("tables_b", 1, 1), "tables without C": lambda data: data.drop_vars("tables_C"),
    "a mixture of another shape": resized("mixture_shifts", 0, -1), "other shifts": filled("mixture_shifts", 1.0),
    "deep info": attribute(info="[" * 10**5),
}  # fmt: skip


@pytest.mark.parametrize("change", ALTERED)
def test_an_altered_file_is_refused_or_not_resumed(runs, tmp_path, change):
    """Arrays that do not match the settings are refused even if the digest matches, so they never reach a kernel."""
    altered = ALTERED[change](runs["sample"].to_xarray())
    if change != "no digest" and {"settings", "step", "steps", "info"} <= set(altered.attrs):
        altered.attrs["digest"] = content_digest(altered)
    altered.to_netcdf(tmp_path / "run.nc")
    with pytest.raises(ValueError, match=r"^resume: "):
        uldnum.sample(RING, "OBABO", **ARGUMENTS | {"steps": 40}, resume=tmp_path / "run.nc", progress=False)


@pytest.mark.parametrize("kind", ["sample", "anneal"])
def test_changed_numbers_are_refused(runs, tmp_path, kind):
    """A change of one bit in any array or attribute does not match the digest."""
    data = runs[kind].to_xarray()
    for name in [*map(str, data.variables), "steps", "info"]:
        if name in data.attrs:
            altered = data.assign_attrs({name: 31 if name == "steps" else "{}"})
        elif data[name].size:
            values = np.array(data[name].values)
            values.reshape(-1).view(np.uint8)[:1] ^= 1
            altered = data.assign({name: (data[name].dims, values)})
        else:
            continue
        altered.to_netcdf(tmp_path / "run.nc")
        with pytest.raises(ValueError, match=r"path: .*run\.nc' is not a saved run"):
            Run.load(tmp_path / "run.nc")
    data.assign_attrs(note="mine").assign(more=("more", [1.0])).to_netcdf(tmp_path / "run.nc")
    assert Run.load(tmp_path / "run.nc").nfe == runs[kind].nfe


DAMAGE = """
import sys, numpy as np
from pathlib import Path
from uldnum.sampling.run import Run
whole, at = Path(sys.argv[1]), Path(sys.argv[1]).with_name("damaged.nc")
sound, rng, outcomes = Run.load(whole), np.random.default_rng(0), []
for i in range(60):
    content = bytearray(whole.read_bytes())
    where = rng.integers(len(content))
    if i % 3 == 0:
        content = content[:where]
    else:
        content[where : where + 1 + i % 2 * 40] = rng.bytes(1 + i % 2 * 40)
    at.write_bytes(content)
    try:
        found = Run.load(at)
        same = all(np.array_equal(value, getattr(found.state, name)) for name, value in vars(sound.state).items())
        same = same and found.settings == sound.settings and np.array_equal(found.trace, sound.trace)
        outcomes.append("same" if same else "another run")
    except ValueError as error:
        outcomes.append("refused" if "is not a saved run" in str(error) else repr(error))
print(*outcomes, sep="\\n")
"""


def test_damaged_files_are_refused(runs, tmp_path):
    """60 files with bytes overwritten or cut off are refused, or load as the same run if no relevant byte changed."""
    runs["sample"].save(tmp_path / "run.nc")
    done = subprocess.run([sys.executable, "-c", DAMAGE, tmp_path / "run.nc"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    outcomes = done.stdout.split("\n")[:-1]
    assert len(outcomes) == 60
    assert set(outcomes) == {"same", "refused"}


def test_a_resumed_run_uses_the_tables_that_it_has_stored(runs, tmp_path):
    """A resumed run keeps stored coefficients that differ by rounding, as those of user recipes on another platform."""
    run = runs["sample"]
    rounded = {"tables_b": run.tables.b * (1 + 2**-50), "mixture_shifts": run.mixture.shifts * (1 - 2**-50)}
    data = run.to_xarray()
    data = data.assign({name: (data[name].dims, array) for name, array in rounded.items()})
    data.assign_attrs(digest=content_digest(data)).to_netcdf(tmp_path / "run.nc")
    arguments = ARGUMENTS | {"steps": 60}
    longer = uldnum.sample(RING, "OBABO", **arguments, resume=tmp_path / "run.nc", progress=False)
    other = uldnum.sample(RING, "OBABO", **arguments, resume=run, progress=False)
    np.testing.assert_allclose(longer.x, other.x, rtol=1e-9)
    assert not np.array_equal(longer.x, other.x)
    np.testing.assert_array_equal(longer.tables.b, rounded["tables_b"])
    xr.testing.assert_identical(
        longer.to_xarray().drop_attrs(), Run.load(save(longer, tmp_path)).to_xarray().drop_attrs()
    )


@pytest.mark.parametrize("name", ["run.nc", "run.zarr"])
def test_a_missing_folder_is_named(runs, tmp_path, name):
    with pytest.raises(ValueError, match=r"path: cannot write .*missing.*run\..*: No such file or directory"):
        runs["sample"].save(tmp_path / "missing" / name)


def save(run, folder):
    run.save(folder / "again.nc")
    return folder / "again.nc"
