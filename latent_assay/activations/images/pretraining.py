"""Contrastive pre-training of a network on images: no labels, exact resume."""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from latent_assay.activations.images.augmentation import AugmentationConfig, augmented
from latent_assay.activations.images.contrastive import contrastive_loss
from latent_assay.activations.images.labelled import LabelledImages
from latent_assay.activations.images.network import ContrastiveNetwork, NetworkConfig
from latent_assay.atomic import new_folder, recover, write_json, write_tensors
from latent_assay.errors import ConfigError, DataError, FormatError, TrainingDiverged


@dataclass(frozen=True, kw_only=True)
class PretrainingConfig:
    """How the network is trained, by AdamW with warm-up and a cosine to zero."""

    epochs: int = 100
    """Passes over the images."""
    batch_size: int = 128
    """Images per step, each in two views. What is left of an epoch is dropped."""
    lr: float = 1e-3
    """Largest learning rate."""
    weight_decay: float = 1e-4
    """AdamW's."""
    warm_up_epochs: int = 5
    """Epochs over which the learning rate rises."""
    temperature: float = 0.2
    """Of the contrastive loss."""
    seed: int = 0
    """Of initial weights, order and views."""

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch_size - 1) < 1 or self.lr <= 0 or self.weight_decay < 0:
            raise ConfigError(
                "pre-training needs at least one epoch, two images per step, a positive learning "
                f"rate and no negative weight decay; got {self}."
            )
        if not 0 <= self.warm_up_epochs < self.epochs:
            raise ConfigError(
                f"warm-up over {self.warm_up_epochs} of {self.epochs} epochs; expected at least 0 "
                "and fewer than all."
            )

    def lr_at(self, step: int, steps_per_epoch: int) -> float:
        """The learning rate of a step, counted from 0."""
        warm_up = self.warm_up_epochs * steps_per_epoch
        if step < warm_up:
            return self.lr * (step + 1) / warm_up
        done = (step - warm_up) / max(self.epochs * steps_per_epoch - warm_up, 1)
        return self.lr * 0.5 * (1 + math.cos(math.pi * done))


def pretrain(
    images: LabelledImages,
    rows: Int[Tensor, " row"],
    folder: Path,
    *,
    network: NetworkConfig,
    pretraining: PretrainingConfig,
    augmentation: AugmentationConfig,
    device: torch.device | str = "cpu",
    workers: int = 0,
    progress: bool = True,
) -> tuple[ContrastiveNetwork, list[float]]:
    """Train a network to tell which two views show the same image.

    After every epoch the folder holds all that the next one needs; the same call goes on from
    there, to the same weights (on CPU to the bit). Labels are not looked at.

    **Arguments:**
    - `images`: the images.
    - `rows`: which of them to train on.
    - `folder`: where the checkpoint is kept.
    - `network`, `pretraining`, `augmentation`: what to train, and how.
    - `device`: where.
    - `workers`: processes that read images; 0 reads them in this one.
    - `progress`: whether to show a bar.

    **Returns:** the network in evaluation mode, and the mean loss of each epoch.

    **Raises:** `DataError` if there are fewer images than a batch has, or one cannot be read;
    `TrainingDiverged` if the loss is not finite; `FormatError` for a damaged checkpoint.
    """
    if len(rows) < pretraining.batch_size:
        raise DataError(
            f"there are {len(rows)} images to train on but {pretraining.batch_size} per step; "
            "choose a smaller `batch_size`, or give more images."
        )
    model = ContrastiveNetwork(
        network, in_channels=images.channels, size=images.size, seed=pretraining.seed
    ).to(device)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=pretraining.lr, weight_decay=pretraining.weight_decay
    )
    losses = _resumed(folder, model, optimizer)
    steps = len(rows) // pretraining.batch_size
    bar = tqdm(
        total=pretraining.epochs, initial=len(losses), desc="pre-training", unit="epoch",
        disable=not progress,
    )  # fmt: skip
    with bar:
        for epoch in range(len(losses), pretraining.epochs):
            # of the epoch's own, so that it can begin without those before it
            generator = torch.Generator().manual_seed(pretraining.seed * 1_000_003 + epoch)
            order = rows[torch.randperm(len(rows), generator=generator)]
            order = order[: steps * pretraining.batch_size]
            total = 0.0
            model.train()
            for number, batch in enumerate(
                pixels(images, order, pretraining.batch_size, workers, device)
            ):
                for group in optimizer.param_groups:
                    group["lr"] = pretraining.lr_at(epoch * steps + number, steps)
                views = [augmented(batch, augmentation, generator) for _ in range(2)]
                # one pass for both, so that batch normalisation sees them together
                first, second = model(torch.cat(views)).chunk(2)
                loss = contrastive_loss(first, second, pretraining.temperature)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                total += float(loss.detach())
            if not math.isfinite(total):
                raise TrainingDiverged(
                    f"the contrastive loss stopped being finite in epoch {epoch + 1}. Lower `lr`, "
                    "or lengthen the warm-up."
                )
            losses.append(total / steps)
            _save(folder, model, optimizer, losses)
            bar.update()
            bar.set_postfix(loss=f"{losses[-1]:.3f}")
    return model.eval(), losses


def pixels(
    images: LabelledImages,
    rows: Int[Tensor, " row"],
    batch_size: int,
    workers: int,
    device: torch.device | str,
) -> Iterator[Float[Tensor, "image channel height width"]]:
    """Some images in their order, batch by batch, with values from 0 to 1."""
    loader: DataLoader[Tensor] = DataLoader(
        images,  # type: ignore[arg-type]
        batch_size=batch_size,
        sampler=rows.tolist(),
        num_workers=workers,
    )
    for batch in loader:
        yield batch.to(device).float() / 255


def _save(
    folder: Path, model: ContrastiveNetwork, optimizer: torch.optim.Optimizer, losses: list[float]
) -> None:
    moments = {
        f"optimizer.{number}.{name}": value
        for number, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
    }
    weights = {f"network.{name}": value for name, value in model.state_dict().items()}
    with new_folder(folder) as draft:
        write_tensors(draft / "state.safetensors", weights | moments)
        write_json(draft / "state.json", {"losses": losses})


def _resumed(
    folder: Path, model: ContrastiveNetwork, optimizer: torch.optim.Optimizer
) -> list[float]:
    """Bring network and optimiser to the last checkpoint; the losses of the epochs behind it."""
    recover(folder)
    if not folder.exists():
        return []
    try:
        losses = json.loads((folder / "state.json").read_text(encoding="utf-8"))["losses"]
        tensors = load_file(folder / "state.safetensors")
        model.load_state_dict(
            {n.removeprefix("network."): t for n, t in tensors.items() if n.startswith("network.")}
        )
        moments: dict[int, dict[str, Any]] = {}
        for name, value in tensors.items():
            if name.startswith("optimizer."):
                _, number, key = name.split(".")
                moments.setdefault(int(number), {})[key] = value
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": moments, "param_groups": groups})
        return [float(each) for each in losses]
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise FormatError(
            f"the checkpoint of the pre-training in '{folder}' cannot be read "
            f"({str(error).splitlines()[0]}); expected state.json and state.safetensors of the "
            "same network. Remove the folder to train anew."
        ) from error


def request(
    network: NetworkConfig, pretraining: PretrainingConfig, augmentation: AugmentationConfig
) -> dict[str, Any]:
    """All settings, in what JSON has."""
    settings = {
        "network": asdict(network),
        "pretraining": asdict(pretraining),
        "augmentation": asdict(augmentation),
    }
    return dict(json.loads(json.dumps(settings)))  # tuples become lists, as they are read back
