"""Values and gradients of every sparsifier against its formula, written out."""

import math

import jaxtyping
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from latent_assay.errors import ConfigError
from latent_assay.kernels import force_path
from latent_assay.sae import SAE
from latent_assay.sparsifiers import BatchTopK, Identity, JumpReLU, ReLU, Sparsifier, TopK

M, B, W = 3, 5, 7


@pytest.fixture
def as_a_user(monkeypatch):
    """Without the shape checker, which only tests have: users meet our own messages instead."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def gradient(sparsifier: Sparsifier, pre: Tensor, upstream: Tensor) -> Tensor:
    pre = pre.clone().requires_grad_()
    (sparsifier(pre) * upstream).sum().backward()
    assert pre.grad is not None
    return pre.grad


# ---------------------------------------------------------------- identity, ReLU


def test_identity():
    pre, upstream = draw(M, B, W), draw(M, B, W, seed=1)
    assert torch.equal(Identity()(pre), pre)
    assert torch.equal(gradient(Identity(), pre, upstream), upstream)


def test_relu():
    pre, upstream = draw(M, B, W), draw(M, B, W, seed=1)
    pre[0, 0, 0] = 0.0
    positive = (pre > 0).to(pre.dtype)
    assert torch.equal(ReLU()(pre), pre * positive)
    assert torch.equal(gradient(ReLU(), pre, upstream), upstream * positive)


# ---------------------------------------------------------------- JumpReLU


def test_jumprelu_by_hand():
    """One latent, threshold 1, window from 0.75 to 1.25."""
    sparsifier = JumpReLU(torch.tensor([[1.0]], dtype=torch.float64), bandwidth=0.5)
    pre = torch.tensor([[-1.0, 0.7, 0.8, 1.0, 1.2, 1.3]], dtype=torch.float64).unsqueeze(-1)
    pre.requires_grad_()
    upstream = torch.tensor([[1.0, 10.0, 100.0, 1e3, 1e4, 1e5]], dtype=torch.float64).unsqueeze(-1)
    z = sparsifier(pre)
    # at the threshold itself a latent does not fire
    assert z.flatten().tolist() == [0.0, 0.0, 0.0, 0.0, 1.2, 1.3]
    (z * upstream).sum().backward()
    assert pre.grad.flatten().tolist() == [0.0, 0.0, 0.0, 0.0, 1e4, 1e5]
    # -θ/ε = -2 for each of the three within the window
    assert sparsifier.threshold.grad.item() == pytest.approx(-2 * (100 + 1e3 + 1e4))


def test_jumprelu_gradients_follow_the_formula():
    threshold = draw(M, W, seed=2).abs()
    sparsifier = JumpReLU(threshold.clone(), bandwidth=0.8)
    pre, upstream = draw(M, B, W).requires_grad_(), draw(M, B, W, seed=1)
    (sparsifier(pre) * upstream).sum().backward()
    expected = torch.zeros(M, W, dtype=torch.float64)
    for m in range(M):
        for b in range(B):
            for j in range(W):
                theta = threshold[m, j]
                if abs(pre[m, b, j] - theta) < 0.8 / 2:
                    expected[m, j] -= theta / 0.8 * upstream[m, b, j]
    assert int((expected != 0).sum()) > 5
    torch.testing.assert_close(sparsifier.threshold.grad, expected)
    torch.testing.assert_close(pre.grad, upstream * (pre > threshold.unsqueeze(1)))


def test_the_step_of_jumprelu_trains_thresholds_only():
    threshold = draw(M, W, seed=2).abs()
    sparsifier = JumpReLU(threshold.clone(), bandwidth=0.8)
    pre, upstream = draw(M, B, W).requires_grad_(), draw(M, B, W, seed=1)
    fires = sparsifier.fires(pre)
    assert torch.equal(fires, (pre > threshold.unsqueeze(1)).to(torch.float64))
    (fires * upstream).sum().backward()
    window = ((pre - threshold.unsqueeze(1)).abs() < 0.4).to(torch.float64)
    torch.testing.assert_close(sparsifier.threshold.grad, -(upstream * window).sum(1) / 0.8)
    assert pre.grad is None


def test_jumprelu_thresholds_stay_at_or_above_zero():
    sparsifier = JumpReLU(torch.ones(1, 2))
    with torch.no_grad():
        sparsifier.threshold.sub_(torch.tensor([[0.25, 3.0]]))
    sparsifier.constrain()
    assert sparsifier.threshold.tolist() == [[0.75, 0.0]]


def test_jumprelu_rescales_threshold_and_bandwidth():
    sparsifier = JumpReLU(draw(M, W).abs(), bandwidth=0.1)
    pre = draw(M, B, W, seed=1)
    z = sparsifier(pre)
    sparsifier.rescale(0.125)
    assert sparsifier.bandwidth == 0.0125
    assert torch.equal(sparsifier(pre / 8), z / 8)


@pytest.mark.parametrize("bandwidth", [0.0, -1.0, math.nan, math.inf])
def test_jumprelu_refuses_a_bandwidth(bandwidth):
    with pytest.raises(ConfigError, match=r"bandwidth of JumpReLU must be positive.*0\.001 is us"):
        JumpReLU(torch.ones(1, 2), bandwidth=bandwidth)


@pytest.mark.parametrize(
    "threshold", [torch.tensor([[-0.1]]), torch.tensor([[math.nan]]), torch.ones(2)]
)
def test_jumprelu_refuses_thresholds(threshold, as_a_user):
    with pytest.raises(ConfigError, match=r"must have shape \[member, latent\], none negative"):
        JumpReLU(threshold)


# ---------------------------------------------------------------- TopK


def topk_reference(pre: Tensor, k: list[int]) -> Tensor:
    z = torch.zeros_like(pre)
    for m in range(pre.shape[0]):
        for b in range(pre.shape[1]):
            for j in sorted(range(pre.shape[2]), key=lambda j: -pre[m, b, j].item())[: k[m]]:
                z[m, b, j] = max(pre[m, b, j].item(), 0.0)
    return z


@pytest.mark.parametrize("k", [[1, 1, 1], [2, 2, 2], [7, 7, 7], [1, 3, 7]])
def test_topk(k):
    pre, upstream = draw(M, B, W), draw(M, B, W, seed=1)
    sparsifier = TopK(k)
    z = topk_reference(pre, k)
    assert torch.equal(sparsifier(pre), z)
    assert torch.equal(gradient(sparsifier, pre, upstream), upstream * (z > 0))
    assert sparsifier.expected_l0 == max(k)


def test_topk_with_fewer_positive_than_k():
    pre = torch.tensor([[[-1.0, 2.0, -3.0, 0.0], [-1.0, -2.0, -3.0, -4.0]]])
    assert TopK(3)(pre).tolist() == [[[0.0, 2.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]]


@pytest.mark.parametrize("k", [(2, 2), (1, 2)])
def test_topk_with_ties_fires_exactly_k(k):
    pre = torch.ones(2, 4, 6)
    z = TopK(k)(pre)
    assert torch.equal((z > 0).sum(-1), torch.tensor(k).unsqueeze(-1).expand(2, 4))
    assert set(z.unique().tolist()) == {0.0, 1.0}


def test_topk_refuses_a_k():
    with pytest.raises(ConfigError, match=r"k of TopK must be whole, got \[2\.5\]; BatchTopK may"):
        TopK(2.5)
    for k in (0, -1, math.nan, math.inf, []):
        with pytest.raises(ConfigError, match="k must be positive"):
            TopK(k)
    with pytest.raises(ConfigError, match="k is 8 but the SAE has only 7 latents"):
        TopK(8).check(1, 7)
    with pytest.raises(ConfigError, match="k has 2 members but the SAE has 3; give one value"):
        TopK([1, 2]).check(3, 7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_k_survives_a_change_of_type(dtype):
    """257 has no bfloat16."""
    sparsifier = TopK((257, 100)).to(dtype)
    assert sparsifier.k.tolist() == [257, 100]
    assert int((sparsifier(torch.ones(2, 1, 300, dtype=dtype)) > 0).sum()) == 357


# ---------------------------------------------------------------- BatchTopK


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_k_and_threshold_of_batchtopk_survive_a_change_of_type(dtype):
    sparsifier = BatchTopK((32.55, 257.1))
    sparsifier(draw(2, 8, 300))
    before = sparsifier.threshold.clone()
    changed = sparsifier.to(dtype)
    assert changed.k.tolist() == [32.55, 257.1]
    assert changed.expected_l0 == 257.1
    assert changed.threshold.dtype == torch.float64
    assert torch.equal(changed.threshold, before)
    # and it goes on in the new type
    pre = draw(2, 64, 300).to(dtype)
    assert changed(pre).dtype == dtype
    assert changed.eval()(pre).dtype == dtype
    assert changed.to("meta").threshold.is_meta  # the device is followed


def fire_in_training(k: float, pre: Tensor, weight: Tensor | None = None, members: int = 1):
    return BatchTopK(k, members)(pre, weight)


@pytest.mark.parametrize("k", [0.2, 1, 2.4, 7])
def test_batchtopk_fires_exactly_k_per_sample_on_average(k):
    pre = draw(M, B, W).abs()
    z = fire_in_training(k, pre, members=M)
    for m in range(M):
        largest = pre[m].flatten().sort(descending=True).values[: round(k * B)]
        assert torch.equal(z[m][z[m] > 0].sort(descending=True).values, largest)
        assert torch.equal(z[m][z[m] > 0], pre[m][z[m] > 0])


def test_batchtopk_rounds_up():
    """At least k on average: half a latent more is a whole one."""
    pre = draw(1, 3, W).abs()
    assert int((fire_in_training(1.5, pre) > 0).sum()) == 5  # 4.5
    assert int((fire_in_training(0.1, draw(1, 30, W).abs()) > 0).sum()) == 3  # 3.0000000000000004


def test_batchtopk_k_may_differ_by_member():
    z = fire_in_training([1, 2.6, 6], draw(M, B, W).abs())
    assert (z > 0).sum((1, 2)).tolist() == [5, 13, 30]


def test_batchtopk_fires_all_ties():
    pre = torch.tensor([[[3.0, 2.0, 2.0], [2.0, 1.0, 0.0]]])
    assert fire_in_training(1, pre).tolist() == [[[3.0, 2.0, 2.0], [2.0, 0.0, 0.0]]]


def test_batchtopk_with_fewer_positive_than_k():
    pre = torch.tensor([[[3.0, -2.0, 0.0], [-2.0, -1.0, 0.5]]])
    sparsifier = BatchTopK(2)
    assert sparsifier(pre).tolist() == [[[3.0, 0.0, 0.0], [0.0, 0.0, 0.5]]]
    assert sparsifier.threshold.item() == 0.0
    assert not fire_in_training(2, -pre.abs() - 1).any()


def test_batchtopk_gradient_reaches_what_fires():
    pre, upstream = draw(M, B, W), draw(M, B, W, seed=1)
    sparsifier = BatchTopK(2, M)
    fires = (sparsifier(pre) != 0).to(pre.dtype)
    assert torch.equal(gradient(BatchTopK(2, M), pre, upstream), upstream * fires)


@given(st.permutations(range(B)), st.integers(0, 100))
@settings(max_examples=25, deadline=None)
def test_batchtopk_does_not_depend_on_the_order_of_samples(order, seed):
    pre = draw(M, B, W, seed=seed).mul(4).round()  # many ties
    assert torch.equal(
        fire_in_training(2.4, pre[:, order], members=M),
        fire_in_training(2.4, pre, members=M)[:, order],
    )


@given(
    st.lists(st.integers(0, 5), min_size=B, max_size=B).filter(any),
    st.floats(0.1, 7),
    st.integers(0, 100),
    st.sampled_from([torch.float32, torch.float64]),
)
@settings(max_examples=60, deadline=None)
def test_a_weighted_pattern_counts_as_that_many_samples(counts, k, seed, dtype):
    pre = draw(1, B, W, seed=seed).to(dtype)
    repeated = pre.repeat_interleave(torch.tensor(counts), dim=1)
    weight = torch.tensor(counts, dtype=dtype) / sum(counts)
    long, short = BatchTopK(k), BatchTopK(k)
    z = long(repeated)
    assert torch.equal(short(pre, weight).repeat_interleave(torch.tensor(counts), dim=1), z)
    assert torch.equal(short.threshold, long.threshold)


def test_the_running_threshold_follows_its_formula():
    sparsifier = BatchTopK((1, 2), threshold_rate=0.25)
    expected = [math.nan, math.nan]
    for step in range(4):
        pre = draw(2, B, W, seed=step)
        sparsifier(pre)
        for m, k in enumerate((1, 2)):
            tau = max(pre[m].flatten().sort(descending=True).values[k * B - 1].item(), 0.0)
            before = tau if step == 0 else expected[m]
            expected[m] = before + 0.25 * (tau - before)
        assert sparsifier.threshold.tolist() == pytest.approx(expected, rel=1e-14)


def test_the_running_threshold_survives_a_batch_with_nan():
    sparsifier = BatchTopK((1, 1))
    sparsifier(draw(2, B, W))
    before = sparsifier.threshold.tolist()
    bad = draw(2, B, W)
    bad[1] = math.nan
    z = sparsifier(bad)
    assert sparsifier.threshold[0].item() == before[0]
    assert sparsifier.threshold[1].item() == before[1]
    assert not z[1].any()


def test_batchtopk_in_use_is_a_jumprelu():
    sparsifier = BatchTopK((1, 2), threshold_rate=0.5)
    for step in range(3):
        sparsifier(draw(2, B, W, seed=step))
    sparsifier.eval()
    before = sparsifier.threshold.clone()
    pre = draw(2, B, W, seed=9)
    pre[0, 0, 0] = before[0]  # at the threshold itself a latent does not fire
    z = sparsifier(pre)
    assert torch.equal(z, torch.where(pre > before.view(2, 1, 1), pre, 0.0))
    assert torch.equal(sparsifier.threshold, before)
    # every sample alone
    assert torch.equal(torch.cat([sparsifier(each) for each in pre.split(1, dim=1)], dim=1), z)
    exported = sparsifier.exported(W)
    assert isinstance(exported, JumpReLU)
    assert exported.threshold.shape == (2, W)
    assert torch.equal(exported(pre), z)


def test_batchtopk_has_no_threshold_before_training():
    sparsifier = BatchTopK(1).eval()
    for act in (lambda: sparsifier(draw(1, B, W)), lambda: sparsifier.exported(W)):
        with pytest.raises(ConfigError, match="no threshold yet: it has seen no batch in training"):
            act()


def test_batchtopk_rescales_its_threshold():
    sparsifier = BatchTopK(1)
    sparsifier(draw(1, B, W))
    pre = draw(1, B, W, seed=1)
    z = sparsifier.eval()(pre)
    sparsifier.rescale(0.25)
    assert torch.equal(sparsifier(pre / 4), z / 4)


# ---------------------------------------------------------------- what all of them can do


def every_kind() -> dict[str, Sparsifier]:
    trained = BatchTopK((1, 2, 3))
    trained(draw(M, B, W))
    return {
        "identity": Identity(),
        "relu": ReLU(),
        "jumprelu": JumpReLU(draw(M, W).abs(), bandwidth=0.3),
        "topk": TopK((1, 2, 3)),
        "topk_equal": TopK(2, M),
        "batchtopk": trained.eval(),
    }


KINDS = sorted(every_kind())


@pytest.mark.parametrize("kind", KINDS)
def test_taken_members_do_what_they_did(kind):
    sparsifier = every_kind()[kind]
    pre = draw(M, B, W, seed=3)
    z = sparsifier(pre)
    for chosen in ([1], [2, 0], [-1], [0, 1, 2]):
        taken = sparsifier.take(chosen, W)
        taken.check(len(chosen), W)
        assert torch.equal(taken(pre[chosen]), z[chosen])
    assert torch.equal(sparsifier(pre), z)  # the original is as it was


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"identity"}))
def test_taken_without_latents_that_do_not_fire(kind):
    sparsifier = every_kind()[kind]
    pre = draw(M, B, W, seed=3)
    pre[:, :, 4:] = -1.0
    assert torch.equal(sparsifier.take([2], 4)(pre[[2], :, :4]), sparsifier(pre)[[2], :, :4])


@pytest.mark.parametrize("kind", KINDS)
def test_stack_undoes_take(kind):
    sparsifier = every_kind()[kind]
    again = Sparsifier.stack([sparsifier.take([m], W) for m in range(M)], W)
    pre = draw(M, B, W, seed=3)
    assert torch.equal(again(pre), sparsifier(pre))
    assert type(again) is type(sparsifier)
    for name, tensor in sparsifier.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)


def test_stack_pads_thresholds_with_zeros():
    narrow, wide = JumpReLU(torch.ones(1, 2)), JumpReLU(torch.full((2, 3), 2.0))
    both = Sparsifier.stack([narrow, wide], 4)
    assert both.threshold.tolist() == [[1, 1, 0, 0], [2, 2, 2, 0], [2, 2, 2, 0]]
    assert both.threshold.requires_grad


def test_different_kinds_do_not_stack():
    with pytest.raises(ConfigError, match="cannot stack a ReLU SAE with a TopK one"):
        Sparsifier.stack([ReLU(), TopK(1)], W)
    with pytest.raises(ConfigError, match=r"differ in \{'bandwidth': 0\.1\} and \{'bandwidth': 0"):
        Sparsifier.stack([JumpReLU(torch.ones(1, W), 0.1), JumpReLU(torch.ones(1, W), 0.2)], W)
    with pytest.raises(ConfigError, match="threshold_rate"):
        Sparsifier.stack([BatchTopK(1), BatchTopK(2, threshold_rate=0.5)], W)


@pytest.mark.parametrize("kind", KINDS)
def test_exported_equals_evaluation(kind):
    sparsifier = every_kind()[kind].eval()
    pre = draw(M, B, W, seed=3)
    assert torch.equal(sparsifier.exported(W)(pre), sparsifier(pre))


@pytest.mark.parametrize("kind", ["topk", "topk_equal", "batchtopk"])
@pytest.mark.parametrize("training", [True, False])
def test_the_selection_says_what_may_fire(kind, training):
    sparsifier = every_kind()[kind].train(training)
    pre = draw(M, B, W, seed=3)
    z = sparsifier(pre)
    selection = every_kind()[kind].train(training).select(pre)
    listed = torch.zeros_like(z).view(-1)
    place = selection.row * W + selection.latent
    listed[place] = selection.gather(pre).clamp_min(0)
    assert torch.equal(listed.view(M, B, W), z)


@pytest.mark.parametrize("kind", ["identity", "relu", "jumprelu"])
def test_dense_sparsifiers_offer_no_selection(kind):
    sparsifier = every_kind()[kind]
    assert sparsifier.expected_l0 is None
    assert sparsifier.select(draw(M, B, W)) is None
    with force_path("sparse"):
        sae = SAE(draw(M, W, 4), sparsifier=sparsifier)
        z, pre = sae.latents(draw(B, 4))
        assert torch.equal(z.dense(), sparsifier(pre))


def test_wrong_number_of_thresholds():
    with pytest.raises(ConfigError, match="has 3 thresholds but the SAE has 4 latents"):
        JumpReLU(torch.ones(2, 3)).check(2, 4)
    with pytest.raises(ConfigError, match=r"JumpReLU\.threshold has 2 members but the SAE has 3"):
        JumpReLU(torch.ones(2, 3)).check(3, 3)
