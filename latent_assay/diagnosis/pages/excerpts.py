"""Where in the text latents fire most, and where a parent should have fired but a child did."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int8
from numpy import ndarray

from latent_assay.activations import ActivationStore
from latent_assay.diagnosis.diagnosis import Diagnosis
from latent_assay.diagnosis.evidence import Role
from latent_assay.diagnosis.subject import Subject, subject
from latent_assay.diagnosis.verdict import Verdict
from latent_assay.errors import ConfigError, DataError
from latent_assay.report.contexts import FULL, LEFT_OUT, OUTSIDE
from latent_assay.report.latents import Corpus
from latent_assay.sae import SAE

_ENTRIES = 2**24
"""Latent activations that are held at once."""
_MOST_HOLES = 20_000
"""Holes that are shown; those of the likeliest parents come first."""


@dataclass(frozen=True, kw_only=True)
class ExcerptConfig:
    """How much text to keep."""

    examples: int = 4
    """Contexts per latent, at most."""
    children: int = 3
    """Children per absorbed parent that a hole is shown of, at most."""
    before: int = 16
    """Tokens before the one in question."""
    after: int = 9
    """Tokens after it."""

    def __post_init__(self) -> None:
        for name in ("examples", "children", "before", "after"):
            if getattr(self, name) < 0:
                raise ConfigError(
                    f"`{name}` must be at least 0, received {getattr(self, name)}. 0 leaves it out."
                )

    @property
    def window(self) -> int:
        """Tokens in a context."""
        return self.before + 1 + self.after


@dataclass(frozen=True, kw_only=True, eq=False)
class Excerpts:
    """Places in a text. Levels are activations times 126 over the latent's `scale`, never 0 where
    it fires; -128 where there is no token of the document, -127 where none was read."""

    config: ExcerptConfig
    """How much was kept."""
    corpus: Corpus
    """The text."""
    scale: Float[ndarray, " latent"]
    """Greatest activation of each latent, in units of x."""
    example_latent: Int[ndarray, " example"]
    """Whose contexts, rising; of one latent the strongest first."""
    example_position: Int[ndarray, " example"]
    """Corpus position of the token on which it fires."""
    example_level: Int8[ndarray, "example token"]
    """Its activations around it."""
    hole_parent: Int[ndarray, " hole"]
    """The latent that should have fired, rising."""
    hole_child: Int[ndarray, " hole"]
    """The one that fires in its stead."""
    hole_position: Int[ndarray, " hole"]
    """Corpus position of the token."""
    hole_asked: Float[ndarray, " hole"]
    r"""$(e + z_c \hat d_c) \cdot \hat d_p$ over the parent's median activation: how much of the
    parent was there."""
    hole_level: Int8[ndarray, "hole 2 token"]
    """Activations of parent and child around it."""
    hedge_latent: Int[ndarray, " hedge"]
    """A latent that hedges, rising."""
    hedge_present: Bool[ndarray, " hedge"]
    """Whether what it hedges is there."""
    hedge_position: Int[ndarray, " hedge"]
    """Corpus position of a token on which it fires."""
    hedge_level: Int8[ndarray, "hedge token"]
    """Its activations around it."""


@torch.no_grad()
def excerpts(
    diagnosis: Diagnosis,
    sae: SAE,
    store: ActivationStore,
    *,
    member: int | None = None,
    config: ExcerptConfig | None = None,
) -> Excerpts:
    """The text behind a diagnosis, in one pass.

    The rows are those that the diagnosis names: where each latent fired most of the firings that
    were kept, and for each parent and child a firing of the child in which the parent is silent
    although its direction is there.

    **Arguments:**
    - `diagnosis`: made from the rows of `store`, in their order.
    - `sae`, `member`: whose diagnosis it is.
    - `store`: the activations, with their text.
    - `config`: how much to keep.

    **Raises:** `DataError` if the store has no text, or another number of rows than the diagnosis
    was made from.
    """
    config = config or ExcerptConfig()
    if store.n_rows != diagnosis.evidence.n_samples:
        raise DataError(
            f"the diagnosis was made from {diagnosis.evidence.n_samples} activations, but the "
            f"store has {store.n_rows}, so their numbers do not agree. Pass the part that was "
            "diagnosed: store.part(0, n)."
        )
    one = subject(sae, member)
    corpus, place = _corpus(store)
    whose, rows = _examples(diagnosis, place, config)
    parent, child, hole_row = _holes(diagnosis, config)
    hedger, present, hedge_row = _hedges(diagnosis)
    around = _Windows(corpus, place, config)
    wanted = np.concatenate(
        [
            around.keys(rows, whose, one.width),
            around.keys(hole_row, parent, one.width),
            around.keys(hole_row, child, one.width),
            around.keys(hedge_row, hedger, one.width),
        ]
    )
    values, asked = _read(one, store, wanted, (parent, child, hole_row))
    scale = diagnosis.evidence.drawings["histogram.top"].astype(np.float64)
    owners = np.concatenate([whose, parent, child, hedger])
    scale = scale.copy()
    np.maximum.at(scale, owners, np.abs(np.nan_to_num(values)).max(axis=1, initial=0.0))
    level = _levels(values, wanted, scale[owners])
    n, m = len(whose), len(parent)
    median = _medians(diagnosis)[parent]
    return Excerpts(
        config=config,
        corpus=corpus,
        scale=scale.astype(np.float32),
        example_latent=whose,
        example_position=place[rows],
        example_level=level[:n],
        hole_parent=parent,
        hole_child=child,
        hole_position=place[hole_row],
        hole_asked=(asked / np.maximum(median, 1e-30)).astype(np.float32),
        hole_level=np.stack([level[n : n + m], level[n + m : n + 2 * m]], axis=1),
        hedge_latent=hedger,
        hedge_present=present,
        hedge_position=place[hedge_row],
        hedge_level=level[n + 2 * m :],
    )


def _corpus(store: ActivationStore) -> tuple[Corpus, Int[ndarray, " row"]]:
    """The contexts that the rows come from, and the corpus position of every row."""
    parts = [(context, position) for _, context, position in store.in_order(65_536)]
    context = torch.cat([each for each, _ in parts]).numpy()
    position = torch.cat([each for _, each in parts]).numpy()
    used, which = np.unique(context, return_inverse=True)
    corpus = Corpus.of_documents([store.tokens_text(store.context(int(c))) for c in used])
    return corpus, corpus.documents[which] + position


def _examples(
    diagnosis: Diagnosis, place: Int[ndarray, " row"], config: ExcerptConfig
) -> tuple[Int[ndarray, " example"], Int[ndarray, " example"]]:
    """Latents and rows: the strongest firings, none within half a window of a stronger one."""
    row = diagnosis.evidence.drawings["examples.row"]
    at = np.where(row >= 0, place[row], -1)
    chosen = np.zeros(row.shape, dtype=np.bool_)
    for slot in range(row.shape[1]):
        near = np.abs(at - at[:, slot : slot + 1]) < config.window // 2
        crowded = (near & chosen).any(axis=1)
        full = chosen.sum(axis=1) >= config.examples
        chosen[:, slot] = (row[:, slot] >= 0) & ~crowded & ~full
    latent, kept = np.nonzero(chosen)
    return latent, row[latent, kept].astype(np.int64)


def _holes(
    diagnosis: Diagnosis, config: ExcerptConfig
) -> tuple[Int[ndarray, " hole"], Int[ndarray, " hole"], Int[ndarray, " hole"]]:
    """Parents, children and rows: of each absorbed parent those of the children that take most, of
    each absorbing child that of its first parent."""
    drawings, relatives = diagnosis.evidence.drawings, diagnosis.evidence.relatives
    near, hole = drawings["near.latent"], drawings["near.hole_row"]
    child, slot = np.nonzero(hole >= 0)
    width: int = diagnosis.width
    key: ndarray = near[child, slot] * width + child
    rows = hole[child, slot].astype(np.int64)
    order = np.argsort(key, kind="stable")
    key, rows = key[order], rows[order]

    def of(role: Role, verdict: Verdict, most: int) -> ndarray:
        """Keys of the first relations of each latent that has a verdict, as parent and child."""
        at = (relatives.role == int(role)) & diagnosis.found(verdict)[relatives.latent]
        own, other = relatives.latent[at], relatives.other[at]
        keys = own * width + other if role == Role.CHILD else other * width + own
        known = np.isin(keys, key)
        own, keys = own[known], keys[known]
        first = np.searchsorted(own, own)
        return keys[np.arange(len(own)) - first < most]

    wanted = np.union1d(
        of(Role.CHILD, Verdict.ABSORBED, config.children),
        of(Role.PARENT, Verdict.ABSORBING, min(1, config.children)),
    ).astype(np.int64)
    if len(wanted) > _MOST_HOLES:
        sure = diagnosis.probability(Verdict.ABSORBED)[wanted // width]
        wanted = np.sort(wanted[np.argsort(-sure, kind="stable")[:_MOST_HOLES]])
    return wanted // width, wanted % width, rows[np.searchsorted(key, wanted)]


def _hedges(
    diagnosis: Diagnosis,
) -> tuple[Int[ndarray, " hedge"], Bool[ndarray, " hedge"], Int[ndarray, " hedge"]]:
    """Latents that hedge, whether what they hedge is there, and rows."""
    drawings = diagnosis.evidence.drawings
    kinds = [drawings["hedge.present_row"], drawings["hedge.absent_row"]]
    rows = np.where(diagnosis.found(Verdict.HEDGED)[:, None], np.concatenate(kinds, axis=1), -1)
    latent, slot = np.nonzero(rows >= 0)
    return latent, slot < kinds[0].shape[1], rows[latent, slot].astype(np.int64)


class _Windows:
    """The tokens around a row, as numbers of rows."""

    def __init__(self, corpus: Corpus, place: Int[ndarray, " row"], config: ExcerptConfig):
        self.place = place
        self.offsets = np.arange(config.window) - config.before
        self.row = np.full(len(corpus.ids), -1, dtype=np.int64)
        self.row[place] = np.arange(len(place))
        self.starts = corpus.documents
        self.ends = np.append(corpus.documents[1:], len(corpus.ids))

    def keys(
        self, rows: Int[ndarray, " entry"], latents: Int[ndarray, " entry"], width: int
    ) -> Int[ndarray, "entry token"]:
        """Row times width plus latent; -2 outside the document, -1 where no row was read."""
        middle = self.place[rows]
        document = np.searchsorted(self.starts, middle, side="right") - 1
        at = middle[:, None] + self.offsets
        inside = (at >= self.starts[document, None]) & (at < self.ends[document, None])
        row = self.row[np.where(inside, at, 0)]
        found: ndarray = np.where(row >= 0, row * width + latents[:, None], -1)
        return np.where(inside, found, -2)


def _read(
    one: Subject,
    store: ActivationStore,
    wanted: Int[ndarray, "entry token"],
    holes: tuple[ndarray, ndarray, ndarray],
) -> tuple[Float[ndarray, "entry token"], Float[ndarray, " hole"]]:
    """The activations that `wanted` names, and what was there along the parent in each hole."""
    flat = torch.from_numpy(wanted.flatten())
    order = flat.argsort()
    ordered = flat[order]
    values = torch.full((len(flat),), torch.nan, dtype=torch.float64)
    parent, child, row = (torch.from_numpy(each) for each in holes)
    asked = torch.zeros(len(row), dtype=torch.float64)
    b_dec = one.sae.b_dec.detach()[0].float()
    step = max(64, min(4096, _ENTRIES // one.width))
    start = 0
    for x, _, _ in store.in_order(step):
        x = x.float()
        z = one.sae.encode(x.to(one.sae.W_enc.dtype))[0].float() * one.length
        bounds = torch.tensor([start, start + len(x)]) * one.width
        first, last = torch.searchsorted(ordered, bounds).tolist()
        here = order[first:last]
        values[here] = z.flatten()[flat[here] - start * one.width].double()
        inside = ((row >= start) & (row < start + len(x))).nonzero().squeeze(-1)
        if len(inside):
            at = row[inside] - start
            left = x[at] - z[at] @ one.decoder - b_dec
            p, c = one.decoder[parent[inside]], one.decoder[child[inside]]
            carried = z[at, child[inside]] * (p * c).sum(-1)
            asked[inside] = ((left * p).sum(-1) + carried).double()
        start += len(x)
    return values.view(wanted.shape).numpy(), asked.numpy()


def _levels(
    values: Float[ndarray, "entry token"],
    wanted: Int[ndarray, "entry token"],
    scale: Float[ndarray, " entry"],
) -> Int8[ndarray, "entry token"]:
    share = values / np.maximum(scale, 1e-30)[:, None]
    level = np.clip(np.rint(np.nan_to_num(share) * FULL), -FULL, FULL)
    level = np.where(level == 0, np.sign(np.nan_to_num(share)), level)
    level = np.where(wanted == -1, LEFT_OUT, level)
    return np.where(wanted == -2, OUTSIDE, level).astype(np.int8)


def _medians(diagnosis: Diagnosis) -> Float[ndarray, " latent"]:
    """Median activation of each latent, to the width of a bin."""
    count = diagnosis.evidence.drawings["histogram.count"].astype(np.float64)
    below = count.cumsum(axis=1)
    half = below[:, -1:] / 2
    at = (below < half).sum(axis=1)
    top = diagnosis.evidence.drawings["histogram.top"].astype(np.float64)
    return (at + 0.5) / count.shape[1] * top
