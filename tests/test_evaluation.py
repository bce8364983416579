"""minildm.evaluation.evaluation: each score beside its floor; full marks for real scenes, and each
fault found under its own name."""

import json

import pytest
import torch

from minildm.data import (
    ABSENT,
    CLASS_NAMES,
    INKS,
    DigitScenes,
    ImageData,
    from_pixels,
    held_out,
    mnist,
    parse_captions,
    to_pixels,
)
from minildm.evaluation import (
    KINDS,
    balanced_prompts,
    evaluate,
    evaluate_scenes,
    evaluation,
    scene_prompts,
    score,
)
from minildm.models import ImageClassifier, extract
from minildm.pipelines import WEIGHTS, StableDiffusionPipeline, shipped
from minildm.schedulers import DPMSolverMultistepScheduler

pytest_plugins = ["tiny"]

# Digits and photographs


def test_prompts_are_balanced_over_classes_and_go_through_the_phrasings():
    prompts, labels = balanced_prompts("mnist", 200)
    assert labels.bincount().tolist() == [20] * 10
    assert prompts[7] == "a handwritten seven" and labels[7] == 7
    assert len(set(prompts)) == 100 and prompts[:100] == prompts[100:]
    with pytest.raises(ValueError, match="multiple of the 10 classes, got 25"):
        balanced_prompts("mnist", 25)


@pytest.fixture
def small_mnist(monkeypatch):
    """Random pictures in MNIST's place: 50 for training, 40 for testing."""

    def load(split):
        count, seed = {"train": (50, 1), "test": (40, 2)}[split]
        images = torch.rand(count, 1, 28, 28, generator=torch.Generator().manual_seed(seed)) * 2 - 1
        return ImageData(images, torch.arange(count) % 10, CLASS_NAMES["mnist"])

    monkeypatch.setitem(evaluation.LOADERS, "mnist", load)
    return load


def test_evaluation_scores_as_many_real_images_beside_its_own(weights, small_mnist):
    pipeline = StableDiffusionPipeline.from_pretrained("mnist")
    first, again = (
        evaluate(pipeline, samples=20, num_inference_steps=2, progress=False) for _ in range(2)
    )
    assert first.scores == again.scores and first.floor == again.floor
    sampling = first.sampling
    assert (sampling.samples, sampling.num_inference_steps) == (20, 2)
    assert (sampling.guidance_scale, sampling.sampler) == (2.0, "dpmpp_2m")
    assert sampling.parameters["unet"] == sum(p.numel() for p in pipeline.unet.parameters())
    assert "prompt accuracy" in str(first) and "floor" in str(first)
    record = json.loads(json.dumps(first.as_dict()))
    card = json.loads((WEIGHTS / "mnist" / "minildm.json").read_text())
    assert list(record) == list(card["evaluation"])  # flat, as every shipped card has it
    assert list(record["scores"]) == list(card["evaluation"]["floor"])

    examiner = ImageClassifier.from_pretrained(shipped("mnist-examiner"))
    reference, _ = extract(examiner, small_mnist("test").images)
    real, prompts = small_mnist("train"), balanced_prompts("mnist", 20)
    assert first.floor == score(examiner, real.images[:20], real.labels[:20], reference)
    generator = torch.Generator().manual_seed(0)
    images = pipeline(prompts[0], generator=generator, num_inference_steps=2, progress=False)
    saved = from_pixels(to_pixels(images, 28))  # what an npz holds
    assert first.scores == score(examiner, saved, prompts[1], reference)


def test_photographs_are_scored_beside_the_bundled_tenth_or_beside_all(monkeypatch):
    """The reference and the floor are of the set that was asked for, and 10,000 drawings ask for
    more than the tenth holds."""

    def cifar10(split, full=False):
        count = {"train": 40, "test": 20}[split] * (3 if full else 1)
        generator = torch.Generator().manual_seed(count)
        images = torch.rand(count, 3, 32, 32, generator=generator) * 2 - 1
        return ImageData(images, torch.arange(count) % 10, CLASS_NAMES["cifar10"])

    monkeypatch.setitem(evaluation.LOADERS, "cifar10", cifar10)
    pipeline = StableDiffusionPipeline.from_pretrained("cifar10")
    examiner = ImageClassifier.from_pretrained(shipped("cifar10-examiner"))
    options = {"num_inference_steps": 1, "guidance_scale": 1.0, "progress": False}
    for full, samples in ((False, 40), (True, 40), (True, 120)):
        result = evaluate(pipeline, samples, full=full, **options)
        real, reference = cifar10("train", full), extract(examiner, cifar10("test", full).images)[0]
        expected = score(examiner, real.images[:samples], real.labels[:samples], reference)
        assert result.floor == expected
    with pytest.raises(ValueError, match="at most 40 samples beside the bundled.* got 120; .*full"):
        evaluate(pipeline, 120, **options)


def test_the_pictures_scored_are_those_of_the_seed_the_steps_and_the_guidance_asked_for(
    weights, small_mnist, monkeypatch
):
    """Every setting reaches the pipeline's call, whose own defaults would draw others in
    silence."""
    pipeline, calls = StableDiffusionPipeline.from_pretrained("mnist"), []
    call = StableDiffusionPipeline.__call__

    def listening(self, prompts, generator, **settings):
        calls.append({"seed": generator.initial_seed(), **settings})
        return call(self, prompts, generator=generator, **settings)

    monkeypatch.setattr(StableDiffusionPipeline, "__call__", listening)
    asked = {"num_inference_steps": 3, "guidance_scale": 1.5, "guidance_start": 0.4}
    result = evaluate(pipeline, samples=10, seed=11, progress=False, **asked)
    assert calls == [{"seed": 11, "progress": False, **asked}]
    described = {name: getattr(result.sampling, name) for name in (*asked, "seed", "samples")}
    assert described == {**asked, "seed": 11, "samples": 10}
    assert set(result.sampling.parameters) == {"unet", "vae", "text_encoder"}
    for name, count in result.sampling.parameters.items():
        assert count == sum(p.numel() for p in getattr(pipeline, name).parameters())


def test_the_floor_is_of_as_many_of_every_class_also_where_they_do_not_come_in_turn(
    weights, monkeypatch
):
    """The training pictures of each class that come first, against the test pictures, whose classes
    nobody asks; as a loop over the labels finds them."""
    chance = torch.Generator().manual_seed(5)

    def load(split):
        count, seed = {"train": (90, 1), "test": (40, 2)}[split]
        images = torch.rand(count, 1, 28, 28, generator=torch.Generator().manual_seed(seed)) * 2 - 1
        return ImageData(images, unordered[:count], CLASS_NAMES["mnist"])

    # every class at least five times, the first ones all of one class
    classes = torch.cat(
        [torch.arange(10).repeat(5), torch.full((20,), 7), torch.arange(10, 20) % 3]
    )
    unordered = torch.cat(
        [torch.full((10,), 4), classes[torch.randperm(len(classes), generator=chance)]]
    )
    monkeypatch.setitem(evaluation.LOADERS, "mnist", load)
    pipeline = StableDiffusionPipeline.from_pretrained("mnist")
    got = evaluate(pipeline, samples=30, num_inference_steps=1, progress=False)

    train, places = load("train"), []
    for turn in range(3):
        for label in range(10):
            those = [i for i, its in enumerate(train.labels.tolist()) if its == label]
            places.append(those[turn])
    assert len(set(places)) == 30 and places != list(range(30))
    examiner = ImageClassifier.from_pretrained(shipped("mnist-examiner"))
    reference, _ = extract(examiner, load("test").images)
    expected = score(examiner, train.images[places], train.labels[places], reference)
    assert got.floor == expected
    assert expected != score(examiner, train.images[:30], train.labels[:30], reference)


def test_a_model_without_a_card_cannot_be_scored(tiny):
    tiny.card = {}
    with pytest.raises(ValueError, match=r"minildm.json.*got None"):
        evaluate(tiny, samples=10)


# Scenes


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
        return self.scenes.draw(self.change(parse_captions(prompts)), generator).images


@pytest.fixture(scope="module")
def examiner():
    return ImageClassifier.from_pretrained(shipped("mnist-examiner"))


def test_real_scenes_score_as_the_floor_does(examiner):
    result = evaluate_scenes(Painter(), 500, 0, 15, 2.0, examiner)
    assert set(result.scores) == set(result.floor) == set(KINDS)
    assert min(scores.all_right for scores in result.scores.values()) >= 0.95
    assert result.sampling.samples == 100 and result.sampling.parameters["unet"] == 3


def test_a_model_that_mistakes_colours_is_told_so_and_of_nothing_else(examiner):
    def wrong(attributes):
        colours = (attributes.colours + 1) % len(INKS)
        return attributes._replace(colours=colours.masked_fill(attributes.digits == ABSENT, ABSENT))

    scores = evaluate_scenes(Painter(wrong), 250, 0, 15, 2.0, examiner).scores["one digit"]
    assert scores.colours == 0 == scores.all_right
    assert min(scores.digits, scores.places, scores.sizes, scores.ground) >= 0.95


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_asks_for_what_its_name_says(kind):
    prompts, attributes = scene_prompts(kind, 60, 3)
    assert all(torch.equal(a, b) for a, b in zip(parse_captions(prompts), attributes, strict=True))
    assert ((attributes.digits[:, 1] != ABSENT) == ("two" in kind)).all()
    colour, place = (some.any(1) for some in held_out(attributes))
    assert (colour == ("colour" in kind)).all() and (place == ("place" in kind)).all()


def test_evaluate_scores_scenes_with_the_cards_defaults(examiner):
    painter = Painter()
    result = evaluate(painter, 25, progress=False)
    assert set(painter.asked) == {(7, 3.0, 0.2)}
    assert (result.sampling.guidance_scale, result.sampling.guidance_start) == (3.0, 0.2)
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
