#!/usr/bin/env bash
# diffusers 0.42.1 (seen 2026-11-30, with torch 2.14.1, Linux, Python 3.11): `subfolder` is passed
# over where the folder itself holds a model. `from_pretrained(folder, subfolder="ema")` of a folder
# on disk reads ema/config.json, but the weights of `folder`, if there are any: the place that was
# named is only looked at when the file is not found above it (`_get_model_file`, in
# utils/hub_utils.py). The documentation of `subfolder` says where the files lie, not that
# it comes second. From the Hub the subfolder is right. Two of one class, a network and the average
# of its weights below it: no error and no warning. Another class, a ControlNet below its U-Net:
# what has other names stays random, with a warning.
#
# Output seen:
#     ema: weights of ones were saved, and read: 0.0
#     opened by its own path: 1.0
#
# The path to the inner folder, without `subfolder`, is right, and what minildm's tests use.
# Downloads some GB on Linux. Exits 0 while it is so, 1 if it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "diffusers==0.42.1" "torch==2.14.1" "numpy==2.*"
"$folder/venv/bin/python" - "$folder/model" <<'PY'
import sys

import torch
from diffusers import UNet2DModel

folder = sys.argv[1]
for place, value in ((folder, 0.0), (f"{folder}/ema", 1.0)):
    unet = UNet2DModel(
        block_out_channels=(4,),
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        norm_num_groups=2,
        attention_head_dim=2,
    )
    for parameter in unet.parameters():
        torch.nn.init.constant_(parameter, value)
    unet.save_pretrained(place)


def read(*args: str, **options: str) -> float:
    weights = next(UNet2DModel.from_pretrained(*args, **options).parameters())
    return float(weights.detach().mean())


inner, by_path = read(folder, subfolder="ema"), read(f"{folder}/ema")
print(f"ema: weights of ones were saved, and read: {inner}")
print(f"opened by its own path: {by_path}")
sys.exit(not (inner == 0.0 and by_path == 1.0))
PY
