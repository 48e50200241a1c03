"""A stand-in for the Hugging Face Hub on loopback: one repository, and a list of what was asked for."""

import hashlib
import http.server
import json
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubServer:
    """endpoint: for HF_ENDPOINT. asked: paths, in order. gated: whether nobody is let in."""

    def __init__(self, repo: str, files: Mapping[str, bytes], *, gated: bool = False) -> None:
        self.repo, self.files, self.gated = repo, dict(files), gated
        self.asked: list[str] = []
        self.endpoint = ""

    @property
    def downloaded(self) -> set[str]:
        """Files of which the content was asked for."""
        start = f"GET /{self.repo}/resolve/{COMMIT}/"
        return {path.removeprefix(start) for path in self.asked if path.startswith(start)}

    @contextmanager
    def running(self) -> Iterator["HubServer"]:
        handler = type("Handler", (_Handler,), {"hub": self})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.endpoint = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    hub: HubServer

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        api, resolve = f"/api/models/{self.hub.repo}", f"/{self.hub.repo}/resolve/"
        if not path.startswith((api, resolve)):
            self._send(404, b'{"error": "Repository not found"}', {"X-Error-Code": "RepoNotFound"}, body)
        elif self.hub.gated:
            self._send(403, b'{"error": "gated"}', {"X-Error-Code": "GatedRepo"}, body)
        elif path.startswith(f"{api}/tree/"):
            self._send(200, json.dumps([_entry(*item) for item in self.hub.files.items()]).encode(), {}, body)
        elif path.startswith(api):
            facts = {"id": self.hub.repo, "sha": COMMIT, "siblings": [{"rfilename": name} for name in self.hub.files]}
            self._send(200, json.dumps(facts).encode(), {}, body)
        else:
            name = path.removeprefix(resolve).partition("/")[2]
            data = self.hub.files[name]
            etag = hashlib.sha1(data).hexdigest()
            self._send(200, data, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, body)

    def _send(self, code: int, data: bytes, headers: Mapping[str, str], body: bool) -> None:
        self.send_response(code)
        for name, value in {"Content-Length": str(len(data)), "Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, form: str, *args: object) -> None:
        """Not on standard error."""


def _entry(name: str, data: bytes) -> dict[str, object]:
    return {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
