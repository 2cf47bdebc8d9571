"""TFRecord shards in a bucket: each of several machines pulls a run of them and tells the others what is in it.

How many records a shard has, and of which classes, is known once it was walked through. So the machines meet before
the survey here, and a machine's share of the rows is that of its shards: as even as whole shards allow.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path

from job.dataset.layouts import tfrecord
from job.dataset.shares import Share, strangers
from job.errors import DatasetError


def mine(share: Share, num_shards: int) -> slice:
    """Returns which of the shards, at least as many as machines, are this machine's: at least one."""
    first, end = (num_shards * worker // share.num_workers for worker in (share.worker, share.worker + 1))
    return slice(first, end)


def agreed(share: Share, folder: Path, versions: Mapping[str, str]) -> tuple[Share, tfrecord.Index]:
    """Returns this machine's share of the rows and what is in all shards, the same on every machine; all must call.

    Args:
        folder: This machine's shards are in it, under their names.
        versions: Name → version of every shard, in the order of the dataset.

    Raises:
        DatasetError: When a shard on any machine is compressed or damaged, on all of them; when they do not see the
            same shards.
    """
    names = list(versions)[mine(share, len(versions))]
    found, fault = {}, []
    try:
        found = tfrecord.index(folder, names)
    except DatasetError as error:
        fault = [error.message, error.next_step]
    seen = hashlib.sha256(json.dumps(versions).encode()).hexdigest()
    heard = share.told([seen, fault, found])
    if others := [worker for worker, (theirs, _, _) in enumerate(heard) if theirs != heard[0][0]]:
        raise strangers(f"the shards of workers {others} are not those of worker 0")
    for _, (message, next_step), _ in (each for each in heard if each[1]):
        raise DatasetError(message, next_step=next_step)
    index = {name: [tfrecord.Record(*each) for each in theirs[name]] for _, _, theirs in heard for name in theirs}
    ends = accumulate(sum(map(len, theirs.values())) for _, _, theirs in heard)
    return dataclasses.replace(share, ends=tuple(ends)), index
