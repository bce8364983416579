"""minildm.variations.contexts: contexts of one token, and the numbers they are made of."""

import pytest
import torch
from tiny import tiny_pipeline

from minildm.data import GROUNDS, parse_captions, sample_attributes
from minildm.models import Attention
from minildm.testing import randomise_
from minildm.variations import (
    NOTHING,
    THINGS,
    ClassContext,
    PooledContext,
    class_rows,
    sample_with_context,
)

ONE, TWO = (
    "a small red three on the left on a white background",
    "a small red three to the left of a large blue seven on a pink background",
)


def test_a_context_of_one_token_gives_every_place_the_same():
    layer = randomise_(Attention(12, 2, 6, 20), torch.Generator().manual_seed(0))
    places, token = torch.randn(3, 16, 12), torch.randn(3, 1, 20)
    read = layer(places, token)
    torch.testing.assert_close(read, read[:, :1].expand_as(read))
    torch.testing.assert_close(read[:, 0], layer.to_out[0](layer.to_v(token))[:, 0])


def test_every_kind_of_digit_has_a_row_of_its_own_and_every_ground_too():
    attributes = sample_attributes(4000, torch.Generator().manual_seed(0), count=1)
    rows = class_rows(attributes)
    kinds = torch.stack([x[:, 0] for x in attributes[:4]], 1)
    assert (
        len(kinds.unique(dim=0))
        == len(rows[:, 0].unique())
        == len(torch.cat([kinds, rows[:, :1]], 1).unique(dim=0))
    )
    assert (rows[:, 0] < THINGS).all() and (rows[:, 1] == NOTHING).all()
    assert rows[:, 2].unique().tolist() == list(range(THINGS, THINGS + len(GROUNDS)))


def test_a_scenes_class_is_the_sum_over_its_things_and_nothing_adds_nothing():
    reader = ClassContext(8)
    one, two = class_rows(parse_captions([ONE, TWO]))
    assert one[0] == two[0] and one[2] != two[2]
    table = reader.embedding.weight
    expected = torch.stack(
        [table[one[0]] + table[one[2]], table[two[0]] + table[two[1]] + table[two[2]]]
    )
    torch.testing.assert_close(reader(torch.stack([one, two]))[:, 0], expected)
    assert not reader(torch.full((1, 3), NOTHING)).any()


def test_the_pooled_context_is_the_state_at_the_end_of_the_text():
    made = tiny_pipeline()
    ids = made.tokenizer(["a handwritten seven", "the digit 3"])
    states = made.text_encoder(ids)
    ends = [len(made.tokenizer.encode(text)) - 1 for text in ("a handwritten seven", "the digit 3")]
    expected = torch.stack([states[i, end] for i, end in enumerate(ends)])
    torch.testing.assert_close(PooledContext(made.text_encoder)(ids), expected[:, None])


@pytest.mark.parametrize("scale", [1.5, 4.0])
def test_with_every_word_it_draws_what_the_pipeline_draws(scale):
    made = tiny_pipeline()
    noise = made.starting_noise(2, generator=torch.Generator().manual_seed(0))
    prompts = ["a handwritten seven", "the digit 3"]
    expected = made(
        prompts, latents=noise, guidance_scale=scale, num_inference_steps=3, progress=False
    )
    asked, nothing = made.tokenizer(prompts), made.tokenizer("")[0]
    got = sample_with_context(
        made, made.unet, made.text_encoder, asked, nothing, noise, scale, num_inference_steps=3
    )
    torch.testing.assert_close(got, expected)
