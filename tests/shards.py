"""TFRecord shards as TensorFlow itself writes them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import tensorflow as tf


def write(path: Path, images: Iterable[tuple[bytes, str]]) -> bytes:
    """Writes (encoded image, class name) a record and returns the shard's bytes."""
    with tf.io.TFRecordWriter(str(path)) as out:
        for content, label in images:
            features = {
                name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
                for name, value in (("image/encoded", content), ("image/class/text", label.encode()))
            }
            out.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
    return path.read_bytes()
