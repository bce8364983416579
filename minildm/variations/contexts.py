"""Three ways to tell one U-Net what to draw: a class, one vector for the whole text, a vector for
every word (Ho & Salimans 2021; Rombach et al. 2022). Chapter 09.

All three are a context for cross-attention. One of a single token leaves its softmax nothing to
choose: what the token holds is added at every place alike, as a class embedding is. So the three
differ in the context and in nothing else.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from minildm.data.scene_captions import ABSENT, DIGITS, GROUNDS, INKS, PLACES, SIZES, Attributes
from minildm.diffusion.guidance import predict_guided, unconditional
from minildm.diffusion.sampling import sample
from minildm.models.unet import UNet2DConditionModel
from minildm.pipelines.stable_diffusion import StableDiffusionPipeline
from minildm.text.text_encoder import CLIPTextModel

THINGS = len(DIGITS) * len(INKS) * len(SIZES) * len(PLACES)  # kinds of digit: 600
NOTHING = THINGS + len(GROUNDS)  # the row of what is not there, or not said


class ClassContext(nn.Module):
    """A learnt vector for every kind of digit and one for every ground; a scene's are added up.

    (B, 3) -> (B, 1, D).
    """

    def __init__(self, dim: int):
        super().__init__()
        self.embedding = nn.Embedding(NOTHING + 1, dim, padding_idx=NOTHING)

    def forward(self, rows: Tensor) -> Tensor:
        return self.embedding(rows).sum(1, keepdim=True)


class PooledContext(nn.Module):
    """The text's last state, which has read all of it: input_ids (B, L) -> (B, 1, D)."""

    def __init__(self, text_encoder: CLIPTextModel):
        super().__init__()
        self.text_encoder = text_encoder

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.text_encoder.pool(self.text_encoder(input_ids), input_ids)[:, None]


def class_rows(attributes: Attributes) -> Tensor:
    """The rows of ClassContext for N scenes: the first digit, the second or NOTHING, the ground;
    (N, 3) int64."""
    digits, colours, sizes, places, ground = attributes
    kind = ((digits * len(INKS) + colours) * len(SIZES) + sizes) * len(PLACES) + places
    kind = torch.where(digits == ABSENT, NOTHING, kind)
    return torch.cat([kind, THINGS + ground[:, None]], dim=1)


@torch.no_grad()
def sample_with_context(
    pipeline: StableDiffusionPipeline,
    unet: UNet2DConditionModel,
    reader: nn.Module,
    asked: Tensor,
    nothing: Tensor,
    noise: Tensor,
    guidance_scale: float = 2.0,
    num_inference_steps: int = 15,
) -> Tensor:
    """Pictures (N, C, H, W) in [-1, 1] by this U-Net and what it was trained to read; all else is
    the pipeline's.

    reader: what makes the context, of the numbers `asked` (N, …) and of those for no prompt,
        `nothing` (…).
    """
    context = reader(torch.cat([unconditional(nothing, asked), asked])).unflatten(0, (2, -1))

    def predict(x: Tensor, t: Tensor) -> Tensor:
        return predict_guided(unet, x, t, context, scales=[guidance_scale])

    return pipeline.decode(sample(predict, pipeline.scheduler, noise, num_inference_steps))
