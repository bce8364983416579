"""The shipped checkpoints: whole, openable by name and by diffusers, and as good as their cards say."""

import json
import shutil

import diffusers
import pytest
import torch

from minildm import StableDiffusionPipeline, checkpoints
from minildm.checkpoints import WEIGHTS, shipped, shipped_models
from minildm.evaluation import evaluate


@pytest.fixture(scope="module")
def pipeline():
    return StableDiffusionPipeline.from_pretrained("mnist")


def test_every_shipped_file_has_a_checksum_and_all_are_small():
    files = {path.relative_to(WEIGHTS).as_posix() for path in WEIGHTS.glob("*/**/*") if path.is_file()}
    listed = set(checkpoints.checksums())
    assert {name for name in files if "__pycache__" not in name} == listed
    assert sum((WEIGHTS / name).stat().st_size for name in listed) < 60e6
    assert "mnist" in shipped_models()


def test_an_altered_checkpoint_is_refused_with_the_command_that_mends_it(tmp_path, monkeypatch):
    shutil.copytree(WEIGHTS, tmp_path / "weights")
    monkeypatch.setattr(checkpoints, "WEIGHTS", tmp_path / "weights")
    assert shipped("mnist") == tmp_path / "weights" / "mnist"
    with (tmp_path / "weights/mnist/unet/diffusion_pytorch_model.safetensors").open("r+b") as file:
        file.seek(100_000)
        file.write(b"\0\1\2\3")
    with pytest.raises(ValueError, match="diffusion_pytorch_model.safetensors: expected sha256 .* mend it with"):
        shipped("mnist")


def test_it_draws_what_it_is_asked_for(pipeline):
    result = evaluate(pipeline, 200, progress=False)
    assert result.scores.accuracy >= 0.97
    assert result.scores.frechet < 1.5 * result.floor.frechet
    assert result.scores.precision > 0.7 and result.scores.recall > 0.3


def test_guidance_makes_it_listen(pipeline):
    without = evaluate(pipeline, 200, guidance_scale=1.0, progress=False).scores.accuracy
    assert without < evaluate(pipeline, 200, guidance_scale=2.0, progress=False).scores.accuracy


def test_its_card_tells_recipe_and_score(pipeline):
    card = json.loads((WEIGHTS / "mnist" / "minildm.json").read_text())
    assert card == pipeline.card
    assert set(card["steps"]) == {"critic", "autoencoder", "denoiser"} and card["hardware"]
    assert card["evaluation"]["samples"] == 10_000
    examiner = json.loads((WEIGHTS / "mnist-examiner" / "minildm.json").read_text())
    assert examiner["accuracy"] > 0.995


def test_diffusers_draws_the_same_from_it(pipeline):
    theirs = diffusers.StableDiffusionPipeline.from_pretrained(WEIGHTS / "mnist", torch_dtype=torch.float32)
    theirs.set_progress_bar_config(disable=True)
    latents = torch.randn(3, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    prompts = ["a handwritten seven", "the digit 3", "eight"]
    options = {"num_inference_steps": 10, "guidance_scale": 1.75, "latents": latents}
    expected = theirs(prompts, height=32, width=32, output_type="pt", **options).images
    got = pipeline(prompts, progress=False, **options) / 2 + 0.5
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)
