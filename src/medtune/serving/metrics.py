"""Figures of the running server, as Prometheus reads them.  They hold no text and no address."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from medtune.serving.limits import Gate
from medtune.serving.metered import Metered

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """Counters of one server; several may live in one process."""

    def __init__(self, gate: Gate) -> None:
        self._registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"medtune_{name}", text, labels, registry=self._registry)

        def histogram(name: str, text: str) -> Histogram:
            return Histogram(f"medtune_{name}", text, buckets=_SECONDS, registry=self._registry)

        self.requests = counter("requests", "Requests to the API.", "path", "status")
        self.answers = counter("answers", "Answers, by what the safety layer found.", "urgency")
        self.refused = counter("refused", "Requests refused for now.", "reason")
        self._tokens = counter("tokens", "Tokens read and written.", "kind")
        self._first = histogram(
            "first_token_seconds", "From the request to the model's first text."
        )
        self._whole = histogram("answer_seconds", "From the request to the answer's end.")
        for name, text, read in (
            ("answers_running", "Answers that the engine works on.", lambda: gate.running),
            ("requests_waiting", "Requests that wait for a slot.", lambda: gate.waiting),
            ("slots", "Answers that may run at a time.", lambda: gate.limits.slots),
        ):
            Gauge(f"medtune_{name}", text, registry=self._registry).set_function(read)

    def answered(self, meter: Metered, began: float, ended: float) -> None:
        """Note an answer of the engine; times are ``time.monotonic`` seconds."""
        self._tokens.labels("prompt").inc(meter.prompt_tokens)
        self._tokens.labels("completion").inc(meter.completion_tokens)
        if meter.first_piece is not None:
            self._first.observe(meter.first_piece - began)
        self._whole.observe(ended - began)

    def text(self) -> bytes:
        return generate_latest(self._registry)
