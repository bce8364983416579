"""Do the parts of a pipeline fit together? And the sampler that fits a model. Chapter 11."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from minildm.configuration.kinds import as_float, is_count
from minildm.configuration.mixins import given_keys
from minildm.models.autoencoder import AutoencoderKL
from minildm.models.unet import UNet2DConditionModel
from minildm.schedulers.base import Scheduler
from minildm.schedulers.samplers import SAMPLERS, SPACED_SAMPLERS, SPACING_RULES
from minildm.text.text_encoder import CLIPTextModel
from minildm.text.tokenizer import CLIPTokenizer


def check_fit(
    vae: AutoencoderKL,
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    unet: UNet2DConditionModel,
):
    """ValueError if the parts are not of one Stable Diffusion model."""
    text, channels = text_encoder.config, vae.config.latent_channels
    for what, expected, got in (
        ("unet.in_channels", channels, unet.config.in_channels),
        ("unet.out_channels", channels, unet.config.out_channels),
        ("unet.cross_attention_dim", text.hidden_size, unet.config.cross_attention_dim),
        # Stable Diffusion's pipeline has only a scale
        ("vae.shift_factor", 0, vae.config.shift_factor or 0),
    ):
        if got != expected:
            raise ValueError(f"expected parts of one model, with {what} = {expected}, got {got}")
    most = (text.max_position_embeddings, text.vocab_size)
    has = (tokenizer.model_max_length, len(tokenizer))
    if has[0] > most[0] or has[1] > most[1]:
        raise ValueError(
            f"expected at most (tokens per prompt, vocabulary) = {most} of the tokenizer, got {has}"
        )


def check_prediction_type(card: Mapping[str, Any], scheduler: Scheduler) -> None:
    """ValueError if the card says that the U-Net was trained to predict something else than the
    scheduler reads."""
    said, read = card.get("prediction_type"), scheduler.config.get("prediction_type")
    if said is not None and read is not None and said != read:
        raise ValueError(
            f"expected a scheduler for the U-Net's prediction_type {said!r}, got one for {read!r}"
        )


def check_card(card: Mapping[str, Any]) -> None:
    """ValueError if what the card says to draw with is not of its kind."""
    for key in ("image_size", "num_inference_steps"):
        if not (card.get(key) is None or is_count(card[key])):
            expected = f"a whole {key} of 1 or more"
            raise ValueError(
                f"expected the card (minildm.json) to have {expected}, got {card[key]!r}"
            )
    try:
        check_guidance(card.get("guidance_scale", 1.0), card.get("guidance_start", 0.0))
    except ValueError as error:
        raise ValueError(f"the card (minildm.json): {error}") from None


def check_guidance(scale: object, start: object = 0.0) -> None:
    """ValueError unless the scale is a number that can weigh the prompt, and the start a part of
    the steps."""
    number = as_float(scale)
    if number is None or not 0 <= number < math.inf:
        got = repr(scale) if number is None else f"{number:g}"
        raise ValueError(
            f"expected a guidance_scale of 0 or more, got {got}; negative_prompt steers away"
        )
    part = as_float(start)
    if part is None or not 0 <= part < 1:
        raise ValueError(f"expected a guidance_start in [0, 1), a part of the steps, got {start!r}")


def sampler_like(scheduler: Scheduler, name: str) -> Scheduler:
    """The sampler called `name` for a model that was trained for `scheduler`; ValueError if it does
    not fit."""
    if name not in [*SAMPLERS, *SPACED_SAMPLERS]:
        known = ", ".join([*SAMPLERS, *SPACED_SAMPLERS])
        raise ValueError(f"expected a sampler of {known}, got {name!r}")
    plain, rule = SPACED_SAMPLERS.get(name, (name, None))
    kind = scheduler.prediction_type
    fitting = [each for each, class_ in SAMPLERS.items() if kind in class_.prediction_types]
    if scheduler.config.get("rescale_betas_zero_snr"):
        key = "rescale_betas_zero_snr"
        fitting = [each for each in fitting if key in SAMPLERS[each].arguments()]
    if plain not in fitting:
        raise ValueError(
            f"expected a sampler that fits this model, one of {', '.join(fitting)}, got {name!r}"
        )
    config = {"skip_prk_steps": True, **given_keys(scheduler.config), "prediction_type": kind}
    config |= {f"use_{each}_sigmas": each == rule for each in SPACING_RULES}
    # diffusers' names for the same two settings differ between its flow matching samplers
    shift = scheduler.config.get("shift", scheduler.config.get("flow_shift", 1.0))
    config |= {"shift": shift, "flow_shift": shift, "use_flow_sigmas": kind == "flow_prediction"}
    return with_latent_conventions(SAMPLERS[plain].from_config(config))


def with_latent_conventions(scheduler: Scheduler) -> Scheduler:
    """The scheduler with the two settings that diffusers' pipeline insists on, whatever its own
    configuration says: latents are not clipped to [-1, 1], and evenly spaced timesteps lead to 1,
    not to 0."""
    insisted = {"clip_sample": False, "steps_offset": 1}
    changes = {
        key: value
        for key, value in insisted.items()
        if key in scheduler.arguments() and scheduler.config[key] != value
    }
    return type(scheduler).from_config(scheduler.config, **changes) if changes else scheduler
