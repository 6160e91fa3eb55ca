"""A small local server that receives the browser's redirect with the answer."""

from __future__ import annotations

import errno
import os
import select
import socket
import socketserver
import threading
from collections.abc import Callable
from contextlib import suppress
from html import escape
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from chutes_core.login.errors import CannotListenError
from chutes_core.login.pkce import Answer

__all__ = ["Loopback"]

_HOSTS = ("127.0.0.1", "localhost")
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:30rem;margin:4rem auto;padding:0 1rem}}</style></head>
<body><h1>{title}</h1><p>{text}</p></body></html>
"""


class Loopback:
    """Listen at the redirect address while the ``with`` block runs; at its end, whoever has asked is still answered.

    Args:
        redirect_uri: An http address on this machine, with its port.
        read: Parses the URL that the browser was redirected to.
        take: Called with every answer, including those of other sign-ins, from another thread, once the browser has
            its page: whoever takes the answer may end the program.
    """

    def __init__(self, redirect_uri: str, read: Callable[[str], Answer], take: Callable[[Answer], object]) -> None:
        host, port, path = _address(redirect_uri)

        class Handler(_Handler):
            answer_path = path

            def judge(self, query: str) -> Answer:
                return read(query)

            def tell(self, answer: Answer) -> None:
                take(answer)

        try:
            self._server = _Server((host, port), Handler)
        except OSError as error:
            problem = _not_listening(host, port, error)
        else:
            self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
            return
        raise problem

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.finish()


class _Server(socketserver.ThreadingTCPServer):
    # Closing waits for the threads: a page that is being written when the program ends is written to its end.
    daemon_threads = False
    block_on_close = True
    # On Windows this would let two programs listen on the same port.
    allow_reuse_address = os.name != "nt"

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._connections: set[socket.socket] = set()
        super().__init__(address, handler)

    # Each connection has a thread of its own: browsers open spare ones, which must not block the one with the answer.
    def process_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        self._connections.discard(request)
        super().shutdown_request(request)

    def finish(self) -> None:
        """Answer whoever has asked already, and let go of spare connections, which ask nothing."""
        for _ in range(self.request_queue_size):
            if select.select([self], [], [], 0)[0]:
                self.handle_request()
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RD)
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """Stay silent: a browser that hangs up should not print to the terminal."""


class _Handler(BaseHTTPRequestHandler):
    answer_path = "/"
    timeout = 10.0
    server_version = "chutes-connect"
    sys_version = ""

    def judge(self, query: str) -> Answer:
        raise AssertionError("given by the subclass")

    def tell(self, answer: Answer) -> None:
        raise AssertionError("given by the subclass")

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if parts.path != self.answer_path:
            return self._show(404, "Nothing here", "This address only receives the answer to a sign-in.")
        answer = self.judge(self.path)
        try:
            if answer.code is not None:
                return self._show(200, "Chutes has answered", "You can close this window and go back to the terminal.")
            self._show(400, "Not signed in", answer.problem)
        finally:  # it counts also where the browser did not wait for its page
            self.tell(answer)

    def _show(self, status: int, title: str, text: str) -> None:
        page = _PAGE.format(title=escape(title), text=escape(text)).encode()
        self.send_response(status)
        headers = {
            "Content-Type": "text/html; charset=utf-8",
            "Content-Length": str(len(page)),
            "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer",
            "Connection": "close",
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the URLs, and the codes in them, out of the terminal."""


def _address(redirect_uri: str) -> tuple[str, int, str]:
    try:
        parts = urlsplit(redirect_uri)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if host not in _HOSTS or not port or parts.scheme != "http":
        raise CannotListenError(
            f"The redirect address must be on this machine, with a port, such as http://127.0.0.1:1456/oauth-callback, "
            f"not {redirect_uri!r}. Otherwise run `chutes-connect login --no-browser`."
        )
    return ("127.0.0.1" if host == "localhost" else host), port, parts.path or "/"


def _not_listening(host: str, port: int, error: OSError) -> CannotListenError:
    if error.errno in (errno.EADDRINUSE, errno.EACCES):
        return CannotListenError(
            f"Port {port} of {host} is in use, perhaps by another `chutes-connect login`. Stop that program, or set "
            "CHUTES_OAUTH_REDIRECT_URI to another address that your app is registered with, or run "
            "`chutes-connect login --no-browser` and paste the answer."
        )
    return CannotListenError(f"Cannot listen on {host}:{port} ({error.strerror or error}).")
