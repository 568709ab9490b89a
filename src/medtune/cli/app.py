"""All commands."""

from __future__ import annotations

import typer

from medtune.cli.assess import assess
from medtune.cli.audit import audit
from medtune.cli.chat import chat
from medtune.cli.compare import compare
from medtune.cli.demo import demo
from medtune.cli.doctor import doctor
from medtune.cli.evaluate import evaluate
from medtune.cli.export import export
from medtune.cli.feedback import feedback
from medtune.cli.inspect import inspect
from medtune.cli.plan import plan
from medtune.cli.prepare import prepare
from medtune.cli.push import push
from medtune.cli.recipes import recipes
from medtune.cli.serve import serve
from medtune.cli.sweep import sweep
from medtune.cli.train import train

app = typer.Typer(
    name="medtune",
    help="Turn a base language model and patient-doctor dialogues into a measured medical chatbot.\n\n"
    "Start with `medtune demo`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="--debug, anywhere, shows the traceback of an error.",
)


@app.callback(invoke_without_command=True)
def _version(
    version: bool = typer.Option(False, "--version", help="Print the version.", is_eager=True),
) -> None:
    if version:
        from medtune import __version__

        typer.echo(f"medtune {__version__}")
        raise typer.Exit


for command in (
    demo,
    recipes,
    plan,
    prepare,
    inspect,
    train,
    sweep,
    evaluate,
    compare,
    chat,
    serve,
    assess,
    export,
    push,
    doctor,
):
    app.command()(command)
app.add_typer(audit, name="audit")
app.add_typer(feedback, name="feedback")
