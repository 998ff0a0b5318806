"""For every test: one thread, and a cache folder that is not the user's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GANSWEEP_CACHE", str(tmp_path_factory.mktemp("session-cache")))
        yield
