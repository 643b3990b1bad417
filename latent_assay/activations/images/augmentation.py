r"""Random changes of an image that leave what it shows: the two views of contrastive learning."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from latent_assay.errors import ConfigError

_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """How strongly images are changed. The defaults are for photographs."""

    smallest_crop: float = 0.2
    """Smallest share of the area that is cut out and enlarged to the whole."""
    aspect: float = 4 / 3
    """Largest ratio of a cut-out's sides."""
    rotation: float = 0.0
    """Largest angle in degrees, either way."""
    flip: bool = True
    """Whether half of the images are mirrored; digits and letters must not be."""
    jitter: float = 0.4
    """Largest relative change of brightness, contrast and saturation."""
    grey: float = 0.2
    """Share of the images that lose their colour."""

    def __post_init__(self) -> None:
        ranges = {
            "smallest_crop": (0.0 < self.smallest_crop <= 1.0, "above 0 and at most 1"),
            "aspect": (self.aspect >= 1.0, "at least 1"),
            "rotation": (0.0 <= self.rotation <= 180.0, "from 0 to 180"),
            "jitter": (0.0 <= self.jitter < 1.0, "at least 0 and below 1"),
            "grey": (0.0 <= self.grey <= 1.0, "from 0 to 1"),
        }
        for name, (fits, expected) in ranges.items():
            if not fits:
                raise ConfigError(
                    f"`{name}` of the augmentation is {getattr(self, name)}; expected {expected}."
                )


def augmented(
    images: Float[Tensor, "image channel height width"],
    config: AugmentationConfig,
    generator: torch.Generator,
) -> Float[Tensor, "image channel height width"]:
    """A changed copy of each image, by random numbers of its own.

    A part is cut out, of random area, sides and place, turned, enlarged to the whole and perhaps
    mirrored (all in one interpolation); then brightness, contrast and, where there is colour,
    saturation change.

    **Arguments:**
    - `images`: with values from 0 to 1.
    - `config`: how strongly.
    - `generator`: on CPU, so that the numbers are the same on every device.

    **Returns:** images of the same shape, with values from 0 to 1.

    **Reference:** after Chen et al. 2020, "A Simple Framework for Contrastive Learning of Visual
    Representations", arXiv:2002.05709, without the blur; hue stays.
    """
    n = images.shape[0]

    def between(low: float, high: float) -> Tensor:
        return (low + (high - low) * torch.rand(n, generator=generator)).to(images)

    area, ratio = between(config.smallest_crop, 1.0), between(-1.0, 1.0)
    ratio = (ratio * math.log(config.aspect) / 2).exp()
    width, height = ((area.sqrt() * each).clamp_max(1.0) for each in (ratio, 1 / ratio))
    x, y = ((1 - side) * between(-1.0, 1.0) for side in (width, height))
    angle = between(-1.0, 1.0) * math.radians(config.rotation)
    mirrored = torch.where(between(0.0, 1.0) < (0.5 if config.flip else 0.0), -1.0, 1.0)
    cos, sin = angle.cos(), angle.sin()
    rows = [mirrored * width * cos, -height * sin, x, mirrored * width * sin, height * cos, y]
    grid = F.affine_grid(torch.stack(rows, 1).reshape(n, 2, 3), list(images.shape), False)
    view = F.grid_sample(images, grid, padding_mode="border", align_corners=False)

    def factor() -> Tensor:
        return (1 + between(-config.jitter, config.jitter)).view(-1, 1, 1, 1)

    view = view * factor()
    mean = view.mean((1, 2, 3), keepdim=True)
    view = mean + (view - mean) * factor()
    if images.shape[1] == 3:
        luma = (view * view.new_tensor(_LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
        keep = torch.where(between(0.0, 1.0).view(-1, 1, 1, 1) < config.grey, 0.0, factor())
        view = luma + (view - luma) * keep
    return view.clamp(0, 1)
