r"""Training of the network in the package: a noise-conditioned U-Net on MNIST, in about an hour on two cores.

    python -m analysis.train_score_network FOLDER

The architecture is a small NCSN++ (Song et al. 2021, app. H): residual blocks with group normalisation, SiLU and
adaptive scales, skip connections rescaled by sqrt(1/2), attention at the coarsest resolution, and weights averaged over
training. The preconditioning and the loss are those of EDM (Karras et al. 2022, table 1 and eq. 8). With the standard
deviation :math:`\sigma_d` of the data, the denoiser is

.. math:: D(z, \sigma) = \frac{\sigma_d^2}{\sigma^2 + \sigma_d^2} z
          + \frac{\sigma \sigma_d}{\sqrt{\sigma^2 + \sigma_d^2}} F\Big(\frac{z}{\sqrt{\sigma^2 + \sigma_d^2}},
            \tfrac14 \log \sigma\Big).

The loss is the mean square error of F, and F is exported. FOLDER contains a checkpoint, from which a stopped training
resumes with an identical result, because the random numbers of step n depend only on (seed, n). At the end, the log of
the training and the exported network are written to their places in the repository.
"""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from uldnum._util.files import atomic
from uldnum.networks.catalogue import SHIPPED
from uldnum.networks.images import reference_images

LOG = Path(__file__).parent / "data" / "mnist_training.json"

SEED = 0
STEPS, BATCH = 12_000, 128
RATE = 1.5e-3  # largest learning rate of Adam; it rises linearly at first, and falls to 0 like a cosine
WARM_UP = 500
AVERAGE = 0.9993  # decay of the exponential moving average of the weights, over about 1400 steps
SIGMA_DATA = 0.5
LOG_SIGMA = (-0.7, 1.4)  # mean and standard deviation of the logarithm of the noise level in training
EVERY = 250  # steps between lines of the log, and between checkpoints

CHANNELS = (32, 64, 96)
EMBEDDING = 128


class Block(nn.Module):
    """A residual block with the embedded noise level as a second input."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(8, channels_in), nn.Conv2d(channels_in, channels, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(8, channels), nn.Conv2d(channels, channels, 3, padding=1)
        self.level = nn.Linear(EMBEDDING, 2 * channels)
        self.skip = nn.Conv2d(channels_in, channels, 1) if channels_in != channels else nn.Identity()
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """Map images (n, channels_in, height, width) and embedded levels (n, EMBEDDING) to images."""
        y = self.conv1(functional.silu(self.norm1(x)))
        scale, shift = self.level(level)[:, :, None, None].chunk(2, dim=1)
        y = self.conv2(functional.silu(self.norm2(y) * (1 + scale) + shift))
        return (self.skip(x) + y) * math.sqrt(0.5)


class Attention(nn.Module):
    """Attention with one head over all pixels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.query, self.key, self.value, self.out = (nn.Linear(channels, channels) for _ in range(4))
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map images to images of the same shape."""
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        weights = self.query(tokens) @ self.key(tokens).transpose(1, 2) / math.sqrt(x.shape[1])
        y = self.out(weights.softmax(dim=-1) @ self.value(tokens))
        return (x + y.transpose(1, 2).reshape(x.shape)) * math.sqrt(0.5)


class UNet(nn.Module):
    """The network F: a U-Net with three resolutions."""

    def __init__(self) -> None:
        super().__init__()
        fine, middle, coarse = CHANNELS
        self.register_buffer("frequencies", torch.exp(torch.linspace(math.log(0.5), math.log(20), EMBEDDING // 2)))
        self.embed = nn.Sequential(
            nn.Linear(EMBEDDING, EMBEDDING), nn.SiLU(), nn.Linear(EMBEDDING, EMBEDDING), nn.SiLU()
        )
        self.first = nn.Conv2d(1, fine, 3, padding=1)
        self.down1, self.down2, self.down3 = Block(fine, fine), Block(fine, middle), Block(middle, coarse)
        self.half1, self.half2 = (nn.Conv2d(c, c, 3, stride=2, padding=1) for c in (fine, middle))
        self.attend, self.middle = Attention(coarse), Block(coarse, coarse)
        self.up3, self.up2, self.up1 = (
            Block(2 * coarse, coarse),
            Block(coarse + middle, middle),
            Block(middle + fine, fine),
        )
        self.norm, self.last = nn.GroupNorm(8, fine), nn.Conv2d(fine, 1, 3, padding=1)
        nn.init.zeros_(self.last.weight)

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        """Map scaled images (n, 1, 28, 28) and conditions (n,) to F (n, 1, 28, 28)."""
        angle = c_noise[:, None] * self.frequencies
        level = self.embed(torch.cat([angle.cos(), angle.sin()], dim=1))
        a = self.down1(self.first(x), level)
        b = self.down2(self.half1(a), level)
        c = self.down3(self.half2(b), level)
        y = self.middle(self.attend(c), level)
        y = self.up3(torch.cat([y, c], dim=1), level)
        y = self.up2(torch.cat([functional.interpolate(y, scale_factor=2.0), b], dim=1), level)
        y = self.up1(torch.cat([functional.interpolate(y, scale_factor=2.0), a], dim=1), level)
        out: Tensor = self.last(functional.silu(self.norm(y)))
        return out


def loss_of(net: nn.Module, images: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
    """Return the mean square error of F at noise levels sigma (n, 1, 1, 1)."""
    total = (sigma**2 + SIGMA_DATA**2).sqrt()
    noised = images + sigma * noise
    wanted = (images - (SIGMA_DATA / total) ** 2 * noised) * total / (sigma * SIGMA_DATA)
    with torch.autocast("cpu", torch.bfloat16):
        found = net(noised / total, sigma.flatten().log() / 4)
    return (found.float() - wanted).square().mean()


def batch(images: Tensor, count: int, number: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the images, noise levels and noise of batch ``number``, which depend only on the seed and this number."""
    random = torch.Generator().manual_seed(SEED + number)
    chosen = images[torch.randint(len(images), (count,), generator=random)]
    mean, deviation = LOG_SIGMA
    sigma = (mean + deviation * torch.randn(count, 1, 1, 1, generator=random)).exp()
    return chosen, sigma, torch.randn(chosen.shape, generator=random)


def rate(step: int) -> float:
    """Return the learning rate of Adam at a step."""
    return RATE * min(1.0, (step + 1) / WARM_UP) * (1 + math.cos(math.pi * step / STEPS)) / 2


def train(folder: Path) -> tuple[UNet, list[dict[str, float]]]:
    """Train the network, or resume a stopped training; return the network with averaged weights, and the log."""
    digits = reference_images("mnist-images")
    train_images = torch.from_numpy(digits.train)
    held_out = batch(torch.from_numpy(digits.held_out), 1024, -1)
    torch.manual_seed(SEED)
    net, averaged = UNet(), UNet()
    averaged.load_state_dict(net.state_dict())
    parts = {"net": net, "averaged": averaged, "adam": torch.optim.Adam(net.parameters())}
    begun, log, seconds = 0, [], 0.0
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.is_file():
        stored = torch.load(checkpoint, weights_only=True)
        begun, log, seconds = stored["step"], stored["log"], stored["log"][-1]["seconds"]
        for name, part in parts.items():
            part.load_state_dict(stored[name])
    started, total = time.perf_counter() - seconds, 0.0
    for step in tqdm(range(begun, STEPS), initial=begun, total=STEPS, unit="step", mininterval=5):
        for group in parts["adam"].param_groups:
            group["lr"] = rate(step)
        loss = loss_of(net, *batch(train_images, BATCH, step))
        parts["adam"].zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        parts["adam"].step()
        total += loss.item()
        with torch.no_grad():
            keep = min(AVERAGE, (1 + step) / (10 + step))
            for mean, now in zip(averaged.parameters(), net.parameters(), strict=True):
                mean.lerp_(now, 1 - keep)
        if (step + 1) % EVERY == 0:
            with torch.no_grad():
                test = loss_of(averaged, *held_out).item()
            log.append({"step": step + 1, "loss": total / EVERY, "held_out": test, "rate": rate(step),
                        "seconds": time.perf_counter() - started})  # fmt: skip
            tqdm.write(json.dumps(log[-1]))
            total = 0.0
            state: dict[str, Any] = {name: part.state_dict() for name, part in parts.items()}
            with atomic(checkpoint) as file:
                torch.save(state | {"step": step + 1, "log": log}, file)
    return averaged, log


def export(net: UNet, path: Path) -> None:
    """Write F as an ONNX model for any number of images."""
    batch = {0: torch.export.Dim("batch")}
    program = torch.onnx.export(
        net.eval(), (torch.zeros(2, 1, 28, 28), torch.zeros(2)), input_names=["x", "c_noise"], output_names=["F"],
        opset_version=18, dynamo=True, dynamic_shapes=(batch, batch), verbose=False,
    )  # fmt: skip
    model = program.model_proto
    for node in model.graph.node:  # remove paths of this machine, which the exporter records
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    with atomic(path) as file:
        file.write_bytes(model.SerializeToString())


def main() -> None:
    """Train in the folder given on the command line, and write the log and the network to the repository."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m analysis.train_score_network FOLDER")
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    net, log = train(folder)
    settings = {
        "seed": SEED,
        "steps": STEPS,
        "batch": BATCH,
        "rate": RATE,
        "average": AVERAGE,
        "torch": torch.__version__,
    }
    settings |= {"parameters": sum(part.numel() for part in net.parameters()), "log": log}
    with atomic(LOG) as file:
        file.write_text(json.dumps(settings, indent=1) + "\n")
    export(net, SHIPPED)


if __name__ == "__main__":
    main()
