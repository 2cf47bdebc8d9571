"""The server's life: a port, a thread a connection, an end without leftovers."""

from __future__ import annotations

import mimetypes
import socket
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from job.demo.object_store.contents import Contents
from job.demo.object_store.errors import ApiError
from job.demo.object_store.faults import Fault, FaultHook
from job.demo.object_store.routes import Router
from job.demo.object_store.wire import BadRequestError, Connection, Request, Response
from job.errors import InputMissingError, UsageError


class ObjectStore:
    """A Cloud Storage of its own on this machine, for the demo and for tests. Forgets everything at the end.

        with ObjectStore() as store:
            store.put("photos", "cats/1.jpg", data)
            os.environ["STORAGE_EMULATOR_HOST"] = store.url

    Threads, not asyncio: handlers stay plain functions, large bodies go out without the interpreter's lock,
    and a stalled reply holds up nobody else.

    Args:
        folder: Its folders become buckets and the files below them objects, read once at the start. Files
            beside the folders are not used.
        host: Interface to listen on; "0.0.0.0" inside a container.
        port: 0 takes a free one.
        fault: Asked about every request; see `faults.py`. May be replaced at any time.
    """

    def __init__(
        self, folder: Path | None = None, *, host: str = "127.0.0.1", port: int = 0, fault: FaultHook | None = None
    ) -> None:
        self.fault = fault
        self._folder = folder
        self._address = (host, port)
        self._contents = Contents()
        self._router = Router(self._contents)
        self._closing = threading.Event()
        self._connections: dict[socket.socket, threading.Thread] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        if self._folder is not None:
            self._seed(self._folder)
        self._listener = socket.create_server(self._address, backlog=1024)
        self._address = self._listener.getsockname()[:2]
        self._acceptor = threading.Thread(target=self._accept, name="object-store", daemon=True)
        self._acceptor.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        # A thread in accept() notices nothing of a close; a connection wakes it on every platform.
        socket.create_connection(self._address).close()
        self._acceptor.join()
        self._listener.close()
        with self._lock:
            threads = list(self._connections.values())
            for sock in self._connections:
                with suppress(OSError):  # the client was faster
                    sock.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`: what STORAGE_EMULATOR_HOST or `api_endpoint` wants. Valid inside `with`."""
        return f"http://{self._address[0]}:{self._address[1]}"

    def make_bucket(self, bucket: str) -> None:
        """Makes a bucket; one that is there already is fine."""
        with self._contents.lock:
            if bucket not in self._contents.buckets:
                self._contents.create_bucket(bucket)

    def put(self, bucket: str, name: str, data: bytes, *, content_type: str = "") -> int:
        """Stores an object, in a new bucket where there is none; returns its generation."""
        self.make_bucket(bucket)
        kind = content_type or mimetypes.guess_type(name)[0] or "application/octet-stream"
        return self._contents.put(bucket, name, data, settings={"contentType": kind}).generation

    def get(self, bucket: str, name: str) -> bytes:
        """Returns an object's content; KeyError where there is none."""
        return bytes(self._contents.buckets[bucket].objects[name].data)

    def forget(self, bucket: str, name: str) -> None:
        """Removes an object, as if somebody else had; one that is not there is fine."""
        with self._contents.lock:
            self._contents.buckets[bucket].objects.pop(name, None)

    def names(self, bucket: str, prefix: str = "") -> list[str]:
        """Returns the names of a bucket's objects, sorted; KeyError where there is no such bucket."""
        with self._contents.lock:
            return sorted(name for name in self._contents.buckets[bucket].objects if name.startswith(prefix))

    def _seed(self, folder: Path) -> None:
        if not folder.is_dir():
            raise InputMissingError(
                f"The folder of buckets is not there: {folder}.", next_step="Name a folder whose folders are buckets."
            )
        for bucket in sorted(path for path in folder.iterdir() if path.is_dir()):
            try:
                self._contents.create_bucket(bucket.name)
            except ApiError as error:
                raise UsageError(
                    f"{bucket} cannot be a bucket: {error.message}. Allowed: 3 to 222 of a-z, 0-9, '.', '_', '-'.",
                    next_step="Rename the folder.",
                ) from error
            for path in sorted(path for path in bucket.rglob("*") if path.is_file()):
                self.put(bucket.name, path.relative_to(bucket).as_posix(), path.read_bytes())

    def _accept(self) -> None:
        while True:
            sock, _ = self._listener.accept()
            if self._closing.is_set():
                sock.close()
                return
            # Head and body are two writes: without this the second waits for the other side's delayed ACK.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = threading.Thread(target=self._serve, args=(sock,), name="object-store-connection", daemon=True)
            with self._lock:
                self._connections[sock] = thread
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        connection = Connection(sock, self._closing)
        try:
            while (request := connection.read_request()) is not None and self._reply(connection, request):
                pass
        except (BadRequestError, ValueError) as error:
            connection.send(Response(400, {"content-type": "text/plain"}, str(error).encode()), is_last=True)
        except OSError:
            # The client went away, or a fault wants it to look so.
            connection.reset()
        finally:
            with self._lock:
                self._connections.pop(sock, None)
            sock.close()

    def _reply(self, connection: Connection, request: Request) -> bool:
        fault = (self.fault and self.fault(request.method, request.target, request.headers)) or Fault()
        request.blocks = fault.receive(request.blocks)
        response = self._answer(request) if fault.has_effect else Response(200)
        # What nobody has read would be taken for the next request.
        for _ in request.blocks:
            pass
        is_last = request.headers.get("connection", "").lower() == "close"
        return connection.send(fault.spoil(response), is_head=request.method == "HEAD", is_last=is_last)

    def _answer(self, request: Request) -> Response:
        try:
            return self._router.answer(request)
        except OSError:
            raise
        except Exception:
            # A bug here is shown with its reason. 501 and not 500: clients would try that again for two minutes.
            return ApiError(501, "internalError", traceback.format_exc()).as_json()
