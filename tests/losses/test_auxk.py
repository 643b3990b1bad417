import pytest
import torch

from latent_assay.errors import ConfigError
from latent_assay.losses import AuxK, Forward
from latent_assay.sae import SAE
from latent_assay.sparsifiers import TopK

from .cases import B, D, M, W, assert_same, at, draw, gradients, make, value

X = draw(B, D, seed=7)
DEAD = torch.tensor(
    [
        [0, 1, 0, 1, 0, 1, 0, 0],
        [1, 1, 1, 1, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0],
    ],
    dtype=torch.bool,
)
SINCE = torch.where(DEAD, 50, 49)


def auxk(k: int = 2, **changes: object) -> AuxK:
    settings = {"members": M, "width": W, "k": k, "dead_after": 50, **changes}
    return AuxK((1.0, 2.0, 3.0), **settings)


def by_hand(sae: SAE, k: int, dead: torch.Tensor = DEAD) -> torch.Tensor:
    """The formula, latent by latent and sample by sample."""
    coefficient = (1.0, 2.0, 3.0)
    pre = sae.pre_activations(X)
    error = (X - sae(X)).detach()
    values = []
    for m in range(M):
        rows = [j for j in range(W) if dead[m, j]]
        total = torch.zeros((), dtype=torch.float64)
        for b in range(B):
            chosen = sorted(rows, key=lambda j: -pre[m, b, j].item())[:k]
            e_hat = sum(
                (pre[m, b, j].clamp_min(0) * sae.W_dec[m, j] for j in chosen),
                torch.zeros(D, dtype=torch.float64),
            )
            total = total + (error[m, b] - e_hat).square().sum() / B
        values.append(coefficient[m] * min(len(rows) / k, 1.0) * total)
    return torch.stack(values)


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 20])
def test_auxk_follows_its_formula(k):
    """k below, between and above the 3, 5 and 0 dead latents of the members."""
    sae = make(TopK(2, M))
    found = value(auxk(k), sae, X, since_fired=SINCE)
    expected = by_hand(sae, k)
    torch.testing.assert_close(found, expected)
    assert found[2].item() == 0.0
    assert_same(gradients(sae, found), gradients(sae, expected))


def test_only_dead_rows_learn():
    sae = make(TopK(2, M))
    gradient = gradients(sae, value(auxk(), sae, X, since_fired=SINCE))
    for name in ("W_enc", "W_dec", "b_enc"):
        learns = gradient[name].reshape(M, W, -1).abs().sum(-1) > 0
        assert not (learns & ~DEAD).any()
        assert learns[0].any()
        assert learns[1].any()


def test_the_main_reconstruction_gets_no_gradient():
    """Moving what living latents reconstruct changes the loss, but no gradient says so."""
    sae = make(TopK(2, M))
    forward = Forward(sae, X)
    x_hat = forward.x_hat
    x_hat.retain_grad()
    auxk()(forward, at(since_fired=SINCE)).sum().backward()
    assert x_hat.grad is None


def test_zero_when_none_is_dead():
    sae = make(TopK(2, M))
    found = value(auxk(), sae, X, since_fired=torch.full((M, W), 49))
    assert found.tolist() == [0.0, 0.0, 0.0]
    assert not found.requires_grad


def test_the_dead_are_looked_up_every_few_steps():
    sae = make(TopK(2, M))
    term = auxk(refresh=4)
    assert value(term, sae, X, step=0).any().item() is False
    for step in (1, 2, 3):
        assert not value(term, sae, X, step=step, since_fired=SINCE).any()
    later = value(term, sae, X, step=4, since_fired=SINCE)
    assert later[:2].all()
    for step in (5, 7):  # the list is kept, whatever revived meanwhile
        assert torch.equal(value(term, sae, X, step=step), later)
    assert not value(term, sae, X, step=8).any()


def test_a_replaced_list_of_dead_latents_is_noticed():
    """As when a checkpoint is read between two refreshes."""
    sae = make(TopK(2, M))
    term = auxk()
    term.dead.copy_(DEAD)
    term.derive()
    torch.testing.assert_close(value(term, sae, X, step=3), by_hand(sae, 2))


def test_padding_is_not_dead():
    sae = make(TopK(2, M))
    padded = SAE(
        sae.W_enc.detach().clone(),
        sae.W_dec.detach().clone(),
        b_enc=sae.b_enc.detach().clone(),
        b_dec=sae.b_dec.detach().clone(),
        sparsifier=TopK(2, M),
        widths=(W, 4, W),
    )
    found = value(auxk(), padded, X, since_fired=SINCE)
    dead = DEAD.clone()
    dead[1, 4:] = False
    torch.testing.assert_close(found, by_hand(padded, 2, dead))


def test_weights_equal_repeated_samples():
    sae = make(TopK(2, M))
    counts = torch.tensor([3, 0, 1, 2, 1, 1])
    weight = counts.double() / counts.sum()
    short = value(auxk(), sae, X, weight, since_fired=SINCE)
    long = value(auxk(), sae, X.repeat_interleave(counts, dim=0), since_fired=SINCE)
    torch.testing.assert_close(short, long)
    assert_same(gradients(sae, short), gradients(sae, long))


@pytest.mark.parametrize("bad", [{"k": 0}, {"dead_after": 0}, {"refresh": 0}])
def test_settings_must_be_positive(bad):
    with pytest.raises(ConfigError, match="k, dead_after and refresh must be positive"):
        auxk(**bad)
