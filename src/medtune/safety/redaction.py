"""Find what identifies a person in a text, and put typed placeholders in its place.

Names, e-mail addresses, phone numbers, postal addresses, dates of birth and record numbers.
Precision matters as much as recall: a medicine, an eponym such as Crohn or Parkinson, a dose, a
laboratory value and the date of a visit stay.  Everything is decided by cues and word lists; no
model, no network.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from importlib import resources
from itertools import zip_longest
from typing import Any, Literal, get_args

import yaml

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
_LOOSE_CUES = ("named", "myself", "patient:", "patient :", "signed", "signed by", "signed:")
_PLACE_BEFORE = re.compile(
    r"\b(?:San|Santa|Santo|Sao|St|Saint|Port|Fort|Mount|New|Los|Lake|Cape)\.?\s$", re.I
)
_DIGIT = re.compile(r"\d")
_TOKEN = re.compile(r"\S+")
_FOUR_DIGITS = re.compile(r"\d(?:[-/ ]?[A-Z\d]){3}")
_STREET_WORD = re.compile(
    rf"(?<=[\w.] ){_STREET}\b|P\.?\s?O\.?\s?Box|stra(?:ss|ß)e|str\.|gasse|allee|platz"
)

_HINTS = (
    r"@|(?i:[(\[]\s*at\s*[)\]]|\sdot\s)",
    r"\d[\s().-]{0,2}(?:\d[\s().-]{0,2}){5}\d",
    r"(?i:\b(?:no|nr|num|number|id|mrn|uhid|ssn|nhs|mrd|emr|aadhaa?r|medicare|medicaid|security|health card"
    r"|passport|record|chart|licen[cs]e)\b|#)[\sa-zA-Z:=#.-]{0,24}\d",
    r"(?i:\bborn\b|birth|\bd\.?\s?o\.?\s?b\b)",
    rf"\d[\w/-]*,?\s+(?:[A-Z0-9][\w.'’]*\s+|of\s+|the\s+|de\s+){{1,4}}{_STREET}\b",
    r"(?i:\baddress|\b(?:live|lives|living|resid\w+|stay|staying)\s+(?:at|in)\s+#?\d|p\.?\s?o\.?\s?box|stra(?:ß|ss)e"
    r"|[a-zß]str\.|gasse|allee|platz|\b(?:zip|pin|post(?:al)?)\s?-?code)",
    r"\b(?:Dr|DR|dr|Drs|Prof|Mr|mr|MR|Mrs|mrs|MRS|Ms|Miss|Mx|Shri|Smt|Kum|Doctor|doctor|Professor|Nurse|Sister|Herr|Frau|Señora?)"
    r"(?:\.\s*|\s+)(?:\pL\.\s?)?\p{Lu}",
    r"(?i:\bnamed?\b|\bnames\b|name's|\bmyself\s|\bcalled\s|call\s+me\s|\bpatient\s*:|\bsigned)",
    r"(?:[Ii] am|[Ii]['’]m|[Tt]his is|[Ii]t['’]s|[Mm]e,)\s+\p{Lu}\pL",
    r"(?:son|daughter|wife|husband|mother|father|mom|mum|dad|brother|sister|baby|child|friend|uncle|aunt|grandm\pL+|grandp\pL+"
    r"|grandfather|partner|cousin|nephew|niece|boyfriend|girlfriend|fianc[eé]e?|grandson|granddaughter|boy|girl|twins?"
    r"|colleague|neighbou?r|roommate),?\s+\p{Lu}\p{Ll}",
    r"(?:^|[\n.!?,]\s*)(?i:hi|hello|dear|hey|good\s+(?:morning|afternoon|evening)|namaste|thanks|thank\s+you)\s*,?\s+\p{Lu}[\pL'’.]",
    r"(?i:regards|sincerely|thanks|thank\s+you|truly|wishes|cheers|faithfully|respectfully|take\s+care)[\s,.!-]*(?:[Dd]r\.?\s*)?\p{Lu}[\pL'’.-][^!?]{0,90}\z",
)


@cache
def hints() -> tuple[str, ...]:
    """RE2 patterns; where none of them matches, nothing is found, and few other texts match.

    For whoever has millions of texts and can sift them faster than Python can read them.  (As one
    pattern they would be a hundred times slower: its automaton does not fit RE2's memory.)
    """
    words = _words()
    given = "|".join(sorted(words["given"] - words["medical"]))
    ambiguous = "|".join(sorted(words["ambiguous"]))
    return (
        *_HINTS,
        rf"\b(?:{given})\b",
        rf"\b(?:{ambiguous})\s(?:\p{{Lu}}\.?\s)?\p{{Lu}}\p{{Ll}}",
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
    lists["public_numbers"] = frozenset(medical["public_numbers"])
    lists["phrases"] = frozenset(medical["phrases"])
    lists["not_names_lower"] = frozenset(word.casefold() for word in lists["not_names"])
    lists["names_lower"] = frozenset(
        word.casefold() for key in ("given", "ambiguous", "surnames") for word in lists[key]
    )
    return lists


@cache
def _protected() -> re.Pattern[str]:
    return re.compile("|".join(re.escape(p) for p in sorted(_words()["phrases"])), re.I)


def redact(text: str) -> tuple[str, list[Span]]:
    """The text with ``[NAME]``, ``[EMAIL]``, ``[PHONE]``, ``[ADDRESS]``, ``[BIRTH_DATE]`` and
    ``[RECORD_NUMBER]`` in place of what identifies a person.

    Returns:
        The new text, and what was found as ``(class, start, end)`` in characters of the original
        text, in order, without overlap.
    """
    spans = find(text)
    if not spans:
        return text, []
    parts, end = [], 0
    for identifier, start, stop in spans:
        parts += [text[end:start], f"[{identifier}]"]
        end = stop
    return "".join([*parts, text[end:]]), spans


def find(text: str) -> list[Span]:
    """What identifies a person in the text, in order, without overlap."""
    taken: list[Span] = []
    finders = {"EMAIL": _emails, "NAME": _names}
    if _DIGIT.search(text):
        finders = {
            "EMAIL": _emails,
            "BIRTH_DATE": _birth_dates,
            "RECORD_NUMBER": _record_numbers,
            "PHONE": _phones,
            "ADDRESS": _addresses,
            "NAME": _names,
        }
    for identifier in IDENTIFIERS:
        if identifier not in finders:
            continue
        for start, end in finders[identifier](text):
            if start < end and all(end <= s or start >= e for _, s, e in taken):
                taken.append((identifier, start, end))
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
        if "".join(filter(str.isdigit, it)) in _words()["public_numbers"]:
            continue
        shaped = _PHONE_SHAPE.fullmatch(it) is not None and digits >= 8
        if shaped or _PHONE_CUE.search(text, max(0, match.start() - 48), match.start()):
            yield match.span("it")


def _addresses(text: str) -> Iterator[tuple[int, int]]:
    if _STREET_WORD.search(text):
        yield from (match.span() for match in _ADDRESS.finditer(text))
    for match in _ADDRESS_CUED.finditer(text):
        yield match.span(match.lastgroup or "it")


def _names(text: str) -> Iterator[tuple[int, int]]:
    words = _words()
    found: list[tuple[int, int]] = []

    def add(span: tuple[int, int] | None) -> None:
        if span:
            found.append(span)

    for match in _NAMED.finditer(text):
        add(_stated(text, match, words))
    for match in _TITLED.finditer(text):
        spelled_out = len(match["title"]) > 4
        if spelled_out and "." in match["dot"]:
            continue  # the sentence ends with the word "doctor"
        add(_trimmed(text, match, words, listed=spelled_out, eponyms=not spelled_out))
    for match in _KIN.finditer(text):
        add(_trimmed(text, match, words, listed=False))
    for match in _GREETED.finditer(text):
        opened = match[0].lstrip("\n.!?, ")[:4].lower()
        add(_trimmed(text, match, words, listed=not (opened == "dear" and match["after"])))
    for match in _I_AM.finditer(text):
        add(_trimmed(text, match, words, listed=True))
    for match in _SIGNED.finditer(text):
        add(_trimmed(text, match, words, listed=False))
    found += _free(text, words)
    if not found:
        return
    kept = [match.span() for match in _protected().finditer(text)]
    found = [span for span in found if not _inside(span, kept)]
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
    known = words["given"] | words["surnames"] | words["ambiguous"]
    for number, (token, at, _) in enumerate(_tokens(text, start, end)):
        word = _bare(token)
        initial = len(word) <= 2 and word.isupper() and token.endswith(".")
        refused = (
            word in words["not_names"]
            or word.casefold() in words["not_names_lower"]
            or (word.isupper() and len(word) > 1 and not initial and word.title() not in known)
            or (word in words["medical"] and not (eponyms and word not in words["medicines"]))
        )
        if refused and word.casefold() not in ("de", "la", "van", "der", "al", "el", "du"):
            break
        if number == 0 and listed and word.split("-")[0] not in known and not initial:
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


def _inside(span: tuple[int, int], spans: list[tuple[int, int]]) -> bool:
    return any(span[0] < end and start < span[1] for start, end in spans)


def _is_eponym(text: str, end: int, words: dict[str, frozenset[str]]) -> bool:
    """Whether a disease, sign or test follows, as in "Wilson's disease"."""
    after = re.match(r"(?:['’]s?)?(?:[\s-]+)(\w+)(?:\s+(\w+))?", text[end : end + 40])
    if after is None:
        return False
    first, second = after.groups()
    # "Guillain Barre syndrome": the disease may be named after a second person.
    two = second is not None and first[0].isupper() and second.lower() in words["followed_by"]
    return two or first.lower() in words["followed_by"]
