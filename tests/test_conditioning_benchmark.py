"""benchmarks/conditioning.py: fair variants, work that is kept, and a result that belongs to the
script."""

import json

import pytest
import torch
from tiny import tiny_pipeline

from minildm.data import caption_words, held_out, write_captions
from minildm.pipelines import StableDiffusionPipeline, shipped_models
from minildm.text import CLIPTokenizer
from scripts import FOLDER, load, run


@pytest.fixture(scope="module")
def script():
    return load("conditioning")


@pytest.fixture
def bench(script):
    """Without the model and its latents: random ones of a few scenes, and a U-Net of next to no
    size."""
    made = object.__new__(script.Bench)
    unet = {**script.SETTINGS["unet"], "block_out_channels": [8, 16]}
    made.settings = {**script.SETTINGS, "unet": unet, "batch_size": 4, "samples": 4}
    made.tokenizer = CLIPTokenizer.train(caption_words(), model_max_length=32)
    made.mean, made.std = torch.randn(4, 4, 8, 8), torch.full((4, 4, 8, 8), 0.1)
    made.captions = [
        [text]
        for text in write_captions(script.sample_attributes(4, torch.Generator().manual_seed(0)))
    ]
    return made


@pytest.fixture
def without_training(script, monkeypatch):
    """Cells are made up on the spot; returns the list of those that were."""
    made = []

    def measure(bench, variant, seed):
        made.append((variant, seed))
        scores = {
            name: {"all_right": 0.5, "digits": 0.5, "colours": 1, "places": 1}
            for name in script.SETTINGS["asked"]
        }
        return {"variant": variant, "seed": seed, "scores": scores}

    monkeypatch.setattr(script, "measure", measure)
    monkeypatch.setattr(
        script, "Bench", lambda model: type("Bench", (), {"pipeline": tiny_pipeline()})
    )
    monkeypatch.setattr(script, "floor", lambda bench: {})
    return made


def test_the_u_nets_of_all_variants_begin_with_the_same_weights(script, bench):
    begun = [bench.train(variant, 0, 0)[0].state_dict() for variant in script.SETTINGS["variants"]]
    for other in begun[1:]:
        torch.testing.assert_close(other, begun[0], rtol=0, atol=0)


@pytest.mark.parametrize("variant", ["class", "pooled text", "every word"])
def test_every_variant_trains_and_its_reader_learns_too(bench, variant):
    before = [p.clone() for p in bench.train(variant, 0, 0)[1].parameters()]
    _, reader, losses = bench.train(variant, 0, 2)
    assert len(losses) == 2 and all(torch.tensor(losses).isfinite())
    assert any((a != b).any() for a, b in zip(before, reader.parameters(), strict=True))


def test_what_is_asked_is_what_its_name_says(script):
    for name, (_, count) in script.SETTINGS["asked"].items():
        asked = script.questions(name)
        assert ((asked.digits[:, 1] >= 0) == (count == 2)).all()
        strange = held_out(asked)[0].any(1)
        assert strange.all() if "held-out" in name else not strange.any()


def test_finished_cells_are_kept_and_the_result_comes_with_the_last(
    script, without_training, monkeypatch, tmp_path
):
    everything = [
        (variant, seed)
        for seed in script.SETTINGS["seeds"]
        for variant in script.SETTINGS["variants"]
    ]
    run(script, monkeypatch, tmp_path)
    assert without_training == everything
    (tmp_path / "out.json").unlink()
    (tmp_path / "runs" / "pooled-text-0.json").unlink()  # as if it had been interrupted there
    run(script, monkeypatch, tmp_path)
    assert without_training == [*everything, ("pooled text", 0)]
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["settings"] == script.SETTINGS
    assert [(cell["variant"], cell["seed"]) for cell in written["cells"]] == everything


def test_cells_of_other_settings_are_not_mixed_in(script, without_training, monkeypatch, tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "settings.json").write_text(json.dumps({**script.SETTINGS, "steps": 1}))
    with pytest.raises(SystemExit):
        run(script, monkeypatch, tmp_path)
    assert without_training == []


def test_the_result_beside_the_script_was_made_with_its_settings_and_the_shipped_autoencoder(
    script,
):
    result = json.loads((FOLDER / "conditioning.json").read_text(encoding="utf-8"))
    assert result["settings"] == script.SETTINGS
    expected = [
        (variant, seed)
        for seed in script.SETTINGS["seeds"]
        for variant in script.SETTINGS["variants"]
    ]
    assert [(cell["variant"], cell["seed"]) for cell in result["cells"]] == expected
    assert all(list(cell["scores"]) == list(script.SETTINGS["asked"]) for cell in result["cells"])
    if "scenes" in shipped_models():
        assert result["vae"] == script.digest(StableDiffusionPipeline.from_pretrained("scenes").vae)
