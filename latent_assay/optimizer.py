"""Adam for ensembles: a learning rate and a verdict "skip this step" for each member."""

import math
from collections.abc import Mapping, Sequence
from itertools import groupby

import torch
from jaxtyping import Bool, Float
from torch import Tensor

# With more learning rates than this, one pass over all members beats a fused call for each.
_MOST_FUSED_GROUPS = 4


class Adam:
    r"""Adam whose learning rate may differ by member.

    $$m \leftarrow \beta_1 m + (1-\beta_1) g, \quad v \leftarrow \beta_2 v + (1-\beta_2) g^2, \quad
      p \leftarrow p - \eta_{member} \frac{m / (1-\beta_1^t)}{\sqrt{v / (1-\beta_2^t)} + \epsilon}$$

    Members that share a learning rate go through torch's fused kernel together; many different
    rates go through the plain formula, all at once.

    **Arguments:**
    - `parameters`: by name, each with the member axis first.
    - `lr`: one learning rate for each member.
    - `betas`, `eps`: as above.

    **Reference:** Kingma and Ba 2015, arXiv:1412.6980.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        *,
        lr: Sequence[float],
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ):
        self.parameters = parameters
        self.lr = tuple(lr)
        self.betas = betas
        self.eps = eps
        self.steps = 0
        self.first = {name: torch.zeros_like(p) for name, p in parameters.items()}
        self.second = {name: torch.zeros_like(p) for name, p in parameters.items()}
        device = next(iter(parameters.values())).device
        self.rates = torch.tensor(self.lr, dtype=torch.float64, device=device)
        self._count = torch.zeros((), dtype=torch.float32, device=device)
        self._groups: list[tuple[int, int, float]] = []
        start = 0
        for rate, members in groupby(self.lr):
            end = start + len(list(members))
            self._groups.append((start, end, rate))
            start = end
        dtypes = {p.dtype for p in parameters.values()}
        fusable = device.type in ("cpu", "cuda") and dtypes in ({torch.float32}, {torch.float64})
        self.fused = fusable and len(self._groups) <= _MOST_FUSED_GROUPS

    @torch.no_grad()
    def step(self, factor: float, accept: Bool[Tensor, " member"]) -> None:
        """Move the parameters along their gradients.

        **Arguments:**
        - `factor`: the schedule's factor on every learning rate.
        - `accept`: false for members whose gradient is not finite; they and their moments stay as
          they are. On the fused path the members of one learning rate are skipped together.
        """
        self.steps += 1
        if self.fused:
            self._fused(factor, accept)
        else:
            self._plain(factor, accept)

    def _fused(self, factor: float, accept: Tensor) -> None:
        moved = [(name, p.data, p.grad) for name, p in self.parameters.items()]
        moving = [(name, data, grad) for name, data, grad in moved if grad is not None]
        whole = len(self._groups) == 1
        for start, end, rate in self._groups:
            part = slice(start, end)
            refused = (~(accept if whole else accept[part]).all()).to(torch.float32)

            def of_group(tensors: list[Tensor], part: slice = part) -> list[Tensor]:
                return tensors if whole else [each[part] for each in tensors]

            torch._fused_adam_(
                of_group([data for _, data, _ in moving]),
                of_group([grad for _, _, grad in moving]),
                of_group([self.first[name] for name, _, _ in moving]),
                of_group([self.second[name] for name, _, _ in moving]),
                [],
                # the kernel only reads these
                [self._count.fill_(self.steps)] * len(moving),
                amsgrad=False,
                beta1=self.betas[0],
                beta2=self.betas[1],
                lr=rate * factor,
                weight_decay=0.0,
                eps=self.eps,
                maximize=False,
                found_inf=refused,
            )

    def _plain(self, factor: float, accept: Tensor) -> None:
        beta1, beta2 = self.betas
        bias1 = 1 - beta1**self.steps
        bias2 = 1 - beta2**self.steps
        for name, p in self.parameters.items():
            if p.grad is None:
                continue
            shape = (-1,) + (1,) * (p.dim() - 1)
            take = accept.view(shape)
            grad = torch.where(take, p.grad, 0.0)
            m, v = self.first[name], self.second[name]
            m.lerp_(grad, (1 - beta1) * take.to(p.dtype))
            v.lerp_(grad.square(), (1 - beta2) * take.to(p.dtype))
            denominator = v.sqrt().div_(math.sqrt(bias2)).add_(self.eps)
            rate = (self.rates * (factor / bias1)).to(p.dtype).view(shape) * take
            p.sub_(rate * m / denominator)

    def state_dict(self) -> dict[str, Tensor]:
        """Moments and the number of steps."""
        state = {"steps": torch.tensor(self.steps)}
        for name in self.parameters:
            state[f"first.{name}"] = self.first[name]
            state[f"second.{name}"] = self.second[name]
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue from a saved state."""
        self.steps = int(state["steps"])
        for name in self.parameters:
            self.first[name].copy_(state[f"first.{name}"])
            self.second[name].copy_(state[f"second.{name}"])


@torch.no_grad()
def clip_by_member(
    gradients: Sequence[Tensor], limit: Float[Tensor, " member"] | None
) -> Float[Tensor, " member"]:
    r"""Scale each member's gradient to at most its limit, and return the norms before.

    $$g \leftarrow g \cdot \min(1, c / (\|g\| + 10^{-6}))$$

    where the norm is over all parameters of one member. One norm over all members would let
    them influence one another.

    **Arguments:**
    - `gradients`: each with the member axis first; changed in place.
    - `limit`: c for each member; infinity does not clip; None measures only.
    """
    norm = norm_by_member(gradients)
    scale_by_member(gradients, norm, limit)
    return norm


@torch.no_grad()
def norm_by_member(gradients: Sequence[Tensor]) -> Float[Tensor, " member"]:
    """The norm of each member's gradient, over all its parameters."""
    norms = [torch.linalg.vector_norm(grad.flatten(1), dim=1) for grad in gradients]
    return torch.linalg.vector_norm(torch.stack(norms), dim=0)


@torch.no_grad()
def scale_by_member(
    gradients: Sequence[Tensor],
    norm: Float[Tensor, " member"],
    limit: Float[Tensor, " member"] | None,
) -> None:
    """Clip gradients whose norms are known; see `clip_by_member`."""
    if limit is None:
        return
    scale = (limit.to(norm.dtype) / (norm + 1e-6)).clamp_max(1)
    if scale.device.type == "cpu" and bool((scale == 1).all()):  # on a GPU, looking would wait
        return
    for grad in gradients:
        grad.mul_(scale.view(-1, *(1,) * (grad.dim() - 1)))
