from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from medtune.cli.arguments import RunName, Runs
from medtune.model.gguf.quantize import Quantization

Target = Literal["gguf", "merged", "ollama", "adapter", "space"]


def export(
    run: RunName = None,
    to: Annotated[
        Target,
        typer.Option(
            help="gguf for llama.cpp; merged for transformers and vLLM; ollama adds a Modelfile; "
            "adapter is the LoRA alone as GGUF; space is a web page for Hugging Face Spaces."
        ),
    ] = "gguf",
    quantization: Annotated[
        Quantization, typer.Option(help="How a GGUF stores its weights; q8_0 is half of f16.")
    ] = "q8_0",
    dtype: Annotated[
        Literal["bfloat16", "float16", "float32"], typer.Option(help="Of a merged model.")
    ] = "bfloat16",
    check: Annotated[
        bool, typer.Option("--check", help="Load the GGUF in llama.cpp and compare the answers.")
    ] = False,
    adapter: Annotated[
        str, typer.Option(help="For a space: the adapter on the Hub, owner/name.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written.")] = False,
    runs: Runs = Path("runs"),
) -> None:
    """Write a run's model in the form that another program reads.

    Example: medtune export embedded-qlora --to gguf --quantization q4_k_m
    """
    import json

    from medtune.cli.arguments import existing_run
    from medtune.cli.output import converting, say
    from medtune.model.gguf.export import gguf_adapter_of, gguf_of
    from medtune.model.merge import write_merged
    from medtune.publishing.ollama import write_modelfile

    chosen = existing_run(run, runs)
    with converting() as advance:
        match to:
            case "gguf":
                written = gguf_of(chosen, quantization, advance)
            case "merged":
                written = write_merged(chosen, dtype)
            case "ollama":
                written = write_modelfile(chosen, quantization, advance)
            case "adapter":
                written = gguf_adapter_of(chosen)
            case "space":
                from medtune.publishing.space import write_space

                written = write_space(chosen, adapter)
    facts: dict[str, object] = {"to": to, "path": str(written), "bytes": _size(written)}
    if check and to in ("gguf", "ollama"):
        from medtune.chat.parity import compare_with_llama_cpp

        facts["check"] = compare_with_llama_cpp(chosen, quantization)
    if as_json:
        typer.echo(json.dumps(facts))
        return
    say(
        f"Written: {written} ({_size(written) / 2**20:,.1f} MiB). {_next(to, written, chosen.name)}"
    )
    if "check" in facts:
        say(str(facts["check"]["sentence"]))  # type: ignore[index]


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(file.stat().st_size for file in files)


def _next(to: Target, path: Path, name: str) -> str:
    return {
        "gguf": f"Run it: llama-cli -m {path}; with the safety layer in front: medtune chat {name}",
        "merged": f"Load it with transformers or vLLM: vllm serve {path}",
        "ollama": f"Next: ollama create {name} -f {path} && ollama run {name}",
        "adapter": f"Put it on a GGUF of the base: llama-cli -m BASE.gguf --lora {path}",
        "space": f"Try it: cd {path} && python app.py",
    }[to]
