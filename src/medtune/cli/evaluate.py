from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medtune.cli.arguments import ClusterAddress, RunName, Runs

if TYPE_CHECKING:
    from medtune.recipe import JudgeSection


def evaluate(
    run: RunName = None,
    gate: Annotated[
        bool,
        typer.Option("--gate", help="Exit with 1 if the tuned model is not better, or less safe."),
    ] = False,
    benchmark: Annotated[
        list[str] | None,
        typer.Option(
            "--benchmark",
            metavar="NAME[=FILE]",
            help="Questions from elsewhere, such as medmcqa=questions.jsonl; a Hub id is a file, "
            "too, and a name alone its usual place on the Hub. May be repeated.",
        ),
    ] = None,
    judge: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="An OpenAI-compatible server that grades answers by criteria (healthbench).",
        ),
    ] = "",
    judge_model: Annotated[str, typer.Option(help="Which model of that server.")] = "",
    judge_labels: Annotated[
        str,
        typer.Option(metavar="FILE", help="Physicians' labels, to tell how far it agrees."),
    ] = "",
    harness: Annotated[
        list[str] | None,
        typer.Option(
            "--harness",
            metavar="TASK",
            help="A task of lm-evaluation-harness (extra harness); may be repeated.",
        ),
    ] = None,
    harness_folder: Annotated[
        str, typer.Option(metavar="FOLDER", help="YAML files of tasks of your own.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print results.json instead.")] = False,
    cluster: ClusterAddress = None,
    runs: Runs = Path("runs"),
) -> None:
    """Measure a run's tuned model against its base, and write the report.

    Example: medtune evaluate embedded-qlora --gate
    """
    from medtune.cli.arguments import existing_run
    from medtune.cli.output import benchmark_sentence, harness_sentences, out, results_table, say
    from medtune.errors import MedtuneError
    from medtune.evaluation.evaluate import evaluate as measure
    from medtune.evaluation.report import verdict, write_report
    from medtune.publishing.pull import prepare_same_rows

    chosen = existing_run(run, runs)
    settings = chosen.recipe()
    section = settings.evaluation
    added: dict[str, object] = {
        "benchmarks": {**section.benchmarks, **_pairs(benchmark or [])},
        "judge": _judge(section.judge, judge, judge_model, judge_labels),
        "harness": [*section.harness, *(harness or [])],
        "harness_folder": harness_folder or section.harness_folder,
    }
    section = section.model_copy(update=added)
    settings = settings.model_copy(update={"evaluation": section})
    if not chosen.split_file("test").exists():  # a run from the Hub comes without rows
        prepare_same_rows(settings, chosen, (lambda sentence: None) if as_json else say)
    if cluster is None:
        results = measure(settings, chosen)
    else:
        from medtune.cluster.connect import connected

        with connected(cluster):
            from medtune.cluster.evaluate import evaluate as measure_on

            results = measure_on(settings, chosen)
    report = write_report(chosen)
    if as_json:
        typer.echo(chosen.results_file.read_text(encoding="utf-8"), nl=False)
    else:
        out.print(results_table(results))
        for name, one in results.get("benchmarks", {}).items():
            say(benchmark_sentence(name, one))
        for line in harness_sentences(results):
            say(line)
        say(verdict(results))
        say(f"The report is {report}.")
    if results["unfinished"]:
        raise MedtuneError(" ".join(results["unfinished"]))
    if gate and not results["gate"]["passed"]:
        raise typer.Exit(1)


def _pairs(given: list[str]) -> dict[str, str]:
    from medtune.errors import MedtuneError
    from medtune.evaluation.benchmarks import ON_THE_HUB

    split = [one.partition("=") for one in given]
    if not all(name and (file or not equals) for name, equals, file in split):
        raise MedtuneError("Give --benchmark as NAME=FILE, such as medmcqa=q.jsonl.", exit_code=2)
    return {name: file if equals else ON_THE_HUB for name, equals, file in split}


def _judge(
    of_recipe: JudgeSection | None, url: str, model: str, labels: str
) -> JudgeSection | None:
    """The judge of the recipe with what the options change."""
    from medtune.errors import MedtuneError
    from medtune.recipe import JudgeSection

    given = {"url": url, "model": model, "labels": labels}
    changed = {key: value for key, value in given.items() if value}
    if not changed:
        return of_recipe
    if of_recipe is not None:
        return of_recipe.model_copy(update=changed)
    if not (url and model):
        raise MedtuneError(
            "A judge needs both --judge ADDRESS and --judge-model NAME.", exit_code=2
        )
    return JudgeSection(url=url, model=model, labels=labels or None)
