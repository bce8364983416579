"""Pictures that move under the reader's hand, with a kernel or without one (anywidget: Manz et al.
2024). Chapter 02.

All that a widget shows, or what it computes it from, travels with it, so that it moves in the
static book as in JupyterLab.
"""

from minildm.widgets.diagnosis import Diagnosis, Patient, diagnosis
from minildm.widgets.fields import FieldExplorer, field_explorer
from minildm.widgets.films import Films, sampler_race, trajectory_scrubber
from minildm.widgets.frames import FrameSlider, frame_slider
from minildm.widgets.latents import LatentExplorer, latent_explorer
from minildm.widgets.painter import MapPainter, MapStrip, map_painter
from minildm.widgets.playground import PromptPlayground, prompt_playground
from minildm.widgets.prompts import (
    GuidanceSlider,
    WordAttentionViewer,
    WordMaps,
    guidance_slider,
    word_attention_viewer,
)
from minildm.widgets.schedule import ScheduleDesigner, schedule_designer

__all__ = [
    "Diagnosis",
    "FieldExplorer",
    "Films",
    "FrameSlider",
    "GuidanceSlider",
    "LatentExplorer",
    "MapPainter",
    "MapStrip",
    "Patient",
    "PromptPlayground",
    "ScheduleDesigner",
    "WordAttentionViewer",
    "WordMaps",
    "diagnosis",
    "field_explorer",
    "frame_slider",
    "guidance_slider",
    "latent_explorer",
    "map_painter",
    "prompt_playground",
    "sampler_race",
    "schedule_designer",
    "trajectory_scrubber",
    "word_attention_viewer",
]
