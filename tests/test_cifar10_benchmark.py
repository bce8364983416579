"""benchmarks/cifar10.py: work that is kept, and a result that belongs to the script and to the
shipped model."""

import json
import math

import pytest

from minildm.files import read_json
from minildm.pipelines import shipped
from scripts import FOLDER, load, run


@pytest.fixture(scope="module")
def script():
    return load("cifar10")


def test_a_cell_is_measured_once_and_only_those_that_are_named(script, monkeypatch, tmp_path):
    made = []
    monkeypatch.setattr(script, "Bench", lambda: None)
    monkeypatch.setattr(
        script, "measure", lambda bench, name, *rest: made.append(name) or {"name": name}
    )
    for _ in range(2):
        run(script, monkeypatch, tmp_path, "shipped", "steps 4")
    assert made == ["shipped", "steps 4"] and not (tmp_path / "out.json").exists()
    with pytest.raises(SystemExit):
        run(script, monkeypatch, tmp_path, "no such cell")


def test_the_result_beside_the_script_has_been_made_with_its_settings_and_is_whole(script):
    result = json.loads((FOLDER / "cifar10.json").read_text(encoding="utf-8"))
    assert result["settings"] == script.SETTINGS
    assert [cell["name"] for cell in result["cells"]] == script.names()
    cells = {cell["name"]: cell for cell in result["cells"]}
    for name, cell in cells.items():
        if "confusion" in cell and "accuracy" in cell.get("scores", {}) and name != "floor":
            total, right = (
                sum(map(sum, cell["confusion"])),
                sum(cell["confusion"][i][i] for i in range(10)),
            )
            assert math.isclose(right / total, cell["scores"]["accuracy"], abs_tol=0.003), name


def test_the_result_is_of_the_model_that_is_shipped(script):
    card = read_json(shipped("cifar10") / "minildm.json", "a model's card")
    result = json.loads((FOLDER / "cifar10.json").read_text(encoding="utf-8"))
    cells = {cell["name"]: cell for cell in result["cells"]}
    assert result["card"]["seconds"] == card["seconds"]
    for key, value in card["evaluation"]["scores"].items():
        assert cells["shipped"]["scores"][key] == pytest.approx(value, rel=0.01), key
    for key, value in card["evaluation"]["floor"].items():
        assert cells["real"]["scores"][key] == pytest.approx(value, rel=0.01), key
