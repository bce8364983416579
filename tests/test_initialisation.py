"""The first weights of every network that the course trains: those of diffusers, where it has the
network, else of torch's own layers; zero where a branch is to begin as nothing."""

import math

import diffusers
import pytest
import scipy.stats
import torch
import transformers
from torch import nn

from minildm.models import (
    AutoencoderKL,
    DiTTransformer2DModel,
    ImageClassifier,
    ToyDenoiser,
    UNet2DConditionModel,
    UNet2DModel,
    VQModel,
)
from minildm.text import CLIPTextModel
from minildm.training import PatchDiscriminator
from minildm.variations import ControlNetModel, GANDiscriminator, GANGenerator
from minildm.variations.lora import LoRALayer

CROSS = {
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "cross_attention_dim": 12,
    "attention_head_dim": 4,
    "norm_num_groups": 4,
}
UNET = CROSS | {"sample_size": 8, "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D")}
LABELLED = {
    "sample_size": 8,
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": 4,
    "norm_num_groups": 4,
    "num_class_embeds": 11,
}
CODER = {
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "block_out_channels": (16, 32),
    "norm_num_groups": 4,
}
PAIRS = {
    "UNet2DConditionModel": (UNet2DConditionModel, diffusers.UNet2DConditionModel, UNET),
    "UNet2DModel": (UNet2DModel, diffusers.UNet2DModel, LABELLED),
    "AutoencoderKL": (AutoencoderKL, diffusers.AutoencoderKL, CODER | {"latent_channels": 6}),
    "VQModel": (VQModel, diffusers.VQModel, CODER | {"num_vq_embeddings": 40}),
    "ControlNetModel": (
        ControlNetModel,
        diffusers.ControlNetModel,
        CROSS | {"conditioning_embedding_out_channels": (8, 16)},
    ),
}
SEEDS = 4


def first_weights(make, **config):
    """Every parameter of several networks, as it is drawn: name -> all its entries."""
    drawn: dict[str, list] = {}
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        for name, parameter in make(**config).named_parameters():
            drawn.setdefault(name, []).append(parameter.detach().flatten())
    return {name: torch.cat(parts).double() for name, parts in drawn.items()}


def assert_drawn_alike(name, ours, theirs):
    """As constants the same; as random numbers of one mean, one deviation, one distribution."""
    if theirs.unique().numel() == 1:
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, msg=f"{name}: {ours}")
        return
    spread = theirs.std().item()
    mean, deviation = (ours.mean() - theirs.mean()).abs().item(), ours.std().item()
    error = 5 / math.sqrt(ours.numel())
    assert mean < 1.5 * error * spread, f"{name}: the means differ by {mean:.3g}"
    assert abs(math.log(deviation / spread)) < error, f"{name}: {deviation:.3g}, not {spread:.3g}"
    alike = scipy.stats.ks_2samp(ours.numpy(), theirs.numpy()).pvalue
    assert alike > 1e-6, f"{name}: another distribution, p = {alike:.1g}"


@pytest.mark.parametrize(("ours", "theirs", "config"), PAIRS.values(), ids=PAIRS)
def test_a_network_of_diffusers_begins_as_diffusers_does(ours, theirs, config):
    mine, its = first_weights(ours, **config), first_weights(theirs, **config)
    assert mine.keys() == its.keys()
    for name, entries in mine.items():
        assert_drawn_alike(name, entries, its[name])


def default(layer):
    """A layer of torch's of the same sizes, as torch makes it."""
    bias = getattr(layer, "bias", None) is not None
    if isinstance(layer, nn.Linear):
        return nn.Linear(layer.in_features, layer.out_features, bias)
    if isinstance(layer, nn.Embedding):
        return nn.Embedding(layer.num_embeddings, layer.embedding_dim)
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        sizes = layer.in_channels, layer.out_channels, layer.kernel_size
        return type(layer)(*sizes, bias=bias)
    if isinstance(layer, nn.GroupNorm):
        return nn.GroupNorm(layer.num_groups, layer.num_channels)
    if isinstance(layer, nn.BatchNorm2d):
        return nn.BatchNorm2d(layer.num_features)
    assert isinstance(layer, nn.LayerNorm), layer
    return nn.LayerNorm(layer.normalized_shape)


class Defaults(nn.Module):
    """A network's layers as torch makes them, by the same names."""

    def __init__(self, make, config):
        super().__init__()
        leaves = [
            (name, layer)
            for name, layer in make(**config).named_modules()
            if list(layer.parameters(recurse=False))
        ]
        self.layers = nn.ModuleDict({name.replace(".", " "): default(x) for name, x in leaves})

    def named_parameters(self, *args, **kwargs):
        for name, parameter in super().named_parameters(*args, **kwargs):
            yield name.removeprefix("layers.").replace(" ", "."), parameter


def normal(std):
    return lambda entries: torch.randn(entries.shape, dtype=torch.float64) * std


CLIP = {
    "vocab_size": 30,
    "hidden_size": 24,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 8,
}
GAN = {"sample_size": 16, "num_classes": 5, "block_out_channels": (8, 16)}
# Networks of torch's layers, each with what it draws otherwise than torch.
OWN = {
    "CLIPTextModel": (
        CLIPTextModel,
        CLIP,
        {
            "embeddings.token_embedding.weight": normal(0.02),
            "embeddings.position_embedding.weight": normal(0.02),
        },
    ),
    "ImageClassifier": (
        ImageClassifier,
        {"sample_size": 8, "block_out_channels": (6, 8), "feature_dim": 12},
        {},
    ),
    "ToyDenoiser": (ToyDenoiser, {"hidden": 16}, {}),
    "PatchDiscriminator": (PatchDiscriminator, {"in_channels": 3, "width": 8}, {}),
    "GANGenerator": (GANGenerator, GAN | {"latent_dim": 12, "norm_num_groups": 4}, {}),
    "GANDiscriminator": (GANDiscriminator, GAN, {"class_embedding.weight": normal(16**-0.5)}),
}


@pytest.mark.parametrize(("make", "config", "otherwise"), OWN.values(), ids=OWN)
def test_every_other_layer_begins_as_torch_makes_it_or_as_is_said_here(make, config, otherwise):
    mine = first_weights(make, **config)
    its = first_weights(lambda: Defaults(make, config))
    named = {name.replace("text_model.", ""): name for name in mine}
    assert mine.keys() == its.keys() and otherwise.keys() <= named.keys()
    for short, name in named.items():
        expected = otherwise[short](its[name]) if short in otherwise else its[name]
        assert_drawn_alike(name, mine[name], expected)


def test_the_vectors_of_tokens_and_places_begin_as_those_of_clip():
    config = transformers.CLIPTextConfig(**CLIP)
    its = first_weights(lambda: transformers.CLIPTextModel(config))
    for name, entries in first_weights(CLIPTextModel, **CLIP).items():
        if "embedding" in name:
            assert_drawn_alike(name, entries, its[name])


def test_the_transformer_begins_with_xavier_and_its_branches_with_zero():
    """Peebles & Xie 2023, section 3.2, and the code with it: weights uniform in ±√(6 / (in + out)),
    of a patch's convolution, too; biases 0; what steers a block, and the last layer, 0."""
    config = {
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "in_channels": 4,
        "num_layers": 2,
        "sample_size": 8,
        "patch_size": 2,
        "num_embeds_ada_norm": 10,
    }
    shapes = {name: p.shape for name, p in DiTTransformer2DModel(**config).named_parameters()}
    for name, entries in first_weights(DiTTransformer2DModel, **config).items():
        zero = ("norm1.linear", "proj_out_1", "proj_out_2")
        if name.endswith("bias") or any(part in name for part in zero):
            assert not entries.any(), name
        elif "embedding_table" in name:
            assert_drawn_alike(name, entries, normal(0.02)(entries))
        else:
            most = math.sqrt(6 / (shapes[name][0] + shapes[name][1:].numel()))
            assert_drawn_alike(name, entries, (2 * torch.rand_like(entries) - 1) * most)


def test_a_lora_begins_as_nothing_and_its_first_matrix_as_torchs_layer():
    layer = nn.Linear(24, 36)
    drawn = first_weights(lambda: LoRALayer(layer, 8))
    assert not drawn["lora_B.weight"].any()
    its = first_weights(lambda: nn.Linear(24, 8))
    assert_drawn_alike("lora_A", drawn["lora_A.weight"], its["weight"])
    x = torch.randn(3, 24)
    assert torch.equal(LoRALayer(layer, 8).add(layer, (x,), layer(x)), layer(x))
