"""minildm.plots.costs: what the figures show, read back from them."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pytest

from minildm.plots import plot_costs


def test_every_bar_ends_at_its_cost_on_a_logarithmic_axis():
    figure = plot_costs({"TFLOP": {"a": 2.0, "b": 3000.0}, "GB": {"a": 0.5, "b": 0.25}})
    assert plt.get_fignums() == []
    for ax, ends, label in zip(
        figure.axes, ([2.0, 3000.0], [0.5, 0.25]), ("TFLOP", "GB"), strict=True
    ):
        assert [bar.get_x() + bar.get_width() for bar in ax.patches] == pytest.approx(ends)
        assert (ax.get_xscale(), ax.get_xlabel()) == ("log", label)
    assert [text.get_text() for text in figure.axes[0].texts] == [" 2", " 3,000"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["a", "b"]


def test_costs_that_have_no_logarithm_or_other_names_are_refused():
    for panels in ({"x": {"a": 0.0}}, {"x": {"a": 1.0}, "y": {"b": 1.0}}, {}):
        with pytest.raises(ValueError, match="expected positive costs of the same names"):
            plot_costs(panels)
