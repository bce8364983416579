"""The shipped checkpoints: whole, openable by name and by diffusers, and as good as their cards
say."""

import json

import diffusers
import pytest
import torch
from make_controlnet import evaluate as evaluate_controlnet
from make_weights import train_again

from minildm import StableDiffusionPipeline
from minildm.evaluation import KINDS, evaluate
from minildm.files import CHECKSUMS
from minildm.pipelines import WEIGHTS, checkpoints, shipped, shipped_models
from minildm.training import PRESETS, train
from minildm.variations import ControlNetModel

NETWORKS = ("vae", "text_encoder", "unet")


@pytest.fixture(scope="module")
def pipeline():
    return StableDiffusionPipeline.from_pretrained("mnist")


def test_every_shipped_file_has_a_checksum_and_all_are_small():
    files = {
        path.relative_to(WEIGHTS).as_posix() for path in WEIGHTS.glob("*/**/*") if path.is_file()
    }
    listed = set(checkpoints.checksums())
    assert {name for name in files if "__pycache__" not in name} == listed
    assert sum((WEIGHTS / name).stat().st_size for name in listed) < 60e6
    assert "mnist" in shipped_models()


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A copy of the shipped weights, of links, each of which may be replaced by another file."""
    folder = tmp_path / "weights"
    for name in [*checkpoints.checksums(), CHECKSUMS]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(WEIGHTS / name)
    monkeypatch.setattr(checkpoints, "WEIGHTS", folder)
    return folder


SHIPPED_FILES = sorted(checkpoints.checksums())


@pytest.mark.parametrize("name", SHIPPED_FILES)
def test_a_byte_altered_in_any_shipped_file_is_found_with_the_command_that_mends_it(copied, name):
    """Weights, configurations, vocabularies, cards: the first, a middle and the last byte, one too
    many, one too few, and no file at all."""
    file, model = copied / name, name.partition("/")[0]
    whole = file.read_bytes()
    assert shipped(model) == copied / model
    altered = [
        whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
        for place in (0, len(whole) // 2, len(whole) - 1)
    ]
    for content in (*altered, whole + b"\n", whole[:-1], b""):
        file.unlink()
        file.write_bytes(content)
        with pytest.raises(ValueError, match="truncated or altered, expected sha256 .* mend it wi"):
            shipped(model)
    file.unlink()
    with pytest.raises(FileNotFoundError, match="expected sha256 .*, got none; mend it with"):
        shipped(model)
    file.write_bytes(whole)
    assert shipped(model) == copied / model


def test_an_altered_list_of_checksums_is_found(copied):
    digests = (copied / CHECKSUMS).read_text().splitlines(keepends=True)
    (copied / CHECKSUMS).unlink()
    for place, line in enumerate(digests):
        other = line.replace(line[0], "0" if line[0] != "0" else "1", 1)
        (copied / CHECKSUMS).write_text("".join([*digests[:place], other, *digests[place + 1 :]]))
        with pytest.raises(ValueError, match="truncated or altered"):
            shipped(line.split()[1].partition("/")[0])


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
    assert set(card["steps"]) == {"perceptual_net", "autoencoder", "denoiser"} and card["hardware"]
    assert card["evaluation"]["samples"] == 10_000
    examiner = json.loads((WEIGHTS / "mnist-examiner" / "minildm.json").read_text())
    assert examiner["accuracy"] > 0.995


@pytest.fixture(scope="module")
def scenes():
    return StableDiffusionPipeline.from_pretrained("scenes")


def test_scenes_are_what_the_caption_says_also_in_combinations_never_seen(scenes):
    result = evaluate(scenes, 300, progress=False)
    for kind, least in (("one digit", 0.7), ("one digit, new colour", 0.7), ("two digits", 0.7)):
        assert result.scores[kind].all_right >= least, kind
        assert (
            min(result.scores[kind].colours, result.scores[kind].places, result.scores[kind].ground)
            >= 0.9
        ), kind


def test_the_card_of_the_scenes_tells_its_score_on_seen_and_held_out(scenes):
    card = scenes.card
    assert card["dataset"] == "scenes" and set(card["evaluation"]["scores"]) == set(KINDS)
    assert card["evaluation"]["samples"] == 1000
    assert card["evaluation"]["guidance_scale"] == card["guidance_scale"]


def test_photographs_are_mostly_taken_for_what_was_asked_and_the_card_tells_how_well():
    photographs = StableDiffusionPipeline.from_pretrained("cifar10")
    result = evaluate(photographs, 200, progress=False)
    assert result.scores.accuracy >= 0.7 and result.scores.precision > 0.8
    assert (
        photographs.card["dataset"] == "cifar10"
        and photographs.card["evaluation"]["samples"] == 2000
    )
    examiner = json.loads((WEIGHTS / "cifar10-examiner" / "minildm.json").read_text())
    assert 0.85 < examiner["accuracy"] < 0.95


@pytest.mark.parametrize("steps", [1, 4])
def test_the_student_draws_in_a_step_or_four_what_was_asked_without_guidance(steps):
    student = StableDiffusionPipeline.from_pretrained("mnist-lcm")
    scored = evaluate(student, 200, num_inference_steps=steps, progress=False)
    assert student.card["guidance_scale"] == 1.0 and scored.scores.accuracy > 0.95
    teacher = evaluate(
        StableDiffusionPipeline.from_pretrained("mnist"), 200, num_inference_steps=1, progress=False
    )
    assert scored.scores.accuracy > teacher.scores.accuracy + 0.08


def test_the_one_step_student_draws_what_was_asked_and_the_card_tells_how_well():
    student = StableDiffusionPipeline.from_pretrained("mnist-one-step")
    assert student.card["num_inference_steps"] == 1 and student.card["guidance_scale"] == 1.0
    told = student.card["evaluation"]
    assert told["samples"] == 10_000
    assert told["scores"]["accuracy"] > 0.99
    assert told["scores"]["frechet"] < 2 * told["floor"]["frechet"]
    scored = evaluate(student, 500, progress=False)
    assert scored.scores.accuracy > 0.98
    assert abs(scored.scores.precision - told["scores"]["precision"]) < 0.08


def test_the_controlnet_of_the_scenes_draws_where_the_map_says_as_its_card_tells():
    card = json.loads((WEIGHTS / "scenes-controlnet" / "minildm.json").read_text())
    told = card["evaluation"]
    assert told["map and text"]["map_iou"] > told["text alone"]["map_iou"] + 0.2
    assert (
        told["map and text"]["map_iou"]
        > told["map and text, against another scene's map"]["map_iou"] + 0.2
    )
    scores = evaluate_controlnet(
        StableDiffusionPipeline.from_pretrained("scenes"),
        ControlNetModel.from_pretrained(shipped("scenes-controlnet")),
        samples=40,
    )
    assert abs(scores["map and text"]["map_iou"] - told["map and text"]["map_iou"]) < 0.12
    assert scores["text alone"]["map_iou"] < scores["map and text"]["map_iou"] - 0.15


PROMPTS = {
    "cifar10": ["a photo of a horse", "a truck", ""],
    "mnist": ["a handwritten seven", "the digit 3", "eight"],
    "mnist-lcm": ["a handwritten seven", "the digit 3", "eight"],
    "mnist-one-step": ["a handwritten seven", "the digit 3", "eight"],
    "scenes": ["a small red three above a large blue seven on a white background", "a seven", ""],
}


def in_diffusers(card):
    """What the card says to tell diffusers instead of its own guidance_scale."""
    if card.get("timestep_cond") != "interval":
        return {}
    assert card["in_diffusers"].endswith("guidance_scale=1.999")
    return {"guidance_scale": 1.999}


@pytest.mark.parametrize("name", shipped_models())
def test_diffusers_draws_the_same_from_every_shipped_folder_as_it_lies(name):
    ours = StableDiffusionPipeline.from_pretrained(name)
    theirs = diffusers.StableDiffusionPipeline.from_pretrained(WEIGHTS / name)
    theirs.set_progress_bar_config(disable=True)
    options = {
        "num_inference_steps": ours.card["num_inference_steps"],
        "guidance_scale": ours.card["guidance_scale"],  # given, it holds in all steps
        "latents": ours.starting_noise(3, generator=torch.Generator().manual_seed(0)),
    }
    drawn = [
        pipeline(PROMPTS[name], generator=torch.Generator().manual_seed(1), **{**options, **more})
        for pipeline, more in (
            (theirs, {"output_type": "pt", **in_diffusers(ours.card)}),
            (ours, {"progress": False}),
        )
    ]
    torch.testing.assert_close(drawn[1] / 2 + 0.5, drawn[0].images, rtol=0, atol=1e-4)


def test_the_card_says_where_diffusers_would_draw_otherwise():
    for name in shipped_models():
        card = json.loads((WEIGHTS / name / "minildm.json").read_text())
        otherwise = card.get("guidance_start") or card.get("timestep_cond")
        assert ("in_diffusers" in card) == bool(otherwise)


def test_a_second_round_trains_text_and_unet_on_and_the_card_tells(tmp_path):
    first = train("tiny", tmp_path / "first", steps=(1, 1, 2), progress=False, device="cpu")
    before = {
        name: {k: v.clone() for k, v in getattr(first, name).state_dict().items()}
        for name in NETWORKS
    }
    train_again(first, PRESETS["tiny"], tmp_path / "again", seed=1, steps=3, learning_rate=1e-3)
    changed = {
        name: any(
            not torch.equal(v, before[name][k])
            for k, v in getattr(first, name).state_dict().items()
        )
        for name in NETWORKS
    }
    assert changed == {"vae": False, "text_encoder": True, "unet": True}
    assert first.card["again"]["steps"] == 3 and first.card["steps"]["denoiser"] == 2
    assert (
        not first.unet.training
        and first("seven", num_inference_steps=1, progress=False).isfinite().all()
    )
