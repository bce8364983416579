"""benchmarks/four_minutes.py: work that is kept, and a result that belongs to the script."""

import json

import pytest

from scripts import FOLDER, load, run


@pytest.fixture(scope="module")
def script():
    return load("four_minutes")


def test_every_seed_is_trained_once_and_the_result_comes_with_the_last(
    script, monkeypatch, tmp_path
):
    made = []

    def measure(folder, seed, minutes):
        made.append((folder.name, seed, minutes))
        scores = [
            {"guidance": g, "accuracy": 0.5, "frechet": 2.0} for g in script.SETTINGS["guidance"]
        ]
        return {"seed": seed, "scores": scores, "floor": {"frechet": 1.0}}

    monkeypatch.setattr(script, "measure", measure)
    for _ in range(2):
        run(script, monkeypatch, tmp_path, "--minutes", "0.5")
    assert made == [("seed_0", 0, 0.5), ("seed_1", 1, 0.5), ("seed_2", 2, 0.5)]
    assert [cell["seed"] for cell in json.loads((tmp_path / "out.json").read_text())["cells"]] == [
        0,
        1,
        2,
    ]


def test_the_result_beside_the_script_has_been_made_with_its_settings_and_is_whole(script):
    result = json.loads((FOLDER / "four_minutes.json").read_text(encoding="utf-8"))
    assert result["settings"] == script.SETTINGS
    assert [cell["seed"] for cell in result["cells"]] == script.SETTINGS["seeds"]
    for cell in result["cells"]:
        assert [s["guidance"] for s in cell["scores"]] == script.SETTINGS["guidance"]
