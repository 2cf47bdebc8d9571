"""One way to copy a bucket's folder to the disk, in a process of its own; prints what it took as one line of JSON.

    puller.py SIDE FOLDER_OF_BUCKETS PREFIX TO [--workers N] [--processes]

Sides: `job` (the job's pull), `transfer_manager`, `download_to_filename`, `sockets` (a raw socket in each of N
processes, with crc32c and rename), `copytree`. The clock starts behind the imports; the sides list the bucket
themselves but for `sockets`, which is told the names. Every side's files are compared with the originals afterwards,
outside the clock.
"""

from __future__ import annotations

import argparse
import base64
import filecmp
import json
import os
import resource
import shutil
import socket
from pathlib import Path
from urllib.parse import quote, urlsplit

import google_crc32c
import turns

BUCKET = "photos"
CHUNK_BYTES = 1 << 20


def job(prefix: str, to: Path) -> None:
    from job.storage import at, transfer

    transfer.pull(at(f"gs://{BUCKET}/{prefix}"), to)


def transfer_manager(prefix: str, to: Path, workers: int, uses_processes: bool) -> None:
    from google.cloud import storage
    from google.cloud.storage import transfer_manager as manager
    from requests.adapters import HTTPAdapter

    client = storage.Client(project="bench")
    # Ten connections are the default; more threads would wait for one.
    client._http.mount("http://", HTTPAdapter(pool_connections=workers, pool_maxsize=workers))
    bucket = client.bucket(BUCKET)
    names = [blob.name.removeprefix(f"{prefix}/") for blob in client.list_blobs(bucket, prefix=f"{prefix}/")]
    results = manager.download_many_to_path(
        bucket,
        names,
        destination_directory=str(to),
        blob_name_prefix=f"{prefix}/",
        worker_type=manager.PROCESS if uses_processes else manager.THREAD,
        max_workers=workers,
    )
    if failed := [result for result in results if isinstance(result, Exception)]:
        raise SystemExit(f"{len(failed)} of {len(names)} downloads failed: {failed[0]}")


def download_to_filename(prefix: str, to: Path) -> None:
    from google.cloud import storage

    client = storage.Client(project="bench")
    for blob in client.list_blobs(BUCKET, prefix=f"{prefix}/"):
        blob.download_to_filename(to / blob.name.removeprefix(f"{prefix}/"))


def sockets(prefix: str, to: Path, names: list[str], workers: int) -> None:
    if workers == 1:
        read_all(prefix, to, names)
        return
    from concurrent.futures import ProcessPoolExecutor  # memory that the other sides do without

    parts = [names[number::workers] for number in range(workers)]
    with ProcessPoolExecutor(workers) as pool:
        list(pool.map(read_all, [prefix] * workers, [to] * workers, parts))


def read_all(prefix: str, to: Path, names: list[str]) -> None:
    """Reads objects one after the other over one connection, each checked and renamed."""
    where = urlsplit(os.environ["STORAGE_EMULATOR_HOST"])
    with socket.create_connection((where.hostname, where.port or 80)) as sock:
        for name in names:
            target = f"/download/storage/v1/b/{BUCKET}/o/{quote(f'{prefix}/{name}', safe='')}?alt=media"
            sock.sendall(f"GET {target} HTTP/1.1\r\nHost: {where.netloc}\r\n\r\n".encode())
            seen = b""
            while b"\r\n\r\n" not in seen:
                seen += sock.recv(65536)
            head, _, rest = seen.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            lines = [line.lower() for line in head.split(b"\r\n")]
            left = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length"))
            checksum = google_crc32c.Checksum()
            partial = to / f"{name}.part"
            with partial.open("wb", buffering=0) as file:
                while True:
                    checksum.update(rest)
                    file.write(rest)
                    left -= len(rest)
                    if not left:
                        break
                    rest = sock.recv(min(left, CHUNK_BYTES))
            stated = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"x-goog-hash"))
            assert base64.b64encode(checksum.digest()) in stated, name
            os.replace(partial, to / name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("side")
    parser.add_argument("buckets", type=Path)
    parser.add_argument("prefix")
    parser.add_argument("to", type=Path)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--processes", action="store_true")
    given = parser.parse_args()
    source = given.buckets / BUCKET / given.prefix
    names = sorted(path.name for path in source.iterdir())
    given.to.mkdir(parents=True)
    if given.side in ("transfer_manager", "download_to_filename"):
        import google.cloud.storage  # noqa: F401  # behind the clock, as the job's own below
    elif given.side == "job":
        from job.storage import gcs  # noqa: F401
    with turns.watch() as took:
        if given.side == "job":
            job(given.prefix, given.to)
        elif given.side == "transfer_manager":
            transfer_manager(given.prefix, given.to, given.workers, given.processes)
        elif given.side == "download_to_filename":
            download_to_filename(given.prefix, given.to)
        elif given.side == "sockets":
            sockets(given.prefix, given.to, names, given.workers)
        else:
            shutil.copytree(source, given.to, dirs_exist_ok=True)
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    wrong = [name for name in names if not filecmp.cmp(source / name, given.to / name, shallow=False)]
    if wrong:
        raise SystemExit(f"{given.side}: {len(wrong)} files differ, the first: {wrong[0]}")
    print(json.dumps({"seconds": took.seconds, "cpu_s": took.cpu_s, "peak_mb": peak_bytes / 1e6}))


if __name__ == "__main__":
    main()
