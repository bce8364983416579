"""From text to token numbers and back, in CLIP's files (Radford et al. 2021). Chapter 08."""

from __future__ import annotations

import os
import re
import reprlib
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import accumulate, pairwise
from numbers import Integral
from pathlib import Path

import torch
from torch import Tensor

from minildm.files import write_json, write_text
from minildm.text.bpe import (
    ALPHABET,
    BOS,
    CHAR_TO_BYTE,
    END_OF_WORD,
    EOS,
    learn_merges,
    merge_pair,
    normalize,
    split_words,
    word_to_bytes,
)
from minildm.text.tokenizer_files import (
    SPECIAL,
    is_numbered,
    read_tokenizer,
    warn_of_missing_merges,
)

# half of a character beyond U+FFFF, which has no bytes
LONE_SURROGATE = re.compile("[\ud800-\udfff]")


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
        merges: Iterable[Sequence[str]],
        model_max_length: int = 77,
        bos_token: str = BOS,
        eos_token: str = EOS,
        unk_token: str = EOS,
        pad_token: str = EOS,
        known_words: Collection[str] = (),
        added_tokens: Sequence[str] = (),
    ):
        if not is_numbered(vocab):
            raise ValueError(
                f"expected a vocabulary whose {len(vocab)} tokens are numbered from 0 without gaps"
            )
        self.vocab = dict(sorted(vocab.items(), key=lambda item: item[1]))
        self.model_max_length = _checked_length(model_max_length)
        self.bos_token, self.eos_token = bos_token, eos_token
        self.unk_token, self.pad_token = unk_token, pad_token
        self.special_tokens = {name: getattr(self, name) for name in SPECIAL}
        self.known_words = frozenset(known_words)
        self.vocab_size = len(self.vocab)

        self.merges: list[tuple[str, str]] = []
        for merge in map(tuple, merges):
            if len(merge) != 2 or not {*merge, "".join(merge)} <= self.vocab.keys():
                got = reprlib.repr(merge)
                raise ValueError(
                    f"expected merges of two tokens into a third, all in the vocabulary, got {got}"
                )
            self.merges.append(merge)
        for name, token in self.special_tokens.items():
            if token not in self.vocab:
                raise ValueError(f"expected the {name} {token!r} in the vocabulary, which lacks it")
        self.bos_token_id, self.eos_token_id = self.vocab[bos_token], self.vocab[eos_token]
        self.unk_token_id, self.pad_token_id = self.vocab[unk_token], self.vocab[pad_token]
        self.added_tokens = list(added_tokens)
        for token in self.added_tokens:
            if token not in self.vocab or token != normalize(token) or len(token.split()) != 1:
                raise ValueError(
                    "expected added tokens in the vocabulary, lower case, without spaces, "
                    f"got {token!r}"
                )
        # what no rule cuts or joins
        self._whole = {*self.special_tokens.values(), *self.added_tokens}
        self._rank = {pair: rank for rank, pair in enumerate(self.merges)}
        # the pieces of these and, once it was seen, of each word
        self._pieces = {token: [token] for token in self._whole}
        self._special = _any_of(self.special_tokens.values())
        self._added = _any_of(self.added_tokens)

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
        if not isinstance(texts, (str, Sequence)):
            got = type(texts).__name__
            raise ValueError(f"expected a text (str) or a list of texts, got {got}")
        rows = []
        for text in [texts] if isinstance(texts, str) else texts:
            ids = self.encode(text)
            if len(ids) > length:
                cut = self._beyond(text, length - 2)
                warnings.warn(
                    f"the prompt takes {len(ids)} tokens, {length} fit: cut off {cut!r}",
                    stacklevel=2,
                )
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
        content = bytes(CHAR_TO_BYTE.get(char, ord(" ")) for char in chars)
        return content.decode("utf-8", errors="replace").strip()

    def tokenize(self, text: str) -> list[str]:
        """The pieces of `text`: "a handwritten zebra" -> ["a</w>", "handwritten</w>", "z", "e",
        "b", "r", "a</w>"]."""
        return [piece for word in self.words(text) for piece in self._pieces_of(word)]

    def words(self, text: str) -> list[str]:
        """The words of `text`; a special token written in it counts as one."""
        if not isinstance(text, str):
            raise ValueError(f"expected a text (str), got {type(text).__name__}")
        if lone := LONE_SURROGATE.search(text):
            raise ValueError(f"expected a text that UTF-8 can hold, got {lone[0]!r} in it")
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
        if not self.known_words:
            return []
        known = {*self.known_words, *self._whole}
        return [word for word in dict.fromkeys(self.words(text)) if word not in known]

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
        if self.known_words:  # an entry of ours, which transformers passes over
            config["known_words"] = sorted(self.known_words)
        if self.added_tokens:
            off = dict.fromkeys(("lstrip", "rstrip", "single_word", "special"), False)
            config["added_tokens_decoder"] = {
                self.vocab[token]: {"content": token, **off, "normalized": True}
                for token in self.added_tokens
            }
        lines = ["#version: 0.2", *map(" ".join, self.merges)]
        write_json(folder / "vocab.json", self.vocab, ensure_ascii=False)
        write_json(folder / "special_tokens_map.json", self.special_tokens, ensure_ascii=False)
        write_json(folder / "tokenizer_config.json", config, ensure_ascii=False)
        write_text(folder / "merges.txt", "\n".join(lines) + "\n")
        # the other format: transformers would read it instead
        (folder / "tokenizer.json").unlink(missing_ok=True)

    @classmethod
    def from_pretrained(
        cls, folder: str | os.PathLike, subfolder: str | None = None
    ) -> CLIPTokenizer:
        """The tokenizer in `folder`, or in its `subfolder`, as vocab.json and merges.txt or as the
        one tokenizer.json of transformers 5.

        A file that is missing, broken or of another tokenizer: an error of one line that names it.
        """
        folder = Path(folder) / (subfolder or "")
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{folder}: no such folder; expected one that holds a CLIPTokenizer"
            )
        parts = read_tokenizer(folder)
        try:
            tokenizer = cls(
                vocab=parts["vocab"],
                merges=parts["merges"],
                model_max_length=_checked_length(parts["model_max_length"]),
                known_words=parts["known_words"],
                added_tokens=parts["added_tokens"],
                **parts["special_tokens"],
            )
        except ValueError as error:
            raise ValueError(f"{folder}: {error}") from None
        warn_of_missing_merges(folder, tokenizer.vocab, tokenizer.merges, tokenizer._whole)
        return tokenizer


def _any_of(tokens: Collection[str]) -> re.Pattern[str]:
    """Matches each of the tokens, the longest where several fit; nothing if there are none."""
    longest_first = sorted(tokens, key=len, reverse=True)
    return re.compile(f"({'|'.join(map(re.escape, longest_first))})" if tokens else "(?!)")


def _checked_length(length: object) -> int:
    # transformers writes 10^30 for "not set"
    if not isinstance(length, Integral) or not 2 <= int(length) <= 1_000_000:
        raise ValueError(
            f"expected a maximum length of 2 (start and end) to 1000000 tokens, got {length!r}"
        )
    return int(length)
