"""Keywords that diffusers' functions have and ours have not: which values of them ask for nothing
else than what happens anyway, and what to write instead (von Platen et al. 2022). Chapter 11."""

from __future__ import annotations

from collections.abc import Mapping

TENSORS = "a tensor itself is returned: leave out .sample, .prev_sample, .images and [0], too"
PICKLES = "weights lie in safetensors files, never in pickles"
LOCAL = "nothing is fetched: name a folder on this machine"
# keyword -> the values that change nothing here, and what to do about others
FOREIGN: dict[str, tuple[tuple[object, ...], str]] = {
    "return_dict": ((), TENSORS),
    "output_type": ((), "images are a tensor in [-1, 1]; minildm.data.to_pixels makes bytes of it"),
    "mask_image": ((), "write mask"),
    "callback_on_step_end": ((None,), "write callback"),
    "use_safetensors": ((True, None), PICKLES),
    "safe_serialization": ((True,), PICKLES),
    "local_files_only": ((True,), LOCAL),
    "revision": ((None,), LOCAL),
    "safety_checker": ((None,), "a picture needs none, and minildm passes over it"),
    "feature_extractor": ((None,), "a picture needs none, and minildm passes over it"),
    "requires_safety_checker": ((False,), "there is no safety checker"),
}


def check_foreign(function: str, given: Mapping[str, object]) -> None:
    """ValueError for a value that asks for something else; for a keyword that nobody knows
    TypeError, as Python has it."""
    for keyword, value in given.items():
        if keyword not in FOREIGN:
            raise TypeError(f"{function}() got an unexpected keyword argument {keyword!r}")
        harmless, instead = FOREIGN[keyword]
        if not any(value is each for each in harmless):
            raise ValueError(f"{function}: expected no {keyword}, got {value!r:.40}; {instead}")
