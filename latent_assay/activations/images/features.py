"""From images to activations of a pre-trained network, with their labels, kept in a folder."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from latent_assay.activations.images.augmentation import AugmentationConfig
from latent_assay.activations.images.labelled import LabelledImages
from latent_assay.activations.images.network import ContrastiveNetwork, Layer, NetworkConfig
from latent_assay.activations.images.pretraining import (
    PretrainingConfig,
    pixels,
    pretrain,
    request,
)
from latent_assay.activations.store import ActivationStore
from latent_assay.atomic import new_folder, recover, write_json, write_tensors
from latent_assay.errors import ConfigError, DataError, FormatError

_FORMAT = 1
_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageFeatures:
    """Activations of images, those that the network was trained on first."""

    store: ActivationStore
    """One activation per image, in random order."""
    labels: Int[Tensor, " row"]
    """The class of each."""
    classes: tuple[str, ...]
    """Names of the classes."""
    n_train: int
    """So many from the beginning were trained on; the rest the network has never seen."""
    manifest: dict[str, Any]
    """How they came to be: images, network, training, and the loss of every epoch."""


def image_features(
    images: LabelledImages,
    folder: str | Path,
    *,
    layer: Layer = "projector",
    held_out: float = 0.25,
    network: NetworkConfig | None = None,
    pretraining: PretrainingConfig | None = None,
    augmentation: AugmentationConfig | None = None,
    device: torch.device | str = "cpu",
    workers: int = 0,
    progress: bool = True,
) -> ImageFeatures:
    """Pre-train a network on images without their labels, and keep what it makes of them.

    The folder then holds `features/activations.safetensors`, a file as `ActivationStore.from_file`
    reads it, `features/labels.safetensors` and `features/manifest.json`; and `pretraining/`, the
    network. If it holds the same already, that is opened; if it holds a beginning, that is
    continued; every write happens wholly or not at all.

    **Arguments:**
    - `images`: the images.
    - `folder`: where all this is kept.
    - `layer`: `projector`, whose output is not negative, or `backbone`, what it reads.
    - `held_out`: share of the images, drawn at random, that the network is not trained on.
    - `network`, `pretraining`, `augmentation`: what to train, and how; the defaults if None.
    - `device`: where the network runs.
    - `workers`: processes that read images.
    - `progress`: whether to show a bar.

    **Raises:** `DataError` if the folder holds other features, or an image cannot be read;
    `ConfigError` if `held_out` leaves one part empty; what `pretrain` raises.
    """
    network, pretraining = network or NetworkConfig(), pretraining or PretrainingConfig()
    augmentation = augmentation or AugmentationConfig()
    n_train = round(len(images) * (1 - held_out))
    if not 0 < held_out < 1 or not 0 < n_train < len(images):
        raise ConfigError(
            f"held_out is {held_out} of {len(images)} images; expected a share between 0 and 1 "
            "that leaves images on either side."
        )
    folder = Path(folder).expanduser()
    asked = {
        "images": images.describe(),
        "held_out": held_out,
        **request(network, pretraining, augmentation),
    }
    _claim(folder, asked)
    place = folder / "features"
    recover(place)
    if place.is_dir():
        found = open_image_features(folder)
        if found.manifest["layer"] == layer:
            return found
    generator = torch.Generator().manual_seed(pretraining.seed)
    order = torch.randperm(len(images), generator=generator)
    model, losses = pretrain(
        images,
        order[:n_train],
        folder / "pretraining",
        network=network,
        pretraining=pretraining,
        augmentation=augmentation,
        device=device,
        workers=workers,
        progress=progress,
    )
    with new_folder(place) as draft:
        x = _activations(model, images, order, layer, workers, device)
        write_tensors(draft / "activations.safetensors", {"activations": x})
        write_tensors(draft / "labels.safetensors", {"labels": images.labels[order]})
        write_json(
            draft / "manifest.json",
            {
                "format": _FORMAT,
                "layer": layer,
                "request": asked,
                "classes": list(images.classes),
                "n_train": n_train,
                "losses": losses,
            },
        )
    return open_image_features(folder)


def open_image_features(folder: str | Path) -> ImageFeatures:
    """Open what `image_features` left in a folder; neither images nor network are needed.

    **Raises:** `FormatError` if it is not there, or damaged.
    """
    place = Path(folder).expanduser() / "features"
    try:
        manifest = json.loads((place / "manifest.json").read_text(encoding="utf-8"))
        labels = load_file(place / "labels.safetensors")["labels"]
        if manifest["format"] != _FORMAT:
            raise ValueError(f"format {manifest['format']}, this version reads {_FORMAT}")
        n_train, classes = int(manifest["n_train"]), tuple(map(str, manifest["classes"]))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise FormatError(
            f"'{place}' holds no features of images ({error}); expected manifest.json, "
            "activations.safetensors and labels.safetensors as `image_features` writes them. "
            "Remove the folder and run again."
        ) from error
    store = ActivationStore.from_file(
        place / "activations.safetensors", hook_point=manifest["layer"]
    )
    if labels.shape != (store.n_rows,) or not 0 < n_train < store.n_rows:
        raise FormatError(
            f"'{place}' has {store.n_rows} activations, labels of shape {list(labels.shape)} and "
            f"n_train {n_train}; they do not belong together. Remove the folder and run again."
        )
    return ImageFeatures(
        store=store, labels=labels, classes=classes, n_train=n_train, manifest=manifest
    )


def _claim(folder: Path, asked: dict[str, Any]) -> None:
    """Note what a folder is for, or refuse if it is for something else."""
    path = folder / "request.json"
    if path.is_file():
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise FormatError(
                f"'{path}' cannot be read ({error}); remove the folder '{folder}' and run again."
            ) from error
        if before != asked:
            differing = sorted(key for key in asked if before.get(key) != asked[key])
            raise DataError(
                f"'{folder}' holds features that were made otherwise: {', '.join(differing)} "
                "differ. Choose another folder, or remove this one."
            )
        return
    write_json(path, asked)


@torch.no_grad()
def _activations(
    model: ContrastiveNetwork,
    images: LabelledImages,
    order: Int[Tensor, " row"],
    layer: Layer,
    workers: int,
    device: torch.device | str,
) -> Tensor:
    model.eval()
    return torch.cat(
        [
            model.features(batch, layer).float().cpu()
            for batch in pixels(images, order, _AT_ONCE, workers, device)
        ]
    )
