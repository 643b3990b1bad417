import dataclasses

import pytest
import torch

from latent_assay.errors import ConfigError, DataError, ShapeError
from latent_assay.evals.labelled import Labelled, one_hot
from latent_assay.evals.probing import ProbingConfig, probe, probe_labelled, ranked
from latent_assay.evals.probing.probes import divide
from latent_assay.sae import SAE
from latent_assay.sparsifiers import ReLU

from .. import toy

SMALL = ProbingConfig(ks=(1,), seeds=(0, 1), rules=("standardised",))


@pytest.fixture(scope="module")
def results():
    config = ProbingConfig(ks=(1,))
    return {
        name: probe_labelled(sae, toy.data(), config=config) for name, sae in toy.saes().items()
    }


@pytest.mark.parametrize("key", ["auc@1", "accuracy@1", "f1@1", "auc_raw@1"])
def test_oracle_beats_trained_beats_random(results, key):
    oracle, trained, random = (
        results[name].metrics[key] for name in ("oracle", "trained", "random")
    )
    assert oracle.against(trained) == "better"
    assert trained.against(random) == "better"


def test_the_oracle_is_perfect_and_finds_each_features_own_latent(results):
    oracle = results["oracle"]
    assert oracle.metrics["auc@1"].mean == pytest.approx(1.0)
    assert oracle.metrics["accuracy@1"].mean == pytest.approx(1.0)
    assert [oracle.details["latents"][f"feature {i}"][0] for i in range(16)] == list(range(16))


def test_baselines_stand_beside(results):
    found = results["trained"].baselines
    assert set(found) == {
        "random dictionary", "principal components", "activation", "shuffled labels", "dense probe",
    }  # fmt: skip
    assert found["dense probe"]["auc"].mean > 0.999  # features are orthogonal, so linear
    assert found["shuffled labels"]["auc@1"].mean == pytest.approx(0.5, abs=0.06)
    assert found["random dictionary"]["auc@1"].mean < results["trained"].metrics["auc@1"].mean


def test_equal_saes_are_not_ranked(results):
    again = probe_labelled(toy.saes()["trained"], toy.data(), config=ProbingConfig(ks=(1,)))
    assert again.metrics["auc@1"] == results["trained"].metrics["auc@1"]  # seeded throughout
    assert set(again.against(results["trained"]).values()) == {"not distinguishable"}


def test_standardised_units_do_not_favour_what_is_large():
    """A loud column that says little beside a quiet one that says all."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(400) % 2 == 0
    loud = 100 * torch.randn(400, generator=generator) + 20 * y
    quiet = 0.01 * y + 0.001 * torch.rand(400, generator=generator)
    z = torch.stack([loud, quiet, torch.zeros(400)], dim=1)
    assert ranked(z, y, "raw")[0] == 0
    assert ranked(z, y, "standardised").tolist() == [1, 0, 2]
    assert ranked(z, y, "mean firing")[2] == 2
    found = probe(
        {"sae": z}, y[:, None], ["even"], dataclasses.replace(SMALL, rules=("standardised", "raw"))
    )
    assert found.values["sae"]["auc@1"] == [1.0, 1.0]
    assert max(found.values["sae"]["auc_raw@1"]) < 0.75


def test_scale_of_the_activations_does_not_matter():
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(200) % 2 == 0
    z = torch.randn(200, 4, generator=generator) + y[:, None] * torch.tensor([1.0, 0.5, 0, 0])
    config = dataclasses.replace(SMALL, ks=(1, 2))
    found = probe({"sae": z}, y[:, None], ["even"], config).values["sae"]
    scaled = probe({"sae": z * 2**-10}, y[:, None], ["even"], config).values["sae"]
    assert found == scaled


def test_groups_stay_on_one_side():
    labels = torch.arange(300) % 2 == 0
    groups = torch.arange(300) // 10
    train, test = divide(labels, SMALL, torch.Generator().manual_seed(0), groups)
    assert not set(groups[train].tolist()) & set(groups[test].tolist())
    assert labels[test].float().mean() == 0.5


def test_training_and_test_samples_are_disjoint_balanced_and_limited():
    labels = torch.arange(300) < 60
    config = dataclasses.replace(SMALL, n_train=40, n_test=10)
    train, test = divide(labels, config, torch.Generator().manual_seed(0))
    assert not set(train.tolist()) & set(test.tolist())
    assert (len(train), len(test)) == (40, 10)
    assert labels[train].sum() == 20


def test_tasks_without_support_are_left_out_by_name():
    x = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.stack(
        [torch.arange(100) < 50, torch.arange(100) < 3, torch.zeros(100, dtype=torch.bool)], dim=1
    )
    found = probe({"sae": x}, labels, ["half", "rare", "never"], SMALL)
    assert found.left_out == {
        "rare": "only 3 positive samples; expected at least 10",
        "never": "the label is constant",
    }
    assert set(found.by_task) == {"half"}
    with pytest.raises(DataError, match=r"no task can be probed \(never: the label is constant"):
        probe({"sae": x}, labels[:, 2:], ["never"], SMALL)


def test_what_cannot_be_measured_says_why():
    constant = Labelled(x=toy.data().x, labels=toy.data().labels[:, :1] & False, tasks=["none"])
    result = probe_labelled(toy.saes()["oracle"], constant, config=SMALL)
    assert "the label is constant" in result.not_measurable
    assert result.headline is None
    silent = SAE(-torch.eye(32)[None] * 0, sparsifier=ReLU())
    result = probe_labelled(silent, toy.data(), config=SMALL)
    assert "no latent of this SAE fires" in result.not_measurable


def test_bad_input():
    two = SAE(torch.eye(32).repeat(2, 1, 1), sparsifier=ReLU())
    with pytest.raises(ConfigError, match=r"2 members, and an evaluation takes one.*pooled"):
        probe_labelled(two, toy.data(), config=SMALL)
    other = SAE(torch.eye(8)[None], sparsifier=ReLU())
    with pytest.raises(ShapeError, match="d_in 32 but this SAE reads d_in 8"):
        probe_labelled(other, toy.data(), config=SMALL)
    labels = toy.data(100).labels[:, :1]
    with pytest.raises(DataError, match="`sae` holds numbers that are not finite"):
        probe({"sae": torch.full((100, 2), float("nan"))}, labels, ["a"], SMALL)
    with pytest.raises(ShapeError, match="labels have 1 columns, but 2 tasks are named"):
        probe({"sae": torch.zeros(100, 2)}, labels, ["a", "b"], SMALL)
    with pytest.raises(ConfigError, match=r"ks is \[1\], but `sae` has 0 latents"):
        probe({"sae": torch.zeros(100, 0)}, labels, ["a"], SMALL)
    with pytest.raises(ShapeError, match="comes 3 times"):
        probe({"sae": [torch.zeros(100, 2)] * 3}, labels, ["a"], SMALL)
    with pytest.raises(ShapeError, match="do not belong to 2 tasks"):
        Labelled(x=torch.zeros(3, 2), labels=one_hot(["a", "b", "a"], ["a"]), tasks=["a", "b"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ks": ()}, "ks is"),
        ({"ks": (0, 1)}, "from 1 up"),
        ({"seeds": ()}, "must name at least one each"),
        ({"test_share": 0.0}, "test_share is 0.0"),
        ({"min_positives": 1}, "min_positives is 1"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(ConfigError, match=message):
        ProbingConfig(**options)
