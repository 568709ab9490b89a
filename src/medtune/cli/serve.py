from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from medtune.cli import arguments


def serve(
    run: arguments.RunName = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 7860,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="The longest answer.")] = 256,
    engine_name: arguments.EngineChoice = "auto",
    quantization: arguments.EngineWeights = None,
    url: arguments.EngineUrl = "",
    model: arguments.EngineModel = "",
    slots: Annotated[int, typer.Option(min=1, max=64, help="Answers at a time.")] = 2,
    waiting: Annotated[int, typer.Option(min=0, help="Requests that may wait for a slot.")] = 32,
    requests_per_minute: Annotated[
        int, typer.Option(min=0, help="Of one client; 0 is no limit.")
    ] = 600,
    tokens_per_minute: Annotated[
        int, typer.Option(min=0, help="Of one client; 0 is no limit.")
    ] = 0,
    page: Annotated[bool, typer.Option("--page/--no-page", help="The web page at /.")] = True,
    allow_origin: Annotated[
        list[str] | None, typer.Option(help="A web page that may call the API; repeatable.")
    ] = None,
    is_open: Annotated[
        bool, typer.Option("--open", help="No key, although others can reach the address.")
    ] = False,
    store: Annotated[
        Path | None, typer.Option(help="Feedback and kept conversations; RUNS/feedback.sqlite.")
    ] = None,
    no_store: Annotated[
        bool, typer.Option("--no-store", help="Keep no feedback and no conversation.")
    ] = False,
    compare: Annotated[
        bool, typer.Option("--compare/--no-compare", help="Base against tuned on the page.")
    ] = True,
    country: arguments.Country = "",
    runs: arguments.Runs = Path("runs"),
) -> None:
    """Open the web page and the API of a tuned model at http://127.0.0.1:7860.

    The API speaks OpenAI's protocol under /v1.  Keys come from MEDTUNE_API_KEYS.

    Example: medtune serve embedded-qlora --port 8000
    """
    from medtune.cli.output import converting, say
    from medtune.serving.keys import load_keys
    from medtune.serving.web import check_port

    chosen = arguments.run_for(run, runs, engine_name)
    check_port(host, port)
    keys = load_keys()
    from medtune.serving.server import check_address
    from medtune.serving.server import serve as serve_forever

    check_address(host, keys, is_open)
    from medtune.chat.engines import Decoding
    from medtune.chat.engines.choose import open_base, open_engine
    from medtune.serving.limits import Limits
    from medtune.serving.service import Service, adapter_of
    from medtune.serving.store import Store

    with converting() as advance:
        engine = open_engine(
            chosen,
            engine_name,
            slots=slots,
            kind=quantization,
            url=url,
            model=model,
            advance=advance,
        )
    open_base_of_run = None
    if compare and chosen is not None:
        open_base_of_run = partial(open_base, chosen, engine, slots=slots)
    service = Service(
        engine,
        Decoding(max_new_tokens),
        adapter_of(chosen),
        (chosen.recipe().data.system or "") if chosen else "",
        country,
        Limits(
            slots,
            waiting,
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
        ),
        keys,
        store=None if no_store else Store(store or runs / "feedback.sqlite"),
        open_base=open_base_of_run,
    )
    say(f"{engine.name} at http://{host}:{port}, the API under /v1 - Ctrl-C ends it.")
    serve_forever(service, host=host, port=port, page=page, origins=allow_origin or ())
