"""Scenes: what the caption says is what the picture shows; their reader finds what is wrong, and
only that."""

from dataclasses import asdict

import pytest
import torch

from minildm.data import (
    ABSENT,
    GAP,
    GROUND,
    GROUNDS,
    INKS,
    PAIRS,
    PIXELS,
    PLACES,
    SIZES,
    SPLITS,
    Attributes,
    DigitScenes,
    caption_words,
    extent,
    held_out,
    mnist,
    palette,
    parse_captions,
    sample_attributes,
    write_captions,
)
from minildm.evaluation import judge, map_iou, read_scenes, score_scenes
from minildm.models import ImageClassifier
from minildm.pipelines import shipped


def seeded_generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def digit_scenes():
    return DigitScenes(mnist("test"))


@pytest.fixture(scope="module")
def scenes(digit_scenes):
    return digit_scenes.sample(400, seeded_generator())


@pytest.fixture(scope="module")
def examiner():
    return ImageClassifier.from_pretrained(shipped("mnist-examiner")).eval()


def row(digits, colours, sizes, places, ground):
    return Attributes(*(torch.tensor([x]) for x in (digits, colours, sizes, places, ground)))


ABOVE = row(
    [3, 7], [0, 2], [0, 1], [2, 3], 1
)  # a small red three above a large blue seven on white


# Captions


@pytest.mark.parametrize("split", SPLITS)
def test_every_caption_is_read_back_into_its_attributes(split):
    generator = seeded_generator()
    attributes = sample_attributes(1000, generator, split)
    for captions in (write_captions(attributes), write_captions(attributes, generator)):
        for got, expected in zip(parse_captions(captions), attributes, strict=True):
            torch.testing.assert_close(got, expected)


def test_the_plain_caption_is_the_first_phrasing():
    assert write_captions(ABOVE) == [
        "a small red three above a large blue seven on a white background"
    ]
    alone = row([8, ABSENT], [5, ABSENT], [1, ABSENT], [4, ABSENT], 0)
    assert write_captions(alone) == ["a large cyan eight in the centre on a black background"]


def test_every_phrasing_of_two_digits_means_the_same():
    captions = set(
        write_captions(
            Attributes(*(x.repeat_interleave(2000, 0) for x in ABOVE)), seeded_generator()
        )
    )
    assert len(captions) == 4 * 2 * 2  # templates, words for small, words for large
    assert {tuple(map(str, parse_captions([caption]))) for caption in captions} == {
        tuple(map(str, ABOVE))
    }
    assert "a big blue seven below a little red three on a white background" in captions


def test_the_words_of_the_grammar_are_all_the_words_of_its_captions():
    attributes = sample_attributes(5000, seeded_generator())
    used = {
        word
        for caption in write_captions(attributes, seeded_generator())
        for word in caption.split()
    }
    assert used == set(caption_words()) and caption_words() == sorted(used)


@pytest.mark.parametrize(
    "caption", ["", "a red three", "a small red three above on a white background", "two cats"]
)
def test_a_caption_outside_the_grammar_is_refused(caption):
    with pytest.raises(ValueError, match="expected a caption like"):
        parse_captions([caption])


@pytest.mark.parametrize(
    "wrong",
    [
        {"digits": torch.tensor([[3, 10]])},
        {"colours": torch.tensor([[0, ABSENT]])},
        {"places": torch.tensor([[3, 2]])},
        {"places": torch.tensor([[0, 4]])},
        {"sizes": torch.tensor([[ABSENT, 0]])},
        {"ground": torch.tensor([4])},
        {"ground": torch.tensor([1, 1])},
    ],
)
def test_attributes_of_no_scene_are_refused(wrong):
    with pytest.raises(ValueError, match="expected.*got|expected.*absent"):
        write_captions(ABOVE._replace(**wrong))


# What is drawn at random


def test_seen_scenes_have_no_held_out_combination_and_held_out_scenes_have_one():
    for split in SPLITS:
        colour, place = held_out(sample_attributes(2000, seeded_generator(), split))
        assert (colour.sum(1) == (split == "held_out_colour")).all()
        assert (place.sum(1) == (split == "held_out_place")).all()


def test_seen_scenes_have_every_other_combination():
    digits, colours, sizes, places, ground = sample_attributes(20000, seeded_generator())
    there = digits != ABSENT
    assert len(torch.stack([digits, colours], 2)[there].unique(dim=0)) == 10 * (len(INKS) - 1)
    assert len(torch.stack([digits, places], 2)[there].unique(dim=0)) == 10 * (len(PLACES) - 1)
    assert len(sizes[there].unique()) == len(SIZES) and len(ground.unique()) == len(GROUNDS)
    for values, number in ((digits, 10), (colours, len(INKS)), (sizes, len(SIZES))):
        shares = values[there].bincount() / there.sum()
        torch.testing.assert_close(shares, torch.full((number,), 1 / number), atol=0.02, rtol=0)


@pytest.mark.parametrize("count", [1, 2, None])
def test_the_number_of_digits_is_as_asked(count):
    numbers = (sample_attributes(1000, seeded_generator(), count=count).digits != ABSENT).sum(1)
    assert numbers.float().mean().item() == pytest.approx(count or 1.5, abs=0 if count else 0.05)


@pytest.mark.parametrize("arguments", [{"split": "unseen"}, {"count": 3}, {"batch_size": 0}])
def test_unknown_arguments_are_refused(arguments):
    with pytest.raises(ValueError, match="expected batch_size of at least 1, a split of .* got"):
        sample_attributes(**{"batch_size": 4, "generator": seeded_generator(), **arguments})


# Pictures


def test_scenes_are_the_same_from_the_same_seed_and_others_from_another(digit_scenes):
    a, b, c = (digit_scenes.sample(8, seeded_generator(seed)) for seed in (3, 3, 4))
    assert (
        torch.equal(a.images, b.images) and torch.equal(a.maps, b.maps) and a.captions == b.captions
    )
    assert not torch.equal(a.images, c.images) and a.captions != c.captions


def test_pictures_and_maps_have_the_shapes_and_ranges_of_the_package(scenes):
    assert scenes.images.shape == (400, 3, 32, 32) and scenes.images.dtype == torch.float32
    assert scenes.images.min() >= -1 and scenes.images.max() <= 1
    assert (
        scenes.maps.shape == (400, 32, 32)
        and scenes.maps.dtype == torch.int64
        and len(scenes.captions) == 400
    )


def test_the_map_shows_the_digits_of_the_caption_on_the_ground(scenes):
    for seen, digits in zip(scenes.maps, scenes.attributes.digits.tolist(), strict=True):
        assert set(seen.unique().tolist()) == {*digits, GROUND} - {ABSENT}


def test_pixels_have_the_colour_of_what_the_map_says(digit_scenes):
    """Where the map says ground the picture is nearer to the ground than to the ink, and the
    reverse."""
    scenes = digit_scenes.sample(100, seeded_generator(), count=1)
    ground = palette(GROUNDS)[scenes.attributes.ground][:, :, None, None]
    ink = palette(INKS)[scenes.attributes.colours[:, 0]][:, :, None, None]
    nearer_to_ink = (scenes.images - ink).norm(dim=1) < (scenes.images - ground).norm(dim=1)
    torch.testing.assert_close(nearer_to_ink, scenes.maps != GROUND)


def test_two_digits_lie_on_their_own_sides_with_a_gap_between(digit_scenes):
    scenes = digit_scenes.sample(500, seeded_generator(), count=2)
    ground = palette(GROUNDS)[scenes.attributes.ground][:, :, None, None]
    ink = (scenes.images != ground).any(1)
    across = torch.where(
        (scenes.attributes.places[:, 0] == PAIRS[0][0])[:, None, None], ink.mT, ink
    )
    assert not across[:, 16 - GAP // 2 : 16 + GAP // 2].any()
    assert across[:, :15].any((1, 2)).all() and across[:, 17:].any((1, 2)).all()


@pytest.mark.parametrize("size", SIZES)
def test_a_digit_is_as_large_as_its_size_says(digit_scenes, size):
    drawn = sample_attributes(300, seeded_generator(), count=1)
    drawn.sizes[:, 0] = SIZES.index(size)
    scenes = digit_scenes.draw(drawn, seeded_generator())
    ink = (scenes.images != palette(GROUNDS)[drawn.ground][:, :, None, None]).any(1)
    sides = [end - begin for begin, end in (extent(ink), extent(ink.mT))]
    torch.testing.assert_close(torch.maximum(*sides), torch.full((300,), PIXELS[size]))


def test_other_pictures_than_mnists_are_refused():
    digits = mnist("test")
    with pytest.raises(ValueError, match="expected MNIST's digits"):
        DigitScenes(digits._replace(images=digits.images[..., 2:, 2:]))


# The reader


@pytest.mark.parametrize("split", SPLITS)
def test_the_reader_is_right_about_real_scenes(digit_scenes, examiner, split):
    scenes = digit_scenes.sample(500, seeded_generator(7), split)
    scores = score_scenes(examiner, scenes.images, parse_captions(scenes.captions), scenes.maps)
    assert scores.all_right >= 0.98  # of 2000 seen scenes it is 0.991
    assert min(list(asdict(scores).values())[:6]) >= 0.97 and scores.map_iou >= 0.96


def test_wrong_captions_get_what_chance_gives(scenes, examiner):
    other = Attributes(*(x.roll(1, 0) for x in scenes.attributes))
    scores = score_scenes(examiner, scenes.images, other, scenes.maps.roll(1, 0))
    assert scores.all_right <= 0.01 and scores.digits <= 0.1 and scores.colours <= 0.15
    assert scores.ground == pytest.approx(
        1 / len(GROUNDS), abs=0.07
    ) and scores.count == pytest.approx(0.5, abs=0.1)
    assert scores.map_iou < 0.2


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("name", ["digits", "colours", "sizes", "places", "ground"])
def test_one_wrong_attribute_is_found_and_nothing_else(digit_scenes, examiner, name, count):
    """Pictures are drawn with one attribute other than the caption's; of two digits, in the first
    one alone."""
    asked = sample_attributes(150, seeded_generator(5), count=count)
    changed = getattr(asked, name).clone()
    number = {
        "digits": 10,
        "colours": len(INKS),
        "sizes": 2,
        "places": len(PLACES),
        "ground": len(GROUNDS),
    }[name]
    if name == "places" and count == 2:
        changed = torch.where(
            changed < 2, changed + 2, changed - 2
        )  # side by side, not one above the other
    else:
        first = changed if name == "ground" else changed[:, 0]
        first.copy_((first + 1) % number)
    drawn = digit_scenes.draw(asked._replace(**{name: changed}), seeded_generator(6))
    scores = asdict(score_scenes(examiner, drawn.images, asked))
    assert (
        scores.pop("all_right") <= 0.03
        and scores.pop(name) <= 0.03
        and scores.pop("map_iou") is None
    )
    assert min(scores.values()) >= 0.95


def test_digits_in_each_others_place_are_wrong_in_place_only():
    swapped = Attributes(*(x.flip(1) for x in ABOVE[:3]), ABOVE.places, ABOVE.ground)
    verdict = asdict(judge(swapped, ABOVE))
    assert not verdict.pop("places") and not verdict.pop("all_right") and all(verdict.values())


def test_colours_in_each_others_place_are_wrong_in_colour_only():
    leaked = ABOVE._replace(colours=ABOVE.colours.flip(1))
    verdict = asdict(judge(leaked, ABOVE))
    assert not verdict.pop("colours") and not verdict.pop("all_right") and all(verdict.values())


def test_a_missing_digit_and_one_too_many_are_found():
    one = Attributes(
        *(torch.stack([x[:, 0], torch.tensor([ABSENT])], 1) for x in ABOVE[:4]), ABOVE.ground
    )
    for read, asked in ((one, ABOVE), (ABOVE, one)):
        verdict = judge(read, asked)
        assert verdict.ground and not any(
            (verdict.count, verdict.digits, verdict.places, verdict.all_right)
        )


def test_an_empty_picture_has_no_digit(examiner):
    reading = read_scenes(examiner, palette(GROUNDS)[:, :, None, None].expand(-1, -1, 32, 32))
    assert (reading.attributes.digits == ABSENT).all() and (reading.maps == GROUND).all()
    assert reading.attributes.ground.tolist() == [0, 1, 2, 3]
    assert not judge(
        reading.attributes, Attributes(*(x.repeat_interleave(4, 0) for x in ABOVE))
    ).all_right.any()


def test_the_reader_bears_a_little_noise(scenes, examiner):
    noisy = scenes.images + 0.05 * torch.randn(scenes.images.shape, generator=seeded_generator())
    assert score_scenes(examiner, noisy, scenes.attributes).all_right >= 0.95


def test_map_iou_is_that_of_sets_of_pixels():
    maps, asked = torch.randint(0, 4, (2, 5, 32, 32), generator=seeded_generator())
    expected = [
        ((maps == c) & (asked == c)).sum() / ((maps == c) | (asked == c)).sum() for c in range(4)
    ]
    assert map_iou(maps, asked) == pytest.approx(torch.stack(expected).mean().item(), rel=1e-5)
    assert map_iou(asked, asked) == 1


def test_the_reader_says_what_it_expects(scenes, examiner):
    with pytest.raises(
        ValueError, match=r"expected images \(N, 3, 32, 32\), got \(400, 3, 28, 28\)"
    ):
        read_scenes(examiner, scenes.images[..., 2:-2, 2:-2])
    with pytest.raises(ValueError, match="evaluation mode"):
        read_scenes(ImageClassifier(), scenes.images)
    with pytest.raises(ValueError, match="expected as many pictures as captions, got 400 and 1"):
        score_scenes(examiner, scenes.images, ABOVE)
    with pytest.raises(ValueError, match="expected as many maps"):
        map_iou(scenes.maps, scenes.maps[:3])
