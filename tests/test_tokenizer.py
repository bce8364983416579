"""minildm.text.tokenizer against transformers' CLIPTokenizer and against merges worked out by
hand."""

from __future__ import annotations

import json
import random
import unicodedata
import warnings
from pathlib import Path

import pytest
import torch

from minildm.text import ALPHABET, BOS, EOS, CLIPTokenizer, learn_merges, normalize, split_words

transformers = pytest.importorskip("transformers")

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
COLOURS = ("red", "green", "blue", "white", "black")
CAPTIONS = [f"a {colour} {digit} on a white background" for colour in COLOURS for digit in DIGITS]
CAPTIONS += [f"the digit {i}" for i in range(10)] + ["a café's sign, n° 5", "it's a seven!"]

TRICKY = [
    *(
        "",
        " ",
        "\t\n\r\f\v",
        "\x1c\x1d\x1e\x1f",
        "a\x1cb",
        "a\x85b",
        "a\xa0b",
        "a\u3000b",
        "a\u200bb",
    ),
    *("\x00", "a\x00b", "\ufffd", "\ufeffa", "\u202eabc", "\ue000", "\U0010fffd", "a\xadb"),
    *(
        "it's",
        "IT'S",
        "we'll they've I'm you're he'd can't",
        "''s",
        "'",
        "'sword",
        "'S",
        "’s",
        "rock'n'roll",
        "''''ll",
    ),
    *(
        f"a{EOS}b",
        f"{BOS}{EOS}",
        f"a {BOS} b",
        "<|EndOfText|>",
        "a!<|STARTOFTEXT|>!",
        "<|endoftext",
        "|>",
        EOS * 3,
    ),
    *(
        "<|start of text|>",
        "<|STÅRTOFTEXT|>",
        "<|endoftext|>'s",
        "</w>",
        "a</w> b",
        "<|",
        "#version: 0.2",
        "# #",
    ),
    *(
        "É",
        "E\u0301",
        "n\u0303\u0301",
        "\u0301",
        "a\u0301\u0301\u0301",
        "İ",
        "ΑΣ",
        "ΣΑΣ ",
        "ß",
        "ẞ",
        "ǅ",
    ),
    *("ﬁ", "\u212a", "七 seven 七七", "数字の7", "हिन्दी", "한국어", "\u1112\u1161\u11ab", "ไทย"),
    *("12 345", "½²Ⅷ", "٣٤", "1st 2nd", "3.14"),
    *("🙂", "👨\u200d👩\u200d👧", "🇫🇷", "❤️ red", "a🙂b", "_a_b_", "a-b"),
    *("...", "!?!?", "a\\b", '"quoted"', "<b>", "@#$%^&*()"),
    *("seven" * 40, "a " * 100, "zzz" * 100, "!" * 300),
]


def random_strings(count: int, seed: int) -> list[str]:
    """Texts that mix prompt words, odd strings and characters from all over Unicode, some far too
    long."""
    rng = random.Random(seed)
    blocks = [
        (0, 0x80),
        (0x80, 0x250),
        (0x2B0, 0x530),
        (0x600, 0x1200),
        (0x1E00, 0x3100),
        (0x4E00, 0x9FA5),
    ]
    blocks += [
        (0xAC00, 0xD7A3),
        (0xF900, 0x10000),
        (0x10000, 0x10400),
        (0x1D400, 0x1D800),
        (0x1F300, 0x1FA00),
    ]
    vocabulary = " ".join(CAPTIONS).split()

    def character() -> str:
        while (
            True
        ):  # a code point that this Python's Unicode does not know may have been assigned since
            char = chr(rng.randrange(*rng.choice(blocks)))
            if unicodedata.category(char) != "Cn":
                return char

    def part() -> str:
        kind = rng.random()
        if kind < 0.3:
            return rng.choice([str.lower, str.upper, str.title])(rng.choice(vocabulary))
        if kind < 0.5:
            return rng.choice(TRICKY)
        if kind < 0.7:
            return "".join(rng.choices("abcst'rvemld019 <|>!", k=rng.randrange(1, 12)))
        return "".join(character() for _ in range(rng.randrange(1, 8)))

    lengths = [rng.choice([1, 2, 4, 12]) for _ in range(count)]
    return [
        "".join(part() + rng.choice(["", " ", "  "]) for _ in range(length)) for length in lengths
    ]


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer.train(CAPTIONS)


@pytest.fixture(scope="module")
def folder(tokenizer, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save_pretrained(folder)
    return folder


def padded(reference, text: str) -> list[int]:
    """As diffusers' pipeline calls it."""
    return reference(
        text, padding="max_length", max_length=reference.model_max_length, truncation=True
    ).input_ids


def quietly(tokenizer: CLIPTokenizer, texts: str | list[str]) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tokenizer(texts)


def edit(file: Path, **changes) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text("utf-8")), **changes}), "utf-8")


# Learning


def test_merges_worked_out_by_hand():
    # h u g_ (2), p u g_ (1), h u g s_ (1), where _ ends a word
    expected = [
        ("h", "u"),  # 3 times, as often as u g_, but first in the alphabet
        ("hu", "g</w>"),  # 2 times: hug is done
        ("g", "s</w>"),  # everything left occurs once, so the alphabet decides
        ("hu", "gs</w>"),  # hugs is done
        ("p", "u"),
        ("pu", "g</w>"),  # pug is done
    ]
    merges = learn_merges({"hug": 2, "pug": 1, "hugs": 1})
    for step, (got, want) in enumerate(zip(merges, expected, strict=True)):
        assert got == want, f"merge {step}"


def test_merges_apply_in_the_order_they_were_learned():
    tokenizer = CLIPTokenizer.train(["hug hug pug hugs"], vocab_size=514 + 2)
    assert tokenizer.merges == [("h", "u"), ("hu", "g</w>")]
    assert tokenizer.tokenize("hug pug huhug") == ["hug</w>", "p", "u", "g</w>", "hu", "hug</w>"]
    assert tokenizer.encode("hug") == [514, 513, 515]


def test_overlapping_pairs_merge_from_the_left():
    assert CLIPTokenizer.train(["aaaab"], vocab_size=515).tokenize("aaa aaaab") == [
        "aa",
        "a</w>",
        "aa",
        "aa",
        "b</w>",
    ]


def test_one_text_is_not_a_list_of_texts():
    with pytest.raises(ValueError, match="expected a list of texts, got one text"):
        CLIPTokenizer.train("a handwritten seven")


def test_training_without_a_size_makes_every_word_one_token(tokenizer):
    assert {"seven", "white", "café", "'s", "°", "5", "!"} <= tokenizer.known_words
    assert all(len(tokenizer.tokenize(word)) == 1 for word in tokenizer.known_words)


def test_vocabulary_is_bytes_then_merges_then_start_and_end(tokenizer):
    tokens = list(tokenizer.vocab)
    assert tokens[:512] == ALPHABET and len(set(ALPHABET)) == 512
    assert tokens[512:-2] == list(dict.fromkeys(left + right for left, right in tokenizer.merges))
    assert (
        tokens[-2:] == [BOS, EOS]
        and tokenizer.pad_token_id == tokenizer.eos_token_id == len(tokenizer) - 1
    )
    assert list(tokenizer.vocab.values()) == list(range(tokenizer.vocab_size))


def test_vocab_size_bounds_the_vocabulary():
    assert CLIPTokenizer.train(CAPTIONS, vocab_size=530).vocab_size == 530
    assert CLIPTokenizer.train(CAPTIONS, vocab_size=514).merges == []
    with pytest.raises(ValueError, match="expected vocab_size >= 514.*got 513"):
        CLIPTokenizer.train(CAPTIONS, vocab_size=513)


def test_training_depends_on_word_counts_only(tokenizer):
    shuffled = random.Random(0).sample(CAPTIONS, len(CAPTIONS))
    again = CLIPTokenizer.train(text.upper() + "  " for text in shuffled)
    assert again.vocab == tokenizer.vocab and again.merges == tokenizer.merges


# Encoding


@pytest.mark.parametrize(
    "text, words",
    [
        ("it's 10!", ["it", "'s", "1", "0", "!"]),
        ("we'll've", ["we", "'ll", "'ve"]),
        ("a_b\u3000c", ["a", "_", "b", "c"]),
        ("né²Ⅷ七", ["né", "²", "ⅷ", "七"]),
        ("a!<|EndOfText|>!", ["a", "!<|", "endoftext", "|>!"]),
        ("<|EndOfText|>!", ["<|", "endoftext", "|>", "!"]),
    ],
)
def test_words_are_contractions_letters_digits_and_the_rest(text, words):
    assert split_words(normalize(text)) == words


def test_same_ids_as_transformers_on_1000_random_strings(tokenizer, folder):
    reference = transformers.CLIPTokenizer.from_pretrained(folder)
    assert reference.get_vocab() == tokenizer.vocab
    texts = [*TRICKY, *random_strings(1000, seed=0)]
    for text, row in zip(texts, quietly(tokenizer, texts).tolist(), strict=True):
        assert tokenizer.encode(text) == reference(text).input_ids, repr(text)
        assert tokenizer.tokenize(text) == reference.tokenize(text), repr(text)
        assert row == padded(reference, text), repr(text)
        assert tokenizer.decode(row) == reference.decode(row, skip_special_tokens=True), repr(text)


def test_a_batch_is_int64_and_padded_to_the_length(tokenizer):
    ids = tokenizer(["a red seven", ""])
    assert ids.shape == (2, 16) and ids.dtype == torch.int64
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    assert ids[1].tolist() == [bos] + [eos] * 15
    torch.testing.assert_close(tokenizer("a red seven"), ids[:1])
    torch.testing.assert_close(tokenizer("a red seven", max_length=5), ids[:1, :5])
    assert tokenizer([]).shape == (0, 16)


def test_decode_gives_back_known_words(tokenizer):
    assert tokenizer.decode(tokenizer("A  red\nSeven")[0]) == "a red seven"
    text = "zebra 🙂 数字 é"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    for caption in CAPTIONS:
        assert tokenizer.decode(tokenizer.encode(caption)) == " ".join(tokenizer.words(caption))


def test_a_long_prompt_is_cut_with_a_warning_that_quotes_what_was_cut(tokenizer):
    kept = "a red seven on a white background a red seven on a white"  # 13 words
    with pytest.warns(UserWarning, match=r"takes 22 tokens, 16 fit: cut off 'zebra nine'$"):
        ids = tokenizer(f"{kept} Blue Zebra nine")
    assert ids.shape == (1, 16) and ids[0, -1] == tokenizer.eos_token_id
    with pytest.warns(UserWarning, match=r"takes 17 tokens, 16 fit: cut off 'nine'$"):
        tokenizer(f"{kept} blue nine")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tokenizer(f"{kept} blue")  # 14 words, start and end: just fits


def test_words_that_training_never_saw_are_named_once(tokenizer):
    assert tokenizer.unknown_words("A purple Seven on purple 🙂") == ["purple", "🙂"]
    assert tokenizer.unknown_words(f"it's a SEVEN!{EOS}") == []
    assert tokenizer.unknown_words("") == []


# Files


def test_save_and_load_change_nothing(tokenizer, folder, tmp_path):
    again = CLIPTokenizer.from_pretrained(folder)
    again.save_pretrained(tmp_path)
    for name in (
        "vocab",
        "merges",
        "known_words",
        "special_tokens",
        "model_max_length",
        "pad_token_id",
    ):
        assert getattr(again, name) == getattr(tokenizer, name)
    assert sorted(file.name for file in folder.iterdir()) == sorted(
        file.name for file in tmp_path.iterdir()
    )
    assert all(
        file.read_bytes() == (tmp_path / file.name).read_bytes() for file in folder.iterdir()
    )


def test_a_folder_saved_by_transformers_opens(tokenizer, folder, tmp_path):
    transformers.CLIPTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    again = CLIPTokenizer.from_pretrained(tmp_path)
    assert again.vocab == tokenizer.vocab and again.merges == tokenizer.merges
    assert again.known_words == tokenizer.known_words
    again.save_pretrained(tmp_path)  # and becomes one in our format, not one with two tokenizers
    assert not (tmp_path / "tokenizer.json").exists()
    assert transformers.CLIPTokenizer.from_pretrained(tmp_path).get_vocab() == tokenizer.vocab


def test_real_stable_diffusion_configurations_open_with_their_padding(tokenizer, folder, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    flags = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    tokens = {"bos_token": BOS, "eos_token": EOS, "unk_token": EOS, "pad_token": EOS}
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 16, "do_lower_case": True}
    older = {
        name: {"content": token, **flags} for name, token in tokens.items() if name != "pad_token"
    }
    typed = {name: {"__type": "AddedToken", **token} for name, token in older.items()} | {
        "pad_token": EOS
    }
    newer = tokens | {"pad_token": "!"}
    added = {
        tokenizer.vocab[token]: {"content": token, **flags, "normalized": False}
        for token in ("!", BOS, EOS)
    }
    variants = [
        (EOS, config | typed, older | {"pad_token": EOS}),  # Stable Diffusion 1
        (
            "!",
            config | typed,
            older | {"pad_token": "!"},
        ),  # Stable Diffusion 2: special_tokens_map.json wins,
        (
            "!",
            config | newer | {"added_tokens_decoder": added},
            tokens,
        ),  # SDXL: unless there is this entry
    ]
    # "normalized" makes transformers take "<|StartOfText|>", in any case, for the start token; ours
    # knows one case.
    texts = [*TRICKY, *random_strings(100, seed=1)]
    texts = [
        text
        for text in texts
        if all(text.count(token) == text.lower().count(token) for token in (BOS, EOS))
    ]
    for pad, content, special in variants:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(content))
        (tmp_path / "special_tokens_map.json").write_text(json.dumps(special))
        ours, theirs = (
            CLIPTokenizer.from_pretrained(tmp_path),
            transformers.CLIPTokenizer.from_pretrained(tmp_path),
        )
        assert ours.pad_token == pad == theirs.pad_token and ours.unknown_words("zebra") == []
        for text, row in zip(texts, quietly(ours, texts).tolist(), strict=True):
            assert row == padded(theirs, text), (pad, text)


def broken_json(folder):
    (folder / "vocab.json").write_text('{"a": 0, ')


def list_for_vocabulary(folder):
    (folder / "vocab.json").write_text("[1, 2]")


def gap_in_vocabulary(folder):
    edit(folder / "vocab.json", seven=9999)


def text_for_id(folder):
    edit(folder / "vocab.json", a="0")


def merges_of_another(folder):
    (folder / "merges.txt").write_text("#version: 0.2\ne l\nel ephant</w>\n", "utf-8")


def three_part_merge(folder):
    (folder / "merges.txt").write_text("#version: 0.2\ns e v\n", "utf-8")


def no_special_token(folder):
    edit(folder / "special_tokens_map.json", pad_token="<pad>")


def other_class(folder):
    edit(folder / "tokenizer_config.json", tokenizer_class="T5Tokenizer")


def no_length(folder):
    edit(folder / "tokenizer_config.json", model_max_length=int(1e30))


def tokenizer_json_of_another(folder):
    (folder / "tokenizer.json").write_text('{"model": {"type": "Unigram", "vocab": [["a", 0.5]]}}')


def no_vocabulary_in_tokenizer_json(folder):
    (folder / "tokenizer.json").write_text("{}")


@pytest.mark.parametrize(
    "damage, message",
    [
        (broken_json, "vocab.json: expected a part of a CLIPTokenizer as JSON, got"),
        (
            list_for_vocabulary,
            "vocab.json: expected a part of a CLIPTokenizer as a JSON object, got list",
        ),
        (gap_in_vocabulary, "expected a vocabulary whose .* numbered from 0 without gaps"),
        (text_for_id, "vocab.json: expected a whole number for each token, got .*'0'"),
        (merges_of_another, "expected merges .* in the vocabulary, got .*'e', 'l'"),
        (three_part_merge, "expected merges of two tokens .*'s', 'e', 'v'"),
        (no_special_token, "expected the pad_token '<pad>' in the vocabulary"),
        (other_class, "expected a CLIPTokenizer, got a T5Tokenizer"),
        (no_length, "expected a maximum length of 2 .* tokens, got 1000000"),
        (tokenizer_json_of_another, "tokenizer.json: expected a byte-pair model's"),
        (no_vocabulary_in_tokenizer_json, "tokenizer.json: expected a byte-pair model's"),
    ],
)
def test_a_corrupt_file_is_an_error_of_one_line_that_names_it(tokenizer, tmp_path, damage, message):
    tokenizer.save_pretrained(tmp_path)
    damage(tmp_path)
    with pytest.raises(ValueError, match=message) as raised:
        CLIPTokenizer.from_pretrained(tmp_path)
    assert str(tmp_path) in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt", "tokenizer_config.json"])
def test_a_missing_file_is_named(tokenizer, tmp_path, name):
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name}: no such file"):
        CLIPTokenizer.from_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        CLIPTokenizer.from_pretrained(tmp_path / "nowhere")


def test_bad_arguments_say_what_was_expected(tokenizer):
    with pytest.raises(ValueError, match="expected a text .* got int"):
        tokenizer([7])
    with pytest.raises(ValueError, match="expected a maximum length .* got 1$"):
        tokenizer("seven", max_length=1)
    with pytest.raises(
        ValueError, match=f"expected token ids from 0 to {len(tokenizer) - 1}, got -1"
    ):
        tokenizer.decode([-1])
