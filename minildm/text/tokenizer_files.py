"""A tokenizer's files, CLIP's vocab.json and merges.txt or transformers' one tokenizer.json: read,
and checked entry by entry (Radford et al. 2021). Chapter 08."""

from __future__ import annotations

import reprlib
import warnings
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, TypedDict

from minildm.files import read_json, readable
from minildm.text.bpe import ALPHABET

SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token")
PART = "a part of a CLIPTokenizer"


class TokenizerParts(TypedDict):
    """What the files say, under the names of the tokenizer's arguments; special_tokens: those of
    SPECIAL that they name."""

    vocab: dict[str, int]
    merges: list[list[str]]
    model_max_length: int | None
    known_words: list[str]
    added_tokens: list[str]
    special_tokens: dict[str, str]


def read_tokenizer(folder: Path) -> TokenizerParts:
    """All that a tokenizer's folder holds; ValueError with the file's name where an entry is not of
    its kind."""
    file = folder / "tokenizer_config.json"
    config = read_json(file, PART)
    kind = config.get("tokenizer_class", "CLIPTokenizer")
    if not str(kind).startswith("CLIPTokenizer"):  # ...Fast too
        raise ValueError(f"{folder}: expected a CLIPTokenizer, got a {kind}")
    known_words = config.get("known_words", [])
    if not _texts(known_words):
        raise _unexpected(file, "known_words as a list of texts", known_words)

    added: list[object] = []
    if (folder / "tokenizer.json").is_file():
        vocab, merges, added = _read_tokenizer_json(folder / "tokenizer.json")
    else:
        vocab, merges = _read_vocab(folder / "vocab.json"), _read_merges(folder / "merges.txt")

    # tokenizer_config.json comes first, then the others: this precedence is transformers'
    decoder = config.get("added_tokens_decoder")
    special_file = folder / "special_tokens_map.json"
    if decoder is None and special_file.is_file():
        config |= read_json(special_file, PART)
    if decoder:
        if not isinstance(decoder, dict):
            raise _unexpected(file, "added_tokens_decoder as an object", decoder)
        added = [
            {"id": int(id) if id.isdecimal() else id, **token} if isinstance(token, dict) else token
            for id, token in decoder.items()
        ]
    new = {}
    for token in added:
        if not (
            isinstance(token, dict)
            and isinstance(token.get("content"), str)
            and _whole(token.get("id"))
        ):
            expected = "added tokens with a text as 'content' and a number as 'id'"
            raise _unexpected(folder, expected, token)
        if not token.get("special"):
            new[token["content"]] = token["id"]

    special = {}
    for name in SPECIAL:
        token = config.get(name)
        content = token.get("content") if isinstance(token, dict) else token
        if token is not None:
            if not isinstance(content, str):
                raise _unexpected(folder, f"{name} as a text", token)
            special[name] = content

    return {
        "vocab": {**vocab, **new},
        "merges": merges,
        "model_max_length": config.get("model_max_length"),
        "known_words": known_words,
        "added_tokens": list(new),
        "special_tokens": special,
    }


def is_numbered(vocab: Mapping[str, object]) -> bool:
    """Are the tokens numbered from 0 without gaps, each number once?"""
    ids = vocab.values()
    return all(map(_whole, ids)) and set(ids) == set(range(len(vocab)))


def _read_tokenizer_json(file: Path) -> tuple[dict[str, int], list[list[str]], list[object]]:
    """The vocabulary, the merges and the added tokens in the one file of transformers 5."""
    content = read_json(file, PART)
    model, added = content.get("model"), content.get("added_tokens") or []
    vocab, merges = (
        (model.get("vocab"), model.get("merges")) if isinstance(model, dict) else (None, None)
    )
    if not isinstance(vocab, dict) or not isinstance(merges, list) or not isinstance(added, list):
        raise ValueError(f"{file}: expected a byte-pair model's 'vocab' and 'merges'")
    merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
    for merge in merges:
        if not _texts(merge):
            raise _unexpected(file, "merges of two texts each", merge)
    return _checked_vocab(file, vocab), merges, added


def _read_vocab(file: Path) -> dict[str, int]:
    return _checked_vocab(file, read_json(file, PART))


def _checked_vocab(file: Path, vocab: dict[str, Any]) -> dict[str, int]:
    for token, id in vocab.items():
        if not _whole(id):
            raise _unexpected(file, "a whole number for each token", {token: id})
    return vocab


def _read_merges(file: Path) -> list[list[str]]:
    """The merges in a merges.txt."""
    text = readable(file, PART).read_text(encoding="utf-8", errors="replace")
    lines = text.split("\n")
    return [line.split(" ") for line in lines if line and not line.startswith("#version")]


def warn_of_missing_merges(
    folder: Path, vocab: Iterable[str], merges: Iterable[tuple[str, str]], whole: Collection[str]
) -> None:
    """A UserWarning unless every piece of the vocabulary is a byte, or two pieces that a merge
    joins, or one of `whole`, which no rule touches: if the file was cut short, the others are spelt
    letter by letter."""
    made = {*ALPHABET, *map("".join, merges), *whole}
    if lost := [piece for piece in vocab if piece not in made]:
        others = f" and {len(lost) - 1} others" if len(lost) > 1 else ""
        warnings.warn(
            f"{folder}: expected merges for all of the vocabulary, got none for {lost[0]!r}"
            f"{others}, spelt in smaller pieces now; is merges.txt whole?",
            stacklevel=3,
        )


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _unexpected(path: Path, expected: str, got: object) -> ValueError:
    return ValueError(f"{path}: expected {expected}, got {reprlib.repr(got)}")
