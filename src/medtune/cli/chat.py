from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medtune.cli.arguments import Country, EngineChoice, EngineModel, EngineUrl, RunName, Runs

if TYPE_CHECKING:
    from medtune.chat.conversation import Conversation
    from medtune.chat.engines import Decoding, Engine


def chat(
    run: RunName = None,
    temperature: Annotated[
        float, typer.Option(min=0, max=2, help="0 is always the same answer.")
    ] = 0.0,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="The longest answer.")] = 256,
    engine_name: EngineChoice = "auto",
    url: EngineUrl = "",
    model: EngineModel = "",
    country: Country = "",
    runs: Runs = Path("runs"),
) -> None:
    """Talk to a tuned model in the terminal.  /new starts again, /quit leaves.

    Example: medtune chat embedded-qlora
    """
    from medtune.chat.conversation import Conversation
    from medtune.chat.engines import Decoding
    from medtune.chat.engines.choose import open_engine
    from medtune.chat.pipeline import DISCLAIMER
    from medtune.cli.arguments import run_for
    from medtune.cli.output import converting, say

    chosen = run_for(run, runs, engine_name)
    with converting() as advance:
        engine = open_engine(chosen, engine_name, url=url, model=model, advance=advance)
    system = (chosen.recipe().data.system or "") if chosen else ""
    settings = Decoding(max_new_tokens, temperature)
    conversation = Conversation(system)
    say(f"{engine.name}. {DISCLAIMER}\n/new starts again, /quit leaves, Ctrl-C stops an answer.\n")
    while True:
        try:
            message = input("you> ").strip()
        except (EOFError, KeyboardInterrupt):
            say("")
            return
        match message:
            case "":
                continue
            case "/quit" | "/exit":
                return
            case "/new":
                conversation = Conversation(system)
                say("A new conversation.\n")
            case _ if message.startswith("/"):
                say("There are /new and /quit.\n")
            case _:
                _reply(conversation, engine, settings, message, country)


def _reply(
    conversation: Conversation, engine: Engine, settings: Decoding, message: str, country: str
) -> None:
    from threading import Event

    from medtune.chat.pipeline import answer
    from medtune.errors import MedtuneError

    conversation.ask(message)
    pieces: list[str] = []
    stop = Event()
    try:
        for piece in answer(conversation, engine, settings, stop=stop, country=country):
            pieces.append(piece)
            sys.stdout.write(piece)
            sys.stdout.flush()
    except KeyboardInterrupt:
        stop.set()
        print(" (stopped)", end="")
    except MedtuneError as error:
        print(error, end="")
    print("\n")
    if pieces:
        conversation.answered("".join(pieces))
    else:
        conversation.take_back()
