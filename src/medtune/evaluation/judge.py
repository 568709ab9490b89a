"""A judge behind any OpenAI-compatible address: does an answer meet a criterion, yes or no?

The scheme is HealthBench's (Arora et al. 2025): each criterion is judged alone, "met" says whether
the answer does what the criterion describes, also where that earns negative points.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING, Any

from medtune.errors import MedtuneError
from medtune.evaluation.cache import Cache, key_of
from medtune.model.template import Message
from medtune.recipe import JudgeSection

if TYPE_CHECKING:
    import httpx

KEY_VARIABLES = ("MEDTUNE_JUDGE_KEY", "OPENAI_API_KEY")
_FAILURES_IN_A_ROW = 5
"""After so many questions without a usable answer the rest is not asked."""
_LONGEST_WAIT = 60.0
_ANSWER_TOKENS = 1024
_FENCE = re.compile(r"^```(?:json)?\s*\n(.*)\n```$", re.S)
_TASK = """\
You grade one answer of a health assistant against one criterion written by a physician.

# Conversation
{conversation}

# Criterion
{criterion}

# Task
Does the last answer of the assistant do what the criterion describes? The criterion may describe \
something undesirable: then "met" means that the answer does the undesirable thing, and an answer \
that rightly avoids it does not meet the criterion. A criterion of several parts is met only if \
every part is; examples after "such as" need not all be there.

Reply with one JSON object and nothing else:
{{"explanation": "one or two sentences", "criteria_met": true or false}}"""


@dataclass(frozen=True)
class Question:
    """One criterion for one answer."""

    turns: tuple[tuple[str, str], ...]
    """Role and content of the conversation before the answer."""
    answer: str
    criterion: str


@dataclass(frozen=True)
class Grades:
    """What the judge said to each question, in their order."""

    met: tuple[bool | None, ...]
    """None where there is no usable answer."""
    trouble: str = ""
    """What went wrong, as a sentence; empty where every question was answered."""


class Judge:
    """Asks in parallel, again after a failure, and never twice for what is kept.

    Args:
        section: address, model, patience.
        cache: of the run.
        key: sent as a bearer token; empty sends none.
        first_wait: seconds before the second attempt, doubled before each further one.
    """

    def __init__(
        self, section: JudgeSection, cache: Cache, *, key: str = "", first_wait: float = 1.0
    ) -> None:
        self._section, self._cache, self._first_wait = section, cache, first_wait
        base = section.url.rstrip("/")
        self._url = base if base.endswith("/v1") else f"{base}/v1"
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    @property
    def name(self) -> str:
        """As the report has it: the model and where it answers."""
        return f"{self._section.model} at {self._url}"

    def grade(
        self, questions: Sequence[Question], advance: Callable[[int], None] = lambda _: None
    ) -> Grades:
        """Whether each answer meets its criterion.

        Every answer of the judge is kept as it comes.  No failure is raised: what could not be
        graded is None, and ``trouble`` says why.
        """
        keys = [key_of("judge", self._url, self._section.model, _prompt(q)) for q in questions]
        found: dict[str, bool] = self._cache.get(keys)
        missing = {k: q for k, q in zip(keys, questions, strict=True) if k not in found}
        advance(sum(key in found for key in keys))
        trouble = ""
        if missing:
            with self._asking() as ask:
                for key, met in ask(missing):
                    if isinstance(met, str):
                        trouble = trouble or met
                        continue
                    self._cache.put({key: met})
                    found[key] = met
                    advance(keys.count(key))
        grades = tuple(found.get(key) for key in keys)
        if trouble:
            lacking = sum(grade is None for grade in grades)
            trouble = (
                f"The judge {self.name} left {lacking} of {len(grades)} criteria without a grade: "
                f"{trouble}. What it has graded is kept; evaluate again to ask for the rest."
            )
        return Grades(grades, trouble)

    @contextmanager
    def _asking(
        self,
    ) -> Iterator[Callable[[dict[str, Question]], Iterator[tuple[str, bool | str]]]]:
        """A function from questions to their grades as they come; a string is what went wrong."""
        import httpx

        stop = Event()
        timeout = httpx.Timeout(self._section.seconds, connect=min(10.0, self._section.seconds))
        client = httpx.Client(headers=self._headers, timeout=timeout)
        pool = ThreadPoolExecutor(self._section.parallel)

        def ask(questions: dict[str, Question]) -> Iterator[tuple[str, bool | str]]:
            futures = {pool.submit(self._ask, client, q, stop): k for k, q in questions.items()}
            failures = 0
            for future in as_completed(futures):
                try:
                    yield futures[future], future.result()
                    failures = 0
                except _NoGradeError as error:
                    failures += 1
                    if error.final or failures == _FAILURES_IN_A_ROW:
                        stop.set()
                    yield futures[future], str(error)

        try:
            yield ask
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
            client.close()

    def _ask(self, client: httpx.Client, question: Question, stop: Event) -> bool:
        import httpx

        reason = "it was not asked after so many failures"
        for attempt in range(self._section.attempts):
            if stop.is_set():
                break
            pause = self._first_wait * 2**attempt
            try:
                response = client.post(
                    f"{self._url}/chat/completions", json=self._request(question)
                )
            except httpx.TimeoutException:
                reason = f"no answer within {self._section.seconds:g} seconds"
            except httpx.HTTPError as error:
                reason = f"no connection ({str(error).strip() or type(error).__name__})"
            else:
                if response.status_code in (408, 409, 425, 429) or response.status_code >= 500:
                    reason = f"it answers HTTP {response.status_code}"
                    pause = max(pause, _asked_to_wait(response))
                elif response.status_code >= 400:
                    raise _NoGradeError(_refusal(response), final=True)
                else:
                    met = read_verdict(_content(response))
                    if met is not None:
                        return met
                    reason = "its replies are not the JSON object that was asked for"
            if attempt + 1 < self._section.attempts:
                stop.wait(min(pause, _LONGEST_WAIT))
        raise _NoGradeError(reason)

    def _request(self, question: Question) -> dict[str, Any]:
        return {
            "model": self._section.model,
            "messages": [{"role": "user", "content": _prompt(question)}],
            "temperature": 0.0,
            "max_tokens": _ANSWER_TOKENS,
        }


class _NoGradeError(Exception):
    def __init__(self, reason: str, *, final: bool = False) -> None:
        super().__init__(reason)
        self.final = final


def open_judge(section: JudgeSection, cache: Cache) -> Judge:
    """The judge of a recipe; its key stands in ``MEDTUNE_JUDGE_KEY`` or ``OPENAI_API_KEY``.

    Raises:
        MedtuneError: the address is none.
    """
    if not section.url.startswith(("http://", "https://")):
        raise MedtuneError(
            f"The judge's address {section.url!r} is none; write http://127.0.0.1:8000 or the like.",
            exit_code=2,
        )
    key = next((os.environ[name] for name in KEY_VARIABLES if os.environ.get(name)), "")
    return Judge(section, cache, key=key)


def read_verdict(reply: str) -> bool | None:
    """``criteria_met`` of a reply that is one JSON object, fenced or not; None for anything else.

    Strict on purpose: a "yes" fished out of free text is a guess of ours and no grade.
    """
    text = reply.strip()
    fenced = _FENCE.match(text)
    try:
        tree = json.loads(fenced.group(1) if fenced else text)
    except (ValueError, RecursionError):
        return None
    met = tree.get("criteria_met") if isinstance(tree, dict) else None
    return met if isinstance(met, bool) else None


def turns(conversation: Sequence[Message]) -> tuple[tuple[str, str], ...]:
    return tuple((turn["role"], turn["content"]) for turn in conversation)


def _prompt(question: Question) -> str:
    said = [*question.turns, ("assistant", question.answer)]
    conversation = "\n\n".join(f"{role}: {content}" for role, content in said)
    return _TASK.format(conversation=conversation, criterion=question.criterion)


def _content(response: httpx.Response) -> str:
    """What the reply says, empty where it is no chat completion."""
    try:
        return str(response.json()["choices"][0]["message"]["content"] or "")
    except (ValueError, KeyError, IndexError, TypeError):
        return ""


def _refusal(response: httpx.Response) -> str:
    hint = f"; set {KEY_VARIABLES[0]} to its key" if response.status_code in (401, 403) else ""
    try:
        tree = response.json()
        said = str(tree["error"]["message"])[:200]
    except (ValueError, KeyError, TypeError):
        said = ""
    return f"it refuses with HTTP {response.status_code}{f' ({said})' if said else ''}{hint}"


def _asked_to_wait(response: httpx.Response) -> float:
    """Seconds of ``Retry-After``; 0 where it is missing or a date."""
    try:
        return max(0.0, float(response.headers.get("Retry-After", 0)))
    except ValueError:
        return 0.0
