"""benchmarks/gan.py: it plays the game of chapter 13, keeps its work, and its result belongs to the
script."""

import json

import pytest
import torch

from scripts import FOLDER, load, run


@pytest.fixture(scope="module")
def script():
    return load("gan")


def test_a_cell_is_measured_once_and_only_those_that_are_named(script, monkeypatch, tmp_path):
    made = []
    monkeypatch.setattr(script, "Judge", lambda: None)
    monkeypatch.setattr(
        script, "measure", lambda judge, *cell: made.append(cell[:3]) or {"seed": cell[2]}
    )
    for _ in range(2):
        run(script, monkeypatch, tmp_path, "sweep R1 0", "long R1, faster discriminator 2")
    assert (
        made == [("sweep", "R1", 0), ("long", "R1, faster discriminator", 2)]
        and not (tmp_path / "out.json").exists()
    )
    with pytest.raises(SystemExit):
        run(script, monkeypatch, tmp_path, "sweep nonsense 0")


def test_a_game_is_scored_along_the_way_and_its_best_moment_is_the_nearest(script):
    judge = script.Judge()
    judge.images, judge.labels = judge.images[:200], judge.labels[:200]
    cell = script.play(judge, "R1, faster discriminator", 0, steps=4, every=2, samples=60)
    assert [line["step"] for line in cell["curve"]] == [2, 4]
    assert cell["curve"][cell["best"]]["frechet"] == min(line["frechet"] for line in cell["curve"])
    assert len(bytes.fromhex(cell["pages"]["final"])) == script.SETTINGS["shown"] * 28 * 28
    again = script.play(judge, "R1, faster discriminator", 0, steps=4, every=2, samples=60)
    assert again["pages"] == cell["pages"]


def test_variety_is_the_mean_distance_within_a_class(script):
    features, labels = torch.tensor([[0.0], [3.0], [10.0], [10.0]]), torch.tensor([0, 0, 1, 1])
    assert script.variety(features, labels) == pytest.approx(1.5)


def test_the_result_beside_the_script_has_been_made_with_its_settings_and_is_whole(script):
    result = json.loads((FOLDER / "gan.json").read_text(encoding="utf-8"))
    assert (result["settings"], result["sweep"], result["best"]) == (
        script.SETTINGS,
        script.SWEEP,
        script.BEST,
    )
    assert result["wide_sweep"] == script.WIDE
    assert list(result["cells"]) == list(script.all_cells())
    for name, cell in result["cells"].items():
        if name.startswith("long"):
            assert len(cell["curve"]) == script.SETTINGS["steps"] // script.SETTINGS["every"]
