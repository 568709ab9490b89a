"""Rules that could never work are refused with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from medtune.errors import MedtuneError
from medtune.safety.lexicon import Lexicon
from medtune.safety.measures import Measures
from medtune.safety.replies import REPLIES
from medtune.safety.rules import load_rules

_GOOD = "concepts:\n  chest: [chest]\n  pain: [pain*]\n"


def _load(tmp_path: Path, text: str) -> None:
    file = tmp_path / "r.yaml"
    file.write_text(text, encoding="utf-8")
    load_rules([file], Lexicon([file]), REPLIES)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("concepts:\n  a: [<b>]\n", "line 2: a refers to <b>, which is nowhere"),
        ("concepts:\n  a: [<b>]\n  b: [<a>]\n", "in a circle"),
        ("concepts:\n  a: [Chest]\n", "write small letters"),
        ("concepts:\n  a: [ab*]\n", "too many words"),
        ("concepts:\n  a: [x _3]\n", "ends with a gap"),
        ("concepts:\n  a: [the]\n", "in every message"),
        ("concepts:\n  a: [im]\nread_as: {im: i am}\n", "read as “i am”"),
        ("concepts: [\n", "no YAML"),
        (_GOOD + "rules:\n  - {id: a, category: c, level: high, all: [chest]}\n", "no level"),
        (
            _GOOD + "rules:\n  - {id: a, category: c, level: routine, all: [leg]}\n",
            "line 5: a names the concept “leg”",
        ),
        (
            _GOOD
            + "rules:\n  - {id: a, category: c, level: routine, all: [chest], unless: [chest]}\n",
            "can never fire",
        ),
        (
            _GOOD + "rules:\n  - {id: a, category: c, level: routine, all: [chest], colour: red}\n",
            "no “colour”",
        ),
        (
            _GOOD
            + "rules:\n  - {id: a, category: c, level: routine, all: [chest, pain]}\n"
            + "  - {id: b, category: c, level: emergency, all: [pain, chest]}\n",
            "line 6: b contradicts a (r.yaml, line 5)",
        ),
    ],
)
def test_a_wrong_rule_is_refused_with_its_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(MedtuneError) as refused:
        _load(tmp_path, text)
    assert says in str(refused.value)
    assert "r.yaml, line" in str(refused.value)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("{pattern: '(', means: {a: [1, 2]}}", "malformed"),
        ("{pattern: 'x', means: {a: [1, 2]}}", "(?P<n>"),
        ("{pattern: '(?P<n>x)', means: {a: [3, 2]}}", "never be met"),
    ],
)
def test_a_wrong_measure_is_refused(tmp_path: Path, row: str, says: str) -> None:
    file = tmp_path / "m.yaml"
    file.write_text(f"measures:\n  - {row}\n", encoding="utf-8")
    with pytest.raises(MedtuneError, match="line 2") as refused:
        Measures(file)
    assert says in str(refused.value)
