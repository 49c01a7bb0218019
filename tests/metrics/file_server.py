"""A server on this machine that serves one file, by ranges, and misbehaves as told."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator


class FileServer(http.server.ThreadingHTTPServer):
    """content: what it serves; tag: its ETag, empty for none; cut: bytes after which answers end, one per request.

    requests: (method, path, Range header) of those that came.
    """

    daemon_threads = True

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content, self.tag, self.cut = content, '"v1"', []
        self.ranges, self.status = True, 0
        self.requests: list[tuple[str, str, str | None]] = []

    @property
    def url(self) -> str:
        """Of the file."""
        return f"http://127.0.0.1:{self.server_port}/file.bin"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self):
        server, wanted = self.server, self.headers.get("Range")
        server.requests.append(("GET", self.path, wanted))
        if server.status:
            self.send_error(server.status)
            return
        begin = 0
        if wanted and server.ranges and self.headers.get("If-Range") == server.tag:
            begin = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if begin > len(server.content) or (begin and begin == len(server.content)):
            self.send_error(416)
            return
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(server.content) - begin))
        if server.tag:
            self.send_header("ETag", server.tag)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(server.content) - 1}/{len(server.content)}")
        self.end_headers()
        end = begin + server.cut.pop(0) if server.cut else len(server.content)
        self.wfile.write(server.content[begin:end])
        self.close_connection = True

    def do_CONNECT(self):
        self.server.requests.append(("CONNECT", self.path, None))
        self.send_error(403)

    def log_message(self, *args):
        """Nothing: the tests look at `requests`."""


@contextlib.contextmanager
def serve(content: bytes) -> Iterator[FileServer]:
    """A running server."""
    with FileServer(content) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
