"""minildm.variations.concatenation: what lies beside x_t, what is read by cross-attention, against
closed forms."""

import pytest
import torch
import torch.nn.functional as F
from tiny import tiny_pipeline

from minildm.models import ImageClassifier, UNet2DModel
from minildm.schedulers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from minildm.testing import randomise_
from minildm.training import DenoisingLoss
from minildm.variations import (
    MAP_CLASSES,
    ConcatenatedUNet,
    ImageContext,
    encode_maps,
    image_features,
    psnr,
    sample_concatenated,
    sample_with_map,
    widen_conv_in,
)

V_PREDICTION = {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"}


def small_unet(in_channels=1, out_channels=1):
    unet = UNet2DModel(
        in_channels=in_channels,
        out_channels=out_channels,
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
        block_out_channels=(4, 8),
        layers_per_block=1,
        norm_num_groups=2,
        attention_head_dim=4,
    )
    return randomise_(unet, torch.Generator().manual_seed(0)).eval()


def test_a_constant_error_has_the_psnr_of_its_square_and_half_the_error_6_decibels_more():
    originals = torch.rand(2, 1, 4, 4)
    error = torch.tensor([0.2, 0.1])[:, None, None, None]
    torch.testing.assert_close(
        psnr(originals + error, originals), torch.tensor([20.0, 26.0206]), atol=1e-3, rtol=0
    )
    assert psnr(originals, originals).isinf().all()


# Widening


@pytest.mark.parametrize("kind", ["pixels", "text"])
def test_a_widened_network_answers_as_before_whatever_lies_in_the_new_channels(kind):
    old = small_unet() if kind == "pixels" else tiny_pipeline().unet
    x, t = torch.randn(2, old.config.in_channels, 8, 8), torch.tensor([3, 900])
    context = () if kind == "pixels" else (torch.randn(2, 5, 12),)
    new = widen_conv_in(old, 3)
    beside = [torch.cat([x, 100 * torch.randn(2, 3, 8, 8)], 1) for _ in range(2)]
    with torch.no_grad():
        first, second = (new(both, t, *context) for both in beside)
        torch.testing.assert_close(first, old(x, t, *context), atol=1e-5, rtol=1e-5)
    assert torch.equal(first, second)
    assert new.config.in_channels == old.config.in_channels + 3 and not new.training


def test_a_wide_convolution_is_the_sum_of_two_and_the_new_half_gets_a_gradient():
    old = small_unet()
    new = widen_conv_in(old, 2)
    x, beside = torch.randn(2, 1, 8, 8), torch.randn(2, 2, 8, 8)
    new(torch.cat([x, beside], 1), 5).square().sum().backward()
    assert new.conv_in.weight.grad[:, 1:].abs().min() > 0
    with torch.no_grad():
        new.conv_in.weight[:, 1:].normal_()
        apart = old.conv_in(x) + F.conv2d(beside, new.conv_in.weight[:, 1:], padding=1)
        torch.testing.assert_close(new.conv_in(torch.cat([x, beside], 1)), apart)


def test_the_old_network_is_not_touched():
    old = small_unet()
    before = old.conv_in.weight.clone()
    widen_conv_in(old, 1).conv_in.weight.data.fill_(1)
    assert torch.equal(old.conv_in.weight, before) and old.config.in_channels == 1
    with pytest.raises(ValueError, match="at least 1 extra channel, got 0"):
        widen_conv_in(old, 0)


# Maps


def test_the_area_of_a_cell_that_is_a_quarter_a_three_is_a_quarter():
    maps = torch.full((1, 4, 4), 10)
    maps[0, 0, :2], maps[0, 2:, 2:] = 3, 7
    maps[0, 1, 1] = 9
    area = encode_maps(maps, 2)[0]
    assert area.shape == (MAP_CLASSES, 2, 2)
    expected = torch.zeros(MAP_CLASSES, 2, 2)
    expected[3, 0, 0], expected[9, 0, 0], expected[10, 0, 0] = 0.5, 0.25, 0.25
    expected[10, 0, 1] = expected[10, 1, 0] = expected[7, 1, 1] = 1
    assert torch.equal(area, expected)


def test_depth_loses_nothing_and_area_is_its_mean():
    maps = torch.randint(MAP_CLASSES, (3, 8, 8), generator=torch.Generator().manual_seed(0))
    depth = encode_maps(maps, 4, "depth")
    assert depth.shape == (3, MAP_CLASSES * 4, 4, 4)
    assert F.pixel_shuffle(depth, 2).argmax(1).equal(maps)
    torch.testing.assert_close(depth.unflatten(1, (MAP_CLASSES, 4)).mean(2), encode_maps(maps, 4))


@pytest.mark.parametrize(
    "maps, size, how, message",
    [
        (torch.zeros(1, 4, 4), 2, "area", r"expected integer maps \(N, H, H\).*float32"),
        (torch.zeros(4, 4, dtype=torch.int64), 2, "area", "expected integer maps"),
        (torch.zeros(1, 4, 4, dtype=torch.int64), 3, "area", "H a multiple of 3"),
        (torch.full((1, 4, 4), 11), 2, "area", "classes from 0 to 10, got 11 to 11"),
        (torch.full((1, 4, 4), -1), 2, "area", "classes from 0 to 10, got -1 to -1"),
        (
            torch.zeros(1, 4, 4, dtype=torch.int64),
            2,
            "mean",
            'expected how to be "area" or "depth", got \'mean\'',
        ),
    ],
)
def test_a_map_that_is_none_is_an_error_that_says_what_came(maps, size, how, message):
    with pytest.raises(ValueError, match=message):
        encode_maps(maps, size, how)


# Training and drawing


def test_the_loss_is_the_squared_error_of_the_velocity_with_the_condition_beside_x_t():
    scheduler, unet = DDPMScheduler(**V_PREDICTION), small_unet(3)
    x0, noise, condition = torch.randn(4, 1, 8, 8), torch.randn(4, 1, 8, 8), torch.randn(4, 2, 8, 8)
    t = torch.tensor([0, 300, 600, 999])
    keep = scheduler.alphas_cumprod[t].view(-1, 1, 1, 1)
    xt, v = keep**0.5 * x0 + (1 - keep) ** 0.5 * noise, keep**0.5 * noise - (1 - keep) ** 0.5 * x0
    expected = (unet(torch.cat([xt, condition], 1), t) - v).square().mean()
    loss = DenoisingLoss(ConcatenatedUNet(unet), scheduler)
    torch.testing.assert_close(loss(x0, noise, t, condition), expected)


class Knowing(torch.nn.Module):
    """A network that takes the condition for the picture, and says the velocity that leads
    there."""

    def __init__(self, alphas_cumprod):
        super().__init__()
        self.alphas_cumprod = alphas_cumprod

    def forward(self, both, t, *context):
        x, x0 = both.chunk(2, dim=1)
        keep = self.alphas_cumprod[int(t)]
        return (keep**0.5 * x - x0) / (1 - keep) ** 0.5


@pytest.mark.parametrize("sampler", [DDIMScheduler, DPMSolverMultistepScheduler])
def test_a_network_that_takes_the_condition_for_the_picture_draws_the_condition(sampler):
    options = {"clip_sample": False} if sampler is DDIMScheduler else {}
    scheduler = sampler(**V_PREDICTION, timestep_spacing="trailing", **options)
    condition = torch.rand(2, 1, 8, 8) * 2 - 1
    drawn = sample_concatenated(
        Knowing(scheduler.alphas_cumprod), scheduler, torch.randn(2, 1, 8, 8), condition, 10
    )
    torch.testing.assert_close(drawn, condition, atol=2e-3, rtol=0)


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_before_it_has_learnt_a_widened_network_draws_what_the_pipeline_draws(scale):
    made = tiny_pipeline()
    noise = made.starting_noise(2, generator=torch.Generator().manual_seed(0))
    prompts = ["a handwritten seven", "the digit 3"]
    nothing, context = (
        made.text_encoder(made.tokenizer("")),
        made.text_encoder(made.tokenizer(prompts)),
    )
    condition = torch.randn(2, 5, *noise.shape[2:])
    with torch.no_grad():
        wide = widen_conv_in(made.unet, 5)
        drawn = sample_with_map(
            made, wide, noise, condition, context, nothing, 2.0, scale, num_inference_steps=3
        )
    expected = made(
        prompts, latents=noise, guidance_scale=scale, num_inference_steps=3, progress=False
    )
    torch.testing.assert_close(drawn, expected, atol=1e-4, rtol=0)


def test_each_guidance_scales_the_difference_that_its_condition_makes():
    made = tiny_pipeline()
    wide = widen_conv_in(made.unet, 5)
    randomise_(wide, torch.Generator().manual_seed(1))
    noise = made.starting_noise(2, generator=torch.Generator().manual_seed(0))
    nothing, context = (
        made.text_encoder(made.tokenizer("")),
        made.text_encoder(made.tokenizer(["three", "seven"])),
    )
    condition, empty = torch.randn(2, 5, *noise.shape[2:]), torch.zeros(2, 5, *noise.shape[2:])
    seen = []
    original, made.scheduler.step = (
        made.scheduler.step,
        lambda v, t, x, generator: seen.append((v, t, x)) or original(v, t, x),
    )
    with torch.no_grad():
        sample_with_map(
            made, wide, noise, condition, context, nothing, 1.5, 4.0, num_inference_steps=1
        )
        ((v, t, x),) = seen
        x, no_text = made.scheduler.scale_model_input(x, t), nothing.expand(2, -1, -1)
        neither = wide(torch.cat([x, empty], 1), t, no_text)
        mapped, both = (wide(torch.cat([x, condition], 1), t, text) for text in (no_text, context))
    torch.testing.assert_close(
        v, neither + 1.5 * (mapped - neither) + 4.0 * (both - mapped), atol=1e-5, rtol=1e-5
    )


# Tokens of a picture


def test_the_tokens_of_a_picture_are_the_classifiers_features_with_or_without_their_places():
    encoder = ImageClassifier(16, 1, block_out_channels=(2, 3), feature_dim=5).eval()
    images = torch.randn(4, 1, 16, 16)
    with torch.no_grad():
        assert torch.equal(image_features(encoder, images)[:, 0], encoder.features(images))
        tokens, grid = (
            image_features(encoder, images, block=1),
            encoder.pool(encoder.feature_maps(images)[1]),
        )
    assert tokens.shape == (4, 16, 3)
    assert torch.equal(tokens[:, 4 * 2 + 1], grid[:, :, 2, 1])
    with pytest.raises(
        ValueError, match=r"evaluation mode \(encoder.eval\(\)\), got training mode"
    ):
        image_features(encoder.train(), images)


def test_a_context_does_not_depend_on_the_scale_of_the_features_but_on_their_places():
    features = torch.randn(50, 4, 6)
    torch.manual_seed(0)
    one = ImageContext(features, 8)
    torch.manual_seed(0)
    other = ImageContext(20 * features - 7, 8)
    torch.testing.assert_close(one(features), other(20 * features - 7))
    assert not torch.allclose(one(features)[:, 0], one(features.flip(1))[:, -1], atol=1e-3)


def test_an_image_that_is_left_out_has_a_context_of_zeros():
    features = torch.randn(3, 4, 6)
    context = ImageContext(features, 8)
    kept = context(features, torch.tensor([True, False, True]))
    assert torch.equal(kept[[0, 2]], context(features)[[0, 2]]) and not kept[1].any()


def test_a_condition_of_other_rows_or_another_size_is_refused():
    network, x = ConcatenatedUNet(small_unet(2)), torch.zeros(2, 1, 8, 8)
    for shape in ((1, 1, 8, 8), (4, 1, 8, 8), (2, 1, 4, 8), (2, 8, 8)):
        with pytest.raises(ValueError, match=r"expected a condition \(2, K, 8, 8\), got"):
            network(x, torch.tensor(3), torch.zeros(shape))


def test_features_of_another_shape_are_not_spread_over_the_places():
    context = ImageContext(torch.randn(6, 4, 3), 5)
    for shape, keep in (((2, 1, 3), None), ((2, 4, 1), None), ((2, 4, 3), 1), ((2, 4, 3), 3)):
        kept = None if keep is None else torch.ones(keep, dtype=torch.bool)
        with pytest.raises(ValueError, match=r"expected features \(B, 4, 3\) and keep \(B,\)"):
            context(torch.zeros(shape), kept)
