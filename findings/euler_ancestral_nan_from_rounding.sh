#!/usr/bin/env bash
# diffusers 0.42.1 (seen 2026-11-30, with torch 2.14.1, Linux, Python 3.11): three steps of
# EulerAncestralDiscreteScheduler on the cosine schedule ("squaredcos_cap_v2") with trailing spacing
# draw NaN, two and four do not. A step goes down to sigma_down = sqrt(sigma_to**2 - sigma_up**2).
# From the first sigma, 20,291, to the next, 1.75, both squares are equal to the last digit of float32
# but one, and rounding makes the difference negative. Any long first step may meet it.
#
# Output seen:
#     2 steps: sigmas 20291.3, 1.01, 0; finite
#     3 steps: sigmas 20291.3, 1.75, 0.588, 0; NaN
#     4 steps: sigmas 20291.3, 2.44, 1.01, 0.425, 0; finite
#
# minildm takes 0 where the difference is negative. Downloads some GB on Linux. Exits 0 while it is
# so, 1 if it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "diffusers==0.42.1" "torch==2.14.1" "numpy==2.*"
"$folder/venv/bin/python" - <<'PY'
import sys

import torch
from diffusers import EulerAncestralDiscreteScheduler


def draw(steps: int) -> bool:
    """Print the sigmas; is what is drawn finite, of a network that says 0?"""
    scheduler = EulerAncestralDiscreteScheduler(
        beta_schedule="squaredcos_cap_v2", timestep_spacing="trailing"
    )
    scheduler.set_timesteps(steps)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, generator=generator) * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        said = torch.zeros_like(scheduler.scale_model_input(x, t))
        x = scheduler.step(said, t, x, generator=generator).prev_sample
    sigmas = ", ".join(f"{sigma:.6g}" if sigma > 9 else f"{sigma:.3g}" for sigma in scheduler.sigmas)
    print(f"{steps} steps: sigmas {sigmas}; {'finite' if x.isfinite().all() else 'NaN'}")
    return bool(x.isfinite().all())


sys.exit([draw(steps) for steps in (2, 3, 4)] != [True, False, True])
PY
