"""Thousands of damaged files: each is refused as what it is, or is an SAE that works.

Values of configurations are replaced by odd ones, and bytes of every kind of file are flipped, cut,
inserted and repeated, half of the time where sizes and names stand. The mutations are seeded. No
case may raise anything but our error, take long, or touch a file outside of the target's folder.
"""

import copy
import json
import math
import random
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from latent_assay.errors import AssayError, FormatError
from latent_assay.formats import convert, load, save

from . import foreign
from .foreign import D, X, dictionary_learning, gated, gemma_scope, sae_lens, sparsify, weights
from .test_saelens import make


def compressed(folder: Path) -> Path:
    t = {name: each.numpy() for name, each in weights(threshold=foreign.draw(foreign.W)).items()}
    folder.mkdir()
    np.savez_compressed(folder / "params.npz", **t)
    return folder


def saved(kind: str, **options: object) -> Callable[[Path], Path]:
    def maker(folder: Path) -> Path:
        save(make(kind, **options), folder, {"hook_name": "h", "model_name": "m"})
        return folder

    return maker


def converted(folder: Path) -> Path:
    convert(gemma_scope(folder.with_name("source"))[0], folder)
    return folder


CHECKPOINT = {"architecture": "batchtopk", "k": 2.0, "rescale_acts_by_decoder_norm": True}
SCALED = {"architecture": "standard", "normalize_activations": "expected_average_only_in"}


def scaled(folder: Path) -> Path:
    sae_lens(folder, weights(), **SCALED)
    (folder / "activation_scaler.json").write_text('{"scaling_factor": 0.5}')
    return folder


MAKERS: dict[str, Callable[[Path], Path]] = {
    "relu": saved("relu"),
    "identity": saved("identity", tied=True),
    "jumprelu": saved("jumprelu"),
    "topk": saved("topk"),
    "gated": lambda folder: gated(folder)[0],
    "abstopk": lambda folder: sae_lens(folder, weights(), architecture="abstopk", k=2),
    "checkpoint": lambda folder: sae_lens(
        folder, weights(topk_threshold=torch.tensor(0.5)), **CHECKPOINT
    ),
    "scaled": scaled,
    "converted": converted,
    "sparsify": lambda folder: sparsify(folder)[0],
    "gemma": lambda folder: gemma_scope(folder)[0],
    "gemma compressed": compressed,
    "ReLU dictionary": lambda folder: dictionary_learning(folder, "AutoEncoder")[0],
    "TopK dictionary": lambda folder: dictionary_learning(folder, "AutoEncoderTopK")[0],
    "matryoshka dictionary": lambda f: dictionary_learning(f, "MatryoshkaBatchTopKSAE")[0],
}

# (maker, file, number of cases, bytes at the beginning in which half of the damage falls)
BYTES = [
    *((kind, "cfg.json", 24, 200) for kind in ("relu", "jumprelu", "topk", "gated", "sparsify")),
    *(
        (kind, "sae_weights.safetensors", 60, 350)
        for kind in ("relu", "identity", "jumprelu", "topk", "gated", "checkpoint")
    ),
    ("scaled", "activation_scaler.json", 40, 40),
    ("converted", "golden.safetensors", 60, 250),
    ("sparsify", "sae.safetensors", 100, 350),
    ("gemma", "params.npz", 320, 400),
    ("gemma compressed", "params.npz", 160, 400),
    ("ReLU dictionary", "ae.pt", 160, 900),
    ("TopK dictionary", "ae.pt", 160, 900),
    ("matryoshka dictionary", "config.json", 60, 200),
]
VALUES = [
    *(
        (kind, "cfg.json", 70)
        for kind in ("relu", "identity", "jumprelu", "topk", "gated", "abstopk", "checkpoint")
    ),
    ("scaled", "cfg.json", 40),
    ("sparsify", "cfg.json", 120),
    ("TopK dictionary", "config.json", 80),
]

ODD = [
    None,
    True,
    False,
    0,
    -1,
    1,
    3,
    6,
    4.0,
    1.5,
    10**400,
    1e308,
    math.nan,
    math.inf,
    "",
    "relu",
    "topk",
    "groupmax",
    "jumprelu",
    "abstopk",
    "none",
    "hook_z",
    "covariance_whitening",
    "float16",
    "torch.bfloat16",
    "6.0.0",
    "AutoEncoder",
    "GatedAutoEncoder",
    "../../../etc/passwd",
    "\x1b[2J\ud800",
    [],
    [1],
    ["b_enc"],
    [[]],
    {},
    {"k": 2},
    {"a": {}},
]
KEYS = {
    "cfg.json": [
        "architecture",
        "d_in",
        "d_sae",
        "dtype",
        "k",
        "normalize_activations",
        "reshape_activations",
        "apply_b_dec_to_input",
        "rescale_acts_by_decoder_norm",
        "finetuning_scaling_factor",
        "activation_fn",
        "activation_fn_kwargs",
        "activation",
        "num_latents",
        "transcode",
        "skip_connection",
        "hook_name",
        "metadata",
    ],
    "config.json": ["trainer"],
    "metadata": ["latent_assay", "sae_lens_version", "model_name", "hook_name"],
    "latent_assay": ["tied", "frozen", "decoder_norm", "sparsifier"],
    "sparsifier": ["bandwidth"],
    "trainer": ["dict_class", "k", "layer", "lm_name", "submodule_name"],
}


def test_there_are_enough_of_them():
    assert sum(each[2] for each in BYTES) + sum(each[2] for each in VALUES) >= 2000


def outcome(source: Path) -> str:
    """ "refused", or "works" for an SAE that encodes and decodes."""
    start = time.process_time()
    message = None
    try:
        sae = load(source)
    except FormatError as error:
        message = str(error)
    assert time.process_time() - start < 3
    if message is not None:
        assert str(source) in message
        assert len(message) < 2000
        return "refused"
    x = X[:3].to(sae.W_enc.dtype)
    with torch.no_grad():
        z, x_hat = sae.encode(x), sae(x)
    assert z.shape == (1, 3, sae.width)
    assert x_hat.shape == (1, 3, D)
    assert all(bool(p.isfinite().all()) for p in sae.parameters())
    return "works"


def tree(folder: Path) -> list[tuple[str, int, int]]:
    return [
        (str(path), path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if "target" not in path.relative_to(folder).parts[:1] and path != folder
    ]


def tried(source: Path, number: int, root: Path) -> str:
    """The outcome of loading, and for some also of converting."""
    seen = outcome(source)
    if number % 10 == 0:
        try:
            convert(source, root / "target")
        except AssayError:
            pass
        else:
            assert seen == "works"
            assert outcome(root / "target") == "works"
    return seen


def check(root: Path, source: Path, path: Path, contents: list[bytes]) -> None:
    """Try every content of one file; afterwards the whole again."""
    original = path.read_bytes()
    seen = []
    for number, content in enumerate(contents):
        path.write_bytes(content)
        before = tree(root) if number % 10 == 0 else None
        seen.append(tried(source, number, root))
        assert before is None or tree(root) == before
    assert "refused" in seen
    path.write_bytes(original)
    assert outcome(source) == "works"


def changed(config: dict, name: str, rng: random.Random) -> dict:
    config = copy.deepcopy(config)
    for _ in range(rng.choice([1, 1, 2, 3])):
        where, keys = config, KEYS[name]
        for inner in ("trainer", "metadata", "latent_assay", "sparsifier"):
            if isinstance(where.get(inner), dict) and rng.random() < 0.5:
                where, keys = where[inner], KEYS[inner]
        key = rng.choice(keys)
        if rng.random() < 0.15:
            where.pop(key, None)
        else:
            where[key] = copy.deepcopy(rng.choice(ODD))
    return config


@pytest.mark.parametrize(("kind", "name", "cases"), VALUES)
def test_configurations_with_other_values(kind, name, cases, tmp_path):
    source = MAKERS[kind](tmp_path / "sae")
    config = json.loads((source / name).read_text())
    rng = random.Random(f"{kind} values")
    contents = [json.dumps(changed(config, name, rng)).encode() for _ in range(cases)]
    check(tmp_path, source, source / name, contents)


def damage(content: bytes, rng: random.Random, head: int) -> bytes:
    """Flip, cut, insert or repeat; half of the time at either end, where sizes and names stand."""
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 6])):
        span = min(head, len(data))
        start = rng.choice([0, 0, len(data) - span, None])
        place = rng.randrange(len(data)) if start is None else start + rng.randrange(span)
        match rng.randrange(6):
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
            case 5:
                data[place : place + 4] = rng.choice([b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff"])
        if not data:
            return b""
    return bytes(data)


@pytest.mark.parametrize(("kind", "name", "cases", "head"), BYTES)
def test_files_with_other_bytes(kind, name, cases, head, tmp_path):
    source = MAKERS[kind](tmp_path / "sae")
    original = (source / name).read_bytes()
    rng = random.Random(f"{kind} {name}")
    contents = [damage(original, rng, head) for _ in range(cases)]
    check(tmp_path, source, source / name, contents)


def rewritten(path: Path, rng: random.Random, head: int) -> bytes:
    """An archive whose checksums are right and whose members are damaged."""
    with zipfile.ZipFile(path) as old:
        members = {info.filename: old.read(info) for info in old.infolist()}
    name = rng.choice([each for each in members if each.endswith((".npy", ".pkl"))])
    members[name] = damage(members[name], rng, head)
    target = path.with_name("rewritten")
    with zipfile.ZipFile(target, "w") as new:
        for each, content in members.items():
            new.writestr(each, content)
    content = target.read_bytes()
    target.unlink()
    return content


@pytest.mark.parametrize(
    ("kind", "name", "head"),
    [
        ("gemma", "params.npz", 128),
        ("ReLU dictionary", "ae.pt", 700),
        ("TopK dictionary", "ae.pt", 900),
    ],
)
def test_archives_with_damage_that_checksums_do_not_show(kind, name, head, tmp_path):
    source = MAKERS[kind](tmp_path / "sae")
    rng = random.Random(f"{kind} inside")
    contents = [rewritten(source / name, rng, head) for _ in range(200)]
    check(tmp_path, source, source / name, contents)
