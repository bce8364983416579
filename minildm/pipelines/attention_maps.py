"""Where a picture looks for each word while it is drawn (Hertz et al. 2023; Tang et al. 2023).
Chapter 09."""

from __future__ import annotations

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from minildm.models.attention import Attention, BasicTransformerBlock
from minildm.pipelines.stable_diffusion import StableDiffusionPipeline
from minildm.text.tokenizer import CLIPTokenizer


class AttentionMaps:
    """Keeps the cross-attention weights of every layer and step while the pipeline draws.

    >>> with AttentionMaps(pipeline) as maps:
    ...     images = pipeline("a small red three on the left", predict=maps.predict)
    >>> maps.heat().shape  # steps, pictures, tokens, H, W

    timesteps: the S timesteps at which the U-Net was asked
    layers: name -> (S, N, L, h, w), the mean over the heads, of the half that reads the prompt;
        over its L tokens a place's weights add up to 1

    All pictures have to be drawn in one batch.
    """

    def __init__(self, pipeline: StableDiffusionPipeline):
        self.pipeline = pipeline
        self.timesteps: list[int] = []
        self.layers: dict[str, Tensor] = {}
        self.count = 0  # of the pictures; they are the last rows of what the U-Net sees
        self.latent_size = (0, 0)
        self._kept: dict[str, list[Tensor]] = {}
        self._handles: list = []

    def __enter__(self) -> AttentionMaps:
        for name, block in self.pipeline.unet.named_modules():
            if isinstance(block, BasicTransformerBlock):
                self._kept[name] = []
                self._handles.append(block.attn2.register_forward_hook(partial(self._keep, name)))
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()
        self.layers = {name: torch.stack(kept) for name, kept in self._kept.items() if kept}

    def predict(self, x: Tensor, t: Tensor, context: Tensor, guidance_scale: float) -> Tensor:
        """The pipeline's own prediction, and a note of what the U-Net cannot know: how many of its
        rows are pictures, and how large these are."""
        visits = (self.pipeline.scheduler.timesteps.long() == int(t)).sum()
        if self.timesteps.count(int(t)) >= visits:
            raise ValueError(
                f"expected one batch of pictures, got another after {len(self.timesteps)} steps"
            )
        self.timesteps.append(int(t))
        self.count, self.latent_size = len(x), (x.shape[2], x.shape[3])
        return self.pipeline.predict(x, t, context, guidance_scale)

    def _keep(
        self, name: str, layer: Attention, inputs: tuple[Tensor, Tensor], output: Tensor
    ) -> None:
        if not self.count:
            raise ValueError("expected a pipeline call with predict=maps.predict, got one without")
        latents, context = inputs
        weights = layer.get_attention_scores(latents[-self.count :], context[-self.count :])
        (height, width), places = self.latent_size, weights.shape[2]
        factor = math.sqrt(height * width / places)
        shape = (math.ceil(height / factor - 1e-6), math.ceil(width / factor - 1e-6))
        self._kept[name].append(weights.mean(1).mT.unflatten(2, shape))

    def heat(self, size: tuple[int, int] | None = None) -> Tensor:
        """The mean over the layers, each resized to `size`, the picture's if not given.

        (S, N, L, H, W).
        """
        if not self.layers:
            raise ValueError("expected a pipeline call inside `with AttentionMaps(…)`, got none")
        if size is None:
            factor, (height, width) = self.pipeline.vae.downscale_factor, self.latent_size
            size = (factor * height, factor * width)
        resized = [
            F.interpolate(maps.flatten(0, 1), size=size, mode="bilinear").unflatten(
                0, maps.shape[:2]
            )
            for maps in self.layers.values()
        ]
        return torch.stack(resized).mean(0)


def word_positions(tokenizer: CLIPTokenizer, prompt: str) -> list[tuple[str, slice]]:
    """Each word of the prompt and the places of its tokens in the context; what is cut off has
    none.

    >>> word_positions(tokenizer, "a red three")
    [('a', slice(1, 2)), ('red', slice(2, 3)), ('three', slice(3, 4))]
    """
    last = tokenizer.model_max_length - 1  # there stands the end, at the latest
    found, begin = [], 1  # after the start
    for word in tokenizer.words(prompt):
        end = begin + len(tokenizer.tokenize(word))
        if end > last:
            break
        found.append((word, slice(begin, end)))
        begin = end
    return found
