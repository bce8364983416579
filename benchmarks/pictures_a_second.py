"""Pictures a second of every way to draw a digit that the course has, each in turn in one process.

    python benchmarks/pictures_a_second.py [--rounds 5] [--number 250] [--threads 2]

Ours as it is shipped, and with guidance in every step, as in diffusers; diffusers' pipeline with
the same weights, steps and guidance, which must draw the same pictures; the students in a few steps
and in one; the GAN of chapter 13, untrained, which is as fast. What the arithmetic is worth: the
operations of one drawing are counted as it runs, and a matrix product is timed in every round.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

import torch
from diffusers import StableDiffusionPipeline as Diffusers
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from training_step import matmul_speed

from minildm import StableDiffusionPipeline
from minildm.evaluation import balanced_prompts
from minildm.pipelines import shipped, shipped_models
from minildm.variations import GANGenerator, sample_gan

Draw = Callable[[], Tensor]


def of_ours(name: str, number: int, **options: object) -> tuple[Draw, nn.Module]:
    """A drawing of one of our models, (number, 1, 32, 32) in [0, 1], and its U-Net."""
    pipeline = StableDiffusionPipeline.from_pretrained(name)
    prompts, _ = balanced_prompts("mnist", number)

    def draw() -> Tensor:
        dice = torch.Generator().manual_seed(0)
        return pipeline(prompts, generator=dice, progress=False, **options) / 2 + 0.5

    return draw, pipeline.unet


def of_diffusers(name: str, number: int) -> tuple[Draw, nn.Module]:
    """The same by diffusers, from the same noise, with the card's steps and guidance."""
    pipeline = Diffusers.from_pretrained(shipped(name))
    pipeline.set_progress_bar_config(disable=True)
    ours = StableDiffusionPipeline.from_pretrained(name)
    prompts, _ = balanced_prompts("mnist", number)
    options = {key: ours.card[key] for key in ("num_inference_steps", "guidance_scale")}

    def draw() -> Tensor:
        noise = ours.starting_noise(number, generator=torch.Generator().manual_seed(0))
        return pipeline(prompts, latents=noise, output_type="pt", **options).images[:, :1]

    return draw, pipeline.unet


def of_gan(number: int) -> tuple[Draw, None]:
    """A drawing of the GAN of chapter 13, of which no trained one is shipped."""
    network = GANGenerator().to(memory_format=torch.channels_last).eval()
    labels = torch.arange(number) % 10
    return lambda: sample_gan(network, labels, torch.Generator().manual_seed(0)) / 2 + 0.5, None


def counted(draw: Draw, unet: nn.Module | None) -> tuple[Tensor, float, int]:
    """One drawing, how often it asked the U-Net for each picture, and its operations."""
    rows = []
    if unet is not None:
        hook = unet.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    with FlopCounterMode(display=False) as counter:
        pictures = draw()
    if unet is not None:
        hook.remove()
    return pictures, sum(rows) / len(pictures), counter.get_total_flops()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="timed drawings of each (default 5)")
    parser.add_argument("--number", type=int, default=250, help="pictures at a time (default 250)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    print(f"load before it begins (1, 5, 15 minutes): {load}", flush=True)

    number = options.number
    guidance = StableDiffusionPipeline.from_pretrained("mnist").card["guidance_scale"]
    rivals = {
        "minildm": of_ours("mnist", number),
        "minildm, every step guided": of_ours("mnist", number, guidance_scale=guidance),
        "diffusers, every step guided": of_diffusers("mnist", number),
        **{
            f"minildm, {name}": of_ours(name, number)
            for name in ("mnist-lcm", "mnist-one-step")
            if name in shipped_models()
        },
        "GAN": of_gan(number),
    }
    pictures, evaluations, operations = {}, {}, {}
    for name, rival in rivals.items():  # this warms up, too
        pictures[name], evaluations[name], operations[name] = counted(*rival)
    ours, theirs = "minildm, every step guided", "diffusers, every step guided"
    torch.testing.assert_close(pictures[ours], pictures[theirs], rtol=0, atol=1e-3)

    speeds, seconds = [], {name: [] for name in rivals}
    for _ in range(options.rounds):  # in turn, so that a slow moment of the machine meets all alike
        speeds.append(matmul_speed())
        for name, (draw, _) in rivals.items():
            start = time.perf_counter()
            draw()
            seconds[name].append(time.perf_counter() - start)

    speed = statistics.median(speeds)
    print(f"{number} pictures at a time, {options.threads} threads, ", end="")
    print(f"matmul {speed / 1e9:.0f} GFLOP/s, torch {torch.__version__}")
    heads = ("pictures/s", "U-Net calls", "MFLOP each", "GFLOP/s", "of matmul", "of minildm's")
    print(f"{'':30}" + "".join(f"{head:>13}" for head in heads))
    for name, times in seconds.items():
        usual = zip(seconds["minildm"], times, strict=True)
        ratio = statistics.median(a / b for a, b in usual)
        median, work = statistics.median(times), operations[name]
        print(
            f"{name:30}{number / median:13.0f}{evaluations[name]:13.0f}{work / number / 1e6:13.0f}"
            f"{work / median / 1e9:13.0f}{work / median / speed:13.0%}{ratio:11.2f} ×"
        )
    ratios = [b / a for a, b in zip(seconds[ours], seconds[theirs], strict=True)]
    print(f"minildm is {statistics.median(ratios):.2f} × diffusers, every step guided")


if __name__ == "__main__":
    main()
