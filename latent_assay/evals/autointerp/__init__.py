"""Auto-interpretation: explain latents, and test whether the explanations tell where they fire.

    windowed ──► firings ──► choose ──► Explainer ──► Judge ──► score

`autointerp` does all of it. Explainers: `ContextExplainer` (offline), `ChatExplainer`. Judges:
`EmbeddingJudge` (offline), `ChatJudge`. Models that are asked: `HttpChat`, `LocalChat`.
"""

from latent_assay.evals.autointerp.chat import Chat, HttpChat, LocalChat
from latent_assay.evals.autointerp.examples import Chosen, ExampleConfig, Examples, choose
from latent_assay.evals.autointerp.explaining import (
    ChatExplainer,
    ContextExplainer,
    Explainer,
    Explanation,
)
from latent_assay.evals.autointerp.judging import ChatJudge, EmbeddingJudge, Judge
from latent_assay.evals.autointerp.ledger import Ledger
from latent_assay.evals.autointerp.run import (
    AutoInterpConfig,
    Interpreted,
    autointerp,
    interpret,
)
from latent_assay.evals.autointerp.scoring import Score, score
from latent_assay.evals.autointerp.windows import (
    Firings,
    Window,
    WindowedText,
    firings,
    windowed,
)

__all__ = [
    "AutoInterpConfig",
    "Chat",
    "ChatExplainer",
    "ChatJudge",
    "Chosen",
    "ContextExplainer",
    "EmbeddingJudge",
    "ExampleConfig",
    "Examples",
    "Explainer",
    "Explanation",
    "Firings",
    "HttpChat",
    "Interpreted",
    "Judge",
    "Ledger",
    "LocalChat",
    "Score",
    "Window",
    "WindowedText",
    "autointerp",
    "choose",
    "firings",
    "interpret",
    "score",
    "windowed",
]
