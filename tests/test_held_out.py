"""minildm.evaluation.held_out: one's own model beside the pictures that it has not seen."""

import json
from dataclasses import replace

import pytest
import torch
from tiny import tiny_pipeline

from minildm.data import TextImageDataset, from_pixels, to_pixels
from minildm.evaluation import (
    compare_with_training,
    evaluate_pictures,
    held_out_prompts,
    nearest_images,
    nearest_training,
    score,
)
from minildm.evaluation import held_out as module
from minildm.models import ImageClassifier, extract
from minildm.training import examiner_for

pytest_plugins = ["tiny"]

NAMES = ("one", "seven")


def pictures(count, seed, classes=NAMES, contrast=1.0):
    """Noise whose left half is bright in every second picture: two classes that can be told."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 1, 32, 32, generator=generator) - 0.5
    labels = torch.arange(count) % 2
    images[labels == 1, :, :, :16] += 0.5 * contrast
    captions = [[f"the digit {name}", f"a handwritten {name}"] for name in NAMES]
    return TextImageDataset(
        images=from_pixels(to_pixels(images)),
        labels=labels,
        captions=captions,
        caption_of=labels,
        texts=[text for texts in captions for text in texts],
        classes=classes,
    )


@pytest.fixture(scope="module")
def train():
    return pictures(60, 0)


@pytest.fixture(scope="module")
def test():
    return pictures(20, 1)


@pytest.fixture(scope="module")
def examiner(train):
    return examiner_for(train, steps=30, progress=False)


def run(train, test, examiner, samples=20, **options):
    options = {"num_inference_steps": 1, "progress": False, **options}
    return evaluate_pictures(tiny_pipeline(), train, test, examiner, samples, **options)


def test_drawings_are_scored_by_the_held_out_pictures_beside_as_many_training_pictures(
    train, test, examiner, monkeypatch
):
    drawn = []
    draw = module.sample_as_saved

    def listening(*arguments, **options):
        drawn.append((arguments[1], draw(*arguments, **options)))
        return drawn[0][1]

    monkeypatch.setattr(module, "sample_as_saved", listening)
    result = run(train, test, examiner, seed=4)
    prompts, (images, _) = drawn[0]
    reference, predicted = extract(examiner, test.images)
    asked = torch.tensor([int("seven" in prompt) for prompt in prompts])
    assert result.scores == score(examiner, images, asked, reference)
    assert result.examiner_accuracy == (predicted == test.labels).double().mean()
    generator = torch.Generator().manual_seed(4)
    held_out_prompts(test, 20, generator)
    chosen = torch.randperm(60, generator=generator)[:20]
    real = score(examiner, train.images[chosen], train.labels[chosen], reference)
    assert result.floor == real
    again = run(train, test, examiner, seed=4)
    assert again.scores == result.scores and again.nearness == result.nearness
    record = json.loads(json.dumps(result.as_dict()))
    assert record["scores"]["frechet"] == result.scores.frechet
    assert record["samples"] == 20 and record["nearness"]["near"] == result.nearness.near


def test_pictures_of_the_same_kind_get_full_marks_and_others_do_not(train, test, examiner):
    """The examiner tells the classes of pictures that it has not seen, and the swapped ones are
    all wrong."""
    reference, _ = extract(examiner, test.images)
    more = pictures(40, 2)
    assert score(examiner, more.images, more.labels, reference).accuracy > 0.95
    assert score(examiner, more.images, 1 - more.labels, reference).accuracy < 0.05


def test_prompts_are_the_held_out_captions_in_turn_each_phrasing_in_its_turn(test):
    prompts, index = held_out_prompts(test, 40, torch.Generator().manual_seed(0))
    assert sorted(index.tolist()) == sorted([*range(20), *range(20)])
    assert torch.equal(index[:20], index[20:]) and not torch.equal(index[:20], torch.arange(20))
    for place, phrasing in ((0, 0), (20, 1)):
        for i in range(20):
            caption = test.captions[int(test.labels[index[i]])]
            assert prompts[place + i] == caption[phrasing]


def test_the_nearest_training_picture_is_that_of_all_whatever_is_in_memory(train, monkeypatch):
    images = pictures(9, 3).images
    images[4] = train.images[33]
    monkeypatch.setattr(module, "CHUNK", 7)
    distances, indices = nearest_training(images, train)
    expected = nearest_images(images, train.images)
    torch.testing.assert_close(distances, expected[0])
    assert torch.equal(indices, expected[1])
    assert distances[4] == 0 and indices[4] == 33


def test_copies_are_found_and_strangers_are_not(train, test):
    """Held-out pictures themselves are as near as held-out pictures; copies of training pictures
    with a little noise lie nearer than all of these, each beside its original."""
    own, _ = compare_with_training(test.images, train, test)
    assert own.drawn == own.held_out and own.near == pytest.approx(0.05)
    noise = 0.02 * torch.randn(8, 1, 32, 32, generator=torch.Generator().manual_seed(5))
    copied, pairs = compare_with_training(train.images[10:18] + noise, train, test)
    assert copied.near == 1 and copied.drawn < 0.1 * copied.held_out
    assert pairs.shape == (8, 2, 1, 32, 32)
    gaps = (pairs[:, 0] - pairs[:, 1]).square().mean((1, 2, 3))
    assert gaps.max() < 0.001 and torch.equal(gaps, gaps.sort().values)


def test_without_classes_it_says_that_nothing_can_tell_what_was_drawn(train, test, examiner):
    result = run(replace(train, classes=()), replace(test, classes=()), examiner)
    assert result.scores.accuracy is result.examiner_accuracy is None
    assert "prompt accuracy" not in str(result).splitlines()[1]
    assert any("prompt accuracy is not measured" in note for note in result.notes)
    assert result.scores.frechet == run(train, test, examiner).scores.frechet


@pytest.mark.parametrize(
    ("held_out", "said"), [(2, "not measured with 2 held out"), (20, "Only 20 pictures are held")]
)
def test_few_held_out_pictures_are_said_to_be_few(train, examiner, held_out, said):
    result = run(train, pictures(held_out, 1), examiner)
    assert (result.scores is None) == (held_out < 4)
    assert said in str(result) and "nearest training picture" in str(result)
    assert json.dumps(result.as_dict())


def test_no_more_are_drawn_than_the_floor_has_training_pictures(train, test, examiner):
    result = run(train, test, examiner, samples=1000)
    assert result.sampling.samples == 60 and "Only 60 are drawn" in str(result)


def test_pictures_that_the_model_does_not_draw_are_refused(train, test, examiner):
    small = replace(train, images=train.images[..., :16, :16])
    with pytest.raises(ValueError, match=r"expected pictures \(N, 1, 32, 32\) as the model draws"):
        run(small, test, examiner)
    with pytest.raises(ValueError, match="expected 1 sample or more, got 0"):
        run(train, test, examiner, samples=0)


def test_the_examiner_sees_training_pictures_alone_and_is_kept_for_the_same_ones(
    train, tmp_path, monkeypatch
):
    first = examiner_for(train, tmp_path / "examiner", steps=2, progress=False)
    with monkeypatch.context() as patch:
        patch.setattr("minildm.training.examiners.fit_examiner", None)
        kept = examiner_for(train, tmp_path / "examiner", steps=2, progress=False)
    for a, b in zip(first.parameters(), kept.parameters(), strict=True):
        assert torch.equal(a, b)
    other = replace(train, images=-train.images)
    anew = examiner_for(other, tmp_path / "examiner", steps=2, progress=False)
    assert isinstance(anew, ImageClassifier) and not anew.training
    assert not torch.equal(next(anew.parameters()), next(first.parameters()))
