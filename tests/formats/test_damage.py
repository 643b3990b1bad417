"""Hundreds of damaged files: each is refused as what it is, or is an SAE that works."""

import copy
import json
import math
import random
from pathlib import Path

import jaxtyping
import pytest
import torch

from latent_assay.errors import FormatError
from latent_assay.formats import load, save

from .test_saelens import KINDS, D, make

ODD = [
    None,
    True,
    False,
    0,
    -1,
    1,
    3,
    4.0,
    1.5,
    10**400,
    1e308,
    math.nan,
    math.inf,
    "",
    "relu",
    "topk",
    "jumprelu",
    "none",
    "float16",
    "torch.bfloat16",
    [],
    [1],
    ["b_enc"],
    [[]],
    {},
    {"a": {}},
]
KEYS = [
    "architecture",
    "d_in",
    "d_sae",
    "dtype",
    "k",
    "normalize_activations",
    "apply_b_dec_to_input",
    "rescale_acts_by_decoder_norm",
    "activation_fn",
    "metadata",
]
OWN = ["tied", "frozen", "decoder_norm", "sparsifier"]


@pytest.fixture(autouse=True)
def as_a_user(monkeypatch):
    """Without the shape checker, whose errors would hide ours."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture(params=sorted(set(KINDS) - {"batchtopk"}))
def saved(request, tmp_path) -> Path:
    save(make(request.param, tied=request.param == "identity"), tmp_path / "sae")
    return tmp_path / "sae"


def outcome(folder: Path) -> str:
    """ "refused", or "works" for an SAE that encodes and decodes finite numbers."""
    try:
        sae = load(folder)
    except FormatError as error:
        return "refused" if str(folder) in str(error) else f"does not name the place: {error}"
    x = torch.randn(3, D, generator=torch.Generator().manual_seed(0)).to(sae.W_enc.dtype)
    with torch.no_grad():
        z, x_hat = sae.encode(x), sae(x)
    assert z.shape == (1, 3, sae.width)
    assert x_hat.shape == (1, 3, D)
    assert all(bool(p.isfinite().all()) for p in sae.parameters())
    return "works"


def mutate(config: dict, rng: random.Random) -> None:
    for _ in range(rng.choice([1, 1, 2, 3])):
        where, keys = config, KEYS
        if rng.random() < 0.4 and isinstance(config.get("metadata"), dict):
            own = config["metadata"].get("latent_assay")
            if isinstance(own, dict):
                where, keys = own, OWN
                if rng.random() < 0.3 and isinstance(own.get("sparsifier"), dict):
                    where, keys = own["sparsifier"], ["bandwidth"]
        key = rng.choice(keys)
        if rng.random() < 0.15:
            where.pop(key, None)
        else:
            where[key] = copy.deepcopy(rng.choice(ODD))


def test_configs_with_other_values(saved):
    rng = random.Random(0)
    original = json.loads((saved / "cfg.json").read_text())
    seen = []
    for _ in range(120):
        config = copy.deepcopy(original)
        mutate(config, rng)
        (saved / "cfg.json").write_text(json.dumps(config))
        seen.append(outcome(saved))
    assert {"refused", "works"} == set(seen)


def damage(content: bytes, rng: random.Random, head: int) -> bytes:
    """Flip, cut, insert or repeat; half of the time in the first bytes, where sizes stand."""
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 4])):
        end = len(data) if rng.random() < 0.5 else min(head, len(data))
        place = rng.randrange(max(end, 1))
        match rng.randrange(5):
            case 0:
                data[place] ^= 1 << rng.randrange(8)
            case 1:
                data[place] = rng.randrange(256)
            case 2:
                del data[place:]
            case 3:
                data[place:place] = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 9)))
            case 4:
                data += data[: rng.randrange(1, 30)]
        if not data:
            return b""
    return bytes(data)


@pytest.mark.parametrize(("name", "head"), [("cfg.json", 200), ("sae_weights.safetensors", 300)])
def test_files_with_other_bytes(saved, name, head):
    rng = random.Random(1)
    original = (saved / name).read_bytes()
    seen = []
    for _ in range(80):
        (saved / name).write_bytes(damage(original, rng, head))
        seen.append(outcome(saved))
    assert set(seen) in ({"refused"}, {"refused", "works"})
    (saved / name).write_bytes(original)
    assert outcome(saved) == "works"
