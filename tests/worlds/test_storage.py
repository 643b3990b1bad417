import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from latent_assay.errors import FormatError, StorageError
from latent_assay.worlds import (
    ChildSwitchesParent,
    Constant,
    Correlation,
    Firing,
    Hierarchy,
    Independent,
    Linear,
    Magnitudes,
    Normal,
    World,
    directions,
)

from .sampling import seeded
from .test_stream import FIRINGS, MAGNITUDES

COUPLED = Correlation.full(torch.tensor([[1.0, 0.5, 0.1], [0.5, 1.0, 0.2], [0.1, 0.2, 1.0]]))
ALL_FIRINGS = [
    *FIRINGS,
    Hierarchy(parents=(None, 0, 0), rates=(0.5, 0.4, 0.5), correlation=COUPLED),
    ChildSwitchesParent(parents=(2, 2, None), rates=(0.1, 1 / 3, 0.7), correlation=COUPLED),
]
ALL_MAGNITUDES = [*MAGNITUDES, Linear(first=3.0, last=1.0), Normal(mean=(1.0, 2.0, 3.0), sd=1 / 3)]


def world(firing: Firing = FIRINGS[0], magnitudes: Magnitudes | None = None, **changes) -> World:
    parts = {"directions": directions.orthonormal(3, 7, seeded(0)), "bias": torch.randn(7)}
    return World(firing=firing, magnitudes=magnitudes or Constant(), **{**parts, **changes})


def assert_same_samples(left: World, right: World) -> None:
    one, other = left.sample(300, seeded(5)), right.sample(300, seeded(5))
    assert torch.equal(one.x, other.x)
    assert torch.equal(one.firing, other.firing)
    assert torch.equal(one.magnitudes, other.magnitudes)


@pytest.mark.parametrize("firing", ALL_FIRINGS, ids=lambda law: type(law).__name__)
def test_every_firing_law_returns_bit_for_bit(firing, tmp_path):
    saved = world(firing)
    saved.save(tmp_path / "world")
    loaded = World.load(tmp_path / "world")
    assert_same_samples(saved, loaded)
    assert loaded.parents == saved.parents
    assert loaded.firing.description == saved.firing.description


@pytest.mark.parametrize("magnitudes", ALL_MAGNITUDES, ids=lambda law: type(law).__name__)
def test_every_magnitude_law_returns_bit_for_bit(magnitudes, tmp_path):
    saved = world(magnitudes=magnitudes)
    saved.save(tmp_path / "world")
    loaded = World.load(tmp_path / "world")
    assert_same_samples(saved, loaded)
    assert loaded.magnitudes == magnitudes


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_tensors_return_bit_for_bit(dtype, tmp_path):
    saved = world().to(dtype=dtype)
    saved.save(tmp_path / "world")
    loaded = World.load(tmp_path / "world")
    assert loaded.dtype == dtype
    assert torch.equal(loaded.directions, saved.directions)
    assert torch.equal(loaded.bias, saved.bias)


def test_no_bias_returns_as_none(tmp_path):
    world(bias=None).save(tmp_path / "world")
    assert World.load(tmp_path / "world").bias is None


def test_saving_again_replaces(tmp_path):
    world().save(tmp_path)
    other = world(Independent(rates=(0.9, 0.9, 0.9)))
    other.save(tmp_path)
    assert_same_samples(World.load(tmp_path), other)
    assert {path.name for path in tmp_path.iterdir()} == {"world.json", "world.safetensors"}


def test_saving_never_replaces_something_else(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(StorageError, match="other content, which saving a world would replace"):
        world().save(tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_failed_save_leaves_what_was_there(tmp_path, monkeypatch):
    saved = world()
    saved.save(tmp_path / "world")

    def full_disk(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("latent_assay.worlds.storage.write_tensors", full_disk)
    with pytest.raises(StorageError, match="No space left"):
        world(Independent(rates=(0.9, 0.9, 0.9))).save(tmp_path / "world")
    assert_same_samples(World.load(tmp_path / "world"), saved)
    assert [path.name for path in tmp_path.iterdir()] == ["world"]


def test_descriptions_are_json():
    for law in (*ALL_FIRINGS, *ALL_MAGNITUDES):
        assert json.loads(json.dumps(law.description)) == law.description


# --- files that are not what they should be ---------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    law = Hierarchy(parents=(None, 0, 0), rates=(0.5, 0.4, 0.5), correlation=COUPLED)
    world(law, Normal(sd=0.1)).save(tmp_path / "world")
    return tmp_path / "world"


def test_no_world_at_all(tmp_path):
    with pytest.raises(FormatError, match=r"holds no world\.json, so it is not a saved world"):
        World.load(tmp_path / "nowhere")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"{}\x00"])
def test_description_that_is_no_json(folder, content):
    (folder / "world.json").write_bytes(content)
    with pytest.raises(FormatError, match="cannot be read as JSON"):
        World.load(folder)


def test_missing_tensors(folder):
    (folder / "world.safetensors").unlink()
    with pytest.raises(FormatError, match=r"has a world\.json but no world\.safetensors"):
        World.load(folder)


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_truncated_tensors(folder, keep):
    path = folder / "world.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(FormatError, match="is not a safetensors file"):
        World.load(folder)


def changed(*path, to):
    """A change of one value, or with `to` left out the removal of one."""

    def change(description):
        place = description
        for step in path[:-1]:
            place = place[step]
        if to is ...:
            del place[path[-1]]
        else:
            place[path[-1]] = to

    return change


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed("format", to="something"), "`format` should be 'latent_assay.world'"),
        (changed("version", to=2), "has version 2, but this Latent Assay reads version 1"),
        (changed("firing", to=...), "does not describe `firing`"),
        (changed("firing", "type", to="Heirarchy"), "unknown type 'Heirarchy'.*`Hierarchy`"),
        (changed("firing", "type", to=["os", "system"]), "unknown type"),
        (changed("firing", to={"type": "Normal", "mean": 1.0, "sd": 0.1}), "no law of that kind"),
        (changed("firing", to=3), "is a int, which is no law"),
        (changed("firing", "rates", to=...), "should have the fields"),
        (changed("firing", "colour", to="red"), "should have the fields"),
        (changed("firing", "rates", to=[0.5, 1.4, 0.5]), r"does not describe a Hierarchy.*1\.4"),
        (changed("firing", "rates", to="high"), "does not describe a Hierarchy"),
        (changed("firing", "rates", to=None), "does not describe a Hierarchy"),
        (changed("firing", "parents", to=[1, 0, None]), "descends from itself"),
        (changed("firing", "correlation", to=7), "does not describe a Hierarchy"),
        (
            changed("firing", "correlation", "factor", to={"tensor": "x"}),
            "tensor 'x' that the file",
        ),
        (changed("firing", "correlation", "factor", to=3), "does not describe a Correlation"),
        (changed("firing", "rates", to=[0.5, 0.5]), "does not describe a Hierarchy"),
        (changed("magnitudes", "sd", to=-1.0), "does not describe a Normal.*-1"),
        (changed("magnitudes", "sd", to={"a": 1}), "unknown type None"),
        (changed("n_features", to=4), "describes 4 features in 7 dimensions"),
        (
            changed("firing", to={"type": "Independent", "rates": [0.5]}),
            "3 directions but the firing law is for 1",
        ),
    ],
)
def test_description_that_was_changed(folder, change, message):
    path = folder / "world.json"
    description = json.loads(path.read_text())
    change(description)
    path.write_text(json.dumps(description))
    with pytest.raises(FormatError, match=message):
        World.load(folder)


@pytest.mark.parametrize("content", ["[]", "3", "null"])
def test_description_that_is_no_object(folder, content):
    (folder / "world.json").write_text(content)
    with pytest.raises(FormatError, match="not the description of a world"):
        World.load(folder)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("directions"), "does not hold `directions`"),
        (lambda t: t.pop("bias"), "does not hold `bias`"),
        (lambda t: t.pop("firing.correlation.factor"), "that the file does not hold"),
        (lambda t: t.update(directions=torch.ones(3, 6)), r"shape \(3, 6\)"),
        (lambda t: t.update(directions=torch.full((3, 7), torch.nan)), "NaN or infinity"),
        (lambda t: t.update(bias=torch.ones(2)), r"`bias` has shape \(2,\)"),
        (
            lambda t: t.update({"firing.correlation.factor": 2 * t["firing.correlation.factor"]}),
            "ones on its diagonal",
        ),
        (
            lambda t: t.update({"firing.correlation.factor": torch.ones(2, 3)}),
            "does not describe a Correlation",
        ),
    ],
)
def test_tensors_that_were_changed(folder, change, message):
    tensors = load_file(folder / "world.safetensors")
    change(tensors)
    save_file(tensors, folder / "world.safetensors")
    with pytest.raises(FormatError, match=message):
        World.load(folder)
