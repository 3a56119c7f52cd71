r"""Training of the classifier of digits in the package, whose features compare sets of images, in some minutes.

    python -m analysis.train_classifier

The network consists of three convolutions with batch normalisation, the first two with stride 2. Its 64 features are
the means of the channels of the last convolution over all positions, as in the layer of Inception that the Frechet
Inception distance uses (Heusel et al. 2017), followed by a fixed affine map after which each feature has mean 0 and
variance 1 over the training digits. Logits are linear in the features. The training images are shifted by at most two
pixels in each direction.

At the end, the log of the training and the exported network are written to their places in the repository.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import trange

from uldnum._util.files import atomic
from uldnum.networks._features import SHIPPED
from uldnum.networks.images import reference_images

LOG = Path(__file__).parent / "data" / "digits_training.json"

SEED = 0
EPOCHS, BATCH = 8, 128
RATE = 5e-3  # largest learning rate of AdamW, in a cycle of one period (Smith & Topin 2019)
DECAY = 1e-2
SHIFT = 2  # largest shift of a training image, in pixels

CHANNELS, KERNELS, STRIDES = (24, 48, 64), (5, 3, 3), (2, 2, 1)


class Classifier(nn.Module):
    """Three convolutions, the mean over positions, and logits."""

    def __init__(self) -> None:
        super().__init__()
        sizes = zip((1, *CHANNELS[:-1]), CHANNELS, KERNELS, STRIDES, strict=True)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, bias=False)
            for before, after, kernel, stride in sizes
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for channels in CHANNELS)
        self.standardise = nn.BatchNorm1d(CHANNELS[-1], affine=False)
        self.logits = nn.Linear(CHANNELS[-1], 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map images (n, 1, 28, 28) with values in [-1, 1] to features (n, 64) and logits (n, 10)."""
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = functional.relu(norm(convolution(x)))
        features = self.standardise(x.mean(dim=(2, 3)))
        return features, self.logits(features)


def shifted(images: Tensor, random: torch.Generator) -> Tensor:
    """Return the images, each shifted by at most SHIFT pixels in each direction, with black at the border."""
    size = images.shape[-1]
    padded = functional.pad(images, (SHIFT,) * 4, value=-1.0)
    rows, columns = torch.randint(2 * SHIFT + 1, (2, len(images), 1), generator=random) + torch.arange(size)
    return padded[torch.arange(len(images))[:, None, None], 0, rows[:, :, None], columns[:, None, :]][:, None]


def accuracy(net: Classifier, images: Tensor, labels: Tensor) -> float:
    """Return the share of images whose largest logit is that of their label."""
    net.eval()
    with torch.no_grad():
        found = torch.cat([net(part)[1].argmax(dim=1) for part in images.split(1000)])
    net.train()
    return (found == labels).float().mean().item()


def train(images: Tensor, labels: Tensor) -> tuple[Classifier, list[dict[str, float]]]:
    """Train the classifier; return it and the log, one line for each epoch."""
    torch.set_num_threads(1)  # the order of sums, and so the result, depends on it
    torch.manual_seed(SEED)
    random = torch.Generator().manual_seed(SEED)
    net, log, begun = Classifier(), [], time.perf_counter()
    steps = len(images) // BATCH
    adam = torch.optim.AdamW(net.parameters(), weight_decay=DECAY)
    cycle = torch.optim.lr_scheduler.OneCycleLR(adam, RATE, epochs=EPOCHS, steps_per_epoch=steps)
    for epoch in range(EPOCHS):
        order, total = torch.randperm(len(images), generator=random), 0.0
        for step in trange(steps, desc=f"epoch {epoch + 1}", unit="step", mininterval=5):
            part = order[step * BATCH : (step + 1) * BATCH]
            loss = functional.cross_entropy(net(shifted(images[part], random))[1], labels[part])
            adam.zero_grad()
            loss.backward()
            adam.step()
            cycle.step()
            total += loss.item()
        log.append({"epoch": epoch + 1, "loss": total / steps, "seconds": time.perf_counter() - begun})
        print(json.dumps(log[-1]))
    return net, log


def standardised(net: Classifier, images: Tensor) -> Classifier:
    """Return the network with features of mean 0 and variance 1 over the images, and unchanged logits."""
    net.eval()
    with torch.no_grad():
        features = torch.cat([net(part)[0] for part in images.split(1000)]).double()
        mean, deviation = features.mean(dim=0), features.std(dim=0, correction=0)
        layer = net.standardise
        old = (layer.running_var.double() + layer.eps).sqrt()
        layer.running_mean += (mean * old).float()
        layer.running_var.copy_((old * deviation) ** 2 - layer.eps)
        net.logits.bias += (net.logits.weight.double() @ mean).float()
        net.logits.weight *= deviation.float()
    return net


def export(net: Classifier, path: Path, card: dict[str, str]) -> None:
    """Write the network as an ONNX model for any number of images, with its card in the metadata."""
    program = torch.onnx.export(
        net.eval(), (torch.zeros(2, 1, 28, 28),), input_names=["image"], output_names=["features", "logits"],
        opset_version=18, dynamo=True, dynamic_shapes=({0: torch.export.Dim("batch")},), verbose=False,
    )  # fmt: skip
    model = program.model_proto
    for node in model.graph.node:  # remove paths of this machine, which the exporter records
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    onnx.helper.set_model_props(model, {f"uldnum.{key}": text for key, text in card.items()})
    with atomic(path) as file:
        file.write_bytes(model.SerializeToString())


def main() -> None:
    """Train, and write the log and the network to the repository."""
    digits = reference_images("mnist-images")
    images, labels, held_out, their_labels = map(
        torch.from_numpy, (digits.train, digits.train_labels, digits.held_out, digits.held_out_labels)
    )
    net, log = train(images, labels)
    found = {"train": accuracy(net, images, labels), "held_out": accuracy(net, held_out, their_labels)}
    print(json.dumps(found))
    settings = {"seed": SEED, "epochs": EPOCHS, "batch": BATCH, "rate": RATE, "decay": DECAY, "shift": SHIFT}
    settings |= {"torch": torch.__version__, "parameters": sum(part.numel() for part in net.parameters())}
    with atomic(LOG) as file:
        file.write_text(json.dumps(settings | {"accuracy": found, "log": log}, indent=1) + "\n")
    card = {
        "name": "digits",
        "source": "a classifier of handwritten digits, 28 x 28 pixels, trained on the 60000 training digits of MNIST "
        f"by analysis/train_classifier.py; it recognises {found['held_out']:.2%} of the 10000 held-out digits",
        "licence": "network: MIT, as uldnum; data: CC BY-SA 3.0 (MNIST, Y. LeCun and C. Cortes)",
        "citation": "Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Gradient-based learning applied to document "
        "recognition, Proceedings of the IEEE 86(11), 2278-2324, 1998",
        "data_range": "[-1.0, 1.0]",
    }
    export(standardised(net, images), SHIPPED, card)


if __name__ == "__main__":
    main()
