"""Random models of a few thousand weights, saved and loaded by the real code."""

from collections.abc import Callable
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

SENTENCES = [
    "The quick brown fox jumps over the lazy dog.",
    "A sparse autoencoder has latents; a latent fires or it does not.",
    "Water boils at a hundred degrees where the air is thick.",
    "def area(radius): return 3.14159 * radius ** 2",
    "She sells sea shells on the sea shore, and the shells are surely sea shells.",
]
SIZE = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "vocab_size": 320}


def text(n_documents: int) -> list[str]:
    """Documents of different lengths."""
    return [" ".join(SENTENCES[i % 5 :] * (1 + i % 3)) + f" {i}." for i in range(n_documents)]


def save_tokenizer(folder: Path, *, bos: bool) -> None:
    """A byte-level BPE tokenizer, with or without a BOS that it adds itself."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<s>", "<pad>"]
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE["vocab_size"],
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
        )
    names = {"bos_token": "<s>", "eos_token": "<|endoftext|>", "pad_token": "<pad>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)


def save(folder: Path, family: str) -> Path:
    """A randomly initialised model of a family with its tokenizer; returns the folder."""
    import transformers

    config, head = _CONFIGS[family]()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = getattr(transformers, head)(config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:  # far from zero, so that every part of a block matters
                    parameter.normal_(0.0, 0.3)
                else:
                    parameter.add_(torch.randn_like(parameter), alpha=0.1)
    model.save_pretrained(folder)
    save_tokenizer(folder, bos=family in ("llama", "gemma2"))
    return folder


def _gpt2():
    from transformers import GPT2Config

    ids = {"bos_token_id": 0, "eos_token_id": 0}
    return GPT2Config(
        n_embd=16, n_layer=3, n_head=2, vocab_size=320, n_positions=64, **ids
    ), "GPT2LMHeadModel"


def _neox(parallel: bool = True):
    from transformers import GPTNeoXConfig

    settings = {"intermediate_size": 32, "use_parallel_residual": parallel}
    ids = {"bos_token_id": 0, "eos_token_id": 0}
    config = GPTNeoXConfig(**SIZE, **settings, **ids, max_position_embeddings=64)
    return config, "GPTNeoXForCausalLM"


def _llama():
    from transformers import LlamaConfig

    settings = {"intermediate_size": 32, "num_key_value_heads": 1, "max_position_embeddings": 64}
    return LlamaConfig(**SIZE, **settings, bos_token_id=1, eos_token_id=0), "LlamaForCausalLM"


def _gemma2():
    from transformers import Gemma2Config

    settings = {"intermediate_size": 32, "num_key_value_heads": 1, "head_dim": 8}
    ids = {"bos_token_id": 1, "eos_token_id": 0, "pad_token_id": 2}
    config = Gemma2Config(**SIZE, **settings, **ids, max_position_embeddings=64)
    return config, "Gemma2ForCausalLM"


def _roberta():
    from transformers import RobertaConfig

    ids = {"bos_token_id": 1, "eos_token_id": 0, "pad_token_id": 2}
    config = RobertaConfig(**SIZE, **ids, intermediate_size=32, max_position_embeddings=67)
    return config, "RobertaForMaskedLM"


def _distilbert():
    from transformers import DistilBertConfig

    config = DistilBertConfig(
        dim=16, n_layers=3, n_heads=2, hidden_dim=32, vocab_size=320, max_position_embeddings=64
    )
    return config, "DistilBertModel"


def _opt():
    from transformers import OPTConfig

    ids = {"bos_token_id": 1, "eos_token_id": 0, "pad_token_id": 2}
    settings = {"ffn_dim": 32, "word_embed_proj_dim": 16, "max_position_embeddings": 64}
    return OPTConfig(**SIZE, **settings, **ids), "OPTForCausalLM"


def _granite():
    from transformers import GraniteConfig

    ids = {"bos_token_id": 1, "eos_token_id": 0, "pad_token_id": 2}
    settings = {"intermediate_size": 32, "residual_multiplier": 0.5}
    return GraniteConfig(**SIZE, **ids, **settings), "GraniteForCausalLM"


def _albert():
    from transformers import AlbertConfig

    ids = {"bos_token_id": 1, "eos_token_id": 0, "pad_token_id": 2}
    return AlbertConfig(**SIZE, **ids, embedding_size=16, intermediate_size=32), "AlbertModel"


_CONFIGS: dict[str, Callable] = {
    "gpt2": _gpt2,
    "neox": _neox,
    "neox one after the other": lambda: _neox(parallel=False),
    "llama": _llama,
    "gemma2": _gemma2,
    "roberta": _roberta,
    "distilbert": _distilbert,
    "opt": _opt,
    "granite": _granite,
    "albert": _albert,
}
