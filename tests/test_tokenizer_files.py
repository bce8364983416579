"""A tokenizer's files with an entry of each wrong kind, and cut short: the oracle is what the whole
files give."""

import json
import re
import warnings

import pytest

from minildm.text import EOS, CLIPTokenizer

TEXTS = ["a red seven above a blue three", "the digit five on white"]
KINDS = [None, True, 7, 0.5, "seven", [], [7], {}, {"a": []}, [[]], [["s", "e"]]]
"""Something of each kind that JSON knows, plain and nested."""


@pytest.fixture
def folder(tmp_path):
    CLIPTokenizer.train(TEXTS).save_pretrained(tmp_path)
    return tmp_path


def as_one_file(folder):
    """The same tokenizer as transformers 5 writes it."""
    vocab = json.loads((folder / "vocab.json").read_text("utf-8"))
    merges = [line.split(" ") for line in (folder / "merges.txt").read_text("utf-8").split("\n")]
    model = {"type": "BPE", "vocab": vocab, "merges": [pair for pair in merges[1:] if pair != [""]]}
    added = [{"id": vocab[EOS], "content": EOS, "special": True}]
    content = {"model": model, "added_tokens": added}
    (folder / "tokenizer.json").write_text(json.dumps(content), "utf-8")
    return content


def set_at(content, path, value):
    *way, last = path
    for step in way:
        content = content[step]
    content[last] = value


PLACES = {
    "vocab.json": [["seven</w>"], ["a"]],
    "tokenizer_config.json": [
        [key]
        for key in (
            "tokenizer_class",
            "model_max_length",
            "bos_token",
            "eos_token",
            "unk_token",
            "pad_token",
            "known_words",
            "added_tokens_decoder",
        )
    ],
    "special_tokens_map.json": [["bos_token"], ["pad_token"]],
    "tokenizer.json": [
        ["model"],
        ["model", "vocab"],
        ["model", "merges"],
        ["model", "merges", 0],
        ["model", "merges", 0, 0],
        ["added_tokens"],
        ["added_tokens", 0],
        ["added_tokens", 0, "content"],
        ["added_tokens", 0, "id"],
    ],
}


@pytest.mark.parametrize("value", KINDS, ids=map(str, KINDS))
@pytest.mark.parametrize(
    "name, place", [(name, place) for name, places in PLACES.items() for place in places]
)
def test_an_entry_of_another_kind_is_one_line_or_means_what_it_says(folder, name, place, value):
    whole = CLIPTokenizer.from_pretrained(folder)
    if name == "tokenizer_config.json":  # or its tokens would be those of the other file
        (folder / "special_tokens_map.json").unlink()
    if name == "tokenizer.json":
        content = as_one_file(folder)
        assert CLIPTokenizer.from_pretrained(folder).vocab == whole.vocab
    else:
        content = json.loads((folder / name).read_text("utf-8"))
    set_at(content, place, value)
    (folder / name).write_text(json.dumps(content), "utf-8")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            opened = CLIPTokenizer.from_pretrained(folder)
        except ValueError as error:
            assert re.match(f"{re.escape(str(folder))}.*: expected ", str(error))
            assert "\n" not in str(error) and len(str(error)) < len(str(folder)) + 250
            return
    # what is left: entries that may be absent, lists that may be empty, another that is of its kind
    other = {"model_max_length": 7, "content": "seven", "id": 7}.get(place[-1])
    assert value in (None, [], {}) or value == other, (place, value)
    if not caught:
        assert opened.encode(TEXTS[0]) == whole.encode(TEXTS[0])


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.99])
@pytest.mark.parametrize("one_file", [False, True])
def test_merges_that_are_cut_short_are_a_warning_and_whole_ones_are_none(folder, share, one_file):
    lines = (folder / "merges.txt").read_text("utf-8").splitlines()
    if one_file:
        content = as_one_file(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = CLIPTokenizer.from_pretrained(folder)
    kept = 1 + int(share * (len(lines) - 1))
    lost = ["".join(line.split(" ")) for line in lines[kept:]]
    if one_file:
        content["model"]["merges"] = content["model"]["merges"][: kept - 1]
        (folder / "tokenizer.json").write_text(json.dumps(content), "utf-8")
    else:
        (folder / "merges.txt").write_text("\n".join(lines[:kept]) + "\n", "utf-8")
    with pytest.warns(UserWarning, match="expected merges for all of the vocabulary") as caught:
        cut = CLIPTokenizer.from_pretrained(folder)
    assert caught[0].filename == __file__ and str(folder) in str(caught[0].message)
    assert repr(lost[0]) in str(caught[0].message)
    last = lost[-1].removesuffix("</w>")
    assert cut.tokenize(last) != whole.tokenize(last)


def test_a_learnt_word_and_special_tokens_need_no_merge(folder):
    base = CLIPTokenizer.from_pretrained(folder)
    vocab = {**base.vocab, "<mine>": len(base)}
    CLIPTokenizer(vocab, base.merges, 16, added_tokens=["<mine>"]).save_pretrained(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert CLIPTokenizer.from_pretrained(folder).tokenize("<mine>") == ["<mine>"]


@pytest.mark.parametrize("ids", [[0.0, 1, 2], [False, 1, 2], ["0", 1, 2], [0, 1, [2]], [0, 1, 3]])
def test_a_vocabulary_is_numbered_by_whole_numbers(ids):
    with pytest.raises(ValueError, match="numbered from 0 without gaps"):
        CLIPTokenizer(dict(zip(["a", "b", EOS], ids, strict=True)), [])
