"""``report/index.html``: one page that holds everything, with no file or address beside it."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

from medtune.evaluation.evaluate import LOWER_IS_BETTER
from medtune.evaluation.pictures import bars, loss_curves
from medtune.run import Run

LABELS = {
    "perplexity": "Perplexity",
    "bits_per_byte": "Bits per byte",
    "bleu": "BLEU",
    "rouge_l": "ROUGE-L",
    "condition_top1": "Right condition first",
    "condition_top3": "Right condition in first three",
    "specialist": "Right specialist",
    "structure": "All five headings",
    "ended": "Ends by itself",
}
RATES = ("condition_top1", "condition_top3", "specialist", "structure", "ended")


def write_report(run: Run) -> Path:
    """Write the page from what the run holds and return its path.

    Raises:
        MedtuneError: the run has not been evaluated.
    """
    from jinja2 import Environment

    run.require(
        run.results_file,
        f"The run {run.name!r} has not been evaluated; start with `medtune evaluate {run.name}`.",
    )
    results = run.read_json(run.results_file)
    log_lines = run.metrics_file.read_text(encoding="utf-8").splitlines()
    template = (
        resources.files("medtune.evaluation").joinpath("report.html.j2").read_text(encoding="utf-8")
    )
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(template)
    html = page.render(
        name=run.name,
        results=results,
        verdict=verdict(results),
        rows=[_table_row(name, results) for name in LABELS if name in results["base"]],
        curves=loss_curves([json.loads(line) for line in log_lines]),
        bars=bars(results, {name: LABELS[name] for name in RATES}),
        training=run.read_json(run.training_file),
        card=run.read_json(run.card_json),
        manifest=run.read_json(run.manifest_file),
        recipe=run.recipe_file.read_text(encoding="utf-8"),
    )
    run.write_text(run.report_file, html)
    return run.report_file


def verdict(results: dict[str, Any]) -> str:
    """The one sentence that stands first."""
    gate = results["gate"]
    primary = gate["primary"]
    if primary not in results["base"]:
        return "Nothing was measured that could tell the tuned model from its base."
    before, after = (shown(primary, results[who][primary]["value"]) for who in ("base", "tuned"))
    figures = f"{LABELS[primary].lower()}: {before} for the base, {after} for the tuned model"
    if gate["passed"]:
        return f"The tuned model beats its base beyond chance ({figures})."
    return f"The tuned model does not pass: {'; '.join(gate['reasons'])} ({figures})."


def shown(name: str, value: float) -> str:
    """A figure as people read it."""
    if name in RATES:
        return f"{100 * value:.1f}%"
    if name == "perplexity" and value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3f}" if name in ("rouge_l", "bits_per_byte") else f"{value:.2f}"


def _table_row(name: str, results: dict[str, Any]) -> dict[str, Any]:
    def interval(low_high: list[float], signed: bool = False) -> str:
        low, high = (shown(name, value) for value in low_high)
        if signed:
            low, high = (
                f"+{t}" if v > 0 else t for t, v in zip((low, high), low_high, strict=True)
            )
        return f"{low} to {high}"

    base, tuned, delta = (results[key][name] for key in ("base", "tuned", "delta"))
    better = delta["value"] < 0 if name in LOWER_IS_BETTER else delta["value"] > 0
    sure = delta["p_holm"] < 0.05
    return {
        "label": LABELS[name],
        "definition": results["definitions"][name],
        "n": tuned["n"],
        "base": shown(name, base["value"]),
        "base_ci": interval(base["ci"]),
        "tuned": shown(name, tuned["value"]),
        "tuned_ci": interval(tuned["ci"]),
        "delta": ("+" if delta["value"] > 0 else "") + shown(name, delta["value"]),
        "delta_ci": interval(delta["ci"], signed=True),
        "p": "< 0.001" if delta["p_holm"] < 0.001 else f"{delta['p_holm']:.3f}",
        "judgement": ("better" if better else "worse") if sure else "not beyond chance",
    }
