from __future__ import annotations

import os

import pytest
from requests.utils import should_bypass_proxies

from gansweep.proxies import spare_loopback

VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def _none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, "")
        monkeypatch.setenv(name.upper(), "")


def bypassed(*hosts: str) -> list[str]:
    return [host for host in hosts if should_bypass_proxies(f"http://{host}:5000/x", None)]


def test_this_machine_is_reached_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    spare_loopback()
    assert bypassed("127.0.0.1", "localhost", "tracking.lab.org") == ["127.0.0.1", "localhost"]


@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_what_the_user_spares_is_spared_on(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    monkeypatch.setenv(name, "lab.org")
    spare_loopback()
    hosts = ("127.0.0.1", "tracking.lab.org", "other.org")
    assert bypassed(*hosts) == ["127.0.0.1", "tracking.lab.org"]
    before = dict(os.environ)
    spare_loopback()
    assert dict(os.environ) == before


def test_where_there_is_no_proxy_nothing_is_set() -> None:
    spare_loopback()
    assert not any(os.environ[name] or os.environ[name.upper()] for name in VARIABLES)
