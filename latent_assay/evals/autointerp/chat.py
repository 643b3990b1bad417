"""Language models that are asked questions: over HTTP, or on this machine."""

import json
import os
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from latent_assay.activations.language_model import LanguageModel
from latent_assay.errors import ConfigError, EndpointError

_RETRIED = {408, 409, 425, 429, 500, 502, 503, 504}


@runtime_checkable
class Chat(Protocol):
    """Anything that answers a question."""

    @property
    def name(self) -> str:
        """What results call it."""

    def ask(self, system: str, question: str, *, max_tokens: int) -> str:
        """Its answer.

        **Raises:** `EndpointError` if there is none.
        """


@dataclass(frozen=True, kw_only=True)
class HttpChat:
    """A model behind an OpenAI-compatible endpoint, as vLLM, llama.cpp and Ollama offer it.

    Questions go to `{base_url}/chat/completions`, at temperature 0. The key is read from an
    environment variable when it is needed, and neither stored nor shown.
    """

    base_url: str
    """Beginning of the address, as `http://localhost:8000/v1`."""
    model: str
    """The model's name there."""
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable with the key; no key is sent if it is not set."""
    timeout: float = 120.0
    """Seconds to wait for an answer."""
    attempts: int = 4
    """How often a question is asked when the endpoint is busy or unreachable."""
    pause: float = 1.0
    """Seconds before the second attempt; doubled each time."""

    def __post_init__(self) -> None:
        if not self.base_url.startswith(("http://", "https://")) or self.attempts < 1:
            raise ConfigError(
                f"base_url is {self.base_url!r}; expected an address such as "
                "http://localhost:8000/v1, and at least one attempt."
            )

    @property
    def name(self) -> str:
        """The model's name; the address stays out of results."""
        return self.model

    def ask(self, system: str, question: str, *, max_tokens: int) -> str:
        """The endpoint's answer.

        **Raises:** `EndpointError` if it refuses, stays unreachable, or answers in another form.
        """
        body = {
            "model": self.model,
            "messages": [
                {"role": "system", "content": system},
                {"role": "user", "content": question},
            ],
            "temperature": 0,
            "max_tokens": max_tokens,
        }
        address = self.base_url.rstrip("/") + "/chat/completions"
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(self.key_variable):
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(address, json.dumps(body).encode(), headers)
        answer = self._post(request, address)
        try:
            content = json.loads(answer)["choices"][0]["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise EndpointError(
                f"{address} answered in a form that is not OpenAI's: expected "
                f"choices[0].message.content, received {answer[:200]!r}. Is it a chat endpoint?"
            ) from error
        return content if isinstance(content, str) else ""

    def _post(self, request: urllib.request.Request, address: str) -> bytes:
        reason = ""
        for attempt in range(self.attempts):
            if attempt:
                time.sleep(self.pause * 2 ** (attempt - 1))
            try:
                with urllib.request.urlopen(request, timeout=self.timeout) as response:
                    found: bytes = response.read()
                    return found
            except urllib.error.HTTPError as error:
                told = error.read()[:200].decode("utf-8", "replace")
                reason = f"it answered {error.code} {error.reason}: {told}"
                if error.code not in _RETRIED:
                    break
            except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
                reason = f"it could not be reached: {getattr(error, 'reason', error)}"
        raise EndpointError(
            f"{address} gave no answer; {reason}. Check the address, the model's name and the key "
            f"in {self.key_variable}. What was judged so far is kept; the same command goes on."
        )


class LocalChat:
    """A causal language model on this machine, answering greedily.

    Its chat template is used if it has one; else system and question follow each other as text.
    """

    def __init__(self, model: LanguageModel) -> None:
        """Ask a model that is in memory.

        **Arguments:**
        - `model`: causal.

        **Raises:** `ConfigError` for an encoder.
        """
        if not model.is_causal:
            raise ConfigError(
                f"{model.name} is an encoder and cannot answer questions; give a causal language "
                "model, or judge by embeddings, which needs only an encoder."
            )
        self.model = model

    @classmethod
    def load(cls, name_or_path: str | Path, *, device: str = "cpu") -> "LocalChat":
        """Load it from a folder or the hub, as `LanguageModel.load`."""
        return cls(LanguageModel.load(name_or_path, device=device))

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model.name

    @torch.no_grad()
    def ask(self, system: str, question: str, *, max_tokens: int) -> str:
        """The model's answer; a question that is too long loses its beginning."""
        tokenizer = self.model.tokenizer
        if getattr(tokenizer, "chat_template", None):
            text = tokenizer.apply_chat_template(
                [{"role": "system", "content": system}, {"role": "user", "content": question}],
                tokenize=False,
                add_generation_prompt=True,
            )
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        else:
            ids = tokenizer(f"{system}\n\n{question}\n\nAnswer:")["input_ids"]
        limit = self.model.max_context_size
        if limit is not None:
            ids = ids[-max(1, limit - max_tokens) :]
        tokens = torch.tensor([ids], device=self.model.device)
        network: Any = self.model.model
        end = getattr(tokenizer, "eos_token_id", None)
        padding = getattr(tokenizer, "pad_token_id", None)
        written = network.generate(
            input_ids=tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=max_tokens,
            do_sample=False,
            pad_token_id=end if padding is None else padding,
        )
        answer: str = tokenizer.decode(written[0, len(ids) :], skip_special_tokens=True)
        return answer
