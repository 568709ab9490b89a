"""What the routes share: the engine with its settings, the limits, the figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Any

from medtune.chat.engines import Decoding, Engine
from medtune.chat.pipeline import DISCLAIMER
from medtune.run import Run
from medtune.safety import Assessment
from medtune.safety.audit import AuditLog
from medtune.serving.keys import Keys
from medtune.serving.limits import Gate, Limits, Rate
from medtune.serving.metrics import Metrics
from medtune.serving.store import Store
from medtune.serving.watched import Watched


@dataclass
class Service:
    """One served model.

    Args:
        engine: what answers.
        settings: how it decodes where a request does not say; its length is the longest allowed.
        adapter: which adapter answers, as ``adapter_of`` names it.
        system: the instructions of the training.
        country: two letters for the emergency lines.
        limits: what clients may ask for.
        keys: without any, the API is open.
        audit: where answers are recorded.
        store: where feedback, votes and kept conversations go; without one the page offers none.
        open_base: gives the untuned base to compare with; called at the first comparison.
    """

    engine: Engine
    settings: Decoding
    adapter: str = ""
    system: str = ""
    country: str = ""
    limits: Limits = field(default_factory=Limits)
    keys: Keys = field(default_factory=Keys)
    audit: AuditLog | None = None
    store: Store | None = None
    open_base: Callable[[], Engine] | None = None

    def __post_init__(self) -> None:
        self.gate = Gate(self.limits)
        self.metrics = Metrics(self.gate)
        self.page_engine = Watched(self.engine)
        self.requests = Rate(self.limits.requests_per_minute)
        self.tokens = Rate(self.limits.tokens_per_minute)

    @property
    def name(self) -> str:
        return self.engine.name

    def about(self, assessment: Assessment) -> dict[str, Any]:
        """What every answer says about itself, beside OpenAI's fields."""
        return {
            "model": self.name,
            "adapter": self.adapter,
            "rules_version": assessment.rules_version,
            "urgency": assessment.urgency,
            "rules": list(assessment.rules),
            "declined": assessment.declined,
            "message": assessment.message,
            "disclosure": DISCLAIMER,
        }

    def headers(self, assessment: Assessment) -> dict[str, str]:
        """The same in short, for clients that drop unknown fields."""
        return {
            "X-Medtune-Model": _latin(self.name),
            "X-Medtune-Adapter": _latin(self.adapter),
            "X-Medtune-Rules-Version": _latin(assessment.rules_version),
            "X-Medtune-Urgency": assessment.urgency,
        }


def adapter_of(run: Run | None) -> str:
    """The run's name with the beginning of the SHA-256 of its adapter's weights."""
    if run is None or not run.adapter.is_dir():
        return ""
    digest = sha256()
    for file in sorted(run.adapter.glob("adapter_model.*")):
        with file.open("rb") as weights:
            while block := weights.read(1 << 20):
                digest.update(block)
    return f"{run.name}@{digest.hexdigest()[:12]}"


def assessed(assessment: Assessment) -> dict[str, Any]:
    return asdict(assessment)


def _latin(text: str) -> str:
    return text.encode("latin-1", "replace").decode("latin-1")
