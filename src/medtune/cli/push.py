from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from medtune.cli.arguments import Runs


def push(
    run: Annotated[str, typer.Argument(help="A run's name or folder.")],
    repo: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Where on the Hub.")],
    what: Annotated[
        Literal["adapter", "merged", "gguf"], typer.Option(help="What of the model goes.")
    ] = "adapter",
    quantization: Annotated[
        Literal["f16", "bf16", "q8_0", "q4_0", "q4_k_m", "q5_k_m", "q6_k"],
        typer.Option(help="Of a GGUF."),
    ] = "q8_0",
    public: Annotated[bool, typer.Option("--public", help="Let everybody see it.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would go; needs no token.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what went.")] = False,
    runs: Runs = Path("runs"),
) -> None:
    """Push a run with its model card to the Hugging Face Hub; private unless you say otherwise.

    The token is read from HF_TOKEN. A push that was cut off goes on when started again.

    Example: medtune push embedded-qlora my-name/my-model --dry-run
    """
    import json

    from medtune.cli.output import converting, say
    from medtune.publishing.hub import check_access, collect, files_of
    from medtune.publishing.hub import push as upload
    from medtune.run import Run

    chosen = Run.open(run, runs)
    tell = (lambda sentence: None) if as_json else say
    if not dry_run:
        check_access(repo, private=not public, say=tell)
    with converting() as advance:
        folder = collect(chosen, repo, what, quantization, advance)
    files = files_of(folder)
    facts = {"repo": repo, "private": not public, "dry_run": dry_run, "files": files}
    if not dry_run:
        facts["url"] = upload(folder, repo, private=not public, say=tell).url
    if as_json:
        typer.echo(json.dumps(facts))
        return
    for name, size in files.items():
        say(f"{size:>14,}  {name}")
    who = "everybody can" if public else "only you can"
    total = f"{len(files)} files, {sum(files.values()) / 2**20:,.1f} MiB"
    if dry_run:
        say(f"Would go to {repo}: {total}; {who} see it. They lie in {folder}.")
    else:
        say(f"Pushed to {facts['url']}: {total}; {who} see it.")
        if what == "adapter":
            say(f"Talk to it anywhere: medtune chat hub:{repo}")
