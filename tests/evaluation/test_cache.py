from __future__ import annotations

from pathlib import Path

import pytest

from medtune.evaluation.cache import fingerprint, key_of, opened


def test_what_is_put_is_there_the_next_time(tmp_path: Path) -> None:
    path = tmp_path / "evaluation" / "cache.sqlite"
    key = key_of("answer", [1, 2], 20)
    with opened(path) as cache:
        assert cache.get([key]) == {}
        cache.put({key: {"text": "née"}})
    with opened(path) as cache:
        assert cache.get([key, "other"]) == {key: {"text": "née"}}


def test_what_was_done_before_an_interruption_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    with pytest.raises(KeyboardInterrupt), opened(path) as cache:
        cache.put({"a": 1})
        raise KeyboardInterrupt
    with opened(path) as cache:
        assert cache.get(["a"]) == {"a": 1}


def test_a_damaged_file_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    path.write_bytes(b"this is no database at all" * 100)
    with opened(path) as cache:
        cache.put({"a": 1})
        assert cache.get(["a"]) == {"a": 1}


def test_other_prompts_lengths_and_weights_have_other_keys(tmp_path: Path) -> None:
    assert len({key_of("answer", [1], 2), key_of("answer", [1], 3), key_of("loss", [1], 2)}) == 3
    weights = tmp_path / "adapter_model.safetensors"
    weights.write_bytes(b"one")
    before = fingerprint(tmp_path)
    assert fingerprint(tmp_path) == before
    weights.write_bytes(b"two")
    assert fingerprint(tmp_path) != before
