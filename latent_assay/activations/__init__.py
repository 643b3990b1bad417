"""From a language model and text to a stream of activations.

    text ──► contexts ──► LanguageModel.capture ──► harvest ──► ActivationStore ──► stream
                                               └──► LiveStream: the same without a disk

Importing this package imports neither transformers nor datasets; they load on first use.
"""

from latent_assay.activations.harvest import harvest
from latent_assay.activations.language_model import LanguageModel
from latent_assay.activations.live import LiveStream
from latent_assay.activations.live_config import LiveConfig
from latent_assay.activations.loading import bundled_minilm
from latent_assay.activations.mixing import Mixing, mixing
from latent_assay.activations.plan import Plan, Share, plan_harvest, plan_stream
from latent_assay.activations.store import ActivationStore
from latent_assay.activations.stream import ActivationStream
from latent_assay.activations.text import TextSource, documents, text_source
from latent_assay.activations.verification import HookCheck

__all__ = [
    "ActivationStore",
    "ActivationStream",
    "HookCheck",
    "LanguageModel",
    "LiveConfig",
    "LiveStream",
    "Mixing",
    "Plan",
    "Share",
    "TextSource",
    "bundled_minilm",
    "documents",
    "harvest",
    "mixing",
    "plan_harvest",
    "plan_stream",
    "text_source",
]
