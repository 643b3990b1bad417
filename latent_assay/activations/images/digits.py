"""Handwritten digits that come with scikit-learn: images on every machine, no download."""

import hashlib
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from latent_assay.activations.images.labelled import LabelledImages
from latent_assay.errors import require


class Digits(LabelledImages):
    """1,797 grey digits of 8 × 8 pixels, about 180 of each.

    **Raises:** `MissingExtra` without scikit-learn.
    """

    def __init__(self) -> None:
        datasets = require("sklearn.datasets", extra="images", purpose="the data set of digits")
        found = datasets.load_digits()
        self.name = "digits"
        self.classes = tuple(map(str, found.target_names.tolist()))
        self.labels = torch.as_tensor(found.target, dtype=torch.int64)
        # 17 grades of grey
        grey = torch.as_tensor(found.images, dtype=torch.float64) / 16
        self._pixels = (255 * grey).round().to(torch.uint8).unsqueeze(1)
        self.channels, self.size = 1, int(self._pixels.shape[-1])

    def __getitem__(self, number: int) -> UInt8[Tensor, "channel height width"]:
        """The pixels of a digit."""
        return self._pixels[number]

    def describe(self) -> dict[str, Any]:
        """Their name and a hash of the pixels."""
        return {
            "name": self.name,
            "hash": hashlib.sha256(self._pixels.numpy().tobytes()).hexdigest()[:32],
        }
