"""The text encoder: a causal transformer over tokens (Vaswani et al. 2017; CLIP, Radford et al.
2021). Chapters 08 and 09."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minildm.configuration.mixins import ModelMixin, register_to_config
from minildm.models.embeddings import rows_of


def quick_gelu(x: Tensor) -> Tensor:
    """x·sigmoid(1.702·x), the approximation of GELU that CLIP was trained with."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS = {"quick_gelu": quick_gelu, "gelu": F.gelu}


class CLIPTextEmbeddings(nn.Module):
    """Token plus position: (B, L) int -> (B, L, hidden_size)."""

    def __init__(self, vocab_size: int, hidden_size: int, max_position_embeddings: int):
        super().__init__()
        self.token_embedding = nn.Embedding(vocab_size, hidden_size)
        self.position_embedding = nn.Embedding(max_position_embeddings, hidden_size)
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.position_embedding.weight, std=0.02)

    def forward(self, input_ids: Tensor) -> Tensor:
        tokens = rows_of(self.token_embedding, input_ids, "input_ids")
        return tokens + self.position_embedding.weight[: input_ids.shape[1]]


class CLIPAttention(nn.Module):
    """Self-attention in which a token sees itself and those before it: (B, L, D) -> (B, L, D)."""

    def __init__(self, hidden_size: int, num_attention_heads: int):
        super().__init__()
        self.num_heads = num_attention_heads
        self.q_proj = nn.Linear(hidden_size, hidden_size)
        self.k_proj = nn.Linear(hidden_size, hidden_size)
        self.v_proj = nn.Linear(hidden_size, hidden_size)
        self.out_proj = nn.Linear(hidden_size, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            projection(x)
            .unflatten(-1, (self.num_heads, -1))
            .transpose(1, 2)  # (B, heads, L, D/heads)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out_proj(attended.transpose(1, 2).flatten(2))


class CLIPMLP(nn.Module):
    """Linear, activation, linear."""

    def __init__(self, hidden_size: int, intermediate_size: int, hidden_act: str):
        super().__init__()
        self.activation_fn = ACTIVATIONS[hidden_act]
        self.fc1 = nn.Linear(hidden_size, intermediate_size)
        self.fc2 = nn.Linear(intermediate_size, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.activation_fn(self.fc1(x)))


class CLIPEncoderLayer(nn.Module):
    """Attention, then the MLP; each normalises its input and adds to it."""

    def __init__(
        self,
        hidden_size: int,
        intermediate_size: int,
        num_attention_heads: int,
        hidden_act: str,
        eps: float,
    ):
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(hidden_size, eps)
        self.self_attn = CLIPAttention(hidden_size, num_attention_heads)
        self.layer_norm2 = nn.LayerNorm(hidden_size, eps)
        self.mlp = CLIPMLP(hidden_size, intermediate_size, hidden_act)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class CLIPEncoder(nn.Module):
    """The layers, one after the other."""

    def __init__(self, num_hidden_layers: int, *layer):
        super().__init__()
        self.layers = nn.ModuleList(CLIPEncoderLayer(*layer) for _ in range(num_hidden_layers))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class CLIPTextModel(ModelMixin, nn.Module):
    """Stable Diffusion's `text_encoder` (CompVis: `cond_stage_model`): a vector for every token."""

    weights_name = "model.safetensors"
    unsupported = {
        "attention_dropout": 0.0,
        "dropout": 0.0,
        "initializer_range": ...,  # how transformers draws new weights
        "initializer_factor": ...,
        "torch_dtype": ...,  # what the file happens to hold
        "dtype": ...,
        "transformers_version": ...,
    }
    # transformers 5 would open a float16 file as it is, and diffusers the other parts in float32
    stamp = {"dtype": "float32"}

    @register_to_config
    def __init__(
        self,
        vocab_size: int = 49408,
        hidden_size: int = 512,
        intermediate_size: int = 2048,
        projection_dim: int = 512,  # that of CLIP's joint space, which this model does not enter
        num_hidden_layers: int = 12,
        num_attention_heads: int = 8,
        max_position_embeddings: int = 77,
        hidden_act: str = "quick_gelu",
        layer_norm_eps: float = 1e-5,
        pad_token_id: int = 1,
        bos_token_id: int = 49406,
        eos_token_id: int = 49407,
    ):
        super().__init__()
        if hidden_act not in ACTIVATIONS:
            raise ValueError(
                f"expected hidden_act to be one of {', '.join(ACTIVATIONS)}, got {hidden_act!r}"
            )
        if hidden_size % num_attention_heads:
            raise ValueError(
                f"expected a hidden_size that {num_attention_heads} heads divide, got {hidden_size}"
            )
        self.embeddings = CLIPTextEmbeddings(vocab_size, hidden_size, max_position_embeddings)
        layer = (hidden_size, intermediate_size, num_attention_heads, hidden_act, layer_norm_eps)
        self.encoder = CLIPEncoder(num_hidden_layers, *layer)
        self.final_layer_norm = nn.LayerNorm(hidden_size, layer_norm_eps)

    @classmethod
    def identity(cls) -> dict:
        return {"model_type": "clip_text_model", "architectures": ["CLIPTextModel"]}

    def forward(self, input_ids: Tensor) -> Tensor:
        """The last hidden state (B, L, D) of input_ids (B, L) int.

        L: at most max_position_embeddings.
        """
        longest = self.config.max_position_embeddings
        if input_ids.ndim != 2 or input_ids.shape[1] > longest:
            raise ValueError(
                f"expected input_ids (B, L) with L at most {longest}, got {tuple(input_ids.shape)}"
            )
        return self.final_layer_norm(self.encoder(self.embeddings(input_ids)))

    def pool(self, last_hidden_state: Tensor, input_ids: Tensor) -> Tensor:
        """The hidden state at the first end-of-text token, which has seen the whole text.

        (B, L, D) -> (B, D).
        """
        if last_hidden_state.shape[:2] != input_ids.shape:
            got = f"{tuple(last_hidden_state.shape)} and {tuple(input_ids.shape)}"
            raise ValueError(f"expected states (B, L, D) of input_ids (B, L), got {got}")
        if self.config.eos_token_id == 2:
            # what CLIP's own configuration says by mistake: the end has the highest id
            ends = input_ids.argmax(dim=-1)
        else:
            ends = (input_ids == self.config.eos_token_id).int().argmax(dim=-1)
        return last_hidden_state[torch.arange(len(ends), device=ends.device), ends]
