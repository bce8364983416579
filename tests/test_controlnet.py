"""ControlNet against diffusers', alone and in a whole pipeline."""

import copy

import diffusers
import pytest
import torch
from test_unet import CONDITION_CONFIGS, SMALL, condition_inputs
from torch.testing import assert_close

from minildm.models import UNet2DConditionModel
from minildm.models.attention import Attention
from minildm.pipelines import StableDiffusionPipeline
from minildm.schedulers import DDPMScheduler
from minildm.testing import assert_parity, randomise_
from minildm.training import DenoisingLoss
from minildm.variations import ControlledUNet, ControlNetModel

pytest_plugins = ["tiny"]

CONFIGS = {
    name: SMALL | config
    for name, config in CONDITION_CONFIGS.items()
    if config.get("mid_block_type", 1)
}
OWN = {
    "to 1/4": dict(conditioning_embedding_out_channels=(4, 6, 8), conditioning_channels=11),
    "to 1/8": dict(conditioning_embedding_out_channels=(4, 6, 8, 8)),
    "same size": dict(conditioning_embedding_out_channels=(4,), conditioning_channels=1),
}


def controlnet_config(name):
    foreign = ("up_block_types", "out_channels", "sample_size")
    return {key: value for key, value in CONFIGS[name].items() if key not in foreign}


def pictures(inputs, own, scale=None):
    """Conditions for these samples, (B, C, f·h, f·w)."""
    factor = 2 ** (len(own["conditioning_embedding_out_channels"]) - 1)
    height, width = inputs[0].shape[2:]
    shape = (len(inputs[0]), own.get("conditioning_channels", 3), factor * height, factor * width)
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


def all_of(model, *inputs):
    """Everything that a ControlNet says, in one row."""
    down, mid = (
        model(*inputs) if isinstance(model, ControlNetModel) else model(*inputs, return_dict=False)
    )
    return torch.cat([residual.flatten() for residual in (*down, mid)])


@pytest.mark.parametrize("name", CONFIGS)
def test_controlnet_is_diffusers(name):
    config = controlnet_config(name) | OWN["to 1/4"]
    ours, theirs = ControlNetModel(**config), diffusers.ControlNetModel(**config)
    inputs = condition_inputs(config)
    assert_parity(ours, theirs, (*inputs, pictures(inputs, config), 0.7), all_of, all_of)


@pytest.mark.parametrize("own", OWN)
@pytest.mark.parametrize("size", [(8, 8), (7, 9)])
def test_pictures_of_any_factor_are_diffusers(own, size):
    config = controlnet_config("two blocks, two layers, attention everywhere") | OWN[own]
    ours, theirs = ControlNetModel(**config), diffusers.ControlNetModel(**config)
    inputs = condition_inputs(config, *size)
    assert_parity(ours, theirs, (*inputs, pictures(inputs, config)), all_of, all_of)


class Both(torch.nn.Module):
    """A U-Net and a ControlNet in one module, so that the parity helper sees the parameters of
    both."""

    def __init__(self, unet, controlnet):
        super().__init__()
        self.unet, self.controlnet = unet, controlnet

    def forward(self, sample, timestep, context, condition):
        inputs, ours = (sample, timestep, context), isinstance(self.controlnet, ControlNetModel)
        down, mid = self.controlnet(*inputs, condition, **({} if ours else {"return_dict": False}))
        residuals = {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}
        return self.unet(*inputs, **residuals) if ours else self.unet(*inputs, **residuals).sample


@pytest.mark.parametrize("name", CONFIGS)
def test_unet_with_its_residuals_is_diffusers(name):
    config, own = CONFIGS[name], controlnet_config(name) | OWN["to 1/4"]
    ours = Both(UNet2DConditionModel(**config), ControlNetModel(**own))
    theirs = Both(diffusers.UNet2DConditionModel(**config), diffusers.ControlNetModel(**own))
    inputs = condition_inputs(config)
    assert_parity(ours, theirs, (*inputs, pictures(inputs, own)))


@pytest.fixture
def pair():
    unet = randomise_(
        UNet2DConditionModel(**CONFIGS["two blocks, two layers, attention everywhere"])
    )
    return unet, ControlNetModel.from_unet(unet, **OWN["to 1/4"])


def test_at_first_it_changes_nothing_to_the_last_bit_and_can_learn(pair):
    unet, controlnet = pair
    inputs = condition_inputs(unet.config)
    condition = 100 * pictures(inputs, OWN["to 1/4"])
    controlled = ControlledUNet(unet, controlnet, condition)
    assert torch.equal(controlled(*inputs), unet(*inputs))
    controlled(*inputs).square().mean().backward()
    zeros = [*controlnet.controlnet_down_blocks, controlnet.controlnet_mid_block]
    assert all(layer.weight.grad.abs().max() > 0 for layer in zeros)
    # the first step opens these; only then does the gradient reach what lies behind them
    assert controlnet.controlnet_cond_embedding.conv_out.weight.grad.abs().max() == 0
    torch.nn.init.ones_(controlnet.controlnet_down_blocks[0].weight)
    controlled(*inputs).square().mean().backward()
    assert controlnet.controlnet_cond_embedding.conv_out.weight.grad.abs().max() > 0


def test_pictures_of_a_call_take_the_place_of_the_constructors(pair):
    unet, controlnet = pair[0], randomise_(pair[1])
    inputs = condition_inputs(unet.config)
    one = pictures(inputs, OWN["to 1/4"])
    other = one.roll(1, 0)
    expected = ControlledUNet(unet, controlnet, other)(*inputs)
    assert torch.equal(ControlledUNet(unet, controlnet)(*inputs, other), expected)
    assert torch.equal(ControlledUNet(unet, controlnet, one)(*inputs, other), expected)
    assert not torch.equal(ControlledUNet(unet, controlnet, one)(*inputs), expected)


def test_from_unet_copies_what_diffusers_copies(pair):
    unet, controlnet = pair
    config = {key: value for key, value in unet.config.items() if key != "dropout"}
    theirs = diffusers.UNet2DConditionModel(**config)
    theirs.load_state_dict(unet.state_dict())
    expected = diffusers.ControlNetModel.from_unet(theirs, **OWN["to 1/4"])
    assert set(controlnet.state_dict()) == set(expected.state_dict())
    for key, value in expected.state_dict().items():
        if "cond_embedding" not in key:
            assert torch.equal(controlnet.state_dict()[key], value), key
    assert controlnet.controlnet_cond_embedding.conv_out.weight.abs().max() == 0


def test_it_survives_a_folder_and_diffusers_opens_it(pair, tmp_path):
    controlnet = randomise_(pair[1])
    controlnet.save_pretrained(tmp_path)
    inputs = condition_inputs(pair[0].config)
    inputs = (*inputs, pictures(inputs, OWN["to 1/4"]))
    expected = all_of(controlnet, *inputs)
    assert torch.equal(all_of(ControlNetModel.from_pretrained(tmp_path), *inputs), expected)
    theirs = diffusers.ControlNetModel.from_pretrained(tmp_path)
    assert_close(all_of(theirs, *inputs), expected, rtol=1e-5, atol=1e-5)
    theirs.save_pretrained(tmp_path / "theirs")
    assert torch.equal(
        all_of(ControlNetModel.from_pretrained(tmp_path / "theirs"), *inputs), expected
    )


@pytest.fixture
def small(tiny):
    """A ControlNet for the tiny pipeline's U-Net that says something."""
    made = ControlNetModel.from_unet(tiny.unet, conditioning_embedding_out_channels=(4, 6, 8))
    return randomise_(made, torch.Generator().manual_seed(5)).eval()


def diffusers_with_maps(folder, controlnet):
    """diffusers' own pipeline of that folder and ControlNet."""
    theirs = diffusers.ControlNetModel(**controlnet.config)
    theirs.load_state_dict(controlnet.state_dict())
    pipeline = diffusers.StableDiffusionControlNetPipeline.from_pretrained(
        folder, controlnet=theirs, safety_checker=None
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


PROMPTS = ["a handwritten seven", "the digit 3", "a one"]


def maps_of(count):
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("each", [1, 2])
@pytest.mark.parametrize("given", [1, 3])
@pytest.mark.parametrize("guidance_scale", [1.0, 2.0])
def test_each_picture_sees_its_map_as_in_diffusers_controlnet_pipeline(
    tiny, tiny_folder, small, each, given, guidance_scale
):
    theirs = diffusers_with_maps(tiny_folder, small)
    latents = tiny.starting_noise(3 * each, generator=torch.Generator().manual_seed(0))
    options = {"num_inference_steps": 3, "guidance_scale": guidance_scale, "latents": latents}
    options["num_images_per_prompt"] = each
    said = {"controlnet_conditioning_scale": 0.8, "output_type": "pt", "height": 32, "width": 32}
    expected = theirs(PROMPTS, image=maps_of(given), **said, **options).images
    plain = tiny(PROMPTS, progress=False, **options)
    tiny.unet = ControlledUNet(tiny.unet, small, maps_of(given), 0.8)
    for batch_size in (1, 2, 3, 4, 250):
        got = tiny(PROMPTS, progress=False, batch_size=batch_size, **options)
        assert_close(got / 2 + 0.5, expected, rtol=0, atol=1e-4)
    assert (got - plain).abs().max() > 0.05


@pytest.mark.parametrize("guidance_start", [0.0, 0.4])
def test_maps_travel_with_their_pictures_however_the_call_is_cut(tiny, small, guidance_start):
    maps, count = maps_of(16), 16
    latents = tiny.starting_noise(count, generator=torch.Generator().manual_seed(0))
    options = {"num_inference_steps": 3, "progress": False, "guidance_scale": 2.0}
    options["guidance_start"] = guidance_start

    def drawn(maps, prompt, latents, **more):
        unet = ControlledUNet(tiny.unet, small, maps)
        made = StableDiffusionPipeline.from_pipe(tiny, unet=unet)
        return made(prompt, latents=latents, **more, **options)

    alone = torch.cat([drawn(maps[i : i + 1], "a one", latents[i : i + 1]) for i in range(count)])
    for batch_size in (5, 8, 16):
        many = drawn(maps, ["a one"] * count, latents, batch_size=batch_size)
        assert_close(many, alone, rtol=0, atol=1e-5)
        # a map for each of the pictures of one prompt, too
        several = drawn(maps, "a one", latents, batch_size=batch_size, num_images_per_prompt=count)
        assert_close(several, alone, rtol=0, atol=1e-5)


def test_a_count_of_maps_that_belongs_to_nobody_is_refused(tiny, small):
    unet = tiny.unet
    for given in (2, 4, 5, 7, 12):
        tiny.unet = ControlledUNet(unet, small, maps_of(given))
        expected = f"expected a controlnet_cond of 1 or 3 or 6 pictures, .* got {given}"
        with pytest.raises(ValueError, match=expected):
            tiny(PROMPTS, num_inference_steps=1, num_images_per_prompt=2, progress=False)


def test_an_interrupted_drawing_leaves_no_rows_behind(tiny, small):
    controlled = tiny.unet = ControlledUNet(tiny.unet, small, maps_of(4))
    inputs = torch.randn(8, 4, 8, 8), torch.tensor(3), torch.randn(8, 5, 12)
    expected = controlled(*inputs)

    def stop(*told):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tiny(["a one"] * 4, batch_size=2, callback=stop, progress=False)
    assert torch.equal(controlled(*inputs), expected)


def test_a_pipeline_with_a_controlnet_is_sliced_and_saved(tiny, small, tmp_path):
    latents = tiny.starting_noise(3, generator=torch.Generator().manual_seed(0))
    options = {"num_inference_steps": 3, "latents": latents}
    tiny.unet = ControlledUNet(tiny.unet, small, maps_of(3))
    whole = tiny(PROMPTS, progress=False, **options)
    tiny.enable_attention_slicing(1)
    layers = [layer for layer in tiny.unet.modules() if isinstance(layer, Attention)]
    assert {layer.slice_size for layer in layers} == {1}
    assert any(layer in layers for layer in tiny.unet.controlnet.modules())
    assert_close(tiny(PROMPTS, progress=False, **options), whole, rtol=0, atol=1e-5)
    tiny.save_pretrained(tmp_path / "float16", dtype=torch.float16)
    again = ControlNetModel.from_pretrained(tmp_path / "float16" / "unet" / "controlnet")
    for key, value in again.state_dict().items():
        assert torch.equal(value, small.state_dict()[key].half().float()), key
    # diffusers opens the folder and the ControlNet below it, and ours without it again
    tiny.save_pretrained(tmp_path / "both")
    theirs = diffusers_with_maps(tmp_path / "both", small)
    theirs.controlnet = diffusers.ControlNetModel.from_pretrained(
        tmp_path / "both" / "unet" / "controlnet"
    )
    said = {"image": maps_of(3), "output_type": "pt", "height": 32, "width": 32}
    drawn = theirs(PROMPTS, guidance_scale=2.0, **said, **options).images
    assert_close(whole / 2 + 0.5, drawn, rtol=0, atol=1e-4)
    plain = StableDiffusionPipeline.from_pretrained(tmp_path / "both").unet
    for key, value in plain.state_dict().items():
        assert torch.equal(value, tiny.unet.unet.state_dict()[key]), key


def test_training_moves_the_controlnet_and_leaves_the_unet_alone(pair):
    unet, controlnet = pair
    before = copy.deepcopy(unet.state_dict())
    scheduler = DDPMScheduler(prediction_type="v_prediction")
    loss = DenoisingLoss(ControlledUNet(unet.requires_grad_(False), controlnet), scheduler)
    optimizer = torch.optim.SGD([p for p in loss.parameters() if p.requires_grad], 0.01)
    sample, timesteps, context = condition_inputs(unet.config)
    batch = (
        sample,
        torch.randn(sample.shape),
        timesteps,
        context,
        pictures((sample,), OWN["to 1/4"]),
    )
    losses = []
    for _ in range(5):
        losses.append(loss(*batch))
        losses[-1].backward()
        optimizer.step()
        optimizer.zero_grad()
    xt, target = scheduler.add_noise(*batch[:3]), scheduler.get_velocity(*batch[:3])
    assert_close(
        losses[0], (unet(xt, timesteps, context) - target).square().mean()
    )  # nothing said yet
    assert losses[-1] < losses[0]
    assert all(torch.equal(value, before[key]) for key, value in unet.state_dict().items())
    assert {name for name, p in loss.named_parameters() if p.requires_grad} == {
        f"predict.controlnet.{name}" for name, _ in controlnet.named_parameters()
    }


def test_the_target_is_what_the_scheduler_says_that_the_unet_predicts(pair):
    unet, controlnet = pair
    x0, timesteps, context = condition_inputs(unet.config)
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(4))
    for prediction_type, target in (("epsilon", noise), ("sample", x0), ("v_prediction", None)):
        scheduler = DDPMScheduler(prediction_type=prediction_type)
        target = scheduler.get_velocity(x0, noise, timesteps) if target is None else target
        loss = DenoisingLoss(ControlledUNet(unet, controlnet), scheduler)(
            x0, noise, timesteps, context, pictures((x0,), OWN["to 1/4"])
        )
        said = unet(
            scheduler.add_noise(x0, noise, timesteps), timesteps, context
        )  # the ControlNet says nothing yet
        assert_close(loss, (said - target).square().mean())


def test_conditions_of_another_shape_are_refused(pair):
    unet, controlnet = pair
    sample, timestep, context = condition_inputs(unet.config)
    good = pictures((sample,), OWN["to 1/4"])
    for bad in (good[:, :3], good[:1], good[..., :16]):
        with pytest.raises(ValueError, match=r"expected controlnet_cond \(2, 11, 32, 32\)"):
            controlnet(sample, timestep, context, bad)
    with pytest.raises(ValueError, match="a multiple of 3 samples, got 2"):
        ControlledUNet(unet, controlnet, torch.cat([good, good[:1]]))(sample, timestep, context)
    with pytest.raises(ValueError, match="expected a controlnet_cond, .* got none"):
        ControlledUNet(unet, controlnet)(sample, timestep, context)
    with pytest.raises(ValueError, match="expected encoder_hidden_states"):
        controlnet(sample, timestep, context[:1], good)
    down, mid = controlnet(sample, timestep, context, good)
    with pytest.raises(ValueError, match=f"expected {len(down)} residuals"):
        unet(sample, timestep, context, down[:-1], mid)
