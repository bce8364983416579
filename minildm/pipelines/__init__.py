"""From a prompt to a picture, and the folders that models are kept in."""

from minildm.pipelines.attention_maps import AttentionMaps, word_positions
from minildm.pipelines.autoguidance import AutoguidedPipeline
from minildm.pipelines.checkpoints import WEIGHTS, shipped, shipped_models
from minildm.pipelines.distilled import timestep_cond
from minildm.pipelines.stable_diffusion import GuidedPredict, StableDiffusionPipeline
from minildm.pipelines.start import StartingImage

__all__ = [
    "AttentionMaps",
    "AutoguidedPipeline",
    "GuidedPredict",
    "StableDiffusionPipeline",
    "StartingImage",
    "WEIGHTS",
    "shipped",
    "shipped_models",
    "timestep_cond",
    "word_positions",
]
