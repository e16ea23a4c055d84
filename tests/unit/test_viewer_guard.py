"""Who may talk to the viewer: raw requests and WebSockets, as an attacker's page or program would send them."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator

import pytest
import viser
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from da3gs.errors import BackendError, InputError
from da3gs_viewer import Viewer
from da3gs_viewer.serving.guard import Guard, guarding
from da3gs_viewer.text import escaped, json_in_page, plain
from tests.browser.wall import wall_scene

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
WORD = Subprotocol(f"viser-v{viser.__version__}")


@pytest.fixture(scope="module")
def viewer() -> Iterator[Viewer]:
    with Viewer(wall_scene(), port=0) as viewer:
        yield viewer


@pytest.fixture(scope="module")
def shared() -> Iterator[Viewer]:
    """One that listens on every address."""
    with Viewer(wall_scene(), host="0.0.0.0", port=0) as viewer:
        yield viewer


def ask(port: int, *headers: str, path: str = "/") -> str:
    """The head of the answer to a raw request."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as wire:
        wire.sendall("\r\n".join((f"GET {path} HTTP/1.1", *headers, "", "")).encode())
        answer = b""
        while b"\r\n\r\n" not in answer and (got := wire.recv(65536)):
            answer += got
    return answer.partition(b"\r\n\r\n")[0].decode()


def status(port: int, *headers: str, path: str = "/") -> int:
    return int(ask(port, *headers, path=path).split()[1])


def handshake(
    port: int, *, origin: str | None = None, host: str = "127.0.0.1", path: str = "/", cookie: str = ""
) -> int:
    """101 where the WebSocket opens, else the status."""
    headers = {"Cookie": cookie} if cookie else {}
    uri = f"ws://{host}:{port}{path}"
    sock = socket.create_connection(("127.0.0.1", port), timeout=10)
    try:
        with connect(
            uri, sock=sock, origin=None if origin is None else Origin(origin), subprotocols=[WORD],
            additional_headers=headers, proxy=None, open_timeout=10,
        ):  # fmt: skip
            return 101
    except InvalidStatus as error:
        return error.response.status_code


def port_of(viewer: Viewer) -> int:
    return viewer.server.get_port()


def test_our_own_page_gets_in(viewer: Viewer) -> None:
    port = port_of(viewer)
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", f"LOCALHOST:{port}"):
        assert status(port, f"Host: {host}") == 200
    assert status(port, f"Host: 127.0.0.1:{port}", f"Origin: http://127.0.0.1:{port}") == 200
    assert handshake(port, origin=f"http://127.0.0.1:{port}") == 101
    assert handshake(port) == 101  # a program, which sends no Origin
    head = ask(port, f"Host: 127.0.0.1:{port}")
    assert "frame-ancestors 'none'" in head
    assert "nosniff" in head
    assert "Set-Cookie" not in head


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "127.0.0.1.evil.example:{port}",
        "user@127.0.0.1:{port}", "127.0.0.1:{port}:{port}", "0.0.0.0:{port}", "", "192.0.2.7:{port}",
    ],
)  # fmt: skip
def test_a_foreign_host_is_refused(viewer: Viewer, host: str) -> None:
    port = port_of(viewer)
    assert status(port, f"Host: {host.format(port=port)}") == 403


def test_no_host_and_two_hosts_are_refused(viewer: Viewer) -> None:
    port = port_of(viewer)
    assert status(port) == 403
    assert status(port, f"Host: 127.0.0.1:{port}", "Host: evil.example") == 403


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example", "https://127.0.0.1:{port}", "http://127.0.0.1:1", "http://127.0.0.1", "null",
        "http://127.0.0.1.evil.example:{port}", "http://evil.example#http://127.0.0.1:{port}", "file://",
    ],
)  # fmt: skip
def test_a_foreign_origin_is_refused(viewer: Viewer, origin: str) -> None:
    port = port_of(viewer)
    word = origin.format(port=port)
    assert status(port, f"Host: 127.0.0.1:{port}", f"Origin: {word}") == 403
    assert handshake(port, origin=word) == 403


def test_a_name_that_points_at_us_is_refused_at_the_handshake(viewer: Viewer) -> None:
    port = port_of(viewer)
    assert handshake(port, host="rebound.example", origin=f"http://rebound.example:{port}") == 403


def test_no_file_of_the_machine_can_be_read(viewer: Viewer) -> None:
    port = port_of(viewer)
    for path in (
        "/../../../../etc/passwd",
        "/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
        "/..%5c..%5cetc/passwd",
    ):
        assert status(port, f"Host: 127.0.0.1:{port}", path=path) == 404


def test_others_need_the_token(shared: Viewer) -> None:
    port, token = port_of(shared), shared.guard.token
    assert token is not None
    assert len(token) >= 32
    assert shared.url.endswith(f"/?token={token}")
    host = f"Host: 127.0.0.1:{port}"
    assert status(port, host) == 403
    for wrong in ("", "x", token[:-1], token + "x", "ü"):
        assert status(port, host, path=f"/?token={wrong.encode().hex() if wrong == 'ü' else wrong}") == 403
        assert handshake(port, path=f"/?token={wrong.encode().hex() if wrong == 'ü' else wrong}") == 403
    assert status(port, host, path=f"/?token={token}") == 200
    assert handshake(port, path=f"/?token={token}") == 101
    assert handshake(port) == 403
    assert status(port, "Host: evil.example", path=f"/?token={token}") == 403
    assert handshake(port, path=f"/?token={token}", origin="http://evil.example") == 403


def test_the_token_goes_into_a_cookie(shared: Viewer) -> None:
    port, token = port_of(shared), shared.guard.token
    host = f"Host: 127.0.0.1:{port}"
    head = ask(port, host, path=f"/?token={token}")
    cookie = next(line for line in head.splitlines() if line.startswith("Set-Cookie: "))
    assert cookie.endswith("; Path=/; HttpOnly; SameSite=Strict")
    pair = cookie.removeprefix("Set-Cookie: ").partition(";")[0]
    assert status(port, host, f"Cookie: other=1; {pair}") == 200
    assert handshake(port, cookie=pair) == 101
    assert status(port, host, f"Cookie: {pair}x") == 403
    assert status(port, host, f"Cookie: da3gs_1={token}") == 403, "another port's"
    assert status(port, host, f"Cookie: {pair}", path="/?token=wrong") == 403


def test_every_address_of_ours_is_ours_and_no_other() -> None:
    guard = Guard.of("0.0.0.0")
    path = f"/?token={guard.token}"
    there = ("192.168.1.5", 80)
    assert guard.refusal(["192.168.1.5"], [], [], path, there) is None
    assert guard.refusal([f"{socket.gethostname()}:80"], [], [], path, there) is None
    assert guard.refusal(["192.168.1.6"], [], [], path, there) is not None
    assert guard.refusal(["127.0.0.1"], [], [], path, there) is not None
    assert guard.refusal(["0.0.0.0"], [], [], path, there) is not None
    assert Guard.of("::").refusal(["[fe80::1]"], ["http://[fe80::1]"], [], path, ("fe80::1", 80)) is not None, "token"
    assert Guard.of("127.0.0.1").token is None
    assert guard.token not in repr(guard)


def test_the_token_is_never_logged(shared: Viewer, caplog: pytest.LogCaptureFixture) -> None:
    port, token = port_of(shared), shared.guard.token
    with caplog.at_level(logging.DEBUG):
        assert status(port, f"Host: 127.0.0.1:{port}", path=f"/?token={token}") == 200
        assert handshake(port, path=f"/?token={token}") == 101
        assert handshake(port, path=f"/?token={token}x") == 403
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith("websockets.client")]
    assert not any(str(token) in said for said in ours)


def test_the_address_that_people_type() -> None:
    """Behind a container's port or a proxy Host and Origin name that address; nothing else gets in."""
    there = ("172.17.0.2", 7860)
    guard = Guard.of("0.0.0.0", url="https://Name.example/")
    path = f"/?token={guard.token}"
    for host, origin, in_ in (
        ("name.example", "https://name.example", True),
        ("name.example:443", "https://name.example:443", True),
        ("name.example:80", "https://name.example", False),
        ("name.example", "http://name.example", False),
        ("name.example", "https://other.example", False),
        ("other.example", "https://name.example", False),
        ("172.17.0.2:7860", "https://name.example", True),
        ("172.17.0.2:7860", "http://172.17.0.2:7860", True),
    ):
        assert (guard.refusal([host], [origin], [], path, there) is None) == in_, (host, origin)
    assert guard.refusal(["name.example"], [], [], "/", there) is not None
    assert "Secure" in str(guard.cookie(path, 7860))
    assert guard.link(guard.url or "") == f"https://name.example/?token={guard.token}"
    here = Guard.of("0.0.0.0", url="http://127.0.0.1:8080")
    for host in ("localhost:8080", "127.0.0.1:8080"):
        assert here.refusal([host], [f"http://{host}"], [], f"/?token={here.token}", there) is None
    anyone = Guard.of("0.0.0.0", url="https://name.example", anyone=True)
    assert anyone.refusal(["name.example"], [], [], "/", there) is None
    assert anyone.refusal(["other.example"], [], [], "/", there) is not None
    assert anyone.framing == "frame-ancestors *"
    assert guard.framing == here.framing == Guard.of("127.0.0.1").framing == "frame-ancestors 'none'"
    for wrong in ("name.example", "ftp://name", "http://", "http://name/below", "http://a@b"):
        with pytest.raises(InputError, match="--url"):
            Guard.of("0.0.0.0", url=wrong)


def test_a_server_that_cannot_be_guarded_is_said_aloud() -> None:
    with pytest.raises(BackendError, match="guard"), guarding(Guard.of("127.0.0.1")):
        pass


def test_a_warning_says_who_can_look_in(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), Viewer(wall_scene(), host="0.0.0.0", port=0) as viewer:
        pass
    assert "0.0.0.0: everybody" in caplog.text
    assert viewer.guard.token not in caplog.text


def test_no_tunnel_to_the_internet(viewer: Viewer) -> None:
    assert viewer.server.request_share_url() is None


def test_text_stays_text() -> None:
    strange = "</script><img src=x onerror=alert(1)>.jpg"
    assert "<" not in plain(strange) + escaped(strange) + json_in_page(strange)
    for mark in "*_[]()`#|<>&":
        assert mark not in plain(f"a{mark}b").replace("&#", "").replace(str(ord(mark)), "")
    assert plain("a\nb\x1b[31m") == "a b &#91;31m"
    assert len(plain("x" * 500)) == 80
