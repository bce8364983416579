"""Byte-pair encoding: words, the bytes that they begin as, and the merges that are learnt from them
(Sennrich et al. 2016; Radford et al. 2019). Chapter 08.

A prompt is normalised and cut into words; the UTF-8 bytes of a word become its first pieces; then
the learned merges join neighbouring pieces, the earliest-learned merge first. Bytes make it
complete: every text has an encoding.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise

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
# space. Python's patterns know no Unicode categories: this one is matched against a text in which
# letters etc. beyond ASCII have stand-ins.
WORD = re.compile(
    r"<\|startoftext\|>|<\|endoftext\|>|'(?:s|t|re|ve|m|ll|d)|[a-z]+|[0-9]|[^\sa-z0-9]+", re.ASCII
)
# letter ("b" is in none of the literal words above), number, space
STAND_IN = {"L": "b", "N": "0", "Z": " "}


def normalize(text: str) -> str:
    """Unicode's composed form, lower case: "É" as one character or as two becomes the one "é"."""
    composed = unicodedata.normalize("NFC", text)
    return "".join(char.lower() for char in composed)  # by character: no word-final sigma


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
