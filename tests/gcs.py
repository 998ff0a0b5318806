"""An emulator of Google Cloud Storage on loopback, and what lets a process into it."""

from __future__ import annotations

import json
import urllib.request
import uuid
from contextlib import suppress
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from threading import Thread
from typing import Any, final

from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import objects
from gcp_storage_emulator.server import HANDLERS, RequestHandler
from gcp_storage_emulator.storage import Storage


@final
class Server:
    """Where the address leads; it runs in threads."""

    def __init__(self) -> None:
        storage = Storage(use_memory_fs=True)
        for _, handlers in HANDLERS:
            if handlers.get("POST") is objects.insert:
                handlers["POST"] = inserted

        def handler(*given: Any) -> RequestHandler:
            return RequestHandler(storage, *given)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        Thread(target=self._server.serve_forever, name="gcs", daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def inserted(request: Any, response: Any, storage: Any) -> None:
    """A new object; with `ifGenerationMatch=0`, which the emulator does not know, if it is one."""
    if request.query.get("ifGenerationMatch") == ["0"]:
        with suppress(NotFound):
            storage.get_file_obj(request.params["bucket_name"], request.data["meta"]["name"])
            response.status = HTTPStatus.PRECONDITION_FAILED
            return
    objects.insert(request, response, storage)


def environment(server: str) -> dict[str, str]:
    """Variables of its clients."""
    return {
        "STORAGE_EMULATOR_HOST": server,
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # it would ask Google for the kind of bucket
    }


def new_bucket(server: str) -> str:
    name = f"bucket-{uuid.uuid4().hex[:8]}"
    urllib.request.urlopen(
        urllib.request.Request(
            f"{server}/storage/v1/b?project=tests",
            data=json.dumps({"name": name}).encode(),
            headers={"Content-Type": "application/json"},
        )
    ).read()
    return name
