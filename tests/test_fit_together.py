"""SAEs trained on one stream, step by step, end as each of them would alone."""

import pytest
import torch

from latent_assay import TrainingConfig, fit, recipes
from latent_assay.errors import ConfigError, DataError, TrainingDiverged
from latent_assay.training import fit_together

D_IN = 6


class Stream:
    """Batches of two places, resumable; counts how often it is read."""

    def __init__(self):
        self.number = 0
        self.read = 0

    def __iter__(self):
        return self

    def __next__(self):
        generator = torch.Generator().manual_seed(self.number)
        self.number += 1
        self.read += 1
        return {
            "a": torch.randn(32, D_IN, generator=generator),
            "b": torch.randn(32, D_IN + 2, generator=generator),
        }

    def state_dict(self):
        return {"number": self.number}

    def load_state_dict(self, state):
        self.number = state["number"]

    def alone(self, key):
        while True:
            yield next(self)[key]


def trainees(steps=12):
    made = {
        "TopK": recipes.topk(d_in=D_IN, width=8, k=2, lr=1e-3, seeds=[0, 1], dead_after=100),
        "ReLU": recipes.relu_l1(d_in=D_IN, width=5, l1=0.1, lr=1e-3),
        "BatchTopK": recipes.batchtopk(d_in=D_IN + 2, width=7, k=2, lr=1e-3),
    }
    common = TrainingConfig(steps=steps, log_every=4, checkpoint_every=5)
    return {
        name: recipe._replace(
            config=TrainingConfig(
                **{
                    **vars(recipe.config),
                    "steps": common.steps,
                    "log_every": common.log_every,
                    "checkpoint_every": common.checkpoint_every,
                }
            )
        )
        for name, recipe in made.items()
    }


READS = {"TopK": "a", "ReLU": "a", "BatchTopK": "b"}


def weights(found):
    return {
        f"{name}.{key}": value.clone()
        for name, (sae, _, _) in found.items()
        for key, value in sae.state_dict().items()
    }


def equal(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def test_each_ends_as_it_would_alone():
    together, alone = trainees(), trainees()
    stream = Stream()
    histories = fit_together(together, stream, reads=READS, progress=False)
    assert stream.read == 12
    for name, (sae, objective, config) in alone.items():
        history = fit(sae, objective, Stream().alone(READS[name]), config, progress=False)
        assert history.records == histories[name].records
        assert history.steps.tolist() == [4, 8, 12]
    equal(weights(together), weights(alone))
    assert not any(sae.training for sae, _, _ in together.values())


@pytest.mark.parametrize("resumable", [True, False])
def test_interrupted_and_continued_to_the_same_weights(tmp_path, resumable):
    """Also on a stream that cannot say where it is but gives the same batches again."""

    def stream(stop=None):
        source = Stream()
        if not resumable:
            return (next(source) for _ in range(stop or 100))
        if stop is not None:
            give = Stream.__next__

            class Ends(Stream):
                def __next__(self):
                    if self.read == stop:
                        raise StopIteration
                    return give(self)

            return Ends()
        return source

    whole = trainees()
    fit_together(whole, stream(), reads=READS, folder=tmp_path / "whole", progress=False)
    with pytest.raises(DataError, match="ran out after 8 steps"):
        fit_together(trainees(), stream(8), reads=READS, folder=tmp_path / "part", progress=False)
    # half a line, as a killed process leaves it
    with (tmp_path / "part" / "ReLU" / "log.jsonl").open("a") as log:
        log.write('{"step": 9')
    again = trainees()
    histories = fit_together(again, stream(), reads=READS, folder=tmp_path / "part", progress=False)
    equal(weights(again), weights(whole))
    assert histories["ReLU"].steps.tolist() == [4, 8, 12]
    for name in READS:
        logs = [tmp_path / part / name / "log.jsonl" for part in ("whole", "part")]
        assert logs[0].read_text() == logs[1].read_text()


def test_one_stream_for_all():
    stream = (torch.randn(8, D_IN) for _ in range(3))
    found = {
        name: recipes.topk(d_in=D_IN, width=width, k=1)._replace(config=TrainingConfig(steps=3))
        for name, width in (("narrow", 4), ("wide", 8))
    }
    histories = fit_together(found, stream, progress=False)
    assert list(histories) == ["narrow", "wide"]


def test_divergence_names_the_sae(tmp_path):
    found = trainees()
    _, _, config = found["ReLU"]
    hot = TrainingConfig(**{**vars(config), "lr": 1e30, "clip": float("inf")})
    found["ReLU"] = found["ReLU"]._replace(config=hot)
    with pytest.raises(TrainingDiverged, match=r"ReLU: loss or gradient at step .*is saved in"):
        fit_together(found, Stream(), reads=READS, folder=tmp_path, progress=False)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda found: found.clear(), "no SAE to train"),
        (
            lambda found: found.update(TopK=trainees(steps=3)["TopK"]),
            r"need one `steps`, got \{'TopK': 3",
        ),
        (lambda found: found.update({"a/b": found.pop("TopK")}), "cannot be called 'a/b'"),
        (
            lambda found: found.update(checkpoint=found.pop("TopK")),
            "a plain word other than 'checkpoint'",
        ),
    ],
)
def test_what_cannot_be_trained_together(change, says):
    found = trainees()
    change(found)
    with pytest.raises(ConfigError, match=says):
        fit_together(found, Stream(), reads=dict.fromkeys(found, "a"), progress=False)


def test_batches_that_are_not_there():
    with pytest.raises(DataError, match="gives no `c`, but a, b"):
        fit_together(trainees(), Stream(), reads=dict.fromkeys(READS, "c"), progress=False)
    with pytest.raises(DataError, match="say in `reads`"):
        fit_together(trainees(), Stream(), progress=False)
    plain = iter([torch.zeros(4, D_IN)])
    with pytest.raises(DataError, match="gives no `a`, but one batch for all"):
        fit_together(trainees(), plain, reads=READS, progress=False)
