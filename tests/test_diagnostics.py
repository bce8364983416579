"""The checks: against closed forms, and that they hold for what is healthy whatever its sampler."""

import pytest
import torch

from minildm import StableDiffusionPipeline, mnist
from minildm.data import CLASS_NAMES
from minildm.evaluation import (
    check_images,
    check_latents,
    check_modes,
    check_sampler,
    denoise_once,
    encode,
    examine,
    watch,
)
from minildm.models import ImageClassifier
from minildm.schedulers import SAMPLERS, DDIMScheduler

IMAGES, LABELS, _ = mnist("test", size=32)
PROMPTS = [f"a handwritten {CLASS_NAMES['mnist'][label]}" for label in LABELS[:24]]


@pytest.fixture(scope="module")
def shipped():
    return StableDiffusionPipeline.from_pretrained("mnist")


class ExpectsGaussians:
    """What of a pipeline `denoise_once` needs, its network being the expectation of x0 for x0 ~
    N(0, 1)."""

    scheduler = DDIMScheduler(
        beta_schedule="squaredcos_cap_v2", prediction_type="sample", clip_sample=False
    )

    def encode_prompt(self, prompts, guidance):
        return None

    def predict(self, x, t, context, scale):
        return self.scheduler.alphas_cumprod[t].sqrt() * x


def test_the_expectation_of_x0_has_a_slope_of_one_and_the_error_of_the_best_multiple():
    latents = torch.randn(500, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    found = denoise_once(ExpectsGaussians(), latents, ["any"], steps=5)
    expected = 1 - ExpectsGaussians.scheduler.alphas_cumprod[found.timesteps]
    torch.testing.assert_close(found.blind, expected, atol=0.02, rtol=0)
    torch.testing.assert_close(found.errors, expected, atol=0.02, rtol=0)
    torch.testing.assert_close(found.slopes, torch.ones(5), atol=0.05, rtol=0)


def test_half_of_the_expectation_has_a_slope_of_two(monkeypatch):
    monkeypatch.setattr(
        ExpectsGaussians,
        "predict",
        lambda self, x, t, *_: self.scheduler.alphas_cumprod[t].sqrt() * x / 2,
    )
    latents = torch.randn(500, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    slopes = denoise_once(ExpectsGaussians(), latents, ["any"], steps=5).slopes
    torch.testing.assert_close(slopes, torch.full((5,), 2.0), atol=0.1, rtol=0)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(
    "name", [name for name in SAMPLERS if name not in ("flow_euler", "ddpm", "euler_a", "lcm")]
)
def test_every_deterministic_sampler_that_is_told_the_truth_ends_at_x0(name, prediction_type):
    scheduler = SAMPLERS[name].from_config(
        {"prediction_type": prediction_type, "clip_sample": False, "skip_prk_steps": True}
    )
    latents = torch.randn(20, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    assert check_sampler(scheduler, latents, steps=10).ok


def test_a_sampler_that_clips_does_not_end_at_x0_if_x0_is_wider():
    latents = torch.randn(20, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    assert not check_sampler(DDIMScheduler(clip_sample=True), latents).ok


@pytest.mark.parametrize("name", ["ddim", "euler", "heun", "pndm", "ddpm", "dpmpp_2m"])
def test_the_shipped_model_passes_every_check_under_every_sampler(shipped, name):
    found = examine(
        StableDiffusionPipeline(**vars_of(shipped)).use_sampler(name), IMAGES[:24], PROMPTS
    )
    assert [str(finding) for finding in found.values() if not finding.ok] == []


def vars_of(pipeline):
    return {
        name: getattr(pipeline, name)
        for name in ("vae", "text_encoder", "tokenizer", "unet", "scheduler", "card")
    }


def test_the_checks_come_in_the_order_of_the_way(shipped):
    found = examine(shipped, IMAGES[:4], PROMPTS[:4])
    assert list(found) == [
        *("modes", "images", "round trip", "latents", "schedule", "calibration"),
        *("prompts", "guidance", "sampler", "shown", "order", "result"),
    ]
    with pytest.raises(ValueError, match="a prompt for each, got 4 and 3"):
        examine(shipped, IMAGES[:4], PROMPTS[:3])


def test_watching_leaves_nothing_behind_and_hears_every_step(shipped):
    before = len(shipped.unet._forward_pre_hooks)
    walk = watch(shipped, PROMPTS[:4])
    assert len(shipped.unet._forward_pre_hooks) == before
    shipped.scheduler.set_timesteps(shipped.card["num_inference_steps"])
    torch.testing.assert_close(walk.timesteps, shipped.scheduler.timesteps.float())
    assert walk.latents.shape == (4, 8, 4, 4)


def test_latents_are_those_of_image_to_image(shipped):
    z = encode(shipped, IMAGES[:8], seed=3)
    with torch.no_grad():
        expected = shipped.vae.encode(IMAGES[:8]).sample(torch.Generator().manual_seed(3))
    torch.testing.assert_close(z, expected * shipped.vae.config.scaling_factor)
    assert check_latents(z).ok and not check_latents(5.5 * z).ok


def test_pictures_in_other_ranges_are_told_how_to_become_right():
    for images, ok in (
        (IMAGES[:8], True),
        (IMAGES[:8] / 2 + 0.5, False),
        ((IMAGES[:8] + 1) * 127.5, False),
    ):
        assert check_images(images).ok is ok
    assert "2·x - 1" in str(check_images(IMAGES[:8] / 2 + 0.5))


def test_a_finding_says_what_to_do_only_if_something_is_wrong():
    classifier = ImageClassifier(block_out_channels=(2, 2, 2), feature_dim=4)
    found = check_modes(classifier.train())
    assert (
        found.value == len(list(classifier.modules()))
        and "FAIL" in str(found)
        and ".eval()" in str(found)
    )
    found = check_modes(classifier.eval())
    assert found.ok and str(found).startswith("ok") and ".eval()" not in str(found)


def test_a_schedule_that_never_makes_noise_has_no_calibration_to_speak_of(monkeypatch):
    from minildm.evaluation import check_network

    stub = ExpectsGaussians()
    monkeypatch.setattr(
        stub, "scheduler", DDIMScheduler(beta_end=1e-4, prediction_type="sample", clip_sample=False)
    )
    latents = torch.randn(50, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    schedule = check_network(stub, latents, ["a", "b"])[0]
    assert schedule.check == "schedule" and not schedule.ok
