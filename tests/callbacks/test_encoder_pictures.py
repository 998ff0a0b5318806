"""Reconstructions and inpainted images: what they show, of which images, and of which trials."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from trees import small

from gansweep.assembly import load_held_out, load_samples
from gansweep.callbacks.encoder_picture import EncoderPicture, exhibit
from gansweep.callbacks.inpainted import ROUNDS, Inpainted, inpaint, middle
from gansweep.callbacks.reconstructions import Reconstructions
from gansweep.config import TrialConfig, resolved
from gansweep.data.base import Samples, to_float
from gansweep.images import to_uint8
from gansweep.networks.encoding import EncodingGenerator
from gansweep.replica import Common, Job, Replica
from gansweep.tracking.memory import MemoryTracker

CPU = torch.device("cpu")


def replica(model: str = "bigan", data: str = "digits", **sections: object) -> Replica:
    config = small(model, "mlp", data, **sections)
    return Replica(Job(config, MemoryTracker()), Common(config, CPU))


def kinds(one: Replica) -> list[str]:
    return [type(each).__name__ for each in one._callbacks if isinstance(each, EncoderPicture)]


def test_who_has_them() -> None:
    both = ["Reconstructions", "Inpainted"]
    assert kinds(replica()) == both
    assert kinds(replica("gan")) == kinds(replica(data="ring8")) == []


def cells(picture: Tensor, side: int) -> Tensor:
    """The cells of a sheet: [rows, columns, C, side, side]."""
    parts = picture[:, 1:, 1:].unfold(1, side + 1, side + 1).unfold(2, side + 1, side + 1)
    return parts[..., :side, :side].permute(1, 2, 0, 3, 4)


@pytest.mark.parametrize(("rows", "groups"), [(1, 1), (4, 2), (6, 3)])
def test_reconstructions(rows: int, groups: int) -> None:
    """Each row of images, and below it what E and G, averaged, make of them in eval mode."""
    one = replica(
        samples={"rows": rows},
        ema={"decay": 0.5},
        network={"generator_norm": "batch"},
    )
    for p in one.module.average.parameters():
        p.data.add_(0.1)
    tracker, exhibits = MemoryTracker(), one._common.exhibits
    picture = Reconstructions(tracker, exhibits, every=5)
    assert [g for g in range(1, 13) if picture.due(g, last=g == 12)] == [5, 10, 12]
    chance, before = torch.get_rng_state(), one.module.average.state_dict()
    picture.act(one.module, 5)
    assert torch.equal(torch.get_rng_state(), chance)
    assert all(torch.equal(t, before[n]) for n, t in one.module.average.state_dict().items())
    assert [(i.key, i.step) for i in tracker.images] == [("reconstructions", 5)]
    shown = cells(tracker.images[0].image, 8)
    assert shown.shape[:2] == (2 * groups, 3)
    G = one.module.average.eval()
    with torch.no_grad():
        again = G.reconstruct(exhibits.images.flatten(0, 1)).view_as(exhibits.images)
    assert torch.equal(shown[0::2], to_uint8(exhibits.images[:groups]))
    assert torch.equal(shown[1::2], to_uint8(again[:groups]))
    assert one.module.generator.training


def test_inpainted() -> None:
    """The image, the image without its middle, and filled in: the rest stays as it is."""
    one, tracker = replica(samples={"rows": 3}), MemoryTracker()
    exhibits = one._common.exhibits
    Inpainted(tracker, exhibits, every=5).act(one.module, 10)
    assert [(i.key, i.step) for i in tracker.images] == [("inpainted", 10)]
    whole, holed, filled = cells(tracker.images[0].image, 8)
    assert torch.equal(whole, to_uint8(exhibits.images[0]))
    missing = middle(exhibits.images[0])
    assert missing.nonzero().aminmax(dim=0)[0].tolist() == [2, 2]
    assert (missing.nonzero().aminmax(dim=0)[1].tolist(), missing.sum()) == ([5, 5], 16)
    assert (holed[..., missing] == 128).all()
    for each in (holed, filled):
        assert torch.equal(each[..., ~missing], whole[..., ~missing])
    assert not torch.equal(filled[..., missing], whole[..., missing])


def test_odd_and_oblong_middles() -> None:
    assert middle(torch.zeros(1, 1, 9, 4)).sum() == 4 * 2
    assert middle(torch.zeros(1, 1, 28, 28))[7:21, 7:21].all()
    assert middle(torch.zeros(1, 1, 28, 28)).sum() == 14 * 14


class Half(nn.Module):
    """Half of what comes in, and it counts."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        return x / 2


def test_inpainting_step_by_step() -> None:
    """From the mean, each round halves the missing pixels; x's own are never looked at."""
    x, mean = torch.rand(3, 1, 8, 8), torch.full((1, 8, 8), 0.5)
    encoder, missing = Half(), middle(x)
    G = EncodingGenerator(nn.Identity(), encoder)
    filled = inpaint(G, x, missing, mean)
    assert torch.equal(filled[..., ~missing], x[..., ~missing])
    assert torch.equal(filled[..., missing], torch.full((3, 1, 16), 0.5 / 2**ROUNDS))
    assert len(encoder.seen) == ROUNDS
    assert torch.equal(encoder.seen[0], torch.where(missing, 0.5, x))
    other = torch.where(missing, torch.rand(3, 1, 8, 8), x)
    assert torch.equal(inpaint(G, other, missing, mean), filled)


def made_up(n: int, value: int) -> Samples:
    return Samples(torch.full((n, 1, 8, 8), value, dtype=torch.uint8))


def test_exhibits() -> None:
    """Images of the held-out samples, the mean of the trained ones; both from the seed alone."""
    rng = torch.Generator().manual_seed(0)
    own = Samples(torch.randint(0, 256, (50, 1, 8, 8), generator=rng).to(torch.uint8))
    shown = exhibit(own, own, grid=(2, 3), seed=4, device=CPU)
    torch.testing.assert_close(shown.mean, to_float(own.x).mean(0))
    assert shown.images.shape == (2, 3, 1, 8, 8)
    again, other = (exhibit(own, own, grid=(2, 3), seed=s, device=CPU) for s in (4, 5))
    assert torch.equal(again.images, shown.images)
    assert not torch.equal(other.images, shown.images)
    two = exhibit(made_up(9, 0), made_up(4, 255), grid=(2, 3), seed=4, device=CPU)  # 6 of 4
    assert (two.images == 1).all()
    assert (two.mean == -1).all()


def idx(folder: Path, stem: str, value: int) -> None:
    pixels = bytes([value]) * (5 * 28 * 28)
    for name, body in (
        (f"{stem}-images-idx3-ubyte.gz", struct.pack(">4I", 2051, 5, 28, 28) + pixels),
        (f"{stem}-labels-idx1-ubyte.gz", struct.pack(">2I", 2049, 5) + bytes(5)),
    ):
        (folder / name).write_bytes(gzip.compress(body))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    idx(tmp_path, "train", 10)
    return tmp_path


def mnist(folder: Path, split: str = "train") -> TrialConfig:
    data = {"name": "mnist", "path": str(folder), "split": split, "batch_size": 2}
    return resolved({"model": {"name": "bigan"}, "data": data, "device": "cpu"})


def test_images_that_no_trial_saw(folder: Path) -> None:
    """The test split where it lies beside the other; else those that are trained on."""
    own = load_samples(mnist(folder))
    assert load_held_out(mnist(folder), own) is own  # there is none
    idx(folder, "t10k", 20)
    assert load_held_out(mnist(folder), own).x.unique().tolist() == [20]
    assert (Common(mnist(folder), CPU).exhibits.images == to_float(torch.tensor([20]).byte())).all()
    test = load_samples(mnist(folder, "test"))
    assert load_held_out(mnist(folder, "test"), test) is test
    digits = small("bigan", "mlp", "digits")
    own = load_samples(digits)
    assert load_held_out(digits, own) is own
