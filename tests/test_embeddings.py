"""minildm.models.embeddings: a number that no row of a table has is said, wherever there is one."""

import pytest
import torch

from minildm import CLIPTextModel, DiTTransformer2DModel, UNet2DModel

UNET = {
    "sample_size": 4,
    "in_channels": 2,
    "out_channels": 2,
    "block_out_channels": (4,),
    "layers_per_block": 1,
    "norm_num_groups": 2,
    "attention_head_dim": 2,
    "down_block_types": ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",),
    "num_class_embeds": 10,
}


def tables():
    """Name of the numbers -> how many there are, and a network that looks them up: (2,) of them."""
    x, t = torch.randn(2, 2, 4, 4), torch.tensor([3, 4])
    text = CLIPTextModel(
        vocab_size=10,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=4,
    )
    dit = DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=4,
        in_channels=2,
        num_layers=1,
        sample_size=4,
        norm_num_groups=2,
        num_embeds_ada_norm=9,
    )
    unet = UNet2DModel(**UNET)
    return {
        "input_ids": lambda ids: text(ids[None]),
        "class_labels": lambda ids: unet(x, t, ids),
        "class_labels of a DiT": lambda ids: dit(x, t, ids),
    }


@pytest.mark.parametrize("name", tables())
@pytest.mark.parametrize("wrong", [10, -1])
def test_a_number_out_of_range_is_said_with_the_range(name, wrong):
    ids = torch.tensor([1, wrong])
    tables()[name](ids.clamp(0, 9))
    low, high = sorted(ids.tolist())
    expected = f"expected {name.split()[0]} of whole numbers from 0 to 9, got {low} to {high}"
    with pytest.raises(ValueError, match=expected):
        tables()[name](ids)


@pytest.mark.parametrize("name", tables())
def test_a_number_with_a_fraction_is_said(name):
    with pytest.raises(ValueError, match="of whole numbers from 0 to 9, got torch.float32"):
        tables()[name](torch.tensor([1.0, 2.5]))
