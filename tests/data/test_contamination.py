from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from medtune.data.contamination import evaluation_grams, runs
from medtune.data.signatures import normalised

_WORDS = st.lists(st.sampled_from("a b c d".split()), max_size=14)  # noqa: SIM905


@given(st.lists(_WORDS, min_size=1, max_size=4), st.integers(1, 5))
def test_runs_are_equal_where_the_words_are_and_never_cross_texts(
    texts: list[list[str]], length: int
) -> None:
    grams, rows = runs(pa.array([" ".join(words) for words in texts]), length)
    expected = [
        (tuple(words[i : i + length]), row)
        for row, words in enumerate(texts)
        for i in range(len(words) - length + 1)
        if words
    ]
    assert rows.tolist() == [row for _, row in expected]
    codes: dict[tuple[str, ...], int] = {}
    for (words, _), gram in zip(expected, grams.tolist(), strict=True):
        assert codes.setdefault(words, gram) == gram
    assert len(set(codes.values())) == len(codes)


def test_short_evaluation_texts_count_as_a_whole_and_tiny_ones_do_not(tmp_path: Path) -> None:
    path = tmp_path / "e.json"
    path.write_text(
        json.dumps([{"q": "What is gout?", "d": ["one two three four five six seven"]}])
    )
    grams = evaluation_grams([str(path)], 13)
    assert list(grams) == [7]
    found, _ = runs(normalised(pa.array(["so One, two three four five six seven!"])), 7)
    assert np.isin(found, grams[7]).tolist() == [False, True]
