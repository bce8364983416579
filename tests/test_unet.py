"""The U-Nets against diffusers', with the same weights."""

import diffusers
import pytest
import torch

from minildm.models import UNet2DConditionModel, UNet2DModel
from minildm.testing import assert_parity, randomise_

SMALL = dict(norm_num_groups=4, cross_attention_dim=12, layers_per_block=1)

CONDITION_CONFIGS = {
    "one block": dict(
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
        block_out_channels=(8,),
        attention_head_dim=2,
    ),
    "two blocks, two layers, attention everywhere": dict(
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        block_out_channels=(8, 16),
        layers_per_block=2,
        attention_head_dim=(1, 4),
    ),
    "three blocks, attention only in the middle one, linear projection": dict(
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(8, 12, 20),
        attention_head_dim=(2, 3, 5),
        use_linear_projection=True,
        norm_eps=1e-6,
    ),
    "Stable Diffusion 1's four blocks": dict(
        block_out_channels=(8, 8, 16, 16), layers_per_block=2, attention_head_dim=8, sample_size=8
    ),
    "no middle block, sine first, frequency shift": dict(
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(12, 16),
        mid_block_type=None,
        flip_sin_to_cos=False,
        freq_shift=1,
        attention_head_dim=4,
    ),
    "two transformer layers, other channels out than in, asymmetric padding": dict(
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(8, 16),
        in_channels=5,
        out_channels=3,
        transformer_layers_per_block=2,
        downsample_padding=0,
        attention_head_dim=(2, 16),
    ),
    "attention only in the middle block": dict(
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
        block_out_channels=(4, 8),
        attention_head_dim=2,
        use_linear_projection=True,
    ),
}


def condition_inputs(config, height=8, width=8):
    generator = torch.Generator().manual_seed(2)
    sample = torch.randn(2, config.get("in_channels", 4), height, width, generator=generator)
    return sample, torch.tensor([3, 977]), torch.randn(2, 5, 12, generator=generator)


@pytest.mark.parametrize("name", CONDITION_CONFIGS)
@pytest.mark.parametrize("size", [(8, 8), (8, 16), (7, 9)])
def test_conditional_unet_is_diffusers(name, size):
    config = SMALL | CONDITION_CONFIGS[name]
    ours, theirs = UNet2DConditionModel(**config), diffusers.UNet2DConditionModel(**config)
    assert_parity(ours, theirs, condition_inputs(config, *size))


def test_any_kind_of_timestep_means_the_same():
    config = SMALL | CONDITION_CONFIGS["one block"]
    unet = randomise_(UNet2DConditionModel(**config))
    sample, _, context = condition_inputs(config)
    expected = unet(sample, torch.tensor([7, 7]), context)
    for timestep in (7, 7.0, torch.tensor(7), torch.tensor([7]), torch.tensor([7.0, 7.0])):
        torch.testing.assert_close(unet(sample, timestep, context), expected, rtol=0, atol=0)


def test_fractional_timesteps_are_diffusers():
    config = SMALL | CONDITION_CONFIGS["one block"]
    sample, _, context = condition_inputs(config)
    inputs = (sample, torch.tensor([0.25, 731.5]), context)
    assert_parity(UNet2DConditionModel(**config), diffusers.UNet2DConditionModel(**config), inputs)


def test_channels_last_changes_the_layout_only():
    config = SMALL | CONDITION_CONFIGS["two blocks, two layers, attention everywhere"]
    unet = randomise_(UNet2DConditionModel(**config)).double()
    sample, timestep, context = condition_inputs(config)
    expected = unet(sample.double(), timestep, context.double())
    unet.to(memory_format=torch.channels_last)
    got = unet(
        sample.double().contiguous(memory_format=torch.channels_last), timestep, context.double()
    )
    assert got.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


ATTENTION = dict(
    down_block_types=("DownBlock2D", "AttnDownBlock2D"),
    up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    block_out_channels=(8, 16),
    norm_num_groups=4,
    layers_per_block=1,
    attention_head_dim=4,
)
UNCONDITIONAL_CONFIGS = {
    "attention in the lower block": ATTENTION,
    "one block, one head": ATTENTION
    | dict(
        down_block_types=("AttnDownBlock2D",),
        up_block_types=("AttnUpBlock2D",),
        block_out_channels=(8,),
        attention_head_dim=None,
    ),
    "no attention, three blocks, odd channels": ATTENTION
    | dict(
        down_block_types=("DownBlock2D",) * 3,
        up_block_types=("UpBlock2D",) * 3,
        block_out_channels=(4, 8, 12),
        in_channels=1,
        out_channels=2,
        layers_per_block=2,
        mid_block_type=None,
    ),
    "classes": ATTENTION | dict(num_class_embeds=10, in_channels=1, out_channels=1),
    "the first DDPM checkpoints": ATTENTION
    | dict(
        downsample_padding=0,
        flip_sin_to_cos=False,
        freq_shift=1,
        norm_eps=1e-6,
        attention_head_dim=None,
    ),
}


@pytest.mark.parametrize("name", UNCONDITIONAL_CONFIGS)
@pytest.mark.parametrize("size", [(8, 8), (4, 12)])
def test_unconditional_unet_is_diffusers(name, size):
    config = UNCONDITIONAL_CONFIGS[name]
    sample = torch.randn(
        2, config.get("in_channels", 3), *size, generator=torch.Generator().manual_seed(1)
    )
    labels = (torch.tensor([3, 9]),) if "num_class_embeds" in config else ()
    assert_parity(
        UNet2DModel(**config),
        diffusers.UNet2DModel(**config),
        (sample, torch.tensor([0, 500]), *labels),
    )


def test_odd_images_come_back_odd():
    unet = UNet2DModel(**ATTENTION)
    assert unet(torch.zeros(1, 3, 7, 5), 3).shape == (1, 3, 7, 5)


@pytest.mark.parametrize("name", CONDITION_CONFIGS)
def test_conditional_folders_open_both_ways(name, tmp_path):
    config = SMALL | CONDITION_CONFIGS[name]
    ours = randomise_(UNet2DConditionModel(**config)).eval()
    theirs = randomise_(diffusers.UNet2DConditionModel(**config)).eval()
    inputs = condition_inputs(config)
    ours.save_pretrained(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    opened = diffusers.UNet2DConditionModel.from_pretrained(tmp_path / "ours")
    torch.testing.assert_close(opened(*inputs).sample, ours(*inputs), rtol=1e-4, atol=1e-4)
    opened = UNet2DConditionModel.from_pretrained(tmp_path / "theirs")
    torch.testing.assert_close(opened(*inputs), theirs(*inputs).sample, rtol=1e-4, atol=1e-4)
    assert opened.config == ours.config


@pytest.mark.parametrize("name", UNCONDITIONAL_CONFIGS)
def test_unconditional_folders_open_both_ways(name, tmp_path):
    config = UNCONDITIONAL_CONFIGS[name]
    ours, theirs = UNet2DModel(**config), diffusers.UNet2DModel(**config)
    ours.save_pretrained(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    opened = diffusers.UNet2DModel.from_pretrained(tmp_path / "ours")
    torch.testing.assert_close(dict(opened.state_dict()), dict(ours.state_dict()), rtol=0, atol=0)
    opened = UNet2DModel.from_pretrained(tmp_path / "theirs")
    torch.testing.assert_close(dict(opened.state_dict()), dict(theirs.state_dict()), rtol=0, atol=0)
    assert opened.config == ours.config


def test_default_configuration_is_diffusers():
    for ours, theirs in (
        (UNet2DConditionModel, diffusers.UNet2DConditionModel),
        (UNet2DModel, diffusers.UNet2DModel),
    ):
        with torch.device("meta"):
            mine, other = ours(), theirs()
        shapes = [
            {key: value.shape for key, value in model.state_dict().items()}
            for model in (mine, other)
        ]
        assert shapes[0] == shapes[1]
        assert {key: other.config[key] for key in mine.config} == mine.config
        defaults = {key: other.config[key] for key in other.config if key[:1] != "_"}
        assert ours.from_config(defaults).config == mine.config  # all of theirs are supported


@pytest.mark.parametrize(
    "key, value",
    [
        ("resnet_time_scale_shift", "scale_shift"),
        ("addition_embed_type", "text_time"),
        ("class_embed_type", "timestep"),
        ("only_cross_attention", True),
        ("conv_in_kernel", 1),
        ("act_fn", "gelu"),
        ("mid_block_scale_factor", 2),
        ("time_embedding_dim", 256),
    ],
)
def test_an_unsupported_key_is_named(key, value):
    with pytest.raises(ValueError, match=key) as error:
        UNet2DConditionModel.from_config({key: value})
    assert repr(value) in str(error.value)


def test_foreign_and_truncated_checkpoints_are_refused(tmp_path):
    unet = UNet2DConditionModel(**SMALL, **CONDITION_CONFIGS["one block"])
    unet.save_pretrained(tmp_path)
    file = tmp_path / unet.weights_name
    whole = file.read_bytes()
    file.write_bytes(whole[:-7])
    with pytest.raises(
        ValueError, match="diffusion_pytorch_model.safetensors: expected a whole safetensors file"
    ):
        UNet2DConditionModel.from_pretrained(tmp_path)
    UNet2DModel(**UNCONDITIONAL_CONFIGS["one block, one head"]).save_pretrained(tmp_path / "other")
    file.write_bytes((tmp_path / "other" / unet.weights_name).read_bytes())
    with pytest.raises(
        ValueError,
        match=r"expected the weights of the UNet2DConditionModel .* got \d+ missing keys",
    ):
        UNet2DConditionModel.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"expected a UNet2DConditionModel .*, got 'UNet2DModel'"):
        UNet2DConditionModel.from_pretrained(tmp_path / "other")


def test_wrong_inputs_are_refused():
    config = SMALL | CONDITION_CONFIGS["one block"]
    unet = UNet2DConditionModel(**config)
    sample, timestep, context = condition_inputs(config)
    for bad in (sample[:, :3], sample[0], sample[:, :, :0], sample[..., :0]):
        with pytest.raises(ValueError, match=r"expected a sample \(B, 4, H, W\), got \("):
            unet(bad, timestep, context)
    for bad in (context[:, :, :5], context[0], context[:1]):
        with pytest.raises(
            ValueError, match=r"expected encoder_hidden_states \(2, L, 12\), got \("
        ):
            unet(sample, timestep, bad)
    with pytest.raises(ValueError, match=r"one timestep, or one per sample \(2\), got \(3,\)"):
        unet(sample, torch.zeros(3), context)
    with pytest.raises(ValueError, match="expected class_labels, got none"):
        UNet2DModel(**UNCONDITIONAL_CONFIGS["classes"])(torch.zeros(1, 1, 8, 8), 0)
    with pytest.raises(ValueError, match="expected no class_labels"):
        UNet2DModel(**ATTENTION)(torch.zeros(1, 3, 8, 8), 0, torch.tensor([1]))


@pytest.mark.parametrize(
    "change, words",
    [
        (
            dict(down_block_types=("DownBlock2D",) * 2),
            "as many down_block_types as block_out_channels .1.",
        ),
        (dict(up_block_types=()), "as many up_block_types as block_out_channels .1."),
        (
            dict(down_block_types=("AttnDownBlock2D",)),
            "one of DownBlock2D, CrossAttnDownBlock2D, got 'AttnDownBlock2D'",
        ),
        (dict(mid_block_type="Other"), "one of UNetMidBlock2DCrossAttn, got 'Other'"),
        (dict(attention_head_dim=(2, 2)), "expected 1 values of attention_head_dim"),
        (dict(attention_head_dim=3), "channels that 3 heads divide, got 8"),
        (dict(layers_per_block=(2,)), r"only one number as layers_per_block, got \(2,\)"),
        (
            dict(transformer_layers_per_block=[1]),
            r"only one number as transformer_layers_per_block, got \(1,\)",
        ),
    ],
)
def test_wrong_configurations_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        UNet2DConditionModel(**(SMALL | CONDITION_CONFIGS["one block"] | change))


def test_a_head_wider_than_the_image_is_deep_is_refused():
    with pytest.raises(ValueError, match="attention_head_dim of at most 16, the channels, got 17"):
        UNet2DModel(**(ATTENTION | dict(attention_head_dim=17)))


@pytest.mark.parametrize("rows", [1, 3])
def test_what_belongs_to_a_sample_is_not_spread_over_others(rows):
    """A label, a context or a residual for another number of samples than there are."""
    sample, timestep, context = condition_inputs({})
    unet = UNet2DConditionModel(**SMALL | CONDITION_CONFIGS["one block"]).eval()
    with pytest.raises(ValueError, match=r"expected encoder_hidden_states \(2, L, 12\), got"):
        unet(sample, timestep, context[:1].expand(rows, -1, -1))
    if rows != 1:  # one timestep may be that of all
        with pytest.raises(ValueError, match=r"one per sample \(2\), got \(3,\)"):
            unet(sample, torch.zeros(rows), context)
    seen = []
    plain = UNet2DModel(
        block_out_channels=(4,),
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        in_channels=4,
        norm_num_groups=2,
        num_class_embeds=5,
        attention_head_dim=2,
    )
    for labels in (torch.zeros(rows, dtype=torch.long), torch.tensor(3), torch.zeros(2, 1).long()):
        with pytest.raises(ValueError, match=r"expected class_labels \(2,\), one a sample, got"):
            plain(sample, timestep, labels)
    assert plain(sample, timestep, torch.tensor([1, 4])).shape == (2, 3, 8, 8)
    hook = unet.conv_in.register_forward_hook(lambda *args: seen.append(args[2].shape))
    unet(sample, timestep, context)
    hook.remove()
    down = [torch.zeros(rows, *seen[0][1:])]
    residuals = 2  # one behind conv_in, one behind the only ResNet
    with pytest.raises(ValueError, match=r"expected a residual of shape \(2, .*got \("):
        unet(sample, timestep, context, down * residuals)
    with pytest.raises(ValueError, match=r"expected a residual of shape \(2, .*got \("):
        unet(sample, timestep, context, None, torch.zeros(1, 1, 1, 1))
