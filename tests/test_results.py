"""benchmarks/results.py: it trains what the course trains, keeps its work, and its result belongs
to the script."""

import json
from types import SimpleNamespace

import pytest
import torch

from minildm.data import load_text_image
from minildm.training import PRESETS, train
from scripts import FOLDER, load, run


@pytest.fixture(scope="module")
def script():
    return load("results")


@pytest.fixture
def tiny(script, monkeypatch):
    """The data of the preset `tiny`, and a step for everything."""
    monkeypatch.setitem(script.SETTINGS["steps"], "tiny", {"perceptual_net": 1})
    return SimpleNamespace(
        name="tiny", dataset=load_text_image("mnist", PRESETS["tiny"].num_images)
    )


def test_the_chain_is_bit_for_bit_the_one_that_minildm_train_trains(script, tiny, tmp_path):
    recipe = PRESETS["tiny"]
    expected = train(recipe, tmp_path, steps=(1, 2, 2), seed=3, device="cpu", progress=False)
    vae = script.train_autoencoder(tiny, recipe, 2, 3)
    got = script.train_denoiser(tiny, recipe, vae, 2, 3)
    for part in ("vae", "unet", "text_encoder"):
        ours, theirs = getattr(got, part).state_dict(), getattr(expected, part).state_dict()
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    assert got.vae.config.scaling_factor == expected.vae.config.scaling_factor


def test_pixels_take_the_place_of_latents(script, tiny):
    recipe = script.replace(PRESETS["tiny"], unet={**PRESETS["tiny"].unet, "sample_size": 32})
    space = script.in_the_pipeline(script.Pixels(), channels=1, factor=1)
    pipeline = script.train_denoiser(tiny, recipe, space, 1, 0)
    assert pipeline("seven", num_inference_steps=1, progress=False).shape == (1, 1, 32, 32)


def test_every_cell_is_measured_once_and_the_result_comes_with_the_last(
    script, monkeypatch, tmp_path
):
    made = []

    def measure(dataset, arm, seed):
        made.append((dataset, arm, seed))
        row = {"milliseconds": 1.0, "accuracy": 0.5, "frechet": 2.0}
        return {
            "dataset": dataset,
            "arm": arm,
            "seed": seed,
            "seconds": 1.0,
            "parameters": 1,
            "rows": [row],
        }

    monkeypatch.setattr(script, "measure", measure)
    monkeypatch.setattr(script, "floor", lambda dataset: {"frechet": 1.0})
    first = next(iter(script.all_cells()))
    run(script, monkeypatch, tmp_path, first)
    assert len(made) == 1 and not (tmp_path / "out.json").exists()
    for _ in range(2):
        run(script, monkeypatch, tmp_path)
    assert made == list(script.all_cells().values()) and len(set(made)) == len(made)
    assert len(json.loads((tmp_path / "out.json").read_text())["cells"]) == len(made)


def test_an_unknown_cell_is_named(script, monkeypatch, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(script, monkeypatch, tmp_path, "mnist nonsense 0")
    assert "got mnist nonsense 0" in capsys.readouterr().err


def test_the_result_beside_the_script_has_been_made_with_its_settings_and_is_whole(script):
    result = json.loads((FOLDER / "results.json").read_text(encoding="utf-8"))
    assert result["settings"] == script.SETTINGS
    assert [(c["dataset"], c["arm"], c["seed"]) for c in result["cells"]] == list(
        script.all_cells().values()
    )
