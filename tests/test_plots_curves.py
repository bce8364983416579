"""minildm.plots.curves: what the figures show, read back from them."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from minildm.plots import plot_curves, plot_feature_maps, plot_scores


@pytest.fixture(autouse=True)
def no_figure_stays_open():
    plt.close("all")
    yield
    assert plt.get_fignums() == []


def test_each_feature_map_is_stretched_over_its_own_range():
    maps = torch.stack(
        [torch.tensor([[0.0, 1.0], [0.0, 1.0]]), torch.tensor([[5.0, 9.0], [5.0, 9.0]])]
    )
    (image,) = plot_feature_maps({"a": maps}, count=2, size=2).axes[0].get_images()
    sheet = np.asarray(image.get_array())
    np.testing.assert_array_equal(sheet[:, :2], [[0, 255], [0, 255]])
    np.testing.assert_array_equal(sheet[:, -2:], sheet[:, :2])


def test_too_few_feature_maps_are_refused():
    with pytest.raises(ValueError, match="expected at least 8 channels"):
        plot_feature_maps({"a": torch.zeros(3, 2, 2)})


def test_curves_show_the_mean_and_the_deviation_of_the_seeds():
    seeds = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    figure = plot_curves([0, 10], {"several": seeds, "one": torch.tensor([5.0, 5.0])}, "x", "y")
    several, one = (line for line in figure.axes[0].lines if str(line.get_marker()) not in "_|2")
    np.testing.assert_allclose(several.get_ydata().astype(float), [2, 4])
    np.testing.assert_allclose(one.get_ydata().astype(float), [5, 5])
    (bars,) = [c for c in figure.axes[0].collections if hasattr(c, "get_segments")]
    lengths = [segment[1, 1] - segment[0, 1] for segment in bars.get_segments()]
    np.testing.assert_allclose(lengths, 2 * seeds.std(0).numpy(), rtol=1e-5)


def test_curves_of_another_length_are_refused():
    with pytest.raises(ValueError, match=r"expected \(2,\) or \(seeds, 2\) for 'a'"):
        plot_curves([0, 1], {"a": torch.zeros(3)}, "x", "y")


def test_scores_have_a_bar_to_the_mean_and_a_dot_for_each():
    figure = plot_scores({"a": [1.0, 3.0], "b": [4.0]}, "score", floor=0.5)
    ax = figure.axes[0]
    assert [bar.get_width() for bar in ax.patches] == [2.0, 4.0]
    assert [list(line.get_xdata()) for line in ax.lines] == [[1.0, 3.0], [4.0], [0.5, 0.5]]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]
    with pytest.raises(ValueError, match="expected scores"):
        plot_scores({"a": []}, "score")
