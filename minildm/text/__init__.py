"""What reads the prompt."""

from minildm.text.text_encoder import (
    CLIPAttention,
    CLIPEncoder,
    CLIPEncoderLayer,
    CLIPTextEmbeddings,
    CLIPTextModel,
)
from minildm.text.tokenizer import (
    ALPHABET,
    BOS,
    EOS,
    CLIPTokenizer,
    learn_merges,
    normalize,
    split_words,
)

__all__ = [
    "ALPHABET",
    "BOS",
    "CLIPAttention",
    "CLIPEncoder",
    "CLIPEncoderLayer",
    "CLIPTextEmbeddings",
    "CLIPTextModel",
    "CLIPTokenizer",
    "EOS",
    "learn_merges",
    "normalize",
    "split_words",
]
