import pytest
import torch

from latent_assay.errors import ConfigError
from latent_assay.losses import Forward, Lp, Matryoshka, SharedMatryoshka, SquaredError
from latent_assay.sae import SAE
from latent_assay.sparsifiers import ReLU

from .cases import B, M, W, assert_same, at, draw, gradients, make, value

X = draw(B, 5, seed=7)
LEVELS = (2, 5, W)


def shared(**changes: object) -> SharedMatryoshka:
    settings = {"levels": LEVELS, "members": M, "width": W, "gain": 1e-12, **changes}
    return SharedMatryoshka([SquaredError(), Lp((0.1, 0.2, 0.3))], **settings)


def test_share_zero_is_the_matryoshka_loss():
    sae = make()
    sae.b_enc.data += 20.0  # every latent fires, so that shares are those of the pairs
    plain = value(Matryoshka([SquaredError(), Lp((0.1, 0.2, 0.3))], levels=LEVELS), sae, X)
    found = value(shared(initial=0.0, gain=1e-300), sae, X)
    torch.testing.assert_close(found, plain)
    assert_same(gradients(sae, found), gradients(sae, plain))


def by_hand(sae: SAE, share: torch.Tensor) -> torch.Tensor:
    z, W_dec = sae.encode(X), sae.W_dec
    totals = []
    for m in range(M):
        total = torch.zeros((), dtype=torch.float64)
        for end in LEVELS:
            for b in range(B):
                x_hat = z[m, b, :end] @ W_dec[m, :end] + sae.b_dec[m]
                firing = [i for i in range(end) if z[m, b, i] > 0]
                for j in range(end, W):
                    s = sum(share[m, i, j] for i in firing) / len(firing) if firing else 1.0
                    x_hat = x_hat + s * (z[m, b, j] * W_dec[m, j]).detach()
                norms = W_dec[m, :end].norm(dim=-1)
                total = total + (X[b] - x_hat).square().sum() / B
                total = total + (0.1, 0.2, 0.3)[m] * (z[m, b, :end] * norms).sum() / B
        totals.append(total)
    return torch.stack(totals)


def test_it_follows_its_formula():
    sae, term = make(), shared()
    term.share.copy_(draw(M, 5, W, seed=9).clamp(-1, 1))
    share = term.share.clone()
    silent = (sae.encode(X)[:, :, :2] == 0).all(-1)
    assert silent.any()  # both cases of the mean occur
    assert not silent.all()
    found, expected = value(term, sae, X), by_hand(sae, share)
    torch.testing.assert_close(found, expected)
    assert_same(gradients(sae, found), gradients(sae, expected))


def two_latents(component: float) -> tuple[SAE, torch.Tensor]:
    """A parent's latent with a component along its child, and states of both."""
    W_enc = torch.tensor([[[1.0, component], [0.0, 1.0]]])
    return SAE(W_enc, torch.eye(2)[None], sparsifier=ReLU()), torch.tensor(
        [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]
    )


@pytest.mark.parametrize(("component", "change"), [(0.3, 1), (-0.3, -1), (0.0, 0)])
def test_the_share_follows_how_strong_the_parent_is_with_its_child(component, change):
    sae, x = two_latents(component)
    term = SharedMatryoshka([SquaredError()], levels=(1, 2), members=1, width=2, gain=0.1, window=1)
    weight = torch.tensor([0.5, 0.3, 0.2])
    term.value(Forward(sae, x, weight), at())
    mean = (0.3 + 0.2 * (1 + component)) / 0.5
    assert float(term.share[0, 0, 1]) == pytest.approx(0.5 + 0.1 * component / mean, abs=1e-6)
    assert (float(term.share[0, 0, 1]) > 0.5) == (change > 0)
    assert float(term.share[0, 0, 0]) == 0.5  # a latent always fires with itself


def test_shares_stay_in_bounds():
    sae, x = two_latents(0.3)
    term = SharedMatryoshka([SquaredError()], levels=(1, 2), members=1, width=2, gain=100.0)
    term.value(Forward(sae, x), at())
    assert float(term.share[0, 0, 1]) == 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"levels": (8,)}, "two or more rising widths"),
        ({"levels": (2, 5)}, "the SAE's width 8"),
        ({"gain": 0.0}, "gain and window"),
        ({"initial": 3.0}, "from lowest to highest"),
        ({"initial": (0.1, 0.2)}, "one for each of 3 members"),
    ],
)
def test_bad_settings(changes, message):
    with pytest.raises(ConfigError, match=message):
        shared(**changes)


def test_another_sae_is_refused():
    with pytest.raises(ConfigError, match="was made for"):
        value(shared(members=2, initial=0.5), make(), X)
    with pytest.raises(ConfigError, match="at least one inner term"):
        SharedMatryoshka([], levels=(1, 2), members=1, width=2)
