import copy

import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.stats import energy_distance as theirs

from minildm.data import TOYS, energy_distance
from minildm.models import ToyDenoiser


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", TOYS)
def test_a_toy_is_centred_has_variance_1_and_comes_from_its_generator(name):
    points = TOYS[name](20_000, generator())
    assert points.shape == (20_000, 2) and points.dtype == torch.float32
    assert points.mean(0).abs().max() < 0.05
    assert (points.var(0) - 1).abs().max() < 0.25
    torch.testing.assert_close(points, TOYS[name](20_000, generator()), rtol=0, atol=0)
    assert not torch.equal(points, TOYS[name](20_000, generator(1)))


def test_the_checkerboard_fills_its_dark_squares_alike_and_leaves_the_light_ones_empty():
    row, column = (TOYS["checkerboard"](16_000, generator()) / (3**0.5 / 2) + 2).long().T
    counts = torch.bincount(4 * row + column, minlength=16).reshape(4, 4)
    dark = (torch.arange(4)[:, None] + torch.arange(4)) % 2 == 0
    assert (counts[~dark] == 0).all()
    assert (counts[dark] - 2000).abs().max() < 4 * 2000**0.5


def test_energy_distance_in_one_dimension_is_that_of_the_distribution_functions():
    """scipy's is √(2∫(F - G)²), of the samples as they are; ours leaves out the pairs of a point
    with itself."""
    a, b = (
        torch.randn(3000, 1, generator=generator()),
        0.7 * torch.randn(3000, 1, generator=generator(1)) + 0.5,
    )
    assert energy_distance(a, b) == pytest.approx(theirs(a[:, 0], b[:, 0]) ** 2, abs=2e-3)
    assert energy_distance(a, b) > 0.1


def test_energy_distance_is_that_of_scipys_distances_far_from_the_origin():
    """A product in float32 knows little of distances that are small beside the numbers."""
    a = 100 + 1e-2 * torch.randn(300, 2, generator=generator())
    b = 100 + 1e-2 * torch.randn(200, 2, generator=generator(1)) + 5e-3
    ab, aa, bb = (cdist(x.numpy(), y.numpy()) for x, y in ((a, b), (a, a), (b, b)))
    expected = 2 * ab.mean() - aa.sum() / (300 * 299) - bb.sum() / (200 * 199)
    assert energy_distance(a, b) == pytest.approx(expected, rel=1e-2)


def test_energy_distance_of_one_distribution_is_zero_on_average():
    values = torch.tensor(
        [energy_distance(*torch.randn(2, 50, 2, generator=generator(seed))) for seed in range(400)]
    )
    assert values.mean().abs() < 4 * values.std() / 400**0.5 and values.std() < 0.1


def test_the_network_sees_the_point_and_the_timestep_and_takes_one_timestep_for_all():
    model = ToyDenoiser(hidden=16)
    sample, t = torch.randn(6, 2, generator=generator()), torch.tensor([0, 10, 100, 500, 900, 999])
    said = model(sample, t)
    assert said.shape == (6, 2)
    torch.testing.assert_close(model(sample, 100)[2], said[2])
    assert not torch.allclose(model(sample, 101), model(sample, 500))
    still = copy.deepcopy(model)
    torch.nn.init.zeros_(still.linear_in.weight)
    assert not torch.allclose(still(sample, t), said)


@pytest.mark.parametrize("a, b", [((5, 2), (5, 3)), ((1, 2), (5, 2)), ((5,), (5,))])
def test_points_that_cannot_be_compared_are_named(a, b):
    with pytest.raises(ValueError, match="expected points"):
        energy_distance(torch.zeros(a), torch.zeros(b))


def test_a_point_has_a_timestep_of_its_own_or_all_have_one():
    network, points = ToyDenoiser(hidden=8), torch.randn(4, 2, generator=generator())
    times = torch.tensor([5, 5, 5, 5])
    assert torch.equal(network(points, 5), network(points, times))
    assert torch.equal(network(points, times[:1]), network(points, times))
    for wrong in (times[:2], torch.zeros(8)):
        with pytest.raises(ValueError, match=r"expected points \(B, 2\) and a timestep"):
            network(points, wrong)
