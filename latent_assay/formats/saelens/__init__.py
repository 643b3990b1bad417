"""The SAELens layout: `cfg.json` and `sae_weights.safetensors`.

Weights there are `W_enc [d_in, d_sae]` and `W_dec [d_sae, d_in]`; they are transposed here and
nowhere else. What the layout has no word for (ties, frozen biases) stands under
`metadata.latent_assay`, which other tools ignore.

| sparsifier | written as | further tensors or keys |
|---|---|---|
| ReLU | `standard` | |
| JumpReLU | `jumprelu` | `threshold [d_sae]` |
| BatchTopK | `jumprelu` | `threshold`, the running one |
| TopK | `topk` | `k`, `rescale_acts_by_decoder_norm: false` |
| Identity | `abstopk` | `k`, equal to the width: every latent fires, with its sign |
"""

from latent_assay.formats.saelens.config import CONFIG_FILE, WEIGHTS_FILE
from latent_assay.formats.saelens.reader import read
from latent_assay.formats.saelens.writer import save, write

__all__ = ["CONFIG_FILE", "WEIGHTS_FILE", "read", "save", "write"]
