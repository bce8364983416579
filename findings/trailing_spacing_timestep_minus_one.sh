#!/usr/bin/env bash
# diffusers 0.42.1 (seen 2026-11-30, with torch 2.14.1, numpy 2, Linux, Python 3.11): with
# timestep_spacing="trailing" some numbers of steps visit one timestep more than asked, and it is -1.
# `set_timesteps` computes np.round(np.arange(T, 0, -T / n)) - 1, and where rounding leaves a last
# entry of nearly 0 in the range, there is one too many: of T = 1000 for 62 of the 1,000 possible n,
# from 61 steps on. No error follows: the network is asked at t = -1, and alphas_cumprod[-1] is
# that of the *noisiest* timestep, so that DDIM and DDPM end in a step as if all were noise again,
# and draw the mean of all pictures, every time.
#
# Told the exact noise of a Gaussian of mean 0.3 and deviation 0.5, DDIM draws, output seen:
#     60 steps: 60 timesteps, the last is 16; mean 0.291, deviation 0.492
#     61 steps: 62 timesteps, the last is -1; mean 0.300, deviation 0.001
#     62 of 1,000 numbers of steps end at -1: 61, 103, 121, 122, 201, ...
#
# minildm leaves the surplus entry out, and agrees with diffusers everywhere else. Downloads some GB
# on Linux. Exits 0 while it is so, 1 if it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "diffusers==0.42.1" "torch==2.14.1" "numpy==2.*"
"$folder/venv/bin/python" - <<'PY'
import sys

import torch
from diffusers import DDIMScheduler

MEAN, VARIANCE = 0.3, 0.25
scheduler = DDIMScheduler(timestep_spacing="trailing", clip_sample=False)


def draw(steps: int) -> float:
    """Print what is drawn; return its standard deviation, 0.5 if all is well."""
    scheduler.set_timesteps(steps)
    timesteps = scheduler.timesteps
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200_000, generator=generator, dtype=torch.float64)
    for t in timesteps:
        alpha = scheduler.alphas_cumprod[t].double()
        noise = (1 - alpha).sqrt() * (x - alpha.sqrt() * MEAN) / (alpha * VARIANCE + 1 - alpha)
        x = scheduler.step(noise, t, x).prev_sample
    seen = f"{len(timesteps)} timesteps, the last is {int(timesteps[-1])}"
    print(f"{steps} steps: {seen}; mean {x.mean():.3f}, deviation {x.std():.3f}")
    return float(x.std())


right, wrong = draw(60), draw(61)
bad = []
for steps in range(1, 1001):
    scheduler.set_timesteps(steps)
    if len(scheduler.timesteps) != steps and scheduler.timesteps[-1] == -1:
        bad.append(steps)
print(f"{len(bad)} of 1,000 numbers of steps end at -1: {', '.join(map(str, bad[:5]))}, ...")
sys.exit(not (abs(right - 0.5) < 0.02 and wrong < 0.1 and 61 in bad))
PY
