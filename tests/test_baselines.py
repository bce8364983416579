"""minildm.evaluation.baselines: pixels are latents of an autoencoder that does nothing; what is
drawn is labelled."""

import pytest
import torch

from minildm import DDIMScheduler, DDPMScheduler, UNet2DModel
from minildm.diffusion import GaussianDenoiser
from minildm.evaluation import (
    BlockPCA,
    Pixels,
    sample_by_label,
    sample_gaussians,
)
from minildm.training import DenoisingLoss, encode_dataset

SCHEDULE = {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"}


def test_pixels_are_their_own_latents():
    images = torch.randn(3, 1, 4, 4)
    mean, std = encode_dataset(Pixels(), images, progress=False)
    torch.testing.assert_close(mean, images)
    assert 0 <= std.max() < 1e-6
    assert Pixels().decode(mean) is mean


def correlated_images():
    """Neighbours go together, and no direction is like another."""
    torch.manual_seed(0)
    return torch.randn(400, 1, 8, 8).cumsum(-1) + 0.5


def test_block_components_lose_what_the_dropped_eigenvalues_say_and_nothing_else():
    images = correlated_images()
    blocks = images.unfold(2, 4, 4).unfold(3, 4, 4).reshape(-1, 16)
    eigenvalues = torch.linalg.eigvalsh(blocks.double().T.cov())  # ascending
    for channels in (3, 16):
        space = BlockPCA(images, factor=4, channels=channels)
        mean, std = encode_dataset(space, images, progress=False)
        assert mean.shape == (400, channels, 2, 2) and std.max() < 1e-6
        torch.testing.assert_close(mean.var((0, 2, 3)), torch.ones(channels), rtol=2e-3, atol=0)
        lost = (space.decode(mean) - images).double().square().mean() * 16
        expected = eigenvalues[: 16 - channels].sum() * (len(blocks) - 1) / len(blocks)
        torch.testing.assert_close(lost, expected, rtol=1e-4, atol=1e-6)


def test_without_whitening_one_factor_makes_the_variance_1_and_nothing_more_is_lost():
    images = correlated_images()
    spaces = [BlockPCA(images, factor=4, channels=5, whiten=whiten) for whiten in (True, False)]
    (white, _), (plain, _) = (encode_dataset(space, images, progress=False) for space in spaces)
    torch.testing.assert_close(plain.var((0, 2, 3)).mean(), torch.tensor(1.0), rtol=2e-3, atol=0)
    ratio = plain / white  # of each channel one number, its deviation
    torch.testing.assert_close(ratio, ratio[:1, :, :1, :1].expand_as(ratio), rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(
        spaces[0].decode(white), spaces[1].decode(plain), rtol=1e-4, atol=1e-4
    )


def test_a_place_of_the_block_latent_is_a_block_of_the_picture():
    images = correlated_images()
    space = BlockPCA(images, factor=4, channels=2)
    z = torch.zeros(1, 2, 2, 2)
    changed = z.clone()
    changed[0, 1, 0, 1] = 1
    difference = (space.decode(changed) - space.decode(z))[0, 0]
    assert difference[:4, 4:].abs().max() > 0.01
    difference[:4, 4:] = 0
    assert difference.abs().max() == 0


def test_blocks_that_do_not_fit_are_refused():
    for factor, channels in ((3, 2), (2, 5), (2, 0)):
        with pytest.raises(ValueError, match="expected sides that are multiples"):
            BlockPCA(correlated_images(), factor, channels)


class Ideal(torch.nn.Module):
    """Knows that class c is N(c, 0.25): the best denoiser there is, in the place of a network."""

    def __init__(self, scheduler):
        super().__init__()
        self.scheduler = scheduler

    def forward(self, sample, timestep, labels):
        said = []
        for x, label in zip(sample, labels, strict=True):
            model = GaussianDenoiser(label.float(), variance=0.25).as_model(self.scheduler)
            said.append(model(x[None], timestep)[0])
        return torch.stack(said)


def test_what_is_drawn_has_mean_and_variance_of_the_class_asked_for():
    scheduler = DDIMScheduler(**SCHEDULE, clip_sample=False, timestep_spacing="trailing")
    noise, labels = torch.randn(4, 1, 40, 40), torch.tensor([0, 3, 0, 3])
    drawn = sample_by_label(
        Ideal(scheduler), scheduler, noise, labels, num_inference_steps=100, batch_size=3
    )
    assert ((drawn.mean((1, 2, 3)) - labels).abs() < 0.1).all()
    assert ((drawn.var((1, 2, 3)) - 0.25).abs() < 0.03).all()
    with pytest.raises(ValueError, match="expected a label for each of 4 latents, got 2"):
        sample_by_label(Ideal(scheduler), scheduler, noise, labels[:2], 2)


def test_the_loss_is_the_squared_error_of_the_velocity():
    class Zero(UNet2DModel):
        def forward(self, sample, timestep, labels):
            return torch.zeros_like(sample)

    scheduler = DDPMScheduler(**SCHEDULE)
    z, noise = torch.randn(2, 4, 1, 8, 8)
    t = torch.tensor([0, 300, 600, 999])
    unet = Zero(
        block_out_channels=(32,),
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        in_channels=1,
        out_channels=1,
    )
    loss = DenoisingLoss(unet, scheduler)
    alpha_prod_t = scheduler.alphas_cumprod[t].reshape(-1, 1, 1, 1)
    v = alpha_prod_t.sqrt() * noise - (1 - alpha_prod_t).sqrt() * z
    torch.testing.assert_close(loss(z, noise, t, torch.zeros(4)), v.square().mean())


def test_the_bells_have_each_label_s_mean_and_covariance():
    generator = torch.Generator().manual_seed(0)
    latents = (
        torch.randn(300, 6, generator=generator) @ torch.randn(6, 6, generator=generator)
    ).view(300, 3, 1, 2)
    labels = torch.arange(300) % 10
    drawn = sample_gaussians(latents, labels, torch.full((20_000,), 4), generator)
    own, drawn = latents[labels == 4].flatten(1), drawn.flatten(1)
    scale = float(own.T.cov().abs().max())
    torch.testing.assert_close(drawn.mean(0), own.mean(0), rtol=0, atol=0.05 * scale**0.5)
    torch.testing.assert_close(drawn.T.cov(), own.T.cov(), rtol=0, atol=0.05 * scale)


def test_each_bell_is_of_the_label_asked_for_and_needs_two_latents():
    latents, labels = (
        torch.tensor([[0.0], [0.1], [9.0], [9.1], [5.0]]),
        torch.tensor([0, 0, 1, 1, 2]),
    )
    asked = torch.tensor([1, 0, 1, 0])
    drawn = sample_gaussians(latents, labels, asked, torch.Generator().manual_seed(0))
    assert ((drawn[:, 0] > 5) == (asked == 1)).all()
    with pytest.raises(ValueError, match="two latents of label 2, got 1"):
        sample_gaussians(latents, labels, torch.tensor([2]), torch.Generator())
