#!/usr/bin/env bash
# diffusers 0.42.1 with transformers 5.24.0 (seen 2026-11-30, torch 2.14.1, Linux, Python 3.11): a
# Stable Diffusion pipeline that diffusers itself saved in float16 does not draw when it is opened
# without torch_dtype. transformers 5 opens the text encoder in the dtype that its config.json tells
# (float16), diffusers the other parts in float32, and the first prompt ends in a RuntimeError.
# Output seen:
#     opened: unet torch.float32, vae torch.float32, text_encoder torch.float16
#     RuntimeError: mat1 and mat2 must have the same dtype, but got Half and Float
#     opened: unet torch.float32, vae torch.float32, text_encoder torch.float32
#     with "dtype": "float32" in text_encoder/config.json: drawn, (1, 32, 32, 3)
#
# minildm writes that entry, whatever the dtype of the files, so that its folders open as they lie.
# Downloads some GB on Linux. Exits 0 while it is so, 1 if it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "diffusers==0.42.1" "transformers==5.24.0" "torch==2.14.1" "numpy==2.*"
cd "$folder"
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - 2> /dev/null <<'PY'
import json
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

words = ["a", "b", "<|startoftext|>", "<|endoftext|>"]
Path("vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
Path("merges.txt").write_text("#version: 0.2\n")
tokenizer = CLIPTokenizer("vocab.json", "merges.txt", model_max_length=8)
sizes = {"vocab_size": len(tokenizer), "hidden_size": 8, "intermediate_size": 8}
sizes |= {"num_hidden_layers": 1, "num_attention_heads": 1, "max_position_embeddings": 8}
ids = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 3}
pipeline = StableDiffusionPipeline(
    vae=AutoencoderKL(block_out_channels=(8,), norm_num_groups=4),
    text_encoder=CLIPTextModel(CLIPTextConfig(**sizes, **ids)),
    tokenizer=tokenizer,
    unet=UNet2DConditionModel(
        sample_size=32,
        block_out_channels=(8, 8),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=8,
        norm_num_groups=4,
        attention_head_dim=2,
    ),
    scheduler=DDIMScheduler(),
    safety_checker=None,
    feature_extractor=None,
    requires_safety_checker=False,
)
pipeline.to(torch.float16).save_pretrained("half")


def draw() -> str:
    opened = StableDiffusionPipeline.from_pretrained("half")
    names = ("unet", "vae", "text_encoder")
    print("opened:", ", ".join(f"{name} {getattr(opened, name).dtype}" for name in names))
    return str(opened("a", num_inference_steps=2, output_type="np").images.shape)


failed = False
try:
    draw()
except RuntimeError as error:
    failed = "must have the same dtype" in str(error)
    print(f"RuntimeError: {error}")
config = Path("half/text_encoder/config.json")
config.write_text(json.dumps(json.loads(config.read_text()) | {"dtype": "float32"}))
print('with "dtype": "float32" in text_encoder/config.json: drawn,', draw())
sys.exit(not failed)
PY
