from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medtune.cli.arguments import ClusterAddress, RunName, Runs


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
            metavar="NAME=FILE",
            help="Questions from elsewhere, such as medmcqa=questions.jsonl; may be repeated.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print results.json instead.")] = False,
    cluster: ClusterAddress = None,
    runs: Runs = Path("runs"),
) -> None:
    """Measure a run's tuned model against its base, and write the report.

    Example: medtune evaluate embedded-qlora --gate
    """
    from medtune.cli.arguments import existing_run
    from medtune.cli.output import benchmark_sentence, out, results_table, say
    from medtune.evaluation.evaluate import evaluate as measure
    from medtune.evaluation.report import verdict, write_report
    from medtune.publishing.pull import prepare_same_rows

    chosen = existing_run(run, runs)
    settings = chosen.recipe()
    if benchmark:
        section = settings.evaluation
        added = {**section.benchmarks, **_pairs(benchmark)}
        section = section.model_copy(update={"benchmarks": added})
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
        say(verdict(results))
        say(f"The report is {report}.")
    if gate and not results["gate"]["passed"]:
        raise typer.Exit(1)


def _pairs(given: list[str]) -> dict[str, str]:
    from medtune.errors import MedtuneError

    split = [one.partition("=") for one in given]
    pairs = {name: file for name, _, file in split}
    if not all(pairs.values()):
        raise MedtuneError("Give --benchmark as NAME=FILE, such as medmcqa=q.jsonl.", exit_code=2)
    return pairs
