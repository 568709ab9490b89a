"""Rules that could never work are refused with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from medtune.errors import MedtuneError
from medtune.safety.calm import load_calm
from medtune.safety.lexicon import Lexicon
from medtune.safety.measures import Measures
from medtune.safety.replies import REPLIES
from medtune.safety.rules import Findings, Ruleset, load_rules
from medtune.safety.text import split_words

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
        ("concepts:\n  a: [(x (y|z))]\n", "do not stand one pair after the other"),
        (
            _GOOD + "rules:\n  - {id: a, category: c, level: routine, all: [chest]}\n",
            "a names no source",
        ),
        (
            _GOOD
            + "rules:\n  - {id: a, category: c, level: routine, all: [chest], "
            + "points: {pain: 2}, enough: 3}\n",
            "can never fire: 3 points are enough, 2 possible",
        ),
        (
            _GOOD
            + "rules:\n  - {id: a, category: c, level: routine, all: [chest], points: {pain: x}, "
            + "enough: 1}\n",
            "whole numbers",
        ),
    ],
)
def test_a_wrong_rule_is_refused_with_its_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(MedtuneError) as refused:
        _load(tmp_path, text)
    assert says in str(refused.value)
    assert "r.yaml, line" in str(refused.value)


@pytest.mark.parametrize(
    ("text", "fires"),
    [
        ("chest sweat", False),
        ("sweat, pain, then the chest", True),
        ("chest pain pain", False),
        ("chest with pain and sweat for ages", False),
        ("chest with pain, no sweat", False),
    ],
)
def test_points_add_up_once_each_in_any_order(tmp_path: Path, text: str, fires: bool) -> None:
    file = tmp_path / "r.yaml"
    file.write_text(
        "source: a handbook\nconcepts:\n  chest: [chest]\n  pain: [pain*]\n  sweat: [sweat*]\n"
        "  long: [for ages]\n  cue_negation: [no]\n"
        "rules:\n  - {id: a, category: c, level: emergency, all: [chest], "
        "points: {pain: 2, sweat: 1, long: -1}, enough: 3}\n",
        encoding="utf-8",
    )
    lexicon = Lexicon([file])
    rules = Ruleset(load_rules([file], lexicon, REPLIES))
    fired = Findings(lexicon.read(split_words(text))).fire(rules)
    assert bool(fired) is fires
    assert all(f.rule.source == "a handbook" for f in fired)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("{when: [nowhere]}", "no concept “nowhere”"),
        ("{when: []}", "needs “when”"),
        ("{when: [chest], spares: [x]}", "no rule has the category “x”"),
        ("{when: [chest], most: none}", "whole number"),
        ("{when: [chest], colour: red}", "no “colour”"),
    ],
)
def test_a_wrong_row_of_calm_is_refused(tmp_path: Path, row: str, says: str) -> None:
    file = tmp_path / "r.yaml"
    file.write_text(_GOOD + f"calm:\n  - {row}\n", encoding="utf-8")
    with pytest.raises(MedtuneError, match="line 5") as refused:
        load_calm(file, Lexicon([file]), [])
    assert says in str(refused.value)


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
