"""``report/index.html``: one page that holds everything, with no file or address beside it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from medtune.evaluation.gate import allowed_alarms
from medtune.evaluation.measure import LOWER_IS_BETTER
from medtune.evaluation.pictures import bars, loss_curves, reliability
from medtune.evaluation.wording import word_changes
from medtune.run import Run
from medtune.training.callbacks import read_metrics

LABELS = {
    "perplexity": "Perplexity",
    "bits_per_byte": "Bits per byte",
    "bleu": "BLEU",
    "rouge_l": "ROUGE-L",
    "condition_top1": "Right condition first",
    "condition_top3": "Right condition in first three",
    "specialist": "Right specialist",
    "urgency": "Right urgency",
    "urgency_kappa": "Urgency, quadratic kappa",
    "emergency_recall": "Emergencies recognised",
    "under_triage": "Made less urgent than it is",
    "false_emergency": "False emergencies",
    "refusal": "Harmful requests declined",
    "over_refusal": "Harmless requests declined or unanswered",
    "structure": "All five headings",
    "schema_valid": "Reads as a consultation",
    "ended": "Ends by itself",
}
RATES = (
    "condition_top1",
    "condition_top3",
    "specialist",
    "urgency",
    "emergency_recall",
    "under_triage",
    "false_emergency",
    "refusal",
    "over_refusal",
    "structure",
    "schema_valid",
    "ended",
)
LEVEL_NAMES = {
    "self_care": "self-care",
    "routine": "routine",
    "urgent_same_day": "same day",
    "emergency": "emergency",
}
BENCHMARK_LABELS = {
    "acc": "likeliest option is right",
    "acc_norm": "likeliest option per byte is right",
    "letter": "right letter written",
    "unparsed": "no letter could be read",
    "bleu": "BLEU",
    "rouge_l": "ROUGE-L",
    "rouge_l_shuffled": "ROUGE-L, answers shuffled",
    "condition_top1": "right condition first",
    "condition_top3": "right condition in first three",
    "refusal": "harmful requests declined",
    "refusal_deployed": "harmful requests declined, with safety layer",
    "over_refusal": "harmless requests declined or unanswered",
    "over_refusal_deployed": "harmless requests declined or unanswered, with safety layer",
    "rubric": "points of the criteria",
    "rubric_deployed": "points of the criteria, with safety layer",
}
SAFETY_LABELS = {
    "emergency_recall": "Emergencies recognised",
    "emergency_recall_gravest": "of them stroke, heart attack, anaphylaxis, suicide, overdose",
    "false_emergency": "False emergencies on harmless messages",
    "pairs": "Negation, family, past, hypothetical: judged right",
    "played_down": "Played down, still an emergency",
    "injection": "Injected instructions changed nothing",
    "recall_typos": "Emergencies recognised with typing errors",
    "recall_abbreviations": "with abbreviations",
    "recall_unicode": "with look-alike letters",
    "recall_capitals": "in capitals",
    "declined": "Harmful requests declined",
    "over_refusal": "Harmless requests declined",
}


def write_report(run: Run) -> Path:
    """Write the page from what the run holds and return its path.

    Raises:
        MedtuneError: the run has not been evaluated.
    """
    run.require(
        run.results_file,
        f"The run {run.name!r} has not been evaluated; start with `medtune evaluate {run.name}`.",
    )
    results = run.read_json(run.results_file)
    log = read_metrics(run.metrics_file)
    values = {
        "name": run.name,
        "results": results,
        "verdict": verdict(results),
        "headline": headline(results),
        "allowance": 100 * allowed_alarms(results),
        "primaries": " or ".join(LABELS[name].lower() for name in results["gate"]["primaries"]),
        "notes": notes(results),
        "rows": [_table_row(name, results) for name in LABELS if name in results["base"]],
        "deployed": _deployed_rows(results),
        "benchmarks": _benchmark_rows(results),
        "tags": _tag_rows(results),
        "harness": _harness_rows(results),
        "judge": judge_sentence(results),
        "safety": [
            (label, results["safety"][name])
            for name, label in SAFETY_LABELS.items()
            if name in results.get("safety", {})
        ],
        "slices": [_slice_row(results, one) for one in results.get("slices", [])],
        "levels": LEVEL_NAMES,
        "shown": shown,
        "word_changes": word_changes,
        "training": run.read_json(run.training_file),
        "card": run.read_json(run.card_json),
        "manifest": run.read_json(run.manifest_file),
        "recipe": run.recipe_file.read_text(encoding="utf-8"),
    }
    page = _rendered(
        "report.html.j2",
        curves=loss_curves(log) if log else "",
        calibrations=_calibrations(results),
        bars=bars(results, {name: LABELS[name] for name in RATES}),
        **values,
    )
    run.write_text(run.report_summary, _rendered("report.md.j2", **values))
    run.write_text(run.report_file, page)
    return run.report_file


def _rendered(template: str, **values: Any) -> str:
    from jinja2 import Environment

    text = resources.files("medtune.evaluation").joinpath(template).read_text(encoding="utf-8")
    html = template.endswith(".html.j2")
    made = Environment(autoescape=html, trim_blocks=True, lstrip_blocks=True).from_string(text)
    return made.render(**values)


def verdict(results: dict[str, Any]) -> str:
    """The one sentence that stands first, with every reason."""
    reasons = results["gate"]["reasons"]
    said = headline(results)
    return f"{said} Why not: {'; '.join(reasons)}." if reasons else said


def headline(results: dict[str, Any]) -> str:
    """Passed or not, and the figures of the primary measure."""
    gate = results["gate"]
    primary = gate["primary"]
    if primary not in results["base"]:
        return "Nothing was measured that could tell the tuned model from its base."
    before, after = (shown(primary, results[who][primary]["value"]) for who in ("base", "tuned"))
    figures = f"{LABELS[primary].lower()}: {before} for the base, {after} for the tuned model"
    if gate["passed"]:
        return f"The tuned model beats its base beyond chance ({figures})."
    return f"The tuned model does not pass ({figures})."


def judge_sentence(results: dict[str, Any]) -> str:
    """Who graded, and how far that can be trusted; empty where nobody did."""
    if "judge" not in results:
        return ""
    name, found = results["judge"]["name"], results["judge"]["agreement"]
    if not found or "macro_f1" not in found:
        return (
            f"Graded by {name}. How far it agrees with physicians was not measured: give it answers "
            "that physicians have labelled (evaluation.judge.labels)."
        )
    share, f1 = found["share"], found["macro_f1"]
    among = found.get("physicians")
    two = f"; two physicians agree with each other in {among['value']:.0%}" if among else ""
    return (
        f"Graded by {name}. It agrees with physicians' labels in {share['value']:.0%} "
        f"({share['ci'][0]:.0%} to {share['ci'][1]:.0%}), macro F1 {f1['value']:.2f} "
        f"({f1['ci'][0]:.2f} to {f1['ci'][1]:.2f}), on {found['rows']} labelled answers{two}."
    )


def notes(results: dict[str, Any]) -> list[str]:
    """What the number of rows can and cannot prove, one sentence for each rate."""
    found: list[str] = []
    for name in RATES:
        tuned, change = results["tuned"].get(name), results["delta"].get(name)
        if not tuned or "proven" not in tuned:
            continue
        n, right = tuned["n"], round(tuned["value"] * tuned["n"])
        if name in LOWER_IS_BETTER:
            sentence = f"{LABELS[name]}: {right} of {n}"
        else:
            sentence = f"{LABELS[name]}: {right} of {n} prove at least {tuned['proven']:.1%}"
        least = change.get("detectable", 0) if change else 0
        if least > 0:
            sentence += f"; with {n} rows a change under {100 * least:.0f} points can pass unseen"
        found.append(sentence + ".")
    return found


def shown(name: str, value: float) -> str:
    """A figure as people read it."""
    if name in RATES:
        return f"{100 * value:.1f}%"
    if name == "perplexity" and value >= 100:
        return f"{value:,.0f}"
    return (
        f"{value:.3f}" if name in ("rouge_l", "bits_per_byte", "urgency_kappa") else f"{value:.2f}"
    )


def moved(name: str, value: float) -> str:
    """A change as people read it: with its sign, and that of a share in points."""
    sign = "+" if value > 0 else "-" if value < 0 else ""
    size = shown(name, abs(value))
    return f"{sign}{size.removesuffix('%')} points" if name in RATES else f"{sign}{size}"


def moved_between(name: str, bounds: Sequence[float]) -> str:
    """The interval of a change; its unit stands beside the change."""
    low, high = (moved(name, bound).removesuffix(" points") for bound in bounds)
    return f"{low} to {high}"


def _deployed_rows(results: dict[str, Any]) -> list[dict[str, str]]:
    """Each figure of the model alone beside that of the pipeline with its safety layer."""
    deployed = results.get("deployed")
    if not deployed:
        return []
    return [
        {
            "label": LABELS[name],
            **{who: shown(name, results[who][name]["value"]) for who in ("base", "tuned")},
            **{
                f"{who}_deployed": shown(name, deployed[who][name]["value"])
                for who in ("base", "tuned")
            },
            "ci": " to ".join(shown(name, v) for v in deployed["tuned"][name]["ci"]),
            "n": str(deployed["tuned"][name]["n"]),
        }
        for name in LABELS
        if name in deployed["tuned"]
    ]


def _benchmark_rows(results: dict[str, Any]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for title, one in results.get("benchmarks", {}).items():
        for name, change in one.get("delta", {}).items():
            as_text = (lambda v: f"{v:.2f}") if name == "bleu" else (lambda v: f"{100 * v:.1f}%")
            low, high = change["ci"]
            rows.append(
                {
                    "benchmark": title,
                    "label": BENCHMARK_LABELS[name],
                    "n": one["tuned"][name]["n"],
                    "base": as_text(one["base"][name]["value"]),
                    "tuned": as_text(one["tuned"][name]["value"]),
                    "ci": f"{as_text(low)} to {as_text(high)}",
                    "chance": as_text(one["chance"])
                    if "chance" in one and name[:3] == "acc"
                    else "",
                }
            )
    return rows


def _tag_rows(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Rubric scores by theme and axis."""
    return [
        {
            "benchmark": title,
            "tag": tag.replace(":", ": ").replace("_", " "),
            "n": one["n"],
            **{who: f"{100 * one[who]:.1f}%" for who in ("base", "tuned")},
        }
        for title, found in results.get("benchmarks", {}).items()
        for tag, one in found.get("by_tag", {}).items()
    ]


def _harness_rows(results: dict[str, Any]) -> list[dict[str, Any]]:
    def figure(one: dict[str, Any]) -> str:
        error = f" ± {one['stderr']:.3f}" if one["stderr"] is not None else ""
        return f"{one['value']:.3f}{error}"

    return [
        {
            "task": task,
            "metric": metric,
            "n": sides["tuned"]["n"],
            **{who: figure(sides[who]) for who in ("base", "tuned")},
        }
        for task, metrics in results.get("harness", {}).get("tasks", {}).items()
        for metric, sides in metrics.items()
    ]


def _calibrations(results: dict[str, Any]) -> list[dict[str, str]]:
    """A picture and a sentence for the test rows and for each benchmark with options."""
    asked = {"the condition that an answer names first": results.get("calibration")}
    for title, one in results.get("benchmarks", {}).items():
        asked[f"the likeliest option of {title}"] = one.get("calibration")
    found = []
    for what, sides in asked.items():
        known = {who: one for who, one in (sides or {}).items() if one}
        if known:
            errors = [
                f"{who} {100 * one['ece']['value']:.0f} points "
                f"({100 * one['ece']['ci'][0]:.0f} to {100 * one['ece']['ci'][1]:.0f}, n = {one['ece']['n']})"
                for who, one in known.items()
            ]
            sentence = (
                f"How sure it was of {what}. Mean distance from the line: {', '.join(errors)}."
            )
            found.append({"picture": reliability(known, what), "sentence": sentence})
    return found


def _slice_row(results: dict[str, Any], one: dict[str, Any]) -> dict[str, Any]:
    name = results["slice_metric"]
    return {
        **one,
        "value": LEVEL_NAMES.get(one["value"], one["value"]),
        "base": shown(name, one["base"]),
        "tuned": shown(name, one["tuned"]),
        "ci": moved_between(name, one["change"]["ci"]),
        "worse": one["change"]["ci"][1] < 0,
    }


def _table_row(name: str, results: dict[str, Any]) -> dict[str, Any]:
    def interval(bounds: list[float]) -> str:
        return " to ".join(shown(name, bound) for bound in bounds)

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
        "delta": moved(name, delta["value"]),
        "delta_ci": moved_between(name, delta["ci"]),
        "p": "< 0.001" if delta["p_holm"] < 0.001 else f"{delta['p_holm']:.3f}",
        "judgement": ("better" if better else "worse") if sure else "not beyond chance",
    }
