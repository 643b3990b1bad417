import math

import jaxtyping
import pytest
import torch
from torch import Tensor

from latent_assay.errors import ConfigError, ShapeError
from latent_assay.sae import SAE, stack
from latent_assay.sparsifiers import BatchTopK, Identity, JumpReLU, ReLU, Sparsifier, TopK

M, B, W, D = 3, 4, 6, 5


@pytest.fixture
def as_a_user(monkeypatch):
    """Without the shape checker, which only tests have: users meet our own messages instead."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def make(sparsifier: Sparsifier | None = None, *, tied: bool = False, **changes: object) -> SAE:
    return SAE(
        draw(M, W, D, seed=1),
        None if tied else draw(M, W, D, seed=2),
        b_enc=draw(M, W, seed=3),
        b_dec=draw(M, D, seed=4),
        sparsifier=sparsifier or ReLU(),
        **changes,
    )


def parameters(sae: SAE) -> dict[str, Tensor]:
    return {name: each.detach().clone() for name, each in sae.state_dict().items()}


def learn(sae: SAE, x: Tensor) -> None:
    sae.zero_grad()
    (sae(x) - x).square().sum().backward()


# ---------------------------------------------------------------- the formula


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("subtract", [False, True])
@pytest.mark.parametrize("own_x", [False, True])
def test_the_formula(tied, subtract, own_x):
    sae = make(tied=tied, subtract_b_dec=subtract)
    x = draw(M, B, D, seed=5) if own_x else draw(B, D, seed=5)
    for m in range(M):
        batch = x[m] if own_x else x
        seen = batch - sae.b_dec[m] if subtract else batch
        pre = seen @ sae.W_enc[m].T + sae.b_enc[m]
        z = pre.clamp_min(0)
        x_hat = z @ sae.W_dec[m] + sae.b_dec[m]
        torch.testing.assert_close(sae.pre_activations(x)[m], pre)
        torch.testing.assert_close(sae.encode(x)[m], z)
        torch.testing.assert_close(sae.decode(sae.encode(x))[m], x_hat)
        torch.testing.assert_close(sae(x)[m], x_hat)
        raw = batch @ sae.W_enc[m].T + sae.encoder_bias()[m]
        torch.testing.assert_close(raw, pre)


def test_sizes_and_print_out():
    sae = make(tied=True, frozen=("b_enc",), decoder_norm="unit", widths=(6, 4, 6))
    assert (sae.members, sae.width, sae.d_in) == (M, W, D)
    line = "d_in=5, width=[6, 4, 6], members=3, tied, decoder_norm=unit, frozen=b_enc"
    assert sae.extra_repr() == line
    assert make().extra_repr() == "d_in=5, width=6, members=3"


def test_biases_are_zero_unless_given():
    sae = SAE(draw(1, W, D), sparsifier=ReLU())
    assert not sae.b_enc.any()
    assert not sae.b_dec.any()
    assert sae.b_enc.shape == (1, W)
    assert sae.b_dec.shape == (1, D)
    assert sae.b_dec.dtype == torch.float64


# ---------------------------------------------------------------- ties, frozen parameters


def test_tied_weights_are_one_tensor():
    sae = make(tied=True)
    assert sae.W_enc is sae.W_dec
    assert {name for name, _ in sae.named_parameters()} == {"W_enc", "b_enc", "b_dec"}
    x = draw(B, D, seed=5)
    learn(sae, x)
    apart = SAE(
        sae.W_enc.detach().clone(),
        sae.W_enc.detach().clone(),
        b_enc=sae.b_enc.detach(),
        b_dec=sae.b_dec.detach(),
        sparsifier=ReLU(),
    )
    learn(apart, x)
    # both uses add to the one gradient
    torch.testing.assert_close(sae.W_enc.grad, apart.W_enc.grad + apart.W_dec.grad)


@pytest.mark.parametrize(
    "copy",
    [
        lambda sae: sae.take([0, 1, 2]),
        lambda sae: stack(sae.unstack()),
        lambda sae: sae.rescaled(2.0),
        lambda sae: sae.exported(),
        lambda sae: sae.exported().float(),
    ],
)
def test_copies_stay_tied(copy):
    sae = make(tied=True)
    other = copy(sae)
    assert other.tied
    assert other.W_enc is other.W_dec
    assert other.W_enc is not sae.W_enc


def test_frozen_parameters_want_no_gradient():
    sae = make(frozen=("b_enc", "W_dec"))
    learn(sae, draw(B, D, seed=5))
    assert sae.b_enc.grad is None
    assert sae.W_dec.grad is None
    assert sae.W_enc.grad.any()
    assert sae.take(1).frozen == ("W_dec", "b_enc")
    assert not sae.take(1).b_enc.requires_grad


# ---------------------------------------------------------------- constraints


def test_unit_rows():
    sae = make(decoder_norm="unit")
    with torch.no_grad():
        sae.W_dec[0, 2] = 0.0
    before = parameters(sae)
    sae.constrain()
    length = before["W_dec"].norm(dim=-1, keepdim=True)
    torch.testing.assert_close(sae.W_dec.detach(), before["W_dec"] / length.clamp_min(1e-30))
    assert not sae.W_dec[0, 2].any()
    assert torch.equal(sae.W_enc, before["W_enc"])


def test_the_radial_part_of_the_gradient_goes():
    sae = make(decoder_norm="unit")
    sae.normalise_decoder()
    learn(sae, draw(B, D, seed=5))
    gradient, row = sae.W_dec.grad.clone(), sae.W_dec.detach()
    encoder = sae.W_enc.grad.clone()
    sae.constrain_gradients()
    for m in range(M):
        for j in range(W):
            along = gradient[m, j] @ row[m, j]
            torch.testing.assert_close(
                sae.W_dec.grad[m, j], gradient[m, j] - along * row[m, j], rtol=1e-9, atol=1e-9
            )
    left = (sae.W_dec.grad * row).sum(-1).abs().max()
    assert float(left) < 1e-12 * float(gradient.abs().max())
    assert torch.equal(sae.W_enc.grad, encoder)


def test_free_rows_keep_gradient_and_length():
    sae = make()
    learn(sae, draw(B, D, seed=5))
    before, gradient = parameters(sae), sae.W_dec.grad.clone()
    sae.constrain_gradients()
    sae.constrain()
    assert torch.equal(sae.W_dec.grad, gradient)
    assert torch.equal(sae.W_dec, before["W_dec"])


def test_thresholds_are_constrained():
    sae = make(JumpReLU(torch.full((M, W), 0.5)))
    with torch.no_grad():
        sae.sparsifier.threshold.sub_(1.0)
    sae.constrain()
    assert not sae.sparsifier.threshold.any()


# ---------------------------------------------------------------- padding


@pytest.mark.parametrize("d_in", [5, 6])
def test_padding_is_zero_and_learns_nothing(d_in):
    """Also where d_in equals the width, so that b_dec looks like a parameter of the latents."""
    sae = SAE(
        draw(M, W, d_in, seed=1),
        draw(M, W, d_in, seed=2),
        b_enc=draw(M, W, seed=3),
        b_dec=draw(M, d_in, seed=4),
        sparsifier=JumpReLU(draw(M, W, seed=6).abs(), bandwidth=5.0),
        widths=(6, 2, 4),
    )
    padding = torch.tensor([[j >= width for j in range(W)] for width in (6, 2, 4)])
    assert torch.equal(sae.padding, padding)
    for tensor in (sae.W_enc, sae.W_dec, sae.b_enc):
        assert not tensor[padding].any()
        assert tensor[~padding].any()
    sae.zero_grad()
    for tensor in sae.parameters():
        tensor.grad = torch.ones_like(tensor)
    sae.constrain_gradients()
    for tensor in (sae.W_enc, sae.W_dec, sae.b_enc, sae.sparsifier.threshold):
        assert not tensor.grad[padding].any()
        assert bool((tensor.grad[~padding] == 1).all())
    assert bool((sae.b_dec.grad == 1).all())


def test_no_padding():
    assert make().padding is None
    assert make(widths=(W, W, W)).padding is None


def test_a_narrow_member_must_be_able_to_stand_alone():
    """Else its k would be noticed when the trained SAE is saved."""
    with pytest.raises(ConfigError, match="k is 5 but the SAE has only 2 latents"):
        make(TopK(5, M), widths=(6, 2, 6))
    assert make(TopK([5, 2, 5]), widths=(6, 2, 6)).take(1).width == 2


@pytest.mark.parametrize("widths", [(6, 6), (6, 0, 6), (6, 7, 6)])
def test_impossible_widths(widths):
    with pytest.raises(ConfigError, match=r"widths must be 3 numbers from 1 to 6, got \["):
        make(widths=widths)


# ---------------------------------------------------------------- members


def kinds() -> dict[str, Sparsifier]:
    trained = BatchTopK((1, 2, 2))
    trained(draw(M, B, W))
    return {
        "relu": ReLU(),
        "identity": Identity(),
        "jumprelu": JumpReLU(draw(M, W, seed=6).abs()),
        "topk": TopK((1, 2, 2)),
        "batchtopk": trained,
    }


@pytest.mark.parametrize("kind", sorted(kinds()))
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("widths", [None, (6, 2, 4)])
def test_unstack_and_stack_are_inverse(kind, tied, widths):
    sae = make(kinds()[kind], tied=tied, widths=widths, frozen=("b_enc",)).eval()
    alone = sae.unstack()
    assert [each.members for each in alone] == [1, 1, 1]
    assert [each.width for each in alone] == list(widths or (6, 6, 6))
    x = draw(M, B, D, seed=5)
    for m, each in enumerate(alone):
        assert each.padding is None
        assert not each.training
        torch.testing.assert_close(each(x[m])[0], sae(x)[m])
        torch.testing.assert_close(each.encode(x[m])[0], sae.encode(x)[m, :, : each.width])
    again = stack(alone)
    assert again.widths == sae.widths
    assert (again.tied, again.frozen, again.training) == (sae.tied, sae.frozen, False)
    one, two = parameters(again), parameters(sae)
    assert set(one) == set(two)
    for name in one:
        if name == "sparsifier.threshold" and kind == "jumprelu" and widths:
            padding = sae.padding
            assert torch.equal(one[name][~padding], two[name][~padding])
            assert not one[name][padding].any()
        else:
            assert torch.equal(one[name], two[name])


def test_take_chooses_orders_and_copies():
    sae = make(widths=(6, 2, 4))
    x = draw(B, D, seed=5)
    taken = sae.take([2, 1])
    assert taken.widths == (4, 2)
    assert taken.width == 4
    torch.testing.assert_close(taken(x), sae(x)[[2, 1]])
    torch.testing.assert_close(sae.take(-1)(x)[0], sae(x)[2])
    with torch.no_grad():
        taken.W_enc.zero_()
    assert sae.W_enc.any()


@pytest.mark.parametrize("members", [[], 3, -4, [0, 5]])
def test_members_that_are_not_there(members):
    with pytest.raises(ConfigError, match="this SAE has members 0 to 2, asked for"):
        make().take(members)


def test_stack_refuses_what_does_not_fit():
    sae = make()
    with pytest.raises(ConfigError, match="nothing to stack: expected at least one SAE"):
        stack([])
    for other, word in (
        (make(tied=True), "tied"),
        (make(frozen=("b_enc",)), "frozen"),
        (make(decoder_norm="unit"), "decoder_norm"),
        (make(subtract_b_dec=False), "subtract_b_dec"),
        (make().float(), "dtype"),
        (SAE(draw(1, W, D + 1), draw(1, W, D + 1), sparsifier=ReLU()), "d_in"),
    ):
        with pytest.raises(ConfigError, match=f"must agree in {word}"):
            stack([sae, other])
    with pytest.raises(ConfigError, match="cannot stack a ReLU SAE with a TopK one"):
        stack([sae, make(TopK(1, M))])


# ---------------------------------------------------------------- rescaled, exported


@pytest.mark.parametrize("kind", sorted(kinds()))
@pytest.mark.parametrize("scale", [0.125, 8.0])
def test_rescaled_reads_unscaled_inputs(kind, scale):
    sae = make(kinds()[kind]).eval()
    before = parameters(sae)
    x = draw(B, D, seed=5)
    other = sae.rescaled(scale)
    torch.testing.assert_close(other.encode(x), sae.encode(scale * x) / scale)
    torch.testing.assert_close(other(x), sae(scale * x) / scale)
    assert torch.equal(other.W_enc, sae.W_enc)
    assert torch.equal(other.W_dec, sae.W_dec)
    for name, tensor in parameters(sae).items():
        assert torch.equal(tensor, before[name])


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf])
def test_rescaled_needs_a_positive_scale(scale):
    with pytest.raises(ConfigError, match="scale must be positive, got"):
        make().rescaled(scale)


@pytest.mark.parametrize("kind", sorted(kinds()))
def test_exported_does_what_evaluation_does(kind):
    sae = make(kinds()[kind])
    x = draw(B, D, seed=5)
    exported = sae.exported()
    assert not exported.training
    assert sae.training
    sae.eval()
    assert torch.equal(exported(x), sae(x))
    assert type(exported.sparsifier) is (JumpReLU if kind == "batchtopk" else type(sae.sparsifier))


def test_exported_in_bfloat16_keeps_k():
    sae = SAE(draw(1, 300, D).bfloat16(), sparsifier=TopK(257))
    exported = sae.exported()
    assert exported.sparsifier.settings() == {"k": [257]}
    trained = BatchTopK(2)
    trained(draw(1, B, W))
    exported = SAE(draw(1, W, D).bfloat16(), sparsifier=trained).exported()
    assert exported.sparsifier.threshold.dtype == torch.bfloat16


def test_untrained_batchtopk_cannot_be_exported():
    with pytest.raises(ConfigError, match="has no threshold yet"):
        make(BatchTopK(1, M)).exported()


# ---------------------------------------------------------------- wrong input


def test_wrong_parameters(as_a_user):
    with pytest.raises(ShapeError, match=r"\[member, latent, d_in\], got \[6, 5\].*W_enc\[None\]"):
        SAE(draw(W, D), sparsifier=ReLU())
    with pytest.raises(ShapeError, match="W_enc must have shape"):
        SAE(draw(1, 0, D), sparsifier=ReLU())
    for name, wrong, right in (
        ("W_dec", draw(M, D, W), [M, W, D]),
        ("b_enc", draw(M, D), [M, W]),
        ("b_dec", draw(1, D), [M, D]),
    ):
        message = rf"{name} must have shape \[{', '.join(map(str, right))}\] to fit W_enc \[3, 6, 5"
        with pytest.raises(ShapeError, match=message):
            SAE(draw(M, W, D), **{name: wrong}, sparsifier=ReLU())


def test_wrong_settings(as_a_user):
    with pytest.raises(ConfigError, match=r'decoder_norm must be "free" or "unit", got \'one\''):
        make(decoder_norm="one")
    with pytest.raises(ConfigError, match=r"may name W_enc, W_dec, b_enc, b_dec; got \['bias'\]"):
        make(frozen=("bias", "b_enc"))
    with pytest.raises(ConfigError, match="k has 2 members but the SAE has 3"):
        make(TopK([1, 2]))


def test_wrong_activations(as_a_user):
    sae = make()
    with pytest.raises(ShapeError, match=r"d_in 7 but this SAE reads d_in 5; was it trained at an"):
        sae.encode(draw(B, 7))
    for shape in ((D,), (2, B, D), (1, M, B, D)):
        message = r"x must have shape \[batch, 5\], or \[3, batch, 5\] with one batch per member"
        with pytest.raises(ShapeError, match=message):
            sae(draw(*shape))
        with pytest.raises(ShapeError, match="Flatten positions into the batch first"):
            sae.latents(draw(*shape))
    for shape in ((B, W), (2, B, W), (M, B, W + 1)):
        with pytest.raises(ShapeError, match=r"z must have shape \[3, batch, 6\], got"):
            sae.decode(draw(*shape))


def test_the_shape_checker_is_on_in_tests():
    with pytest.raises(jaxtyping.TypeCheckError):
        make().decode(draw(B, W))
