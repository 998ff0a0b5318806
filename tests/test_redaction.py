"""Redaction: secrets go, everything else stays."""

from __future__ import annotations

import logging

import pytest

from gansweep import redaction
from gansweep.redaction import (
    RedactingFormatter,
    redact,
    remember,
    secret_keys,
    without_userinfo,
)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_uris", set())
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "tok-0123456789")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "aws/secret+key")
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefgh")
    monkeypatch.setenv("MY_PASSWORD", "short")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "not-a-secret")
    monkeypatch.setenv("DATABASE", "postgresql://me:in-a-variable@db/x")


HIDDEN = {
    "http://me:hunter2@host:5000/x": "http://***@host:5000/x",
    "to https://tok@host and http://a:b@c!": "to https://***@host and http://***@c!",
    "postgresql+psycopg2://u:p@ss@db/x": "postgresql+psycopg2://***@db/x",
    "mysql://u:pa/ss@db/x": "mysql://***@db/x",
    "it is tok-0123456789.": "it is ***.",
    "aws/secret+key hf_abcdefgh": "*** ***",
    "in-a-variable": "***",
    "HF_TOKEN=abc and more": "HF_TOKEN=*** and more",
    "data.api_key=abc lr=1": "data.api_key=*** lr=1",
    '{"password": "x y", "lr": 1}': '{"password": "*** y", "lr": 1}',
    "secret: abc": "secret: ***",
    "Authorization: Basic bWU6aHVudGVyMg==": "Authorization: Basic ***",
}

KEPT = [
    "http://host:5000/#/experiments/1",
    "sqlite:////data/a:b/c@d/mlflow.db",
    "me@host.org and a@b",
    "not-a-secret",
    "short",
    "model.clip=0.01 optimizer.lr=5e-05 network.token=5",
    "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD or MLFLOW_TRACKING_TOKEN; then",
    "a token of its own",
    "[swd, 'mylab:Meeting'] s3://bucket/key",
    "basic settings",
]


@pytest.mark.parametrize("text", HIDDEN)
def test_secrets_are_hidden(text: str) -> None:
    assert redact(text) == HIDDEN[text]
    assert redact(redact(text)) == redact(text)


@pytest.mark.parametrize("text", KEPT)
def test_all_else_is_kept(text: str) -> None:
    assert redact(text) == text


def test_a_password_of_a_uri_is_remembered() -> None:
    assert redact("it is s3cret-word") == "it is s3cret-word"
    remember("http://me:s3cret-word@host")
    assert redact("it is s3cret-word") == "it is ***"


def test_a_uri_to_be_opened() -> None:
    assert without_userinfo("http://me:hunter2@host:5000") == "http://host:5000"
    assert without_userinfo("sqlite:////a/b.db") == "sqlite:////a/b.db"


def test_keys_of_secrets_in_settings() -> None:
    tree = {
        "name": "x",
        "trial": {
            "data": {"path": "https://u:p@host/x.npz", "files": ["a", "hf_abcdefgh"]},
            "network": {"token": "abc", "width": 8, "tokens": "abc", "secret": 5},
        },
    }
    assert list(secret_keys(tree)) == ["trial.data.path", "trial.data.files", "trial.network.token"]
    assert list(secret_keys({"space": {"hf_abcdefgh": {"grid": [1]}}})) == ["space.***"]


def test_a_log_is_redacted_with_its_tracebacks() -> None:
    try:
        raise ConnectionError("http://me:hunter2@host is away")
    except ConnectionError:
        import sys

        record = logging.LogRecord("n", 30, "p", 1, "of %s", ("hf_abcdefgh",), sys.exc_info())
    text = RedactingFormatter("%(message)s").format(record)
    assert text.startswith("of ***\nTraceback")
    assert text.endswith("ConnectionError: http://***@host is away")
