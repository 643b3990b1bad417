"""For each latent: contexts to explain it from, others to test the explanation on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from latent_assay.errors import ConfigError
from latent_assay.evals.autointerp.windows import Firings, Window, WindowedText


@dataclass(frozen=True, kw_only=True)
class ExampleConfig:
    """Which latents are interpreted, from how many contexts."""

    latents: int = 50
    """How many latents, drawn at random among those that fire often enough."""
    top: int = 10
    """Contexts with the strongest activations that an explanation is made from."""
    spread: int = 10
    """Further contexts for the explanation, drawn evenly over the order of strength."""
    tested: int = 20
    """Contexts in which the latent fires that the explanation is tested on; as many in which it
    does not."""
    fewest: int = 20
    """Active contexts that a latent must have; those with fewer cannot be judged."""
    seed: int = 0
    """Of all draws."""

    def __post_init__(self) -> None:
        if min(self.latents, self.top, self.tested) < 1 or self.spread < 0 or self.fewest < 8:
            raise ConfigError(
                "expected at least one latent, one strong context and one tested, and at least 8 "
                f"active contexts per latent (`fewest`); received {self}."
            )


@dataclass(frozen=True, kw_only=True)
class Examples:
    """One latent's contexts. No context serves both for explaining and for testing."""

    latent: int
    """Its index."""
    shown: tuple[Window, ...]
    """Active contexts for the explanation, with the tokens on which the latent fires marked."""
    contrast: tuple[Window, ...]
    """Contexts for the explanation in which the latent is inactive."""
    active: tuple[Window, ...]
    """Held-out contexts in which it fires, with those tokens marked."""
    inactive: tuple[Window, ...]
    """Held-out contexts in which it does not fire on any token, which has been looked up."""
    wrong: tuple[Window, ...]
    """Held-out active contexts with as many tokens marked as fire, all of them others."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The latents to interpret."""

    examples: tuple[Examples, ...]
    """Their contexts."""
    eligible: int
    """How many latents fire often enough, and seldom enough, to be judged."""
    width: int
    """How many there are."""


def choose(
    firings: Firings, text: WindowedText, config: ExampleConfig, latents: Sequence[int] = ()
) -> Chosen:
    """Draw latents and their contexts.

    Of a latent's active windows half are for the explanation, half for testing, drawn at random
    except that strong ones among the former are preferred. Inactive windows are those in which the
    latent does not fire on a single token; a latent that leaves too few of them is not eligible.

    **Arguments:**
    - `firings`: of one SAE on the text.
    - `text`: the text.
    - `config`: how many.
    - `latents`: these instead of a random draw; ineligible ones are passed over.
    """
    window_of = text.window.numpy()
    n_windows = text.n_windows
    counts = np.array(
        [len(np.unique(window_of[firings.of(j)[0]])) for j in range(firings.width)], dtype=np.int64
    )
    needed = min(config.tested, config.fewest // 2) + 1
    eligible = np.flatnonzero((counts >= config.fewest) & (n_windows - counts >= 2 * needed))
    rng = np.random.default_rng(config.seed)
    drawn = (
        [j for j in latents if j in set(eligible.tolist())]
        if latents
        else np.sort(rng.permutation(eligible)[: config.latents]).tolist()
    )
    examples = tuple(_examples(int(j), firings, text, window_of, config) for j in drawn)
    return Chosen(examples=examples, eligible=len(eligible), width=firings.width)


def _examples(
    latent: int, firings: Firings, text: WindowedText, window_of: np.ndarray, config: ExampleConfig
) -> Examples:
    # a stream of its own for each latent: which others are chosen does not change its contexts
    rng = np.random.default_rng([config.seed, latent])
    rows, value = firings.of(latent)
    windows, place = np.unique(window_of[rows], return_inverse=True)
    strength = np.zeros(len(windows), dtype=np.float32)
    np.maximum.at(strength, place, np.abs(value))
    shuffled = rng.permutation(len(windows))
    half = len(windows) // 2
    mine, held = shuffled[:half], shuffled[half:]
    mine = mine[np.argsort(-strength[mine], kind="stable")]
    rest = mine[config.top :]
    spread = rest[np.linspace(0, len(rest) - 1, min(config.spread, len(rest))).round().astype(int)]
    held = held[: config.tested]
    fires = np.zeros(len(window_of), dtype=np.bool_)
    fires[rows] = True

    def shown(which: np.ndarray) -> tuple[Window, ...]:
        return tuple(text.show(w, fires[_part(text, w)].tolist()) for w in windows[which].tolist())

    silent = np.setdiff1d(np.arange(text.n_windows), windows, assume_unique=True)
    silent = rng.permutation(silent)
    n_contrast = min(len(silent) // 2, config.top + config.spread)
    inactive = silent[n_contrast : n_contrast + len(held)]
    return Examples(
        latent=latent,
        shown=shown(np.concatenate([mine[: config.top], spread])),
        contrast=tuple(text.show(w) for w in silent[:n_contrast].tolist()),
        active=shown(held),
        inactive=tuple(text.show(w) for w in inactive.tolist()),
        wrong=tuple(
            each
            for w in windows[held].tolist()
            if (each := _wrongly_marked(text, w, fires[_part(text, w)], rng)) is not None
        ),
    )


def _part(text: WindowedText, window: int) -> slice:
    rows = text.rows_of(window)
    return slice(rows.start, rows.stop)


def _wrongly_marked(
    text: WindowedText, window: int, fires: np.ndarray, rng: np.random.Generator
) -> Window | None:
    """As many tokens marked, none of them right; None where too few are left."""
    others = np.flatnonzero(~fires)
    if len(others) < fires.sum():
        return None
    marked = np.zeros(len(fires), dtype=np.bool_)
    marked[rng.permutation(others)[: int(fires.sum())]] = True
    return text.show(window, marked.tolist())
