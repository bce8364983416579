"""minildm.plots.cifar: what the figure shows, read back from it."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pytest
import torch

from minildm.plots import plot_confusion


def test_a_square_is_as_dark_as_its_share_and_only_large_ones_have_a_number():
    shares = torch.tensor([[0.75, 0.25], [0.01, 0.99]])
    figure = plot_confusion({"drawn": shares, "real": shares.flip(0, 1)}, ("cat", "dog"))
    assert plt.get_fignums() == []
    left, right = figure.axes
    assert (left.get_title(loc="left"), right.get_title(loc="left")) == ("drawn", "real")
    torch.testing.assert_close(torch.tensor(left.images[0].get_array()), shares)
    torch.testing.assert_close(torch.tensor(right.images[0].get_array()), shares.flip(0, 1))
    assert {text.get_position(): text.get_text() for text in left.texts} == {
        (0, 0): "75",
        (1, 0): "25",
        (1, 1): "99",
    }
    assert [label.get_text() for label in left.get_yticklabels()] == ["cat", "dog"]


@pytest.mark.parametrize(
    "shares", [torch.eye(3), 2 * torch.eye(2)], ids=["of other classes", "rows that sum to 2"]
)
def test_a_table_that_is_not_one_of_shares_is_refused(shares):
    with pytest.raises(ValueError, match="expected tables"):
        plot_confusion({"drawn": shares}, ("cat", "dog"))
