"""Registers: what is read, what is refused and in which words, and whose names a hash stands for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eraser_core.errors import EraserError
from eraser_core.optout.register import hashed, named, read_register

CSV = """name,name_hash,salt,kind,synonyms,anchor,basis,source,date,scope
guitar,,,object,ukulele | six-string,violin,asked,"mail, 3 Nov",2026-11-03,all
,{hash},s1,style,,,,,,
Jane Roe,,,identity,,,,,,
"""


def written(folder: Path, text: str, name: str = "r.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_table_and_a_list_say_the_same(tmp_path):
    table = read_register(written(tmp_path, CSV.format(hash=hashed("ink", "s1"))))
    rows = [{k: v for k, v in e.model_dump().items() if v} for e in table.entries]
    listed = read_register(written(tmp_path, json.dumps(rows), "r.json"))
    assert listed.entries == table.entries
    assert table.entries[0].synonyms == ("ukulele", "six-string")
    assert table.entries[0].source == "mail, 3 Nov"
    assert listed.digest != table.digest


def test_a_hash_is_found_among_the_names_and_a_person_needs_a_word(tmp_path):
    register = read_register(written(tmp_path, CSV.format(hash=hashed("ink", "s1"))))
    found = named(register, ["clay", " Ink "], identities=False)
    assert [name for _, name in found.known] == ["guitar", " Ink "]
    assert list(found.left_out) == ["Jane Roe"]
    assert "--identities" in found.left_out["Jane Roe"]
    without = named(register, ["clay"], identities=True)
    assert [name for _, name in without.known] == ["guitar", "Jane Roe"]
    (label,) = without.left_out
    assert label.startswith("sha256:")
    assert hashed("ink", "s1") != hashed("ink", "s2")


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("name\n", "r.csv", "holds no opt-out"),
        ("", "r.csv", "neither name nor name_hash"),
        ("artist\nink\n", "r.csv", "It has artist"),
        ("name,kind\nink,painter\n", "r.csv", "line 2 (kind)"),
        ("name,kind\nink\n", "r.csv", "line 2: it has more or fewer cells"),
        ("name,kind\nink,style,x\n", "r.csv", "line 2: it has more or fewer cells"),
        ("name,date\nink,yesterday\n", "r.csv", "line 2 (date)"),
        ("name,kind\n,style\n", "r.csv", "an entry has a name or a name_hash"),
        ("name,name_hash,salt\n," + "a" * 64 + ",\n", "r.csv", "needs the salt"),
        ("name,name_hash,salt\n,abc,s\n", "r.csv", "line 2 (name_hash)"),
        ("name\nink\n Ink\n", "r.csv", "names 'ink' twice"),
        ("name,synonyms\ndog,puppy\npuppy,\n", "r.csv", "names 'puppy' twice"),
        ('name\n"ink\n', "r.csv", "check the quotes"),
        ("{}", "r.json", "holds no list"),
        ("[1]", "r.json", "holds no list"),
        ("[", "r.json", "is not JSON"),
        ("[]", "r.json", "holds no opt-out"),
        ('[{"name": "ink", "style": 1}]', "r.json", "entry 1 (style)"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(tmp_path, text, name, message):
    with pytest.raises(EraserError) as error:
        read_register(written(tmp_path, text, name))
    assert message in str(error.value)


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "r.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(EraserError, match="UTF-8"):
        read_register(tmp_path / "r.csv")
    with pytest.raises(EraserError, match="UTF-8"):
        read_register(tmp_path / "none.csv")


def test_ten_thousand_lines_are_read(tmp_path):
    path = written(tmp_path, "name\n" + "\n".join(f"artist {i}" for i in range(10_000)))
    assert len(read_register(path).entries) == 10_000
