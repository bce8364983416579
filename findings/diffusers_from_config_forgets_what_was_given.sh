#!/usr/bin/env bash
# diffusers 0.42.1 (seen 2026-11-30, with torch 2.14.1, Linux, Python 3.11): `from_config` drops
# three things that somebody did say, without a word.
#   1. An argument without its name. A configuration keeps which keys were left to their defaults,
#      `_use_default_values`, so that from_config does not hand them on; the list holds every key
#      that did not come by name.
#   2. A key that is put into a copy of a configuration, from_config({**other.config, key: value}):
#      the list comes along in the copy, and says that the key is a default.
#   3. Of a scheduler that says only how many timesteps it has, the schedule: DDPM's betas, to which
#      its network was trained, are defaults and not handed on; Heun's class has others.
# What is meant is got by name, from_config(other.config, key=value), and by naming every key.
#
# Output seen:
#     DDIMScheduler(100) -> 1000 timesteps, DDIMScheduler(num_train_timesteps=100) -> 100
#     timestep_spacing in a copy -> leading, by name -> trailing
#     DDPM's beta_end 0.02 -> Heun's 0.012
#
# minildm counts 1 and 2 as given; 3 is as here, so that the same words make the same sampler.
# Downloads some GB on Linux. Exits 0 while it is so, 1 if it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "diffusers==0.42.1" "torch==2.14.1" "numpy==2.*"
"$folder/venv/bin/python" - <<'PY'
import sys

from diffusers import DDIMScheduler, DDPMScheduler, HeunDiscreteScheduler


def again(scheduler):
    """How many timesteps one made from its configuration has."""
    return DDIMScheduler.from_config(scheduler.config).config.num_train_timesteps


counts = again(DDIMScheduler(100)), again(DDIMScheduler(num_train_timesteps=100))
print("DDIMScheduler(100) -> {} timesteps,".format(counts[0]), end=" ")
print("DDIMScheduler(num_train_timesteps=100) -> {}".format(counts[1]))

config, spacing = DDIMScheduler().config, {"timestep_spacing": "trailing"}
in_a_copy = DDIMScheduler.from_config({**config, **spacing})
by_name = DDIMScheduler.from_config(config, **spacing)
spacings = [each.config.timestep_spacing for each in (in_a_copy, by_name)]
print("timestep_spacing in a copy -> {}, by name -> {}".format(*spacings))

ddpm = DDPMScheduler(num_train_timesteps=1000)
ends = ddpm.config.beta_end, HeunDiscreteScheduler.from_config(ddpm.config).config.beta_end
print("DDPM's beta_end {} -> Heun's {}".format(*ends))
sys.exit((counts, spacings, ends) != ((1000, 100), ["leading", "trailing"], (0.02, 0.012)))
PY
