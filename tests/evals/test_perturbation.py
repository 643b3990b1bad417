"""SCR and TPP on documents whose concepts are known, and the defects that ours do not have."""

import pytest
import torch

from latent_assay.errors import ConfigError, DataError, ShapeError
from latent_assay.evals import Documents, PerturbationConfig, ProbeConfig, scr, tpp
from latent_assay.evals.linear_probe import fit_probes

QUICK = PerturbationConfig(ablated=(1, 4, 500), probe=ProbeConfig(epochs=5, lr=1e-2))
NAMES = ("physics", "cooking", "sport")


def normal(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def clean_latents(n=240, classes=3, d_in=12, seed=0, signal=1.0, noise=0.3):
    """Documents in which latent c fires with class c, further latents with anything."""
    label = torch.arange(n) % classes
    z = normal(n, d_in, seed=seed).abs() * noise
    z[torch.arange(n), label] += signal
    return z, label


def documents(z, W_dec, seed=9, error=0.1):
    return Documents(x=z @ W_dec + error * normal(len(z), W_dec.shape[1], seed=seed), z=z)


def measure(W_dec, *, signal=1.0, noise=0.3, config=QUICK, coded=None):
    parts = []
    for seed in (0, 1):
        z, label = clean_latents(seed=seed, signal=signal, noise=noise)
        made = documents(z, W_dec, seed=seed + 50)
        parts += [made if coded is None else Documents(x=made.x, z=coded(z)), label]
    return tpp(*parts, W_dec, classes=NAMES, config=config)


def test_one_latent_per_class_is_targeted():
    found = measure(torch.eye(12))
    assert min(found.clean.values()) > 0.9
    assert found.intended[1] > 0.2
    assert found.total[1] > 0.1
    assert found.total[1] == pytest.approx(found.intended[1] - found.unintended[1])
    assert set(found.total) == {1, 4}  # an SAE of 12 latents cannot lose 500


def test_latents_that_know_nothing_score_nothing():
    generator = torch.Generator().manual_seed(3)
    shuffled = measure(
        torch.eye(12), coded=lambda z: z[torch.randperm(len(z), generator=generator)]
    )
    assert abs(shuffled.total[1]) < 0.1


def test_an_ablation_that_changes_nothing_scores_exactly_nothing():
    """Near chance, accuracies on fresh negatives differ; ours use the same ones twice."""
    config = PerturbationConfig(ablated=(4,), probe=QUICK.probe)
    found = measure(torch.eye(12), signal=0.1, config=config, coded=torch.zeros_like)
    assert found.total[4] == found.intended[4] == found.unintended[4] == 0
    assert all(0.45 < each < 0.85 for each in found.clean.values())

    # the same two accuracies with negatives drawn anew for the second, as SAEBench 0.6.0 does
    z, label = clean_latents(seed=1, signal=0.1)
    own, others = z[label == 0], z[label != 0]
    probes = fit_probes(
        torch.cat([own, others[:80]])[None], torch.arange(160)[None] < 80, config=QUICK.probe
    )

    def accuracy(seed):
        drawn = torch.randperm(160, generator=torch.Generator().manual_seed(seed))[:80]
        said = probes.logits(torch.cat([own, others[drawn]]))[:, 0] > 0
        return float((said == (torch.arange(160) < 80)).double().mean())

    assert len({accuracy(seed) for seed in range(5)}) > 1


def test_the_same_seed_gives_the_same_numbers():
    assert measure(torch.eye(12)) == measure(torch.eye(12))
    other = PerturbationConfig(ablated=QUICK.ablated, probe=QUICK.probe, seed=1)
    assert measure(torch.eye(12), config=other) != measure(torch.eye(12))


def test_mean_activations_suffice_for_ablating_with_the_error_term_kept():
    z = normal(6, 5, 12, seed=1).relu()  # document, token, latent
    W_dec = normal(12, 8, seed=2)
    x = z @ W_dec + normal(6, 5, 8, seed=3)
    without = z.clone()
    without[..., [2, 7]] = 0
    token_by_token = (without @ W_dec + (x - z @ W_dec)).mean(1)
    of_means = x.mean(1) - z.mean(1)[:, [2, 7]] @ W_dec[[2, 7]]
    torch.testing.assert_close(token_by_token, of_means, rtol=1e-4, atol=1e-5)


def two_concepts(n, seed, strength=(1.0, 1.5), opposites=True):
    """Latents 0 and 1 fire with the two concepts, 2 and 3 without them if there are `opposites`."""
    concepts = torch.stack([torch.arange(n) % 2, torch.arange(n) // 2 % 2], dim=1).bool()
    z = normal(n, 10, seed=seed).abs() * 0.2
    z[:, :2] += concepts * torch.tensor(strength)
    if opposites:
        z[:, 2:4] += ~concepts * torch.tensor(strength)
    return z, concepts


def remove_spurious(coded=lambda z: z, *, opposites=True):
    parts = []
    for seed in (0, 1):
        z, concepts = two_concepts(200, seed, opposites=opposites)
        parts += [Documents(x=documents(z, torch.eye(10), seed=seed).x, z=coded(z)), concepts]
    config = PerturbationConfig(ablated=(1, 2), probe=QUICK.probe)
    return scr(*parts, torch.eye(10), config=config)


def test_the_latents_of_a_concept_take_the_bias_with_them():
    found = remove_spurious()
    assert found.clean[0] > 0.9
    assert found.biased[0] < found.biased[1]  # the stronger concept wins
    assert found.first[2] > 0.7
    assert found.score == found.first
    assert remove_spurious(torch.zeros_like).first == {1: 0, 2: 0}
    assert found == remove_spurious()


def test_a_perfect_latent_without_an_opposite_scores_nothing():
    """Why the metric may not rank: what goes away is evidence *and* offset."""
    assert remove_spurious(opposites=False).first[1] < 0.1


def test_without_bias_there_is_nothing_to_remove():
    z, concepts = two_concepts(200, 0, strength=(0.0, 3.0))
    made = documents(z, torch.eye(10))
    # nothing tells the first concept, so the biased probe is as good at it as its own
    found = scr(made, concepts, made, concepts, torch.eye(10), config=QUICK)
    assert all(each is None for each in found.second.values())


def test_probes_do_not_feel_each_other_nor_the_unit():
    x, y = normal(2, 40, 6, seed=0), normal(2, 40, seed=1) > 0
    both = fit_probes(x, y, config=QUICK.probe)
    alone = fit_probes(x[1:], y[1:], config=QUICK.probe)
    torch.testing.assert_close(both.weight[1:], alone.weight, rtol=1e-4, atol=1e-5)
    scaled = fit_probes(100 * x, y, config=QUICK.probe)
    torch.testing.assert_close(100 * scaled.weight, both.weight, rtol=1e-3, atol=1e-4)


def test_what_cannot_be_measured_is_said():
    z, label = clean_latents(30)
    made, W_dec = documents(z, torch.eye(12)), torch.eye(12)
    few = torch.cat([label[:-1] % 2, torch.tensor([2])])
    with pytest.raises(DataError, match="class 'sport' has 1 training documents; expected at lea"):
        tpp(made, few, made, label, W_dec, classes=NAMES)
    with pytest.raises(DataError, match="needs two or more; received"):
        tpp(made, label * 0, made, label * 0, W_dec, classes=NAMES[:1])
    with pytest.raises(ShapeError, match="do not fit a decoder"):
        tpp(made, label, made, label, torch.eye(3), classes=NAMES)
    with pytest.raises(DataError, match="one combination of the two concepts has 0 training"):
        scr(made, torch.ones(30, 2).bool(), made, torch.ones(30, 2).bool(), W_dec)
    with pytest.raises(DataError, match="all 30 samples have the same label"):
        fit_probes(made.x[None], torch.ones(1, 30).bool())
    with pytest.raises(ConfigError, match="expected one or more counts"):
        PerturbationConfig(ablated=())
    with pytest.raises(ConfigError, match="at least one epoch"):
        ProbeConfig(epochs=0)
    with pytest.raises(ShapeError, match="expected one of each for every document"):
        Documents(x=made.x, z=made.z[:5])
