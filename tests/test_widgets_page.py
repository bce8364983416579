"""minildm.widgets.page: scripts in one piece, numbers as bytes, traits that stay within what there
is."""

import anywidget
import numpy as np
import pytest
import torch
import traitlets
from py_mini_racer import MiniRacer

from minildm.widgets.page import HERE, as_bytes, script, within, without_exports, without_imports

# the files that are widgets; the others are what these import
FILES = {path.name: path.read_text(encoding="utf-8") for path in sorted(HERE.glob("*.js"))}
WIDGETS = [name for name, source in FILES.items() if "export default" in source]


def test_what_a_script_imports_stands_once_and_before_what_needs_it():
    whole = script("playground.js")
    starts = ["function node(", "function promptForm(", "function row(", "function render("]
    assert [whole.count(start) for start in starts] == [1, 1, 1, 1]
    assert whole.index(starts[0]) < whole.index(starts[1]) < whole.index(starts[3])
    assert whole.index(starts[2]) < whole.index(starts[3])


@pytest.mark.parametrize("name", WIDGETS)
def test_a_widgets_script_is_one_piece_that_exports_render_alone(name):
    whole = script(name)
    assert "import " not in whole and whole.count("export ") == 1
    page = whole.replace("export default", "const view =")
    assert MiniRacer().eval(f"{page}; typeof view.render") == "function"


@pytest.mark.parametrize("name", FILES)
def test_imports_stand_in_one_line_each_and_name_what_the_other_file_exports(name):
    assert "import " not in without_imports(FILES[name])
    for line in FILES[name].splitlines():
        if line.startswith("import "):
            names, other = line.removeprefix("import { ").removesuffix('";').split(' } from "./')
            for one in names.split(", "):
                exports = (f"export function {one}(", f"export const {one} ")
                assert any(export in FILES[other] for export in exports)


def test_a_plain_script_exports_nothing_but_its_default():
    source = "export const a = 1;\nconst b = 'export c';\nexport default { a };\n"
    assert without_exports(source) == "const a = 1;\nconst b = 'export c';\nexport default { a };\n"


def test_numbers_travel_as_little_endian_float32_row_after_row():
    numbers = torch.arange(6.0, dtype=torch.float64).view(2, 3).T
    np.testing.assert_array_equal(np.frombuffer(as_bytes(numbers), "<f4"), [0, 3, 1, 4, 2, 5])


class Shelf(anywidget.AnyWidget):
    """A widget of some names and a number."""

    _esm = "export default { render() {} }"
    names = traitlets.List(["a", "b"])
    choice = traitlets.Int(-1)
    place = traitlets.Float(0.0)
    _within, _kept = within(
        choice=lambda widget: (-1, len(widget.names) - 1), place=lambda widget: (-0.5, 2.5)
    )


@pytest.mark.parametrize(
    "trait, inside, outside, message",
    [
        ("choice", [-1, 0, 1], [-2, 2], "expected choice in -1 … 1, got"),
        ("place", [-0.5, 2.5], [-0.6, 2.6], r"expected place in -0\.5 … 2\.5, got"),
    ],
)
def test_a_number_stays_within_its_limits(trait, inside, outside, message):
    shelf = Shelf()
    for value in inside:
        setattr(shelf, trait, value)
        assert getattr(shelf, trait) == value
    for value in outside:
        with pytest.raises(ValueError, match=f"{message} {value}"):
            setattr(shelf, trait, value)
        assert getattr(shelf, trait) == inside[-1]


def test_limits_are_those_after_all_that_one_message_sets():
    shelf = Shelf()
    with shelf.hold_trait_notifications():
        shelf.choice = 2
        shelf.names = ["a", "b", "c"]
    assert shelf.choice == 2


def test_where_there_is_less_to_show_a_number_goes_to_the_last_of_it():
    shelf = Shelf(names=["a", "b", "c", "d"], choice=3)
    shelf.names = ["a", "b"]
    assert shelf.choice == 1
    shelf.names = []
    assert shelf.choice == -1  # which this widget takes for none
    with shelf.hold_trait_notifications():
        shelf.names, shelf.choice = ["a", "b", "c"], 2
    assert shelf.choice == 2
