"""Byte-pair encoding, from text to token numbers and back, in CLIP's files (Sennrich et al. 2016;
Radford et al. 2019, 2021). Chapter 08.

A prompt is normalised and cut into words; the UTF-8 bytes of a word become its first pieces; then
the learned merges join neighbouring pieces, the earliest-learned merge first. Bytes make it
complete: every text has an encoding.
"""

from __future__ import annotations

import os
import re
import reprlib
import unicodedata
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minildm.files import read_json, write_json, write_text

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
# part of the piece that ends a word, so that "seven" and the "seven" of "seventy" differ
END_OF_WORD = "</w>"

# A visible character for every byte, since merges.txt separates by spaces: the byte's own Latin-1
# character where that is one that prints, else the next one from U+0100 on. This order is the order
# of CLIP's first 256 tokens.
_PRINTING = [
    *range(ord("!"), ord("~") + 1),
    *range(ord("¡"), ord("¬") + 1),
    *range(ord("®"), ord("ÿ") + 1),
]
_OTHERS = [byte for byte in range(256) if byte not in _PRINTING]
BYTE_TO_CHAR = {byte: chr(byte) for byte in _PRINTING} | {
    byte: chr(256 + i) for i, byte in enumerate(_OTHERS)
}
CHAR_TO_BYTE = {char: byte for byte, char in BYTE_TO_CHAR.items()}
ALPHABET = [*BYTE_TO_CHAR.values(), *(char + END_OF_WORD for char in BYTE_TO_CHAR.values())]

# English contractions, runs of letters, single digits, runs of anything else that is not white
# space. Python's patterns
# know no Unicode categories: this one is matched against a text in which letters etc. beyond ASCII
# have stand-ins.
WORD = re.compile(
    r"<\|startoftext\|>|<\|endoftext\|>|'(?:s|t|re|ve|m|ll|d)|[a-z]+|[0-9]|[^\sa-z0-9]+", re.ASCII
)
STAND_IN = {
    "L": "b",
    "N": "0",
    "Z": " ",
}  # letter ("b" is in none of the literal words above), number, space

SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token")


def normalize(text: str) -> str:
    """Unicode's composed form, lower case: "É" as one character or as two becomes the one "é"."""
    return "".join(
        char.lower() for char in unicodedata.normalize("NFC", text)
    )  # by character: no word-final sigma


def split_words(text: str) -> list[str]:
    """The words of a normalised text, in CLIP's sense: "it's 10!" -> ["it", "'s", "1", "0",
    "!"]."""
    words = []
    for match in WORD.finditer("".join(map(_stand_in, text))):
        word = text[match.start() : match.end()]
        # The name of a special token that only lower-casing made ("<|EndOfText|>") is three words.
        words += [word[:2], word[2:-2], word[-2:]] if word in (BOS, EOS) else [word]
    return words


def _stand_in(char: str) -> str:
    if char.isascii():
        return char
    return " " if char == "\x85" else STAND_IN.get(unicodedata.category(char)[0], "!")


def word_to_bytes(word: str) -> list[str]:
    """The pieces that merging starts from: "né" -> ["n", "Ã", "©</w>"]."""
    chars = [BYTE_TO_CHAR[byte] for byte in word.encode("utf-8")]
    return [*chars[:-1], chars[-1] + END_OF_WORD]


def merge_pair(pieces: Sequence[str], pair: tuple[str, str]) -> list[str]:
    """`pieces` with every occurrence of `pair`, from the left, joined into one piece."""
    merged, i = [], 0
    while i < len(pieces):
        found = tuple(pieces[i : i + 2]) == pair
        merged.append(pieces[i] + pieces[i + 1] if found else pieces[i])
        i += 2 if found else 1
    return merged


def learn_merges(words: Mapping[str, int], limit: int | None = None) -> list[tuple[str, str]]:
    """Byte-pair encoding's training: over and over, join the most frequent pair of neighbours into
    a new piece.

    words: how often each word occurs. Of equally frequent pairs the alphabetically first is taken,
    so that the result depends on nothing but the counts. Stops after `limit` merges, or when every
    word is one piece.
    """
    pieces = {word: word_to_bytes(word) for word in words}
    merges: list[tuple[str, str]] = []
    while limit is None or len(merges) < limit:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, count in words.items():
            for pair in pairwise(pieces[word]):
                pairs[pair] += count
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        pieces = {word: merge_pair(parts, best) for word, parts in pieces.items()}
    return merges


class CLIPTokenizer:
    """`tokenizer("a red seven")` -> (1, model_max_length) int64: start, the pieces of the words,
    end, padding.

    vocab: piece -> id. merges: pairs of pieces, the first learned first. known_words: the words of
    the training texts, empty if they were not kept. added_tokens: words of the vocabulary that are
    one token wherever they stand, however they are spelt (textual inversion's). Stable Diffusion 1
    pads with the end token, 2 with "!".
    """

    def __init__(
        self,
        vocab: Mapping[str, int],
        merges: Iterable[tuple[str, str]],
        model_max_length: int = 77,
        bos_token: str = BOS,
        eos_token: str = EOS,
        unk_token: str = EOS,
        pad_token: str = EOS,
        known_words: Collection[str] = (),
        added_tokens: Sequence[str] = (),
    ):
        if set(vocab.values()) != set(range(len(vocab))):
            raise ValueError(
                f"expected a vocabulary whose {len(vocab)} tokens are numbered from 0 without gaps"
            )
        self.vocab = dict(sorted(vocab.items(), key=lambda item: item[1]))
        self.merges = [tuple(merge) for merge in merges]
        self.model_max_length = _checked_length(model_max_length)
        self.bos_token, self.eos_token, self.unk_token, self.pad_token = (
            bos_token,
            eos_token,
            unk_token,
            pad_token,
        )
        self.special_tokens = {name: getattr(self, name) for name in SPECIAL}
        self.known_words = frozenset(known_words)
        self.vocab_size = len(self.vocab)

        for merge in self.merges:
            if len(merge) != 2 or not {*merge, "".join(merge)} <= self.vocab.keys():
                got = reprlib.repr(merge)
                raise ValueError(
                    f"expected merges of two tokens into a third, all in the vocabulary, got {got}"
                )
        for name, token in self.special_tokens.items():
            if token not in self.vocab:
                raise ValueError(f"expected the {name} {token!r} in the vocabulary, which lacks it")
        self.bos_token_id, self.eos_token_id = self.vocab[bos_token], self.vocab[eos_token]
        self.unk_token_id, self.pad_token_id = self.vocab[unk_token], self.vocab[pad_token]
        self.added_tokens = list(added_tokens)
        for token in self.added_tokens:
            if token not in self.vocab or token != normalize(token) or len(token.split()) != 1:
                raise ValueError(
                    f"expected added tokens in the vocabulary, lower case, without spaces, got {token!r}"
                )
        self._whole = {
            *self.special_tokens.values(),
            *self.added_tokens,
        }  # what no rule cuts or joins
        self._rank = {pair: rank for rank, pair in enumerate(self.merges)}
        self._pieces = {
            token: [token] for token in self._whole
        }  # and of each word once it was seen
        self._special, self._added = (
            _any_of(self.special_tokens.values()),
            _any_of(self.added_tokens),
        )

    @classmethod
    def train(
        cls, texts: Iterable[str], vocab_size: int | None = None, model_max_length: int = 16
    ) -> CLIPTokenizer:
        """Learn a vocabulary from texts: 512 for the bytes, then the merges, then start and end.

        vocab_size: at most so many tokens, at least 514; None: merge until each word of the texts
            is one token.
        """
        if isinstance(texts, str):
            raise ValueError("expected a list of texts, got one text: put it into a list")
        smallest = len(ALPHABET) + 2
        if vocab_size is not None and vocab_size < smallest:
            raise ValueError(
                f"expected vocab_size >= {smallest} (bytes, start and end), got {vocab_size}"
            )
        counts: Counter[str] = Counter()
        for text, count in Counter(texts).items():
            for word in split_words(normalize(text)):
                counts[word] += count
        merges = learn_merges(counts, None if vocab_size is None else vocab_size - smallest)
        # Two merges may build the same piece ("ab" + "c" and "a" + "bc"): it gets one number.
        tokens = dict.fromkeys([*ALPHABET, *(left + right for left, right in merges), BOS, EOS])
        vocab = {token: id for id, token in enumerate(tokens)}
        return cls(vocab, merges, model_max_length, known_words=counts)

    def __len__(self) -> int:
        return len(self.vocab)

    def __call__(self, texts: str | Sequence[str], max_length: int | None = None) -> Tensor:
        """Token ids (B, max_length), int64, of one text or several, each cut or padded to
        `max_length`.

        max_length: model_max_length if not given. What does not fit is cut, with a UserWarning that
            quotes it.
        """
        length = self.model_max_length if max_length is None else _checked_length(max_length)
        rows = []
        for text in [texts] if isinstance(texts, str) else texts:
            ids = self.encode(text)
            if len(ids) > length:
                cut = f"the prompt takes {len(ids)} tokens, {length} fit: cut off {self._beyond(text, length - 2)!r}"
                warnings.warn(cut, stacklevel=2)
                ids = [*ids[: length - 1], self.eos_token_id]
            rows.append(ids + [self.pad_token_id] * (length - len(ids)))
        return torch.tensor(rows, dtype=torch.int64).reshape(-1, length)

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, between start and end; neither cut nor padded."""
        ids = [self.vocab.get(piece, self.unk_token_id) for piece in self.tokenize(text)]
        return [self.bos_token_id, *ids, self.eos_token_id]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`, without special tokens: lower case, one space between words."""
        tokens = list(self.vocab)
        ids = [int(id) for id in ids]
        if foreign := [id for id in ids if not 0 <= id < len(tokens)]:
            raise ValueError(f"expected token ids from 0 to {len(tokens) - 1}, got {foreign[0]}")
        pieces = [tokens[id] for id in ids if tokens[id] not in self.special_tokens.values()]
        chars = "".join(pieces).replace(END_OF_WORD, " ")
        return (
            bytes(CHAR_TO_BYTE.get(char, ord(" ")) for char in chars)
            .decode("utf-8", errors="replace")
            .strip()
        )

    def tokenize(self, text: str) -> list[str]:
        """The pieces of `text`: "a handwritten zebra" -> ["a</w>", "handwritten</w>", "z", "e",
        "b", "r", "a</w>"]."""
        return [piece for word in self.words(text) for piece in self._pieces_of(word)]

    def words(self, text: str) -> list[str]:
        """The words of `text`; a special token written in it counts as one."""
        if not isinstance(text, str):
            raise ValueError(f"expected a text (str), got {type(text).__name__}")
        words = []
        for part in self._special.split(text):
            if part in self.special_tokens.values():
                words.append(part)
                continue
            for piece in self._added.split(normalize(part)):
                words += [piece] if piece in self.added_tokens else split_words(piece)
        return words

    def unknown_words(self, text: str) -> list[str]:
        """The words of `text` that no training text held; none if the tokenizer does not know its
        training texts."""
        known = {*self.known_words, *self._whole}
        return (
            [word for word in dict.fromkeys(self.words(text)) if word not in known]
            if self.known_words
            else []
        )

    def _pieces_of(self, word: str) -> list[str]:
        if word not in self._pieces:
            pieces = word_to_bytes(word)
            while pairs := [pair for pair in pairwise(pieces) if pair in self._rank]:
                pieces = merge_pair(pieces, min(pairs, key=self._rank.__getitem__))
            self._pieces[word] = pieces
        return self._pieces[word]

    def _beyond(self, text: str, room: int) -> str:
        """The words of `text` that do not fit, whole, into `room` tokens."""
        words = self.words(text)
        ends = accumulate(len(self._pieces_of(word)) for word in words)
        return " ".join(word for word, end in zip(words, ends, strict=True) if end > room)

    def save_pretrained(self, folder: str | os.PathLike) -> None:
        """Write vocab.json, merges.txt, tokenizer_config.json and special_tokens_map.json, each
        whole or not at all."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = {
            "tokenizer_class": "CLIPTokenizer",
            "model_max_length": self.model_max_length,
            **self.special_tokens,
        }
        if self.known_words:
            config["known_words"] = sorted(
                self.known_words
            )  # an entry of ours, which transformers passes over
        if self.added_tokens:
            details = dict.fromkeys(("lstrip", "rstrip", "single_word", "special"), False) | {
                "normalized": True
            }
            config["added_tokens_decoder"] = {
                self.vocab[t]: {"content": t} | details for t in self.added_tokens
            }
        contents = {
            "vocab": self.vocab,
            "special_tokens_map": self.special_tokens,
            "tokenizer_config": config,
        }
        for name, content in contents.items():
            write_json(folder / f"{name}.json", content, ensure_ascii=False)
        write_text(
            folder / "merges.txt", "\n".join(["#version: 0.2", *map(" ".join, self.merges)]) + "\n"
        )
        (folder / "tokenizer.json").unlink(
            missing_ok=True
        )  # the other format: transformers would read it instead

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike) -> CLIPTokenizer:
        """The tokenizer in `folder`, as vocab.json and merges.txt or as the one tokenizer.json of
        transformers 5.

        A file that is missing, broken or of another tokenizer: an error of one line that names it.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{folder}: no such folder; expected one that holds a CLIPTokenizer"
            )
        config = {"tokenizer_class": "CLIPTokenizer"} | _part(folder / "tokenizer_config.json")
        if not str(config["tokenizer_class"]).startswith("CLIPTokenizer"):  # ...Fast too
            raise ValueError(
                f"{folder}: expected a CLIPTokenizer, got a {config['tokenizer_class']}"
            )
        if "added_tokens_decoder" not in config and (folder / "special_tokens_map.json").is_file():
            config |= _part(folder / "special_tokens_map.json")  # this precedence is transformers'
        special = {name: config[name] for name in SPECIAL if config.get(name)}
        special = {
            name: token["content"] if isinstance(token, dict) else token
            for name, token in special.items()
        }

        added = [
            {"id": int(id), **token} for id, token in config.get("added_tokens_decoder", {}).items()
        ]
        if (folder / "tokenizer.json").is_file():
            content = _part(folder / "tokenizer.json")
            model, added = content.get("model") or {}, added or content.get("added_tokens") or []
            vocab, merges = model.get("vocab"), model.get("merges")
            if not isinstance(vocab, dict) or not isinstance(merges, list):
                raise ValueError(
                    f"{folder / 'tokenizer.json'}: expected a byte-pair model's 'vocab' and 'merges'"
                )
            merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
        else:
            vocab = _part(folder / "vocab.json")
            lines = (
                _existing(folder / "merges.txt")
                .read_text(encoding="utf-8", errors="replace")
                .split("\n")
            )
            merges = [line.split(" ") for line in lines if line and not line.startswith("#version")]
        added = {token["content"]: token["id"] for token in added if not token.get("special")}
        words = {"known_words": config.get("known_words", ()), "added_tokens": [*added]}
        try:
            return cls(
                {**vocab, **added}, merges, config.get("model_max_length"), **special, **words
            )
        except ValueError as error:
            raise ValueError(f"{folder}: {error}") from None


def _any_of(tokens: Collection[str]) -> re.Pattern[str]:
    """Matches each of the tokens, the longest where several fit; nothing if there are none."""
    return re.compile(
        f"({'|'.join(map(re.escape, sorted(tokens, key=len, reverse=True)))})" if tokens else "(?!)"
    )


def _checked_length(length: int | None) -> int:
    if (
        not isinstance(length, int) or not 2 <= length <= 1_000_000
    ):  # transformers writes 10^30 for "not set"
        raise ValueError(
            f"expected a maximum length of 2 (start and end) to 1000000 tokens, got {length!r}"
        )
    return length


def _existing(file: Path) -> Path:
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file; expected a part of a CLIPTokenizer")
    return file


def _part(file: Path) -> dict[str, Any]:
    return read_json(file, "a part of a CLIPTokenizer")
