"""`python -m job.training.batch_trial`: a child of `batch_search`, whose memory may run out without harm to the run.

Reads what is tried, then one batch a line; answers each that fits with a line, and ends with the first that does not.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from job.quiet import import_tensorflow
from job.training.batch_search import DOES_NOT_FIT, Spec

STEPS = 2
"""Of each phase: the second finds the memory as the first leaves it, with the optimizer's averages made."""

_OUT_OF_MEMORY = re.compile(r"out of memory|ALLOC_FAILED|RESOURCE_EXHAUSTED", re.IGNORECASE)
"""What XLA and cuDNN say in errors of other types."""


def main() -> None:
    """Answers until its input ends."""
    spec = Spec(**json.loads(sys.stdin.readline()))
    # Each machine tries its own share.
    os.environ.pop("TF_CONFIG", None)
    import_tensorflow()
    import tensorflow as tf

    for line in sys.stdin:
        try:
            _rehearse(spec, int(line))
        except (tf.errors.ResourceExhaustedError, MemoryError):
            sys.exit(DOES_NOT_FIT)
        except (tf.errors.InternalError, tf.errors.UnknownError) as error:
            if _OUT_OF_MEMORY.search(error.message):
                sys.exit(DOES_NOT_FIT)
            raise
        print("fits", flush=True)


def _rehearse(spec: Spec, batch: int) -> None:
    """Makes the run's model, and of each phase some steps, a look at the validation split and a pass of its trunk."""
    import keras

    from job.config import Config
    from job.model import backbones, classifier, custom
    from job.training import distribution as distributions
    from job.training import recipe as recipes
    from job.training.rehearsal import Rehearsal

    keras.backend.clear_session()
    config = Config.model_validate(spec.config)
    config = config.model_copy(update={"train": config.train.model_copy(update={"batch": batch})})
    backbone: Any = (
        custom.describe(Path(spec.backbone_path)) if spec.backbone_path else backbones.get(config.model.backbone)
    )
    distribution = distributions.make(config.train)
    policy = distributions.policy(config.train)
    recipe = recipes.resolve(config, backbone, num_train=spec.num_train, num_classes=spec.num_classes)
    image_px = config.data.image_px or backbone.native_px
    with distribution.strategy.scope():
        model = classifier.build(
            backbone,
            weights="none",
            image_px=image_px,
            num_classes=spec.num_classes,
            dropout=recipe.dropout,
            seed=config.train.seed,
            policy=policy,
        )
    rehearsal = Rehearsal(
        config=config,
        backbone=backbone,
        distribution=distribution,
        model=model,
        recipe=recipe,
        policy=policy,
        image_px=image_px,
        stored_px=config.data.stored_px or image_px,
        num_known=spec.num_known,
    )
    for phase in recipe.phases:
        cut = rehearsal.cut(phase)
        if not cut.is_input:
            rehearsal.trunk(cut, is_augmented=phase.views > 1)()
        rehearsal.look(phase)()
        step = rehearsal.step(phase, rehearsal.parts(phase))
        for _ in range(STEPS):
            step()


if __name__ == "__main__":
    main()
