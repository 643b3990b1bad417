import pytest
import torch

from latent_assay.errors import ConfigError
from latent_assay.losses import Matryoshka, Ramp, TwoPeaks
from latent_assay.losses.two_peaks import on_peak
from latent_assay.sae import SAE
from latent_assay.sparsifiers import ReLU

from .cases import B, D, M, W, assert_same, draw, gradients, make, value

X = draw(B, D, seed=7)


def best_cut(a: torch.Tensor, w: torch.Tensor) -> tuple[float, torch.Tensor]:
    """The largest variance between the sides of a cut, trying all, and the upper side."""
    best, side = -1.0, torch.zeros(len(a), dtype=torch.bool)
    for threshold in a.unique()[:-1]:
        on = a > threshold
        up, down = w[on].sum(), w[~on].sum()
        gap = (w * a)[on].sum() / up - (w * a)[~on].sum() / down
        if float(up * down * gap**2) > best:
            best, side = float(up * down * gap**2), on
    return best, side


def test_the_cut_is_the_best_of_all():
    a = draw(M, 20, W, seed=1)
    w = draw(M, 20, seed=2).exp()
    w = w / w.sum(-1, keepdim=True)
    found = on_peak(a, w)
    for m in range(M):
        for j in range(W):
            assert torch.equal(found[m, :, j], best_cut(a[m, :, j], w[m])[1])


def test_equal_values_are_on_one_side():
    a = torch.tensor([1.0, 2.0, 2.0, 2.0]).view(1, 4, 1)
    assert on_peak(a, torch.full((1, 4), 0.25)).flatten().tolist() == [False, True, True, True]
    assert not on_peak(torch.ones(1, 4, 1), torch.full((1, 4), 0.25)).any()


def by_hand(sae: SAE, w: torch.Tensor) -> torch.Tensor:
    a = sae.pre_activations(X)
    totals = []
    for m in range(M):
        total = torch.zeros((), dtype=torch.float64)
        for j in range(W):
            row = a[m, :, j]
            on = best_cut(row.detach(), w)[1]
            within = sum(
                (w * (row - (w * row)[side].sum() / w[side].sum()).square())[side].sum()
                for side in (on, ~on)
            )
            total = total + within / (w * (row - (w * row).sum()).square()).sum()
        totals.append(total / W)
    mean = (w.unsqueeze(-1) * X).sum(0)
    return torch.stack(totals) * (w * (X - mean).square().sum(-1)).sum()


def test_it_follows_its_formula():
    sae, w = make(), torch.tensor([0.3, 0.1, 0.1, 0.2, 0.2, 0.1], dtype=torch.float64)
    for weight in (w, None):
        used = torch.full((B,), 1 / B, dtype=torch.float64) if weight is None else weight
        found, expected = value(TwoPeaks(1.0), sae, X, weight), by_hand(sae, used)
        torch.testing.assert_close(found, expected)
        assert_same(gradients(sae, found), gradients(sae, expected))


def test_clean_latents_cost_nothing_and_mixed_ones_do():
    x = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [1.0, 2.0]])
    clean = SAE(torch.eye(2)[None], sparsifier=ReLU())
    mixed = SAE(torch.tensor([[[0.9, 0.4], [0.0, 1.0]]]), sparsifier=ReLU())
    assert value(TwoPeaks(10.0), clean, x).item() == pytest.approx(0.0, abs=1e-6)
    assert value(TwoPeaks(10.0), mixed, x).item() > 0.5


def test_length_and_bias_do_not_matter():
    sae, longer = make(), make()
    longer.W_enc.data *= 7.0
    longer.b_enc.data += 3.0
    longer.b_dec.data += 1.0
    torch.testing.assert_close(value(TwoPeaks(), sae, X), value(TwoPeaks(), longer, X))


def test_a_latent_that_never_changes_costs_nothing():
    sae = make()
    sae.W_enc.data[:, 0] = 0.0
    found = value(TwoPeaks(), sae, X)
    assert found.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients(sae, found).values())


def test_delay_and_place():
    sae = make()
    term = TwoPeaks(ramp=Ramp(delay=5))
    assert torch.equal(value(term, sae, X, step=4), torch.zeros(M, dtype=torch.float64))
    assert (value(term, sae, X, step=5) > 0).all()
    with pytest.raises(ConfigError, match="belongs beside a matryoshka loss"):
        value(Matryoshka([TwoPeaks()], levels=(2, W)), sae, X)
