"""From images to activations: a network that learns from pairs of views, without labels.

    folder or digits ──► two views of each ──► ResNet ──► projector, ReLU ──► contrastive loss
                                                   └──► features + labels, in a folder

The labels are kept beside the features, for measurements; training never sees them.
"""

from latent_assay.activations.images.augmentation import AugmentationConfig, augmented
from latent_assay.activations.images.contrastive import contrastive_loss
from latent_assay.activations.images.features import (
    ImageFeatures,
    image_features,
    open_image_features,
)
from latent_assay.activations.images.labelled import LabelledImages
from latent_assay.activations.images.network import ContrastiveNetwork, NetworkConfig
from latent_assay.activations.images.opening import labelled_images
from latent_assay.activations.images.pretraining import PretrainingConfig, pretrain

__all__ = [
    "AugmentationConfig",
    "ContrastiveNetwork",
    "ImageFeatures",
    "LabelledImages",
    "NetworkConfig",
    "PretrainingConfig",
    "augmented",
    "contrastive_loss",
    "image_features",
    "labelled_images",
    "open_image_features",
    "pretrain",
]
