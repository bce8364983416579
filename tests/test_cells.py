"""benchmarks/cells.py: what was measured is kept, and numbers of two kinds do not meet."""

import json

import pytest
from cells import Cells


def test_a_measured_cell_is_not_measured_again(tmp_path):
    cells, taken = Cells(tmp_path, {"steps": 3}), []

    def take():
        taken.append(len(taken))
        return {"value": taken[-1]}

    for name in ("no time 0", "no time 1", "no time 0"):
        cells.measure(name, take)
    assert taken == [0, 1] and cells.missing(["no time 0", "other", "no time 1"]) == ["other"]
    assert Cells(tmp_path, {"steps": 3}).read(["no time 1", "no time 0"]) == [
        {"value": 1},
        {"value": 0},
    ]


def test_an_interrupted_cell_is_to_be_measured_again(tmp_path):
    def interrupted():
        raise KeyboardInterrupt

    cells = Cells(tmp_path, {})
    with pytest.raises(KeyboardInterrupt):
        cells.measure("a", interrupted)
    assert cells.missing(["a"]) == ["a"]


def test_cells_of_other_settings_are_refused_and_left_alone(tmp_path):
    Cells(tmp_path, {"steps": 3}).measure("a", lambda: {"value": 1})
    with pytest.raises(ValueError, match="other settings"):
        Cells(tmp_path, {"steps": 4})
    assert json.loads((tmp_path / "a.json").read_text()) == {"value": 1}
    Cells(tmp_path, {"steps": 3})
