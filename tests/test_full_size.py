"""Stable Diffusion 1.x at its full size: on the meta device everywhere; with weights in `make
test-large`."""

import json
import resource
import sys

import diffusers
import pytest
import torch
import transformers

from minildm import AutoencoderKL, CLIPTextModel, CLIPTokenizer, UNet2DConditionModel
from minildm.state_dicts import describe_mismatch
from minildm.testing import randomise_
from minildm.text import ALPHABET, BOS, EOS

# The config.json of each part, as released, without what only the file's writer needed.
UNET = {
    "act_fn": "silu",
    "attention_head_dim": 8,
    "block_out_channels": [320, 640, 1280, 1280],
    "center_input_sample": False,
    "cross_attention_dim": 768,
    "down_block_types": [
        "CrossAttnDownBlock2D",
        "CrossAttnDownBlock2D",
        "CrossAttnDownBlock2D",
        "DownBlock2D",
    ],
    "downsample_padding": 1,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 4,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-05,
    "norm_num_groups": 32,
    "out_channels": 4,
    "sample_size": 64,
    "up_block_types": [
        "UpBlock2D",
        "CrossAttnUpBlock2D",
        "CrossAttnUpBlock2D",
        "CrossAttnUpBlock2D",
    ],
}
VAE = {
    "act_fn": "silu",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "in_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "out_channels": 3,
    "sample_size": 512,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}
TEXT = {
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "dropout": 0.0,
    "eos_token_id": 2,
    "hidden_act": "quick_gelu",
    "hidden_size": 768,
    "initializer_factor": 1.0,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 77,
    "model_type": "clip_text_model",
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "pad_token_id": 1,
    "projection_dim": 768,
    "vocab_size": 49408,
}
PARTS = {
    "unet": (UNet2DConditionModel, diffusers.UNet2DConditionModel, UNET, 859_520_964),
    "vae": (AutoencoderKL, diffusers.AutoencoderKL, VAE, 83_653_863),
    "text_encoder": (CLIPTextModel, transformers.CLIPTextModel, TEXT, 123_060_480),
}


def pair(part):
    """Ours and theirs, of shapes without content."""
    ours, theirs, config, _ = PARTS[part]
    with torch.device("meta"):
        if part == "text_encoder":
            return ours.from_config(config), theirs(transformers.CLIPTextConfig(**config))
        return ours.from_config(config), theirs.from_config(config)


@pytest.mark.parametrize("part", PARTS)
def test_the_released_configuration_makes_a_network_of_the_released_size_and_names(part):
    ours, theirs = pair(part)
    assert sum(p.numel() for p in ours.parameters()) == PARTS[part][-1]
    assert describe_mismatch(ours.state_dict(), theirs.state_dict()) == ""


@torch.no_grad()
def with_the_same_weights(part):
    """Both with one set of random weights in memory, which they share."""
    ours, theirs = pair(part)
    randomise_(theirs.to_empty(device="cpu"), torch.Generator().manual_seed(0))
    if part == "text_encoder":  # a buffer, of which there is nothing in the state
        theirs.embeddings.position_ids = torch.arange(77)[None]
    ours.load_state_dict(theirs.state_dict(), assign=True)
    return ours.eval(), theirs.eval()


def assert_same(got, expected):
    """To 1e-4 of the largest value, and of a size worth comparing."""
    assert got.shape == expected.shape and 0.01 < expected.std() < 100
    assert float((got - expected).abs().max() / expected.abs().max()) < 1e-4
    gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        2**30 if sys.platform == "darwin" else 2**20
    )
    print(f"peak so far {gib:.1f} GiB")
    assert gib < 24  # 4.4 where it was written


@pytest.mark.large
@torch.no_grad()
def test_the_full_size_unet_is_that_of_diffusers():
    ours, theirs = with_the_same_weights("unet")
    generator = torch.Generator().manual_seed(1)
    sample, context = (
        torch.randn(1, 4, 64, 64, generator=generator),
        torch.randn(1, 77, 768, generator=generator),
    )
    expected = theirs(sample, 801, context).sample
    assert_same(ours(sample, 801, context), expected)
    ours.set_attention_slice("auto")
    assert_same(ours(sample, 801, context), expected)


@pytest.mark.large
@torch.no_grad()
def test_the_full_size_autoencoder_is_that_of_diffusers():
    ours, theirs = with_the_same_weights("vae")
    image = torch.rand(1, 3, 512, 512, generator=torch.Generator().manual_seed(1)) * 2 - 1
    z, expected = ours.encode(image), theirs.encode(image).latent_dist
    assert z.mean.shape == (1, 4, 64, 64)
    assert_same(z.mean, expected.mean)
    assert_same(z.logvar, expected.logvar)
    assert_same(ours.decode(expected.mean), theirs.decode(expected.mean).sample)


@pytest.mark.large
@torch.no_grad()
def test_the_full_size_text_encoder_is_that_of_transformers():
    ours, theirs = with_the_same_weights("text_encoder")
    ids = torch.randint(0, 49406, (2, 77), generator=torch.Generator().manual_seed(1))
    ids[:, 0], ids[0, 40:], ids[1, 76] = 49406, 49407, 49407
    assert_same(ours(ids), theirs(ids).last_hidden_state)


def test_a_vocabulary_of_full_size_is_read_as_transformers_reads_it(tmp_path):
    """CLIP's own 49,408 tokens are not ours to ship: as many, with made-up merges, in the same two
    files."""
    letters = [char for char in ALPHABET if char.isascii() and char.isalpha()]
    merges = []
    for length in (2, 3, 4):  # "ab", "ab</w>", then "abc" from "ab" + "c", ...
        shorter = letters if length == 2 else [a + b for a, b in merges if len(a + b) == length - 1]
        ends = [*letters, *(char + "</w>" for char in letters)]
        merges += [(left, right) for left in shorter for right in ends]
        if len(merges) > 48_894:
            break
    merges = merges[:48_894]
    vocab = [*ALPHABET, *(a + b for a, b in merges), BOS, EOS]
    assert len(vocab) == len(set(vocab)) == 49_408
    (tmp_path / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(vocab)}))
    (tmp_path / "merges.txt").write_text(
        "#version: 0.2\n" + "\n".join(" ".join(merge) for merge in merges) + "\n"
    )
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": 77,
        "bos_token": BOS,
        "eos_token": EOS,
    }
    settings |= {"pad_token": EOS, "unk_token": EOS}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    ours, theirs = (
        CLIPTokenizer.from_pretrained(tmp_path),
        transformers.CLIPTokenizer.from_pretrained(tmp_path),
    )
    assert len(ours) == len(theirs) == 49_408
    prompts = [
        "a photograph of an astronaut riding a horse",
        "Élan, 1x2 & naïve 日本!",
        "",
        "word " * 90,
    ]
    with pytest.warns(UserWarning, match="cut off"):
        got = ours(prompts)
    assert got.shape == (4, 77)
    expected = theirs(
        prompts, padding="max_length", truncation=True, max_length=77, return_tensors="pt"
    ).input_ids
    assert torch.equal(got, expected)
