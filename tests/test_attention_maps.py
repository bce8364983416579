"""minildm.pipelines.attention_maps beside what the layers did with the weights, and beside a call
without guidance."""

import pytest
import torch
from tiny import tiny_pipeline

from minildm.models import UNet2DConditionModel
from minildm.pipelines import AttentionMaps, word_positions
from minildm.schedulers import SAMPLERS

PROMPTS = ["a handwritten seven", "the digit 3"]


@pytest.fixture
def pipeline():
    """The tiny one, with a single head, so that a layer's output follows from its map."""
    made = tiny_pipeline()
    torch.manual_seed(0)
    made.unet = UNet2DConditionModel.from_config(made.unet.config, attention_head_dim=1).eval()
    return made


def draw(pipeline, **options):
    options = {"guidance_scale": 3.0, "num_inference_steps": 3, "progress": False} | options
    return pipeline(PROMPTS, generator=torch.Generator().manual_seed(0), **options)


def test_a_layers_output_follows_from_its_map_the_values_and_nothing_else(pipeline):
    seen = {}
    for name, block in pipeline.unet.named_modules():
        if hasattr(block, "attn2"):

            def hook(layer, inputs, output, name=name):
                seen.setdefault(name, []).append((*inputs, output))

            block.attn2.register_forward_hook(hook)
    with AttentionMaps(pipeline) as maps:
        draw(pipeline, predict=maps.predict)
    assert set(maps.layers) == set(seen) and seen
    for name, steps in seen.items():
        layer = pipeline.unet.get_submodule(name).attn2
        for weights, (_, context, output) in zip(maps.layers[name], steps, strict=True):
            read = torch.einsum("nlhw,nld->nhwd", weights, layer.to_v(context[2:])).flatten(1, 2)
            torch.testing.assert_close(layer.to_out[0](read), output[2:], rtol=1e-4, atol=1e-5)


def test_the_mean_over_heads_is_that_of_the_softmax_written_out():
    made = tiny_pipeline()
    block = made.unet.get_submodule("down_blocks.0.attentions.0.transformer_blocks.0")
    seen = []
    block.attn2.register_forward_hook(lambda layer, inputs, output: seen.append(inputs))
    with AttentionMaps(made) as maps:
        draw(made, predict=maps.predict, num_inference_steps=1)
    x, context = (part[2:].double() for part in seen[0])
    q, k = x @ block.attn2.to_q.weight.double().T, context @ block.attn2.to_k.weight.double().T
    width = q.shape[-1] // 2
    by_head = [
        (q[..., part] @ k[..., part].mT / width**0.5).softmax(-1)
        for part in (slice(0, width), slice(width, None))
    ]
    expected = (sum(by_head) / 2).mT.reshape(2, -1, 8, 8)
    got = maps.layers["down_blocks.0.attentions.0.transformer_blocks.0"][0]
    torch.testing.assert_close(got.double(), expected, rtol=1e-4, atol=1e-6)


def test_with_guidance_they_are_the_prompts_maps_and_not_those_of_the_negative_prompts(pipeline):
    """At the first step both calls stand at the same noise, so the prompt's maps are the same with
    and without it."""
    with AttentionMaps(pipeline) as guided:
        draw(pipeline, predict=guided.predict, negative_prompt="the digit 1")
    with AttentionMaps(pipeline) as plain:
        draw(pipeline, predict=plain.predict, guidance_scale=1.0)
    for name, kept in plain.layers.items():
        torch.testing.assert_close(guided.layers[name][0], kept[0], rtol=1e-4, atol=1e-6)
    assert guided.timesteps == plain.timesteps == [int(t) for t in pipeline.scheduler.timesteps]


def test_what_each_place_gives_to_all_tokens_adds_up_to_one_at_any_size(pipeline):
    with AttentionMaps(pipeline) as maps:
        draw(pipeline, predict=maps.predict)
    heat = maps.heat()
    length = pipeline.tokenizer.model_max_length
    assert heat.shape == (3, 2, length, 32, 32)
    assert maps.heat((8, 8)).shape == (3, 2, length, 8, 8)
    torch.testing.assert_close(heat.sum(2), torch.ones(3, 2, 32, 32))


def test_a_map_of_the_pictures_own_size_is_the_plain_mean_of_layers_of_that_size(pipeline):
    with AttentionMaps(pipeline) as maps:
        draw(pipeline, predict=maps.predict)
    assert {tuple(kept.shape[-2:]) for kept in maps.layers.values()} == {(8, 8), (4, 4)}
    kept = {name: kept for name, kept in maps.layers.items() if kept.shape[-1] == 8}
    maps.layers = kept
    torch.testing.assert_close(maps.heat((8, 8)), torch.stack(list(kept.values())).mean(0))


def test_latents_that_are_not_square_keep_their_shape(pipeline):
    with AttentionMaps(pipeline) as maps:
        draw(pipeline, predict=maps.predict, height=24, width=40)
    assert maps.heat().shape[-2:] == (24, 40)
    assert {tuple(kept.shape[-2:]) for kept in maps.layers.values()} == {(6, 10), (3, 5)}


def test_afterwards_the_pipeline_is_as_it_was(pipeline):
    before = draw(pipeline)
    with AttentionMaps(pipeline) as maps:
        during = draw(pipeline, predict=maps.predict)
    torch.testing.assert_close(during, before, rtol=0, atol=0)
    steps = len(maps.timesteps)
    draw(pipeline)
    assert len(maps.timesteps) == steps
    assert not any(module._forward_hooks for module in pipeline.unet.modules())


def test_several_batches_and_no_pictures_at_all_are_refused(pipeline):
    with pytest.raises(
        ValueError, match="expected one batch of pictures, got another after 3 steps"
    ):
        with AttentionMaps(pipeline) as maps:
            draw(pipeline, predict=maps.predict, batch_size=1)
    for sampler in SAMPLERS:  # one step, which some visit twice
        if "flow" not in sampler:
            pipeline.use_sampler(sampler)
            with pytest.raises(ValueError, match="expected one batch of pictures, got another"):
                with AttentionMaps(pipeline) as maps:
                    options = {"batch_size": 1, "num_inference_steps": 1}
                    draw(pipeline, predict=maps.predict, **options)
            with AttentionMaps(pipeline) as maps:
                draw(pipeline, predict=maps.predict)
    with AttentionMaps(pipeline) as maps:
        pass
    with pytest.raises(ValueError, match="expected a pipeline call inside"):
        maps.heat()
    with pytest.raises(ValueError, match="with predict=maps.predict, got one without"):
        with AttentionMaps(pipeline):
            draw(pipeline)
    assert not any(module._forward_hooks for module in pipeline.unet.modules())


def test_words_stand_where_their_tokens_do(pipeline):
    tokenizer = pipeline.tokenizer
    for prompt in (*PROMPTS, "a zebra seven", "A  Seven!"):
        ids = tokenizer(prompt)[0]
        positions = word_positions(tokenizer, prompt)
        assert [word for word, _ in positions] == tokenizer.words(prompt)
        for word, where in positions:
            assert tokenizer.decode(ids[where].tolist()) == word
        assert ids[positions[-1][1].stop] == tokenizer.eos_token_id


def test_a_word_that_is_cut_off_has_no_place(pipeline):
    tokenizer = pipeline.tokenizer
    found = word_positions(tokenizer, "seven " * (tokenizer.model_max_length + 5))
    assert len(found) == tokenizer.model_max_length - 2
