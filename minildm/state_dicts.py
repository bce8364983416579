"""What a file of weights has to hold: a network's tensors by name and shape, and what older files
call them (von Platen et al. 2022). Chapter 19."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

# Names that older checkpoints use -> today's. None: a buffer that is no longer stored.
LEGACY_NAMES: dict[str, str | None] = {
    r"^text_model\.": "",  # CLIPTextModel before transformers 5
    r"^embeddings\.position_ids$": None,  # CLIPTextModel before transformers 4.31
    # AutoencoderKL before diffusers 0.15, and the three below
    r"(attentions\.\d+)\.query\.": r"\1.to_q.",
    r"(attentions\.\d+)\.key\.": r"\1.to_k.",
    r"(attentions\.\d+)\.value\.": r"\1.to_v.",
    r"(attentions\.\d+)\.proj_attn\.": r"\1.to_out.0.",
}


def rename_legacy(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under today's names; see LEGACY_NAMES."""
    renamed = {}
    for key, tensor in state_dict.items():
        for pattern, replacement in LEGACY_NAMES.items():
            if key is not None and re.search(pattern, key):
                key = None if replacement is None else re.sub(pattern, replacement, key)
        if key is not None:
            renamed[key] = tensor
    return renamed


def describe_mismatch(expected: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> str:
    """How names and shapes of `got` differ from those `expected`, in a few words; "" if not at
    all."""
    missing = [key for key in expected if key not in got]
    unexpected = [key for key in got if key not in expected]
    if missing or unexpected:
        parts = [(len(missing), "missing", missing), (len(unexpected), "unexpected", unexpected)]
        return " and ".join(f"{n} {what} keys (first: {keys[0]})" for n, what, keys in parts if n)
    for key, tensor in expected.items():
        if tensor.shape != got[key].shape:
            return f"{key} of shape {tuple(got[key].shape)} instead of {tuple(tensor.shape)}"
    return ""


def check_dtype(dtype: torch.dtype | None) -> None:
    """ValueError unless weights can be of this dtype; in whole numbers little would be left of
    them."""
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ValueError(f"expected a floating-point dtype, like torch.float16, got {dtype!r}")
