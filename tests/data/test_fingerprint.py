"""What changes a fingerprint, and what does not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gansweep.data.fingerprint import fingerprint
from gansweep.data.mnist5k import Mnist5k


def test_fingerprint(tmp_path: Path) -> None:
    file, other = tmp_path / "a", tmp_path / "b"
    file.write_text("one")
    other.write_text("one")
    os.utime(file, ns=(5, 5))
    os.utime(other, ns=(5, 5))
    settings = Mnist5k.Settings()
    key = fingerprint(settings, [file])
    assert fingerprint(Mnist5k.Settings(batch_size=1), [file]) == key
    assert fingerprint(settings, [Path(os.path.relpath(file))]) == key
    keys = [
        key,
        fingerprint(settings, [other]),
        fingerprint(settings, [file, other]),
        fingerprint(settings, [file], extra="x"),
        fingerprint(Mnist5k.Settings(size=14), [file]),
    ]
    os.utime(file, ns=(6, 6))
    keys.append(fingerprint(settings, [file]))
    file.write_text("three")
    os.utime(file, ns=(5, 5))
    keys.append(fingerprint(settings, [file]))
    assert len(set(keys)) == 7
    with pytest.raises(OSError, match="gone"):
        fingerprint(settings, [tmp_path / "gone"])
