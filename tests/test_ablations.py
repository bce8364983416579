"""minildm.evaluation.ablations: small digits, the loss in pixels, and what taking parts away
changes and does not."""

import pytest
import torch
import torch.nn.functional as F

from minildm import DDIMScheduler, DDPMScheduler, UNet2DModel
from minildm.evaluation import (
    cut_skips,
    error_by_timestep,
    forget_time,
    pool_instead,
    sample_trajectory,
)
from minildm.testing import randomise_
from minildm.training import DenoisingLoss

COSINE = {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"}


def small_unet() -> UNet2DModel:
    unet = UNet2DModel(
        sample_size=16,
        in_channels=1,
        out_channels=1,
        block_out_channels=(4, 8, 8),
        layers_per_block=1,
        norm_num_groups=2,
        attention_head_dim=4,
        down_block_types=("DownBlock2D",) * 3,
        up_block_types=("UpBlock2D",) * 3,
    )
    return randomise_(unet, torch.Generator().manual_seed(0)).eval().requires_grad_(False)


def picture() -> torch.Tensor:
    return torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(1))


class Informer(torch.nn.Module):
    """Knows x0 and answers with the true velocity."""

    def __init__(self, x0, scheduler):
        super().__init__()
        self.x0, self.scheduler = x0, scheduler

    def forward(self, xt, t):
        alpha, sigma = self.scheduler.alpha_sigma(t, xt)
        return alpha * (xt - alpha * self.x0) / sigma - sigma * self.x0


def test_the_loss_of_the_true_velocity_is_zero():
    x0, scheduler = picture(), DDPMScheduler(**COSINE)
    loss_of = DenoisingLoss(Informer(x0, scheduler), scheduler)
    loss = loss_of(x0, torch.randn_like(x0), torch.tensor([100, 700]))
    torch.testing.assert_close(loss, torch.zeros(()), atol=1e-8, rtol=0)


def test_drawing_with_the_true_velocity_arrives_at_the_picture():
    x0, scheduler = picture().clamp(-1, 1), DDIMScheduler(**COSINE, timestep_spacing="trailing")
    xts, x0s = sample_trajectory(Informer(x0, scheduler), scheduler, picture(), 5)
    assert xts.shape == x0s.shape == (6, *x0.shape)
    torch.testing.assert_close(xts[0], picture())
    torch.testing.assert_close(xts[-1], x0, atol=1e-4, rtol=0)
    torch.testing.assert_close(x0s[-1], xts[-1])


def test_a_network_that_says_zero_has_the_error_of_the_mean_square_velocity():
    scheduler, x0 = DDPMScheduler(**COSINE), torch.full((400, 1, 8, 8), 0.5)
    errors = error_by_timestep(lambda_network(), scheduler, x0, [50, 500, 950])
    alpha_prod_t = scheduler.alphas_cumprod[[50, 500, 950]]
    torch.testing.assert_close(
        errors, alpha_prod_t + (1 - alpha_prod_t) * 0.25, rtol=0.05, atol=0
    )  # E[v²] = ᾱ + (1-ᾱ)·x0²


@pytest.mark.parametrize("prediction_type", ["epsilon", "sample"])
def test_the_error_by_timestep_is_of_what_the_scheduler_says_is_predicted(prediction_type):
    scheduler = DDPMScheduler(**COSINE | {"prediction_type": prediction_type})
    x0 = torch.full((400, 1, 8, 8), 0.5)
    expected = {"epsilon": 1.0, "sample": 0.25}[prediction_type]
    errors = error_by_timestep(lambda_network(), scheduler, x0, [50, 950])
    torch.testing.assert_close(errors, torch.full((2,), expected), rtol=0.05, atol=0)


def lambda_network() -> torch.nn.Module:
    class Zero(torch.nn.Module):
        def forward(self, x, t):
            return torch.zeros_like(x)

    return Zero()


@pytest.mark.parametrize("change", [lambda u: cut_skips(u, (16, 8, 4)), forget_time, pool_instead])
def test_taking_a_part_away_changes_the_output_and_no_parameter(change):
    whole, changed = small_unet(), change(small_unet())
    for (name, a), (other, b) in zip(
        whole.state_dict().items(), changed.state_dict().items(), strict=True
    ):
        assert name == other
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    difference = (whole(picture(), 300) - changed(picture(), 300)).abs().max()
    assert difference > 1e-3


@pytest.mark.parametrize("sizes", [(16,), (8,), (4,), (16, 8, 4)])
def test_cut_skips_blinds_just_the_weights_that_read_skips_of_these_sizes(sizes):
    """Read off at the input of every residual block of the way up."""
    received = []
    unet = cut_skips(small_unet(), sizes)
    for block in unet.up_blocks:
        for layer in block.resnets:
            layer.register_forward_pre_hook(lambda layer, inputs: received.append(inputs[0]))
    unet(picture(), 300)
    widths = [8, 8, 8, 8, 8, 4]  # of what arrives from below; what follows is the skip
    skips = [x[:, width:] for x, width in zip(received, widths, strict=True)]
    assert [bool((skip == 0).all()) for skip in skips] == [
        skip.shape[-1] in sizes for skip in skips
    ]
    assert [skip.shape[-1] for skip in skips] == [4, 4, 8, 8, 16, 16]


def test_without_time_all_timesteps_are_alike_and_with_it_they_are_not():
    whole, timeless = small_unet(), forget_time(small_unet())
    torch.testing.assert_close(timeless(picture(), 10), timeless(picture(), 900))
    assert (whole(picture(), 10) - whole(picture(), 900)).abs().max() > 1e-3


def test_pool_instead_takes_the_maximum_and_then_convolves_at_stride_1():
    unet = pool_instead(small_unet())
    layer = unet.down_blocks[0].downsamplers[0]
    x = torch.randn(1, 4, 16, 16)
    expected = F.conv2d(F.max_pool2d(x, 2), layer.conv.weight, layer.conv.bias, padding=1)
    torch.testing.assert_close(layer(x), expected)
    unpadded = UNet2DModel(
        block_out_channels=(4, 8),
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
        norm_num_groups=2,
        attention_head_dim=4,
        downsample_padding=0,
    )
    with pytest.raises(ValueError, match="padding 1"):
        pool_instead(unpadded)
