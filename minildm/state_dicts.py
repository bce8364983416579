"""What a file of weights has to hold: a network's tensors by name and shape, and what older files
call them (von Platen et al. 2022). Chapter 19."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from minildm.files import shown
from minildm.precision import at_least_float32

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
    """How names, shapes and kinds of number of `got` differ from those `expected`, in a few words;
    "" if not at all. Fractions of any precision are of one kind; BatchNorm's counter may be among
    them, as it is in a file of half precision."""
    missing = [key for key in expected if key not in got]
    unexpected = [key for key in got if key not in expected]
    if missing or unexpected:
        parts = [(len(missing), "missing", missing), (len(unexpected), "unexpected", unexpected)]
        return " and ".join(
            f"{n} {what} keys (first: {shown(keys[0])})" for n, what, keys in parts if n
        )
    for key, tensor in expected.items():
        if tensor.shape != got[key].shape:
            return f"{key} of shape {tuple(got[key].shape)} instead of {tuple(tensor.shape)}"
        fractions = got[key].is_floating_point() and (
            tensor.is_floating_point() or is_whole_counter(key, got[key])
        )
        if not fractions and tensor.dtype != got[key].dtype:
            return f"{key} of {got[key].dtype} instead of {tensor.dtype}"
    return ""


def is_whole_counter(key: str, tensor: Tensor) -> bool:
    """Is it BatchNorm's count of its batches, stored as a fraction that is none?"""
    return key.rpartition(".")[2] == "num_batches_tracked" and bool((tensor.frac() == 0).all())


def describe_nonfinite(tensors: Mapping[str, Tensor]) -> str:
    """The first of the tensors that holds NaN or infinity, in a few words; "" if none does."""
    for key, tensor in tensors.items():
        # the sum is quick, and finite only if all of its terms are
        if tensor.is_floating_point() and not at_least_float32(tensor).sum().isfinite():
            if not tensor.isfinite().all():
                kind = "NaN" if tensor.isnan().any() else "infinity"
                return f"{kind} in {shown(key)} ({tensor.dtype})"
    return ""


@contextmanager
def not_much_larger(weights: Mapping[str, Tensor]) -> Iterator[None]:
    """While a network for these weights is made in here, ValueError as soon as it is much larger: a
    configuration may ask for 10^6 layers. What is a little larger, `describe_mismatch` names."""
    held, numbers = len(weights), sum(tensor.numel() for tensor in weights.values())
    left = [2 * held + 100, 2 * numbers + 2**24]

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None:
            left[0] -= 1
            left[1] -= parameter.numel()  # whose memory nobody has touched yet
        if min(left) < 0:
            expected = f"a network for the weights beside it, {held} tensors of {numbers} numbers"
            raise ValueError(f"expected {expected}, got one more than twice as large")

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


def check_dtype(dtype: torch.dtype | None) -> None:
    """ValueError unless weights can be of this dtype; in whole numbers little would be left of
    them."""
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ValueError(f"expected a floating-point dtype, like torch.float16, got {dtype!r}")


def chosen_dtype(dtype: torch.dtype | None, torch_dtype: torch.dtype | None) -> torch.dtype | None:
    """The one given of two names for one argument, today's and the older, after a check."""
    if dtype is not None and torch_dtype is not None and dtype != torch_dtype:
        expected = "dtype, or torch_dtype, its older name"
        raise ValueError(f"expected {expected}, got {dtype} and {torch_dtype}")
    chosen = torch_dtype if dtype is None else dtype
    check_dtype(chosen)
    return chosen


def digest(tensors: Iterable[Tensor]) -> str:
    """The first half of the SHA-256 of these numbers: of a network's weights, say, by which what
    was learned beside it knows it."""
    sha = hashlib.sha256()
    for tensor in tensors:
        sha.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return sha.hexdigest()[:32]
