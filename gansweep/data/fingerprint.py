"""What identifies samples: the settings that shape them, and the files that they come from."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from gansweep.data.settings import DataSettings
from gansweep.settings import dump


def fingerprint(settings: DataSettings, files: Iterable[Path], *, extra: str = "") -> str:
    """A hexadecimal digest of the settings and of each file's path, size in bytes and time.

    `batch_size` is left out: it does not shape the samples. Raises OSError where a file is gone.
    """
    shaping = {key: value for key, value in dump(settings).items() if key != "batch_size"}
    digest = hashlib.sha256(json.dumps([shaping, extra], sort_keys=True).encode())
    for file in files:
        status = os.stat(file)
        line = [os.path.abspath(file), status.st_size, status.st_mtime_ns]
        digest.update(json.dumps(line).encode())
    return digest.hexdigest()
