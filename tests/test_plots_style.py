"""minildm.plots.style: the frame in which every figure is drawn."""

import subprocess
import sys

import matplotlib.pyplot as plt
import pytest
import torch

from minildm.plots import image_grid, plot_schedules, styled
from minildm.plots.style import COLOURS, DASHES, MARKERS, STYLE


def test_axes_come_row_after_row_in_the_style_and_size_asked_for():
    with styled(2, 3, width=4.0, height=2.0, sharex=True) as (figure, axes):
        assert all(plt.rcParams[key] == value for key, value in STYLE.items())
        corners = [(ax.get_position().y0, ax.get_position().x0) for ax in axes]
    assert sorted(corners, key=lambda corner: (-corner[0], corner[1])) == corners
    assert figure.axes == axes and figure.get_size_inches().tolist() == [4.0, 2.0]
    axes[0].set_xlim(3, 4)
    assert axes[5].get_xlim() == (3, 4) and axes[5].get_ylim() == (0, 1)


def test_a_figure_is_closed_when_it_is_drawn_and_when_drawing_fails():
    with styled(height=2.0) as (_, (ax,)):
        ax.plot([0, 1])
        assert len(plt.get_fignums()) == 1
    assert plt.get_fignums() == []
    with pytest.raises(ZeroDivisionError), styled(height=2.0):
        raise ZeroDivisionError
    assert plt.get_fignums() == []


def test_drawing_leaves_matplotlibs_settings_alone():
    with plt.rc_context():
        plt.rcdefaults()
        before = dict(plt.rcParams)
        plot_schedules({"linear": torch.linspace(1, 0, 10)})
        image_grid(torch.zeros(1, 1, 3, 4))
        with pytest.raises(ZeroDivisionError), styled(height=2.0):
            raise ZeroDivisionError
        assert dict(plt.rcParams) == before


def test_each_of_seven_lines_has_a_colour_dashes_and_a_marker_of_its_own():
    assert len(set(COLOURS)) == len(set(DASHES)) == len(set(MARKERS)) == 7


def test_matplotlib_is_imported_by_the_first_figure_and_not_before():
    code = """
import sys, torch
import minildm.plots
print("matplotlib" in sys.modules)
minildm.plots.image_grid(torch.zeros(1, 1, 2, 2))
print("matplotlib" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert done.stdout.split() == [b"False", b"True"], done.stderr.decode()
