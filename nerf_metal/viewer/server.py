"""The page's server: on this machine alone unless told otherwise, and never on the internet."""

from __future__ import annotations

import contextlib
import errno
import io
import ipaddress
import socket
from typing import Any

from nerf_metal.util.errors import InputError
from nerf_metal.util.extras import require

PORTS_TRIED = 100
"""From the one asked for: nobody has so many pages open."""


def open_server(host: str, port: int, command: str) -> Any:
    """A ``viser.ViserServer`` that listens on ``host`` and ``port``, or on the next free port.

    Raises:
        InputError: viser is missing, or nothing can be served there; ``command`` is named.
    """
    viser = require("viser", extra="view", command=command)
    free = _free_port(host, port, command)

    class Server(viser.ViserServer):  # type: ignore[name-defined]
        def request_share_url(self, verbose: bool = True) -> None:
            """A page may ask for a public address: there is none."""

    with contextlib.redirect_stdout(io.StringIO()):  # its banner; ours says what to do
        server = Server(host=host, port=free, label="nerf-metal", verbose=False)
    server.gui.configure_theme(show_logo=False, show_share_button=False, control_width="medium")
    return server


def close_server(server: Any) -> None:
    """Stop serving, without a word."""
    with contextlib.redirect_stdout(io.StringIO()):
        server.stop()


def url(server: Any) -> str:
    """Where a browser on this machine finds the page."""
    host = server.get_host()
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        shown = host
    else:
        shown = "127.0.0.1" if address.is_unspecified else f"[{host}]" if address.version == 6 else host
    return f"http://{shown}:{server.get_port()}"


def is_private(host: str) -> bool:
    """Whether only this machine reaches the page."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _free_port(host: str, port: int, command: str) -> int:
    """The first port from ``port`` on that nobody listens on; any one for 0. viser would look for one itself, but for
    ever where the host is wrong."""
    option = "--view-" if command == "train" else "--"
    if not 0 <= port <= 65535:
        raise InputError(f"[{command}] {option}port must be from 0 to 65535, got {port}; 7007 is usual")
    for number in range(port, min(port + PORTS_TRIED, 65536)):
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
                probe.listen()
                return int(probe.getsockname()[1])
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):  # EACCES: ports below 1024
                raise InputError(
                    f"[{command}] {option}host must be an address of this machine, got {host} ({error.strerror}); "
                    "leave it out for 127.0.0.1"
                ) from None
    raise InputError(
        f"[{command}] {option}port must have a free one among the next {PORTS_TRIED}, got {port}; give another"
    )
