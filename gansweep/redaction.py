"""Redaction: no password, token or key gets into what is written, recorded or shown."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping
from typing import Final, final
from urllib.parse import parse_qsl, urlsplit

HIDDEN: Final = "***"

SHORTEST: Final = 8
"""Shorter values of secret variables are not looked for: every other word would be one."""

_NAMES: Final = (
    r"(?:token|password|passwd|secret|credentials?|connection_string|"
    r"(?:api|access|secret|private|account|storage)_?key(?:_id)?)"
)
_NAME: Final = re.compile(rf"(?:^|[_.-]){_NAMES}$", re.IGNORECASE)
_ASSIGNED: Final = re.compile(
    rf"(\b(?:\w*[_.-])?{_NAMES}[\"']?\s*[=:]\s*[\"']?)(?![\d.]+\b)([^\s\"',;&}}\])]+)",
    re.IGNORECASE,
)
_HEADER: Final = re.compile(
    r"(\bauthorization[\"']?\s*[:=]\s*[\"']?(?:basic|bearer)\s+)[\w.~+/=-]+", re.IGNORECASE
)
_USERINFO: Final = re.compile(r"(?<=://)(?:[^\s/'\"]+|[^\s/'\"@:]*:[^\s'\"@]*)@")

_uris: set[str] = set()
"""Passwords in URIs that this process was given."""


def redact(text: str) -> str:
    """`text` without passwords in URIs, without values of secret variables of the environment,
    and without what is assigned to a name that says it is a secret."""
    for secret in sorted(_secrets(), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    text = _HEADER.sub(rf"\1{HIDDEN}", _USERINFO.sub(f"{HIDDEN}@", text))
    return _ASSIGNED.sub(rf"\1{HIDDEN}", text)


def remember(uri: str) -> None:
    """Hide the password of this URI from now on, also where it stands by itself."""
    _uris.update(_passwords(uri))


def without_userinfo(uri: str) -> str:
    """The URI as one may show it, to be opened."""
    return _USERINFO.sub("", uri)


def has_credentials(uri: str) -> bool:
    """Whether it opens something by itself: by a password, or by a key in the place of a user."""
    parts = urlsplit(uri)
    if parts.password or any(_NAME.search(name) for name, _ in parse_qsl(parts.query)):
        return True
    return bool(parts.username) and parts.scheme in ("http", "https")


def secret_keys(value: object, at: str = "") -> Iterator[str]:
    """The dotted keys below which a secret stands, in a tree of settings."""
    if isinstance(value, Mapping):
        for key, below in value.items():
            name = f"{at}.{key}" if at else str(key)
            if redact(str(key)) != str(key):
                yield f"{at}.{HIDDEN}" if at else HIDDEN
            yield from secret_keys(below, name)
    elif isinstance(value, list):
        for each in value:
            yield from secret_keys(each, at)
    elif isinstance(value, str) and value and (_NAME.search(at) or redact(value) != value):
        yield at


def _secrets() -> set[str]:
    found = {v for k, v in os.environ.items() if _NAME.search(k) and len(v) >= SHORTEST}
    for value in os.environ.values():
        if "://" in value:
            found.update(_passwords(value))
    return found | _uris


def _passwords(uri: str) -> Iterator[str]:
    for userinfo in _USERINFO.findall(uri):
        user, colon, password = userinfo[:-1].partition(":")
        secret = password if colon else user
        if len(secret) >= SHORTEST:
            yield secret


@final
class RedactingFormatter(logging.Formatter):
    """A log's lines, tracebacks included, without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def guard_log() -> None:
    """Redact what this process logs where it has set up no log."""
    if logging.lastResort:
        logging.lastResort.setFormatter(RedactingFormatter())
