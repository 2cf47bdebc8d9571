"""HTTP as servers speak it: every way to end a body, connections that stay and go, tokens, TLS, proxies."""

from __future__ import annotations

import datetime
import gc
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.auth.credentials import Credentials

from job.demo.object_store import ObjectStore
from job.demo.object_store.faults import Fault, Status
from job.storage.gcs_media import Media, StatusError
from job.storage.retry import PassingError, Policy, waited
from job.storage.wire import Wire, opening

POLICY = Policy(progress_timeout_s=30.0)
OK = b"HTTP/1.1 200 OK\r\n"


@dataclass
class Scripted:
    """A server that gives prepared answers, one a request, and hangs up after the last of a connection.

    Attributes:
        connections: The answers on the first connection, on the second, …
        requests: Heads that came, in order.
    """

    connections: list[list[bytes]]
    requests: list[bytes] = field(default_factory=list)
    port: int = 0

    def serve(self, listener: socket.socket, tls: ssl.SSLContext | None) -> None:
        for answers in self.connections:
            sock, _ = listener.accept()
            with tls.wrap_socket(sock, server_side=True) if tls else sock as connection:
                for answer in answers:
                    head = b""
                    while b"\r\n\r\n" not in head:
                        if not (piece := connection.recv(65536)):
                            return
                        head += piece
                    self.requests.append(head)
                    connection.sendall(answer)


@contextmanager
def serving(*connections: list[bytes], tls: ssl.SSLContext | None = None) -> Iterator[Scripted]:
    server = Scripted(list(connections))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server.port = listener.getsockname()[1]
        thread = threading.Thread(target=server.serve, args=(listener, tls))
        thread.start()
        try:
            yield server
        finally:
            thread.join()


def wire_to(server: Scripted) -> Wire:
    return waited(opening("127.0.0.1", server.port, None, connect_timeout_s=30.0, progress_timeout_s=30.0))


BODIES = {
    "a length": (OK + b"Content-Length: 7\r\n\r\ncontent", True),
    "no length": (OK + b"\r\ncontent", False),
    "chunks": (OK + b"Transfer-Encoding: chunked\r\n\r\n4;x=y\r\ncont\r\n3\r\nent\r\n0\r\nTrailer: 1\r\n\r\n", True),
    "connection: close": (OK + b"Content-Length: 7\r\nConnection: close\r\n\r\ncontent", False),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 7\r\n\r\ncontent", False),
    "a notice before it": (
        b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK + b"content-length:7\r\n\r\ncontent",
        True,
    ),
}


@pytest.mark.parametrize("kind", BODIES)
def test_a_body_ends_where_its_server_says(kind: str):
    answer, stays = BODIES[kind]
    with serving([answer]) as server:
        wire = wire_to(server)
        wire.ask("/a", {"X-Test": "1"})
        reply = wire.reply()
        assert (reply.status, b"".join(reply.body)) == (200, b"content")
        assert wire.is_whole == stays
        wire.close()
    assert server.requests == [f"GET /a HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nX-Test: 1\r\n\r\n".encode()]


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        OK + b"Content-Length: 8\r\n\r\ncontent",
        OK + b"Content-Length: many\r\n\r\ncontent",
        OK + b"Content-Length: -1\r\n\r\ncontent",
        OK + b"Transfer-Encoding: chunked\r\n\r\n7\r\ncontent\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\nseven\r\ncontent\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        OK + b"X-Long: " + b"x" * 200_000,
    ],
)
def test_what_is_no_whole_answer_passes_and_the_connection_is_not_used_again(answer: bytes):
    with serving([answer]) as server:
        wire = wire_to(server)
        with pytest.raises(PassingError):
            wire.ask("/a", {})
            b"".join(wire.reply().body)
        assert not wire.is_whole
        wire.close()


def test_headers_are_found_in_any_case_and_joined():
    answer = OK + b"X-Goog-Hash: crc32c=AAAAAA==\r\nx-goog-hash: md5=1B2M\r\nContent-Length: 0\r\n\r\n"
    with serving([answer]) as server:
        wire = wire_to(server)
        wire.ask("/a", {})
        reply = wire.reply()
        assert reply.headers.get("x-goog-hash") == "crc32c=AAAAAA==, md5=1B2M"
        assert reply.headers.get("hash") == ""
        wire.close()


def fetched(media: Media, name: str = "a") -> bytes:
    body = bytearray()
    waited(media.fetching("photos", name, body.extend, limit_s=30.0))
    return bytes(body)


def test_a_connection_serves_many_objects_and_another_follows_where_the_server_hung_up():
    answer = OK + b"Content-Length: 7\r\n\r\ncontent"
    with serving([answer] * 3, [answer]) as server:
        media = Media(None, f"http://127.0.0.1:{server.port}", POLICY)
        assert [fetched(media) for _ in range(3)] == [b"content"] * 3
        # The server hangs up in its own time; whoever asks meanwhile is told so, and asks again.
        while True:
            try:
                assert fetched(media) == b"content"
                break
            except PassingError:
                continue
    assert len(server.requests) == 4


def test_connections_among_garbage_that_refers_to_itself_are_closed():
    """Pytest makes an error of a socket's complaint that nobody closed it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        servers = []
        for _ in range(20):
            held: list[object] = [Wire(socket.create_connection(listener.getsockname()), "x", progress_timeout_s=1)]
            held.append(held)
            servers.append(listener.accept()[0])
        del held
        gc.collect()
        for server in servers:
            with server:
                assert server.recv(1) == b""


def test_an_endpoint_may_have_a_path():
    with serving([OK + b"Content-Length: 7\r\n\r\ncontent"]) as server:
        assert fetched(Media(None, f"http://127.0.0.1:{server.port}/gcs", POLICY)) == b"content"
    assert server.requests[0].startswith(b"GET /gcs/download/storage/v1/b/photos/o/a?alt=media HTTP/1.1\r\n")


class Tokens(Credentials):  # type: ignore[misc, no-untyped-call]
    """Tokens t1, t2, … that a server may refuse; they are valid for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.num = 0

    def refresh(self, request: object) -> None:
        self.num += 1
        self.token = f"t{self.num}"


def test_threads_that_start_together_ask_for_one_token(gcs_server: ObjectStore):
    gcs_server.put("photos", "a", b"content")
    tokens, seen = Tokens(), set()
    gcs_server.fault = lambda method, target, headers: seen.add(headers["authorization"])
    media = Media(tokens, gcs_server.url, POLICY)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: fetched(media), range(32))) == {b"content"}
    assert (tokens.num, seen) == (1, {"Bearer t1"})


def test_a_refused_token_is_renewed_once_for_all_threads(gcs_server: ObjectStore):
    gcs_server.put("photos", "a", b"content")

    def only_the_second(method: str, target: str, headers) -> Fault | None:
        return None if headers["authorization"] == "Bearer t2" else Status(401)

    gcs_server.fault = only_the_second
    tokens = Tokens()
    media = Media(tokens, gcs_server.url, POLICY)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: fetched(media), range(32))) == {b"content"}
    assert tokens.num == 2


def test_a_new_token_that_is_refused_too_is_an_error(gcs_server: ObjectStore):
    gcs_server.put("photos", "a", b"content")
    gcs_server.fault = lambda method, target, headers: Status(401)
    tokens = Tokens()
    with pytest.raises(StatusError, match="401"):
        fetched(Media(tokens, gcs_server.url, POLICY))
    assert tokens.num == 2


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, ssl.SSLContext]:
    """Returns the file of a certificate for 127.0.0.1 that nobody else signed, and a server's side that has it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (tmp_path / "certificate.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")
    return tmp_path / "certificate.pem", context


def test_over_tls_two_objects_come_over_one_connection(
    certificate: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))
    body = bytes(range(256)) * 4000
    answer = OK + f"Content-Length: {len(body)}\r\n\r\n".encode() + body
    with serving([answer, answer], tls=certificate[1]) as server:
        media = Media(None, f"https://127.0.0.1:{server.port}", POLICY)
        assert fetched(media) == body
        assert fetched(media) == body


def test_a_server_that_nobody_vouches_for_is_told_nothing(certificate: tuple[Path, ssl.SSLContext]):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        told = []

        def answer() -> None:
            sock, _ = listener.accept()
            with sock:
                try:
                    with certificate[1].wrap_socket(sock, server_side=True) as connection:
                        told.append(connection.recv(100))
                except ssl.SSLError:
                    pass

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(PassingError, match="CERTIFICATE_VERIFY_FAILED"):
            fetched(Media(None, f"https://127.0.0.1:{listener.getsockname()[1]}", POLICY))
        thread.join()
    assert told == []


def test_a_proxy_of_the_environment_is_gone_through_with_its_password(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    answer = OK + b"Content-Length: 7\r\n\r\ncontent"
    with serving([answer, answer]) as proxy:
        monkeypatch.setenv("http_proxy", f"http://user:secr%65t@127.0.0.1:{proxy.port}")
        media = Media(None, "http://storage.test", POLICY)
        assert fetched(media, "a/b") == b"content"
        assert fetched(media, "c") == b"content"
    first = proxy.requests[0].decode().lower()
    assert first.startswith("get http://storage.test/download/storage/v1/b/photos/o/a%2fb?alt=media http/1.1")
    assert "proxy-authorization: basic dxnlcjpzzwnyzxq=" in first


def test_a_proxy_that_does_not_answer_passes(monkeypatch: pytest.MonkeyPatch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("no_proxy", "elsewhere.test")
    with pytest.raises(PassingError, match="ProxyError"):
        fetched(Media(None, "http://storage.test", POLICY))
