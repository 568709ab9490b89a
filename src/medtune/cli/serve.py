from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medtune.cli.arguments import Country, EngineChoice, RunName, Runs


def serve(
    run: RunName = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 7860,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="The longest answer.")] = 256,
    engine_name: EngineChoice = "auto",
    country: Country = "",
    runs: Runs = Path("runs"),
) -> None:
    """Open the web page of a tuned model at http://127.0.0.1:7860.

    Example: medtune serve embedded-qlora --port 8000
    """
    from medtune.cli.arguments import existing_run
    from medtune.cli.output import converting, say
    from medtune.serving.web import check_port

    chosen = existing_run(run, runs)
    check_port(host, port)
    from medtune.chat.engines import Decoding
    from medtune.chat.engines.choose import open_engine
    from medtune.serving.web import serve as open_page

    with converting() as advance:
        engine = open_engine(chosen, engine_name, advance=advance)
    say(f"{engine.name} at http://{host}:{port} - Ctrl-C ends it.")
    open_page(
        engine,
        Decoding(max_new_tokens),
        host=host,
        port=port,
        system=chosen.recipe().data.system or "",
        country=country,
    )
