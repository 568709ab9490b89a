"""What a finding is worth where it stands: denied, long past, imagined, asked in general.

The cues are concepts of ``context.yaml``.  A cue that is part of a finding ("cannot breathe",
"no pulse") is no cue.
"""

from __future__ import annotations

from medtune.safety.lexicon import Hit, Reading
from medtune.safety.phrases import FILLER
from medtune.safety.text import PAUSE

LIST_NEGATION = "cue_negation"
SHORT_NEGATION = "cue_negation_short"
NO_NEGATION = "cue_no_negation"
AFTER_NEGATION = "cue_negation_after"
PAST = "cue_past"
PRESENT = "cue_present"
HYPOTHETICAL = "cue_hypothetical"
GENERAL = "cue_general"
GENERAL_STRONG = "cue_general_strong"
PERSONAL = "cue_personal"
FICTION = "cue_fiction"
BREAK = "cue_break"
SUBJECT = "cue_subject"
PAST_TENSE = "cue_past_tense"
PRESENT_TENSE = "cue_present_tense"
CUES = (
    LIST_NEGATION,
    SHORT_NEGATION,
    NO_NEGATION,
    AFTER_NEGATION,
    PAST,
    PRESENT,
    HYPOTHETICAL,
    GENERAL,
    GENERAL_STRONG,
    PERSONAL,
    FICTION,
    BREAK,
    SUBJECT,
    PAST_TENSE,
    PRESENT_TENSE,
)
REASONS = ("negated", "past", "hypothetical", "general")
_LONGEST_SCOPE = 30
# After these words "I am" goes on with what was begun.
_JOINING = frozenset(
    [
        "if",
        "when",
        "that",
        "what",
        "how",
        "why",
        "whether",
        "while",
        "as",
        "do",
        "does",
        "did",
        "am",
        "is",
        "are",
        "was",
        "should",
        "can",
        "could",
        "will",
        "would",
        "may",
        "might",
        "where",
        "who",
        "which",
        "until",
        "unless",
        "than",
        "or",
        "nor",
        "not",
        "the",
        "a",
        "my",
        "think",
        "thinks",
        "feel",
        "like",
        "say",
        "says",
        "said",
        "sure",
        "know",
        "worried",
        "scared",
        "afraid",
        "hope",
    ]
)

# Between a "not" and what it denies these change nothing.
_NEUTRAL = FILLER | {
    "able",
    "be",
    "been",
    "being",
    "can",
    "done",
    "full",
    "get",
    "getting",
    "got",
    "had",
    "has",
    "have",
    "he",
    "her",
    "him",
    "i",
    "it",
    "me",
    "properly",
    "she",
    "single",
    "taken",
    "taking",
    "they",
    "to",
    "want",
    "wanted",
    "wanting",
    "wants",
    "you",
}


class Context:
    """The scopes of one message.

    Args:
        reading: the message.
        against: concepts that only ever speak against a rule; a "no" in them is still a denial.
    """

    def __init__(self, reading: Reading, against: frozenset[str] = frozenset()) -> None:
        self._reading = reading
        self._against = against
        words = reading.words
        self._sentences = words.sentences
        self._breaks = words.breaks
        self._length = len(words.words)
        self._words = words.words
        self._breakers = self._places(BREAK)
        self._statements = {hit.start for hit in reading.found(PERSONAL) if len(hit.at) > 1}
        self._subjects = self._places(SUBJECT)
        self._bounds = self._sentence_bounds()
        self._denials = {hit.start: hit for hit in reading.found(AFTER_NEGATION)}
        self._negated = self._find_negated()
        self._past = self._find_past()
        self._hypothetical = self._find_scoped(HYPOTHETICAL)
        self._general = self._find_general()
        self._touched = self._negated | self._past | self._hypothetical | self._general
        self.plain = not self._touched and not self._denials
        """Nothing in the message is denied, past, imagined or general."""

    def reasons_against(self, hit: Hit) -> set[str]:
        """Which of ``REASONS`` speak against this hit; none for a finding that is there now."""
        found: set[str] = set()
        if not self._touched.isdisjoint(hit.at):
            for reason, places in (
                ("negated", self._negated),
                ("past", self._past),
                ("hypothetical", self._hypothetical),
                ("general", self._general),
            ):
                if not places.isdisjoint(hit.at):
                    found.add(reason)
        if "negated" not in found and self._denied_after(hit):
            found.add("negated")
        return found

    def _places(self, cue: str) -> set[int]:
        return {hit.start for hit in self._reading.found(cue)}

    def _sentence_bounds(self) -> dict[int, tuple[int, int]]:
        bounds: dict[int, tuple[int, int]] = {}
        for place, sentence in enumerate(self._sentences):
            first, _ = bounds.get(sentence, (place, place))
            bounds[sentence] = (first, place + 1)
        return bounds

    # --- negation

    def _find_negated(self) -> set[int]:
        lists = self._reading.found(LIST_NEGATION)
        shorts = self._reading.found(SHORT_NEGATION)
        if not lists and not shorts:
            return set()
        consumed = self._consumed()
        negated: set[int] = set()
        reach = 0
        for hit in lists:
            if hit.end - 1 not in consumed and hit.start not in consumed and hit.end > reach:
                reach = self._scope_end(hit.end, consumed)
                negated.update(range(hit.end, reach))
        for hit in shorts:
            if hit.start not in consumed:
                end = min(self._scope_end(hit.end, consumed), hit.end + 4)
                negated.update(range(hit.end, end))
        return negated

    def _consumed(self) -> set[int]:
        """Places of negations that belong to a finding, or deny something else."""
        own = ({*CUES} | self._against) - {NO_NEGATION}
        cues = self._places(LIST_NEGATION) | self._places(SHORT_NEGATION)
        return {
            place
            for name, hits in self._reading.hits.items()
            if name not in own and name.split("/")[0] not in own
            for hit in hits
            for k, place in enumerate(hit.at)
            if place in cues and (name == NO_NEGATION or self._belongs(hit.at, k))
        }

    def _belongs(self, at: tuple[int, ...], k: int) -> bool:
        """Whether a negation is said of the next word of a finding: "not been breathing" is a
        finding, "no trouble breathing" is none."""
        if len(at) == 1:
            return False
        if k + 1 == len(at):
            return at[k - 1] + 1 == at[k] and not self._breaks[at[k]]
        return all(self._words[i] in _NEUTRAL for i in range(at[k] + 1, at[k + 1]))

    def _scope_end(self, start: int, consumed: set[int]) -> int:
        """How far a cue reaches: to a but, a new subject after a pause, or the sentence's end."""
        if start >= self._length or start == 0:
            return start
        sentence = self._sentences[start - 1]
        place = start
        while place < min(self._length, start + _LONGEST_SCOPE):
            if self._sentences[place] != sentence:
                break
            if place > start and (place in self._breakers or place in consumed):
                break
            joined = self._breaks[place] == PAUSE or self._words[place - 1] in {"and", "then"}
            if place > start and joined and place in self._subjects:
                break
            if (
                place > start
                and place in self._statements
                and self._words[place - 1] not in _JOINING
            ):
                break
            place += 1
        return place

    def _denied_after(self, hit: Hit) -> bool:
        cue = self._denials.get(hit.end) if self._denials else None
        if cue is None or self._sentences[hit.start] != self._sentences[cue.start]:
            return False
        return cue.end >= self._length or self._breaks[cue.end] > 0

    # --- time

    def _find_past(self) -> set[int]:
        cues = self._reading.found(PAST)
        if not cues:
            return set()
        past: set[int] = set()
        present = self._places(PRESENT)
        tense_now = self._places(PRESENT_TENSE)
        tense_past = self._places(PAST_TENSE)
        sentences = sorted({self._sentences[hit.start] for hit in cues})
        for sentence in sentences:
            first, last = self._bounds[sentence]
            clauses = self._clauses(first, last)
            labels: list[str] = []
            for start, end in clauses:
                span = range(start, end)
                has_past = any(start <= hit.start < end for hit in cues)
                has_now = any(place in present for place in span)
                is_now = any(place in tense_now for place in span)
                labels.append(
                    "now"
                    if has_now and not has_past
                    else "past"
                    if has_past and not has_now
                    else "now"
                    if has_now or is_now
                    else ""
                )
            for i, label in enumerate(labels):
                if label:
                    continue
                start, end = clauses[i]
                if (i and labels[i - 1] == "past") or (
                    "past" in labels[i + 1 :] and any(p in tense_past for p in range(start, end))
                ):
                    labels[i] = "past"
            for (start, end), label in zip(clauses, labels, strict=True):
                if label == "past":
                    past.update(range(start, end))
            self._carry(past, sentence + 1, labels[-1], present, tense_now, tense_past)
        return past

    def _carry(
        self,
        past: set[int],
        sentence: int,
        label: str,
        present: set[int],
        tense_now: set[int],
        tense_past: set[int],
    ) -> None:
        """A story of the past goes on while it is told in the past tense."""
        while label == "past" and sentence in self._bounds:
            first, last = self._bounds[sentence]
            span = range(first, last)
            told = any(p in tense_past for p in span)
            now = any(p in present or p in tense_now for p in span)
            if not told or now or self._words[first] in {"but", "now"}:
                return
            past.update(span)
            sentence += 1

    def _clauses(self, first: int, last: int) -> list[tuple[int, int]]:
        starts = [first]
        starts += [place for place in range(first + 1, last) if self._begins_clause(place)]
        return list(zip(starts, [*starts[1:], last], strict=True))

    def _begins_clause(self, place: int) -> bool:
        before = self._words[place - 1]
        if place in self._breakers or self._breaks[place] == PAUSE:
            return True
        if before in {"and", "then"}:
            return place in self._subjects
        return place in self._statements and before not in _JOINING

    # --- imagined, asked in general

    def _find_scoped(self, cue: str) -> set[int]:
        found: set[int] = set()
        reach = 0
        for hit in self._reading.found(cue):
            if hit.end > reach:
                reach = self._scope_end(hit.end, set())
                found.update(range(hit.start, reach))
        return found

    def _find_general(self) -> set[int]:
        general: set[int] = set()
        personal, present = self._places(PERSONAL), self._places(PRESENT)
        for cue, stopped_by in ((GENERAL, personal | present), (GENERAL_STRONG, present)):
            own: dict[int, set[int]] = {}
            for hit in self._reading.found(cue):
                own.setdefault(self._sentences[hit.start], set()).update(range(hit.start, hit.end))
            for sentence, places in own.items():
                asked = False
                for start, end in self._clauses(*self._bounds[sentence]):
                    span = range(start, end)
                    has_cue = any(p in places for p in span)
                    stops = stopped_by if has_cue else personal | present
                    asked = (asked or has_cue) and not any(
                        p in stops and p not in places for p in span
                    )
                    if asked:
                        general.update(span)
        for hit in self._reading.found(FICTION):
            sentence = self._sentences[hit.start]
            if hit.start in general:
                continue
            general.update(range(*self._bounds[sentence]))
            sentence += 1
            while sentence in self._bounds:
                span = range(*self._bounds[sentence])
                if any(p in personal for p in span):
                    break
                general.update(span)
                sentence += 1
        return general
