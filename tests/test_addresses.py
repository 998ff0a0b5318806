from __future__ import annotations

import pytest

from gansweep.addresses import is_http_address


@pytest.mark.parametrize(
    "good", ["http://a", "https://a.b:1/c", "http://[::1]:80", "http://me:x@a:65535"]
)
def test_an_address(good: str) -> None:
    assert is_http_address(good)


@pytest.mark.parametrize(
    "bad", ["", "a", "a:1", "http://", "http://:80", "http://a:b", "http://a:65536", "http://a:0",
            "http://[::1", "ftp://a"],
)  # fmt: skip
def test_no_address(bad: str) -> None:
    assert not is_http_address(bad)
