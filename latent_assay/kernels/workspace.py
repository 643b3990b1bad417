"""Memory that is used again."""

from typing import Any

import torch
from torch import Tensor


class Workspace:
    """Holds the memory of one large result from step to step.

    A new large tensor on CPU comes from the operating system page by page, which for the
    pre-activations of a language model's SAE takes a tenth of the time of the product that fills
    it. Whoever asks again overwrites what was there, so a result may not outlive its step.
    """

    def __init__(self) -> None:
        self._memory: Tensor | None = None

    def room(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """An uninitialised tensor of a shape, with the dtype and device of another tensor."""
        held = self._memory
        if (
            held is None
            or held.shape != shape
            or held.dtype != like.dtype
            or held.device != like.device
        ):
            held = torch.empty(shape, dtype=like.dtype, device=like.device)
            self._memory = held
        return held

    def __deepcopy__(self, memo: dict[int, Any]) -> "Workspace":
        return Workspace()

    def __getstate__(self) -> dict[str, Any]:
        return {"_memory": None}
