"""Trains the extractor `digits`: `python tools/train_digits_extractor.py MNIST [OUT]`.

MNIST is the folder of the four IDX files. Everything is drawn from `--seed`. Without OUT the
weights that gansweep ships are replaced, which changes the values of every score in the features
of `digits`, and their fingerprints. 12 epochs take under 2 minutes on one core.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn

from gansweep.data.base import to_float
from gansweep.data.idx import IdxSettings, Mnist
from gansweep.metrics.extractors.digits import WEIGHTS, LeNet

BATCH = 128
RATE = 3e-3
SHIFT = 2
"""Most pixels that a training image is moved by, each way."""


def load(folder: Path, split: str) -> tuple[Tensor, Tensor]:
    """float32 [N, 1, 28, 28] in [-1, 1], int64 [N]."""
    samples = Mnist(IdxSettings(path=str(folder), split=split)).load()  # type: ignore[arg-type]
    assert samples.labels is not None
    return to_float(samples.x), samples.labels


def shifted(x: Tensor, rng: torch.Generator) -> Tensor:
    """Each batch moved as a whole by up to `SHIFT` pixels each way; what comes in is dark."""
    down, right = torch.randint(0, 2 * SHIFT + 1, (2,), generator=rng).tolist()
    padded = nn.functional.pad(x, (SHIFT,) * 4, value=-1.0)
    return padded[:, :, down : down + x.shape[2], right : right + x.shape[3]]


def train(x: Tensor, y: Tensor, *, epochs: int, seed: int) -> LeNet:
    """Adam with one cycle of the learning rate (Smith and Topin 2019), cross-entropy."""
    torch.manual_seed(seed)
    rng = torch.Generator().manual_seed(seed)
    net = LeNet()
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(net.parameters(), weight_decay=1e-5)
    steps = epochs * (len(x) // BATCH)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=RATE, total_steps=steps)
    for epoch in range(epochs):
        order = torch.randperm(len(x), generator=rng)
        for picked in torch.split(order, BATCH)[: len(x) // BATCH]:
            optimizer.zero_grad()
            _, logits = net(shifted(x[picked], rng))
            loss = nn.functional.cross_entropy(logits, y[picked])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            rate.step()
        print(f"epoch {epoch + 1} of {epochs}", flush=True)
    net.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return net.eval()


@torch.no_grad()
def accuracy(net: LeNet, x: Tensor, y: Tensor) -> float:
    """Share of `x` that is classified as `y`."""
    logits = torch.cat([net(part)[1] for part in torch.split(x, 500)])
    return int((logits.argmax(1) == y).sum()) / len(y)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("mnist", type=Path, help="folder of the IDX files")
    parser.add_argument("out", type=Path, nargs="?", default=WEIGHTS, help="safetensors file")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    net = train(*load(arguments.mnist, "train"), epochs=arguments.epochs, seed=arguments.seed)
    reached = accuracy(net, *load(arguments.mnist, "test"))
    print(f"test accuracy {reached:.4f}")
    from safetensors.torch import save_file

    about = {
        "trained_on": "MNIST, 60,000 training images (LeCun, Cortes and Burges)",
        "epochs": str(arguments.epochs),
        "seed": str(arguments.seed),
        "torch": torch.__version__,
        "test_accuracy": f"{reached:.4f}",
    }
    save_file(net.state_dict(), arguments.out, metadata=about)


if __name__ == "__main__":
    main()
