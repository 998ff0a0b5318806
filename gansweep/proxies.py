"""The environment's HTTP proxies, which are none of the way to this machine itself."""

from __future__ import annotations

import os

LOOPBACK = ("localhost", "127.0.0.1", "::1")  # what a machine calls itself


def spare_loopback() -> None:
    """Have whoever asks the environment reach MLflow and Ray on loopback without a proxy.

    Libraries differ in which spelling of `no_proxy` counts, so both say the same.
    """
    names = ("http_proxy", "https_proxy", "all_proxy")
    if not any(os.environ.get(name) or os.environ.get(name.upper()) for name in names):
        return
    given = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    hosts = [host.strip() for host in given.split(",") if host.strip()]
    spared = ",".join(dict.fromkeys([*hosts, *LOOPBACK]))
    if "*" not in hosts:
        os.environ.update(no_proxy=spared, NO_PROXY=spared)
