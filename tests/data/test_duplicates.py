"""Near duplicates and groups against computations that need no hashing."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from medtune.data.components import components, same_value_edges
from medtune.data.duplicates import Keys, exact, repeated_in, similar
from medtune.data.signatures import (
    band_hashes,
    banding,
    hashes,
    normalised,
    packed,
    signatures,
    unpacked,
)

WORDS = [f"{a}{b}" for a in ("ba", "ce", "di", "fo", "gu", "ha", "je", "ki", "lo", "mu") for b in ("nter", "rmal", "sk", "tion", "vex", "zil", "pra", "quin")]  # fmt: skip


def _pairs(text: str) -> set[tuple[str, str]]:
    words = text.split()
    return set(pairwise(words))


def _jaccard(one: str, other: str) -> float:
    a, b = _pairs(one), _pairs(other)
    return len(a & b) / len(a | b)


def _text(draw: Random, length: int = 120) -> str:
    return " ".join(draw.choice(WORDS) for _ in range(length))


def _edited(text: str, share: float, draw: Random) -> str:
    return " ".join(draw.choice(WORDS) if draw.random() < share else w for w in text.split())


@given(
    st.integers(1, 30).flatmap(
        lambda n: st.tuples(st.just(n), st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=40))
    )
)  # fmt: skip
def test_components_are_what_a_search_from_every_node_reaches(
    graph: tuple[int, list[tuple[int, int]]],
) -> None:
    count, edges = graph
    reached = []
    for start in range(count):
        seen, new = {start}, {start}
        while new:
            new = {b for a, b in [*edges, *((b, a) for a, b in edges)] if a in new} - seen
            seen |= new
        reached.append(min(seen))
    assert components(count, np.array(edges, np.int64).reshape(-1, 2)).tolist() == reached


@given(st.lists(st.integers(0, 5), max_size=30))
def test_equal_values_are_connected_with_their_first(values: list[int]) -> None:
    nodes = np.arange(len(values)) * 3
    edges = same_value_edges(np.array(values, np.int64), nodes)
    expected = [(values.index(v) * 3, i * 3) for i, v in enumerate(values) if values.index(v) != i]
    assert sorted(map(tuple, edges.tolist())) == sorted(expected)


def test_signatures_estimate_the_similarity_of_word_pairs() -> None:
    draw = Random(1)
    errors = []
    for share in (0.0, 0.02, 0.05, 0.1, 0.3):
        for _ in range(20):
            text = _text(draw)
            other = _edited(text, share, draw)
            signed = signatures(pa.array([text, other]))
            errors.append(float((signed[0] == signed[1]).mean()) - _jaccard(text, other))
    assert abs(float(np.mean(errors))) < 0.015
    assert float(np.std(errors)) < 0.5 / np.sqrt(128) + 0.01


def test_packed_signatures_compare_as_the_unpacked_do() -> None:
    draw = Random(2)
    signed = signatures(pa.array([_text(draw) for _ in range(7)]))
    assert np.array_equal(unpacked(packed(signed)), signed.astype(np.uint16))
    assert np.array_equal(unpacked(packed(signed).slice(2, 3)), signed[2:5].astype(np.uint16))


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8, 0.9, 1.0])
def test_bands_find_pairs_at_the_threshold(threshold: float) -> None:
    bands, rows = banding(threshold)
    assert bands * rows <= 128
    assert 1 - (1 - threshold**rows) ** bands >= 0.995


def test_words_decide_and_not_case_spacing_or_punctuation() -> None:
    texts = normalised(pa.array(["Hello,  World!\nÄrzte", "hello world ärzte", "hello worlds"]))
    assert texts.to_pylist()[:2] == ["hello world ärzte"] * 2
    hashed = hashes(texts)
    assert hashed[0] == hashed[1] != hashed[2]


def _keys(folder: Path, texts: list[str], threshold: float) -> Keys:
    parts = []
    for number, start in enumerate(range(0, len(texts), 100)):
        signed = signatures(pa.array(texts[start : start + 100]))
        columns = {
            f"pair_band_{i:02}": band
            for i, band in enumerate(band_hashes(signed, threshold).T.copy())
        }
        path = folder / f"part-{number:06}.parquet"
        parquet.write_table(pa.table({**columns, "pair_signature": packed(signed)}), path)
        parts.append(path)
    return Keys(parts, len(texts))


def test_near_duplicates_are_found_and_nothing_else(tmp_path: Path) -> None:
    draw = Random(3)
    texts = [_text(draw) for _ in range(300)]
    copies = {len(texts) + i: i * 2 for i in range(100)}
    texts += [_edited(texts[original], 0.04, draw) for original in copies.values()]
    keys = _keys(tmp_path, texts, 0.7)
    found = repeated_in(len(texts), similar(keys, "pair", np.ones(len(texts), bool), 0.7))
    truth = np.array(
        [i in copies and _jaccard(texts[i], texts[copies[i]]) >= 0.7 for i in range(len(texts))]
    )
    hit = int((found & truth).sum())
    assert hit >= 0.95 * truth.sum()
    assert int((found & np.array([i not in copies for i in range(len(texts))])).sum()) == 0


def test_rows_that_are_left_out_take_no_part(tmp_path: Path) -> None:
    draw = Random(4)
    text = _text(draw)
    keys = _keys(tmp_path, [text, text, text], 0.8)
    kept = np.array([False, True, True])
    assert similar(keys, "pair", kept, 0.8).tolist() == [[1, 2]]
    hashed = hashes(pa.array([text] * 3))
    assert exact(hashed, kept).tolist() == [False, False, True]
