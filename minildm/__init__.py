"""Latent (Stable) Diffusion from scratch, with the names, shapes and numbers of the real thing (Rombach et al. 2022).

Chapter 00. A name below is imported when it is first used, so that `import minildm` and `minildm --help` cost nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_MODULE_OF = {
    "AutoencoderKL": "autoencoder",
    "CLIPTextModel": "text",
    "CLIPTokenizer": "tokenizer",
    "DDIMScheduler": "schedulers",
    "DDPMScheduler": "schedulers",
    "DPMSolverMultistepScheduler": "schedulers",
    "DiTTransformer2DModel": "dit",
    "EulerAncestralDiscreteScheduler": "schedulers",
    "EulerDiscreteScheduler": "schedulers",
    "FlowMatchEulerDiscreteScheduler": "schedulers",
    "HeunDiscreteScheduler": "schedulers",
    "LCMScheduler": "schedulers",
    "PNDMScheduler": "schedulers",
    "StableDiffusionPipeline": "pipeline",
    "UNet2DConditionModel": "unet",
    "UNet2DModel": "unet",
    "cifar10": "data",
    "fashion_mnist": "data",
    "mnist": "data",
}

__all__ = ["__version__", *_MODULE_OF]  # pyright: ignore[reportUnsupportedDunderAll]

if TYPE_CHECKING:  # the same names, for type checkers and editors
    from .autoencoder import AutoencoderKL as AutoencoderKL
    from .data import cifar10 as cifar10
    from .data import fashion_mnist as fashion_mnist
    from .data import mnist as mnist
    from .dit import DiTTransformer2DModel as DiTTransformer2DModel
    from .pipeline import StableDiffusionPipeline as StableDiffusionPipeline
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
    from .tokenizer import CLIPTokenizer as CLIPTokenizer
    from .unet import UNet2DConditionModel as UNet2DConditionModel
    from .unet import UNet2DModel as UNet2DModel


def __getattr__(name: str) -> Any:
    """Import a public name's module on first use (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'minildm' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"minildm.{_MODULE_OF[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
