import pytest
import torch

from latent_assay.errors import ConfigError
from latent_assay.losses import ActivationOrthogonality, Ramp
from latent_assay.sae import SAE

from .cases import B, D, M, W, assert_same, draw, gradients, make, value

COEFFICIENT = (1.0, 2.0, 3.0)


def term(**changes: object) -> ActivationOrthogonality:
    settings = {"members": M, "width": W, "fraction": 0.5, "window": 3, **changes}
    return ActivationOrthogonality(COEFFICIENT, **settings)


def by_hand(sae: SAE, x: torch.Tensor, largest: torch.Tensor, strength: float = 1.0):
    """The formula, entry by entry; `largest` is the running maximum of every latent."""
    z = sae.encode(x)
    values = []
    for m in range(M):
        total = torch.zeros((), dtype=torch.float64)
        for b in range(len(x)):
            for j in range(W):
                if z[m, b, j] <= strength * 0.5 * largest[m, j]:
                    a, d = x[b] - sae.b_dec[m], sae.W_dec[m, j]
                    total = total + (a @ d) ** 2 / (a.square().sum() * d.square().sum())
        values.append(COEFFICIENT[m] * strength * total / (len(x) * W))
    return torch.stack(values)


def largest_of(sae: SAE, *batches: torch.Tensor) -> torch.Tensor:
    maxima = torch.stack([sae.encode(x).detach().amax(1) for x in batches]).amax(0)
    return maxima.float().double()  # as it is kept


def test_it_follows_its_formula():
    sae, x = make(), draw(B, D, seed=7)
    found, expected = value(term(), sae, x), by_hand(sae, x, largest_of(sae, x))
    torch.testing.assert_close(found, expected)
    assert_same(gradients(sae, found), gradients(sae, expected))
    silent = sae.encode(x) == 0
    assert silent.any()  # what does not fire at all is part of it


def test_the_maximum_runs_over_the_last_batches():
    sae, loss = make(), term()
    batches = [draw(B, D, seed=seed) * scale for seed, scale in enumerate((9, 1, 5, 1, 6, 2))]
    for step, x in enumerate(batches):
        window = batches[max(0, step - 2) : step + 1]
        found = value(loss, sae, x, step=step)
        torch.testing.assert_close(found, by_hand(sae, x, largest_of(sae, *window)))
    # the window mattered: by this batch alone the threshold would have been another
    assert not torch.allclose(found, by_hand(sae, x, largest_of(sae, x)))


def test_loss_and_threshold_rise_together():
    sae, x = make(), draw(B, D, seed=7)
    loss = term(ramp=Ramp(delay=10, length=10, unit="samples"))
    largest = largest_of(sae, x)
    assert value(loss, sae, x, samples=0).tolist() == [0.0, 0.0, 0.0]
    assert value(loss, sae, x, samples=10).tolist() == [0.0, 0.0, 0.0]
    for samples, strength in ((13, 0.3), (20, 1.0), (99, 1.0)):
        found = value(loss, sae, x, samples=samples)
        torch.testing.assert_close(found, by_hand(sae, x, largest, strength))


def test_the_maximum_is_taken_during_the_delay_too():
    sae = make()
    loud, x = 9 * draw(B, D, seed=7), draw(B, D, seed=8)
    loss = term(ramp=Ramp(delay=1))
    assert not value(loss, sae, loud, step=0).any()
    found = value(loss, sae, x, step=1)
    torch.testing.assert_close(found, by_hand(sae, x, largest_of(sae, loud, x)))


def test_rows_of_zeros_have_no_direction():
    sae, x = make(), draw(B, D, seed=7)
    with torch.no_grad():
        sae.W_dec[0, 2] = 0.0
        x[1] = sae.b_dec[0]  # nothing is left of this sample for member 0
    found = value(term(), sae, x)
    assert found.isfinite().all()
    gradient = gradients(sae, found)
    assert all(bool(each.isfinite().all()) for each in gradient.values())
    cosines = torch.zeros(B, W, dtype=torch.float64)
    z, largest = sae.encode(x)[0], largest_of(sae, x)[0]
    for b in range(B):
        for j in range(W):
            a, d = x[b] - sae.b_dec[0], sae.W_dec[0, j]
            if a.any() and d.any() and z[b, j] <= 0.5 * largest[j]:
                cosines[b, j] = (a @ d) ** 2 / (a.square().sum() * d.square().sum())
    torch.testing.assert_close(found[0], (cosines.sum() / (B * W)).detach())


def test_padding_counts_for_nothing():
    sae = make()
    x = draw(B, D, seed=7)
    padded = SAE(
        sae.W_enc.detach().clone(),
        sae.W_dec.detach().clone(),
        b_enc=sae.b_enc.detach().clone(),
        b_dec=sae.b_dec.detach().clone(),
        sparsifier=sae.sparsifier,
        widths=(W, 5, W),
    )
    narrow = padded.take(1)
    alone = ActivationOrthogonality(2.0, members=1, width=5, fraction=0.5, window=3)
    torch.testing.assert_close(value(term(), padded, x)[1:2], value(alone, narrow, x))


def test_weights_equal_repeated_samples():
    sae, x = make(), draw(B, D, seed=7)
    x[1] *= 50  # of weight 0: its strong firing must not enter the maximum
    counts = torch.tensor([3, 0, 1, 2, 1, 1])
    short = value(term(), sae, x, counts.double() / counts.sum())
    long = value(term(), sae, x.repeat_interleave(counts, dim=0))
    torch.testing.assert_close(short, long)
    assert_same(gradients(sae, short), gradients(sae, long))


@pytest.mark.parametrize("bad", [{"fraction": 0.0}, {"fraction": 1.0}, {"window": 0}])
def test_settings_out_of_range(bad):
    with pytest.raises(ConfigError, match="fraction must lie between 0 and 1 and window be posit"):
        term(**bad)
