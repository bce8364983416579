"""Does a model draw what a caption says, and what no caption of its training ever said? Chapters 09
and 10.

Each kind of prompt is scored alone, beside as many real scenes with the very same captions: what
the scorer misreads there, no model can be blamed for.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from minildm.data.datasets import mnist
from minildm.data.scene_captions import Attributes, write
from minildm.data.scenes import DigitScenes, sample_attributes
from minildm.evaluation.drawings import draw_as_saved, footer, provenance
from minildm.evaluation.scene_metrics import SceneScores, score_scenes
from minildm.models.classifier import ImageClassifier
from minildm.pipelines.stable_diffusion import StableDiffusionPipeline

# The kinds of prompt: the split they are drawn from, and how many digits they speak of.
KINDS = {
    "one digit": ("seen", 1),
    "one digit, new colour": ("held_out_colour", 1),
    "one digit, new place": ("held_out_place", 1),
    "two digits": ("seen", 2),
    "two digits, new colour": ("held_out_colour", 2),
}


class SceneEvaluation(NamedTuple):
    """The scores of each kind of prompt, and all that a reader needs in order to take them
    again."""

    scores: dict[str, SceneScores]
    floor: dict[str, SceneScores]
    """Those of real scenes, painted from the test digits for the same captions."""
    samples: int
    """Of each kind."""
    seed: int
    sampler: str
    num_inference_steps: int
    guidance_scale: float
    guidance_start: float
    seconds: float
    """What drawing took, text and decoder included."""
    device: str
    parameters: dict[str, int]
    """Of each network."""

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, for a JSON file or a model's card."""
        tables = {
            name: {kind: s._asdict() for kind, s in getattr(self, name).items()}
            for name in ("scores", "floor")
        }
        return self._asdict() | tables

    def __str__(self) -> str:
        names = [name for name in SceneScores._fields if name != "map_iou"]
        lines = [
            f"{'':24}"
            + "".join(f"{name.replace('_', ' '):>11}" for name in names)
            + f"{'real':>11}"
        ]
        for kind, scores in self.scores.items():
            rates = [*(getattr(scores, name) for name in names), self.floor[kind].all_right]
            lines.append(f"{kind:24}" + "".join(f"{rate:>11.1%}" for rate in rates))
        return "\n".join([*lines, *footer(self, "samples of each kind")])


def scene_prompts(kind: str, samples: int, seed: int) -> tuple[list[str], Attributes]:
    """`samples` captions of one of the KINDS in the plain phrasing, and the attributes that they
    ask for."""
    split, count = KINDS[kind]
    attributes = sample_attributes(samples, torch.Generator().manual_seed(seed), split, count)
    return write(attributes), attributes


def evaluate_scenes(
    pipeline: StableDiffusionPipeline,
    samples: int,
    seed: int,
    num_inference_steps: int,
    guidance_scale: float,
    examiner: ImageClassifier,
    progress: bool = True,
    guidance_start: float = 0.0,
) -> SceneEvaluation:
    """Draw `samples` // 5 pictures of each of the five KINDS of prompt, and read them. The
    examiner: MNIST's."""
    each = samples // len(KINDS)
    if each < 1 or samples % len(KINDS):
        raise ValueError(
            f"expected a number of samples that is a multiple of {len(KINDS)} kinds, got {samples}"
        )
    real, scores, floor, seconds = DigitScenes(mnist("test")), {}, {}, 0.0
    generator = torch.Generator().manual_seed(seed)
    for kind in KINDS:
        prompts, asked = scene_prompts(kind, each, seed)
        settings = (num_inference_steps, guidance_scale, generator, progress, None, guidance_start)
        images, took = draw_as_saved(pipeline, prompts, *settings)
        seconds += took
        scores[kind] = score_scenes(examiner, images, asked)
        floor[kind] = score_scenes(examiner, real.draw(asked, generator).images, asked)
    return SceneEvaluation(
        scores=scores,
        floor=floor,
        samples=each,
        seed=seed,
        num_inference_steps=num_inference_steps,
        guidance_scale=guidance_scale,
        guidance_start=guidance_start,
        seconds=seconds,
        **provenance(pipeline),
    )
