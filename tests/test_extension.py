"""Extending an SAE keeps what was there and adds short random latents behind it."""

import pytest
import torch

from latent_assay import recipes
from latent_assay.errors import ConfigError
from latent_assay.extension import extend
from latent_assay.sae import SAE, stack
from latent_assay.sparsifiers import BatchTopK, JumpReLU, ReLU

from .laws import recipes as small


def generators(n, seed=0):
    return [torch.Generator().manual_seed(seed + i) for i in range(n)]


def x(n=20):
    return next(small.batches())[:n]


@pytest.mark.parametrize("name", small.NAMES)
def test_old_latents_are_kept_for_every_recipe(name):
    sae = small.ensemble(name).sae
    more = extend(sae, 3, generators(2))
    assert more.widths == (small.WIDTH + 3,) * 2
    assert torch.equal(more.W_enc[:, : small.WIDTH], sae.W_enc)
    assert torch.equal(more.W_dec[:, : small.WIDTH], sae.W_dec)
    assert torch.equal(more.b_enc[:, : small.WIDTH], sae.b_enc)
    assert torch.equal(more.b_dec, sae.b_dec)
    for word in ("tied", "frozen", "decoder_norm", "subtract_b_dec", "training"):
        assert getattr(more, word) == getattr(sae, word)
    assert more.sparsifier.settings() == sae.sparsifier.settings()
    expected = 1.0 if sae.decoder_norm == "unit" else 0.1
    for rows in (more.W_enc, more.W_dec):
        norm = rows[:, small.WIDTH :].norm(dim=-1)
        torch.testing.assert_close(norm, torch.full_like(norm, expected))
    torch.testing.assert_close(more.W_enc[:, small.WIDTH :], more.W_dec[:, small.WIDTH :])
    assert (more.b_enc[:, small.WIDTH :] == 0).all()
    old = sae.pre_activations(x())
    torch.testing.assert_close(more.pre_activations(x())[..., : small.WIDTH], old)


def test_nothing_is_shared_with_the_original():
    sae = small.ensemble("tied").sae
    kept = sae.W_dec.detach().clone()
    more = extend(sae, 1, torch.Generator())
    assert more.W_enc is more.W_dec
    with torch.no_grad():
        more.W_dec += 1
        more.b_dec += 1
    assert torch.equal(sae.W_dec, kept)
    assert (sae.b_dec == 0).all()


def test_padded_members_get_theirs_behind_their_own():
    sae = recipes.relu_l1(d_in=6, width=(3, 5), seeds=(0, 1), dtype=torch.float64).sae
    more = extend(sae, (4, 1), generators(2))
    assert more.widths == (7, 6)
    assert more.width == 7
    assert torch.equal(more.W_dec[0, :3], sae.W_dec[0, :3])
    assert (more.W_dec[0, 3:7].norm(dim=-1) > 0).all()
    assert torch.equal(more.W_dec[1, :5], sae.W_dec[1, :5])
    assert (more.W_dec[1, 6] == 0).all()


def test_a_member_is_extended_alike_in_any_company():
    sae = recipes.topk(d_in=6, width=(3, 5), k=2, seeds=(0, 1)).sae
    together = extend(sae, 2, generators(2)).take(1)
    alone = extend(sae.take(1), 2, generators(2)[1])
    assert torch.equal(together.W_dec, alone.W_dec)
    assert torch.equal(together.W_enc, alone.W_enc)


def test_one_generator_gives_members_different_latents():
    sae = recipes.relu_l1(d_in=6, width=4, seeds=(0, 0)).sae
    more = extend(sae, 2, torch.Generator().manual_seed(0))
    assert not torch.equal(more.W_dec[0, 4:], more.W_dec[1, 4:])


def test_threshold_of_batchtopk_is_carried():
    sae = SAE(torch.randn(2, 4, 3), sparsifier=BatchTopK(2, 2))
    sae.encode(torch.randn(10, 3))
    more = extend(sae, 2, torch.Generator())
    assert torch.equal(more.sparsifier.threshold, sae.sparsifier.threshold)


def test_new_jumprelu_thresholds_ask_as_much_as_the_old_ones():
    W = torch.diag(torch.tensor([2.0, 1.0, 4.0, 0.0]))[None]
    sae = SAE(W, W.clone(), sparsifier=JumpReLU(torch.tensor([[1.0, 0.75, 4.0, 9.0]])))
    more = extend(sae, 2, torch.Generator(), norm=0.5)
    assert more.sparsifier.threshold[0].tolist() == [1.0, 0.75, 4.0, 9.0, 0.375, 0.375]
    given = extend(sae, 1, torch.Generator(), threshold=0.2)
    assert given.sparsifier.threshold[0, 4].item() == pytest.approx(0.2)
    dead = SAE(0 * W, W.clone(), sparsifier=JumpReLU(torch.ones(1, 4)))
    assert extend(dead, 1, torch.Generator()).sparsifier.threshold[0, 4] == 0


def test_new_jumprelu_thresholds_of_padded_members():
    saes = [
        SAE(torch.eye(3)[None, :w], sparsifier=JumpReLU(torch.full((1, w), value)))
        for w, value in ((2, 0.5), (3, 0.8))
    ]
    more = extend(stack(saes), 1, generators(2), norm=1.0)
    expected = torch.tensor([[0.5, 0.5, 0.5, 0.0], [0.8, 0.8, 0.8, 0.8]])
    assert torch.equal(more.sparsifier.threshold, expected)


def test_own_length_of_new_rows_under_a_unit_decoder():
    sae = recipes.topk(d_in=6, width=4, k=2).sae
    more = extend(sae, 2, torch.Generator(), norm=0.25)
    assert more.W_enc[0, 4:].norm(dim=-1).tolist() == pytest.approx([0.25] * 2)
    assert more.W_dec[0, 4:].norm(dim=-1).tolist() == pytest.approx([1.0] * 2)


def test_what_cannot_be_is_refused():
    sae = SAE(torch.eye(3).expand(2, 3, 3).clone(), sparsifier=ReLU())
    one = torch.Generator()
    with pytest.raises(ConfigError, match=r"at least 1, for all members or for each of 2, got 0"):
        extend(sae, 0, one)
    with pytest.raises(ConfigError, match=r"for each of 2, got \[1, 2, 3\]"):
        extend(sae, [1, 2, 3], one)
    with pytest.raises(ConfigError, match="one for each of 2 members, got 3"):
        extend(sae, 1, [one] * 3)
    with pytest.raises(ConfigError, match="must be positive, got 0"):
        extend(sae, 1, one, norm=0.0)
    with pytest.raises(ConfigError, match="must not be negative, got -1"):
        extend(sae, 1, one, threshold=-1.0)
