"""The server of the page. It serves this machine only, unless another host is asked for, and never a public address."""

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
"""The number of ports to try, starting from the asked one: nobody has this many pages open."""


def open_server(host: str, port: int, command: str) -> Any:
    """Open a ``viser.ViserServer`` on ``host`` and ``port``, or on the next free port.

    Args:
        host: the address to listen on.
        port: the first port to try, from 0 to 65535. With 0, the system chooses a free port.
        command: the command's name for messages.

    Raises:
        InputError: viser is missing, the host is no address of this machine, or no port is free.
    """
    viser = require("viser", extra="view", command=command)
    free = _free_port(host, port, command)

    class Server(viser.ViserServer):  # type: ignore[name-defined]
        def request_share_url(self, verbose: bool = True) -> None:
            """Ignore a page that asks for a public address."""

    with contextlib.redirect_stdout(io.StringIO()):  # viser's banner, which the command's own message replaces
        server = Server(host=host, port=free, label="nerf-metal", verbose=False)
    server.gui.configure_theme(show_logo=False, show_share_button=False, control_width="medium")
    return server


def close_server(server: Any) -> None:
    """Stop the server and print nothing."""
    with contextlib.redirect_stdout(io.StringIO()):
        server.stop()


def url(server: Any) -> str:
    """Return the address of the page for a browser on this machine."""
    host = server.get_host()
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        shown = host
    else:
        shown = "127.0.0.1" if address.is_unspecified else f"[{host}]" if address.version == 6 else host
    return f"http://{shown}:{server.get_port()}"


def is_private(host: str) -> bool:
    """Return whether a host is reachable from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _free_port(host: str, port: int, command: str) -> int:
    """Return the first free port from ``port`` on, or any free port for 0.

    viser would search for one itself, but would never stop if the host is wrong.
    """
    option = "--view-" if command == "train" else "--"
    if not 0 <= port <= 65535:
        raise InputError(
            f"[{command}] {option}port must be from 0 to 65535, got {port}; choose another one, such as 7007"
        )
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
                    "leave the option out to use 127.0.0.1"
                ) from None
    raise InputError(
        f"[{command}] {option}port must have a free port among the next {PORTS_TRIED}, got {port}; choose another one"
    )
