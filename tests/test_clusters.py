"""k-means: groups that are there are found, the same each time."""

import torch

from minildm.data import k_means


def test_groups_that_lie_apart_are_found():
    generator = torch.Generator().manual_seed(0)
    middles = 10 * torch.randn(5, 3, generator=generator)
    points = middles.repeat(40, 1) + 0.1 * torch.randn(200, 3, generator=generator)
    found = k_means(points, 5)
    distance, nearest = torch.cdist(middles, found).min(1)
    assert len(nearest.unique()) == 5 and distance.max() < 0.1
    torch.testing.assert_close(found, k_means(points, 5), rtol=0, atol=0)


def test_each_middle_is_the_mean_of_those_nearest_to_it():
    points = torch.randn(500, 4, generator=torch.Generator().manual_seed(1))
    middles = k_means(points, 3, rounds=200)
    nearest = torch.cdist(points, middles).argmin(1)
    for group, middle in enumerate(middles):
        torch.testing.assert_close(points[nearest == group].mean(0), middle)


def test_few_or_equal_points_have_fewer_groups():
    assert len(k_means(torch.randn(30, 2), 10)) == 3
    assert len(k_means(torch.ones(100, 2), 10)) == 1
    assert len(k_means(torch.tensor([[0.0], [1]]).repeat(50, 1), 10)) == 2
    assert len(k_means(torch.zeros(1, 2))) == 1
