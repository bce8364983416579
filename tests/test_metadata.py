"""Files of captions: what they may hold, and which line is wrong."""

import json

import pytest

from minildm.data import Row, read_metadata


def written(tmp_path, name, text):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return tmp_path / name


def test_a_line_has_a_file_and_one_text_or_several(tmp_path):
    rows = [
        {"file_name": "1.png", "text": "two cats"},
        {"text": ["a dog", " a  brown dog "], "file_name": "a/2.png", "more": 3},
        {"file_name": "3.png", "text": ""},
    ]
    text = "\n".join(json.dumps(row) for row in rows[:2]) + "\n\r\n" + json.dumps(rows[2]) + "\r\n"
    assert read_metadata(written(tmp_path, "metadata.jsonl", text)) == [
        Row(1, "1.png", ("two cats",)),
        Row(2, "a/2.png", ("a dog", "a brown dog")),
        Row(4, "3.png", ()),
    ]


def test_csv_has_columns_in_any_order_and_quotes(tmp_path):
    text = '\ufefftext,file_name\r\n"a cat, a ""big"" one",1.png\r\n7,2.png\r\n\r\n"a\nb",3.png\r\n'
    assert read_metadata(written(tmp_path, "metadata.csv", text)) == [
        Row(2, "1.png", ('a cat, a "big" one',)),
        Row(3, "2.png", ("7",)),  # a word, no number
        Row(6, "3.png", ("a b",)),
    ]


GOOD = '{"file_name": "1.png", "text": "one"}\n'


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"file_name": "2.png", "text": "two"', "line 2: expected JSON, got: Expecting .* at col"),
        ("[" * 100_000, "line 2: expected JSON, got: "),
        ('["2.png", "two"]', r"line 2: expected an object {…}, got \[\"2.png\""),
        ('{"image": "2.png", "text": "two"}', "line 2: expected file_name, got only image, text"),
        ('{"file_name": "2.png"}', "line 2: expected text, got only file_name"),
        ("{}", "line 2: expected file_name and text, got only nothing"),
        ('{"file_name": "2.png", "text": 7}', "line 2: expected text to be a string .* got 7"),
        ('{"file_name": "2.png", "text": ["a", null]}', "line 2: expected text .* got None"),
        ('{"file_name": 2, "text": "two"}', "line 2: expected the path of a picture .* got 2"),
        ('{"file_name": "../2.png", "text": "a"}', "line 2: expected a file of this folder"),
        ('{"file_name": "/2.png", "text": "a"}', "line 2: expected a file of this folder"),
        (b"\xff\xfe", "line 2: expected UTF-8 text, got something else"),
    ],
)
def test_a_wrong_line_of_json_is_named(tmp_path, line, said):
    line = line if isinstance(line, bytes) else line.encode()
    file = written(tmp_path, "metadata.jsonl", GOOD.encode() + line)
    with pytest.raises(ValueError, match=r"metadata.jsonl, " + said):
        read_metadata(file)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "file_name,text\n1.png,one\n2.png,a cat, sitting\n",
            r"line 3: expected 2 cells \(file_name, text; one with a comma in quotes\), got 3",
        ),
        ("file_name,text\n1.png\n", r"line 2: expected 2 cells .*, got 1"),
        ('file_name,text\n1.png,"one\n2.png,two\n', "line 3: expected CSV, got: unexpected end"),
        ("file_name;text\n1.png;one\n", "line 2: expected file_name and text, got only file_name;"),
        ("file,caption\n1.png,one\n", "line 2: expected file_name and text, got only file, cap"),
    ],
)
def test_a_wrong_line_of_csv_is_named(tmp_path, text, said):
    with pytest.raises(ValueError, match=r"metadata.csv, " + said):
        read_metadata(written(tmp_path, "metadata.csv", text))
