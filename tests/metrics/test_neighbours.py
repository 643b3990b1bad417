import pytest
import torch

from latent_assay.errors import ConfigError
from latent_assay.metrics import directions as directions_module
from latent_assay.metrics import nearest_latents


def test_equals_sorting_the_whole_map(generator, monkeypatch):
    decoder = torch.randn(2, 31, 6, generator=generator)
    unit = torch.nn.functional.normalize(decoder.double(), dim=-1)
    cosines = unit @ unit.mT
    cosines.diagonal(dim1=1, dim2=2).fill_(-torch.inf)
    expected = cosines.sort(dim=-1, descending=True)
    for entries in (2**25, 100):  # all at once, and three rows at a time
        monkeypatch.setattr(directions_module, "_ENTRIES", entries)
        near = nearest_latents(decoder, 30)
        torch.testing.assert_close(near.cosine, expected.values[..., :30])
        assert near.latent.equal(expected.indices[..., :30])
    assert near.cosine.dtype == torch.float64


def test_duplicates_find_each_other(generator):
    decoder = torch.randn(1, 5, 8, generator=generator)
    decoder[0, 4] = 2 * decoder[0, 1]
    near = nearest_latents(decoder)
    assert near.latent[0, [1, 4], 0].tolist() == [4, 1]
    assert near.cosine[0, 1, 0].item() == pytest.approx(1, abs=1e-12)


def test_near_equal_cosines_are_ordered_exactly(generator):
    """Float32 cannot tell these cosines apart; the answer is in float64 order all the same."""
    decoder = torch.randn(8, generator=generator) + 2e-4 * torch.randn(
        1, 20, 8, generator=generator
    )
    near = nearest_latents(decoder, 19)
    assert (near.cosine.diff(dim=-1) <= 0).all()
    unit = torch.nn.functional.normalize(decoder[0].double(), dim=-1)
    torch.testing.assert_close(near.cosine[0], (unit @ unit.T).gather(-1, near.latent[0]))


def test_padding_and_zero_rows_are_nobodys_neighbours(generator):
    decoder = torch.randn(1, 4, 8, generator=generator, dtype=torch.float64)
    alone = nearest_latents(decoder[:, :3], 2)
    mask = torch.tensor([[True, True, True, False]])
    padded = nearest_latents(decoder, 2, mask)
    zeroed = nearest_latents(torch.cat([decoder[:, :3], 0 * decoder[:, :1]], dim=1), 2)
    for near in (padded, zeroed):
        assert near.latent[:, :3].equal(alone.latent)
        torch.testing.assert_close(near.cosine[:, :3], alone.cosine)
        assert near.latent[0, 3].tolist() == [-1, -1]
        assert near.cosine[0, 3].tolist() == [0.0, 0.0]
    three = nearest_latents(decoder, 3, mask)
    assert three.latent[0, :3, 2].tolist() == [-1] * 3


@pytest.mark.parametrize("n", [0, 3])
def test_a_number_out_of_range_is_explained(n):
    with pytest.raises(ConfigError, match="expected from 1 to 2 neighbours"):
        nearest_latents(torch.eye(3), n)
