"""The state of a training run, and the step that changes it."""

import dataclasses
import math
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from latent_assay import checkpoint
from latent_assay.atomic import plain
from latent_assay.batch import Batch, WeightedBatch
from latent_assay.distributed import Ranks
from latent_assay.errors import ConfigError, DataError, ShapeError, TrainingDiverged
from latent_assay.history import History
from latent_assay.losses import Forward, Objective, Progress
from latent_assay.optimizer import Adam, scale_by_member
from latent_assay.sae import SAE
from latent_assay.sparsifiers import PerMember
from latent_assay.training.config import TrainingConfig
from latent_assay.training.part import Part, ShardedPart
from latent_assay.training.process import choose_threads
from latent_assay.training.row_step import RowStep


class Run:
    """The state of a run: all that a checkpoint must hold, and the step that changes it."""

    def __init__(
        self,
        sae: SAE,
        objective: Objective,
        batches: Iterable[Batch],
        config: TrainingConfig,
        ranks: Ranks | None = None,
        *,
        alone: bool = True,
    ):
        self._whole = (sae, objective)  # as a checkpoint describes them
        self.part = Part(sae, objective) if ranks is None else ShardedPart(sae, objective, ranks)
        self.sae = sae = self.part.sae
        self.objective = objective = self.part.objective
        self.batches = batches
        self.config = config
        self.history = History()
        self.saved: int | None = None
        self.step = 0
        self.samples = 0
        device = sae.W_enc.device
        self.objective.to(device)
        self.parameters = {name: p for name, p in sae.named_parameters() if p.requires_grad}
        if not self.parameters:
            raise ConfigError("every parameter of this SAE is frozen; there is nothing to train.")
        self.adam = Adam(
            self.parameters,
            lr=_for_each(config.lr, sae.members, "lr"),
            betas=config.betas,
            eps=config.eps,
        )
        limits = _for_each(config.clip, sae.members, "clip")
        self.clip = (
            None
            if min(limits) == math.inf
            else torch.tensor(limits, dtype=torch.float64, device=device)
        )
        self.since_fired: Int[Tensor, "member latent"] = torch.zeros(
            sae.members, sae.width, dtype=torch.int64, device=device
        )
        # the first step at which each member's input, or its loss or gradient, was not finite
        self.bad_input = torch.full((sae.members,), -1, dtype=torch.int64, device=device)
        self.bad_loss = torch.full((sae.members,), -1, dtype=torch.int64, device=device)
        self.row_step = RowStep(sae, self.adam, self.clip, self.part.norm_of_squares)
        self.by_hand = self.part.by_hand(autocast=config.autocast)
        self._iterator: Iterator[Batch] | None = None
        self._skip = 0
        self._fresh = alone  # in company, the number of threads is not for one to choose

    def advance(self, *, measure: bool) -> dict[str, list[float]] | None:
        """One step. With `measure`, the numbers of its batch, read off the device."""
        x, weight, samples = self._next()
        progress = Progress(step=self.step, samples=self.samples, since_fired=self.since_fired)
        found = (step.step(x, weight, progress) for step in self.by_hand)
        forward = next((each for each in found if each is not None), None)
        if forward is None:
            with self._precision(x):
                forward = self.part.forward(x, weight)
                total, parts = self.objective(forward, progress)
            total.sum().backward()
        elif measure:
            with torch.no_grad():
                total, parts = self.objective(forward, progress)
        else:  # a loss that is not finite has no finite gradient
            total, parts = None, {}
        self.part.share_gradients(self.step, x, weight)
        norm = self._move(x, total)
        for p in self.parameters.values():
            p.grad = None
        self.since_fired.add_(samples).masked_fill_(forward.latents.fired(weight), 0)
        self.step += 1
        self.samples += samples
        if not measure or total is None:
            return None
        return self._numbers(forward, total, parts, norm)

    def _move(self, x: Tensor, total: Float[Tensor, " member"] | None) -> Float[Tensor, " member"]:
        """Clip the gradients and follow them; their norms before."""

        def verdict(norm: Float[Tensor, " member"]) -> Bool[Tensor, " member"]:
            return self._verdict(x, norm if total is None else total.detach() + norm)

        factor = self.config.lr_factor(self.step)
        if self.row_step.applies:
            return self.row_step(factor, verdict)
        self.sae.constrain_gradients()
        gradients = {name: p.grad for name, p in self.parameters.items() if p.grad is not None}
        norm = self.part.norm(gradients)
        scale_by_member(list(gradients.values()), norm, self.clip)
        self.adam.step(factor, verdict(norm))
        self.sae.constrain()
        return norm

    def _precision(self, x: Tensor) -> AbstractContextManager[Any]:
        if not self.config.autocast:
            return nullcontext()
        return torch.autocast(x.device.type, torch.bfloat16)

    def _next(self) -> tuple[Tensor, Tensor | None, int]:
        """A batch, the weights of its samples, and how many samples it stands for."""
        if self._iterator is None:
            self._iterator = iter(self.batches)
            for _ in range(self._skip):
                next(self._iterator, None)
        batch = next(self._iterator, None)
        if batch is None:
            raise DataError(
                f"batches ran out after {self.step} steps, but the config asks for "
                f"{self.config.steps}; give an endless iterator, more data, or fewer steps."
            )
        whole = batch if isinstance(batch, WeightedBatch) else (batch, None, None)
        x, weight, samples = whole
        if not isinstance(x, Tensor):
            raise DataError(
                f"batches must be tensors or WeightedBatch, got {type(x).__name__}; a DataLoader "
                "over a TensorDataset yields lists: take their first element."
            )
        self.sae.check_input(x)
        if x.shape[-2] == 0:
            raise DataError(f"the batch of step {self.step} holds no samples; drop empty batches.")
        if self._fresh:
            self._fresh = False
            choose_threads(self.sae.W_enc.numel() * x.shape[-2])
        like = self.sae.W_enc
        x = x.to(like.device, like.dtype, non_blocking=True)
        if weight is not None:
            self._check_weight(x, weight)
            weight = weight.to(like.device, like.dtype)
        return x, weight, x.shape[-2] if samples is None else samples

    def _check_weight(self, x: Tensor, weight: Tensor) -> None:
        if weight.shape not in (x.shape[-2:-1], (self.sae.members, x.shape[-2])):
            raise ShapeError(
                f"a weight for each of {x.shape[-2]} samples was expected, for all members or for "
                f"each, got shape {list(weight.shape)}."
            )
        if weight.device.type != "cpu":  # looking would wait for the device
            return
        total = float(weight.sum(-1).flatten()[0])
        if not bool((weight.sum(-1) - 1).abs().max() < 1e-3):
            raise DataError(
                f"the weights of a batch must sum to 1, got {total:g}; divide them by their sum."
            )

    def _verdict(self, x: Tensor, numbers: Float[Tensor, " member"]) -> Bool[Tensor, " member"]:
        """Which members may move; notes the first step at which one may not.

        **Arguments:**
        - `x`: the batch.
        - `numbers`: finite for members whose loss and gradient are.
        """
        good = numbers.isfinite()
        low, high = x.aminmax() if x.dim() == 2 else x.flatten(-2).aminmax(dim=-1)
        input_ok = (low - high).isfinite().expand(good.shape)
        now = torch.full_like(self.bad_loss, self.step)
        self.bad_input = torch.where(input_ok | (self.bad_input >= 0), self.bad_input, now)
        self.bad_loss = torch.where(good | (self.bad_loss >= 0), self.bad_loss, now)
        # a member that failed once waits for `stop_if_diverged`: its state stays the last good one
        return (self.bad_loss < 0) & (self.bad_input < 0)

    @torch.no_grad()
    def _numbers(
        self,
        forward: Forward,
        total: Float[Tensor, " member"],
        parts: dict[str, Float[Tensor, " member"]],
        norm: Float[Tensor, " member"],
    ) -> dict[str, list[float]]:
        weight = forward.weight
        mean = forward.x.mean(-2, keepdim=True)
        if weight is not None:
            mean = (weight.unsqueeze(-1) * forward.x).sum(-2, keepdim=True)
        spread = (forward.x - mean).square().sum(-1).expand(self.sae.members, -1)
        error = (forward.x - forward.x_hat).square().sum(-1)
        padding = self.sae.padding
        dead = self.since_fired >= self.config.dead_after
        dead = dead if padding is None else dead & ~padding
        l0, count = self.part.total(
            torch.stack([forward.latents.l0(weight), dead.sum(-1).to(torch.float64)])
        )
        numbers = {
            "loss": total,
            **(parts if len(parts) > 1 else {}),
            "fvu": forward.average(error) / forward.average(spread),
            "l0": l0,
            "dead": count,
            "gradient_norm": norm,
        }
        table = torch.stack([each.to(torch.float64) for each in numbers.values()]).tolist()
        return dict(zip(numbers, table, strict=True))

    def divergence(self) -> TrainingDiverged | None:
        """What to raise if any step since the start was refused."""
        bad_input, bad_loss = self.bad_input.tolist(), self.bad_loss.tolist()
        first = min((step for step in bad_input + bad_loss if step >= 0), default=None)
        if first is None:
            return None
        if first in bad_input:
            members = [m for m, step in enumerate(bad_input) if step == first]
            return TrainingDiverged(
                f"the input at step {first} holds NaN or infinity ({_members(members, self.sae)}); "
                "expected finite activations. Likely cause: the activations were harvested or "
                "scaled wrongly (half-precision overflow gives infinity). Check them before "
                "training."
            )
        members = [m for m, step in enumerate(bad_loss) if step == first]
        rates = sorted({self.adam.lr[m] for m in members})
        return TrainingDiverged(
            f"loss or gradient at step {first} was not finite ({_members(members, self.sae)}) "
            "although the input was. Likely cause: the learning rate "
            f"({', '.join(f'{r:g}' for r in rates)}) is too high for activations of this size; try "
            f"a third of it, a warm-up, or a lower `clip`."
        )

    def checkpoint(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that a checkpoint must hold; on a rank that does not write, of no use."""
        tensors = {
            **{f"sae.{name}": tensor for name, tensor in self.sae.state_dict().items()},
            **{f"objective.{n}": tensor for n, tensor in self.objective.state_dict().items()},
            **{f"adam.{name}": tensor for name, tensor in self.adam.state_dict().items()},
            "run.since_fired": self.since_fired,
        }
        tensors = self.part.gather(tensors)
        self.saved = self.step
        if not self.part.writes:
            return {}, {}
        place = self._place_in_stream()
        tensors |= {f"batches.{n}": v for n, v in place.items() if isinstance(v, Tensor)}
        return tensors, {
            "step": self.step,
            "samples": self.samples,
            "settings": self._settings(),
            "history": self.history.records,
            "batches": {n: v for n, v in place.items() if not isinstance(v, Tensor)},
        }

    def _place_in_stream(self) -> dict[str, Any]:
        """Where the stream is, in tensors and in what JSON can hold; empty if it cannot tell."""
        state_dict = getattr(self.batches, "state_dict", None)
        return dict(state_dict()) if callable(state_dict) else {}

    def restore(self, folder: Path, name: str = "") -> None:
        """Continue from the checkpoint in a folder, or from one of several in it."""
        tensors, state = checkpoint.load(folder, name)
        checkpoint.check_settings(folder, state["settings"], self._settings())
        group = checkpoint.by_prefix(self.part.narrow(folder, tensors))
        checkpoint.copy_into(folder, self.sae.state_dict(), group["sae"])
        self.sae.sparsifier.derive()
        checkpoint.copy_into(folder, self.objective.state_dict(), group["objective"])
        self.objective.derive()
        adam = self.adam.state_dict()
        checkpoint.copy_into(folder, adam, group["adam"])
        self.adam.load_state_dict(adam)
        checkpoint.copy_into(folder, {"since_fired": self.since_fired}, group["run"])
        self.step, self.samples = state["step"], state["samples"]
        self.saved = self.step
        self.history.records = state["history"]
        load = getattr(self.batches, "load_state_dict", None)
        place = state["batches"] | group.get("batches", {})
        if callable(load) and place:
            load(place)
        else:
            self._skip = self.step

    def _settings(self) -> dict[str, Any]:
        sae, objective = self._whole
        config = dataclasses.asdict(self.config)
        # how often to look does not change what is trained
        for name in ("log_every", "checkpoint_every"):
            del config[name]
        return plain(
            {
                "config": config,
                "sae": {
                    "members": sae.members,
                    "widths": sae.widths,
                    "d_in": sae.d_in,
                    "dtype": str(sae.W_enc.dtype),
                    "tied": sae.tied,
                    "frozen": sae.frozen,
                    "decoder_norm": sae.decoder_norm,
                    "subtract_b_dec": sae.subtract_b_dec,
                    "sparsifier": sae.sparsifier.name,
                    **sae.sparsifier.settings(),
                },
                "objective": objective.settings(),
            }
        )


def _for_each(value: PerMember, members: int, name: str) -> list[float]:
    values = [float(value)] * members if isinstance(value, int | float) else [*map(float, value)]
    if len(values) != members:
        raise ConfigError(
            f"`{name}` has {len(values)} values but the SAE has {members} members; give one value, "
            "or one for each member."
        )
    return values


def _members(members: list[int], sae: SAE) -> str:
    if len(members) == sae.members:
        return "every member" if sae.members > 1 else "the only member"
    return (
        f"member{'s' if len(members) > 1 else ''} {', '.join(map(str, members))} of {sae.members}"
    )
