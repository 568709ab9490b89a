from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medtune.cli import arguments

if TYPE_CHECKING:
    from collections.abc import Callable

    from medtune.chat.engines import Engine


def chat(
    run: arguments.RunName = None,
    temperature: Annotated[
        float, typer.Option(min=0, max=2, help="0 is always the same answer.")
    ] = 0.0,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="The longest answer.")] = 256,
    engine_name: arguments.EngineChoice = "auto",
    quantization: arguments.EngineWeights = None,
    url: arguments.EngineUrl = "",
    model: arguments.EngineModel = "",
    country: arguments.Country = "",
    history: Annotated[
        Path | None, typer.Option(help="Keep what is typed in this file, for the arrow keys.")
    ] = None,
    runs: arguments.Runs = Path("runs"),
) -> None:
    """Talk to a tuned model in the terminal.  /help lists the commands, /quit leaves.

    Example: medtune chat embedded-qlora
    """
    from medtune.chat.engines import Decoding
    from medtune.chat.engines.choose import open_base, open_engine
    from medtune.chat.terminal.session import Session
    from medtune.cli.output import converting

    def opened(name: str | None) -> tuple[Engine, str, Callable[[], Engine] | None]:
        """The engine of a run, its instructions, and what opens its base."""
        chosen = arguments.run_for(name, runs, engine_name)
        with converting() as advance:
            engine = open_engine(
                chosen, engine_name, kind=quantization, url=url, model=model, advance=advance
            )
        if chosen is None:
            return engine, "", None

        def base() -> Engine:
            with converting() as advance:
                return open_base(chosen, engine, advance=advance)

        return engine, chosen.recipe().data.system or "", base

    engine, system, base = opened(run)
    Session(
        engine,
        Decoding(max_new_tokens, temperature),
        system,
        country,
        open_base=base,
        open_model=opened,
        history=history,
    ).run()
