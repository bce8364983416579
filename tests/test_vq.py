"""The vector-quantised autoencoder against diffusers' VQModel, with the same weights."""

import diffusers
import pytest
import scipy.spatial
import torch

from minildm.models import VectorQuantizer, VQModel
from minildm.testing import assert_parity, randomise_


def blocks(*widths, **options):
    down, up = ("DownEncoderBlock2D",) * len(widths), ("UpDecoderBlock2D",) * len(widths)
    return (
        dict(block_out_channels=widths, down_block_types=down, up_block_types=up, norm_num_groups=4)
        | options
    )


CONFIGS = {
    "one block": blocks(8),
    "three blocks, one channel": blocks(4, 8, 12, in_channels=1, out_channels=1, latent_channels=2),
    "words of another width": blocks(4, 8, vq_embed_dim=5, num_vq_embeddings=32),
    "no attention": blocks(8, 4, mid_block_add_attention=False),
}


def pair(name):
    return VQModel(**CONFIGS[name]), diffusers.VQModel(**CONFIGS[name])


def images(model):
    return torch.randn(
        2, model.config.in_channels, 16, 8, generator=torch.Generator().manual_seed(3)
    )


@pytest.mark.parametrize("part", ["sample", "commit_loss"])
@pytest.mark.parametrize("name", CONFIGS)
def test_vq_model_is_diffusers(name, part):
    ours, theirs = pair(name)
    which = 0 if part == "sample" else 1
    assert_parity(
        ours, theirs, (images(ours),), lambda m, x: m(x)[which], lambda m, x: getattr(m(x), part)
    )


def test_unquantised_latents_are_decoded_as_diffusers_does():
    ours, theirs = pair("words of another width")
    call = lambda m, x: m.decode(m.encode(x), force_not_quantize=True)  # noqa: E731
    theirs_call = lambda m, x: m.decode(m.encode(x).latents, force_not_quantize=True).sample  # noqa: E731
    assert_parity(ours, theirs, (images(ours),), call, theirs_call)


def test_each_place_gets_its_nearest_word():
    quantizer = randomise_(VectorQuantizer(7, 3), torch.Generator().manual_seed(0))
    z = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(1))
    latents, _, indices = quantizer(z)
    distances = (z[:, None] - quantizer.embedding.weight[None, :, :, None, None]).square().sum(2)
    assert torch.equal(indices, distances.argmin(1)) and indices.shape == (2, 4, 5)
    torch.testing.assert_close((latents - z).square().sum(1), distances.amin(1))


@pytest.mark.parametrize("n_e", [7, 40])
def test_the_nearest_of_words_close_together_is_scipys(n_e):
    """A product in float32 cannot tell such words apart once there are more than 25 of them."""
    generator = torch.Generator().manual_seed(0)
    quantizer = VectorQuantizer(n_e, 3)
    quantizer.embedding.weight.data = 5 + 1e-3 * torch.randn(n_e, 3, generator=generator)
    words = quantizer.embedding.weight.detach()
    z = 5 + 1e-3 * torch.randn(100, 3, generator=generator)
    z = torch.cat([z, words])  # each word is its own nearest
    table = scipy.spatial.distance.cdist(z.numpy(), words.numpy())
    indices = quantizer(z.T[None, :, :, None]).indices.flatten()
    assert indices.tolist() == table.argmin(1).tolist()
    assert indices[100:].tolist() == list(range(n_e))


def test_gradients_go_straight_through_and_the_codebook_learns_by_its_loss_alone():
    quantizer = randomise_(VectorQuantizer(7, 3))
    z = torch.randn(2, 3, 4, 4, requires_grad=True)
    weights = torch.randn(2, 3, 4, 4)
    (quantizer(z).latents * weights).sum().backward()
    torch.testing.assert_close(z.grad, weights)
    assert quantizer.embedding.weight.grad is None
    quantizer(z.detach()).loss.backward()
    assert quantizer.embedding.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_memory_layout_behind_the_codebook_is_diffusers(layout):
    """Else the decoder's convolutions round differently, and float32 gradients lie 1e-5 apart."""
    ours, theirs = (model.quantize for model in pair("three blocks, one channel"))
    ours.load_state_dict(theirs.state_dict())
    z = torch.randn(2, 2, 4, 6).contiguous(memory_format=layout)
    got, expected = ours(z).latents, theirs(z)[0]
    assert got.stride() == expected.stride() and torch.equal(got, expected)


def test_a_word_of_the_codebook_stays_as_it_is_and_costs_nothing():
    quantizer = randomise_(VectorQuantizer(7, 3))
    z = quantizer.embedding.weight.detach()[[4, 2]].T[None, :, :, None]
    latents, loss, indices = quantizer(z)
    assert indices.flatten().tolist() == [4, 2] and float(loss.detach()) < 1e-12
    torch.testing.assert_close(latents, z)


def test_wrong_shapes_and_blocks_are_refused():
    model = VQModel(**CONFIGS["three blocks, one channel"])
    with pytest.raises(ValueError, match=r"sides multiples of 4, got \(1, 1, 8, 6\)"):
        model.encode(torch.zeros(1, 1, 8, 6))
    with pytest.raises(ValueError, match=r"sides multiples of 4, got \(1, 1, 8, 0\)"):
        model.encode(torch.zeros(1, 1, 8, 0))
    with pytest.raises(ValueError, match=r"expected latents \(B, 2, h, w\), got \(1, 2, 0, 2\)"):
        model.decode(torch.zeros(1, 2, 0, 2))
    with pytest.raises(ValueError, match=r"expected latents \(B, 2, h, w\), got \(1, 3, 2, 2\)"):
        model.decode(torch.zeros(1, 3, 2, 2))
    with pytest.raises(ValueError, match="expected down_block_types"):
        VQModel(down_block_types=("Other",))
    with pytest.raises(ValueError, match="norm_type"):
        VQModel.from_config({"norm_type": "spatial"})


def test_folders_open_both_ways(tmp_path):
    ours, theirs = (randomise_(model).eval() for model in pair("words of another width"))
    x = images(ours)
    ours.save_pretrained(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    opened = diffusers.VQModel.from_pretrained(tmp_path / "ours")
    torch.testing.assert_close(opened(x).sample, ours(x)[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        VQModel.from_pretrained(tmp_path / "theirs")(x)[0], theirs(x).sample, rtol=1e-4, atol=1e-4
    )
