"""What reads the prompt."""

from minildm.text.bpe import ALPHABET, BOS, EOS, learn_merges, normalize, split_words
from minildm.text.text_encoder import (
    CLIPAttention,
    CLIPEncoder,
    CLIPEncoderLayer,
    CLIPTextEmbeddings,
    CLIPTextModel,
)
from minildm.text.tokenizer import CLIPTokenizer

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
