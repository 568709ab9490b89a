from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from medtune.cli.arguments import Overrides, Runs

QUESTIONS = (
    "My big toe has been red, hot and terribly painful since last night. What could it be?",
    "I have a throbbing pain on one side of my head, light hurts my eyes and I feel sick. What can I do?",
    "For two weeks I have had itchy eyes and I sneeze ten times in a row. Which doctor should I see?",
)


def demo(
    overrides: Overrides = None,
    no_serve: Annotated[bool, typer.Option("--no-serve", help="End after the report.")] = False,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 7860,
    runs: Runs = Path("runs"),
) -> None:
    """The whole job on the embedded default: prepare, train, evaluate, report, chat.

    Example: medtune demo --no-serve
    """
    from medtune.chat.conversation import Conversation
    from medtune.chat.engines import Decoding
    from medtune.chat.engines.transformers import open_engine
    from medtune.chat.pipeline import DISCLAIMER, answer
    from medtune.cli.arguments import recipe_and_run
    from medtune.cli.output import out, results_table, say, training_sentence
    from medtune.data.prepare import prepare
    from medtune.evaluation.evaluate import evaluate
    from medtune.evaluation.report import verdict, write_report
    from medtune.model.load import load_tokenizer
    from medtune.serving.web import check_port
    from medtune.training.train import train

    started = time.perf_counter()
    if not no_serve:
        check_port("127.0.0.1", port)
    recipe, run = recipe_and_run("embedded-qlora", overrides, runs)
    out.rule("1 of 4: prepare", align="left")
    prepare(recipe.data, run, load_tokenizer(recipe.model), say)
    run.keep(recipe)
    out.rule("2 of 4: train (QLoRA)", align="left")
    say(training_sentence(train(recipe, run)))
    out.rule("3 of 4: evaluate, base against tuned", align="left")
    results = evaluate(recipe, run)
    out.print(results_table(results))
    say(verdict(results))
    say(f"The report with curves and samples: {write_report(run)}")
    out.rule("4 of 4: three consultations", align="left")
    engine = open_engine(run)
    settings = Decoding(recipe.evaluation.max_new_tokens)
    say(DISCLAIMER)
    for question in QUESTIONS:
        conversation = Conversation()
        conversation.ask(question)
        out.print(f"\n[bold]{question}[/bold]")
        say("".join(answer(conversation, engine, settings)))
    say(f"\nDone in {time.perf_counter() - started:.0f} s. Talk to it: medtune chat {run.folder}")
    if no_serve:
        return
    from medtune.chat.engines.choose import open_base
    from medtune.serving.server import serve
    from medtune.serving.service import Service, adapter_of
    from medtune.serving.store import Store

    service = Service(
        engine,
        settings,
        adapter_of(run),
        store=Store(runs / "feedback.sqlite"),
        open_base=partial(open_base, run, engine),
    )
    say(f"The web page: http://127.0.0.1:{port}, the API under /v1 - Ctrl-C ends it.")
    serve(service, port=port)
