"""Tokens of every row with the model's own tokenizer and template, and what becomes of long rows."""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions when it is imported)

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from medtune.data.engine import Facts, write_part
from medtune.data.rows import Turn
from medtune.errors import MedtuneError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

_NEAR = 4
"""A row this close to the limit is counted whole, whatever the shortcut says."""
_TRIED = 64
_SENTENCE = re.compile(r"(?<=[.!?\n])\s+")
_BOUNDARY = re.compile(r"(?<=\S) (?=\S)")
_ODD_SPACES = r"\A | \z| [\s\v\x1C-\x1F\x{0085}\p{Z}]|[\s\v\x1C-\x1F\x{0085}\p{Z}] "
"""In RE2: texts with a space that is no boundary."""
_MOST_WORDS = 2_000_000
"""Kept in mind, some 200 MB; then counting starts afresh."""


@dataclass
class TokenCounter:
    """Counts the tokens of texts, word by word where that gives the same as the whole text.

    Tokenizers of Llama, Mistral and Qwen never join what a single space parts, so the counts of
    " word" add up and need to be found out only once for each word.  Whether this tokenizer is
    one of them is tried on the first texts; if not, every text is tokenized whole.
    """

    tokenizer: PreTrainedTokenizerBase
    _known: dict[str, int] = field(default_factory=dict)
    _starts: dict[str, int] = field(default_factory=dict)
    _words_add_up: bool | None = None
    _backend: Any = None

    def __post_init__(self) -> None:
        backend: Any = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is not None:
            # A copy: the padding that an earlier call set would count as tokens.
            self._backend = type(backend).from_str(backend.to_str())
            self._backend.no_padding()
            self._backend.no_truncation()

    def whole(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, tokenized as a whole."""
        if not texts:
            return []
        if self._backend is not None:
            backend = self._backend
            return [
                len(e) for e in backend.encode_batch_fast(list(texts), add_special_tokens=False)
            ]
        encoded = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        return [len(ids) for ids in encoded]  # type: ignore[arg-type]

    def count(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Tokens of each text."""
        import numpy as np

        if self._words_add_up is None:
            tried = sorted(texts, key=len, reverse=True)[: _TRIED // 2] + list(texts[:_TRIED])
            self._words_add_up = self._by_words(tried).tolist() == self.whole(tried)
        if self._words_add_up:
            return self._by_words(texts)
        return np.array(self.whole(texts), dtype=np.int64)

    def _by_words(self, texts: Sequence[str]) -> NDArray[np.int64]:
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        column = pa.array(texts, pa.string())
        # Only a single space between two words parts them; Arrow splits at every space.
        odd = np.asarray(pc.match_substring_regex(column, _ODD_SPACES))
        plain = pc.split_pattern(column.filter(pa.array(~odd)), " ")
        others = [_BOUNDARY.split(text) for text in column.filter(pa.array(odd)).to_pylist()]
        counts = np.zeros(len(texts), np.int64)
        counts[~odd] = self._sums(plain)
        counts[odd] = self._sums(pa.array(others, pa.list_(pa.string())))
        return counts

    def _sums(self, texts: pa.ListArray) -> NDArray[np.int64]:
        """Tokens of texts that are split into words; each has at least one."""
        import numpy as np
        import pyarrow.compute as pc

        if not len(texts):
            return np.zeros(0, np.int64)
        if len(self._known) > _MOST_WORDS:
            self._known.clear()
            self._starts.clear()
        words = texts.flatten().dictionary_encode()
        starts = np.asarray(texts.offsets)[:-1] - texts.offsets[0].as_py()
        opening = pc.take(words, starts).dictionary_decode().to_pylist()
        lengths = self._lengths(words.dictionary.to_pylist(), self._known, before="a ")
        counts = lengths[np.asarray(words.indices)]
        counts[starts] = self._lengths(opening, self._starts, before="")
        return np.add.reduceat(counts, starts)

    def _lengths(self, words: list[str], known: dict[str, int], before: str) -> NDArray[np.int64]:
        """Tokens that each word adds to what stands before it; found out once for each word."""
        import numpy as np

        new = [word for word in dict.fromkeys(words) if word not in known]
        base = self.whole([before.strip()])[0] if before else 0
        lengths = self.whole([before + word for word in new])
        known.update((w, n - base) for w, n in zip(new, lengths, strict=True))
        return np.array([known[word] for word in words], np.int64)


def turns(question: str, answer: str, history: Sequence[Turn], system: str) -> list[dict[str, str]]:
    """A row as the turns of a dialogue."""
    return [
        *([{"role": "system", "content": system}] if system else []),
        *({"role": t["role"], "content": t["content"]} for t in history),
        {"role": "user", "content": question},
        {"role": "assistant", "content": answer},
    ]


class Renderer:
    """Dialogues as the template writes them; plain ones by filling in what stands around the text.

    Whether filling in gives the template's own text is tried on the first rows.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self._around: dict[str, tuple[str, str, str] | None] = {}

    def text(self, question: str, answer: str, history: Sequence[Turn], system: str) -> str:
        if not history:
            around = self._around.get(system)
            if around is None and system not in self._around:
                around = self._around[system] = self._tried(system)
            if around is not None:
                before, between, after = around
                return f"{before}{question}{between}{answer}{after}"
        return self._rendered(question, answer, history, system)

    def _rendered(self, question: str, answer: str, history: Sequence[Turn], system: str) -> str:
        dialogue = turns(question, answer, history, system)
        return str(self.tokenizer.apply_chat_template(dialogue, tokenize=False))

    def _tried(self, system: str) -> tuple[str, str, str] | None:
        marks = ("qQx1", "aAx2")
        before, found, rest = self._rendered(*marks, (), system).partition(marks[0])
        between, found_too, after = rest.partition(marks[1])
        if not (found and found_too):
            return None
        for question, answer in (("A b?\n\nC.", "D e.\n- f"), ("{x} <b>", "1. y </think> z")):
            if (
                self._rendered(question, answer, (), system)
                != before + question + between + answer + after
            ):
                return None
        return before, between, after


@dataclass
class Fit:
    """Count the tokens of the rows in use, and drop or shorten those that are too long."""

    tokenizer: PreTrainedTokenizerBase
    max_length: int
    overlong: Literal["drop", "shorten_question", "error"]
    split_file: Path
    """The split of every row by id; only rows in use are looked at."""
    _counter: TokenCounter | None = None
    _renderer: Renderer | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_counter": None, "_renderer": None}

    def __call__(self, source: Path, target: Path) -> Facts:
        import numpy as np
        import pyarrow as pa
        from pyarrow import parquet

        self._counter = self._counter or TokenCounter(self.tokenizer)
        self._renderer = self._renderer or Renderer(self.tokenizer)
        table = parquet.read_table(
            source, columns=["id", "question", "answer", "history", "system"]
        )
        used = np.load(self.split_file, mmap_mode="r")[table.column("id").to_numpy()] >= 0
        rows = table.filter(pa.array(used)).to_pylist()
        texts = [self._text(row) for row in rows]
        tokens = self._counter.count(texts)
        near = np.flatnonzero(np.abs(tokens - self.max_length) <= _NEAR)
        if len(near):
            tokens[near] = self._counter.whole([texts[i] for i in near])
        questions: list[str | None] = [None] * len(rows)
        turns_cut = np.zeros(len(rows), np.int32)
        shortened = 0
        for i in np.flatnonzero(tokens > self.max_length):
            row = rows[i]
            if self.overlong == "error":
                raise MedtuneError(
                    f"Row {row['id']} has {tokens[i]} tokens, more than data.max_length="
                    f"{self.max_length}; raise it, or set data.overlong=drop."
                )
            if self.overlong == "shorten_question":
                fitted = self._shortened(row)
                if fitted is not None:
                    questions[i], turns_cut[i], tokens[i] = fitted
                    shortened += 1
        write_part(
            pa.table(
                {
                    "id": pa.array([row["id"] for row in rows], pa.int64()),
                    "tokens": tokens,
                    "question": pa.array(questions, pa.string()),
                    "turns_cut": turns_cut,
                }
            ),
            target,
        )
        return {"shortened": shortened}

    def _text(self, row: dict[str, Any]) -> str:
        assert self._renderer is not None
        return self._renderer.text(
            row["question"], row["answer"], row["history"] or (), row["system"]
        )

    def _shortened(self, row: dict[str, Any]) -> tuple[str, int, int] | None:
        """Question, turns cut and tokens of the row with as little cut as fits, or None.

        Earlier turns go first, oldest first.  Of the question the beginning and the end stay, for
        there stands who asks and what is asked; sentences go from the middle, then words.
        """
        assert self._counter is not None

        def length(question: str, history: Sequence[Turn]) -> int:
            assert self._counter is not None
            return self._counter.whole(
                [self._text({**row, "question": question, "history": history})]
            )[0]

        history = list(row["history"] or ())
        cut = 0
        while history and length(row["question"], history) > self.max_length:
            history, cut = history[2:], cut + 2
        if length(row["question"], history) <= self.max_length:
            return row["question"], cut, length(row["question"], history)
        for pieces in (_SENTENCE.split(row["question"]), row["question"].split()):
            low, high = 1, len(pieces) - 2  # how many go from the middle
            best: tuple[str, int] | None = None
            while low <= high:
                gone = (low + high) // 2
                first = (len(pieces) - gone) // 2
                rest = pieces[first + gone :]
                question = " ".join([*pieces[:first], "…", *rest])
                tokens = length(question, history)
                if tokens <= self.max_length:
                    best, high = (question, tokens), gone - 1
                else:
                    low = gone + 1
            if best is not None:
                return best[0], cut, best[1]
        return None
