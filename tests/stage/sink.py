# SPDX-License-Identifier: Apache-2.0
"""Whatever is asked of it on 127.0.0.1:8099, by GET, POST or PUT, it answers with a harmless script."""

from __future__ import annotations

import http.server

_SCRIPT = b"#!/bin/sh\necho from the sink\n"


class Sink(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(200)
        self.send_header("Content-Length", str(len(_SCRIPT)))
        self.end_headers()
        self.wfile.write(_SCRIPT)

    do_POST = do_PUT = do_GET  # noqa: N815 - the names that the base class asks for

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


if __name__ == "__main__":
    http.server.ThreadingHTTPServer(("127.0.0.1", 8099), Sink).serve_forever()
