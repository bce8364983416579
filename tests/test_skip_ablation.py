"""benchmarks/skip_ablation.py: fair variants, work that is kept, and a result that belongs to the
script."""

import json

import pytest
import torch

from minildm import UNet2DModel
from scripts import FOLDER, load, run


@pytest.fixture(scope="module")
def script():
    return load("skip_ablation")


@pytest.fixture
def without_training(script, monkeypatch):
    """Cells are made up on the spot; returns the list of those that were."""
    made = []

    def measure(variant, seed, *data):
        made.append((variant, seed))
        return {
            "variant": variant,
            "seed": seed,
            "errors": [0.1, 0.3],
            "frechet": 2.0,
            "confident": 1,
            "seconds": 9,
        }

    monkeypatch.setattr(script, "measure", measure)
    monkeypatch.setattr(
        script, "mnist", lambda split: type("Data", (), {"images": torch.zeros(2, 1, 28, 28)})
    )
    monkeypatch.setattr(script, "floor", lambda *data: {"frechet": 1.0})
    return made


def test_every_variant_has_the_parameters_of_the_intact_network(script):
    counts = set()
    for variant in script.VARIANTS.values():
        counts.add(
            sum(p.numel() for p in variant(UNet2DModel(**script.SETTINGS["unet"])).parameters())
        )
    assert len(counts) == 1


def test_finished_cells_are_kept_and_the_result_comes_with_the_last(
    script, without_training, monkeypatch, tmp_path
):
    everything = [
        (variant, seed) for seed in script.SETTINGS["seeds"] for variant in script.VARIANTS
    ]
    run(script, monkeypatch, tmp_path, "--seeds", "0")
    assert without_training == [cell for cell in everything if cell[1] == 0]
    assert not (tmp_path / "out.json").exists()

    (tmp_path / "runs" / "no-time-0.json").unlink()  # as if it had been interrupted there
    run(script, monkeypatch, tmp_path)
    assert sorted(without_training) == sorted([*everything, ("no time", 0)])
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["settings"] == script.SETTINGS
    assert [(cell["variant"], cell["seed"]) for cell in written["cells"]] == everything


def test_cells_of_other_settings_are_not_mixed_in(script, without_training, monkeypatch, tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "settings.json").write_text(json.dumps({**script.SETTINGS, "steps": 1}))
    with pytest.raises(SystemExit):
        run(script, monkeypatch, tmp_path)
    assert without_training == []


def test_a_result_beside_the_script_has_been_made_with_its_settings_and_is_whole(script):
    result = json.loads((FOLDER / "skip_ablation.json").read_text(encoding="utf-8"))
    assert result["settings"] == script.SETTINGS
    expected = [(variant, seed) for seed in script.SETTINGS["seeds"] for variant in script.VARIANTS]
    assert [(cell["variant"], cell["seed"]) for cell in result["cells"]] == expected
    assert {len(cell["errors"]) for cell in result["cells"]} == {len(script.SETTINGS["timesteps"])}
