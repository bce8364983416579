"""benchmarks/pixel_or_latent.py: equal work in each group, work that is kept, a result that belongs
to the script."""

import json

import pytest
import torch

from minildm.data import ImageData
from minildm.evaluation import cost
from scripts import FOLDER, load, run


@pytest.fixture(scope="module")
def script():
    return load("pixel_or_latent")


@pytest.fixture
def without_training(script, monkeypatch):
    """Cells are made up on the spot; returns the list of those that were."""
    made = []

    def measure(space, widths, steps, *data):
        made.append((space, widths, steps))
        scores = {"accuracy": 0.5, "frechet": 2.0}
        return {
            "space": space,
            "widths": widths,
            "steps": steps,
            "seconds": 1.0,
            **scores,
            "rebuilt": scores,
        }

    class Examiner:
        def score(self, *pictures_and_labels):
            return {"accuracy": 1.0, "frechet": 1.0}

    monkeypatch.setattr(script, "measure", measure)
    monkeypatch.setattr(script, "Examiner", Examiner)
    monkeypatch.setattr(
        script,
        "mnist",
        lambda split, size: ImageData(torch.zeros(2, 1, 32, 32), torch.zeros(2), ()),
    )
    return made


def test_no_latent_gets_much_more_work_than_the_pixels_of_its_group(script):
    def work(name, widths, steps):
        shape = (
            script.space_of(name, torch.randn(40, 1, 32, 32))[0]
            .encode(torch.zeros(1, 1, 32, 32))
            .mean.shape
        )
        unet = script.new_unet(tuple(shape[1:]), widths)
        return (
            steps
            * cost(
                unet, torch.empty(shape), torch.zeros(1), torch.zeros(1, dtype=torch.long)
            ).training_flops
        )

    pixels = work(*script.CELLS[0])
    for cell in script.CELLS[1:]:
        if cell[0] != "pixels":
            assert 0.9 < work(*cell) / pixels < 1.25, cell


def test_finished_cells_are_kept_and_the_result_comes_with_the_last(
    script, without_training, monkeypatch, tmp_path
):
    names = [script.name_of(*cell) for cell in script.CELLS]
    assert len(set(names)) == len(names)
    run(script, monkeypatch, tmp_path, names[2])
    assert without_training == [script.CELLS[2]] and not (tmp_path / "out.json").exists()

    run(script, monkeypatch, tmp_path)
    assert sorted(without_training) == sorted(script.CELLS)
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["settings"] == script.SETTINGS
    assert [
        (cell["space"], tuple(cell["widths"]), cell["steps"]) for cell in written["cells"]
    ] == script.CELLS


def test_cells_of_other_settings_or_unknown_names_are_refused(
    script, without_training, monkeypatch, tmp_path
):
    with pytest.raises(SystemExit):
        run(script, monkeypatch, tmp_path, "pixels-1")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "settings.json").write_text(json.dumps({**script.SETTINGS, "ema": 1}))
    with pytest.raises(SystemExit):
        run(script, monkeypatch, tmp_path)
    assert without_training == []


def test_a_cell_is_measured_from_encoding_to_score(script, monkeypatch):
    monkeypatch.setattr(
        script, "SETTINGS", script.SETTINGS | {"samples": 10, "num_inference_steps": 2}
    )
    data = ImageData(torch.rand(20, 1, 32, 32) * 2 - 1, torch.arange(20) % 10, ())
    cell = script.measure("8x8", (8, 16), 2, data, data, script.Examiner())
    assert (cell["space"], cell["shape"], cell["steps"]) == ("8x8", [8, 4, 4], 2)
    assert len(bytes.fromhex(cell["pictures"])) == 10 * 28 * 28
    assert (
        0 <= cell["accuracy"] <= 1 and cell["frechet"] > 0 and cell["rebuilt"]["squared_error"] > 0
    )


def test_a_result_beside_the_script_has_been_made_with_its_settings_and_is_whole(script):
    result = json.loads((FOLDER / "pixel_or_latent.json").read_text(encoding="utf-8"))
    assert result["settings"] == script.SETTINGS
    assert [
        (cell["space"], tuple(cell["widths"]), cell["steps"]) for cell in result["cells"]
    ] == script.CELLS
