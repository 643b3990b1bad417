"""The processes that work together, and every exchange between them.

Plain `torch.distributed`: `torchrun` starts the processes and tells each of them who it is.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed

from latent_assay.distributed.heartbeat import Heartbeat, Verdict
from latent_assay.errors import AssayError, ConfigError


class RankLost(AssayError, ConnectionError):
    """A process that others depend on was lost.

    **Arguments:**
    - `message`: everything that the user should know.
    - `ranks`: the ranks that were lost.
    - `how`: what happened to the first of them.
    """

    def __init__(self, message: str, *, ranks: tuple[int, ...] = (), how: str = ""):
        super().__init__(message)
        self.ranks = ranks
        self.how = how


class Ranks:
    """The processes of one run, seen from one of them.

    Every method but `leave` is an *exchange*: all ranks must call it, in the same order. If one
    is lost, the others' exchanges raise `RankLost` with its name.

        with Ranks.join() as ranks:
            fit(sae, objective, batches, config, folder=folder, ranks=ranks)

    **Arguments:** see `join`, which makes one.
    """

    def __init__(
        self,
        *,
        rank: int,
        number: int,
        device: torch.device,
        patience: float,
        silence: float,
        heartbeat: Heartbeat | None,
    ):
        self.rank = rank
        self.number = number
        self.device = device
        self.patience = patience
        self.silence = silence
        self._heartbeat = heartbeat

    @classmethod
    def launched(cls) -> bool:
        """Whether this process was started as one of several, as `torchrun` does."""
        return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ

    @classmethod
    def join(
        cls,
        *,
        device: str | torch.device | None = None,
        backend: str | None = None,
        patience: float = 600.0,
        silence: float = 60.0,
        beat: float = 1.0,
    ) -> "Ranks":
        """Meet the other processes that `torchrun` has started.

        **Arguments:**
        - `device`: where this rank computes; None is its own GPU if there is one, or else the CPU.
        - `backend`: "nccl" or "gloo"; None chooses by the device.
        - `patience`: seconds that an exchange waits for a rank that is alive. It must exceed the
          time that the first rank needs to write a checkpoint.
        - `silence`: seconds without a sign of life after which `meet` gives a rank up.
        - `beat`: seconds between two signs of life.

        **Raises:** `ConfigError` if this process was not started by `torchrun`.
        """
        missing = [name for name in _ENVIRONMENT if name not in os.environ]
        if missing:
            raise ConfigError(
                f"this process does not know its place among others ({', '.join(missing)} not "
                "set); start it with `torchrun --nproc-per-node N …`."
            )
        if distributed.is_initialized():
            raise ConfigError("this process has joined already; pass that `Ranks` on.")
        if min(patience, silence, beat) <= 0:
            raise ConfigError(
                "patience, silence and beat must be positive numbers of seconds, got "
                f"{patience}, {silence}, {beat}."
            )
        place = _device(device)
        wait = timedelta(seconds=patience)
        store, rank, number = next(distributed.rendezvous("env://", timeout=wait))
        distributed.init_process_group(
            backend or ("nccl" if place.type == "cuda" else "gloo"),
            store=distributed.PrefixStore("exchanges", store),
            rank=rank,
            world_size=number,
            timeout=wait,
        )
        heartbeat = Heartbeat(
            distributed.PrefixStore("signs", store), rank=rank, number=number, interval=beat
        )
        ranks = cls(
            rank=rank,
            number=number,
            device=place,
            patience=patience,
            silence=silence,
            heartbeat=heartbeat,
        )
        ranks.sum(torch.zeros(1, device=place))  # until all have given their first sign
        heartbeat.start()
        return ranks

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which alone writes what all have in common."""
        return self.rank == 0

    def __deepcopy__(self, memo: dict[int, Any]) -> "Ranks":
        return self  # copies of what holds it still talk to the same processes

    # --- exchanges ------------------------------------------------------------------------------

    def sum(self, value: Tensor) -> Tensor:
        """The sum of every rank's tensor; equal on all ranks to the last bit."""
        total = value.detach().clone(memory_format=torch.contiguous_format)
        with self._exchange():
            distributed.all_reduce(total)
        return total

    def whole(self, part: Tensor) -> Tensor:
        r"""The sum of every rank's part, of which each rank then computes the same function.

        As every rank holds the whole gradient of that function, backward is the identity: each
        part gets it without any exchange.
        """
        return _Whole.apply(part, self)

    def gather(self, value: Tensor) -> list[Tensor]:
        """Every rank's tensor, by rank; all must have one shape."""
        own = value.detach().contiguous()
        sent = own.view(torch.uint8) if own.dtype == torch.bool else own
        found = [torch.empty_like(sent) for _ in range(self.number)]
        with self._exchange():
            distributed.all_gather(found, sent)
        return [each.view(own.dtype) for each in found]

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any rank."""
        return bool(self.sum(torch.tensor(float(flag), device=self.device)) > 0)

    def meet(self) -> None:
        """Wait for all ranks, however long it takes, unless one is lost."""
        if self._heartbeat is not None:
            verdict = self._heartbeat.meet(self.silence)
            if verdict is not None:
                raise self._lost(verdict)

    # --- the end --------------------------------------------------------------------------------

    def leave(self, error: BaseException | None = None) -> None:
        """Say good-bye, with the reason if there is one, and close the connections."""
        if self._heartbeat is not None:
            if isinstance(error, RankLost):
                self._heartbeat.change(left=True, blames=error.ranks, farewell=error.how)
            else:
                reason = f"{type(error).__name__}: {error}" if error else None
                self._heartbeat.change(left=True, farewell=reason)
            # where no launcher keeps the store, it ends with the first rank
            ends_with_us = self.first and "TORCHELASTIC_RUN_ID" not in os.environ
            linger = 4 * self._heartbeat.interval if error and ends_with_us else 0.0
            self._heartbeat.close(linger=linger)
            self._heartbeat = None
        if distributed.is_initialized():
            distributed.destroy_process_group()

    def __enter__(self) -> "Ranks":
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self.leave(error)

    @contextmanager
    def _exchange(self) -> Iterator[None]:
        if self._heartbeat is not None:
            self._heartbeat.begin_exchange()
        try:
            yield
        except RuntimeError as error:
            verdict = self._heartbeat and self._heartbeat.diagnose(self.patience)
            if not verdict:
                raise
            raise self._lost(verdict) from error

    def _lost(self, verdict: Verdict) -> RankLost:
        names = ", ".join(map(str, verdict.ranks))
        word = "rank" if len(verdict.ranks) == 1 else "ranks"
        message = f"{word} {names} of {self.number} {verdict.how}"
        return RankLost(message, ranks=verdict.ranks, how=verdict.how)


_ENVIRONMENT = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def _device(device: str | torch.device | None) -> torch.device:
    if device is not None:
        place = torch.device(device)
    elif torch.cuda.is_available():
        place = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    else:
        place = torch.device("cpu")
    if place.type == "cuda":
        torch.cuda.set_device(place)
    return place


class _Whole(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor, ranks: Ranks) -> Tensor:
        return ranks.sum(part)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None
