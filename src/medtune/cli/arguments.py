"""Arguments that several commands share, and how they become a recipe and a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from medtune.model.gguf.quantize import Quantization

if TYPE_CHECKING:
    from medtune.recipe import Recipe
    from medtune.run import Run

RecipeName = Annotated[
    str, typer.Argument(metavar="RECIPE", help="A recipe file, or the name of a shipped recipe.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Settings to change, e.g. training.epochs=3."),
]
Runs = Annotated[Path, typer.Option("--runs", help="The folder that holds the runs.")]
ClusterAddress = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="ADDRESS",
        help="Spread over Ray: local, local:2 (nodes), auto, or a cluster's address.",
    ),
]
RunName = Annotated[
    str | None,
    typer.Argument(
        metavar="[RUN]", help="A run's name or folder, or hub:owner/name; the newest if left out."
    ),
]
EngineChoice = Annotated[
    Literal["auto", "transformers", "llamacpp", "openai"],
    typer.Option(
        "--engine",
        help="auto: llama.cpp on a CPU, transformers on a GPU; openai: the server at --url.",
    ),
]
EngineWeights = Annotated[
    Quantization | None,
    typer.Option(
        "--quantization",
        help="How llama.cpp stores the weights: q8_0, or fewer bits for more speed, such as q4_0.",
    ),
]
EngineUrl = Annotated[
    str, typer.Option("--url", help="An OpenAI-compatible server, for --engine openai.")
]
EngineModel = Annotated[
    str, typer.Option("--model", help="Which model of that server; its first if left out.")
]
Country = Annotated[
    str, typer.Option(help="Two letters, such as US or GB, for the emergency lines.")
]


def recipe_and_run(name: str, overrides: list[str] | None, runs: Path) -> tuple[Recipe, Run]:
    """The recipe with its overrides and the run it belongs to, which is not made yet.

    The recipe that lies inside a run belongs to that run, wherever ``runs`` points.
    """
    from medtune.recipe import load_recipe
    from medtune.run import Run

    recipe = load_recipe(name, overrides)
    path = Path(name)
    if path.name == "recipe.yaml" and path.resolve().parent.name == recipe.name:
        runs = path.parent.parent
    return recipe, Run(runs / recipe.name)


def existing_run(name: str | None, runs: Path) -> Run:
    """A run by name, one from the Hub, or the one whose training ended last.

    Raises:
        MedtuneError: there is none.
    """
    if name is not None and name.startswith("hub:"):
        from medtune.publishing.pull import run_from_hub

        return run_from_hub(name, runs)
    from medtune.errors import MedtuneError
    from medtune.run import Run

    if name is not None:
        return Run.open(name, runs)
    trained = sorted(runs.glob("*/training.json"), key=lambda path: path.stat().st_mtime)
    if not trained:
        raise MedtuneError(f"There is no trained run in {runs}; make one with `medtune demo`.")
    return Run(trained[-1].parent)


def run_for(name: str | None, runs: Path, engine: str) -> Run | None:
    """The run to talk to; none is needed, nor looked for, where another server answers.

    Raises:
        MedtuneError: there is none.
    """
    return None if engine == "openai" and name is None else existing_run(name, runs)
