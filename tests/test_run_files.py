"""Files of runs: altered or damaged files raise a clear error and are never resumed."""

import json
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr
from helpers.runs import parts_of, stored

import uldnum
from uldnum import levels
from uldnum._util import files
from uldnum.sampling import storage
from uldnum.sampling.run import Run

RING = uldnum.target("ring-8")
ARGUMENTS = {"h": [0.2, 0.4], "steps": 20, "burn_in": 4, "chains": 5, "seed": 3, "bins": 12, "thin": 6}


@pytest.fixture(scope="module")
def runs():
    plan = uldnum.plan("BAOAB", levels.geometric(2.0, 0.1, 4), steps=2, h=0.4)
    return {
        "sample": uldnum.sample(RING, "OBABO", **ARGUMENTS, progress=False),
        "anneal": uldnum.anneal(RING, plan, chains=5, seed=3, keep=True, progress=False),
    }


def altering(name, change):
    """Return a function that changes the part of a run that has a variable."""

    def alter(results, resume):
        return (change(results), resume) if name in results.variables else (results, change(resume))

    return alter


# ------------------------------------------------------------------------------------------------------ named results


@pytest.mark.parametrize("suffix", ["nc", "zarr"])
def test_results_are_named_variables(runs, tmp_path, suffix):
    """`xarray.open_dataset` reads what a person expects, with dimensions, in both formats; nothing is read twice."""
    run, path = runs["sample"], tmp_path / f"run.{suffix}"
    run.save(path)
    with xr.open_dataset(path) as data:
        xr.testing.assert_identical(data.drop_attrs(), run.to_xarray().drop_attrs())
        assert {name: variable.dims for name, variable in data.variables.items()} == {
            "h": ("h",), "draw": ("draw",), "nfe": (), "diverged": ("h",),
            "x": ("h", "chain", "dim"), "p": ("h", "chain", "dim"), "trace": ("h", "draw", "chain", "dim"),
            "mean": ("h", "dim"), "mean_error": ("h", "dim"), "covariance": ("h", "dim", "dim_2"),
            "covariance_error": ("h", "dim", "dim_2"), "histogram": ("h", "dim", "bin"), "edges": ("dim", "edge"),
            "below": ("h", "dim"), "above": ("h", "dim"),
        }  # fmt: skip
        for name in ("x", "p", "trace", "mean", "mean_error", "covariance", "covariance_error", "edges", "nfe"):
            np.testing.assert_array_equal(data[name], getattr(run, name))
        np.testing.assert_array_equal(data.h, [0.2, 0.4])
        np.testing.assert_array_equal(data.draw, [6, 12, 18])
        counted = data.histogram.sum("bin") + data.below + data.above
        np.testing.assert_array_equal(counted, run.histogram.sum(axis=(1, 3)))
        assert (counted == 5 * 20 // 4).all()  # one in four steps is counted
        np.testing.assert_array_equal(data.attrs.pop("h"), [0.2, 0.4])
        assert data.attrs == {
            "target": "ring-8", "integrator": "OBABO", "friction": 1.0, "steps": 20, "recorded_steps": 20, "burn_in": 4,
            "units": "h in units of time, friction in units of 1/time", "chains": 5, "first_chain": 0, "seed": 3,
            "backend": "numba", "dtype": "float64", "version": uldnum.__version__, "format": 5,
            "temperature": 1.0, "score_noise": 0.0, "mass": 1.0, "record": "covariance", "record_every": 1,
        }  # fmt: skip


def test_what_a_run_did_not_record_is_absent(runs):
    data = uldnum.sample("gaussian", "ula", h=0.5, steps=3, chains=4, progress=False, backend="array").to_xarray()
    assert set(data.variables) == {"x", "mean", "mean_error", "covariance", "covariance_error", "nfe", "diverged"}
    assert data.attrs["h"] == 0.5
    data = runs["anneal"].to_xarray()
    assert set(data.variables) == {"x", "p", "trace", "draw", "nfe", "diverged"}
    np.testing.assert_array_equal(data.draw, range(1, 6))
    assert not {"h", "friction", "units"} & set(data.attrs)


def test_images_have_channels_rows_and_columns(tmp_path):
    """The step size is in units of sigma, and the file says so."""
    images = uldnum.targets.DataMixture(np.linspace(-1, 1, 36).reshape(3, 2, 2, 3))
    common = {"steps": 4, "chains": 5, "thin": 2, "dtype": "float32", "progress": False}
    run = uldnum.sample(images.at(0.5), "BAOAB", h=[0.5, 1.0], **common)
    run.save(tmp_path / "run.nc")
    with xr.open_dataset(tmp_path / "run.nc") as data:
        sample = {"channel": 2, "row": 2, "column": 3}
        assert dict(data.x.sizes) == {"h": 2, "chain": 5} | sample
        assert dict(data.trace.sizes) == {"h": 2, "draw": 2, "chain": 5} | sample
        assert data.attrs["units"] == "h in units of sigma, friction in units of 1/sigma, sigma = 0.5"
        assert data.h.units == "sigma"
        np.testing.assert_array_equal(data.trace, run.trace)
    np.testing.assert_array_equal(Run.load(tmp_path / "run.nc").trace, run.trace)
    assert [storage.sample_dims((2,) * n) for n in (1, 2, 4)] == [
        ("dim",), ("row", "column"), ("dim_0", "dim_1", "dim_2", "dim_3")
    ]  # fmt: skip


def test_nothing_large_is_stored_twice(tmp_path):
    """A file is larger than the trace and the state, both counted once, by less than 64 KiB and the statistics."""
    run = uldnum.sample(RING, "BAOAB", h=0.2, steps=200, chains=2000, thin=10, backend="array", progress=False)
    run.save(tmp_path / "run.nc")
    arrays = [run.trace, *(part for part in vars(run.state).values() if isinstance(part, np.ndarray))]
    assert (tmp_path / "run.nc").stat().st_size < sum(array.nbytes for array in arrays) + 2**16


# ------------------------------------------------------------------------------------------------------- altered files


def resized(name, axis, change):
    def alter(data):
        array = data[name].values
        wider = np.repeat(array, 2, axis) if change > 0 else np.delete(array, -1, axis)
        return data.drop_vars(name).assign({name: ([f"other_{i}" for i in range(wider.ndim)], wider)})

    return altering(name, alter)


def retyped(name, dtype):
    return altering(name, lambda data: data.assign({name: data[name].astype(dtype)}))


def filled(name, value):
    return altering(name, lambda data: data.assign({name: data[name] * 0 + value}))


def missing(name):
    return altering(name, lambda data: data.drop_vars(name))


def setting(**changes):
    return attribute(settings=lambda text: json.dumps(json.loads(text) | changes))


def attribute(**changes):
    def alter(results, resume):
        values = {name: new(resume.attrs[name]) if callable(new) else new for name, new in changes.items()}
        return results, resume.assign_attrs(values)

    return alter


ARRAYS = (
    "x", "p", "trace", "u", "more_rows", "sums", "products", "counts", "escape_step", "centre", "low", "high",
)  # fmt: skip
ALTERED = {
    **{f"{name} without its last of axis 0": resized(name, 0, -1) for name in ARRAYS},
    **{f"{name} twice along its last axis": resized(name, -1, 1) for name in ARRAYS},
    **{f"{name} as float32": retyped(name, "float32") for name in ARRAYS},
    **{f"{name} missing": missing(name) for name in ARRAYS},
    **{f"{name} not finite": filled(name, np.nan) for name in ("x", "p", "u", "sums", "centre")},
    "left in the future": filled("escape_step", 10**6),
    "more chains": setting(chains=6), "no chains": setting(chains=0), "chains in words": setting(chains="five"),
    "another shape": setting(shape=[3]), "a huge shape": setting(shape=[2**62, 2]), "no shape": setting(shape=[]),
    "another type": setting(dtype="float32"), "no type": setting(dtype="object"), "one step size": setting(h=[0.2]),
    "no groups": setting(grouped=False), "an endless unit": setting(time_unit=float("inf")),
    "endless steps": setting(h=[0.2, float("inf")]), "more bins": setting(bins=13), "many bins": setting(bins=2**40),
    "another thinning": setting(thin=5), "a longer burn-in": setting(burn_in=23), "a new setting": setting(colour=1),
    "a seed below 0": setting(seed=-1), "no settings": attribute(settings="[]"), "a step beyond": attribute(step=25),
    "a step below 0": attribute(step=-1), "half a step": attribute(step=3.5), "no digest": attribute(digest=""),
    "tables of another shape": resized("tables_b", 1, 1), "tables without C": missing("tables_C"),
    **{f"nfe of chains {what}": lambda results, resume, change=change: (results, change(resume)) for what, change in {
        "below 0": lambda data: data.assign(nfe=data.nfe - 1000), "as float32": lambda data: data.assign(
        nfe=data.nfe.astype("float32")), "missing": lambda data: data.drop_vars("nfe"),
        "without its last of axis 0": lambda data: data.assign(nfe=(("g", "chain"), data.nfe.values[:1])),
    }.items()},
    "a mixture of another shape": resized("mixture_shifts", 0, -1), "other shifts": filled("mixture_shifts", 1.0),
    "deep info": attribute(info="[" * 10**5),
}  # fmt: skip


@pytest.mark.parametrize("change", ALTERED)
def test_an_altered_file_is_refused_or_not_resumed(runs, tmp_path, change):
    """Arrays that do not match the settings are refused even if the digest matches, so they never reach a kernel."""
    stored(tmp_path / "run.nc", *ALTERED[change](*parts_of(runs["sample"])), signed=change != "no digest")
    with pytest.raises(ValueError, match=r"^resume: "):
        uldnum.sample(RING, "OBABO", **ARGUMENTS | {"steps": 40}, resume=tmp_path / "run.nc", progress=False)


@pytest.mark.parametrize("kind", ["sample", "anneal"])
def test_changed_numbers_are_refused(runs, tmp_path, kind):
    """A change of one bit in any array or attribute does not match the digest."""
    results, resume = parts_of(runs[kind])
    altered = [(flipped(results, name), resume) for name in storage.READ if name in results]
    altered += [(results, flipped(resume, name)) for name in resume.variables if resume[name].size]
    altered += [(results, resume.assign_attrs({name: value})) for name, value in (("steps", 31), ("info", "{}"))]
    assert len(altered) > 20
    for parts in altered:
        with pytest.raises(ValueError, match=r"path: .*run\.nc' is not a saved run"):
            Run.load(stored(tmp_path / "run.nc", *parts, signed=False))


def flipped(data, name):
    """Return a dataset in which one bit of a variable is changed."""
    values = np.array(data[name].values)
    values.reshape(-1).view(np.uint8)[:1] ^= 1
    return data.assign({name: (data[name].dims, values)})


@pytest.mark.parametrize("kind", ["sample", "anneal"])
def test_results_that_are_computed_are_not_read(runs, tmp_path, kind):
    """Statistics, histograms and attributes for readers may be altered or absent: loading gives those of the state."""
    run, (results, resume) = runs[kind], parts_of(runs[kind])
    computed = [name for name in results.variables if name not in storage.READ]
    wrong = results.assign({name: results[name] * 0 - 7 for name in computed if name in results.data_vars})
    wrong = wrong.assign_attrs(chains=1, integrator="mine", note="mine").assign(more=("more", [1.0]))
    for data in (wrong, results.drop_vars(computed)):
        again = Run.load(stored(tmp_path / "run.nc", data, resume, signed=False))
        xr.testing.assert_identical(again.to_xarray(), run.to_xarray())


@pytest.mark.parametrize("suffix", ["nc", "zarr"])
def test_a_run_of_the_first_format_is_named(runs, tmp_path, suffix):
    """Its settings and its digest are attributes of the root group."""
    path = tmp_path / f"run.{suffix}"
    files.store(xr.Dataset(attrs={"settings": "{}", "digest": "0"}), path)
    told = (
        rf"^path: '.*run\.{suffix}' was saved in format 1, and this version of uldnum reads format 5; repeat the run$"
    )
    with pytest.raises(ValueError, match=told):
        Run.load(path)
    results, resume = parts_of(runs["sample"])
    stored(path, results.assign_attrs(format=6), resume)
    with pytest.raises(ValueError, match="was saved in format 6, and this version of uldnum reads format 5"):
        Run.load(path)
    files.store(runs["sample"].to_xarray(), path)
    with pytest.raises(ValueError, match=r"is not a saved run: it has no format; uldnum\.Run\.save writes runs"):
        Run.load(path)


DAMAGE = """
import shutil, sys, numpy as np
from pathlib import Path
from uldnum.sampling.run import Run
whole = Path(sys.argv[1])
at = whole.with_stem("damaged")
sound, rng, outcomes = Run.load(whole), np.random.default_rng(0), []
for i in range(int(sys.argv[2])):
    if whole.is_dir():  # one file of the folder
        shutil.rmtree(at, ignore_errors=True)
        shutil.copytree(whole, at)
        part = rng.choice(sorted(path for path in at.rglob("*") if path.is_file()))
    else:
        shutil.copy(whole, at)
        part = at
    content = bytearray(part.read_bytes())
    where = rng.integers(len(content))
    if i % 3 == 0:
        content = content[:where]
    else:
        content[where : where + 1 + i % 2 * 40] = rng.bytes(1 + i % 2 * 40)
    part.write_bytes(content)
    try:
        found = Run.load(at)
        same = all(np.array_equal(value, getattr(found.state, name)) for name, value in vars(sound.state).items())
        same = same and found.settings == sound.settings and np.array_equal(found.trace, sound.trace)
        outcomes.append("same" if same else "another run")
    except ValueError as error:
        outcomes.append("refused" if "is not a saved run" in str(error) else repr(error))
print(*outcomes, sep="\\n")
"""


@pytest.mark.parametrize(("suffix", "count"), [("nc", 60), ("zarr", 15)])
def test_damaged_files_are_refused(runs, tmp_path, suffix, count):
    """Files with bytes overwritten or cut off are refused, or load as the same run if no relevant byte changed."""
    path = tmp_path / f"run.{suffix}"
    runs["sample"].save(path)
    done = subprocess.run([sys.executable, "-c", DAMAGE, path, str(count)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    outcomes = done.stdout.split("\n")[:-1]
    assert len(outcomes) == count
    assert set(outcomes) - {"same"} == {"refused"}


def test_a_resumed_run_uses_the_tables_that_it_has_stored(runs, tmp_path):
    """A resumed run keeps stored coefficients that differ by rounding, as those of user recipes on another platform."""
    run, (results, resume) = runs["sample"], parts_of(runs["sample"])
    rounded = {"tables_b": run.tables.b * (1 + 2**-50), "mixture_shifts": run.mixture.shifts * (1 - 2**-50)}
    resume = resume.assign({name: (resume[name].dims, array) for name, array in rounded.items()})
    stored(tmp_path / "run.nc", results, resume)
    arguments = ARGUMENTS | {"steps": 60}
    longer = uldnum.sample(RING, "OBABO", **arguments, resume=tmp_path / "run.nc", progress=False)
    other = uldnum.sample(RING, "OBABO", **arguments, resume=run, progress=False)
    np.testing.assert_allclose(longer.x, other.x, rtol=1e-9)
    assert not np.array_equal(longer.x, other.x)
    np.testing.assert_array_equal(longer.tables.b, rounded["tables_b"])
    for part, again in zip(parts_of(longer), parts_of(Run.load(save(longer, tmp_path))), strict=True):
        xr.testing.assert_identical(part, again)


@pytest.mark.parametrize("name", ["run.nc", "run.zarr"])
def test_a_missing_folder_is_named(runs, tmp_path, name):
    with pytest.raises(ValueError, match=r"path: cannot write .*missing.*run\..*: No such file or directory"):
        runs["sample"].save(tmp_path / "missing" / name)


def save(run, folder):
    run.save(folder / "again.nc")
    return folder / "again.nc"
