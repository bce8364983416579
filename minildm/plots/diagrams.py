"""The machine as a picture, drawn from the objects themselves, with the shapes that they compute:
a U-Net, a transformer block, latent diffusion as a whole (Ronneberger et al. 2015; Vaswani et al.
2017; Rombach et al. 2022). Chapters 00, 04, 09 and 11.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial
from itertools import pairwise, zip_longest
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from minildm.models.attention import Attention, BasicTransformerBlock
from minildm.models.blocks import NoAttention
from minildm.models.unet import UNet2DConditionModel, UNetBase
from minildm.pipelines.stable_diffusion import StableDiffusionPipeline
from minildm.plots.boxes import WIDTH, Box, draw_arrow, draw_box, page
from minildm.plots.style import COLOURS, GREY

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Shapes = dict[str, tuple[int, ...]]

BLUE, RED, GREEN, _, ORANGE = COLOURS[:5]
RISE = 1.15  # inches from one level of a U to the next
ROW = 0.95  # and from one row of boxes


# ------------------------------------------------------------------------------------- the machine


def plot_pipeline(pipeline: StableDiffusionPipeline, num_inference_steps: int = 10) -> Figure:
    """Latent diffusion as a whole: who hands what to whom, after figure 3 of Rombach et al. 2022.

    Dashed is what only training does. The shapes are those of one picture.
    """
    unet, vae = pipeline.unet, pipeline.vae
    config = unet.config
    side = vae.config.sample_size
    image = f"{vae.config.in_channels} × {side} × {side}"
    latent = f"{config.in_channels} × {config.sample_size} × {config.sample_size}"
    length = pipeline.text_encoder.config.max_position_embeddings
    readers = sum(isinstance(layer, BasicTransformerBlock) for layer in unet.modules())
    with page(5 * ROW + 0.35) as (figure, ax):
        y = [figure.get_figheight() - 0.8 - ROW * i for i in range(5)]
        columns = {"pixel space": (0.8, 1.4), "latent space": (3.2, 1.7), "prompt": (5.4, 1.4)}
        for name, (x, width) in columns.items():
            room = width + (1.0 if name == "latent space" else 0.16)
            draw_box(ax, Box(x, (y[0] + y[4]) / 2, room, 4 * ROW + 0.8), "", GREY)
            ax.text(x, y[0] + 0.48, name, ha="center", color=GREY)

        def put(column: str, row: int, text: str, colour: str) -> Box:
            x, width = columns[column]
            return draw_box(ax, Box(x, y[row], width, 0.56), text, colour)

        real = put("pixel space", 0, f"picture x\n{image}", GREY)
        encoder = put("pixel space", 1, f"encoder\n{parameters(vae.encoder)}", GREEN)
        drawn = put("pixel space", 3, f"drawn picture\n{image}", GREY)
        decoder = put("pixel space", 4, f"decoder\n{parameters(vae.decoder)}", GREEN)
        z0 = put("latent space", 1, f"latent $z_0$\n{latent}", GREY)
        zt = put("latent space", 2, f"noisy latent $z_t$\n{latent}", GREY)
        predicting = put("latent space", 3, f"U-Net\n{parameters(unet)}", BLUE)
        step = put("latent space", 4, "scheduler\n$z_t$ → $z_{t-1}$", BLUE)
        prompt = put("prompt", 0, "a sentence", GREY)
        tokenizer = put("prompt", 1, f"tokenizer\n{length} token ids", RED)
        reader = put("prompt", 2, f"text encoder\n{parameters(pipeline.text_encoder)}", RED)
        context = put("prompt", 3, f"embeddings\n{length} × {config.cross_attention_dim}", GREY)

        for start, end in pairwise((prompt, tokenizer, reader, context)):
            draw_arrow(ax, start.bottom, end.top)
        draw_arrow(ax, real.bottom, encoder.top, dashed=True)
        draw_arrow(ax, encoder.right, z0.left, dashed=True)
        draw_arrow(ax, z0.bottom, zt.top, text="forward\ndiffusion", dashed=True)
        draw_arrow(ax, zt.bottom, predicting.top)
        draw_arrow(ax, predicting.bottom, step.top)
        draw_arrow(ax, context.left, predicting.right)
        blocks = f"keys and values\nof {readers} transformer\nblocks"
        ax.text(context.x, y[3] - 0.36, blocks, ha="center", va="top", fontsize=8.5)
        turn, up, down = 2.13, y[4] + 0.13, y[4] - 0.13
        draw_arrow(ax, (step.left[0], up), (turn, up), (turn, y[2]), zt.left)
        ax.text(turn, y[3], f"{num_inference_steps} ×", ha="center", va="center", fontsize=9,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 2})  # fmt: skip
        draw_arrow(ax, (step.left[0], down), (decoder.right[0], down))
        draw_arrow(ax, decoder.top, drawn.bottom)
    return figure


def plot_unet(unet: UNetBase, size: int | None = None) -> Figure:
    """The U: the contracting path goes down on the left, the expanding path comes up on the right,
    the skip connections cross over.

    A bar for each ResNet and each attention layer, as high as the image that leaves it and as wide
    as its channels. size: of the sample that is given; by default the U-Net's `sample_size`.
    """
    shapes, levels = unet_shapes(unet, size), len(unet.down_blocks)
    with page(0.85 + RISE * (levels + 1)) as (figure, ax):
        rows = [figure.get_figheight() - 1.05 - RISE * i for i in range(levels)]
        left, right, bottom = 1.2, WIDTH - 1.2, rows[-1] - RISE
        names = [(f"down_blocks.{i}", f"up_blocks.{levels - 1 - i}") for i in range(levels)]
        down = [draw_layers(ax, unet, names[i][0], shapes, left, rows[i]) for i in range(levels)]
        up = [draw_layers(ax, unet, names[i][1], shapes, right, rows[i]) for i in range(levels)]
        for i in range(levels):
            layers = layers_of(unet.get_submodule(names[i][1]))
            skips = sum(name.startswith("resnets") for name, _ in layers)  # one for each ResNet
            text = f"{skips} skip connections"
            draw_arrow(ax, down[i].right, up[i].left, text=text, colour=GREY, dashed=True)
        for i in range(levels - 1):
            draw_arrow(ax, down[i].bottom, down[i + 1].top)
            draw_arrow(ax, up[i + 1].top, up[i].bottom)
        if unet.mid_block is None:
            ends = ((left, bottom), (right, bottom))
            draw_arrow(ax, down[-1].bottom, *ends, up[-1].bottom)
        else:
            middle = draw_layers(ax, unet, "mid_block", shapes, WIDTH / 2, bottom)
            draw_arrow(ax, down[-1].bottom, (left, bottom), middle.left)
            draw_arrow(ax, middle.right, (right, bottom), up[-1].bottom)
        given = f"noisy sample\n{in_words((1, unet.config.in_channels, *shapes['conv_in'][2:]))}"
        answer = f"prediction\n{in_words(shapes['conv_out'])}"
        top = figure.get_figheight() - 0.25
        draw_arrow(ax, draw_box(ax, Box(left, top, 1.6, 0.42), given, GREY).bottom, down[0].top)
        draw_arrow(ax, up[0].top, draw_box(ax, Box(right, top, 1.6, 0.42), answer, GREY).bottom)
        width = unet.time_embedding.linear_2.out_features
        legend = [(BLUE, f"ResNet: reads the timestep, {width}")]
        if isinstance(unet, UNet2DConditionModel):
            dim = unet.config.cross_attention_dim
            legend += [(ORANGE, f"transformer: reads the prompt, L × {dim}")]
        elif any(kind(layer) == ORANGE for layer in unet.modules()):
            legend += [(ORANGE, "self-attention")]
        for i, (colour, text) in enumerate(legend):
            ax.text(0.05 + 3.0 * i, 0.05, "■", color=colour, fontsize=9)
            ax.text(0.22 + 3.0 * i, 0.05, text, fontsize=8.5)
    return figure


def plot_transformer_block(block: BasicTransformerBlock, tokens: int, length: int) -> Figure:
    """Where the queries, keys and values of a transformer block come from, and their shapes
    (heads × tokens × channels).

    tokens: how many an image has, H·W; length: how many a prompt has.
    """
    dim, width = block.attn1.to_q.in_features, block.attn2.to_k.in_features
    rows = [
        ("self-attention, attn1", BLUE, ("q, k, v", *heads(block.attn1, tokens, tokens))),
        ("cross-attention, attn2", ORANGE, ("q", *heads(block.attn2, tokens, length))),
        ("feed-forward, ff", GREEN, ("", "each token by itself")),
    ]
    with page(1.2 + 1.35 * len(rows)) as (figure, ax):
        height = figure.get_figheight()
        stream, middle = 0.8, 3.05
        start = draw_box(ax, Box(stream, height - 0.3, 1.4, 0.5), f"image\n{tokens} × {dim}", GREY)
        end = draw_box(ax, Box(stream, 0.3, 1.4, 0.5), f"image\n{tokens} × {dim}", GREY)
        above = start.bottom
        for i, (name, colour, (read, *lines)) in enumerate(rows):
            y = height - 1.25 - 1.35 * i
            box = draw_box(ax, Box(middle, y, 2.1, 1.0), "\n".join([name, *lines]), colour)
            into, back = y + 0.28, y - 0.28
            draw_arrow(ax, (stream, into), (box.left[0], into), text=f"norm{i + 1}   {read}")
            draw_arrow(ax, (box.left[0], back), (stream + 0.11, back))
            draw_arrow(ax, above, (stream, back + 0.11))
            ax.text(stream, back, "+", ha="center", va="center", fontsize=9,
                    bbox={"boxstyle": "circle,pad=0.15", "facecolor": "white"})  # fmt: skip
            above = (stream, back - 0.11)
            if name.startswith("cross"):
                prompt = Box(5.4, y, 1.3, 0.6)
                draw_box(ax, prompt, f"prompt\n{length} × {width}", RED)
                draw_arrow(ax, prompt.left, box.right, text="k, v")
        draw_arrow(ax, above, end.top)
    return figure


# -------------------------------------------------------------------------------- what is measured


def unet_shapes(unet: UNetBase, size: int | None = None) -> Shapes:
    """The shape of every layer's output, by the layer's name, for one sample of `size` x `size`.
    Nothing is computed: a copy without content is called, on the meta device."""
    size = size or unet.config.sample_size
    if not isinstance(size, int):
        raise ValueError(f"expected a size, as this U-Net's sample_size is {size}")
    sample = torch.empty(1, unet.config.in_channels, size, size, device="meta")
    if isinstance(unet, UNet2DConditionModel):
        given = torch.empty(1, 1, unet.config.cross_attention_dim, device="meta")
    else:
        labels = torch.zeros(1, dtype=torch.long, device="meta")
        given = labels if unet.config.num_class_embeds else None
    copied = copy.deepcopy(unet).to("meta")
    shapes: Shapes = {}

    def note(name: str, layer: nn.Module, inputs: object, output: Tensor | tuple) -> None:
        shapes[name] = tuple((output[0] if isinstance(output, tuple) else output).shape)

    for name, layer in copied.named_modules():
        layer.register_forward_hook(partial(note, name))
    with torch.no_grad():
        copied(sample, torch.empty(1, device="meta"), given)
    return shapes


def layers_of(block: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """A block's ResNets and attention layers, by name, in the order in which they are called."""
    resnets = block.get_submodule("resnets").named_children()
    attentions = block.get_submodule("attentions").named_children()
    for resnet, attention in zip_longest(resnets, attentions):
        yield f"resnets.{resnet[0]}", resnet[1]
        if attention is not None and not isinstance(attention[1], NoAttention):
            yield f"attentions.{attention[0]}", attention[1]


def heads(attention: Attention, tokens: int, length: int) -> tuple[str, str, str]:
    """The shapes of queries, of keys and values, and of the weights."""
    count = attention.heads
    channels = attention.to_q.out_features // count
    return (
        f"q: {count} × {tokens} × {channels}",
        f"k, v: {count} × {length} × {channels}",
        f"weights: {count} × {tokens} × {length}",
    )


def parameters(model: nn.Module) -> str:
    """How many, in millions."""
    return f"{sum(p.numel() for p in model.parameters()) / 1e6:.3g} M parameters"


def in_words(shape: tuple[int, ...]) -> str:
    """Of one sample: (1, 48, 8, 8) -> 48 × 8 × 8."""
    return " × ".join(map(str, shape[1:]))


def draw_layers(ax: Axes, unet: UNetBase, name: str, shapes: Shapes, x: float, y: float) -> Box:
    """A block's layers as bars in the order of their calls, its name above and the shape that
    leaves the last of them beneath; returns the room that it takes."""
    from matplotlib.patches import Rectangle

    layers = list(layers_of(unet.get_submodule(name)))
    shape = shapes[f"{name}.{layers[-1][0]}"]
    tall = 0.16 + 0.4 * (shape[-1] / shapes["conv_in"][-1])
    wide = 0.07 + 0.13 * shape[1] / max(unet.config.block_out_channels)
    step = wide + 0.05
    for i, (_, layer) in enumerate(layers):
        corner = (x - step * len(layers) / 2 + step * i, y - tall / 2)
        ax.add_patch(Rectangle(corner, wide, tall, color=kind(layer), linewidth=0))
    ax.text(x, y + tall / 2 + 0.04, name, ha="center", va="bottom", fontsize=7.5, color=GREY)
    ax.text(x, y - tall / 2 - 0.04, in_words(shape), ha="center", va="top", fontsize=8.5)
    return Box(x, y, step * len(layers) + 0.2, tall + 0.42)


def kind(layer: nn.Module) -> str:
    """The colour of a ResNet, or of attention in any of its forms."""
    return ORANGE if any(isinstance(part, Attention) for part in layer.modules()) else BLUE
