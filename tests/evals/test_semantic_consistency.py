"""Semantic consistency against plain counting, its laws, and its chance level."""

import itertools
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from latent_assay.errors import ConfigError, DataError, ShapeError
from latent_assay.evals.semantic_consistency import SemanticConsistency, chance_share


def drawn(seed: int, members: int = 2, n: int = 300, latents: int = 7, classes: int = 4):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(members, n, latents, generator=generator)
    # grades, so that there are ties; and a latent that never fires
    z = torch.where(z > 0.8, (4 * z).round(), 0.0)
    z[..., -1] = 0
    return z, torch.randint(classes, (n,), generator=generator)


def by_counting(z, labels, top):
    """All- and top-activated share of each latent, as the definition says it."""
    found_all, found_top = [], []
    for column in z.unbind(-1):
        fires = column.abs() > 0
        if not fires.any():
            continue
        own = labels[fires]
        found_all.append(float(own.bincount().max() / len(own)))
        ranked = sorted(
            fires.nonzero().squeeze(-1).tolist(), key=lambda s: (-float(column[s].abs()), s)
        )
        best = labels[ranked[:top]]
        found_top.append(float(best.bincount().max() / len(best)))
    return found_all, found_top


@pytest.mark.parametrize("top", [1, 5, 1000])
def test_equals_plain_counting(top):
    z, labels = drawn(0)
    seen = SemanticConsistency(classes=4, top=top)
    seen.update(z, labels)
    result = seen.result()
    for member in range(2):
        expected_all, expected_top = by_counting(z[member], labels, top)
        assert result.n_active[member] == 6
        assert result.all_share[member, :6].tolist() == pytest.approx(expected_all)
        assert result.top_share[member, :6].tolist() == pytest.approx(expected_top)
        assert result.all_activated[member] == pytest.approx(sum(expected_all) / 6)
        assert result.top_activated[member] == pytest.approx(sum(expected_top) / 6)
    assert result.modal_class[:, -1].tolist() == [-1, -1]
    assert result.all_share[:, -1].isnan().all()
    if top == 1000:
        assert torch.equal(result.top_activated, result.all_activated)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), cuts=st.lists(st.integers(0, 300), max_size=4))
def test_does_not_depend_on_batches(seed, cuts):
    z, labels = drawn(seed)
    whole = SemanticConsistency(classes=4, top=6)
    whole.update(z, labels)
    edges = [0, *sorted(cuts), 300]
    parts = []
    for start, stop in itertools.pairwise(edges):
        parts.append(SemanticConsistency(classes=4, top=6))
        parts[-1].update(z[:, start:stop], labels[start:stop])
    for part in parts[1:]:
        parts[0].merge(part)
    a, b = whole.result(permutations=3), parts[0].result(permutations=3)
    for name in ("top_share", "all_share", "firings", "modal_class", "top_chance", "all_corrected"):
        assert torch.equal(getattr(a, name).nan_to_num(-2), getattr(b, name).nan_to_num(-2)), name


def test_a_latent_per_class_is_perfect_and_chance_is_at_chance():
    labels = torch.arange(5).repeat(400)
    generator = torch.Generator().manual_seed(0)
    perfect = torch.nn.functional.one_hot(labels, 5).float()
    blind = (torch.rand(2000, 5, generator=generator) < 0.1).float()
    seen = SemanticConsistency(classes=5, top=30)
    seen.update(torch.stack([perfect, blind]), labels)
    result = seen.result()
    assert result.all_activated[0] == result.top_activated[0] == 1
    assert result.all_corrected[0] == result.top_corrected[0] == 1
    assert result.all_activated[1] == pytest.approx(result.all_chance[1].item(), abs=0.02)
    assert abs(result.all_corrected[1]) < 0.02
    assert result.modal_class[0].tolist() == [0, 1, 2, 3, 4]


def test_chance_is_what_permuted_labels_give():
    z, labels = drawn(3, members=1, n=120)
    seen = SemanticConsistency(classes=4, top=5)
    seen.update(z, labels)
    chance = seen.result(permutations=2000)
    generator = torch.Generator().manual_seed(1)
    found = []
    for _ in range(400):
        permuted = SemanticConsistency(classes=4, top=5)
        permuted.update(z, labels[torch.randperm(120, generator=generator)])
        result = permuted.result(permutations=1)
        found.append((result.top_activated.item(), result.all_activated.item()))
    top, all_ = torch.tensor(found).mean(0).tolist()
    error = torch.tensor(found).std(0).max().item() / 20
    assert top == pytest.approx(chance.top_chance.item(), abs=4 * error)
    assert all_ == pytest.approx(chance.all_chance.item(), abs=4 * error)


def test_chance_of_two_samples_is_exact():
    # of 2 from 3 + 1 both are of one class with probability 1/2
    share = chance_share(torch.tensor([3, 1]), 4000, torch.Generator().manual_seed(0))
    assert share[[0, 1, 4]].tolist() == [0, 1, 0.75]
    assert share[2].item() == pytest.approx(0.75, abs=0.02)


def test_one_firing_is_no_evidence():
    """A latent that fires once is consistent by necessity: no corrected number."""
    z = torch.zeros(1, 10, 2)
    z[0, 0, 0] = 1
    z[0, 1:6, 1] = 1
    seen = SemanticConsistency(classes=2)
    seen.update(z, torch.tensor([0, 1, 1, 1, 1, 1, 0, 0, 0, 0]))
    result = seen.result()
    assert result.all_share[0, 0] == 1
    assert result.all_corrected[0] == 1  # of the other alone
    mask = torch.tensor([[True, False]])
    alone = seen.result(mask)
    assert alone.n_active.tolist() == [1]
    assert alone.all_corrected.isnan().all()


def test_rows_count_relative_to_their_length():
    z = torch.tensor([[[1.0, 1e-6], [1e-6, 1e-6]]])
    seen = SemanticConsistency(classes=2)
    seen.update(z, torch.tensor([0, 1]))
    assert seen.result().firings.tolist() == [[2, 1]]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: SemanticConsistency(classes=1), ConfigError, "at least two classes"),
        (lambda: SemanticConsistency(classes=2, top=0), ConfigError, "`top` of at least 1"),
        (
            lambda: SemanticConsistency(classes=2).update(
                torch.zeros(1, 3, 2), torch.zeros(2).long()
            ),
            ShapeError,
            "2 labels for 3 samples",
        ),
        (
            lambda: SemanticConsistency(classes=2).update(
                torch.zeros(1, 2, 2), torch.tensor([0, 2])
            ),
            DataError,
            "from 0 to 2 were given; expected numbers of 2 classes",
        ),
        (
            lambda: SemanticConsistency(classes=2).update(
                torch.full((1, 1, 1), torch.nan), torch.tensor([0])
            ),
            DataError,
            "must be finite",
        ),
        (lambda: SemanticConsistency(classes=2).result(), DataError, "has seen no samples"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()
