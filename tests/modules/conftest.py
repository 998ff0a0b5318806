"""Lightning's notes do not apply to these small fits."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "/tests/modules/" in str(item.path):
            item.add_marker(pytest.mark.filterwarnings("ignore::UserWarning:pytorch_lightning"))
