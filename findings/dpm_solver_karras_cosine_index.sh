#!/usr/bin/env bash
# diffusers 0.42.1 (seen 2026-11-30, with torch 2.14.1, Linux, Python 3.11): DPM-Solver++ with
# use_karras_sigmas or use_exponential_sigmas on beta_schedule="squaredcos_cap_v2" ends in an
# IndexError at its last step. Sigmas are spaced first, then turned into timesteps and rounded; on
# the cosine schedule the largest sigmas all lie within one timestep, so several steps have one
# timestep. Told it, the scheduler takes the second of them for the first step (a rule for pipelines
# that begin in the middle), and is one step too far at the end. No warning is given.
#
# Output seen:
#     squaredcos_cap_v2 karras: timesteps [998, 998, 998, 998, 997]…, IndexError
#     squaredcos_cap_v2 exponential: timesteps [998, 998, 998, 994, 974]…, IndexError
#     scaled_linear karras: timesteps [999, 941, 869, 776, 648]…, fine
#     scaled_linear exponential: timesteps [999, 900, 776, 614, 407]…, fine
#
# minildm counts its steps, draws with them, and says so when such a pipeline is saved. Downloads some
# GB on Linux. Exits 0 while it is so, 1 if it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "diffusers==0.42.1" "torch==2.14.1" "numpy==2.*"
"$folder/venv/bin/python" - 2> /dev/null <<'PY'
import sys

import torch
from diffusers import DPMSolverMultistepScheduler


def fails(schedule: str, rule: str) -> bool:
    scheduler = DPMSolverMultistepScheduler(beta_schedule=schedule, **{f"use_{rule}_sigmas": True})
    scheduler.set_timesteps(10)
    x, ended = torch.ones(1, 1, 2, 2), "fine"
    try:
        for t in scheduler.timesteps:
            x = scheduler.step(x, t, x).prev_sample
    except IndexError:
        ended = "IndexError"
    print(f"{schedule} {rule}: timesteps {scheduler.timesteps[:5].tolist()}…, {ended}")
    return ended != "fine"


rules = ("karras", "exponential")
cosine = [fails("squaredcos_cap_v2", rule) for rule in rules]
linear = [fails("scaled_linear", rule) for rule in rules]
sys.exit(not (all(cosine) and not any(linear)))
PY
