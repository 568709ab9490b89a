from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medtune.cli.arguments import Country

if TYPE_CHECKING:
    from medtune.safety import Assessment


def assess(
    text: Annotated[str | None, typer.Argument(help="A message.")] = None,
    source: Annotated[
        Path | None, typer.Option("--in", help='JSON lines {"id", "text"} to assess.')
    ] = None,
    target: Annotated[Path | None, typer.Option("--out", help="Where the levels go.")] = None,
    country: Country = "",
    vignettes: Annotated[
        bool, typer.Option("--vignettes", help="Measure the rules on the vignettes instead.")
    ] = False,
) -> None:
    """Say how urgent a message is, by the safety layer alone, without a model.

    Example: medtune assess "crushing chest pain and my left arm hurts"
    """
    from medtune.errors import MedtuneError
    from medtune.run import whole
    from medtune.safety import assess as assess_text

    if vignettes:
        _measure()
        return
    if (text is None) == (source is None):
        raise MedtuneError("Give a message, or a file with --in.", exit_code=2)
    if text is not None:
        typer.echo(_line("", assess_text(text, country)))
        return
    lines = []
    for number, row in enumerate(_lines(source), start=1):  # type: ignore[arg-type]
        try:
            parsed = json.loads(row)
            asked = parsed["messages"] if "messages" in parsed else parsed["text"]
            lines.append(_line(parsed["id"], assess_text(asked, country)))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise MedtuneError(
                f'{source}, line {number}: this is no JSON object with "id" and "text".'
            ) from None
    if target is None:
        typer.echo("\n".join(lines))
        return
    with whole(target) as part:
        part.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _measure() -> None:
    from rich.table import Table

    from medtune.cli.output import out
    from medtune.evaluation.safety import measure_safety

    measured = measure_safety("report")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("on the reporting half", "rate", "95% interval", "n"):
        table.add_column(column, justify="left" if column.startswith("on") else "right")
    for name, score in measured.rates.items():
        low, high = score.ci
        table.add_row(name, f"{score.value:.1%}", f"{low:.1%} to {high:.1%}", str(score.n))
    out.print(table)


def _lines(path: Path) -> list[str]:
    from medtune.errors import MedtuneError

    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except OSError as error:
        raise MedtuneError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise MedtuneError(f"{path} is not UTF-8; save it as UTF-8 text.") from None


def _line(id: object, found: Assessment) -> str:
    return json.dumps(
        {"id": id, "urgency": found.urgency, "rules": list(found.rules), "message": found.message},
        ensure_ascii=False,
    )
