"""The score of a model of scenes: full marks for real scenes, and each fault found under its own
name."""

import pytest
import torch

from minildm.data import ABSENT, COLOURS, DigitScenes, held_out, mnist, parse
from minildm.evaluation import KINDS, evaluate, evaluate_scenes, scene_prompts
from minildm.models import ImageClassifier
from minildm.pipelines import StableDiffusionPipeline, shipped
from minildm.schedulers import DPMSolverMultistepScheduler


class Painter:
    """Stands in for a pipeline: paints what the captions say, with real digits; `change` makes it
    err."""

    card = {
        "dataset": "scenes",
        "num_inference_steps": 7,
        "guidance_scale": 3.0,
        "guidance_start": 0.2,
    }
    scheduler, device = DPMSolverMultistepScheduler(), torch.device("cpu")
    unet = vae = text_encoder = torch.nn.Linear(2, 1)

    def __init__(self, change=lambda attributes: attributes):
        self.change, self.scenes, self.asked = change, DigitScenes(mnist("train")), []

    def default(self, name, given=None):
        return self.card[name] if given is None else given

    guidance = StableDiffusionPipeline.guidance

    def __call__(
        self, prompts, num_inference_steps, guidance_scale, generator, progress, guidance_start
    ):
        self.asked.append((num_inference_steps, guidance_scale, guidance_start))
        return self.scenes.draw(self.change(parse(prompts)), generator).images


@pytest.fixture(scope="module")
def examiner():
    return ImageClassifier.from_pretrained(shipped("mnist-examiner"))


def test_real_scenes_score_as_the_floor_does(examiner):
    result = evaluate_scenes(Painter(), 500, 0, 15, 2.0, examiner)
    assert set(result.scores) == set(result.floor) == set(KINDS)
    assert min(scores.all_right for scores in result.scores.values()) >= 0.95
    assert result.samples == 100 and result.parameters["unet"] == 3


def test_a_model_that_mistakes_colours_is_told_so_and_of_nothing_else(examiner):
    def wrong(attributes):
        colours = (attributes.colours + 1) % len(COLOURS)
        return attributes._replace(colours=colours.masked_fill(attributes.digits == ABSENT, ABSENT))

    scores = evaluate_scenes(Painter(wrong), 250, 0, 15, 2.0, examiner).scores["one digit"]
    assert scores.colours == 0 == scores.all_right
    assert min(scores.digits, scores.places, scores.sizes, scores.ground) >= 0.95


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_asks_for_what_its_name_says(kind):
    prompts, attributes = scene_prompts(kind, 60, 3)
    assert all(torch.equal(a, b) for a, b in zip(parse(prompts), attributes, strict=True))
    assert ((attributes.digits[:, 1] != ABSENT) == ("two" in kind)).all()
    colour, place = (some.any(1) for some in held_out(attributes))
    assert (colour == ("colour" in kind)).all() and (place == ("place" in kind)).all()


def test_evaluate_scores_scenes_with_the_cards_defaults(examiner):
    painter = Painter()
    result = evaluate(painter, 25, progress=False)
    assert set(painter.asked) == {(7, 3.0, 0.2)} and (
        result.guidance_scale,
        result.guidance_start,
    ) == (3.0, 0.2)
    for words in (
        "guidance 3 from 20% of the steps on",
        "two digits, new colour",
        "all right",
        "real",
        "5 samples of each kind",
        "dpmpp_2m",
    ):
        assert words in str(result)
    assert result.as_dict()["scores"]["one digit"]["count"] == 1.0
    with pytest.raises(ValueError, match="a multiple of 5 kinds, got 7"):
        evaluate(painter, 7)
