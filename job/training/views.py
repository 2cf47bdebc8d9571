"""How a training image looks: plain, or changed at random; cached, or made afresh each step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from job.dataset import augment
from job.dataset.feed import uniforms
from job.training.recipe import Augmentation
from job.training.step import Prepare


@dataclass(frozen=True)
class Views:
    """The views of an image: number 0 is plain, number v is the augmented one that epoch v would draw."""

    seed: int
    image_px: int
    augmentation: Augmentation

    def plain(self, images: Any) -> Any:
        """Returns float32 [B, image_px, image_px, 3] of uint8 [B, S, S, 3]."""
        return augment.center(images, image_px=self.image_px)

    def augmented(self, images: Any, randoms: Any) -> Any:
        """As `plain`, changed by the random numbers float32 [B, NUM_RANDOMS]."""
        a = self.augmentation
        return augment.view(
            images,
            randoms,
            image_px=self.image_px,
            flip=a.flip,
            crop_scale=a.crop_scale,
            color=a.color,
            magnitude=a.randaugment,
        )

    def randoms(self, view: int) -> Callable[[np.ndarray], np.ndarray]:
        """Returns the function from indices int64 [B] to the random numbers of that view."""
        return lambda indices: uniforms(self.seed, np.full(len(indices), view), indices)

    def shown(self, images: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Returns uint8 [B, image_px, image_px, 3] for people: view 1 of the images `indices` [B]."""
        return np.asarray(self.augmented(images, self.randoms(1)(indices))).round().astype(np.uint8)

    def afresh(self) -> Prepare:
        """Returns the preparation of a step that augments, and mixes where the recipe says so."""
        a = self.augmentation

        def prepare(images: Any, partners: Any, targets: Any, partner_targets: Any, randoms: Any) -> tuple[Any, Any]:
            changed = self.augmented(images, randoms)
            if not a.mixes:
                return changed, targets
            others = self.augmented(partners, tf.reverse(randoms, axis=[1]))
            return augment.mix(changed, others, targets, partner_targets, randoms, mixup=a.mixup, cutmix=a.cutmix)

        return prepare
