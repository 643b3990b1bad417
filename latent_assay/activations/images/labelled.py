"""Images with a class each, read one at a time."""

from abc import ABC, abstractmethod
from typing import Any

from jaxtyping import Int, UInt8
from torch import Tensor


class LabelledImages(ABC):
    """Numbered images of one size, each of a class.

    A subclass reads an image from wherever it is kept.
    """

    name: str
    """How manifests call them."""
    classes: tuple[str, ...]
    """Names of the classes."""
    labels: Int[Tensor, " image"]
    """The class of each image, by its number."""
    channels: int
    """1 for grey images, 3 for red, green and blue."""
    size: int
    """Height and width."""

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def __getitem__(self, number: int) -> UInt8[Tensor, "channel height width"]:
        """The pixels of an image."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What tells these images from others, in what JSON has."""
