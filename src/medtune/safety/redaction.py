"""Find what identifies a person in a text, and put typed placeholders in its place.

Names, e-mail addresses, phone numbers, postal addresses, dates of birth and record numbers.
Precision matters as much as recall: a medicine, an eponym such as Crohn or Parkinson, a dose, a
laboratory value and the date of a visit stay.  Everything is decided by cues and word lists; no
model, no network.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib import resources
from typing import Literal, get_args

import yaml

from medtune.safety.person_names import NAME_CUES, name_hints, person_names

Identifier = Literal["EMAIL", "BIRTH_DATE", "RECORD_NUMBER", "PHONE", "ADDRESS", "NAME"]
IDENTIFIERS: tuple[Identifier, ...] = get_args(Identifier)
"""In order of precedence: where two overlap, the first one counts."""

Span = tuple[Identifier, int, int]
"""What was found, and from where to where in the original text, in characters."""

_EMAIL = re.compile(
    r"(?<![\w@])[\w.%+-]{1,64}\s?@\s?[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,24}\b"
    r"|\b[\w.%+-]{2,64}\s*[(\[]\s*at\s*[)\]]\s*[\w-]+\s*(?:\.|[(\[]\s*dot\s*[)\]]|\sdot\s)\s*[A-Za-z]{2,24}\b"
    r"|\b(?:\w+\sdot\s)?[\w.%+-]{2,64}\sat\s[\w-]+\sdot\s(?:com|org|net|edu|in|uk|de|fr)\b",
    re.I,
)

_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|sept|oct|nov|dec)[a-z]*"
_DATE = (
    rf"(?:\d{{1,2}}\s*[/.-]\s*\d{{1,2}}\s*[/.-]\s*\d{{2,4}}|\d{{4}}\s*[/.-]\s*\d{{1,2}}\s*[/.-]\s*\d{{1,2}}"
    rf"|\d{{1,2}}(?:st|nd|rd|th)?\s*[-/ ]?\s*(?:of\s+)?{_MONTH}\.?\s*[-/,]?\s*\d{{2,4}}"
    rf"|{_MONTH}\.?\s+\d{{1,2}}(?:st|nd|rd|th)?,?\s+\d{{4}})"
)
_BIRTH_DATE = re.compile(
    r"\b(?:d\.?\s?o\.?\s?b\.?|dates? of birth|birth\s?-?dates?|birth\s?days?|born(?:\s+on)?)"
    rf"(?:\s+(?:is|was|on|the))*[\s:=,()-]{{0,6}}(?P<it>{_DATE})(?!\d)",
    re.I,
)

_RECORD_CUE = (
    r"(?:mrn|uhid|ssn|nhs|mrd|emr|aadhaa?r|medicare|medicaid|social\s+security|health\s+card|passport"
    r"|(?:medical|patient|hospital|health|case|chart|file|registration|reg|insurance|policy|member"
    r"|membership|account|admission|accession|lab|sample|bill|ip|op|opd|ipd|driver'?s?\s+licen[cs]e)\.?"
    r"(?:\s+(?:record|file|chart|registration|insurance|reference))?\s*(?:id|no|nr|number|num|\#)"
    r"|(?:medical\s+)?record|patient(?=\s*\#)|chart(?=\s*\#))"
)
_RECORD_NUMBER = re.compile(
    rf"\b{_RECORD_CUE}(?:\s*(?:number|no|id|code|card|is|was|as)\b)*\.?[\s:=\#.-]*"
    r"(?P<it>(?:[A-Z]{1,5}[-/ ]?)?\d[A-Z\d]*(?:[-/ ]?[A-Z\d]*\d[A-Z\d]*){0,5})(?![\w%])"
    r"|(?<![\w-])(?P<ssn>\d{3}-\d{2}-\d{4})(?![\w-])"
    r"|(?<![\w.-])(?P<aadhaar>\d{4}\s\d{4}\s\d{4})(?![\w-]|\s\d)",
    re.I,
)

_PHONE = re.compile(
    r"(?<![\w.,/:=+-])(?P<it>(?:\+\s?|00)?\(?\d(?:[\s().-]{0,2}\d){6,14})(?![\w%]|[.,/-]\d)"
)
_PHONE_CUE = re.compile(
    r"\b(?:phone|telephone|tel|mobile|mob|cell(?:ular|phone)?|call(?:ed)?|contact|whats\s?app|fax|dial|text|sms"
    r"|ring|reach|landline|ph|helpline|number|no)\b[^\d\n]{0,28}$",
    re.I,
)
_PHONE_SHAPE = re.compile(
    r"(?:\+\s?|00)[\d\s().-]+"  # with a country code
    r"|(?:1[\s.-]?)?\(?[2-9]\d{2}\)?[\s.-]{0,2}\d{3}[\s.-]\d{4}"  # North America
    r"|[6-9]\d{9}|[6-9]\d{4}[\s-]\d{5}|0?[6-9]\d{2}[\s-]\d{3}[\s-]\d{4}"  # India
    r"|\(?0\d{2,4}\)?[\s/.-]?\d{3,4}[\s.-]?\d{3,6}"  # trunk prefix 0: United Kingdom, Germany, ...
    r"|0\d(?:[\s.-]\d{2}){4}"  # France
)
_NOT_PHONE_AFTER = re.compile(
    r"\s*(?:mg|mcg|ml|g|kg|iu|units?|cells?|cumm|/|per\b|lakhs?|million|copies|cm|mm|steps|years?|days?|weeks?|hours?)\b|\s*[x×]",
    re.I,
)
_IS_DATE = re.compile(rf"{_DATE}", re.I)

_STREET = (
    r"(?:Street|St|Road|Rd|Avenue|Ave|Lane|Ln|Drive|Dr|Boulevard|Blvd|Court|Ct|Place|Pl|Square|Sq|Terrace|Way"
    r"|Close|Crescent|Nagar|Marg|Colony|Circle|Highway|Hwy|Parkway|Pkwy|Layout|Gardens?|Grove|Row|Trail|Vihar|Chowk"
    r"|Enclave|Mews|Quay|Park|Hill|Ridge|Loop|Path|Sector|Phase|Society|Apartments?|Towers?)"
)
_POSTCODE = (
    r"(?:\d{5}(?:-\d{4})?|\d{3}\s?\d{3}|[A-Z]{1,2}\d[A-Z\d]?\s?\d[A-Z]{2}|[A-Z]\d[A-Z]\s?\d[A-Z]\d)"
)
_TOWN = (
    r"(?:,\s*(?:(?:Apt|Flat|Suite|Unit|Floor|\#)\.?\s*\w+|[A-Z][a-zß-ÿ]+(?:\s[A-Z][a-zß-ÿ]+){0,2}))"
)
_FLAT = r"(?:(?i:flat|apt|apartment|house|plot|door|unit|room|suite|block|h\.?\s?no)\.?\s*(?:(?i:no|number)\.?\s*)?\#?\s?[A-Z]?-?\d+[\w/-]*,?\s+)"
_ADDRESS = re.compile(
    rf"(?<![\w.,/-]){_FLAT}?\#?\d{{1,5}}(?:[A-Za-z]\b|[/-]\d+)?,?\s+(?:(?:[A-Z][\w'’.-]*|\d+(?:st|nd|rd|th)|of|the|de)\s+){{1,4}}"
    rf"{_STREET}\b\.?(?:\s*(?:Apt|Apartment|Flat|Suite|Unit|\#)\.?\s*\#?\w+)?{_TOWN}{{0,4}}(?:,?\s*[A-Z]{{2}})?(?:[\s,-]*{_POSTCODE}\b)?"
    rf"|{_FLAT}(?:[A-Z][\w'’.-]*,?\s+){{1,4}}{_STREET}\b{_TOWN}{{0,4}}(?:[\s,-]*{_POSTCODE}\b)?"
    r"|\b[A-ZÄÖÜ][\wäöüß-]*(?:straße|strasse|str\.|gasse|allee|platz)\s+\d{1,4}[a-z]?\b(?:,?\s*\d{5}\s+[A-ZÄÖÜ][\wäöüß-]+)?"
    r"|\bP\.?\s?O\.?\s?Box\s+\d+"
)
_ADDRESS_CUED = re.compile(
    r"\b(?:my|his|her|our|home|postal|mailing|residential)\s+address(?:\s+is)?\s*[:,-]?\s*(?P<it>\#?\d[^.;\n]{8,90})"
    r"|\b(?:live|lives|living|reside|resides|residing|stay|staying)\s+(?:at|in)\s+(?P<it2>\#?\d{1,5}[A-Za-z]?[\s,]+[A-Za-z][^.;\n]{5,70}?)(?=[.;\n]|\sand\s|\swith\s|\sbut\s|$)"
    rf"|\b(?:zip|pin|post(?:al)?)\s?-?code\s*(?:is|:|-)?\s*(?P<it3>{_POSTCODE})\b",
    re.I,
)

_DIGIT = re.compile(r"\d")
_FOUR_DIGITS = re.compile(r"\d(?:[-/ ]?[A-Z\d]){3}")
_STREET_WORD = re.compile(
    rf"(?<=[\w.] ){_STREET}\b|P\.?\s?O\.?\s?Box|stra(?:ss|ß)e|str\.|gasse|allee|platz"
)

_WORD = r"[\pL\pN_.'’-]"  # RE2's own \w knows only ASCII
_HINTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"@|(?i:[(\[]\s*at\s*[)\]]|\sdot\s)", ("EMAIL",)),
    (r"\d[\s().-]{0,2}(?:\d[\s().-]{0,2}){5}\d", ("PHONE", "RECORD_NUMBER")),
    (
        r"(?i:(?:\b|medical|patient|hospital|health|case|chart|file|reg|registration|insurance|policy|member(?:ship)?|account"
        r"|admission|accession|lab|sample|bill|ip|op|opd|ipd)"
        r"(?:no|nr|num|number|id|mrn|uhid|ssn|nhs|mrd|emr|aadhaa?r|medicare|medicaid|security|card"
        r"|passport|record|chart|patient)(?:\b[\sa-z:=#.-]{0,24}|[a-z]{0,5}[-/ ]?)\d|#[\sa-z:=#.-]{0,24}\d)",
        ("RECORD_NUMBER",),
    ),
    (r"(?i:\bborn|birth|\bd\.?\s?o\.?\s?b(?:\b|\d))", ("BIRTH_DATE",)),
    (
        rf"\d[\pL\pN_/-]*,?\s+(?:[\p{{Lu}}\d]{_WORD}*,?\s+|of\s+|the\s+|de\s+){{1,4}}{_STREET}\b",
        ("ADDRESS",),
    ),
    (
        r"(?i:\baddress|\b(?:live|lives|living|resid\pL+|stay|staying)\s+(?:at|in)\s+#?\d|p\.?\s?o\.?\s?box|stra(?:ß|ss)e"
        r"|str\.\s+\d|gasse|allee|platz|\b(?:zip|pin|post(?:al)?)\s?-?code)",
        ("ADDRESS",),
    ),
)
FINDERS: frozenset[str] = frozenset({*IDENTIFIERS, *NAME_CUES} - {"NAME"})
"""What can be looked for: every class of identifier; names by the cue that gives them away."""


@cache
def hints() -> tuple[tuple[str, frozenset[str]], ...]:
    """RE2 patterns, and which of ``FINDERS`` can find something where the pattern matches.

    A finder none of whose patterns matches finds nothing.  For whoever has millions of texts and
    can sift them faster than Python can read them.  (As one pattern they would be a hundred times
    slower: its automaton does not fit RE2's memory.)
    """
    return tuple((pattern, frozenset(finders)) for pattern, finders in (*_HINTS, *name_hints()))


@cache
def _public_numbers() -> frozenset[str]:
    text = resources.files("medtune.safety").joinpath("medical_names.yaml").read_text("utf-8")
    return frozenset(yaml.safe_load(text)["public_numbers"])


def redact(text: str, looked_for: frozenset[str] = FINDERS) -> tuple[str, list[Span]]:
    """The text with ``[NAME]``, ``[EMAIL]``, ``[PHONE]``, ``[ADDRESS]``, ``[BIRTH_DATE]`` and
    ``[RECORD_NUMBER]`` in place of what identifies a person.

    Args:
        text: any text.
        looked_for: some of ``FINDERS``; the others are known, by ``hints``, to find nothing.

    Returns:
        The new text, and what was found as ``(class, start, end)`` in characters of the original
        text, in order, without overlap.
    """
    spans = find(text, looked_for)
    if not spans:
        return text, []
    parts, end = [], 0
    for identifier, start, stop in spans:
        parts += [text[end:start], f"[{identifier}]"]
        end = stop
    return "".join([*parts, text[end:]]), spans


def find(text: str, looked_for: frozenset[str] = FINDERS) -> list[Span]:
    """What identifies a person in the text, in order, without overlap."""
    taken: list[Span] = []
    covered = bytearray(len(text))

    def take(identifier: Identifier, found: Iterable[tuple[int, int]]) -> None:
        for start, end in found:
            if start < end and covered.find(1, start, end) < 0:
                covered[start:end] = b"\1" * (end - start)
                taken.append((identifier, start, end))

    digits = _DIGIT.search(text) is not None
    for identifier, finder in _FINDERS.items():
        if identifier in looked_for and (digits or identifier == "EMAIL"):
            take(identifier, finder(text))
    take("NAME", person_names(text, looked_for))
    return sorted(taken, key=lambda span: span[1])


def _emails(text: str) -> Iterator[tuple[int, int]]:
    if "@" in text or " dot " in text.lower() or "at)" in text.lower() or "at]" in text.lower():
        yield from (match.span() for match in _EMAIL.finditer(text))


def _birth_dates(text: str) -> Iterator[tuple[int, int]]:
    yield from (match.span("it") for match in _BIRTH_DATE.finditer(text))


def _record_numbers(text: str) -> Iterator[tuple[int, int]]:
    for match in _RECORD_NUMBER.finditer(text) if _FOUR_DIGITS.search(text) else ():
        group = match.lastgroup or "it"
        if sum(map(str.isdigit, match[group])) >= 4 and not _IS_DATE.fullmatch(match[group]):
            yield match.span(group)


def _phones(text: str) -> Iterator[tuple[int, int]]:
    for match in _PHONE.finditer(text):
        it = match["it"]
        digits = sum(map(str.isdigit, it))
        if _NOT_PHONE_AFTER.match(text, match.end()) or _IS_DATE.fullmatch(it) or digits > 15:
            continue
        if "".join(filter(str.isdigit, it)) in _public_numbers():
            continue
        shaped = _PHONE_SHAPE.fullmatch(it) is not None and digits >= 8
        if shaped or _PHONE_CUE.search(text, max(0, match.start() - 48), match.start()):
            yield match.span("it")


def _addresses(text: str) -> Iterator[tuple[int, int]]:
    if _STREET_WORD.search(text):
        yield from (match.span() for match in _ADDRESS.finditer(text))
    for match in _ADDRESS_CUED.finditer(text):
        yield match.span(match.lastgroup or "it")


_FINDERS: dict[Identifier, Callable[[str], Iterator[tuple[int, int]]]] = {
    "EMAIL": _emails,
    "BIRTH_DATE": _birth_dates,
    "RECORD_NUMBER": _record_numbers,
    "PHONE": _phones,
    "ADDRESS": _addresses,
}
"""In order of precedence; names come last."""
