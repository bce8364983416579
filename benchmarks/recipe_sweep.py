"""How the `mnist` recipe was chosen: variants of it, each trained from random weights for equal
time, and scored.

    python benchmarks/recipe_sweep.py [--minutes 4] [--out runs/sweep] [VARIANT ...]

A variant that was interrupted goes on where it was; one that is finished is only scored again.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from minildm.evaluation import evaluate
from minildm.training import Recipe, train

BASE = Recipe()
VARIANTS = {
    "recipe": BASE,
    "latents-8x8x4": replace(  # a factor of 4 instead of 8
        BASE,
        vae={
            **BASE.vae,
            "down_block_types": ("DownEncoderBlock2D",) * 3,
            "up_block_types": ("UpDecoderBlock2D",) * 3,
            "block_out_channels": (8, 16, 32),
            "latent_channels": 4,
        },
        unet={**BASE.unet, "sample_size": 8},
    ),
    "latents-4x4x16": replace(BASE, vae={**BASE.vae, "latent_channels": 16}),
    "wider": replace(BASE, unet={**BASE.unet, "block_out_channels": (64, 128)}),
    "narrower": replace(BASE, unet={**BASE.unet, "block_out_channels": (32, 64)}),
    "attention-everywhere": replace(
        BASE,
        unet={
            **BASE.unet,
            "down_block_types": ("CrossAttnDownBlock2D",) * 2,
            "up_block_types": ("CrossAttnUpBlock2D",) * 2,
        },
    ),
    "batches-of-64": replace(BASE, autoencoder=replace(BASE.autoencoder, batch_size=64)),
    "batches-of-32": replace(BASE, denoiser=replace(BASE.denoiser, batch_size=32)),
    "less-kl": replace(BASE, kl_weight=1e-3),
    "more-kl": replace(BASE, kl_weight=2e-2),
    "no-perceptual": replace(BASE, perceptual_weight=0.0),
    "epsilon": replace(BASE, scheduler={**BASE.scheduler, "prediction_type": "epsilon"}),
    "scaled-linear": replace(
        BASE,
        scheduler={
            **BASE.scheduler,
            "beta_schedule": "scaled_linear",
            "beta_start": 0.00085,
            "beta_end": 0.012,
        },
    ),
    "slower": replace(BASE, denoiser=replace(BASE.denoiser, learning_rate=1e-3)),
    "no-ema": replace(BASE, denoiser=replace(BASE.denoiser, ema=0.0)),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "variants", nargs="*", metavar="VARIANT", help=f"of: {', '.join(VARIANTS)} (default: all)"
    )
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--guidance", type=float, nargs="+", default=[1.0, 1.5, 1.75, 2.0])
    parser.add_argument("--out", type=Path, default=Path("runs/sweep"))
    options = parser.parse_args()
    if unknown := set(options.variants) - set(VARIANTS):
        parser.error(
            f"expected variants of {', '.join(VARIANTS)}, got {', '.join(sorted(unknown))}"
        )

    print(
        f"{'variant':22}{'steps':>18}{'guidance':>10}{'accuracy':>10}{'Fréchet':>9}{'x floor':>9}"
    )
    for name in options.variants or VARIANTS:
        pipeline = train(
            VARIANTS[name], options.out / name, options.minutes, resume=True, device="cpu"
        )
        steps = "/".join(map(str, pipeline.card["steps"].values()))
        for guidance in options.guidance:
            result = evaluate(pipeline, 1000, guidance_scale=guidance, progress=False)
            scores, ratio = result.scores, result.scores.frechet / result.floor.frechet
            print(
                f"{name:22}{steps:>18}{guidance:10g}{scores.accuracy:10.1%}{scores.frechet:9.2f}{ratio:9.2f}"
            )


if __name__ == "__main__":
    main()
