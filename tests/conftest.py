"""For every test: one thread, Ctrl-C, and a cache folder that is not the user's; shared files."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)
# A shell starts what runs in the background deaf to it, and so would be the commands under test.
signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED_MNIST = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "mnist"


@pytest.fixture(autouse=True, scope="session")
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GANSWEEP_CACHE", str(tmp_path_factory.mktemp("session-cache")))
        yield


@pytest.fixture
def shared_mnist() -> Path:
    if not SHARED_MNIST.is_dir():
        pytest.skip(f"needs the IDX files of MNIST in {SHARED_MNIST}")
    return SHARED_MNIST
