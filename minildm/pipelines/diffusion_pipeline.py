"""What a pipeline is made of: parts that fit together, on a device and in a folder (von Platen et
al. 2022). How they draw, stable_diffusion.py says. Chapter 11."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch

from minildm.configuration.keywords import check_foreign
from minildm.models.autoencoder import AutoencoderKL
from minildm.models.unet import UNet2DConditionModel
from minildm.pipelines.checkpoints import COMPONENTS, find_model, load_parts, save_parts
from minildm.pipelines.compatibility import (
    check_card,
    check_fit,
    check_prediction_type,
    sampler_like,
    with_latent_conventions,
)
from minildm.schedulers.base import Scheduler
from minildm.state_dicts import check_dtype, chosen_dtype
from minildm.text.text_encoder import CLIPTextModel
from minildm.text.tokenizer import CLIPTokenizer


class DiffusionPipeline:
    """The parts of Stable Diffusion.

    card: what is known about the model: its data set, how it was trained, its default steps and
        guidance, its scores.
    """

    def __init__(
        self,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        unet: UNet2DConditionModel,
        scheduler: Scheduler,
        card: Mapping[str, Any] | None = None,
    ):
        check_fit(vae, text_encoder, tokenizer, unet)
        self.vae = vae
        self.text_encoder = text_encoder
        self.tokenizer = tokenizer
        self.unet = unet
        self.scheduler = with_latent_conventions(scheduler)
        self.card = dict(card or {})
        check_card(self.card)
        check_prediction_type(self.card, scheduler)

    @property
    def device(self) -> torch.device:
        return self.unet.device

    def to(
        self,
        device: torch.device | str | torch.dtype | None = None,
        dtype: torch.dtype | None = None,
    ) -> Self:
        """Move the three networks to a device, into a precision, or both; returns the pipeline."""
        if isinstance(device, torch.dtype):
            device, dtype = None, device
        check_dtype(dtype)
        for model in (self.vae, self.text_encoder, self.unet):
            model.to(device=device, dtype=dtype)
        return self

    def enable_attention_slicing(self, slice_size: int | str | None = "auto") -> None:
        """The same pictures in less memory; see `Attention.set_attention_slice`. None undoes it."""
        self.unet.set_attention_slice(slice_size)

    def use_sampler(self, name: str) -> Self:
        """Replace the scheduler by another, "ddim" say, for the same noise schedule; returns the
        pipeline."""
        self.scheduler = sampler_like(self.scheduler, name)
        return self

    @classmethod
    def from_pipe(cls, pipeline: DiffusionPipeline, **parts: object) -> Self:
        """The same pipeline with other parts, or as a subclass of its own; as in diffusers, what is
        not named is shared, and the one given stays as it is.

        Parts are taken as they come, past the constructor, which refuses some that do not fit and
        mends others: a U-Net may be any network that is called like one.
        """
        if unknown := parts.keys() - COMPONENTS.keys():
            got = ", ".join(sorted(unknown))
            raise ValueError(f"expected parts of {', '.join(COMPONENTS)}, got {got}")
        made = cls.__new__(cls)
        vars(made).update(vars(pipeline), card=dict(pipeline.card))
        vars(made).update(parts)
        return made

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: str | os.PathLike,
        dtype: torch.dtype | None = None,
        variant: str | None = None,
        torch_dtype: torch.dtype | None = None,
        **others: object,
    ) -> Self:
        """A shipped model by name ("mnist"), or the folder of a Stable Diffusion model that ours or
        diffusers wrote.

        dtype, variant: as for a model, of all three networks. others: parts to take instead of the
            folder's, `unet=…` say; and see `keywords.FOREIGN`
        """
        check_foreign(
            f"{cls.__name__}.from_pretrained",
            {key: value for key, value in others.items() if key not in COMPONENTS},
        )
        parts = load_parts(find_model(name_or_folder), chosen_dtype(dtype, torch_dtype), variant)
        parts.update((key, value) for key, value in others.items() if key in COMPONENTS)
        return cls(**parts)

    def save_pretrained(
        self,
        folder: str | os.PathLike,
        dtype: torch.dtype | None = None,
        variant: str | None = None,
        **foreign: object,
    ) -> None:
        """Write the folder that diffusers' `StableDiffusionPipeline.from_pretrained` opens, and the
        card.

        dtype: that of the files (float16 halves them), not of the networks.
        """
        check_foreign(f"{type(self).__name__}.save_pretrained", foreign)
        parts = {part: getattr(self, part) for part in COMPONENTS}
        save_parts(Path(folder), parts, self.card, dtype, variant)
