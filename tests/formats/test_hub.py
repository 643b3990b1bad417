"""SAEs on the hub, without a network: its cache is laid out here, and its client replaced."""

import importlib
from types import SimpleNamespace

import huggingface_hub
import huggingface_hub.constants
import pytest

from latent_assay.errors import FormatError, MissingExtra
from latent_assay.formats import describe, hub, load, read

from .foreign import gemma_scope, sae_lens, sparsify, weights

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPO = "google/gemma-scope-2b-pt-res"
INSIDE = "layer_20/width_16k/average_l0_71"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The hub's cache, empty, and the hub out of reach."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


def snapshot(cache, repo=REPO):
    folder = cache / f"models--{repo.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True, exist_ok=True)
    (folder / "refs" / "main").write_text(COMMIT)
    place = folder / "snapshots" / COMMIT
    place.mkdir(parents=True, exist_ok=True)
    return place


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a/b", ("a/b", None, "")),
        ("a/b/", ("a/b", None, "")),
        ("a/b/c d/e.npz", ("a/b", None, "c d/e.npz")),
        ("a-1/b_2.x@main/c", ("a-1/b_2.x", "main", "c")),
        ("a/b/..", None),
        ("a/b/../../etc", None),
        ("a/b/c/../d", None),
        ("a/b//c", None),
        ("a/b/*", None),
        ("a/b/[c]", None),
        ("a/b/c\\d", None),
        ("a/b/c\n", None),
        ("../b", None),
        ("./a/b", None),
        ("~/a/b", None),
        ("/a/b", None),
        ("a", None),
        ("a/.b", None),
        ("https://x/y", None),
    ],
)
def test_addresses(text, expected):
    found = hub.address(text)
    assert (found and (found.repo_id, found.revision, found.inside)) == expected


def test_from_the_cache_without_a_network(cache):
    gemma_scope(snapshot(cache) / INSIDE)
    (reading,) = read(f"{REPO}/{INSIDE}")
    assert (reading.model, reading.hook_point) == ("google/gemma-2-2b", "blocks.20.hook_resid_post")
    found = describe(f"{REPO}/{INSIDE}")
    assert (found["repository"], found["revision"]) == (REPO, COMMIT)
    assert load(f"{REPO}@main/{INSIDE}/params.npz").width == 6
    assert load(f"{REPO}@{COMMIT}/{INSIDE}").width == 6


def test_at_the_root_of_a_repository(cache):
    place = snapshot(cache, "someone/sae")
    place.rmdir()
    sae_lens(place, weights(), architecture="standard")
    assert load("someone/sae").width == 6


def test_what_is_not_in_the_cache(cache):
    with pytest.raises(
        FormatError,
        match=r"HF_HUB_OFFLINE=1 forbids to ask the hub\. Fetch it while online with: hf download "
        rf"{REPO} --include 'layer_1/\*'",
    ):
        load(f"{REPO}/layer_1")


def test_a_cache_that_holds_something_else(cache):
    sparsify(snapshot(cache, "a/b") / "layers.1")
    with pytest.raises(
        FormatError, match=r"is no SAE on the hub.*HF_HUB_OFFLINE=1 forbids.*layers"
    ):
        load("a/b/layers.2")


def test_a_folder_here_comes_first(cache, tmp_path):
    sae_lens(tmp_path / "a" / "b", weights(), architecture="standard")
    assert load("a/b").width == 6


def test_what_is_fetched(monkeypatch, tmp_path):
    """The files of one SAE and no others."""
    asked = {}

    def download(repo_id, *, revision, allow_patterns):
        asked.update(repo_id=repo_id, revision=revision, patterns=set(allow_patterns))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    sparsify(tmp_path / "layers.3")
    assert load("a/b@v1/layers.3").width == 6
    assert (asked["repo_id"], asked["revision"]) == ("a/b", "v1")
    assert {"layers.3/cfg.json", "layers.3/sae.safetensors", "config.json"} <= asked["patterns"]
    assert "layers.3/member_*/cfg.json" in asked["patterns"]
    assert all(p.startswith("layers.3/") for p in asked["patterns"] - {"config.json"})


def test_saes_elsewhere_in_the_repository_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(tmp_path))
    files = ["layers.1/cfg.json", "layers.1/sae.safetensors", "layers.2/cfg.json", "README.md"]
    listing = SimpleNamespace(list_repo_files=lambda *_, **__: files)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: listing)
    with pytest.raises(FormatError, match=r"SAEs there: layers\.1, layers\.2"):
        load("a/b")

    def unreachable(*_: object, **__: object) -> list[str]:
        raise OSError

    listing.list_repo_files = unreachable
    with pytest.raises(FormatError, match="Look at the repository for the folder"):
        load("a/b")


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("GatedRepoError", "accept its licence on the hub, then log in with: hf auth login"),
        ("RepositoryNotFoundError", "check owner and name"),
        ("RevisionNotFoundError", "check the branch"),
        ("LocalEntryNotFoundError", "it is out of reach. Fetch it while online"),
        ("ConnectionError", "check the network, or give a folder on this machine"),
    ],
)
def test_what_the_hub_may_answer(name, advice, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)

    def fail(*_: object, **__: object) -> str:
        raise type(name, (Exception,), {})("no\nway")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(FormatError, match=f"'a/b' is nothing on this machine.*{advice}"):
        load("a/b")


def test_without_the_client(monkeypatch):
    real = importlib.import_module

    def missing(name, package=None):
        if name.startswith("huggingface_hub"):
            raise ModuleNotFoundError(name=name)
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(
        MissingExtra, match=r"'a/b' is nothing on this machine; fetching it.*\[hub\]"
    ):
        load("a/b")
