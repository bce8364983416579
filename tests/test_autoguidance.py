"""minildm.pipelines.autoguidance: diffusers' guiders step by step, and guides that do not fit."""

import diffusers
import pytest
import torch
from tiny import tiny_pipeline

from minildm.diffusion import guide, summed_scales
from minildm.models import AutoencoderKL
from minildm.pipelines import AutoguidedPipeline
from minildm.schedulers import SAMPLERS

pytest_plugins = ["tiny"]

PROMPTS = ["a handwritten seven", "the digit 3"]


def worse(seed=1):
    """Another text encoder and U-Net in the same latents."""
    bad, good = tiny_pipeline(seed), tiny_pipeline()
    bad.vae.load_state_dict(good.vae.state_dict())
    return bad


def starting_noise(count=2):
    return torch.randn(count, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def guiders(scale, autoguidance, start):
    """diffusers' two, of which autoguidance leaves layers out; what it does with the predictions is
    the paper's."""
    layers = {"auto_guidance_layers": [0], "dropout": 1.0}
    return [
        diffusers.ClassifierFreeGuidance(guidance_scale=scale, start=start),
        diffusers.AutoGuidance(guidance_scale=autoguidance, start=start, **layers),
    ]


@pytest.mark.parametrize("start", [0.0, 0.4])
@pytest.mark.parametrize("scale, autoguidance", [(1.0, 2.5), (3.0, 1.0), (3.0, 2.5)])
def test_every_step_is_guided_as_diffusers_guiders_guide(tiny, scale, autoguidance, start):
    """Alone, and both: what the two say beyond the prompt's own prediction is added."""
    bad, steps, noise = worse(), 5, starting_noise()
    nothing, texts = tiny.encode_prompt(PROMPTS).detach()
    its_texts = bad.encode_prompt(PROMPTS, guidance=False)[0].detach()
    cfg, auto = guiders(scale, autoguidance, start)
    tiny.scheduler.set_timesteps(steps)
    x = noise * tiny.scheduler.init_noise_sigma
    for i, t in enumerate(tiny.scheduler.timesteps):
        for guider in (cfg, auto):
            guider.set_state(i, steps, t)
        told = tiny.scheduler.scale_model_input(x, t)
        good = tiny.unet(told, t, texts).detach()
        prediction = cfg.forward(good, tiny.unet(told, t, nothing).detach()).pred
        prediction = prediction + auto.forward(good, bad.unet(told, t, its_texts).detach()).pred
        x = tiny.scheduler.step(prediction - good, t, x)
    got = AutoguidedPipeline(tiny, bad, autoguidance)(
        PROMPTS,
        num_inference_steps=steps,
        guidance_scale=scale,
        guidance_start=start,
        latents=noise,
        progress=False,
    )
    torch.testing.assert_close(got, tiny.decode(x).detach(), atol=1e-4, rtol=1e-4)


def test_guidances_are_added_each_with_its_own_scale():
    *less, most = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0)).double()
    scales = [1.5, 3.0, 1.0]
    expected = most + sum((w - 1) * (most - each) for w, each in zip(scales, less, strict=True))
    torch.testing.assert_close(guide([*less, most], summed_scales(scales)), expected)


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_a_model_that_is_its_own_bad_guide_draws_as_without_one(tiny, scale):
    options = {"guidance_scale": scale, "latents": starting_noise(), "progress": False}
    expected = tiny(PROMPTS, **options)
    for autoguidance in (1.5, 4.0):
        got = AutoguidedPipeline(tiny, tiny, autoguidance)(PROMPTS, **options)
        torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(
        AutoguidedPipeline(tiny, worse(), 1.5)(PROMPTS, **options), expected, atol=0.01
    )


def test_the_bad_guide_is_asked_when_there_is_guidance_and_never_at_scale_1(tiny):
    bad, asked = worse(), {"good": [], "bad": []}
    for name, pipeline in (("good", tiny), ("bad", bad)):
        hook = lambda _, inputs, name=name: asked[name].append(len(inputs[0]))  # noqa: E731
        pipeline.unet.register_forward_pre_hook(hook)
    bad.text_encoder.register_forward_pre_hook(lambda *_: asked["bad"].append("text"))
    options = {"num_inference_steps": 5, "guidance_start": 0.4, "progress": False}
    AutoguidedPipeline(tiny, bad, 2.0)(PROMPTS, guidance_scale=3.0, **options)
    assert asked == {"good": [2, 2, 4, 4, 4], "bad": ["text", 2, 2, 2]}
    asked |= {"good": [], "bad": []}
    AutoguidedPipeline(tiny, bad, 2.0)(PROMPTS, guidance_scale=1.0, **options)
    assert asked == {"good": [2] * 5, "bad": ["text", 2, 2, 2]}
    asked |= {"good": [], "bad": []}
    dice = torch.Generator().manual_seed(0)
    got = AutoguidedPipeline(tiny, bad, 1.0)(PROMPTS, generator=dice, progress=False)
    assert asked["bad"] == []
    assert torch.equal(got, tiny(PROMPTS, generator=dice.manual_seed(0), progress=False))


def test_batches_and_several_pictures_of_a_prompt_keep_their_own_texts(tiny):
    autoguided = AutoguidedPipeline(tiny, worse(), 2.0)
    noise = starting_noise(4)
    together = autoguided(PROMPTS, num_images_per_prompt=2, latents=noise, progress=False)
    for i in range(4):
        alone = autoguided(PROMPTS[i // 2], latents=noise[i : i + 1], progress=False)
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-4, rtol=1e-4)
    cut = autoguided(PROMPTS, num_images_per_prompt=2, latents=noise, batch_size=3, progress=False)
    torch.testing.assert_close(cut, together, atol=1e-4, rtol=1e-4)


def test_the_given_pipeline_stays_as_it_is_and_both_move_together(tiny):
    bad, card = worse(), dict(tiny.card)
    autoguided = AutoguidedPipeline(tiny, bad, 2.0).use_sampler("ddim")
    autoguided.card["seen"] = True
    assert tiny.card == card and type(tiny.scheduler) is not type(autoguided.scheduler)
    autoguided.to(torch.float64)
    assert autoguided.unet.dtype == bad.unet.dtype == bad.text_encoder.dtype == torch.float64


def test_a_bad_guide_from_a_file_in_half_precision_fits(tiny, tmp_path):
    worse().save_pretrained(tmp_path, dtype=torch.float16)
    AutoguidedPipeline(tiny, type(tiny).from_pretrained(tmp_path), 2.0)


def change(part, **config):
    def changed(bad):
        old = getattr(bad, part)
        setattr(bad, part, type(old)(**{**old.config, **config}))

    return changed


def other_latents(bad):
    torch.manual_seed(5)
    bad.vae = AutoencoderKL(**bad.vae.config)


def longer_texts(bad):
    bad.tokenizer.model_max_length -= 1


@pytest.mark.parametrize(
    "changed, message",
    [
        (
            lambda bad: setattr(bad, "scheduler", SAMPLERS["ddim"](prediction_type="sample")),
            "expected a bad guide of the same prediction_type, epsilon, got sample",
        ),
        (
            lambda bad: setattr(bad, "scheduler", SAMPLERS["ddim"](beta_schedule="linear")),
            "expected a bad guide of the same noise schedule, got another",
        ),
        (other_latents, "expected a bad guide of the same autoencoder, got another"),
        (longer_texts, r"expected a bad guide of the same tokens, \d+, got \d+"),
        (
            change("unet", time_cond_proj_dim=4),
            r"expected U-Nets without guidance in their weights, got .*time_cond_proj_dim=4\)",
        ),
        (change("text_encoder", hidden_size=8), "expected a bad guide of the same width of texts"),
    ],
)
def test_a_bad_guide_that_says_something_else_is_refused(tiny, changed, message):
    bad = worse()
    changed(bad)
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        AutoguidedPipeline(tiny, bad, 2.0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scale", [0.5, -1.0, float("nan"), float("inf"), "2", None])
def test_a_scale_that_does_not_lead_away_is_refused(tiny, scale):
    with pytest.raises(ValueError, match="expected an autoguidance_scale of 1 or more, got"):
        AutoguidedPipeline(tiny, worse(), scale)
