"""The model card: what a run made, in words for people and in metadata that the Hub reads."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any, Literal

from medtune.embedded import BASE_FOLDER
from medtune.errors import MedtuneError
from medtune.evaluation.report import LABELS, moved, moved_between, shown, verdict
from medtune.hub import fetch
from medtune.publishing.facts import base_name, data_name, data_sources, hub_data, without_path
from medtune.recipe import Recipe
from medtune.run import Run

What = Literal["adapter", "merged", "gguf"]

_METRIC_TYPES = {
    "rouge_l": "rouge",
    "condition_top1": "accuracy",
    "condition_top3": "accuracy",
    "specialist": "accuracy",
    "urgency": "accuracy",
    "emergency_recall": "recall",
}
"""As the Hub calls them; other metrics go by our own name, for they are better when lower or no share."""
_WHAT = {
    "adapter": "a LoRA adapter; it needs the base",
    "merged": "the whole model, adapter folded into the base, for transformers and vLLM",
    "gguf": "the whole model as GGUF, for llama.cpp, Ollama and LM Studio",
}
_WATTS_PER_CORE = 10.0
_WATTS_PER_GPU = 250.0


def model_card(run: Run, what: What, repo_id: str) -> str:
    """The card as Markdown with its front matter.

    It holds no text from the data, and no path of this machine.

    Args:
        run: trained; results are told if it was evaluated.
        what: what is published.
        repo_id: where, owner/name.

    Raises:
        MedtuneError: the run has not been trained.
    """
    from jinja2 import Environment

    run.require(
        run.training_file,
        f"The run {run.name!r} has not been trained; start with `medtune train`.",
    )
    recipe = run.recipe()
    trained = run.read_json(run.training_file)
    manifest = run.read_json(run.manifest_file)
    card = run.read_json(run.card_json) if run.card_json.exists() else None
    results = run.read_json(run.results_file) if run.results_file.exists() else None
    template = (
        resources.files("medtune.publishing").joinpath("card.md.j2").read_text(encoding="utf-8")
    )
    page = Environment(trim_blocks=True, lstrip_blocks=True).from_string(template)
    body = page.render(
        title=repo_id.partition("/")[2],
        what=_WHAT[what],
        base=base_name(recipe),
        method=_method(recipe),
        data=_data(recipe, card),
        base_license=base_license(recipe) or "see the base's own page",
        data_license=data_license(recipe) or "not stated; ask whoever published this model",
        use=_use(what, repo_id, run.name),
        verdict=verdict(results) if results else "",
        rows=_rows(results) if results else [],
        gate=results["gate"] if results else None,
        test_rows=results["test_rows"] if results else 0,
        contamination=_contamination(results),
        training=_training(recipe, trained, manifest),
        limits=_limits(recipe, results),
    )
    return f"---\n{_metadata(run, recipe, results, what).to_yaml()}\n---\n\n{body}"


def base_license(recipe: Recipe) -> str:
    """What the recipe says, or the base's own card; empty if neither says."""
    if recipe.publishing.license:
        return recipe.publishing.license
    base = recipe.model.base
    if base == "embedded":
        return _license_in(BASE_FOLDER)
    if Path(base).is_dir():
        return _license_in(Path(base))
    return _license_on_hub(base, "model", recipe.model.revision)


def data_license(recipe: Recipe) -> str:
    """What the recipe says, or the data's own cards; empty if nothing is known of a source."""
    if recipe.publishing.data_license:
        return recipe.publishing.data_license
    sources, on_hub = data_sources(recipe), hub_data(recipe)
    if all(source.startswith("builtin:") for source in sources):
        return "apache-2.0"
    if sources != on_hub:
        return ""
    revisions = [part.revision for part in recipe.data.mixture] or [recipe.data.revision]
    found = [
        _license_on_hub(source, "dataset", revision)
        for source, revision in zip(sources, revisions, strict=True)
    ]
    return ", ".join(dict.fromkeys(found)) if all(found) else ""


def _license_on_hub(repo_id: str, kind: Literal["model", "dataset"], revision: str) -> str:
    """What the card on the Hub says; empty where it cannot be had."""
    try:
        return _license_in(fetch(repo_id, kind, revision, ["README.md"]))
    except MedtuneError:
        return ""


def _license_in(folder: Path) -> str:
    from huggingface_hub import RepoCard

    if not (folder / "README.md").is_file():
        return ""
    try:
        told = RepoCard.load(folder / "README.md", ignore_metadata_errors=True).data
    except ValueError:  # a card without a head, or with a broken one
        return ""
    license = told.get("license") or ""
    return ", ".join(license) if isinstance(license, list) else str(license)


def _metadata(run: Run, recipe: Recipe, results: dict[str, Any] | None, what: What) -> Any:
    """``base_model``, ``datasets``, tags and ``model-index``."""
    from huggingface_hub import EvalResult, ModelCardData

    base = recipe.model.base
    is_hub_base = base != "embedded" and without_path(base) == base
    sources = hub_data(recipe)
    figures = [
        EvalResult(
            task_type="text-generation",
            dataset_type=sources[0]
            if len(data_sources(recipe)) == len(sources) == 1
            else "private",
            dataset_name=data_name(recipe),
            dataset_split="test",
            metric_type=_METRIC_TYPES.get(name, name),
            metric_name=LABELS[name],
            metric_value=round(results["tuned"][name]["value"], 6),
        )
        for name in LABELS
        if results and name in results["tuned"]
    ]
    return ModelCardData(
        base_model=base if is_hub_base else None,
        base_model_relation={"adapter": "adapter", "merged": "finetune", "gguf": "quantized"}[what]
        if is_hub_base
        else None,
        datasets=sources or None,
        language="en",
        library_name={"adapter": "peft", "merged": "transformers", "gguf": "gguf"}[what],
        license=base_license(recipe) or None,
        pipeline_tag="text-generation",
        tags=["medtune", "medical", *_method_tags(recipe), "not-for-clinical-use"],
        model_name=run.name if figures else None,
        eval_results=figures or None,
    )


def _rows(results: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for name, label in LABELS.items():
        if name not in results["base"]:
            continue
        base, tuned, delta = (results[key][name] for key in ("base", "tuned", "delta"))
        rows.append(
            {
                "label": label,
                "base": _with_interval(name, base),
                "tuned": _with_interval(name, tuned),
                "change": f"{moved(name, delta['value'])} ({moved_between(name, delta['ci'])})",
                "n": tuned["n"],
            }
        )
    return rows


def _with_interval(name: str, score: dict[str, Any]) -> str:
    low, high = (shown(name, bound) for bound in score["ci"])
    return f"{shown(name, score['value'])} ({low} to {high})"


def _data(recipe: Recipe, card: dict[str, Any] | None) -> dict[str, Any]:
    unknown = {"rows": {"train": 0, "test": 0}, "fingerprint": "unknown"}
    known = card or unknown
    return {
        "source": data_name(recipe),
        "rows": known["rows"],
        "fingerprint": known["fingerprint"],
    }


def _method(recipe: Recipe) -> str:
    adapter, quantization = recipe.adapter, recipe.model.quantization
    if adapter.method == "none":
        return "full fine-tuning: every weight was trained"
    kind = {"lora": "LoRA", "rslora": "rank-stabilised LoRA", "dora": "DoRA"}[adapter.method]
    if adapter.init != "default":
        kind += f" started by {adapter.init}"
    if quantization != "none":
        kind += f" over a base in {quantization} (QLoRA)"
    targets = adapter.targets if isinstance(adapter.targets, str) else ", ".join(adapter.targets)
    return f"{kind}, rank {adapter.rank}, alpha {adapter.alpha:g}, on {targets}"


def _method_tags(recipe: Recipe) -> list[str]:
    if recipe.adapter.method == "none":
        return ["full-fine-tuning"]
    return ["lora"] if recipe.model.quantization == "none" else ["lora", "qlora"]


def _training(
    recipe: Recipe, trained: dict[str, Any], manifest: dict[str, Any]
) -> list[tuple[str, str]]:
    section, hardware = recipe.training, manifest.get("hardware", {})
    machine = hardware.get("gpu") or f"{hardware.get('cores', '?')} cores ({hardware.get('cpu')})"
    hours = trained["seconds"] / 3600
    on_gpu = "gpu" in hardware
    watts = _WATTS_PER_GPU if on_gpu else _WATTS_PER_CORE * hardware.get("cores", 1)
    part = "the GPU" if on_gpu else "each core"
    share = trained["trainable_parameters"] / trained["total_parameters"]
    return [
        ("trained parameters", f"{trained['trainable_parameters']:,} ({share:.2%} of the base)"),
        ("steps", f"{trained['steps']:,}"),
        ("learning rate", f"{section.learning_rate:g}, {section.schedule}"),
        ("batch", f"{section.batch_size} × {section.gradient_accumulation}"),
        ("optimizer", section.optimizer),
        ("seed", str(section.seed)),
        (
            "validation loss",
            f"{trained['validation_loss_before']:.3f} before, {trained['validation_loss']:.3f} after",
        ),
        ("time", f"{trained['seconds'] / 60:,.1f} minutes on {machine}"),
        ("peak memory", f"{trained['peak_memory_bytes'] / 2**30:.2f} GiB"),
        (
            "energy",
            f"about {watts * hours:,.1f} Wh, estimated from the time at "
            f"{_WATTS_PER_GPU if on_gpu else _WATTS_PER_CORE:g} W for {part}, not measured",
        ),
    ]


def _limits(recipe: Recipe, results: dict[str, Any] | None) -> list[str]:
    limits = [
        "It names conditions with confidence also where it is wrong, and does not say how sure it is.",
        "It was measured on questions like those it was trained on; on other people, other wordings, "
        "other illnesses and other languages it is worse by an unknown amount.",
        "It knows nothing of the person beyond the message: no examination, no tests, no history.",
        "It has not been tried with patients, and no regulator has seen it.",
    ]
    if recipe.model.base == "embedded":
        limits.append(
            "The base knows 82 conditions and no others; anything else gets a confident wrong answer."
        )
    if results:
        limits += _failures(results)
        if not results["gate"]["passed"]:
            limits.append("It did not pass its own gate; see the results.")
    return limits


def _failures(results: dict[str, Any]) -> list[str]:
    """What went wrong on the test questions, as shares of them; of emergencies, of those alone."""
    tuned, failures = results["tuned"], []
    for name, words in (
        ("condition_top1", "the condition named first is wrong"),
        ("specialist", "the specialist named is not an accepted one"),
        ("ended", "the answer does not end before the length limit"),
    ):
        score = tuned.get(name)
        if score and score["value"] < 1:
            failures.append(f"In {1 - score['value']:.1%} of {score['n']} test questions {words}.")
    alone = tuned.get("emergency_recall")
    if alone and alone["n"]:
        behind = results.get("deployed", {}).get("tuned", {}).get("emergency_recall")
        layer = f", with Medtune's safety layer {1 - behind['value']:.1%}" if behind else ""
        failures.append(
            f"Of {alone['n']} emergencies among the test questions the model alone does not recognise "
            f"{1 - alone['value']:.1%}{layer}."
        )
    less = tuned.get("under_triage")
    if less and less["value"]:
        failures.append(
            f"In {less['value']:.1%} of {less['n']} test questions it says less urgency than there is."
        )
    return failures


def _contamination(results: dict[str, Any] | None) -> int | None:
    return (results or {}).get("contamination", {}).get("test_questions_in_training")


def _use(what: What, repo_id: str, name: str) -> str:
    if what == "gguf":
        return f"hf download {repo_id} --local-dir {name}\nllama-cli -m {name}/*.gguf"
    if what == "merged":
        return f"vllm serve {repo_id}"
    return f"pip install git+https://github.com/medtune/medtune\nmedtune chat hub:{repo_id}"
