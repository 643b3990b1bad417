import pytest
import torch

from latent_assay.errors import ConfigError
from latent_assay.worlds import (
    ChildSwitchesParent,
    Conditional,
    Constant,
    Correlation,
    Exponential,
    FoldedNormal,
    GaussianCopula,
    Hierarchy,
    Independent,
    Link,
    Normal,
    SideBySide,
    Stream,
    Table,
    Uniform,
    World,
    directions,
)

from .sampling import seeded

FIRINGS = [
    Independent(rates=(0.2, 0.3, 0.4)),
    Hierarchy(parents=(None, 0, 0), rates=(0.5, 0.4, 0.5), exclusive=True),
    ChildSwitchesParent(parents=(None, 0, 0), rates=(0.2, 0.1, 0.1)),
    Conditional(rates=(0.5, None, 0.1), links=[Link(feature=1, on=0, fires=0.5, silent=0.1)]),
    GaussianCopula(
        rates=(0.2, 0.3, 0.4), correlation=Correlation.low_rank(torch.full((3, 1), 0.5))
    ),
    Table.of({(): 0.5, (0, 1): 0.2, (2,): 0.3}, n_features=3),
    SideBySide(parts=(Independent(rates=(0.5,)), Independent(rates=(0.1, 0.2)))),
]
MAGNITUDES = [
    Constant(value=2.0),
    Normal(mean=1.0, sd=0.15),
    FoldedNormal(sd=0.5),
    Uniform(),
    Exponential(),
]


def world(firing=FIRINGS[0], magnitudes=MAGNITUDES[1]) -> World:
    return World(
        # odd sizes: rows do not start at aligned addresses
        directions=directions.orthonormal(3, 7, seeded(0)),
        firing=firing,
        magnitudes=magnitudes,
        bias=torch.arange(7.0),
    )


def take(stream: Stream, n: int) -> list[torch.Tensor]:
    return [next(stream) for _ in range(n)]


def equal(left: list[torch.Tensor], right: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def test_shapes():
    assert next(world().stream(5)).shape == (5, 7)
    assert next(world().stream(5, seeds=[3])).shape == (1, 5, 7)
    assert next(world().stream(5, seeds=(3, 4))).shape == (2, 5, 7)


@pytest.mark.parametrize("firing", FIRINGS, ids=lambda law: type(law).__name__)
@pytest.mark.parametrize("magnitudes", MAGNITUDES, ids=lambda law: type(law).__name__)
def test_a_member_draws_what_its_seed_draws_alone(firing, magnitudes):
    each = world(firing, magnitudes)
    alone = {seed: take(each.stream(13, seeds=seed), 3) for seed in (0, 5, 9)}
    for seeds in ([0, 5, 9], range(10), (9, 9, 0, 5)):
        together = take(each.stream(13, seeds=seeds), 3)
        for member, seed in enumerate(seeds):
            if seed in alone:
                assert equal([batch[member] for batch in together], alone[seed])


def test_different_seeds_draw_differently():
    batch = next(world().stream(13, seeds=(0, 1)))
    assert not torch.equal(batch[0], batch[1])


def test_a_stream_is_the_world_sampled_again_and_again():
    generator = seeded(4)
    expected = [world().sample(6, generator).x for _ in range(3)]
    assert equal(take(world().stream(6, seeds=4), 3), expected)


@pytest.mark.parametrize("magnitudes", MAGNITUDES, ids=lambda law: type(law).__name__)
@pytest.mark.parametrize("seeds", [7, (7, 8, 9)])
def test_resuming_goes_on_bit_for_bit(magnitudes, seeds):
    each = world(magnitudes=magnitudes)
    stream = each.stream(5, seeds=seeds)
    take(stream, 3)
    state = stream.state_dict()
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    expected = take(stream, 3)
    resumed = each.stream(5, seeds=seeds)
    take(resumed, 1)  # wherever it was
    resumed.load_state_dict(state)
    assert equal(take(resumed, 3), expected)


def test_a_state_is_a_snapshot():
    stream = world().stream(5)
    state = stream.state_dict()
    first = take(stream, 2)
    stream.load_state_dict(state)
    assert equal(take(stream, 2), first)


def test_state_survives_safetensors(tmp_path):
    from safetensors.torch import load_file, save_file

    stream = world().stream(5, seeds=(1, 2))
    take(stream, 2)
    save_file(stream.state_dict(), tmp_path / "stream.safetensors")
    expected = take(stream, 2)
    resumed = world().stream(5, seeds=(1, 2))
    resumed.load_state_dict(load_file(tmp_path / "stream.safetensors"))
    assert equal(take(resumed, 2), expected)


def test_dtype_and_iteration():
    stream = world().stream(5, dtype=torch.float64)
    assert iter(stream) is stream
    assert next(stream).dtype == torch.float64
    assert next(world().stream(2, device="cpu")).dtype == torch.float32


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: world().stream(0), "`batch_size` is 0"),
        (lambda: world().stream(1, seeds=[]), r"`seeds` is \[\]"),
        (lambda: world().stream(1, seeds=-1), "`seeds` is -1"),
        (lambda: world().stream(1, seeds=(0, 2**63)), "from 0 to 2"),
    ],
)
def test_refuses(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_states_of_other_streams_are_refused():
    stream = world().stream(5, seeds=(1, 2))
    before = stream.state_dict()
    for other in (world().stream(5, seeds=(1, 3)), world().stream(6, seeds=(1, 2))):
        with pytest.raises(ConfigError, match=r"but this one has seeds .* and batch size 5"):
            stream.load_state_dict(other.state_dict())
    with pytest.raises(ConfigError, match=r"lacks \['generators'\]"):
        stream.load_state_dict({k: v for k, v in before.items() if k != "generators"})
    other_device = {**before, "generators": before["generators"][:, :16]}
    with pytest.raises(ConfigError, match=r"shape \(2, 16\).*kind of device"):
        stream.load_state_dict(other_device)
    assert torch.equal(stream.state_dict()["generators"], before["generators"])
