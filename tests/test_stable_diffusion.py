"""The pipeline: what it draws, what it refuses, and diffusers' own pipeline on the same folder."""

import json
import shutil
import warnings

import diffusers
import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from minildm.models import Attention
from minildm.pipelines import StableDiffusionPipeline, shipped_models
from minildm.schedulers import SAMPLERS, SPACED_SAMPLERS, sampler_name
from minildm.testing import randomise_

pytest_plugins = ["tiny"]

PROMPTS = ["a handwritten seven", "the digit 3"]


def draw(pipeline, prompt="a handwritten seven", seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    return pipeline(prompt, generator=generator, progress=False, **options)


def starting_noise(count=2, seed=0):
    return torch.randn(count, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


def difference(ours, theirs):
    """The largest one of [0, 1]: images (N, C, H, W) in [-1, 1] against diffusers' (N, H, W, C) in
    [0, 1]."""
    return float((ours / 2 + 0.5 - torch.from_numpy(theirs).permute(0, 3, 1, 2)).abs().max())


# ----------------------------------------------------------------------------------------------
# against diffusers


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize(
    "sampler", ["dpmpp_2m", "ddim", "euler", "pndm", "heun", "dpmpp_2m_karras", "euler_exponential"]
)
def test_diffusers_draws_the_same_from_our_folder(tiny, tmp_path, sampler, guidance):
    tiny.use_sampler(sampler).save_pretrained(tmp_path)
    theirs = diffusers.StableDiffusionPipeline.from_pretrained(tmp_path)
    theirs.set_progress_bar_config(disable=True)
    options = {"num_inference_steps": 5, "guidance_scale": guidance, "latents": starting_noise()}
    options["negative_prompt"] = ["the digit 8", "one"]
    expected = theirs(PROMPTS, output_type="np", **options).images
    got = tiny(PROMPTS, progress=False, **options)
    assert got.shape == (2, 1, 32, 32) and got.std() > 0.1
    assert difference(got, expected) < 1e-4


@pytest.mark.parametrize("sampler", ["euler_a", "lcm"])
def test_diffusers_draws_the_same_from_the_same_noise_on_the_way(tiny, tmp_path, sampler):
    tiny.use_sampler(sampler).save_pretrained(tmp_path)
    theirs = diffusers.StableDiffusionPipeline.from_pretrained(tmp_path)
    theirs.set_progress_bar_config(disable=True)
    options = {"num_inference_steps": 5, "guidance_scale": 2.0, "latents": starting_noise()}
    expected = theirs(
        PROMPTS, generator=torch.Generator().manual_seed(3), output_type="np", **options
    ).images
    got = tiny(PROMPTS, generator=torch.Generator().manual_seed(3), progress=False, **options)
    assert difference(got, expected) < 1e-4


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_diffusers_draws_the_same_from_a_folder_in_half_precision_as_it_lies(tiny, tmp_path, dtype):
    tiny.save_pretrained(tmp_path, dtype=dtype)
    theirs = diffusers.StableDiffusionPipeline.from_pretrained(tmp_path)
    theirs.set_progress_bar_config(disable=True)
    options = {"num_inference_steps": 5, "guidance_scale": 2.0, "latents": starting_noise()}
    expected = theirs(PROMPTS, output_type="np", **options).images
    ours = StableDiffusionPipeline.from_pretrained(tmp_path)
    assert difference(ours(PROMPTS, progress=False, **options), expected) < 1e-4


@pytest.mark.parametrize("sampler", [*SPACED_SAMPLERS, "dpmpp_2m", "euler", "lcm", "pndm"])
@pytest.mark.parametrize("schedule", ["squaredcos_cap_v2", "scaled_linear"])
def test_a_warning_tells_when_diffusers_cannot_draw_from_what_is_saved(
    tiny, tmp_path, schedule, sampler
):
    tiny.scheduler = SAMPLERS["ddim"](beta_schedule=schedule)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tiny.use_sampler(sampler).save_pretrained(tmp_path)
    theirs = getattr(diffusers, type(tiny.scheduler).__name__).from_pretrained(
        tmp_path, subfolder="scheduler"
    )
    theirs.set_timesteps(50)
    x, fails = torch.ones(1, 1, 2, 2), False
    try:
        for t in theirs.timesteps:
            x = theirs.step(theirs.scale_model_input(x, t), t, x).prev_sample
    except IndexError:
        fails = True
    told = [warning for warning in caught if "diffusers cannot draw" in str(warning.message)]
    assert len(told) == fails == (schedule[:2] == "sq" and sampler[:9] == "dpmpp_2m_")
    assert all(warning.filename == __file__ for warning in told)


def test_the_card_on_disk_tells_that_diffusers_cannot_begin_guidance_late(tiny, tmp_path):
    tiny.card["guidance_start"] = 0.2
    tiny.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "minildm.json").read_text())
    assert "guides all steps" in written["in_diffusers"]
    again = StableDiffusionPipeline.from_pretrained(tmp_path)
    again.card["guidance_start"] = 0
    again.save_pretrained(tmp_path)
    assert "in_diffusers" not in json.loads((tmp_path / "minildm.json").read_text())


def test_diffusers_draws_the_same_several_images_of_a_prompt(tiny, tiny_folder):
    theirs = diffusers.StableDiffusionPipeline.from_pretrained(tiny_folder)
    theirs.set_progress_bar_config(disable=True)
    options = {"num_inference_steps": 2, "num_images_per_prompt": 2, "latents": starting_noise(4)}
    expected = theirs(PROMPTS, output_type="np", guidance_scale=2.0, **options).images
    assert difference(tiny(PROMPTS, progress=False, **options), expected) < 1e-4


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "ddim", "euler", "pndm"])
def test_we_draw_the_same_from_diffusers_folder(tiny_folder, tmp_path, sampler):
    tokenizer = transformers.CLIPTokenizer.from_pretrained(tiny_folder / "tokenizer")
    text_config = transformers.CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=12,
        intermediate_size=20,
        num_hidden_layers=1,
        num_attention_heads=3,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    generator = torch.Generator().manual_seed(3)
    theirs = diffusers.StableDiffusionPipeline(
        vae=randomise_(
            diffusers.AutoencoderKL(
                down_block_types=("DownEncoderBlock2D",) * 2,
                up_block_types=("UpDecoderBlock2D",) * 2,
                block_out_channels=(4, 8),
                norm_num_groups=4,
            ),
            generator,
        ),
        text_encoder=randomise_(transformers.CLIPTextModel(text_config), generator),
        tokenizer=tokenizer,
        unet=randomise_(
            diffusers.UNet2DConditionModel(
                sample_size=16,
                block_out_channels=(4, 8),
                layers_per_block=2,
                norm_num_groups=2,
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
                cross_attention_dim=12,
                attention_head_dim=4,
            ),
            generator,
        ),
        scheduler=getattr(diffusers, SAMPLERS[sampler].__name__)(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    theirs.save_pretrained(tmp_path)
    theirs.set_progress_bar_config(disable=True)
    latents = torch.randn(2, 4, 16, 16, generator=generator)
    expected = theirs(
        PROMPTS, num_inference_steps=4, guidance_scale=3.0, latents=latents, output_type="np"
    ).images
    ours = StableDiffusionPipeline.from_pretrained(tmp_path)
    assert ours.card == {} and (
        ours.default("num_inference_steps"),
        ours.default("guidance_scale"),
    ) == (50, 7.5)
    got = ours(PROMPTS, num_inference_steps=4, guidance_scale=3.0, latents=latents, progress=False)
    assert got.shape == (2, 3, 32, 32)
    assert difference(got, expected) < 1e-4


def test_every_default_scheduler_of_diffusers_follows_its_pipelines_conventions(tiny, tiny_folder):
    """Its pipeline overrules clip_sample and steps_offset; so must ours."""
    models = {
        name: getattr(diffusers.StableDiffusionPipeline.from_pretrained(tiny_folder), name)
        for name in ("vae", "text_encoder", "tokenizer", "unet")
    }
    for sampler in ("ddim", "pndm"):
        class_ = SAMPLERS[sampler]
        theirs = diffusers.StableDiffusionPipeline(
            **models,
            scheduler=getattr(diffusers, class_.__name__)(),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        theirs.set_progress_bar_config(disable=True)
        ours = StableDiffusionPipeline(
            tiny.vae, tiny.text_encoder, tiny.tokenizer, tiny.unet, class_()
        )
        options = {"num_inference_steps": 4, "guidance_scale": 2.0, "latents": starting_noise(1)}
        expected = theirs(PROMPTS[0], output_type="np", **options).images
        assert difference(ours(PROMPTS[0], progress=False, **options), expected) < 1e-4


# ----------------------------------------------------------------------------------------------
# what it draws


def test_save_and_open_is_the_same_model(unsaved, tmp_path):
    pipeline = unsaved
    pipeline.save_pretrained(tmp_path)
    opened = StableDiffusionPipeline.from_pretrained(tmp_path)
    assert opened.card == pipeline.card and opened.scheduler.config == pipeline.scheduler.config
    torch.testing.assert_close(draw(opened), draw(pipeline), atol=1e-5, rtol=0)
    assert not list(tmp_path.rglob("*.partial"))


def test_half_precision_files_draw_nearly_the_same(tiny, tmp_path):
    tiny.save_pretrained(tmp_path, dtype=torch.float16)
    opened = StableDiffusionPipeline.from_pretrained(tmp_path)
    assert opened.unet.dtype == torch.float32
    assert (draw(opened) - draw(tiny)).abs().mean() < 0.02


def test_defaults_are_the_cards(tiny):
    explicit = draw(tiny, num_inference_steps=3, guidance_scale=2.0, height=32, width=32)
    assert torch.equal(draw(tiny), explicit)
    assert not torch.equal(draw(tiny, num_inference_steps=4), explicit)
    assert not torch.equal(draw(tiny, guidance_scale=2.5), explicit)


def test_images_are_between_minus_one_and_one(tiny):
    with torch.no_grad():
        tiny.vae.decoder.conv_out.weight.mul_(100)  # so loud that it goes far beyond
    images = draw(tiny)
    assert images.min() == -1 and images.max() == 1


def test_guidance_is_the_papers_formula(tiny):
    """ε = ε(∅) + w (ε(c) − ε(∅)); at w = 1 the negative prompt has no say, and no second pass is
    made."""
    x, t = starting_noise(1), torch.tensor(700)
    context = tiny.encode_prompt("seven", negative_prompt="three").detach()
    alone = [tiny.unet(x, t, part).detach() for part in context]
    expected = alone[0] + 3.0 * (alone[1] - alone[0])
    torch.testing.assert_close(
        tiny.predict(x, t, context, 3.0).detach(), expected, atol=1e-5, rtol=1e-4
    )
    torch.testing.assert_close(tiny.predict(x, t, context[1:], 3.0).detach(), alone[1])


def test_guidance_of_one_or_less_makes_one_pass_and_ignores_the_negative_prompt(tiny):
    sizes = []
    tiny.unet.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    assert torch.equal(
        draw(tiny, guidance_scale=1.0), draw(tiny, guidance_scale=0.0, negative_prompt="three")
    )
    assert set(sizes) == {1}
    sizes.clear()
    draw(tiny, guidance_scale=1.01)
    assert set(sizes) == {2}


@pytest.mark.parametrize("start", [0.0, 0.3, 0.4, 0.9])
def test_guidance_starts_at_the_step_that_diffusers_guider_says(tiny, start):
    guider = diffusers.ClassifierFreeGuidance(guidance_scale=3.0, start=start)
    steps, noise, context = (
        5,
        starting_noise(1),
        tiny.encode_prompt("seven", negative_prompt="three").detach(),
    )
    tiny.scheduler.set_timesteps(steps)
    x, passes = noise * tiny.scheduler.init_noise_sigma, []
    for i, t in enumerate(tiny.scheduler.timesteps):
        guider.set_state(i, steps, t)
        alone = [
            tiny.unet(tiny.scheduler.scale_model_input(x, t), t, part).detach() for part in context
        ]
        passes.append(guider.num_conditions)
        x = tiny.scheduler.step(guider.forward(alone[1], alone[0]).pred, t, x)
    sizes = []
    tiny.unet.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    options = {
        "num_inference_steps": steps,
        "guidance_scale": 3.0,
        "guidance_start": start,
        "progress": False,
    }
    got = tiny("seven", negative_prompt="three", latents=noise, **options)
    torch.testing.assert_close(got, tiny.decode(x).detach(), atol=1e-5, rtol=1e-4)
    assert sizes == passes and sizes.count(1) == int(start * steps)  # no pass is made in vain


def test_a_guidance_that_begins_late_may_come_as_a_tensor(tiny):
    late = [
        draw(tiny, guidance_scale=3.0, guidance_start=start)
        for start in (0.4, torch.tensor(0.4), np.float32(0.4))
    ]
    assert torch.equal(late[0], late[1]) and torch.equal(late[0], late[2])


def test_a_scale_that_is_given_holds_for_all_steps_as_in_diffusers(tiny):
    tiny.card |= {"guidance_scale": 3.0, "guidance_start": 0.4}
    everywhere, late = (
        draw(tiny, guidance_scale=3.0, guidance_start=start) for start in (0.0, 0.4)
    )
    assert not torch.equal(everywhere, late)
    assert torch.equal(draw(tiny, guidance_scale=3.0), everywhere)
    assert torch.equal(draw(tiny), late) and torch.equal(draw(tiny, guidance_start=0.4), late)


def test_an_image_to_begin_from_leaves_out_steps_not_moments(tiny):
    """Guidance begins at the same noise, however many of the steps before it are left out."""
    sizes = []
    tiny.unet.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    options = {
        "num_inference_steps": 10,
        "guidance_scale": 3.0,
        "guidance_start": 0.4,
        "image": picture(),
    }
    for strength, expected in ((1.0, 4 * [1] + 6 * [2]), (0.8, 2 * [1] + 6 * [2]), (0.5, 5 * [2])):
        sizes.clear()
        draw(tiny, strength=strength, **options)
        assert sizes == expected


def test_prompt_and_negative_prompt_matter(tiny):
    plain = draw(tiny)
    assert not torch.equal(draw(tiny, "a handwritten eight"), plain)
    assert not torch.equal(draw(tiny, negative_prompt="a handwritten eight"), plain)
    assert torch.equal(draw(tiny, negative_prompt=""), plain)


def test_each_distinct_text_is_encoded_once(tiny):
    seen = []
    tiny.text_encoder.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    draw(tiny, ["seven", "three", "seven", "seven"], num_images_per_prompt=2, batch_size=3)
    assert seen == [3]  # seven, three and the empty text of guidance


def test_an_image_depends_on_its_own_prompt_and_noise_only(tiny):
    noise = starting_noise(3)
    together = tiny(["seven", "three", "one"], latents=noise, progress=False)
    alone = tiny("three", latents=noise[1:2], progress=False)
    torch.testing.assert_close(together[1:2], alone, atol=1e-4, rtol=0)


def test_images_of_one_prompt_lie_together(tiny):
    noise = starting_noise(4)
    images = tiny(["seven", "three"], num_images_per_prompt=2, latents=noise, progress=False)
    expected = tiny(["seven", "seven", "three", "three"], latents=noise, progress=False)
    assert torch.equal(images, expected)


@pytest.mark.parametrize("batch_size", [1, 2, 5])
@pytest.mark.parametrize("sampler", ["dpmpp_2m", "pndm", "heun"])
def test_drawing_in_batches_changes_nothing(tiny, sampler, batch_size):
    """Multistep samplers remember steps: none may leak from one batch into the next."""
    tiny.use_sampler(sampler)
    prompts = ["seven", "three", "one", "two", "five"]
    torch.testing.assert_close(
        draw(tiny, prompts, batch_size=batch_size),
        draw(tiny, prompts, batch_size=250),
        atol=1e-4,
        rtol=0,
    )


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "ddpm"])
def test_one_seed_draws_one_picture(tiny, sampler):
    tiny.use_sampler(sampler)
    assert torch.equal(draw(tiny, seed=1), draw(tiny, seed=1))
    assert not torch.equal(draw(tiny, seed=1), draw(tiny, seed=2))


def test_odd_latents_work(tiny):
    assert draw(tiny, height=20, width=36).shape == (1, 1, 20, 36)  # latents 5 x 9
    assert draw(tiny, latents=torch.zeros(1, 4, 7, 3)).shape == (1, 1, 28, 12)


def test_callback_sees_every_step_and_predictions_that_end_in_the_picture(tiny):
    seen = []
    image = draw(tiny, num_inference_steps=6, callback=lambda *step: seen.append(step))
    assert [i for i, *_ in seen] == list(range(6))
    assert [float(t) for _, t, *_ in seen] == sorted((float(t) for _, t, *_ in seen), reverse=True)
    _, _, latents, x0 = seen[-1]
    assert latents.shape == x0.shape == (1, 4, 8, 8)
    torch.testing.assert_close(tiny.decode(x0).detach(), image, atol=0.05, rtol=0)


def test_a_word_that_training_never_saw_draws_with_a_warning_that_names_it(tiny):
    with pytest.warns(UserWarning, match="never saw 'zebra', 'purple'") as caught:
        images = draw(tiny, ["a handwritten zebra", "a purple seven"])
    assert images.shape == (2, 1, 32, 32)
    assert caught[0].filename == __file__  # it points to the caller
    with pytest.warns(UserWarning, match="never saw 'zebra'"):
        draw(tiny, negative_prompt="zebra")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw(tiny, ["a handwritten seven", ""])


def test_a_prompt_longer_than_the_context_draws_with_a_warning_that_quotes_what_was_cut(tiny):
    with pytest.warns(UserWarning, match="cut off 'nine"):
        draw(tiny, "seven " * (tiny.tokenizer.model_max_length - 2) + "nine")


def test_attention_in_slices_draws_the_same_and_can_be_undone(tiny):
    expected = draw(tiny)
    layers = [layer for layer in tiny.unet.modules() if isinstance(layer, Attention)]
    for slice_size, sizes in (
        ("auto", {max(1, layer.heads // 2) for layer in layers}),
        ("max", {1}),
        (None, {None}),
    ):
        tiny.enable_attention_slicing(slice_size)
        assert {layer.slice_size for layer in layers} == sizes
        torch.testing.assert_close(draw(tiny), expected, rtol=0, atol=1e-5)


def test_drawing_leaves_no_graph_and_ordinary_tensors(tiny):
    images = draw(tiny)
    assert not images.requires_grad and not images.is_inference()


def test_flow_samplers_stand_in_for_each_other(tiny):
    """Trained by flow matching: both know the velocity and the shift, and with many steps near one
    picture."""
    tiny.scheduler = SAMPLERS["flow_euler"](shift=2.0)
    options = {"num_inference_steps": 60, "guidance_scale": 1.0}
    euler = draw(tiny, **options)
    dpm = draw(tiny.use_sampler("dpmpp_2m"), **options)
    assert tiny.scheduler.config.flow_shift == 2.0
    torch.testing.assert_close(dpm, euler, atol=0.15, rtol=0)
    assert (dpm - euler).abs().mean() < 0.02 < 0.1 < euler.std()
    assert torch.equal(draw(tiny.use_sampler("flow_euler"), **options), euler)


def test_a_sampler_keeps_the_noise_schedule_of_the_model(tiny):
    for name in ("ddim", "pndm", "euler", "lcm", "heun", "euler_a", "ddpm", "dpmpp_2m"):
        betas = tiny.scheduler.betas
        torch.testing.assert_close(tiny.use_sampler(name).scheduler.betas, betas)
        assert type(tiny.scheduler) is SAMPLERS[name] and sampler_name(tiny.scheduler) == name


def test_a_samplers_name_says_how_its_sigmas_are_spaced(tiny):
    for name, (plain, rule) in SPACED_SAMPLERS.items():
        config = tiny.use_sampler(name).scheduler.config
        assert [config.use_karras_sigmas, config.use_exponential_sigmas] == [
            rule == "karras",
            rule == "exponential",
        ]
        assert sampler_name(tiny.scheduler) == name
        assert sampler_name(tiny.use_sampler(plain).scheduler) == plain


# ----------------------------------------------------------------------------------------------
# what it refuses


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_inference_steps": 0}, "num_inference_steps of 1 or more, got 0"),
        ({"num_inference_steps": -3}, "num_inference_steps of 1 or more, got -3"),
        ({"num_images_per_prompt": 0}, "num_images_per_prompt of 1 or more, got 0"),
        ({"height": 30}, "multiples of 4, got 30 x 32"),
        ({"width": 33}, "multiples of 4, got 32 x 33"),
        ({"height": 0}, "multiples of 4, got 0 x 32"),
        ({"width": -4}, "multiples of 4, got 32 x -4"),
        (
            {"latents": torch.zeros(2, 4, 8, 8)},
            r"latents of shape \(1, 4, 8, 8\), got \(2, 4, 8, 8\)",
        ),
        (
            {"latents": torch.zeros(1, 3, 8, 8)},
            r"latents of shape \(1, 4, 8, 8\), got \(1, 3, 8, 8\)",
        ),
        (
            {"latents": torch.zeros(1, 4, 8, 8), "height": 40},
            r"latents of shape \(1, 4, 10, 8\), got \(1, 4, 8, 8\)",
        ),
        ({"latents": torch.zeros(4, 8, 8)}, r"latents of shape \(1, 4, 8, 8\), got \(4, 8, 8\)"),
        ({"negative_prompt": ["one", "two"]}, "as many negative ones, got 1 and 2"),
        ({"batch_size": 0}, "batch_size of 1 or more, got 0"),
        ({"prompt": []}, "expected prompts"),
        ({"prompt": [7]}, "expected a text"),
        ({"prompt": 7}, "expected a text or a list of texts, got int"),
        ({"prompt": None}, "expected a text or a list of texts, got NoneType"),
        ({"negative_prompt": 7}, "expected a text or a list of texts, got int"),
        ({"num_inference_steps": 1.5}, "whole num_inference_steps of 1 or more, got 1.5"),
        ({"num_inference_steps": "3"}, "whole num_inference_steps of 1 or more, got '3'"),
        ({"num_images_per_prompt": 2.0}, "whole num_images_per_prompt of 1 or more, got 2.0"),
        ({"guidance_scale": float("nan")}, "guidance_scale of 0 or more, got nan"),
        ({"guidance_scale": float("inf")}, "guidance_scale of 0 or more, got inf"),
        ({"guidance_scale": "3"}, "guidance_scale of 0 or more, got '3'"),
        ({"guidance_scale": -1}, "guidance_scale of 0 or more, got -1"),
        ({"guidance_start": 1.0}, r"guidance_start in \[0, 1\), a part of the steps, got 1.0"),
        ({"guidance_start": -0.1}, "guidance_start in .*, got -0.1"),
        ({"guidance_start": float("nan")}, "guidance_start in .*, got nan"),
        ({"guidance_start": "half"}, "guidance_start in .*, got 'half'"),
    ],
)
def test_bad_arguments_are_refused_with_what_was_expected_and_what_came(tiny, options, message):
    with pytest.raises(ValueError, match=message):
        draw(tiny, **options)


def test_unknown_sampler_is_refused_with_the_known_ones(tiny):
    with pytest.raises(
        ValueError,
        match="ddpm, ddim, pndm, euler, .*, flow_euler, .*dpmpp_2m_exponential, got 'magic'",
    ):
        tiny.use_sampler("magic")


def test_a_sampler_that_does_not_fit_the_models_training_is_refused(tiny):
    """It would draw, but nonsense."""
    with pytest.raises(ValueError, match="one of ddpm, .*dpmpp_2m, lcm, got 'flow_euler'"):
        tiny.use_sampler("flow_euler")
    tiny.scheduler = SAMPLERS["flow_euler"](shift=2.0)
    with pytest.raises(ValueError, match="one of dpmpp_2m, flow_euler, got 'ddim'"):
        tiny.use_sampler("ddim")
    tiny.scheduler = SAMPLERS["ddim"](prediction_type="v_prediction", rescale_betas_zero_snr=True)
    with pytest.raises(
        ValueError, match="one of ddpm, ddim, euler, euler_a, dpmpp_2m, lcm, got 'heun'"
    ):
        tiny.use_sampler("heun")


def test_parts_of_different_models_are_refused(tiny):
    for name, options, message in (
        ("unet", {"in_channels": 5}, "unet.in_channels = 4, got 5"),
        ("unet", {"out_channels": 5}, "unet.out_channels = 4, got 5"),
        ("unet", {"cross_attention_dim": 16}, "unet.cross_attention_dim = 12, got 16"),
        ("vae", {"shift_factor": 0.1}, "vae.shift_factor = 0, got 0.1"),
        ("text_encoder", {"vocab_size": 99}, r"\(16, 99\) of the tokenizer, got \(16, \d+\)"),
    ):
        parts = {
            part: getattr(tiny, part)
            for part in ("vae", "text_encoder", "tokenizer", "unet", "scheduler")
        }
        parts[name] = type(parts[name]).from_config(parts[name].config, **options)
        with pytest.raises(ValueError, match=message):
            StableDiffusionPipeline(**parts)


@pytest.fixture
def broken(tiny_folder, tmp_path):
    """A copy of the folder, to be broken."""
    return shutil.copytree(tiny_folder, tmp_path / "broken")


def edit_index(folder, **changes):
    file = folder / "model_index.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def one_line(error, *words):
    message = str(error.value)
    assert "\n" not in message and all(word in message for word in words), message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"_class_name": "FluxPipeline"},
            ["expected _class_name 'StableDiffusionPipeline'", "'FluxPipeline'"],
        ),
        ({"vae": ["diffusers", "VQModel"]}, ["expected vae to be AutoencoderKL", "'VQModel'"]),
        (
            {"scheduler": ["diffusers", "LCMAncestral"]},
            ["DPMSolverMultistepScheduler", "'LCMAncestral'"],
        ),
        (
            {"unet": ["transformers", "UNet2DConditionModel"]},
            ["expected unet to be UNet2DConditionModel of diffusers", "'transformers'"],
        ),
        ({"vae": [None, "AutoencoderKL"]}, ["expected vae to be AutoencoderKL of diffusers"]),
        ({"vae": ["AutoencoderKL"]}, ["expected vae to be AutoencoderKL of diffusers"]),
        ({"unet": [None, None]}, ["expected unet to be UNet2DConditionModel", "None"]),
        (
            {"controlnet": ["diffusers", "ControlNetModel"]},
            ["expected controlnet to be absent", "'ControlNetModel'"],
        ),
    ],
)
def test_foreign_classes_are_refused_by_name(broken, changes, words):
    edit_index(broken, **changes)
    with pytest.raises(ValueError) as error:
        StableDiffusionPipeline.from_pretrained(broken)
    one_line(error, "model_index.json", *words)


@pytest.mark.parametrize("value", [None, True, 7, "unet", [], [7], [[]], [{}], {"a": 1}, ["x", []]])
@pytest.mark.parametrize("part", ["_class_name", "unet", "tokenizer", "scheduler"])
def test_an_entry_of_another_kind_in_the_index_is_one_line(broken, part, value):
    edit_index(broken, **{part: value})
    with pytest.raises(ValueError) as error:
        StableDiffusionPipeline.from_pretrained(broken)
    one_line(error, "model_index.json: expected ", part)


def test_safety_checker_and_feature_extractor_are_passed_over_with_a_notice(broken):
    edit_index(
        broken,
        safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"],
        feature_extractor=["transformers", "CLIPImageProcessor"],
    )
    with pytest.warns(
        UserWarning, match="passes over safety_checker and feature_extractor"
    ) as caught:
        pipeline = StableDiffusionPipeline.from_pretrained(broken)
    assert caught[0].filename == __file__  # it points to the caller
    assert draw(pipeline).shape == (1, 1, 32, 32)


@pytest.mark.parametrize(
    ("path", "content", "words"),
    [
        ("model_index.json", b"{", ["model_index.json", "JSON"]),
        ("model_index.json", b"[]", ["model_index.json", "JSON object", "list"]),
        ("model_index.json", None, ["model_index.json", "no such file"]),
        ("minildm.json", b"oops", ["minildm.json", "card", "JSON"]),
        (
            "minildm.json",
            b'{"guidance_scale": "strong"}',
            ["minildm.json", "expected a guidance_scale of 0 or more, got 'strong'"],
        ),
        (
            "minildm.json",
            b'{"guidance_start": 1}',
            ["minildm.json", "expected a guidance_start in [0, 1)", "got 1"],
        ),
        (
            "minildm.json",
            b'{"num_inference_steps": [9]}',
            ["minildm.json", "whole num_inference_steps", "got [9]"],
        ),
        (
            "minildm.json",
            b'{"image_size": 0}',
            ["minildm.json", "whole image_size of 1 or more, got 0"],
        ),
        (
            "minildm.json",
            b'{"num_inference_steps": true}',
            ["minildm.json", "whole num_inference_steps of 1 or more, got True"],
        ),
        (
            "vae/config.json",
            b'{"scaling_factor": 0}',
            ["vae/config.json: expected a finite scaling_factor above 0, got 0"],
        ),
        (
            "vae/config.json",
            b'{"scaling_factor": 1000000000000000000000000000000}',
            ["vae/config.json", "expected scaling_factor to be a number below 2**63"],
        ),
        (
            "text_encoder/config.json",
            b'{"num_hidden_layers": 1000000000000000000000000000000}',
            [
                "text_encoder/config.json",
                "num_hidden_layers to be a whole number from 0 to 1000000",
            ],
        ),
        (
            "text_encoder/config.json",
            b'{"num_hidden_layers": 1000000}',
            ["text_encoder/config.json", "a network for the weights beside it"],
        ),
        (
            "unet/config.json",
            b'{"block_out_channels": [20000, 20000, 20000, 20000]}',
            ["unet/config.json", "a network for the weights beside it"],
        ),
        (
            "unet/config.json",
            b'{"freq_shift": 160}',
            ["unet/config.json: expected a freq_shift below 160, got 160"],
        ),
        (
            "vae/config.json",
            b'{"in_channels": "one"}',
            ["vae/config.json", "in_channels", "got 'one'"],
        ),
        (
            "vae/config.json",
            b'{"norm_num_groups": 0}',
            ["vae/config.json", "expected numbers that make an Auto"],
        ),
        (
            "unet/config.json",
            b'{"block_out_channels": []}',
            ["unet/config.json", "expected numbers that make"],
        ),
        (
            "unet/config.json",
            b'{"norm_num_groups": -1}',
            ["unet/config.json", "norm_num_groups", "got -1"],
        ),
        (
            "unet/config.json",
            b'{"dropout": NaN}',
            ["unet/config.json", "dropout to be a number, got nan"],
        ),
        (
            "text_encoder/config.json",
            b'{"num_attention_heads": 0}',
            ["text_encoder/config.json", "zero"],
        ),
        (
            "scheduler/scheduler_config.json",
            b'{"steps_offset": "x"}',
            ["scheduler_config.json", "steps_offset"],
        ),
        ("tokenizer/vocab.json", b"[" * 100_000, ["vocab.json", "as JSON"]),
        ("tokenizer/merges.txt", b"[" * 100_000, ["tokenizer", "merges of two tokens"]),
        ("unet", None, ["unet", "no such folder"]),
        ("vae/config.json", None, ["config.json", "no such file"]),
        ("unet/diffusion_pytorch_model.safetensors", None, ["unet", "no such file"]),
        ("unet/diffusion_pytorch_model.safetensors", b"not a checkpoint", ["unet", "safetensors"]),
        (
            "scheduler/scheduler_config.json",
            b'{"_class_name": "LMSDiscreteScheduler"}',
            ["LMSDiscreteScheduler"],
        ),
        ("tokenizer/vocab.json", None, ["vocab.json", "no such file"]),
    ],
)
def test_a_damaged_folder_is_refused_in_one_line(broken, path, content, words):
    target = broken / path
    if target.is_dir():
        shutil.rmtree(target)
    elif content is None:
        target.unlink()
    else:
        target.write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        StableDiffusionPipeline.from_pretrained(broken)
    one_line(error, *words)


@pytest.mark.parametrize("part", ["vae", "unet", "text_encoder"])
def test_a_model_with_nan_in_a_tensor_is_refused_by_file_and_tensor(broken, part):
    file = next((broken / part).glob("*.safetensors"))
    tensors = load_file(file)
    name = list(tensors)[-1]
    tensors[name].view(-1)[-1] = float("nan")
    save_file(tensors, file)
    with pytest.raises(ValueError) as error:
        StableDiffusionPipeline.from_pretrained(broken)
    one_line(error, f"{file}: expected finite weights, got NaN in {name}")


@pytest.mark.parametrize(("what", "part"), [("latents", "unet"), ("pictures", "vae")])
@pytest.mark.parametrize("half", [False, True])
def test_pictures_that_are_not_finite_are_an_error_that_blames_half_precision_only_for_itself(
    tiny, what, part, half
):
    pipeline = tiny.to(torch.bfloat16) if half else tiny
    last = pipeline.unet.conv_out if part == "unet" else pipeline.vae.decoder.conv_out
    last.bias.data.fill_(float("inf"))
    with pytest.raises(ValueError, match=f"expected finite {what}.*, got NaN or infinity") as error:
        draw(pipeline)
    assert ("did half precision overflow" in str(error.value)) == half


def test_a_truncated_checkpoint_is_refused(broken):
    file = broken / "unet/diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError) as error:
        StableDiffusionPipeline.from_pretrained(broken)
    one_line(error, str(file), "expected a whole safetensors file")


def test_a_pickle_is_never_read(broken):
    file = broken / "unet/diffusion_pytorch_model.safetensors"
    torch.save({}, broken / "unet/diffusion_pytorch_model.bin")
    file.unlink()
    with pytest.raises(FileNotFoundError, match="safetensors"):
        StableDiffusionPipeline.from_pretrained(broken)
    torch.save({}, file)
    with pytest.raises(ValueError, match="safetensors"):
        StableDiffusionPipeline.from_pretrained(broken)


# --------------------------------------------------------------------------------------------------
# the shipped models


def test_a_shipped_model_opens_by_name(weights, tiny_folder):
    assert shipped_models() == ["mnist"]
    opened = StableDiffusionPipeline.from_pretrained("mnist")
    assert opened.card["dataset"] == "mnist" and draw(opened).shape == (1, 1, 32, 32)


def test_from_pipe_exchanges_a_part_and_shares_the_others(tiny):
    class Silent(StableDiffusionPipeline):
        def decode(self, latents):
            return torch.zeros(len(latents), 1, 32, 32)

    unet, card = tiny.unet, dict(tiny.card)
    other = Silent.from_pipe(tiny, unet=torch.nn.Identity())
    other.card["note"] = "another"
    assert type(other) is Silent and isinstance(other.unet, torch.nn.Identity)
    assert other.vae is tiny.vae and other.tokenizer is tiny.tokenizer
    assert other.scheduler is tiny.scheduler
    assert tiny.unet is unet and tiny.card == card  # the one given stays as it was
    with pytest.raises(ValueError, match="expected parts of vae, text_encoder.*got u_net"):
        StableDiffusionPipeline.from_pipe(tiny, u_net=unet)


def test_an_unknown_name_is_refused_with_the_shipped_ones(weights):
    with pytest.raises(FileNotFoundError) as error:
        StableDiffusionPipeline.from_pretrained("minst")
    one_line(error, "shipped model (mnist)", "got 'minst'")


@pytest.mark.parametrize("damage", ["altered", "missing"])
def test_a_damaged_shipped_model_is_refused_with_the_command_that_mends_it(weights, damage):
    file = weights / "mnist/unet/diffusion_pytorch_model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.unlink() if damage == "missing" else file.write_bytes(content)
    with pytest.raises(FileNotFoundError if damage == "missing" else ValueError) as error:
        StableDiffusionPipeline.from_pretrained("mnist")
    one_line(
        error,
        str(file),
        "expected sha256",
        "mend it with: ",
        "got none" if damage == "missing" else "got ",
    )


# ----------------------------------------------------------------------------------------------
# from an image


def picture(count=1, seed=5):
    """Smooth pictures (N, 1, 32, 32) in [-1, 1]."""
    coarse = torch.randn(count, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, (32, 32), mode="bilinear").clamp(-1, 1)


def theirs_from(class_, folder):
    pipeline = class_.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize("strength", [0.3, 0.75, 1.0])
@pytest.mark.parametrize(
    "sampler", ["dpmpp_2m", "ddim", "euler", "heun", "heun_karras", "euler_a", "lcm"]
)
def test_diffusers_changes_an_image_to_the_same(tiny, tmp_path, sampler, strength):
    tiny.use_sampler(sampler).save_pretrained(tmp_path)
    theirs = theirs_from(diffusers.StableDiffusionImg2ImgPipeline, tmp_path)
    options = {"num_inference_steps": 8, "guidance_scale": 2.0, "strength": strength}
    expected = theirs(
        PROMPTS,
        image=picture(2),
        generator=torch.Generator().manual_seed(0),
        output_type="np",
        **options,
    ).images
    got = draw(tiny, PROMPTS, image=picture(2), **options)
    assert difference(got, expected) < 1e-4


@pytest.mark.parametrize("strength", [0.5, 1.0])
@pytest.mark.parametrize("sampler", ["dpmpp_2m", "ddim", "euler"])
def test_diffusers_paints_the_same_into_an_image(tiny, tmp_path, sampler, strength):
    tiny.use_sampler(sampler).save_pretrained(tmp_path)
    theirs = theirs_from(diffusers.StableDiffusionInpaintPipeline, tmp_path)
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., :16] = 1
    options = {"num_inference_steps": 8, "guidance_scale": 2.0, "strength": strength}
    expected = theirs(
        PROMPTS[0],
        image=picture(),
        mask_image=mask,
        generator=torch.Generator().manual_seed(0),
        output_type="np",
        height=32,
        width=32,
        **options,
    ).images
    assert (
        difference(draw(tiny, PROMPTS[0], image=picture(), mask=mask, **options), expected) < 1e-4
    )


@torch.no_grad()
def test_little_strength_keeps_the_image_and_much_does_not(tiny):
    def change(strength):
        kept = tiny.decode(tiny.vae.encode(picture()).mean * tiny.vae.config.scaling_factor)
        return float(
            (draw(tiny, image=picture(), strength=strength, num_inference_steps=10) - kept)
            .abs()
            .mean()
        )

    assert change(0.1) < change(0.5) < change(1.0)


@torch.no_grad()
def test_what_the_mask_keeps_stays_and_what_it_frees_changes(tiny):
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., :16] = 1
    generator = torch.Generator().manual_seed(0)
    latents = tiny.vae.encode(picture()).sample(generator) * tiny.vae.config.scaling_factor
    start = tiny.starting_image(1, picture(), mask, None, torch.Generator().manual_seed(0))
    x0 = tiny.denoise(tiny.starting_noise(1), tiny.encode_prompt("seven"), 5, 2.0, start=start)
    torch.testing.assert_close(x0[..., 4:], latents[..., 4:], rtol=0, atol=0)
    assert (x0[..., :4] - latents[..., :4]).abs().mean() > 0.1


def test_an_image_in_batches_is_the_same(tiny):
    options = {
        "image": picture(3),
        "strength": 0.6,
        "num_inference_steps": 4,
        "mask": (picture(3, seed=6) > 0).float(),
    }
    prompts = ["seven", "three", "one"]
    torch.testing.assert_close(
        draw(tiny, prompts, batch_size=2, **options), draw(tiny, prompts, **options)
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": 0.5}, "expected an image with mask or strength"),
        ({"mask": torch.ones(1, 1, 32, 32)}, "expected an image with mask or strength"),
        (
            {"image": torch.zeros(1, 1, 32, 32), "strength": 0},
            r"expected a strength in \(0, 1\], got 0",
        ),
        (
            {"image": torch.zeros(1, 1, 32, 32), "strength": 1.5},
            r"expected a strength in \(0, 1\], got 1.5",
        ),
        (
            {"image": torch.zeros(3, 1, 32, 32)},
            "expected 1 or 1 images, as many as are drawn, got 3",
        ),
        ({"image": torch.zeros(1, 3, 32, 32)}, "3"),
        ({"image": torch.zeros(1, 32, 32)}, r"a tensor \(N, C, height, width\), got \(1, 32, 32\)"),
        (
            {"image": np.zeros((1, 1, 32, 32))},
            r"a tensor \(N, C, height, width\).* got an array of float64 \(1, 1, 32, 32\)",
        ),
        (
            {"image": torch.full((1, 1, 32, 32), 200.0)},
            r"expected an image in \[-1, 1\], got one from 200 to 200",
        ),
        (
            {"image": torch.full((1, 1, 32, 32), float("nan"))},
            r"expected an image in \[-1, 1\], got one from nan",
        ),
        (
            {"image": torch.zeros(1, 1, 32, 32), "strength": 0.4},
            "strength of at least one of the 2 steps, got 0.4",
        ),
        (
            {"image": torch.zeros(1, 1, 32, 32), "mask": torch.full((1, 1, 32, 32), 255)},
            "one from 255 to 255",
        ),
        (
            {"image": torch.zeros(1, 1, 32, 32), "mask": torch.full((1, 1, 32, 32), float("nan"))},
            "from nan to nan",
        ),
        (
            {"image": torch.zeros(1, 1, 32, 32), "mask": torch.ones(32, 32)},
            "expected a mask of shape",
        ),
    ],
)
def test_a_wrong_image_is_one_clear_error(tiny, options, message):
    with pytest.raises(ValueError, match=message):
        draw(tiny, num_inference_steps=2, **options)


def test_a_folder_that_is_half_written_over_is_no_model_any_more(unsaved, tmp_path, monkeypatch):
    """Else the parts of two models would draw together."""
    unsaved.save_pretrained(tmp_path)

    def full(*told, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(unsaved.unet, "save_pretrained", full)
    with pytest.raises(OSError, match="No space left"):
        unsaved.save_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match="model_index.json: no such file"):
        StableDiffusionPipeline.from_pretrained(tmp_path)
    monkeypatch.undo()
    unsaved.save_pretrained(tmp_path)
    StableDiffusionPipeline.from_pretrained(tmp_path)
