"""Low-rank adaptation: a trained network stays as it is, and some of its layers learn a little
beside it (Hu et al. 2021). Chapter 16.

The answer of a linear layer W gets a second term, s·B·(A·x), with A (rank, in) and B (out, rank). A
hook adds it, so the network keeps its parameters, their names and their bits; B begins at zero, so
at first nothing is added.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minildm.configuration.kinds import as_float
from minildm.files import card_entry, file_or_in, read_metadata, read_tensors, shown, write_tensors
from minildm.models.unet import UNet2DConditionModel
from minildm.state_dicts import check_dtype, describe_mismatch, describe_nonfinite
from minildm.text.text_encoder import CLIPTextModel

WEIGHTS_NAME = "pytorch_lora_weights.safetensors"  # diffusers' name for the file,
METADATA = "lora_adapter_metadata"  # and for what it keeps in it beside the tensors
PREFIXES = ("unet.", "text_encoder.")
KEY = re.compile(r"(unet|text_encoder)\.[\w.]+\.lora_[AB]\.weight")
UNET_TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
TEXT_TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj")
# Names in older files -> today's. The first six are diffusers', the last is transformers'.
OLDER_NAMES = {
    r"\.processor\.": ".",
    r"^(unet\..*\.to_[qkv])_lora\.": r"\1.lora.",
    r"^(unet\..*\.to_out)_lora\.": r"\1.0.lora.",
    r"^(text_encoder\..*)\.to_([qkv]|out)_lora\.": r"\1.\2_proj.lora.",
    r"\.(lora|lora_linear_layer)\.down\.": ".lora_A.",
    r"\.(lora|lora_linear_layer)\.up\.": ".lora_B.",
    r"^text_encoder\.text_model\.": "text_encoder.",
}
# settings that would change what is added
FOREIGN = ("use_rslora", "use_dora", "rank_pattern", "alpha_pattern")


class LoRALayer(nn.Module):
    """scale·B·(A·x) beside one linear layer: x (…, in) -> (…, out). Hu et al. 2021, eq. 3.

    It is computed where and in what precision x is, so that the layer's network may be moved.
    """

    def __init__(self, layer: nn.Linear, rank: int, generator: torch.Generator | None = None):
        super().__init__()
        self.lora_A = nn.Linear(layer.in_features, rank, bias=False)
        self.lora_B = nn.Linear(rank, layer.out_features, bias=False)
        nn.init.kaiming_uniform_(self.lora_A.weight, a=math.sqrt(5), generator=generator)
        nn.init.zeros_(self.lora_B.weight)
        self.to(layer.weight.device, layer.weight.dtype)
        self.scale = 1.0

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * F.linear(
            F.linear(x, self.lora_A.weight.to(x)), self.lora_B.weight.to(x)
        )

    def add(self, layer: nn.Linear, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        """The layer's forward hook."""
        return output + self(inputs[0]) if self.scale else output

    def delta(self) -> Tensor:
        """What it amounts to as a change of the layer's weight, (out, in)."""
        return self.scale * self.lora_B.weight @ self.lora_A.weight


class LoRA(nn.Module):
    """Low-rank terms beside the attention of a U-Net and, if one is given, of a text encoder; both
    become frozen.

    >>> lora = LoRA(pipeline.unet, rank=4)  # its parameters are the only ones left to train
    >>> lora.save_pretrained("style")

    rank: how many directions each layer may learn; alpha: the terms are scaled by alpha / rank
        (rank if not given)
    targets: the U-Net's layers, by the ends of their names
    """

    def __init__(
        self,
        unet: UNet2DConditionModel,
        text_encoder: CLIPTextModel | None = None,
        rank: int = 4,
        alpha: float | None = None,
        targets: Sequence[str] = UNET_TARGETS,
        text_targets: Sequence[str] = TEXT_TARGETS,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        if rank < 1:
            raise ValueError(f"expected a rank of 1 or more, got {rank}")
        self.rank = rank
        self.alpha = float(rank if alpha is None else alpha)
        if not math.isfinite(self.alpha):
            raise ValueError(f"expected a finite alpha, got {alpha}")
        self.strength = 1.0
        # by name, not as parts of this module
        self.layers: dict[str, nn.Linear] = find_layers("unet", unet, targets)
        if text_encoder is not None:
            self.layers |= find_layers("text_encoder", text_encoder, text_targets)
        if not self.layers:
            raise ValueError("expected the names of some layers as targets, got none")
        self.terms = nn.ModuleList(
            LoRALayer(layer, rank, generator) for layer in self.layers.values()
        )
        # each layer's weight before and after, while merged
        self.merged: list[tuple[Tensor, Tensor]] = []
        for network in (unet, text_encoder):
            if network is not None:
                network.requires_grad_(False)
        self.handles = [
            layer.register_forward_hook(term.add) for _, layer, term in self.named_layers()
        ]
        self.set_strength(1.0)

    def named_layers(self) -> Iterator[tuple[str, nn.Linear, LoRALayer]]:
        """Every layer with its name and its term."""
        for (name, layer), term in zip(self.layers.items(), self.terms, strict=True):
            assert isinstance(term, LoRALayer)
            yield name, layer, term

    def set_strength(self, strength: float) -> None:
        """How much of what was learnt is added: 1 all of it, 0 nothing; between, or beyond, as far
        as it goes."""
        if self.merged:
            raise ValueError("expected terms beside the layers, got merged ones: unmerge() first")
        self.strength = strength
        for _, _, term in self.named_layers():
            term.scale = strength * self.alpha / self.rank

    @torch.no_grad()
    def merge(self) -> None:
        """Add the terms to the layers' weights: the same function, as fast as it was without
        them."""
        self.set_strength(self.strength)
        for _, layer, term in self.named_layers():
            before = layer.weight.clone()
            layer.weight += term.delta().to(layer.weight.device)
            self.merged.append((before, layer.weight.clone()))
            term.scale = 0.0

    @torch.no_grad()
    def unmerge(self) -> None:
        """Put back the weights that were there before, to the last bit."""
        if not self.merged:
            raise ValueError("expected merged terms, got terms beside the layers: merge() first")
        weights = [layer.weight for layer in self.layers.values()]
        if not all(
            torch.equal(weight, after.to(weight))
            for weight, (_, after) in zip(weights, self.merged, strict=True)
        ):
            raise ValueError(
                "expected the weights that merge() left, got others: "
                "the last merged is unmerged first"
            )
        for weight, (before, _) in zip(weights, self.merged, strict=True):
            weight.copy_(before)
        self.merged = []
        self.set_strength(self.strength)

    def remove(self) -> None:
        """Leave the networks as they were; the terms remain here and can still be saved."""
        if self.merged:
            self.unmerge()
        for handle in self.handles:
            handle.remove()

    def tensors(self) -> dict[str, Tensor]:
        """A and B of every layer under the names that diffusers gives them."""
        return {
            f"{name}.{key}": tensor
            for name, _, term in self.named_layers()
            for key, tensor in term.state_dict().items()
        }

    def save_pretrained(
        self,
        folder: str | os.PathLike,
        dtype: torch.dtype | None = None,
        card: Mapping[str, object] | None = None,
    ) -> None:
        """Write the file that diffusers' `pipeline.load_lora_weights(folder)` opens.

        Without the entry beside the tensors diffusers takes alpha = rank, the scale 1.

        folder: or the file itself, whose name ends in .safetensors; card: what it keeps of how it
            came to be
        """
        check_dtype(dtype)
        file = Path(folder)
        file = file if file.suffix == ".safetensors" else file / WEIGHTS_NAME
        file.parent.mkdir(parents=True, exist_ok=True)
        settings = {}
        for prefix in PREFIXES:
            if names := [
                name.removeprefix(prefix) for name in self.layers if name.startswith(prefix)
            ]:
                options = {
                    "r": self.rank,
                    "lora_alpha": self.alpha,
                    "rank_pattern": {},
                    "target_modules": names,
                }
                settings |= {prefix + key: value for key, value in options.items()}
        metadata = {"format": "pt", METADATA: json.dumps(settings), **card_entry(card)}
        write_tensors(file, self.tensors(), metadata, dtype)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | os.PathLike,
        unet: UNet2DConditionModel,
        text_encoder: CLIPTextModel | None = None,
    ) -> LoRA:
        """The terms that ours or diffusers wrote, beside these networks. A file that is broken or
        of other networks: a ValueError of one line."""
        file = file_or_in(folder, WEIGHTS_NAME)
        tensors, settings = read_lora(file)
        names = sorted({key.partition(".lora_")[0] for key in tensors})
        layers = [
            [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
            for prefix in PREFIXES
        ]
        if layers[1] and text_encoder is None:
            raise ValueError(
                f"{file}: expected a text encoder too, since it has terms for one, got None"
            )
        rank = len(next(tensor for key, tensor in tensors.items() if "lora_A" in key))
        alphas = [
            settings.get(f"{prefix}lora_alpha", rank)
            for prefix, some in zip(PREFIXES, layers, strict=True)
            if some
        ]
        try:
            if alphas != alphas[:1] * len(alphas) or as_float(alphas[0]) is None:
                raise ValueError(f"expected one alpha, a number, got {alphas}")
            lora = cls(
                unet,
                text_encoder if layers[1] else None,
                rank=rank,
                alpha=alphas[0],
                targets=layers[0],
                text_targets=layers[1],
            )
            if mismatch := describe_mismatch(lora.tensors(), tensors):
                lora.remove()
                raise ValueError(f"expected terms of one rank for these networks, got {mismatch}")
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from None
        with torch.no_grad():
            for name, tensor in lora.tensors().items():
                tensor.copy_(tensors[name])
        return lora


def find_layers(prefix: str, network: nn.Module, targets: Sequence[str]) -> dict[str, nn.Linear]:
    """The linear layers whose names end in one of `targets`, each of which must find some."""
    found = {}
    for target in targets:
        matches = {
            n: layer for n, layer in network.named_modules() if f".{n}".endswith(f".{target}")
        }
        if not matches or not all(isinstance(layer, nn.Linear) for layer in matches.values()):
            raise ValueError(
                f"expected linear layers called {target!r} in the {prefix}, "
                f"got {list(matches) or 'none'}"
            )
        found |= {f"{prefix}.{name}": layer for name, layer in matches.items()}
    return found


def modern_key(key: str) -> str:
    """Today's name of a tensor; see OLDER_NAMES."""
    for old, new in OLDER_NAMES.items():
        key = re.sub(old, new, key)
    return key


def read_lora(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a LoRA file and the settings stored beside them, if any; both checked."""
    tensors = {modern_key(k): x for k, x in read_tensors(file, "LoRA weights").items()}
    text = read_metadata(file, "LoRA weights").get(METADATA, "{}")
    try:
        settings = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: expected settings as JSON, got: {error}") from None
    if not isinstance(settings, dict):
        raise ValueError(f"{file}: expected settings as a JSON object, got {settings!r:.40}")
    if foreign := [key for key in tensors or ["none"] if not KEY.fullmatch(key)]:
        raise ValueError(
            f"{file}: expected keys like unet.(...).to_q.lora_A.weight, got {shown(foreign[0])}"
        )
    for key, tensor in tensors.items():
        if tensor.ndim != 2 or not tensor.numel() or not tensor.is_floating_point():
            got = f"{tensor.dtype} of shape {tuple(tensor.shape)}"
            raise ValueError(f"{file}: expected a matrix of fractions as {shown(key)}, got {got}")
    if fault := describe_nonfinite(tensors):
        raise ValueError(f"{file}: expected finite numbers, got {fault}")
    if not any("lora_A" in key for key in tensors):
        raise ValueError(f"{file}: expected lora_A and lora_B of each layer, got lora_B alone")
    if changed := [key for key, value in settings.items() if key.endswith(FOREIGN) and value]:
        raise ValueError(
            f"{file}: expected plain LoRA, got {changed[0]} = {settings[changed[0]]!r}"
        )
    return tensors, settings
