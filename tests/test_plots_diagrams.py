"""minildm.plots.diagrams: the shapes in them are those that diffusers' own networks compute."""

from __future__ import annotations

import diffusers
import pytest
import torch
from figures import inside
from matplotlib.colors import to_hex
from matplotlib.patches import FancyBboxPatch, Rectangle

from minildm import StableDiffusionPipeline, UNet2DConditionModel, UNet2DModel
from minildm.models import BasicTransformerBlock
from minildm.plots import plot_pipeline, plot_transformer_block, plot_unet
from minildm.plots.diagrams import BLUE, ORANGE, unet_shapes

pytestmark = pytest.mark.usefixtures("no_figure_stays_open")

CONDITIONAL = {
    "sample_size": 12,
    "in_channels": 5,
    "out_channels": 6,
    "block_out_channels": (8, 16, 24),
    "layers_per_block": 2,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": 10,
    "attention_head_dim": 4,
    "norm_num_groups": 4,
}
PLAIN = {
    "sample_size": 10,
    "in_channels": 1,
    "out_channels": 1,
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "norm_num_groups": 4,
}


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def bars(figure):
    drawn = [patch for patch in figure.axes[0].patches if type(patch) is Rectangle]
    return [
        (to_hex(bar.get_facecolor()).upper(), bar.get_width(), bar.get_height()) for bar in drawn
    ]


def computed(unet, *inputs):
    """What each layer of a network of diffusers' gives back in a real call."""
    shapes = {}

    def hook(name):
        def note(layer, arguments, output):
            first = output[0] if isinstance(output, tuple) else getattr(output, "sample", output)
            shapes[name] = tuple(first.shape)

        return note

    for name, layer in unet.named_modules():
        layer.register_forward_hook(hook(name))
    with torch.no_grad():
        unet(*inputs)
    return shapes


@pytest.mark.parametrize(
    ("ours", "library", "config", "context"),
    [
        (
            UNet2DConditionModel,
            diffusers.UNet2DConditionModel,
            CONDITIONAL,
            (torch.randn(1, 3, 10),),
        ),
        (UNet2DModel, diffusers.UNet2DModel, PLAIN, ()),
    ],
)
def test_shapes_are_those_of_a_real_call_of_diffusers_network(ours, library, config, context):
    unet = ours(**config)
    sample = torch.randn(1, config["in_channels"], config["sample_size"], config["sample_size"])
    expected = computed(library(**config), sample, 7, *context)
    shapes = unet_shapes(unet)
    layers = [
        name for name in expected if name.rpartition(".")[0].endswith(("resnets", "attentions"))
    ]
    assert len(layers) > 8
    assert {name: expected[name] for name in layers} == {name: shapes[name] for name in layers}
    assert expected["conv_out"] == shapes["conv_out"]

    figure = plot_unet(unet)
    written = texts(figure)
    for name in ("down_blocks.0", "up_blocks.0", "mid_block"):
        last = max(n for n in layers if n.startswith(f"{name}.resnets"))
        shape = " × ".join(map(str, expected[last][1:]))
        assert written[written.index(name) + 1] == shape
    assert inside(figure)


def test_a_bar_for_each_layer_in_the_order_of_calls_as_high_as_the_image():
    unet = UNet2DConditionModel(**CONDITIONAL)
    drawn = bars(plot_unet(unet))
    colours = "".join("R" if colour == BLUE else "T" for colour, _, _ in drawn)
    assert {colour for colour, _, _ in drawn} == {BLUE, ORANGE}
    assert colours == "RTRT" + "RR" + "RTRT" + "RTRTRT" + "RRR" + "RTRTRT" + "RTR"
    heights = [height for _, _, height in drawn]
    assert heights[0] > heights[4] > heights[6] == heights[-1]
    widths = [width for _, width, _ in drawn]
    assert widths[0] < widths[4] < widths[6] == widths[-1]


def test_as_many_skip_connections_as_the_expanding_path_takes():
    figure = plot_unet(UNet2DConditionModel(**CONDITIONAL))
    written = [text for text in texts(figure) if "skip" in text]
    assert written == ["3 skip connections"] * 3
    assert (
        sum(int(text.split()[0]) for text in written) == 1 + 3 * 2 + 2
    )  # conv_in, layers, halvings


def test_another_size_and_a_network_without_one():
    unet = UNet2DModel(**{**PLAIN, "sample_size": None})
    assert "8 × 20 × 20" in texts(plot_unet(unet, 20))
    with pytest.raises(ValueError, match="expected a size, as this U-Net's sample_size is None"):
        plot_unet(unet)


def test_a_network_is_left_as_it_was():
    unet = UNet2DModel(**PLAIN)
    plot_unet(unet)
    assert unet.conv_in.weight.device.type == "cpu"
    assert not any(layer._forward_hooks for layer in unet.modules())


def test_stable_diffusion_at_its_full_size():
    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768)
    written = texts(plot_unet(unet))
    assert {"320 × 64 × 64", "640 × 32 × 32", "1280 × 16 × 16", "1280 × 8 × 8"} <= set(written)
    assert "transformer: reads the prompt, L × 768" in written


def test_queries_are_the_images_and_keys_and_values_of_cross_attention_the_prompts():
    block = BasicTransformerBlock(24, 3, 8, 10)
    with torch.no_grad():
        weights = block.attn2.get_attention_scores(torch.randn(1, 35, 24), torch.randn(1, 6, 10))
    figure = plot_transformer_block(block, tokens=35, length=6)
    self_attention, cross_attention = (
        next(text for text in texts(figure) if text.startswith(name)).split("\n")[1:]
        for name in ("self", "cross")
    )
    assert self_attention == ["q: 3 × 35 × 8", "k, v: 3 × 35 × 8", "weights: 3 × 35 × 35"]
    assert cross_attention == ["q: 3 × 35 × 8", "k, v: 3 × 6 × 8", "weights: 3 × 35 × 6"]
    assert tuple(weights.shape) == (1, 3, 35, 6)
    assert "image\n35 × 24" in texts(figure) and "prompt\n6 × 10" in texts(figure)
    assert inside(figure)


def test_the_pipelines_boxes_say_what_its_networks_compute():
    pipeline = StableDiffusionPipeline.from_pretrained("scenes")
    figure = plot_pipeline(pipeline, num_inference_steps=12)
    written = texts(figure)
    with torch.no_grad():
        latent = pipeline.vae.encode(torch.zeros(1, 3, 32, 32)).mode()
        context = pipeline.text_encoder(pipeline.tokenizer("a small red three"))
    assert "latent $z_0$\n" + " × ".join(map(str, latent.shape[1:])) in written
    assert "embeddings\n" + " × ".join(map(str, context.shape[1:])) in written
    assert {"picture x\n3 × 32 × 32", "drawn picture\n3 × 32 × 32", "12 ×"} <= set(written)
    count = sum(p.numel() for p in pipeline.unet.parameters())
    said = next(text for text in written if text.startswith("U-Net"))
    assert float(said.split("\n")[1].split()[0]) == pytest.approx(count / 1e6, rel=0.005)
    readers = sum(name.endswith("attn2") for name, _ in pipeline.unet.named_modules())
    assert f"keys and values\nof {readers} transformer\nblocks" in written
    assert inside(figure)


def test_words_lie_within_their_boxes():
    pipeline = StableDiffusionPipeline.from_pretrained("scenes")
    block = BasicTransformerBlock(320, 8, 40, 768)
    for figure in (plot_pipeline(pipeline), plot_transformer_block(block, 4096, 77)):
        (ax,) = figure.axes
        figure.draw_without_rendering()
        boxes = [p.get_window_extent() for p in ax.patches if isinstance(p, FancyBboxPatch)]
        for text in ax.texts:
            room = text.get_window_extent()
            middle = (room.x0 + room.x1) / 2, (room.y0 + room.y1) / 2
            around = [box for box in boxes if box.contains(*middle)]
            if around and "\n" in text.get_text():
                tightest = min(around, key=lambda box: box.width * box.height)
                assert room.x0 >= tightest.x0 and room.x1 <= tightest.x1, text.get_text()
