"""Latent (Stable) Diffusion from scratch, with the names, shapes and numbers of the real thing
(Rombach et al. 2022). Chapter 00.

The package is read in this order, and a file uses only what stands above it:

    files errors device precision state_dicts testing
    configuration/ keywords kinds mixins
    data/         images captions datasets points scene_captions scenes clusters metadata layout
                  folder pictures picture_cache duplicates text_image maps
    diffusion/    schedules parameterization ideal guidance sampling
    schedulers/   timesteps returns base sigmas ddpm ddim pndm euler euler_ancestral heun
                  dpm_solver flow_match_euler lcm samplers
    models/       embeddings resnet attention blocks unet_encoder unet dit autoencoder vq classifier
                  mlp
    text/         bpe tokenizer_files tokenizer text_encoder
    pipelines/    checkpoints compatibility prompts start distilled diffusion_pipeline
                  stable_diffusion autoguidance attention_maps
    training/     losses objectives batches state trainer recipes own_pictures examiners runs
    evaluation/   metrics scene_metrics evaluation held_out baselines ablations costs diagnostics
                  faults
    variations/   contexts concatenation controlnet lora textual_inversion fitting additions lessons
                  distillation mean_flow distribution_matching gan
    plots/        style images curves bars tables points sampling boxes diagrams
    widgets/      page frames schedule films fields latents prompts painter playground diagnosis
    grading/      sandbox assignment release judging bounded_judge notes submission grade
                  trying rehearsal lms collecting classroom people tables adjustments marking
                  feedback handing_back overview gradebook cli
    cli/          app options data adding saving drawing scoring task teaching training

A name below is imported when it is first used, so that `import minildm` and `minildm --help` cost
nothing.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# How long torch's waiting threads stay awake: for a Python that was started before minildm was
# installed, if it imports this before torch. All others have it from scripts/minildm.pth.
if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
    os.environ["GOMP_SPINCOUNT"] = "10000"

_MODULE_OF = {
    "AutoencoderKL": "models",
    "CLIPTextModel": "text",
    "CLIPTokenizer": "text",
    "DDIMScheduler": "schedulers",
    "DDPMScheduler": "schedulers",
    "DPMSolverMultistepScheduler": "schedulers",
    "DiTTransformer2DModel": "models",
    "EulerAncestralDiscreteScheduler": "schedulers",
    "EulerDiscreteScheduler": "schedulers",
    "FlowMatchEulerDiscreteScheduler": "schedulers",
    "HeunDiscreteScheduler": "schedulers",
    "LCMScheduler": "schedulers",
    "PNDMScheduler": "schedulers",
    "StableDiffusionPipeline": "pipelines",
    "UNet2DConditionModel": "models",
    "UNet2DModel": "models",
    "cifar10": "data",
    "fashion_mnist": "data",
    "mnist": "data",
    "set_default_device": "device",
}

# What a table says, a checker does not follow; below it reads the same names once more.
__all__ = ["__version__", *_MODULE_OF]  # pyright: ignore[reportUnsupportedDunderAll]

if TYPE_CHECKING:  # the same names, for type checkers and editors
    from .data import cifar10 as cifar10
    from .data import fashion_mnist as fashion_mnist
    from .data import mnist as mnist
    from .device import set_default_device as set_default_device
    from .models import AutoencoderKL as AutoencoderKL
    from .models import DiTTransformer2DModel as DiTTransformer2DModel
    from .models import UNet2DConditionModel as UNet2DConditionModel
    from .models import UNet2DModel as UNet2DModel
    from .pipelines import StableDiffusionPipeline as StableDiffusionPipeline
    from .schedulers import DDIMScheduler as DDIMScheduler
    from .schedulers import DDPMScheduler as DDPMScheduler
    from .schedulers import DPMSolverMultistepScheduler as DPMSolverMultistepScheduler
    from .schedulers import EulerAncestralDiscreteScheduler as EulerAncestralDiscreteScheduler
    from .schedulers import EulerDiscreteScheduler as EulerDiscreteScheduler
    from .schedulers import FlowMatchEulerDiscreteScheduler as FlowMatchEulerDiscreteScheduler
    from .schedulers import HeunDiscreteScheduler as HeunDiscreteScheduler
    from .schedulers import LCMScheduler as LCMScheduler
    from .schedulers import PNDMScheduler as PNDMScheduler
    from .text import CLIPTextModel as CLIPTextModel
    from .text import CLIPTokenizer as CLIPTokenizer


def __getattr__(name: str) -> Any:
    """Import a public name's module on first use (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'minildm' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"minildm.{_MODULE_OF[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
