"""Reading untrusted JSON and YAML."""

from __future__ import annotations

from pathlib import Path

import pytest

from specs import document
from specs.document import jsonpath, read_document
from specs.errors import InputError


def read(folder: Path, text: str | bytes, name: str) -> object:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_document(str(path))


def test_yaml_follows_the_core_schema_of_1_2(tmp_path: Path) -> None:
    text = """
ints: [1, -2, +3, 0o17, 0x1F, 012]
floats: [1e-4, 1., .5, 1E3, -0.0]
text: [yes, on, 1_000, '1', "2", 2020-01-01, 12:30, +, 1e, a b]
rest: [null, ~, true, False, '']
block: |
  1
nothing:
"""
    value = read(tmp_path, text, "a.yaml")
    assert value == {
        "ints": [1, -2, 3, 15, 31, 12],
        "floats": [1e-4, 1.0, 0.5, 1000.0, 0.0],
        "text": ["yes", "on", "1_000", "1", "2", "2020-01-01", "12:30", "+", "1e", "a b"],
        "rest": [None, None, True, False, ""],
        "block": "1\n",
        "nothing": None,
    }


def test_json_by_name_or_by_looks(tmp_path: Path) -> None:
    for name in ("a.json", "a.yaml", "a"):
        assert read(tmp_path, '\ufeff{"a": [1, 2.5, "x", null, true]}', name) == {"a": [1, 2.5, "x", None, True]}


@pytest.mark.parametrize(
    ("text", "name", "where", "said"),
    [
        ('{"a": 1,\n "b": }', "a.json", "line 2 column 7", "malformed JSON"),
        ("a: 1\nb: [1, 2\nc: 3\n", "a.yaml", "line 3 column ", "malformed YAML"),
        ("a: b: c\n", "a.yaml", "line 1 column ", "malformed YAML"),
        ("a: \x01\n", "a.yaml", "", "malformed YAML"),
        ('{"a": {"b": 1, "c": 2, "b": 3}}', "a.json", "$.a.b", "key 'b' stands there twice"),
        ('{"a": 1, "a": 3}', "a.json", "$.a", "key 'a' stands there twice"),
        ("a: 1\nb: 2\na: 3\n", "a.yaml", "line 3 column 1", "key 'a' stands there twice"),
        ('{"a": [1, NaN]}', "a.json", "$.a[1]", "NaN; a finite number"),
        ('{"a": -Infinity}', "a.json", "$.a", "-Infinity; a finite number"),
        ('{"a": 1e999}', "a.json", "$.a", "a finite number"),
        ("a: .nan\n", "a.yaml", "$.a", "nan; a finite number"),
        ('{"a": ' + "9" * 5000 + "}", "a.json", "$.a", "64 bits"),
        ("a: " + "9" * 5000, "a.yaml", "line 1 column 4", "64 bits"),
        ('{"a": ' + "9" * 20 + "}", "a.json", "$.a", "64 bits"),
        ("a: &x [1]\nb: *x\n", "a.yaml", "line 1 column 4", "anchor or alias"),
        ("a: *x\n", "a.yaml", "line 1 column 4", "anchor or alias"),
        ("a: !!python/object:os.system [ls]\n", "a.yaml", "line 1 column 4", "a tag"),
        ("a: !!str 1\n", "a.yaml", "line 1 column 4", "a tag"),
        ("a: 1\n1: 2\n", "a.yaml", "line 2 column 1", "a key that is not a string; strings as keys; write '1'"),
        ("[1, 2]: 3\n", "a.yaml", "line 1 column 1", "a key that is not a string"),
        ("a: 1\n---\nb: 1\n", "a.yaml", "line 2 column 1", "a second document"),
        ("[" * 200 + "]" * 200, "a.json", "$[0][0][0]", "nested more than 100"),
        ("[" * 200_000 + "]" * 200_000, "a.json", "", "nested more than 100"),
        ("[" * 200 + "]" * 200, "a.yaml", "line 1 column 102", "nested more than 100"),
        ("[" * 20_000, "a.yaml", "line 1 column 102", "nested more than 100"),
        (b"a: 1\nb: \xff\n", "a.yaml", "line 2 column 4", "not UTF-8"),
        (" \n", "a.yaml", "", "empty"),
        ("# only a comment\n", "a.yaml", "", "empty"),
    ],
)
def test_bad_document_is_one_line_with_its_place(tmp_path: Path, text: str | bytes, name: str, where: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, text, name)
    line = str(caught.value)
    assert line.startswith(f"{tmp_path}/{name} {where}".rstrip()) and said in line and "\n" not in line, line


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path, said in ((tmp_path / "none.json", "no such file"), (tmp_path, "a directory"), ("a\0b", "cannot be read")):
        with pytest.raises(InputError, match=said):
            read_document(str(path))
    monkeypatch.setattr(document, "MAX_BYTES", 10)
    with pytest.raises(InputError, match="too large"):
        read(tmp_path, '{"a": 123456789}', "a.json")


def test_jsonpath_quotes_what_is_no_plain_word() -> None:
    assert jsonpath(["kept", "relu_1", 3]) == "$.kept.relu_1[3]"
    assert jsonpath(["kept", "/fc/Relu", "12"]) == "$.kept['/fc/Relu']['12']"
