"""The addresses where the page is served, and where it is not."""

import socket
import sys
from pathlib import Path

import pytest

from nerf_metal.cli import main
from nerf_metal.util.errors import InputError
from nerf_metal.viewer.server import close_server, is_private, open_server, url

pytestmark = pytest.mark.usefixtures("needs_viser")


@pytest.fixture
def serve():
    """Open servers and close them after the test."""
    servers = []

    def make(*args):
        servers.append(open_server(*args))
        return servers[-1]

    yield make
    for server in servers:
        close_server(server)


def listening(port: int) -> set[str]:
    """Return the addresses with a listener on a port, in the kernel's notation."""
    tables = [Path("/proc/net/tcp"), Path("/proc/net/tcp6")]
    if not tables[0].exists():
        pytest.skip("no /proc/net/tcp here to list sockets from")
    rows = [line.split() for table in tables if table.exists() for line in table.read_text().splitlines()[1:]]
    sockets = [row[1].split(":") for row in rows if row[3] == "0A"]  # LISTEN
    return {address for address, number in sockets if int(number, 16) == port}


def test_the_default_host_is_reachable_from_this_machine_only(serve):
    server = serve("127.0.0.1", 0, "view")
    assert listening(server.get_port()) == {"0100007F"}
    with socket.create_connection(("127.0.0.1", server.get_port()), timeout=5):
        pass


def test_all_addresses_only_on_request(serve):
    server = serve("0.0.0.0", 0, "view")
    assert listening(server.get_port()) == {"00000000"}
    assert url(server) == f"http://127.0.0.1:{server.get_port()}"


@pytest.mark.parametrize(
    ("host", "private"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)]
)
def test_who_reaches_it(host, private):
    assert is_private(host) == private


def test_the_next_port_if_one_is_taken(serve):
    first = serve("127.0.0.1", 0, "view")
    second = serve("127.0.0.1", first.get_port(), "view")
    assert first.get_port() < second.get_port() < first.get_port() + 100


@pytest.mark.parametrize(
    ("host", "port", "command", "message"),
    [
        ("192.0.2.1", 7007, "view", "[view] --host must be an address of this machine, got 192.0.2.1 "),
        ("no host", 7007, "train", "[train] --view-host must be an address of this machine, got no host"),
        ("127.0.0.1", 70000, "train", "[train] --view-port must be from 0 to 65535, got 70000"),
    ],
)
def test_bad_addresses(host, port, command, message):
    with pytest.raises(InputError) as error:
        open_server(host, port, command)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_no_public_address(serve, monkeypatch):
    """A page can ask viser for a public address. It gets none, and no connection is made."""
    server = serve("127.0.0.1", 0, "view")
    monkeypatch.setattr("viser._viser.ViserTunnel", None)  # fails if it is called
    assert server.request_share_url() is None
    assert server._share_tunnel is None


def test_nothing_is_printed(serve, capfd):
    close_server(open_server("127.0.0.1", 0, "view"))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("words", [["view", "nowhere"], ["train", "--view"]])
def test_without_viser(words, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "viser", None)
    assert main(words) == 2
    command = words[0]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith(f"error: [{command}] viser must be installed")
    assert lines[0].endswith("pip install 'nerf-metal[view]'")
