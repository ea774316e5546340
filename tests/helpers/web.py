"""A web server of this process, for downloads: it can break off, and need not know of ranges."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Web:
    """Files by name, at `url`/name; `asked` has the name and the Range of each request.

    `cuts[name]` is a list of numbers of bytes: each request takes the first, and breaks off after so many.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.url = ""
        self.asked: list[tuple[str, str | None]] = []
        self.cuts: dict[str, list[int]] = {}
        self.knows_ranges = True


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[Web]:
    """Serve files inside the context, at an address of this machine alone."""
    web = Web(files)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name, wanted = self.path.lstrip("/"), self.headers.get("Range")
            web.asked.append((name, wanted))
            content = web.files.get(name)
            if content is None:
                self.send_error(404)
                return
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and web.knows_ranges else 0
            if start >= len(content) > 0:
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            cuts = web.cuts.get(name)
            self.wfile.write(content[start : start + cuts.pop(0)] if cuts else content[start:])

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    web.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
