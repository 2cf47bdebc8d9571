"""A small Cloud Storage server on loopback, for the demo and for tests.

No emulator that can be installed keeps preconditions, pages and checksums, so here is one, held to them by
`tests/integration/demo/test_object_store.py`. Standard library only (google-crc32c where it is there).

    server.py     the port, its threads, `ObjectStore`        wire.py       HTTP/1.1
    routes.py     path → handler                               contents.py   buckets, objects, generations, conditions
    json_api.py   buckets, metadata, compose, rewrite          resource.py   how they are described
    uploads.py    media, multipart, resumable                  downloads.py  hashes, ranges, gzip
    listing.py    pages, prefixes, globs                       batch.py      many requests in one
    xml_api.py    /bucket/object                               checksums.py  crc32c, md5
    xml_uploads.py   the same in parts                         xml_messages.py   what both say
    errors.py     refusals, in three forms                     faults.py     what goes wrong on request

Not kept: access control, object versions, soft delete, retention, customer keys, notifications, rate limits.
"""

from job.demo.object_store.server import ObjectStore

__all__ = ["ObjectStore"]
