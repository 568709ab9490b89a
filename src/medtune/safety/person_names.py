"""Names of people in a text, told from eponyms, medicines and places by cues and word lists."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from functools import cache
from importlib import resources
from itertools import zip_longest
from typing import Any

import yaml

_CAPITAL = r"[A-ZÀ-ÖØ-ÞŁŚŻČŠŽ][\w'’]*[^\W\d_](?:-[A-ZÀ-ÖØ-Þ][\w'’]*[^\W\d_])?"
_PARTICLE = r"(?:(?:de|la|le|van|der|den|von|bin|ibn|al|el|da|dos|del|di|du|ben|abu)\s+|Al-|El-)"
_CAPITAL_WORD = re.compile(
    r"(?<![\w'’-])[A-ZÀ-ÖØ-Þ](?:['’](?=[A-Z]))?[^\W\d_]*[a-zà-ÿ][^\W\d_]*(?:-[A-Z][a-zà-ÿ]+)?(?!\w)"
)
_BETWEEN_NAMES = re.compile(
    r"\s(?:[A-Z]\.?\s|(?:de|la|van|der|von|bin|al|el|da|dos|del|di|du)\s){0,2}"
)
_NAME = rf"(?:(?:[A-Z]\.\s?){{1,3}})?{_PARTICLE}{{0,2}}{_CAPITAL}(?:\s+[A-Z]\.)?(?:\s+{_PARTICLE}{{0,2}}{_CAPITAL}){{0,3}}"
_TITLED = re.compile(
    rf"\b(?P<title>Dr|DR|dr|Drs|Prof|Mr|mr|MR|Mrs|mrs|MRS|Ms|Miss|Mx|Shri|Smt|Kum|Doctor|doctor|Professor|Nurse|Sister|Herr|Frau|Señora?)"
    rf"(?P<dot>\.\s*|\s+)(?:(?:Dr|Mrs?|Prof)\.?\s+)?(?P<it>{_NAME})"
)
_NAMED = re.compile(
    r"\b(?:(?:my|his|her|the|our|whose|child's|baby's|patient'?s?|son's|daughter's|wife's|husband's|mother's|father's"
    r"|full|first|last|sur)\s*-?name(?:\s+(?:is|was)|'s|\s*[:=-])|names?\s*[:=]|name\s+of\s+(?:the\s+)?patient(?:\s+is|\s*[:=-])|myself"
    r"|named|i\s+am\s+called|people\s+call\s+me|patient\s*:|signed(?:\s+by)?\s*:?)\s*(?:(?:mr|mrs|ms|miss|dr)\.?\s+)?(?P<it>[^\W\d_][\w'’.-]*(?:\s+[^\W\d_][\w'’.-]*){0,3})",
    re.I,
)
_I_AM = re.compile(rf"\b(?:[Ii]\s+am|[Ii]['’]m|[Tt]his\s+is|[Ii]t['’]s|[Mm]e,)\s+(?P<it>{_NAME})")
_KIN = re.compile(
    r"\b(?:[Mm]y|[Hh]is|[Hh]er|[Oo]ur|[Tt]heir)\s+(?:\w+\s+)?(?:son|daughter|wife|husband|mother|father|mom|mum|dad|brother|sister|baby"
    r"|child|friend|uncle|aunt|grandmother|grandfather|grandma|grandpa|partner|cousin|nephew|niece|boyfriend|girlfriend|fianc[eé]e?"
    rf"|grandson|granddaughter|boy|girl|twins?|colleague|neighbou?r|roommate),?\s+(?P<it>{_NAME})"
)
_GREETED = re.compile(
    r"(?:^|[\n.!?,]\s*)(?:[Hh]i|[Hh]ello|[Dd]ear|[Hh]ey|[Gg]ood\s+(?:[Mm]orning|[Aa]fternoon|[Ee]vening)|[Nn]amaste|[Tt]hanks|[Tt]hank\s+[Yy]ou)"
    rf"\s*,?\s+(?P<it>{_NAME})(?P<after>\s*[,.!:\n-])?"
)
_SIGNED = re.compile(
    r"(?:(?i:regards|sincerely|thanks|thank\s+you|truly|wishes|cheers|faithfully|respectfully|take\s+care)|\n\s*[—-]+)[\s,.!-]*"
    rf"(?:[Dd]r\.?\s*)?(?P<it>{_NAME})(?=\s*(?:[,(]?\s*(?:M\.B\.B\.S|PhD|[A-Z]{{2,5}})\b[\w\s,.()-]*)?[\s.]*$)"
)
_LONGEST_SIGNATURE = 300
"""Characters from the word before it to the end of the text."""
_LOOSE_CUES = ("named", "myself", "patient:", "patient :", "signed", "signed by", "signed:")
_PLACE_BEFORE = re.compile(
    r"\b(?:San|Santa|Santo|Sao|St|Saint|Port|Fort|Mount|New|Los|Lake|Cape)\.?\s$", re.I
)
_TOKEN = re.compile(r"\S+")
_NOT_LETTERS = re.compile(r"\W+")

NAME_CUES = ("named", "titled", "kin", "greeted", "I am", "signed", "free")
"""What gives a name away: "my name is", a title, a relative, a greeting, "I am", the end of a
letter; or nothing but that it is a well-known first name."""

# Where a name may begin: a capital letter and more of a word, an initial, or a particle.
_BEGINS = (
    r"(?:\p{Lu}[\pL\pN_.'’]|(?:de|la|le|van|der|den|von|bin|ibn|al|el|da|dos|del|di|du|ben|abu)\s)"
)
_HINTS = (
    (
        r"\b(?:Dr|DR|dr|Drs|Prof|Mr|mr|MR|Mrs|mrs|MRS|Ms|Miss|Mx|Shri|Smt|Kum|Doctor|doctor|Professor|Nurse|Sister|Herr|Frau|Señora?)"
        rf"(?:\.\s*|\s+){_BEGINS}",
        ("titled",),
    ),
    (
        r"(?i:names?\s*[:=-]|name\s+(?:is|was|of)\b|name's|named|myself|i\s+am\s+called|people\s+call\s+me|\bpatient\s*:|\bsigned)",
        ("named",),
    ),
    (rf"(?:[Ii]\s+am|[Ii]['’]m|[Tt]his\s+is|[Ii]t['’]s|[Mm]e,)\s+{_BEGINS}", ("I am",)),
    (
        r"(?:son|daughter|wife|husband|mother|father|mom|mum|dad|brother|sister|baby|child|friend|uncle|aunt|grandma|grandpa"
        r"|partner|cousin|nephew|niece|boyfriend|girlfriend|fianc[eé]e?|boy|girl|twins?"
        rf"|colleague|neighbou?r|roommate),?\s+{_BEGINS}",
        ("kin",),
    ),
    (
        r"(?:^|[\n.!?,]\s*)(?i:hi|hello|dear|hey|good\s+(?:morning|afternoon|evening)|namaste|thanks|thank\s+you)"
        rf"\s*,?\s+{_BEGINS}",
        ("greeted",),
    ),
    (
        r"(?:(?i:regards|sincerely|thanks|thank\s+you|truly|wishes|cheers|faithfully|respectfully|take\s+care)|\n\s*[—-]+)"
        rf"[\s,.!-]*(?:[Dd]r\.?\s*)?{_BEGINS}[^!?:;]*\z",
        ("signed",),
    ),
)


@cache
def name_hints() -> tuple[tuple[str, tuple[str, ...]], ...]:
    """RE2 patterns and the cues they stand for; a cue none of whose patterns matches gives no name."""
    words = _words()
    given = "|".join(sorted(words["given"] - words["medical"]))
    ambiguous = "|".join(sorted(words["ambiguous"]))
    return (
        *_HINTS,
        (rf"\b(?:{given})\b", ("free",)),
        (
            rf"\b(?:{ambiguous})\s(?:(?:\p{{Lu}}\.?|de|la|van|der|von|bin|al|el|da|dos|del|di|du)\s){{0,2}}\p{{Lu}}",
            ("free",),
        ),
    )


@cache
def _words() -> dict[str, frozenset[str]]:
    def load(name: str) -> Any:
        return yaml.safe_load((resources.files("medtune.safety") / name).read_text("utf-8"))

    names, medical = load("names.yaml"), load("medical_names.yaml")
    lists = {key: frozenset(text.split()) for key, text in names.items()}
    lists["medical"] = frozenset((medical["eponyms"] + " " + medical["medicines"]).split())
    lists["medicines"] = frozenset(medical["medicines"].split())
    lists["followed_by"] = frozenset(medical["followed_by"].split())
    lists["phrases"] = frozenset(medical["phrases"])
    lists["phrase_words"] = frozenset(_NOT_LETTERS.split(" ".join(medical["phrases"]).casefold()))
    lists["known"] = lists["given"] | lists["surnames"] | lists["ambiguous"]
    lists["not_names_lower"] = frozenset(word.casefold() for word in lists["not_names"])
    lists["names_lower"] = frozenset(word.casefold() for word in lists["known"])
    return lists


@cache
def _protected() -> re.Pattern[str]:
    return re.compile("|".join(re.escape(p) for p in sorted(_words()["phrases"])), re.I)


def _is_protected(text: str, start: int, end: int) -> bool:
    """Whether the place lies in, or touches, a phrase such as "St John's wort"."""
    if _words()["phrase_words"].isdisjoint(_NOT_LETTERS.split(text[start:end].casefold())):
        return False
    margin = max(map(len, _words()["phrases"]))
    near = _protected().finditer(text, max(0, start - margin), end + margin)
    return any(phrase.start() < end and start < phrase.end() for phrase in near)


def person_names(text: str, cues: Collection[str] = NAME_CUES) -> Iterator[tuple[int, int]]:
    """Where names stand, in characters, by their start; they may overlap.

    Args:
        text: any text.
        cues: some of ``NAME_CUES``; only these are looked for.
    """
    words = _words()
    found: list[tuple[int, int]] = []

    def add(span: tuple[int, int] | None) -> None:
        if span:
            found.append(span)

    def matches(cue: str, pattern: re.Pattern[str], start: int = 0) -> Iterator[re.Match[str]]:
        return pattern.finditer(text, start) if cue in cues else iter(())

    for match in matches("named", _NAMED):
        add(_stated(text, match, words))
    for match in matches("titled", _TITLED):
        spelled_out = len(match["title"]) > 4
        if spelled_out and "." in match["dot"]:
            continue  # the sentence ends with the word "doctor"
        add(_trimmed(text, match, words, listed=spelled_out, eponyms=not spelled_out))
    for match in matches("kin", _KIN):
        add(_trimmed(text, match, words, listed=False))
    for match in matches("greeted", _GREETED):
        opened = match[0].lstrip("\n.!?, ")[:4].lower()
        add(_trimmed(text, match, words, listed=not (opened == "dear" and match["after"])))
    for match in matches("I am", _I_AM):
        add(_trimmed(text, match, words, listed=True))
    for match in matches("signed", _SIGNED, max(0, len(text) - _LONGEST_SIGNATURE)):
        # After a dash alone it may be the last item of a list: "- Lupus".
        add(_trimmed(text, match, words, listed=match[0].startswith("\n")))
    if "free" in cues:
        found += _free(text, words)
    found = [span for span in found if not _is_protected(text, *span)]
    found.sort(key=lambda span: (span[0], -span[1]))
    yield from found


def _tokens(text: str, start: int, end: int) -> list[tuple[str, int, int]]:
    return [(m[0], m.start(), m.end()) for m in _TOKEN.finditer(text, start, end)]


def _bare(token: str) -> str:
    token = token.rstrip(".,;:!?")
    return token[:-2] if token.endswith(("'s", "’s")) else token


def _trimmed(
    text: str,
    match: re.Match[str],
    words: dict[str, frozenset[str]],
    *,
    listed: bool,
    eponyms: bool = False,
) -> tuple[int, int] | None:
    """The part of a match that is a name: up to the first word that is none.

    Args:
        listed: the first word must be a known first name or surname.
        eponyms: a person may be called like an eponym here, as after a title.
    """
    start, end = match.span("it")
    stop = None
    for number, (token, at, _) in enumerate(_tokens(text, start, end)):
        word = _bare(token)
        initial = len(word) <= 2 and word.isupper() and token.endswith(".")
        refused = (
            word in words["not_names"]
            or word.casefold() in words["not_names_lower"]
            or (
                word.isupper()
                and len(word) > 1
                and not initial
                and word.title() not in words["known"]
            )
            or (word in words["medical"] and not (eponyms and word not in words["medicines"]))
        )
        if refused and word.casefold() not in ("de", "la", "van", "der", "al", "el", "du"):
            break
        if number == 0 and listed and word.split("-")[0] not in words["known"] and not initial:
            break
        stop = at + len(word) if not initial else at + len(token)
        if token[len(word) :] and not initial:  # punctuation ends a name
            break
    if stop is None or _is_eponym(text, stop, words):
        return None
    return start, stop


def _stated(
    text: str, match: re.Match[str], words: dict[str, frozenset[str]]
) -> tuple[int, int] | None:
    """A name after "my name is": also in small letters, then only as far as words are names."""
    start, end = match.span("it")
    stop = None
    for number, (token, at, _) in enumerate(_tokens(text, start, end)):
        word = _bare(token)
        if not word or word.casefold() in words["not_names_lower"] or word in words["medicines"]:
            break
        if number and not word[0].isupper() and word.casefold() not in words["names_lower"]:
            break
        if number == 0 and not word[0].isupper():
            cue = match[0][: start - match.start()].casefold()
            if cue.strip() in _LOOSE_CUES and word.casefold() not in words["names_lower"]:
                break
        if any(map(str.isdigit, word)) or (word.isupper() and len(word) > 12):
            break
        initial = len(word) == 1 and token.endswith(".")
        stop = at + len(token) if initial else at + len(word)
        if token[len(word) :] and not initial:
            break
    if stop is None or _is_eponym(text, stop, words):
        return None
    return start, stop


def _free(text: str, words: dict[str, frozenset[str]]) -> Iterator[tuple[int, int]]:
    """First names without a cue: those that are hardly anything else, and any before a surname."""
    capitals = list(_CAPITAL_WORD.finditer(text))
    for match, after in zip_longest(capitals, capitals[1:]):
        word = match[0]
        given = word in words["given"] and word not in words["medical"]
        if not given and word not in words["ambiguous"]:
            continue
        end, surname = match.end(), ""
        if after is not None and _BETWEEN_NAMES.fullmatch(text, end, after.start()):
            surname = after[0]
        if surname in words["surnames"] or (given and _may_be_surname(surname, words)):
            end = after.end() if after is not None else end
        elif not given:
            continue
        if surname.lower() in words["followed_by"] or _is_eponym(text, end, words):
            continue
        if not _PLACE_BEFORE.search(text, max(0, match.start() - 8), match.start()):
            yield match.start(), end


def _may_be_surname(word: str, words: dict[str, frozenset[str]]) -> bool:
    return (
        bool(word)
        and word not in words["not_names"]
        and word not in words["medical"]
        and not word.isupper()
    )


def _is_eponym(text: str, end: int, words: dict[str, frozenset[str]]) -> bool:
    """Whether a disease, sign or test follows, as in "Wilson's disease"."""
    after = re.match(r"(?:['’]s?)?(?:[\s-]+)(\w+)(?:\s+(\w+))?", text[end : end + 40])
    if after is None:
        return False
    first, second = after.groups()
    # "Guillain Barre syndrome": the disease may be named after a second person.
    two = second is not None and first[0].isupper() and second.lower() in words["followed_by"]
    return two or first.lower() in words["followed_by"]
