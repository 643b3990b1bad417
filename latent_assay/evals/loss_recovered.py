r"""How much of a language model's work survives when an SAE's reconstruction takes its place."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from latent_assay.activations.contexts import Context, SpecialTokens, contexts, pad
from latent_assay.activations.language_model import LanguageModel
from latent_assay.activations.text import TextInput, text_source
from latent_assay.errors import ConfigError, DataError, ShapeError
from latent_assay.evals.splicing import Replacement, Splice
from latent_assay.sae import SAE


@dataclass(frozen=True, kw_only=True)
class LossRecovered:
    """What replacing activations costs a language model, averaged over its predictions."""

    ce_clean: float
    """Cross-entropy of the untouched model, in nats per predicted token."""
    ce_spliced: float
    """Cross-entropy with reconstructions in place of activations."""
    ce_zero_ablated: float
    """Cross-entropy with zeros in their place."""
    ce_mean_ablated: float | None
    """Cross-entropy with the mean activation in their place; None if no mean was given."""
    kl_spliced: float
    """KL divergence from the untouched model's predictions to the spliced one's, in nats."""
    kl_zero_ablated: float
    """KL divergence from the untouched model's predictions to the zero-ablated one's."""
    loss_recovered: float | None
    """1 for perfect reconstructions, 0 for zeros; None if zeros cost the model nothing."""
    loss_recovered_se: float | None
    """Standard error of `loss_recovered` over contexts; None with fewer than two contexts."""
    n_tokens: int
    """Number of predictions that were scored."""
    n_contexts: int
    """Number of contexts they were in."""
    n_replaced: int
    """Number of activations that were replaced."""
    hook_point: str
    """Where they were replaced."""
    special_tokens_replaced: bool
    """Whether activations of special tokens were replaced too."""
    max_norm: float | None
    """Activations longer than this were left as they are; None for no such limit."""


def loss_recovered(
    model: LanguageModel,
    documents: TextInput | Sequence[Int[Tensor, "batch position"]],
    hook_point: str,
    reconstruct: Callable[[Tensor], Tensor] | SAE,
    *,
    mean: Float[Tensor, " d_in"] | None = None,
    n_tokens: int | None = 100_000,
    context_size: int = 128,
    batch_size: int = 8,
    replace_special_tokens: bool = False,
    max_norm: float | None = None,
) -> LossRecovered:
    r"""Splice reconstructions into a causal language model and measure its predictions.

    With $\mathrm{CE}$ the mean cross-entropy over all predictions of a token of text, of the
    untouched model (clean), of the model whose activations $x$ at the hook point are replaced by
    $\hat x$ (spliced), and by zeros (zero):

    $$ \text{loss recovered} =
       \frac{\mathrm{CE}_{zero} - \mathrm{CE}_{spliced}}{\mathrm{CE}_{zero} - \mathrm{CE}_{clean}},
       \qquad \mathrm{KL} = \mathbb{E}\, D_{KL}(p_{clean} \,\|\, p_{spliced}). $$

    It is below 0 if reconstructions are worse than zeros. Where zeros make the model *better*, as
    in an untrained one, the ratio keeps its ends (1 for perfect, 0 for zeros) but says nothing
    about quality: look at the cross-entropies. Sums run over tokens, never over batch means, so
    that neither batch size nor padding changes a number.

    As in training, special tokens and, with `max_norm`, outliers keep their own activations in
    every run, also in the ablations. Many published numbers replace them too, which makes zero
    ablation look worse and the SAE therefore better; do not compare the two kinds.

    The standard error is that of a ratio of sums over independent contexts (first-order expansion).

    **Arguments:**
    - `model`: a causal language model.
    - `documents`: text, as `text_source` takes it; or batches of token numbers without padding.
    - `hook_point`: where the SAE reads and is spliced in.
    - `reconstruct`: from `[row, d_in]` in float32 to the same shape, or an `SAE` with one member.
      A `Splice` keeps the error term, or ablates and steers latents.
    - `mean`: the mean activation there, such as `ActivationStore.mean`, for mean ablation.
    - `n_tokens`: stop after this many tokens of text; None for all. Ignored for token batches.
    - `context_size`: tokens read at once, special ones included. Ignored for token batches.
    - `batch_size`: contexts per forward pass. Ignored for token batches.
    - `replace_special_tokens`: replace the activations of special tokens too.
    - `max_norm`: leave longer activations as they are; give the `threshold` under `norm_outliers`
      in the manifest of the harvest that the SAE was trained on.

    **Returns:** the averages, and on how many tokens they stand.

    **Raises:** `ConfigError` for an encoder or an impossible setting, `HookError` for an unknown
    hook point, `ShapeError` if `reconstruct` or `mean` does not fit, `DataError` if there is no
    prediction to score or a reconstruction is not finite.
    """
    if not model.is_causal:
        raise ConfigError(
            f"{type(model.model).__name__} predicts no next token, so it has no loss to recover. "
            "Use a causal language model such as GPT-2, Pythia, Llama or Gemma."
        )
    d_in = model.d_in(hook_point)
    if mean is not None and mean.shape != (d_in,):
        raise ShapeError(
            f"`mean` has shape {list(mean.shape)}; expected [{d_in}], the length of activations "
            f"at `{hook_point}`."
        )
    if batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size}; expected at least 1.")
    if isinstance(reconstruct, SAE) and reconstruct.members > 1:
        raise ConfigError(
            f"this SAE has {reconstruct.members} members, and only one can stand in the model; "
            "give sae.take(i), or Splice(sae=sae, member=i)."
        )
    function = Splice(sae=reconstruct) if isinstance(reconstruct, SAE) else reconstruct
    substitutes: dict[str, Callable[[Tensor], Tensor]] = {
        "spliced": lambda x: _reconstructed(function, x, hook_point),
        "zero": torch.zeros_like,
    }
    if mean is not None:
        average = mean
        substitutes["mean"] = lambda x: average.to(x).expand_as(x)

    sums: list[Tensor] = []
    n_replaced = 0
    batches = _batches(model, documents, n_tokens, context_size, batch_size)
    for token_ids, mask, special in batches:
        scored = (mask & ~special)[:, 1:]
        where = mask if replace_special_tokens else mask & ~special
        ce, clean = _cross_entropy(model, token_ids, mask, scored)
        columns = [scored.sum(dim=1).double(), ce]
        for substitute in substitutes.values():
            replacement = Replacement(where=where, substitute=substitute, max_norm=max_norm)
            with model.replace(hook_point, replacement):
                ce, log_p = _cross_entropy(model, token_ids, mask, scored)
            columns += [ce, _kl(clean, log_p, scored)]
        sums.append(torch.stack(columns, dim=1))
        n_replaced += replacement.n_replaced

    per_context = torch.cat(sums) if sums else torch.zeros(0, 2)
    total = per_context.sum(dim=0)
    if not sums or total[0] == 0:
        raise DataError(
            "there is no prediction to score: every context has a single token. Give longer text."
        )
    means = (total / total[0]).tolist()
    recovered, error = _ratio(per_context)
    return LossRecovered(
        ce_clean=means[1],
        ce_spliced=means[2],
        kl_spliced=means[3],
        ce_zero_ablated=means[4],
        kl_zero_ablated=means[5],
        ce_mean_ablated=means[6] if mean is not None else None,
        loss_recovered=recovered,
        loss_recovered_se=error,
        n_tokens=int(total[0]),
        n_contexts=len(per_context),
        n_replaced=n_replaced,
        hook_point=hook_point,
        special_tokens_replaced=replace_special_tokens,
        max_norm=max_norm,
    )


_Batch = tuple[
    Int[Tensor, "batch position"], Bool[Tensor, "batch position"], Bool[Tensor, "batch position"]
]


def _batches(
    model: LanguageModel,
    documents: TextInput | Sequence[Tensor],
    n_tokens: int | None,
    context_size: int,
    batch_size: int,
) -> Iterator[_Batch]:
    """Token numbers, where they are no padding, and where they are special."""
    if isinstance(documents, Sequence) and documents and isinstance(documents[0], Tensor):
        special_ids = torch.tensor(sorted(SpecialTokens.of(model.tokenizer).all_ids))
        for token_ids in documents:
            ids = token_ids.cpu()
            yield ids, torch.ones_like(ids, dtype=torch.bool), torch.isin(ids, special_ids)
        return
    limit = model.max_context_size
    if limit is not None and context_size > limit:
        raise ConfigError(
            f"context_size is {context_size}, but {model.name} reads at most {limit} tokens at "
            "once. Choose a smaller one."
        )
    source = text_source(documents)
    pieces: Iterable[Context] = contexts(
        model.tokenizer, source, context_size=context_size, n_tokens=n_tokens
    )
    left = iter(pieces)
    pad_id = getattr(model.tokenizer, "pad_token_id", None) or 0
    while group := list(islice(left, batch_size)):
        token_ids, mask = pad([context.token_ids for context in group], pad_id)
        special, _ = pad([context.special for context in group])
        yield token_ids, mask, special.bool()


def _reconstructed(reconstruct: Callable[[Tensor], Tensor], x: Tensor, hook_point: str) -> Tensor:
    x_hat = reconstruct(x.float())
    if x_hat.shape != x.shape:
        raise ShapeError(
            f"`reconstruct` turned {list(x.shape)} into {list(x_hat.shape)}; expected the same "
            f"shape. Was it trained at another hook point than `{hook_point}`?"
        )
    if not torch.isfinite(x_hat).all():
        raise DataError(
            f"`reconstruct` gave numbers that are not finite at `{hook_point}`. Check its weights."
        )
    return x_hat.detach()


def _cross_entropy(
    model: LanguageModel,
    token_ids: Int[Tensor, "batch position"],
    mask: Bool[Tensor, "batch position"],
    scored: Bool[Tensor, "batch predicted"],
) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch predicted vocabulary"]]:
    """Cross-entropy summed over each context's scored predictions, and all log-probabilities."""
    log_p = model.logits(token_ids, mask)[:, :-1].float().log_softmax(dim=-1)
    of_target = log_p.gather(-1, token_ids[:, 1:, None].to(log_p.device)).squeeze(-1)
    return -(of_target.cpu().double() * scored).sum(dim=1), log_p


def _kl(
    log_p: Float[Tensor, "batch predicted vocabulary"],
    log_q: Float[Tensor, "batch predicted vocabulary"],
    scored: Bool[Tensor, "batch predicted"],
) -> Float[Tensor, " batch"]:
    p = log_p.exp()
    # a token that the model rules out has probability 0, and 0 log 0 counts as 0
    kl = torch.where(p > 0, p * (log_p - log_q), 0.0).sum(dim=-1)
    return (kl.cpu().double() * scored).sum(dim=1)


def _ratio(per_context: Float[Tensor, "context column"]) -> tuple[float | None, float | None]:
    """Loss recovered and its standard error, from each context's sums: count, clean, spliced ..."""
    clean, spliced, zero = per_context[:, 1], per_context[:, 2], per_context[:, 4]
    gained, possible = zero - spliced, zero - clean
    whole = possible.sum().item()
    if abs(whole) <= 1e-6 * abs(clean.sum().item()):
        return None, None
    ratio = gained.sum().item() / whole
    n = len(per_context)
    if n < 2:
        return ratio, None
    residual = gained - ratio * possible
    return ratio, math.sqrt(n / (n - 1) * residual.square().sum().item()) / abs(whole)
