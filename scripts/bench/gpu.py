"""Images a second on 1 to N GPUs, the job's own steps on made-up pixels, beside what NVIDIA publishes.

    scripts/bench/gpu --json ./gpu.json
    scripts/bench/gpu --batch 128 --precision float16 --xla

ResNet-50 and EfficientNetV2-S at 224 px: the pass of the frozen backbone, the head on cached features, and fine-tuning
of all layers with augmentation on the device. Each figure is of a process of its own. Without a GPU nothing is measured
and the exit code is 69 (EX_UNAVAILABLE in sysexits.h): the steps on a processor say nothing about a GPU.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import published

from job.quiet import import_tensorflow

ROOT = Path(__file__).resolve().parents[2]
NO_GPU = 69
BACKBONES = ("resnet50", "efficientnet_v2_s")
KINDS = ("features", "head", "finetune")
WARM_UP = 5


@dataclass(frozen=True)
class Measured:
    """One figure of ours.

    Attributes:
        kind: features (no gradients), head (on cached features), finetune (all layers, augmented).
        batch: Global.
        images_s: Over all GPUs.
        memory_bytes: Peak of the first GPU; 0 on a processor.
    """

    backbone: str
    kind: str
    devices: str
    num_gpus: int
    batch: int
    image_px: int
    policy: str
    images_s: float
    memory_bytes: int


def measure(
    backbone: str, kind: str, *, num_gpus: int, image_px: int, batch: int, seconds: float, more: list[str]
) -> Measured:
    """Returns the images a second of one kind of work, in this process, whose strategy it makes.

    Args:
        batch: A GPU.
        seconds: For which it is repeated after its warm-up.
        more: Settings besides.
    """
    import tensorflow as tf

    from job import config as configs
    from job.model import backbones, classifier
    from job.training import distribution as distributions
    from job.training import recipe as recipes
    from job.training.rehearsal import Rehearsal

    settings = [
        f"train.batch={batch * num_gpus}",
        f"train.strategy={'mirrored' if num_gpus > 1 else 'single'}",
        *([f"train.replicas={num_gpus}"] if num_gpus > 1 else []),
        "train.finetune.unfreeze=1",
        "train.finetune.views=0",
        *more,
    ]
    config, row = configs.load(None, settings), backbones.get(backbone)
    distribution, policy = distributions.make(config.train), distributions.policy(config.train)
    # As many classes and images as ImageNet has, which the published figures are for.
    num_images, num_classes = 1_281_167, 1000
    recipe = recipes.resolve(config, row, num_train=num_images, num_classes=num_classes)
    with distribution.strategy.scope():
        model = classifier.build(
            row,
            weights="none",
            image_px=image_px,
            num_classes=num_classes,
            dropout=recipe.dropout,
            seed=0,
            policy=policy,
        )
    rehearsal = Rehearsal(
        config=config,
        backbone=row,
        distribution=distribution,
        model=model,
        recipe=recipe,
        policy=policy,
        image_px=image_px,
        stored_px=image_px,
        num_known=num_images,
    )
    head, finetune = recipe.phases
    if kind == "features":
        run, num = rehearsal.trunk(rehearsal.cut(head)), rehearsal.forward_images
    else:
        phase = head if kind == "head" else finetune
        run, num = rehearsal.step(phase, rehearsal.parts(phase)), recipe.batch
    images_s = rate(run, num, seconds=seconds)
    gpus = tf.config.list_logical_devices("GPU")
    memory_bytes = int(tf.config.experimental.get_memory_info("GPU:0")["peak"]) if gpus else 0
    return Measured(
        backbone, kind, distribution.describe(), num_gpus, recipe.batch, image_px, policy, images_s, memory_bytes
    )


def rate(
    run: Callable[[], None], num_images: int, *, seconds: float, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Returns images a second of a piece of work on `num_images`, after its warm-up."""
    for _ in range(WARM_UP):
        run()
    start_s, times = clock(), 0
    while (took_s := clock() - start_s) < seconds or not times:
        run()
        times += 1
    return num_images * times / took_s


def table(rows: list[Measured]) -> str:
    """Returns the figures as a Markdown table, those of fine-tuning beside the published ones."""
    lines = [
        "| network | work | GPUs | batch | images/s | a GPU | of N times one | published, all layers | ours to it |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in rows:
        alone = next((other for other in rows if _same_work(one, other) and other.num_gpus == 1), None)
        share = f"{one.images_s / one.num_gpus / alone.images_s:.2f}" if alone else ""
        found = published.of(one.backbone, one.num_gpus) if one.kind == "finetune" else []
        theirs = "; ".join(f"{each.gpu} {each.images_s:g}" for each in found)
        ratios = "; ".join(f"{one.images_s / each.images_s:.2f}" for each in found)
        lines.append(
            f"| {one.backbone} | {one.kind} | {one.num_gpus} | {one.batch} | {one.images_s:.0f} "
            f"| {one.images_s / one.num_gpus:.0f} | {share} | {theirs} | {ratios} |"
        )
    return "\n".join(lines)


def sources() -> str:
    """Returns where the published figures are from and how they differ."""
    found = {(one.backbone, one.source, one.precision, one.note) for one in published.PUBLISHED}
    return "\n".join(
        f"Published, {backbone}: {precision} precision; {note}. {source}"
        for backbone, source, precision, note in sorted(found)
    )


def _same_work(one: Measured, other: Measured) -> bool:
    return (one.backbone, one.kind, one.policy) == (other.backbone, other.kind, other.policy)


def main() -> None:
    """Measures in processes of their own and prints the table; a child measures one figure and prints it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=256, help="images a GPU (default: %(default)s)")
    parser.add_argument("--image-px", type=int, default=224, help="(default: %(default)s)")
    parser.add_argument("--precision", default="auto", help="auto, float32, bfloat16 or float16 (default: %(default)s)")
    parser.add_argument("--xla", action="store_true", help="compile forward and backward with XLA")
    parser.add_argument("--seconds", type=float, default=20.0, help="for each figure (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures here")
    parser.add_argument("--one", nargs=3, metavar=("BACKBONE", "KIND", "GPUS"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    more = [f"train.precision={given.precision}", f"train.xla={str(given.xla).lower()}"]

    import_tensorflow()
    import tensorflow as tf

    num_gpus = len(tf.config.list_physical_devices("GPU"))
    if not num_gpus:
        print(
            "No GPU is visible to TensorFlow: nothing was measured. On a machine with NVIDIA GPUs install '.[gpu]' and "
            "run it again.\n" + sources(),
            file=sys.stderr,
        )
        sys.exit(NO_GPU)
    if given.one:
        backbone, kind, num = given.one
        found = measure(
            backbone,
            kind,
            num_gpus=int(num),
            image_px=given.image_px,
            batch=given.batch,
            seconds=given.seconds,
            more=more,
        )
        print(json.dumps(asdict(found)))
        return
    counts = sorted({*(num for num in (1, 2, 4, 8) if num <= num_gpus), num_gpus})
    rows = [Measured(**_child(backbone, kind, str(num))) for backbone in BACKBONES for kind in KINDS for num in counts]
    print(f"{rows[0].devices.split(' x ', 1)[-1]}, {rows[0].policy}{', XLA' if given.xla else ''}\n")
    print(table(rows), sources(), sep="\n\n")
    if given.json:
        facts = {"measured": [asdict(one) for one in rows], "published": [one._asdict() for one in published.PUBLISHED]}
        given.json.write_text(json.dumps(facts, indent=2) + "\n")


def _child(backbone: str, kind: str, num: str) -> dict[str, Any]:
    """Returns what a process with the same options measures: one that ran out of memory leaves the others theirs."""
    command = [sys.executable, __file__, *sys.argv[1:], "--one", backbone, kind, num]
    print(f"{backbone}, {kind}, {num} GPU(s) …", file=sys.stderr, flush=True)
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\nended with exit code {done.returncode}.")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
