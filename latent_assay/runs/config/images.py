"""The table `[images]`: activations of a network that is pre-trained on images, without labels."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class ImagesSource:
    """Images of classes, and a network that learns from them by contrast."""

    path: str = "digits"
    """A folder with a subfolder for each class, or `digits`, scikit-learn's."""
    size: int | None = None
    """Height and width to which images are brought; None: 224, digits as they are."""
    grey: bool = False
    """Read images without colour."""
    layer: Literal["projector", "backbone"] = "projector"
    """What SAEs read: the projector's output, never negative, or the mean over places before it."""
    channels: tuple[int, ...] = (64, 128, 256, 512)
    """Channels of each stage of the network."""
    depths: tuple[int, ...] = (2, 2, 2, 2)
    """Residual blocks of each stage."""
    hidden: int = 16_384
    """Width of the projector's hidden layer."""
    out: int = 2_048
    """Width of the projector's output."""
    epochs: int = 100
    """Passes over the images in pre-training."""
    batch_size: int = 128
    """Images per step of pre-training, each in two views."""
    lr: float = 1e-3
    """Largest learning rate of pre-training."""
    weight_decay: float = 1e-4
    """Weight decay of pre-training."""
    warm_up_epochs: int = 5
    """Epochs over which its learning rate rises."""
    temperature: float = 0.2
    """Of the contrastive loss."""
    smallest_crop: float = 0.2
    """Smallest share of an image's area that a view shows."""
    rotation: float = 0.0
    """Largest angle in degrees by which a view is turned."""
    flip: bool = True
    """Whether half of the views are mirrored; not for digits or letters."""
    jitter: float = 0.4
    """Largest relative change of brightness, contrast and saturation."""
    held_out: float = 0.25
    """Share of the images that neither the network nor an SAE is trained on."""
    normalise: bool = True
    """Train on activations scaled to a mean length of √d_in; saved SAEs take raw ones."""
    top: int = 20
    """How many samples of strongest firing semantic consistency looks at."""
    device: str = "cpu"
    """Where the network runs."""
    workers: int = 0
    """Processes that read images."""
    seed: int = 0
    """Of the network: its weights, its views, and which images are held out."""
