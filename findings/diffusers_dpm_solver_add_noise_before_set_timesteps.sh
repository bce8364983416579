#!/usr/bin/env bash
# diffusers 0.42.1 (seen 2026-11-30, with torch 2.14.1, Linux, Python 3.11): before set_timesteps
# DPMSolverMultistepScheduler.add_noise adds the noise of the other end. Its constructor makes
# `timesteps` fall, 999 … 0, but leaves `sigmas` rising, and add_noise looks one up by the place of
# the other: timestep t gets what timestep 999 - t should have. set_timesteps makes both fall, and
# mends it. No warning is given. A network that is trained with the scheduler it will be sampled
# with, which its comments foresee ("begin_index is None when the scheduler is used for training"),
# is told the wrong timestep of everything it sees.
#
# Noise of 1 is added to 0, so what comes out is how much noise there is. Output seen:
#     DDPMScheduler                                 10: 0.047   900: 1.000
#     DPMSolverMultistepScheduler                   10: 1.000   900: 0.321
#     DPMSolverMultistepScheduler, set_timesteps    10: 0.047   900: 1.000
#
# minildm's has both tables in one order from the beginning. Downloads some GB on Linux. Exits 0
# while it is so, 1 if it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "diffusers==0.42.1" "torch==2.14.1" "numpy==2.*"
"$folder/venv/bin/python" - <<'PY'
import sys

import torch
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler

timesteps = torch.tensor([10, 900])


def noise_at(name, scheduler):
    """Print and return how much noise there is at the two timesteps."""
    added = scheduler.add_noise(torch.zeros(2, 1), torch.ones(2, 1), timesteps).flatten().tolist()
    print(f"{name:43} {timesteps[0]:4}: {added[0]:.3f}  {timesteps[1]:4}: {added[1]:.3f}")
    return added


right = noise_at("DDPMScheduler", DDPMScheduler())
solver = DPMSolverMultistepScheduler()
wrong = noise_at("DPMSolverMultistepScheduler", solver)
solver.set_timesteps(1000)
mended = noise_at("DPMSolverMultistepScheduler, set_timesteps", solver)
sys.exit(not (wrong[0] > 0.99 and wrong[1] < 0.4 and abs(mended[0] - right[0]) < 1e-4))
PY
