"""The arithmetic that a step of small dense SAEs cannot do without, and nothing else.

The five products of forward and backward, and one pass of torch's fused Adam over all parameters,
on tensors that are there already.
"""

import time
from functools import partial
from typing import Any

import torch
from torch.optim.adam import adam

from benchmarks.threads import use_best
from benchmarks.worker import Harness, calibrated, fastest


class Products:
    """One step's products for all members."""

    def __init__(self, settings: dict[str, Any]):
        members, rows = settings["members"], settings["rows"]
        d_in, width = settings["d_in"], settings["width"]
        generator = torch.Generator().manual_seed(0)

        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(shape, generator=generator)

        self.x = normal(1 if settings["shared"] else members, rows, d_in)
        self.W_enc, self.W_dec = normal(members, width, d_in), normal(members, width, d_in)
        self.z, self.e = normal(members, rows, width), normal(members, rows, d_in)
        self.gradients = [normal(members, width, d_in) for _ in range(2)]
        self.first = [torch.zeros_like(each) for each in self.gradients]
        self.second = [torch.zeros_like(each) for each in self.gradients]
        self.steps = [torch.zeros(()) for _ in range(2)]

        self.wide = self.z.transpose(0, 1).flatten(1)
        self.variant = "batched"

    def run(self, variant: str, steps: int) -> None:
        """So many steps; "wide" serves all members by one product where they share a batch."""
        self.variant = variant
        self(steps)

    @torch.no_grad()
    def __call__(self, steps: int) -> None:
        """So many steps."""
        for _ in range(steps):
            if self.variant == "wide":
                self.x[0] @ self.W_enc.flatten(0, 1).T
                self.wide.T @ self.x[0]
            else:
                self.x @ self.W_enc.mT
                self.z.mT @ self.x
            self.z @ self.W_dec
            self.e @ self.W_dec.mT
            self.z.mT @ self.e
            adam(
                [self.W_enc, self.W_dec],
                self.gradients,
                self.first,
                self.second,
                [],
                self.steps,
                foreach=False,
                fused=True,
                amsgrad=False,
                beta1=0.9,
                beta2=0.999,
                lr=1e-6,
                weight_decay=0.0,
                eps=1e-8,
                maximize=False,
            )


def main() -> None:
    harness = Harness()
    settings = harness.settings
    run, first = Products(settings), settings["first_steps"]
    threads = use_best(lambda: run(first))
    if settings["shared"]:
        run.variant = fastest({each: partial(run.run, each, first) for each in ("wide", "batched")})
    steps = calibrated(run, first=first, seconds=settings["seconds"])
    harness.ready(steps_per_repetition=steps, threads=threads, variant=run.variant)
    while harness.wait():
        start = time.perf_counter()
        run(steps)
        seconds = time.perf_counter() - start
        harness.report(samples_per_second=settings["members"] * settings["batch"] * steps / seconds)


if __name__ == "__main__":
    main()
