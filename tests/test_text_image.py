"""What is trained on: each picture with its own captions, and nothing that is held out."""

import pytest
import torch

from minildm.data import (
    LOADERS,
    NUM_PHRASINGS,
    captions_for,
    held_out,
    load_text_image,
    mnist,
    pad,
    paint_scenes,
    parse_captions,
)
from minildm.text import CLIPTokenizer


@pytest.fixture(scope="module")
def scenes():
    return paint_scenes(150, chunk=60)  # the last chunk is not full


def test_the_pictures_of_digits_is_mnist_with_the_phrasings_of_each_class():
    data, digits = load_text_image("mnist", 100), mnist("train")
    torch.testing.assert_close(data.images, pad(digits.images[:100], 32))
    assert torch.equal(data.labels, digits.labels[:100]) and torch.equal(
        data.caption_of, data.labels
    )
    assert data.captions == [captions_for("mnist", label) for label in range(10)]


def test_every_scene_has_its_own_captions_and_they_say_what_is_in_it(scenes):
    assert scenes.images.shape == (150, 3, 32, 32) and len(scenes.captions) == 150
    assert torch.equal(scenes.caption_of, torch.arange(150))
    first, *others = (
        parse_captions([texts[i] for texts in scenes.captions]) for i in range(NUM_PHRASINGS)
    )
    assert torch.equal(6 * first.digits[:, 0] + first.colours[:, 0], scenes.labels)
    for other in others:
        assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    assert any(len(set(texts)) > 1 for texts in scenes.captions)  # phrased anew


def test_no_scene_to_train_on_has_a_held_out_combination(scenes):
    colour, place = held_out(parse_captions([texts[0] for texts in scenes.captions]))
    assert not colour.any() and not place.any()


def test_scenes_are_the_same_every_time_and_other_with_another_seed(scenes):
    again, other = paint_scenes(150, chunk=60), paint_scenes(150, seed=1, chunk=60)
    assert torch.equal(again.images, scenes.images) and again.captions == scenes.captions
    assert not torch.equal(other.images, scenes.images)
    assert len(load_text_image("scenes", 10).images) == 10


def test_a_tokenizer_of_the_texts_knows_every_word_of_the_captions_as_one_token(scenes):
    tokenizer = CLIPTokenizer.train(scenes.texts)
    for text in scenes.captions[0] + scenes.captions[-1]:
        assert not tokenizer.unknown_words(text)
        assert len(tokenizer.tokenize(text)) == len(text.split())


def test_all_of_cifar10_is_asked_for_by_name(monkeypatch):
    asked = []

    def cifar10(split, full=False):
        asked.append((split, full))
        return bundled

    bundled = LOADERS["cifar10"]("train")
    monkeypatch.setitem(LOADERS, "cifar10", cifar10)
    data = load_text_image("cifar10", 20)
    load_text_image("cifar10", 20, full=True)
    assert asked == [("train", False), ("train", True)]
    assert data.images.shape == (20, 3, 32, 32) and data.captions[3][0] == "a photo of a cat"
