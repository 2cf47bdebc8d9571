"""Shards as TensorFlow itself writes them."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf

from job.dataset import layouts
from job.dataset.example import Split


def feature(*values: bytes | int | float) -> tf.train.Feature:
    if isinstance(values[0], bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
    if isinstance(values[0], int):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def test_shards_written_by_tensorflow_are_read_back(tmp_path: Path) -> None:
    images = [bytes([number]) * (1 + 400 * number) for number in range(50)]
    for split, numbers in (("train", range(40)), ("validation", range(40, 50))):
        with tf.io.TFRecordWriter(str(tmp_path / f"photos-{split}.tfrecord-00000-of-00001")) as out:
            for number in numbers:
                features = {
                    "image/encoded": feature(images[number]),
                    "image/class/label": feature(number % 3),
                    "image/class/text": feature(f"klasse {number % 3} é".encode()),
                    "image/object/bbox": feature(0.0, 0.5, 1.0),
                    "image/height": feature(-1, 1 << 40),
                }
                record = tf.train.Example(features=tf.train.Features(feature=features))
                out.write(record.SerializeToString())
    examples = layouts.read(tmp_path, work_dir=tmp_path)
    assert [example.label for example in examples] == [f"klasse {number % 3} é" for number in range(50)]
    assert [example.split for example in examples] == [Split.TRAIN] * 40 + [Split.VALIDATION] * 10
    reader = layouts.reader(tmp_path, work_dir=tmp_path)
    assert [reader.read(example.uri) for example in reversed(examples)] == images[::-1]
