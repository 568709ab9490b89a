"""The network over all of a message: its arithmetic, what it is given, and what it may change."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from medtune.errors import MedtuneError
from medtune.safety.assess import assess, findings_of, weighing
from medtune.safety.lexicon import Lexicon
from medtune.safety.rules import ONE_PICTURE
from medtune.safety.vignettes import vignettes
from medtune.safety.weighing import (
    MOST_STRETCHES,
    Names,
    Network,
    features,
    gathered,
    load_network,
    load_weighing,
    save_network,
    stretches,
)


def _network(names: list[str], width: int = 4, hidden: int = 5) -> Network:
    rng = np.random.default_rng(0)

    def drawn(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    vectors = rng.integers(-127, 128, (len(names), width)).astype(np.int8)
    alone = drawn(len(names), 3).astype(np.float16).astype(np.float32)
    layers = (drawn(width), drawn(width, hidden), drawn(hidden), drawn(hidden, 3), drawn(3))
    return Network(
        Names(names), alone, vectors, (np.abs(drawn(width)) / 127).astype(np.float32), layers
    )


def _by_hand(network: Network, found: list[int]) -> list[float]:
    """Number by number, with no array arithmetic."""
    start, first, first_start, second, second_start = (layer.tolist() for layer in network.layers)
    summed = [
        max(0.0, start[k] + sum(float(network.vectors[i][k]) * network.scale[k] for i in found))
        for k in range(len(start))
    ]
    inner = [
        max(0.0, first_start[j] + sum(summed[k] * first[k][j] for k in range(len(summed))))
        for j in range(len(first_start))
    ]
    return [
        second_start[c]
        + sum(inner[j] * second[j][c] for j in range(len(inner)))
        + sum(float(network.alone[i][c]) for i in found)
        for c in range(3)
    ]


def test_sums_and_shares_are_those_worked_out_by_hand() -> None:
    network = _network(["", "a", "b", "c", "d"])
    parts = [[1, 2, 4], [3], [0, 2]]
    for part in parts:
        np.testing.assert_allclose(network.sums([part])[0], _by_hand(network, part), rtol=1e-4)
    np.testing.assert_allclose(
        network.sums(parts), [_by_hand(network, part) for part in parts], rtol=1e-4
    )
    whole = np.array(_by_hand(network, [1, 2, 4]))
    without = [np.array(_by_hand(network, rest)) for rest in ([2, 4], [1, 4], [1, 2])]
    np.testing.assert_allclose(
        network.shares([1, 2, 4]), [whole - w for w in without], rtol=1e-3, atol=1e-5
    )


def test_a_network_comes_back_as_it_was_written(tmp_path: Path) -> None:
    network = _network(["", "chest", "chest pain", "c:chest", "n:chest", "r:1"])
    save_network(tmp_path / "fitted.npz", network)
    back = load_network(tmp_path / "fitted.npz")
    assert back.names.index == network.names.index
    assert back.names.pairs == {"chest": {"pain"}}
    assert back.names.concepts == {"chest"}
    np.testing.assert_array_equal(back.sums([[1, 2], [5]]), network.sums([[1, 2], [5]]))


def test_what_is_looked_for_is_what_was_fitted() -> None:
    """The fit takes all there is, the assessment only what has a weight; they must not part."""
    names = weighing().network.names
    for row in islice(vignettes(), 0, None, 7):
        findings, fired = findings_of(row.messages)
        parts = stretches(len(findings.reading.words.words))
        everything = gathered(features(findings, fired), parts)
        looked_for = gathered(features(findings, fired, names), parts)
        for fitted, found in zip(everything, looked_for, strict=True):
            assert fitted.keys() & names.index.keys() == found.keys() & names.index.keys(), row.id


@pytest.mark.parametrize("length", [0, 1, ONE_PICTURE, ONE_PICTURE + 1, 3 * ONE_PICTURE, 1000])
def test_stretches_cover_a_message_and_overlap(length: int) -> None:
    parts = stretches(length)
    assert parts[0].start == 0
    assert parts[-1].stop == length
    assert all(len(part) <= ONE_PICTURE for part in parts)
    # Ten neighbouring words are together in one of them.
    for at in range(max(0, length - 10)):
        assert any(part.start <= at and at + 10 <= part.stop for part in parts)


def test_of_an_endless_message_both_ends_are_weighed() -> None:
    parts = stretches(1_000_000)
    assert len(parts) == MOST_STRETCHES
    assert (parts[0].start, parts[-1].stop) == (0, 1_000_000)


def test_each_stretch_holds_what_stands_in_it() -> None:
    found = [(i, f"w{i}") for i in range(200)] + [(i, "same") for i in range(0, 200, 50)]
    parts = stretches(200)
    for part, names in zip(parts, gathered(found, parts), strict=True):
        expected = {f"w{i}" for i in part} | ({"same"} if {0, 50, 100, 150} & {*part} else set())
        assert {name for name in names if not name.startswith("length:")} == expected


def test_harmless_words_around_it_take_nothing_from_an_emergency() -> None:
    emergency = "His face has dropped on one side and he cannot speak."
    story = (
        "We went to the market on Sunday and bought apples for a cake. The weather was fine. " * 12
    )
    assert assess(story).urgency != "emergency"
    for text in (emergency, story + emergency, emergency + story, story + emergency + story):
        assert assess(text).urgency == "emergency"


def test_what_alarms_without_a_rule_shows_the_words_that_weighed_most() -> None:
    alone = [
        (row, found)
        for row in vignettes()
        if row.level == "emergency" and len(row.messages) == 1
        for found in [assess(row.messages)]
        if found.rules[:1] in (("weighed-together",), ("weighed-crisis",))
    ]
    assert alone, "some vignette alarms by its weight"
    for row, found in alone:
        assert found.spans, row.id
        assert all(row.messages[s.message][s.start : s.end].strip() for s in found.spans)


_ROW = "{believed_from: 0, gravest_from: -1, alone_from: 1, declines_from: 2, source: x}"


@pytest.mark.parametrize(
    ("row", "names", "says"),
    [
        ("{believed_from: 1}", [""], "weighing.yaml, line 2: weighing needs believed_from"),
        (
            _ROW.replace("gravest_from: -1", "gravest_from: 1"),
            [""],
            "the gravest rules need the least",
        ),
        (_ROW.replace("alone_from: 1", "alone_from: -1"), [""], "the gravest rules need the least"),
        (_ROW.replace(", source: x", ""), [""], "names no source"),
        (_ROW, ["", "c:leg"], "weighs a concept that does not exist, “leg”"),
        (_ROW, ["", "n:leg"], "weighs a concept that does not exist, “leg”"),
    ],
)
def test_a_wrong_weighing_is_refused(tmp_path: Path, row: str, names: list[str], says: str) -> None:
    concepts = tmp_path / "r.yaml"
    concepts.write_text("version: 1\nconcepts:\n  chest: [chest]\n", encoding="utf-8")
    (tmp_path / "weighing.yaml").write_text(f"weighing:\n  - {row}\n", encoding="utf-8")
    save_network(tmp_path / "fitted.npz", _network(names))
    with pytest.raises(MedtuneError) as refused:
        load_weighing(tmp_path, Lexicon([concepts]))
    assert says in str(refused.value)
