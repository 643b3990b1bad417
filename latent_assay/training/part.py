"""The part of an SAE that this process trains: all of it, or some of its latents.

A run is written once, for a part. What a part must exchange with the other parts stands here.
"""

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latent_assay.distributed import Partition, Ranks
from latent_assay.errors import ConfigError, DataError, FormatError
from latent_assay.losses import Forward, Objective, ShardedForward, Term
from latent_assay.optimizer import norm_by_member
from latent_assay.sae import SAE
from latent_assay.training.gram_step import GramStep
from latent_assay.training.sparse_step import SparseStep

# Steps between two looks at whether any rank was asked to stop.
_LOOK_EVERY = 10
_BY_HAND: tuple[type[GramStep] | type[SparseStep], ...] = (GramStep, SparseStep)


class Part:
    """All of an SAE, in one process: nothing is exchanged.

    **Arguments:**
    - `sae`, `objective`: as given to `fit`.
    """

    def __init__(self, sae: SAE, objective: Objective):
        self.sae = sae
        self.objective = objective

    @property
    def writes(self) -> bool:
        """Whether this process writes checkpoints and logs."""
        return True

    def by_hand(self, *, autocast: bool) -> list[GramStep | SparseStep]:
        """The steps without automatic differentiation that there are."""
        steps = (kind.of(self.sae, self.objective, autocast=autocast) for kind in _BY_HAND)
        return [step for step in steps if step is not None]

    def forward(self, x: Tensor, weight: Tensor | None) -> Forward:
        """One batch's way through the SAE."""
        return Forward(self.sae, x, weight)

    def share_gradients(self, step: int, x: Tensor, weight: Tensor | None) -> None:
        """Complete the gradients that need all parts.

        **Arguments:**
        - `step`: the step.
        - `x`, `weight`: its batch.
        """

    def norm(self, gradients: Mapping[str, Tensor]) -> Float[Tensor, " member"]:
        """The norm of each member's gradient, from this part's gradients by name."""
        return norm_by_member(list(gradients.values()))

    def norm_of_squares(
        self, squares: Mapping[str, Float[Tensor, " member"]]
    ) -> Float[Tensor, " member"]:
        """The same, from the squared norm of each parameter's gradient."""
        return torch.stack(list(squares.values())).sum(0).sqrt()

    def total(self, counts: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Numbers that are sums over latents, for all latents."""
        return counts

    def gather(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """A checkpoint's tensors for all latents, from those of this part."""
        return tensors

    def narrow(self, folder: Path, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """A checkpoint's tensors for this part, from those of all latents."""
        return tensors

    def agree(self, flag: bool) -> bool:
        """The first process's answer to a question that all must answer alike."""
        return flag

    def stops(self, asked: bool, step: int) -> bool:
        """Whether to end before a step because some process was asked to."""
        return asked

    def check(self) -> None:
        """Raise `DataError` if the parts did not see the same batches."""

    def finish(self) -> None:
        """Bring what was trained into the SAE and objective that `fit` was given."""


class ShardedPart(Part):
    """Some latents of an SAE, evenly from every matryoshka level; the other ranks hold the rest.

    The SAE and objective that were given stay whole, and where they are, until `finish`.

    **Arguments:**
    - `sae`, `objective`: as given to `fit`, the same on all ranks.
    - `ranks`: all ranks.

    **Raises:** `ConfigError` if a sparsifier or loss term cannot be divided, or a member has fewer
    latents than there are ranks.
    """

    def __init__(self, sae: SAE, objective: Objective, ranks: Ranks):
        self.ranks = ranks
        self._whole_sae, self._whole_objective = sae, objective
        if min(sae.widths) < ranks.number:
            raise ConfigError(
                f"a member has {min(sae.widths)} latents, too few for {ranks.number} ranks to hold "
                "one each. Start fewer processes."
            )
        bounds = {each for term in objective.every_term() for each in term.bounds}
        self.partition = Partition(sae.width, number=ranks.number, bounds=bounds | {*sae.widths})
        self._rows = self.partition.rows(ranks.rank)
        narrowed = deepcopy(objective)
        for term in narrowed.every_term():
            term.narrow(self._rows)
        super().__init__(self._own(sae), narrowed.to(ranks.device))
        # the first step at which ranks were given different batches
        self._differed = torch.full((), -1, dtype=torch.int64, device=ranks.device)

    def _own(self, sae: SAE) -> SAE:
        rows = self._rows.to(sae.W_enc.device)
        own = SAE(
            sae.W_enc.data[:, rows],
            None if sae.tied else sae.W_dec.data[:, rows],
            b_enc=sae.b_enc.data[:, rows],
            b_dec=sae.b_dec.data.clone(),
            sparsifier=sae.sparsifier.on_rank(self._rows, self.ranks),
            frozen=sae.frozen,
            decoder_norm=sae.decoder_norm,
            subtract_b_dec=sae.subtract_b_dec,
            widths=[self.partition.below(self.ranks.rank, width) for width in sae.widths],
        )
        return own.train(sae.training).to(self.ranks.device)

    @property
    def writes(self) -> bool:
        """Whether this is the first rank."""
        return self.ranks.first

    def by_hand(self, *, autocast: bool) -> list[GramStep | SparseStep]:
        """None: their sums are over latents of different ranks."""
        return []

    def forward(self, x: Tensor, weight: Tensor | None) -> Forward:
        """One batch's way through this rank's latents."""
        return ShardedForward(self.sae, x, weight, ranks=self.ranks)

    @torch.no_grad()
    def share_gradients(self, step: int, x: Tensor, weight: Tensor | None) -> None:
        """Add up the gradient of `b_dec`, and compare the ranks' batches by the way."""
        grad = self.sae.b_dec.grad
        like = self.sae.b_dec.new_zeros(0) if grad is None else grad
        own = self.ranks.rank
        prints = torch.zeros(self.ranks.number, dtype=like.dtype, device=like.device)
        prints[own] = _fingerprint(x) if weight is None else _fingerprint(x) + _fingerprint(weight)
        total = self.ranks.sum(torch.cat([like.flatten(), prints]))
        if grad is not None:
            grad.copy_(total[: grad.numel()].view_as(grad))
        found = total[like.numel() :]
        here = torch.full_like(self._differed, step)
        fresh = (found.amin() < found.amax()) & (self._differed < 0)
        self._differed = torch.where(fresh, here, self._differed)

    def norm(self, gradients: Mapping[str, Tensor]) -> Float[Tensor, " member"]:
        """The norm of each member's gradient over all ranks."""
        return self.norm_of_squares(
            {name: norm_by_member([grad]).square() for name, grad in gradients.items()}
        )

    def norm_of_squares(
        self, squares: Mapping[str, Float[Tensor, " member"]]
    ) -> Float[Tensor, " member"]:
        """The same, from squared norms; `b_dec`, which every rank has, counts once."""
        counted = {k: v for k, v in squares.items() if k != "b_dec" or self.ranks.first}
        zero = torch.zeros_like(next(iter(squares.values())))
        return self.ranks.sum(torch.stack([zero, *counted.values()]).sum(0)).sqrt()

    def total(self, counts: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The sum over ranks."""
        return self.ranks.sum(counts)

    def _axis(self, name: str, tensor: Tensor) -> int | None:
        """Along which axis a checkpoint's tensor has an entry per latent, if it has."""
        kind, _, inner = name.partition(".")
        if kind == "run":
            return 1
        if kind == "adam":
            inner = inner.partition(".")[2]
        if kind in ("sae", "adam"):
            divided = inner in ("W_enc", "W_dec", "b_enc") or inner.startswith("sparsifier.")
            return 1 if divided and tensor.dim() > 1 else None
        if kind == "objective":
            place, _, buffer = inner.rpartition(".")
            term: nn.Module = self.objective.get_submodule(place)
            return term.by_latent.get(buffer) if isinstance(term, Term) else None
        return None

    def gather(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """A checkpoint's tensors for all latents, on the first rank; none on the others."""
        return self._gathered(tensors, everywhere=False)

    def _gathered(self, tensors: dict[str, Tensor], *, everywhere: bool) -> dict[str, Tensor]:
        """One by one, so that no rank ever holds more than one of them twice."""
        found = {}
        for name, tensor in tensors.items():
            axis = self._axis(name, tensor)
            whole = tensor if axis is None else self._whole(tensor, axis)
            if everywhere or self.ranks.first:
                found[name] = whole.cpu()
        return found

    def _whole(self, tensor: Tensor, axis: int) -> Tensor:
        own = tensor.movedim(axis, 0)
        padded = own.new_zeros(self.partition.widest, *own.shape[1:])
        padded[: len(own)] = own
        whole = own.new_empty(self.partition.width, *own.shape[1:])
        for rank, part in enumerate(self.ranks.gather(padded)):
            rows = self.partition.rows(rank).to(part.device)
            whole[rows] = part[: len(rows)]
        return whole.movedim(0, axis)

    def narrow(self, folder: Path, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The rows of this rank.

        **Raises:** `FormatError` if there are not as many latents as the SAE has.
        """
        found = {}
        for name, tensor in tensors.items():
            axis = self._axis(name, tensor) if self._knows(name) else None
            if axis is not None:
                if tensor.dim() <= axis or tensor.shape[axis] != self.partition.width:
                    raise FormatError(
                        f"`{name}` in the checkpoint in '{folder}' has shape "
                        f"{list(tensor.shape)}, expected {self.partition.width} latents; it is "
                        "damaged or was written for another SAE."
                    )
                tensor = tensor.index_select(axis, self._rows)
            found[name] = tensor
        return found

    def _knows(self, name: str) -> bool:
        """False for an entry of another objective, which `copy_into` refuses by name."""
        kind, _, inner = name.partition(".")
        return kind != "objective" or inner in self.objective.state_dict()

    def agree(self, flag: bool) -> bool:
        """The first rank's answer."""
        return self.ranks.any(flag and self.ranks.first)

    def stops(self, asked: bool, step: int) -> bool:
        """Whether any rank was asked to, looked at every few steps by all at once."""
        return step % _LOOK_EVERY == 0 and self.ranks.any(asked)

    def check(self) -> None:
        """Raise `DataError` if ranks were given different batches."""
        step = int(self._differed)
        if step >= 0:
            raise DataError(
                f"at step {step} the ranks were given different batches; expected the same on all, "
                "as each holds some latents only. Give every rank the same stream: the same data, "
                "the same seed."
            )

    @torch.no_grad()
    def finish(self) -> None:
        """Bring all ranks' latents into the SAE and objective that were given, on every rank."""
        for kind, part, whole in (
            ("sae", self.sae, self._whole_sae),
            ("objective", self.objective, self._whole_objective),
        ):
            state = {f"{kind}.{name}": each for name, each in part.state_dict().items()}
            target = whole.state_dict()
            for name, tensor in self._gathered(state, everywhere=True).items():
                target[name.removeprefix(f"{kind}.")].copy_(tensor)
        self._whole_sae.sparsifier.derive()
        self._whole_objective.derive()


def _fingerprint(x: Tensor) -> Tensor:
    """A number below 2^20 that depends on every bit of a tensor but not on the order of sums."""
    kind = {8: torch.int64, 4: torch.int32, 2: torch.int16}[x.element_size()]
    return x.contiguous().view(kind).sum(dtype=torch.int64) % 2**20
