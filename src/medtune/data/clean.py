"""Clean questions and answers by rules that are data, counting what each rule changed.

The rules stand in ``cleaning.yaml``; a recipe can switch some off and add a file of its own.
Texts are Arrow arrays and a rule is one pass of RE2 over those that it matches, so a rule that
matches nothing costs next to nothing.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions when it is imported)

from __future__ import annotations

import html
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from medtune.errors import MedtuneError
from medtune.safety.redaction import hints, redact

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

Role = Literal["question", "answer"]
_KEYS = {"name", "why", "in", "find", "put", "do", "repeat", "examples"}
SAMPLES = 3


@dataclass(frozen=True)
class Rule:
    """One rule of ``cleaning.yaml``."""

    name: str
    why: str
    find: str
    put: str = ""
    do: str = ""
    roles: tuple[Role, ...] = ("question", "answer")
    repeat: bool = False
    examples: tuple[tuple[str, str], ...] = ()


@dataclass
class Found:
    """What the rules did to some texts."""

    changed: dict[str, int] = field(default_factory=dict)
    """Rule to number of texts that it changed."""
    samples: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    """Rule to a few texts before and after it."""
    identifiers: dict[str, int] = field(default_factory=dict)
    """Class of identifier to how many were redacted."""


def rules(
    off: tuple[str, ...] = (), own_file: str | None = None, redacted: bool = True
) -> list[Rule]:
    """The rules that apply, in order.

    Raises:
        MedtuneError: a rule to switch off does not exist, or the own file is wrong.
    """
    known = list(_builtin())
    if own_file is not None:
        known += _from_yaml(Path(own_file).expanduser())
    names = [rule.name for rule in known]
    for name in off:
        if name not in names:
            raise MedtuneError(
                f"There is no cleaning rule {name!r}; there are: {', '.join(names)}.", 2
            )
    return [r for r in known if r.name not in off and (redacted or r.do != "redact")]


def clean_texts(texts: pa.Array, role: Role, applied: list[Rule], found: Found) -> pa.Array:
    """The texts after all rules for their role.

    Args:
        texts: strings without nulls.
        role: who speaks: the patient's question or the doctor's answer.
        applied: the rules.
        found: gets the counts and samples.
    """
    for rule in applied:
        if role in rule.roles:
            texts = _apply(rule, texts, found)
    return texts


def _apply(rule: Rule, texts: pa.Array, found: Found) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    bits = _sifted(texts) if rule.do == "redact" else None
    matches = pc.match_substring_regex(texts, rule.find) if bits is None else pa.array(bits > 0)
    if not matches.true_count:
        return texts
    before = texts.filter(matches)
    if bits is not None:
        sifted = zip(before.to_pylist(), bits[bits > 0].tolist(), strict=True)
        after = pa.array([_redacted(text, found, hit) for text, hit in sifted], pa.string())
    elif rule.do:
        function = _FUNCTIONS[rule.do]
        after = pa.array([function(text) for text in before.to_pylist()], pa.string())
    else:
        after = pc.replace_substring_regex(before, rule.find, rule.put)
        for _ in range(3 if rule.repeat else 0):
            # What one removal uncovers, the next one finds: "Thanks. Regards, [NAME]".
            after = pc.replace_substring_regex(pc.utf8_trim_whitespace(after), rule.find, rule.put)
    differs = pc.not_equal(before, after)
    if not differs.true_count:
        return texts
    found.changed[rule.name] = found.changed.get(rule.name, 0) + differs.true_count
    samples = found.samples.setdefault(rule.name, [])
    if len(samples) < SAMPLES:
        some = [t.filter(differs)[: SAMPLES - len(samples)].to_pylist() for t in (before, after)]
        samples += [around_change(*pair) for pair in zip(*some, strict=True)]
    return pc.replace_with_mask(texts, matches, after)


def _sifted(texts: pa.Array) -> NDArray[np.int64]:
    """For each text which of the ``hints`` match it, one bit for each."""
    import numpy as np
    import pyarrow.compute as pc

    bits = np.zeros(len(texts), np.int64)
    for place, (pattern, _) in enumerate(hints()):
        bits |= np.asarray(pc.match_substring_regex(texts, pattern)).astype(np.int64) << place
    return bits


@cache
def _looked_for(bits: int) -> frozenset[str]:
    """What may be found in a text that these hints match."""
    return frozenset().union(*(f for place, (_, f) in enumerate(hints()) if bits >> place & 1))


def around_change(before: str, after: str, margin: int = 60) -> tuple[str, str]:
    """Both texts around the place where they differ, so that a sample is short."""
    start = 0
    while start < min(len(before), len(after)) and before[start] == after[start]:
        start += 1
    end = 0
    while end < min(len(before), len(after)) - start and before[-1 - end] == after[-1 - end]:
        end += 1
    low = max(0, start - margin)

    def cut(text: str) -> str:
        high = min(len(text), len(text) - end + margin)
        middle = text[low:high]
        if len(middle) > 400:
            middle = f"{middle[:200]} … {middle[-200:]}"
        return ("…" if low else "") + middle + ("…" if high < len(text) else "")

    return cut(before), cut(after)


def _redacted(text: str, found: Found, bits: int) -> str:
    text, spans = redact(text, _looked_for(bits))
    for identifier, _, _ in spans:
        found.identifiers[identifier] = found.identifiers.get(identifier, 0) + 1
    return text


def _characters(text: str) -> str:
    for ligature, letters in (("ﬀ", "ff"), ("ﬁ", "fi"), ("ﬂ", "fl"), ("ﬃ", "ffi"), ("ﬄ", "ffl")):
        text = text.replace(ligature, letters)
    return unicodedata.normalize("NFC", text)


def _mojibake(text: str) -> str:
    import ftfy

    return ftfy.fix_encoding(text)


def _punctuation(text: str) -> str:
    import re

    text = re.sub(r"[!?,;]*\?[!?,;]+|[!?,;]+\?[!?,;]*", "?", text)
    text = re.sub(r"[!,;]*![!,;]+|[!,;]+!", "!", text)
    return re.sub(r"\.{4,}", "...", re.sub(r"([,;])[,;]+", r"\1", text))


_FUNCTIONS: dict[str, Callable[[str], str]] = {
    "characters": _characters,
    "mojibake": _mojibake,
    "entities": html.unescape,
    "punctuation": _punctuation,
    "redact": lambda text: redact(text)[0],
}


@cache
def _builtin() -> tuple[Rule, ...]:
    text = resources.files("medtune.data").joinpath("cleaning.yaml").read_text("utf-8")
    return tuple(_rule(entry) for entry in yaml.safe_load(text))


def _from_yaml(path: Path) -> list[Rule]:
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        entries = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise MedtuneError(f"The cleaning rules {path} cannot be read: {error}.", 2) from None
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise MedtuneError(f"{path} must hold a list of rules with name, why and find.", 2)
    made = []
    for entry in entries:
        unknown = set(entry) - _KEYS
        if unknown or not {"name", "why"} <= set(entry) or not ({"find", "do"} & set(entry)):
            raise MedtuneError(
                f"{path}: the rule {entry.get('name', entry)!r} needs name, why and find, and may have "
                f"in, put, do, repeat and examples{f'; it has {sorted(unknown)}' if unknown else ''}.",
                2,
            )
        if entry.get("do") and entry["do"] not in _FUNCTIONS:
            raise MedtuneError(f"{path}: `do` is one of {', '.join(_FUNCTIONS)}.", 2)
        rule = _rule(entry)
        try:
            pc.match_substring_regex(pa.array([""]), rule.find)
        except pa.ArrowInvalid as error:
            raise MedtuneError(
                f"{path}: the rule {rule.name!r} is no RE2 pattern: {error}.", 2
            ) from None
        made.append(rule)
    return made


def _rule(entry: dict[str, Any]) -> Rule:
    told: Any = entry.get("in", ["question", "answer"])
    roles: Any = tuple([told] if isinstance(told, str) else told)
    return Rule(
        name=entry["name"],
        why=entry["why"],
        find=entry.get("find", ""),
        put=entry.get("put", ""),
        do=entry.get("do", ""),
        roles=roles,
        repeat=entry.get("repeat", False),
        examples=tuple((before, after) for before, after in entry.get("examples", [])),
    )
