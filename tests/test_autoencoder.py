"""The autoencoder against diffusers', with the same weights."""

import json

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file

from minildm.models import AutoencoderKL, DiagonalGaussianDistribution
from minildm.testing import assert_parity, randomise_


def blocks(*widths, **options):
    down, up = ("DownEncoderBlock2D",) * len(widths), ("UpDecoderBlock2D",) * len(widths)
    return (
        dict(block_out_channels=widths, down_block_types=down, up_block_types=up, norm_num_groups=4)
        | options
    )


CONFIGS = {
    "one block": blocks(8),
    "two blocks, one channel": blocks(4, 8, in_channels=1, out_channels=1, latent_channels=2),
    "three blocks, two layers": blocks(4, 8, 12, layers_per_block=2),
    "no attention": blocks(8, 4, mid_block_add_attention=False),
    "no quant convolutions": blocks(
        4, 4, use_quant_conv=False, use_post_quant_conv=False, latent_channels=16
    ),
    "Stable Diffusion's four blocks": blocks(8, 8, 16, 16, layers_per_block=2, sample_size=16),
    "other channels out than in": blocks(8, 16, norm_num_groups=8, in_channels=3, out_channels=2),
}


def pair(name):
    return AutoencoderKL(**CONFIGS[name]), diffusers.AutoencoderKL(**CONFIGS[name])


def images(model, height=16, width=16):
    return torch.randn(
        2, model.config.in_channels, height, width, generator=torch.Generator().manual_seed(3)
    )


@pytest.mark.parametrize("size", [(16, 16), (8, 24)])
@pytest.mark.parametrize("name", CONFIGS)
def test_autoencoder_is_diffusers(name, size):
    ours, theirs = pair(name)
    assert_parity(ours, theirs, (images(ours, *size),))


@pytest.mark.parametrize("name", ["three blocks, two layers", "no quant convolutions"])
def test_posterior_is_diffusers(name):
    ours, theirs = pair(name)
    theirs = randomise_(theirs, torch.Generator().manual_seed(0)).double()
    ours = ours.double()
    ours.load_state_dict(theirs.state_dict())
    x = images(ours).double()
    got, expected = ours.encode(x), theirs.encode(x).latent_dist
    for part in ("mean", "logvar", "std", "var"):
        torch.testing.assert_close(
            getattr(got, part), getattr(expected, part), rtol=1e-9, atol=1e-12
        )
    torch.testing.assert_close(got.kl(), expected.kl(), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(got.mode(), expected.mode(), rtol=1e-9, atol=1e-12)
    draw = got.sample(torch.Generator().manual_seed(5))
    torch.testing.assert_close(
        draw, expected.sample(torch.Generator().manual_seed(5)), rtol=1e-9, atol=1e-12
    )
    torch.testing.assert_close(ours.decode(draw), theirs.decode(draw).sample, rtol=1e-9, atol=1e-10)
    both = [
        model(x, sample_posterior=True, generator=torch.Generator().manual_seed(6))
        for model in (ours, theirs)
    ]
    torch.testing.assert_close(both[0], both[1].sample, rtol=1e-9, atol=1e-10)


def test_samples_have_the_posteriors_mean_and_deviation():
    parameters = torch.tensor([0.5, -2.0, 0.0, 2.0]).reshape(1, 4, 1, 1).expand(1, 4, 400, 400)
    z = DiagonalGaussianDistribution(parameters).sample(torch.Generator().manual_seed(0))
    torch.testing.assert_close(z.mean((2, 3))[0], torch.tensor([0.5, -2.0]), rtol=0, atol=0.03)
    torch.testing.assert_close(z.std((2, 3))[0], torch.tensor([1.0, torch.e]), rtol=0.01, atol=0)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_a_sample_in_half_precision_is_that_of_float32_rounded_once(half):
    parameters = torch.randn(2, 8, 5, 5, generator=torch.Generator().manual_seed(0)) * 4
    parameters[0, 4:] = 25.0  # e^20 is beyond float16
    ours = DiagonalGaussianDistribution(parameters.to(half))
    exact = DiagonalGaussianDistribution(parameters.to(half).float())
    drawn, expected = (each.sample(torch.Generator().manual_seed(3)) for each in (ours, exact))
    assert drawn.dtype == half and torch.equal(drawn, expected.to(half))
    assert torch.equal(ours.std, exact.std.to(half)) and torch.equal(ours.var, exact.var)
    assert torch.equal(ours.kl(), exact.kl()) and ours.kl().isfinite().all()
    assert torch.equal(ours.mode(), parameters[:, :4].to(half))


@pytest.mark.parametrize("factor", [0, 0.0, -0.2, float("nan"), float("inf")])
def test_a_scaling_factor_is_a_finite_number_above_zero(factor):
    with pytest.raises(ValueError, match="expected a finite scaling_factor above 0, got"):
        AutoencoderKL(scaling_factor=factor)


def test_kl_of_the_prior_is_zero_and_of_others_that_of_torch():
    torch.testing.assert_close(
        DiagonalGaussianDistribution(torch.zeros(3, 4, 2, 2)).kl(), torch.zeros(3)
    )
    posterior = DiagonalGaussianDistribution(
        torch.randn(2, 6, 2, 2, generator=torch.Generator().manual_seed(0))
    )
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(
        normal(posterior.mean, posterior.std), normal(0.0, 1.0)
    )
    torch.testing.assert_close(posterior.kl(), expected.sum((1, 2, 3)))


def test_log_variance_is_kept_within_bounds():
    posterior = DiagonalGaussianDistribution(
        torch.tensor([0.0, 0.0, -1e4, 1e4]).reshape(1, 4, 1, 1)
    )
    assert posterior.logvar.flatten().tolist() == [-30.0, 20.0] and posterior.kl().isfinite().all()


def test_sides_that_do_not_divide_are_refused():
    vae = AutoencoderKL(**CONFIGS["three blocks, two layers"])
    assert vae.downscale_factor == 4
    with pytest.raises(ValueError, match="sides are multiples of 4, got 16x18"):
        vae.encode(torch.zeros(1, 3, 16, 18))


def test_wrong_shapes_are_refused():
    vae = AutoencoderKL(**CONFIGS["one block"])
    with pytest.raises(ValueError, match=r"expected images \(B, 3, H, W\), got \(1, 1, 8, 8\)"):
        vae.encode(torch.zeros(1, 1, 8, 8))
    with pytest.raises(ValueError, match=r"expected latents \(B, 4, h, w\), got \(4, 8, 8\)"):
        vae.decode(torch.zeros(4, 8, 8))
    for sides in ((0, 8), (8, 0)):
        with pytest.raises(ValueError, match=r"expected images \(B, 3, H, W\), got \(1, 3, "):
            vae.encode(torch.zeros(1, 3, *sides))
        with pytest.raises(ValueError, match=r"expected latents \(B, 4, h, w\), got \(1, 4, "):
            vae.decode(torch.zeros(1, 4, *sides))


def test_unknown_blocks_are_refused():
    with pytest.raises(
        ValueError, match="expected down_block_types = .'DownEncoderBlock2D',., got .'Other',."
    ):
        AutoencoderKL(down_block_types=("Other",))
    with pytest.raises(ValueError, match="expected up_block_types"):
        AutoencoderKL(block_out_channels=(32, 32), down_block_types=("DownEncoderBlock2D",) * 2)


@pytest.mark.parametrize("name", CONFIGS)
def test_folders_open_both_ways(name, tmp_path):
    ours, theirs = (randomise_(model).eval() for model in pair(name))
    x = images(ours)
    ours.save_pretrained(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    opened = diffusers.AutoencoderKL.from_pretrained(tmp_path / "ours")
    torch.testing.assert_close(opened(x).sample, ours(x), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        AutoencoderKL.from_pretrained(tmp_path / "theirs")(x),
        theirs(x).sample,
        rtol=1e-4,
        atol=1e-4,
    )
    for key, value in ours.config.items():
        assert opened.config[key] == (list(value) if isinstance(value, tuple) else value)


def test_an_old_autoencoder_opens(tmp_path):
    vae = randomise_(AutoencoderKL(**CONFIGS["one block"]))
    vae.save_pretrained(tmp_path)
    file = tmp_path / vae.weights_name
    old_names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state_dict = {}
    for key, value in load_file(file).items():
        for new, old in old_names.items():
            key = key.replace(f"attentions.0.{new}.", f"attentions.0.{old}.")
        state_dict[key] = value
    assert "encoder.mid_block.attentions.0.proj_attn.weight" in state_dict
    save_file(state_dict, file)
    config = json.loads((tmp_path / "config.json").read_text())
    for key in (
        "scaling_factor",
        "shift_factor",
        "use_quant_conv",
        "force_upcast",
        "mid_block_add_attention",
    ):
        del config[key]  # younger than those files
    (tmp_path / "config.json").write_text(json.dumps(config | {"act_fn": "silu"}))
    torch.testing.assert_close(
        AutoencoderKL.from_pretrained(tmp_path).state_dict(), vae.state_dict(), rtol=0, atol=0
    )


def test_latent_statistics_per_channel_are_refused():
    with pytest.raises(ValueError, match="supports only latents_mean = None, got"):
        AutoencoderKL.from_config({"latents_mean": [0.0]})
    with pytest.raises(ValueError, match="supports only act_fn = 'silu' or 'swish', got 'gelu'"):
        AutoencoderKL.from_config({"act_fn": "gelu"})
