"""A residual network and the projector behind it, whose output is not negative."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latent_assay.errors import ConfigError, require

Layer = Literal["projector", "backbone"]
"""Where features are read: what the projector gives, or the mean over places that it reads."""

_SMALL = 64


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Sizes of the network. The defaults are those of ResNet-18 with the published projector."""

    channels: tuple[int, ...] = (64, 128, 256, 512)
    """Channels of each stage; every stage but the first halves height and width."""
    depths: tuple[int, ...] = (2, 2, 2, 2)
    """Residual blocks of each stage."""
    hidden: int = 16_384
    """Width of the projector's hidden layer."""
    out: int = 2_048
    """Width of the projector's output."""

    def __post_init__(self) -> None:
        sizes = (*self.channels, *self.depths, self.hidden, self.out)
        if not self.channels or len(self.channels) != len(self.depths) or min(sizes) < 1:
            raise ConfigError(
                f"the network has channels {list(self.channels)} and depths {list(self.depths)}; "
                "expected one positive number of each for every stage, and a projector of positive "
                f"width, here {self.hidden} and {self.out}."
            )


class ContrastiveNetwork(nn.Module):
    r"""ResNet, mean over places, then $\max(W_2 \max(W_1 h + b_1, 0) + b_2, 0)$.

    The last ReLU is what makes the contrastive learning *non-negative*. The body is transformers'
    ResNet with basic blocks. Images below 64 pixels are read by a 3 × 3 convolution in place of the
    7 × 7 one and the pooling, which would leave little of them.

    **Arguments:**
    - `config`: its sizes.
    - `in_channels`: of the images.
    - `size`: height and width of the images.
    - `seed`: of the initial weights.

    **Raises:** `MissingExtra` without transformers.

    **Reference:** Wang et al. 2024, "Non-negative Contrastive Learning", arXiv:2403.12459.
    """

    def __init__(self, config: NetworkConfig, *, in_channels: int, size: int, seed: int) -> None:
        super().__init__()
        transformers = require("transformers", extra="images", purpose="the network for images")
        body = transformers.ResNetConfig(
            num_channels=in_channels,
            embedding_size=config.channels[0],
            hidden_sizes=list(config.channels),
            depths=list(config.depths),
            layer_type="basic",
        )
        # modules draw their weights from the global generator; it is put back behind them
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.backbone: Any = transformers.ResNetModel(body)
            if size < _SMALL:
                self.backbone.embedder = nn.Sequential(
                    nn.Conv2d(in_channels, config.channels[0], 3, padding=1, bias=False),
                    nn.BatchNorm2d(config.channels[0]),
                    nn.ReLU(),
                )
            self.projector = nn.Sequential(
                nn.Linear(config.channels[-1], config.hidden),
                nn.ReLU(),
                nn.Linear(config.hidden, config.out),
                nn.ReLU(),
            )

    def features(
        self, images: Float[Tensor, "image channel height width"], layer: Layer
    ) -> Float[Tensor, "image d_in"]:
        """What the network makes of images with values from 0 to 1.

        **Arguments:**
        - `images`: the images.
        - `layer`: `projector` or `backbone`.
        """
        h = self.backbone((images - 0.5) / 0.25).pooler_output.flatten(1)
        return h if layer == "backbone" else self.projector(h)

    def forward(
        self, images: Float[Tensor, "image channel height width"]
    ) -> Float[Tensor, "image d_in"]:
        """The projector's output."""
        return self.features(images, "projector")
