"""Measure chat and serving.  Ratios are taken inside one run, since absolute speeds are noisy.

    python benchmarks/serving.py                  # everything, about ten minutes on two cores
    python benchmarks/serving.py storm start      # some parts

Parts: ``decode`` (llama.cpp against transformers, the pipeline against bare llama.cpp), ``clients``
(eight at a time against the bare engine's batch, and an emergency while all slots are busy),
``storm`` (1,000 requests of 32 clients with cancellations, slow readers and malformed bodies) and
``start`` (``medtune chat`` to the first token, ``medtune serve`` to a page that can be used).
The first two use TinyLlama's shape with random weights.  Writes ``benchmarks/results/serving.json``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

RESULTS = Path(__file__).parent / "results" / "serving.json"
TINYLLAMA: dict[str, Any] = {
    "vocab_size": 32_000, "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22,
    "num_attention_heads": 32, "num_key_value_heads": 4, "max_position_embeddings": 2048,
}  # fmt: skip
QUESTION = "I have had a sore throat and a runny nose for three days, what could it be"
CHAT = "/v1/chat/completions"
EMERGENCY = {
    "messages": [{"role": "user", "content": "crushing chest pain and my left arm hurts"}],
    "stream": True,
}


def random_tinyllama() -> tuple[Any, Any]:
    """The shape with random bfloat16 weights, and the embedded base's tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from medtune.model.load import load_tokenizer
    from medtune.recipe import ModelSection

    torch.manual_seed(0)
    with torch.device("meta"):
        model: Any = LlamaForCausalLM(LlamaConfig(**TINYLLAMA))
    model.to(torch.bfloat16).to_empty(device="cpu")
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    model.model.rotary_emb.__init__(model.config)
    return model.eval(), load_tokenizer(ModelSection())


def decode(folder: Path) -> dict[str, Any]:
    """Tokens per second of one answer at a time."""
    import torch

    from medtune.chat.conversation import Conversation
    from medtune.chat.engines import Decoding
    from medtune.chat.engines.llamacpp import LlamaCppEngine
    from medtune.chat.pipeline import answer
    from medtune.model.template import messages, prompt_ids

    model, tokenizer = random_tinyllama()
    files = ggufs(folder, model, tokenizer)
    conversation = Conversation(turns=messages(QUESTION))
    prompt = torch.tensor([prompt_ids(tokenizer, messages(QUESTION))])
    found: dict[str, Any] = {"tokens_per_second": {}}
    for name, dtype, tokens in (
        ("transformers bf16", torch.bfloat16, 48), ("transformers fp32", torch.float32, 16),
    ):  # fmt: skip
        model.to(dtype)

        def generated(tokens: int, model: Any = model) -> float:
            began = time.perf_counter()
            with torch.inference_mode():
                model.generate(
                    prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=tokens,
                    min_new_tokens=tokens, do_sample=False, pad_token_id=0,
                )  # fmt: skip
            return time.perf_counter() - began

        found["tokens_per_second"][name] = decoding_rate(generated, 2, tokens)
    del model, generated
    for kind, file in files.items():
        engine = LlamaCppEngine(file, tokenizer, "random", 1024)

        def bare(tokens: int, engine: LlamaCppEngine = engine) -> float:
            return bare_seconds(engine, QUESTION, tokens)

        found["tokens_per_second"][f"llama.cpp {kind}"] = decoding_rate(bare, 2, 96)
        if kind == "q8_0":

            def whole(tokens: int, engine: LlamaCppEngine = engine) -> float:
                began = time.perf_counter()
                for _ in answer(conversation, engine, Decoding(tokens)):
                    pass
                return time.perf_counter() - began

            ratios = [bare(96) / whole(96) for _ in range(7)]
            found["pipeline_of_bare"] = {"median": statistics.median(ratios), "all": ratios}
    speed = found["tokens_per_second"]
    found["times_transformers"] = {
        f"{kind} of {other}": speed[f"llama.cpp {kind}"] / speed[f"transformers {other}"]
        for kind in files
        for other in ("fp32", "bf16")
    }
    return found


def ggufs(folder: Path, model: Any, tokenizer: Any) -> dict[str, Path]:
    from medtune.model.gguf.write import write_gguf

    files = {}
    for kind in ("q8_0", "q4_0"):
        files[kind] = folder / f"random-{kind}.gguf"
        if not files[kind].exists():
            write_gguf(model, tokenizer, files[kind], kind, name="random", description="benchmark")
    return files


def decoding_rate(seconds: Callable[[int], float], few: int, many: int) -> float:
    """Tokens a second without the prompt: the difference of a long and a short answer."""
    seconds(few)
    return statistics.median((many - few) / (seconds(many) - seconds(few)) for _ in range(3))


def bare_seconds(engine: Any, question: str, tokens: int) -> float:
    """llama.cpp's server itself, with the same prompt, and nothing around it."""
    from medtune.chat.engines import Decoding
    from medtune.chat.engines.llamacpp import _request
    from medtune.model.template import messages, prompt_ids

    request = _request(prompt_ids(engine._tokenizer, messages(question)), Decoding(tokens))
    began = time.perf_counter()
    engine._server.handle_completions(request, lambda chunk: False)
    return time.perf_counter() - began


def clients(folder: Path, most: int = 8, tokens: int = 48) -> dict[str, Any]:
    """Eight clients of the API against the bare engine's batch, and an emergency meanwhile."""
    import httpx

    from medtune.chat.engines import Decoding
    from medtune.chat.engines.llamacpp import LlamaCppEngine
    from medtune.serving.limits import Limits
    from medtune.serving.server import build_server, stop
    from medtune.serving.service import Service

    model, tokenizer = random_tinyllama()
    file = ggufs(folder, model, tokenizer)["q8_0"]
    del model
    engine = LlamaCppEngine(file, tokenizer, "random", 512, slots=most)
    service = Service(engine, Decoding(400), limits=Limits(slots=most, requests_per_minute=0))
    port = free_port()
    server = build_server(service, port=port, page=False)
    thread = Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    questions = [f"{QUESTION}, and I am {20 + n} years old" for n in range(most)]
    http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=300)

    def served(question: str, tokens: int = tokens) -> float:
        asked = {"messages": [{"role": "user", "content": question}], "stream": True}
        began = time.perf_counter()
        with http.stream("POST", CHAT, json={**asked, "max_tokens": tokens}) as response:
            for _ in response.iter_lines():
                pass
        return time.perf_counter() - began

    def together(one: Callable[[str], float]) -> float:
        began = time.perf_counter()
        with ThreadPoolExecutor(most) as pool:
            list(pool.map(one, questions))
        return time.perf_counter() - began

    together(served)
    ratios = []
    for _ in range(4):
        bare = together(lambda question: bare_seconds(engine, question, tokens))
        ratios.append(bare / together(served))
    with ThreadPoolExecutor(most) as pool:
        busy = [pool.submit(served, question, 300) for question in questions]
        while service.gate.running < most:
            time.sleep(0.01)
        time.sleep(0.5)
        firsts = [first_content(http) for _ in range(30)]
        still_busy = service.gate.running == most
        for one in busy:
            one.result()
    stop(server)
    thread.join(20)
    return {
        "clients": most,
        "throughput_of_bare": {"median": statistics.median(ratios), "all": ratios},
        "emergency_first_token_ms": {
            "median": statistics.median(firsts) * 1000, "most": max(firsts) * 1000,
            "slots_busy_throughout": still_busy,
        },
    }  # fmt: skip


def first_content(http: Any) -> float:
    """Seconds from the request to the first text of an emergency's answer."""
    began = time.perf_counter()
    with http.stream("POST", CHAT, json=EMERGENCY) as response:
        for line in response.iter_lines():
            if '"content": "Call' in line:
                return time.perf_counter() - began
    raise SystemExit("an emergency got no answer")


def storm(folder: Path, requests: int = 1000, most: int = 32) -> dict[str, Any]:
    """Clients of every kind at once; what became of each, and the server's memory."""
    import httpx

    run = embedded_run(folder)
    with serving(run, "--slots", "4", "--waiting", "16", "--max-new-tokens", "48") as (
        port,
        server,
    ):
        http = httpx.Client(
            base_url=f"http://127.0.0.1:{port}", timeout=120,
            limits=httpx.Limits(max_connections=most + 2),
        )  # fmt: skip
        memory, outcomes, wrong = [], Counter[str](), []
        with ThreadPoolExecutor(most) as pool:
            for part in range(6):  # the first warms up
                amount = 300 if part == 0 else requests // 5
                for kind, outcome in pool.map(lambda n: visit(http, n), range(amount)):
                    if part:
                        outcomes[f"{kind}: {outcome}"] += 1
                        if not proper(kind, outcome):
                            wrong.append(f"{kind}: {outcome}")
                until_idle(http)
                memory.append(resident_mib(server.pid))
        alive = server.poll() is None
    return {
        "requests": requests, "clients": most, "outcomes": dict(sorted(outcomes.items())),
        "improper": wrong, "alive": alive, "resident_mib": memory,
        "growth_after_warm_up": memory[-1] / memory[0] - 1,
    }  # fmt: skip


def visit(http: Any, number: int) -> tuple[str, str]:
    """One request of one of five kinds, and its outcome."""
    import httpx

    dice = random.Random(number)
    kind = dice.choices(["plain", "stream", "leaves", "slow", "malformed"], [4, 2, 2, 1, 1])[0]
    asked = {"messages": [{"role": "user", "content": f"My throat is sore since {number} days"}]}
    try:
        if kind == "plain":
            return kind, str(http.post(CHAT, json=asked).status_code)
        if kind == "malformed":
            body = dice.choice(
                [
                    b"{",
                    b"\xff\xfe",
                    b"[]",
                    b'{"messages": "no"}',
                    b'{"messages": []}',
                    b"x" * 300_000,
                ]
            )
            headers = {"Content-Type": "application/json"}
            return kind, str(http.post(CHAT, content=body, headers=headers).status_code)
        with http.stream("POST", CHAT, json={**asked, "stream": True}) as response:
            if response.status_code != 200:
                return kind, str(response.status_code)
            last = ""
            for line in response.iter_lines():
                last = line or last
                if kind == "leaves":
                    return kind, "left"
                if kind == "slow":
                    time.sleep(0.02)
            return kind, "whole" if last == "data: [DONE]" else "torn"
    except httpx.HTTPError as error:
        return kind, type(error).__name__


def proper(kind: str, outcome: str) -> bool:
    """Answered, or refused in a way that says why."""
    good = {"plain": "200", "malformed": "400", "leaves": "left"}.get(kind, "whole")
    return outcome in {good, "429", "503"} or (kind, outcome) == ("malformed", "413")


def until_idle(http: Any) -> None:
    for _ in range(600):
        state = http.get("/ready").json()
        if state.get("running") == 0 and state.get("waiting") == 0:
            return
        time.sleep(0.1)
    raise SystemExit("slots stay taken although nobody waits any more")


def start(folder: Path, times: int = 3) -> dict[str, Any]:
    """Seconds from the command to the first token, and to a page that can be used."""
    from playwright.sync_api import sync_playwright

    run = embedded_run(folder)
    chat = [sys.executable, "-m", "medtune", "chat", str(run)]
    firsts, pages = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        for _ in range(times + 1):  # the first time converts the model and warms the disk
            began = time.perf_counter()
            talk = subprocess.Popen(chat, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            assert talk.stdin is not None
            assert talk.stdout is not None
            talk.stdin.write(f"{QUESTION}\n/quit\n".encode())
            talk.stdin.close()
            said = b""
            while not (b"/help, /quit." in said and said.rpartition(b"/help, /quit.")[2].strip()):
                said += talk.stdout.read(1)
            firsts.append(time.perf_counter() - began)
            talk.stdout.read()
            talk.wait()
            began = time.perf_counter()
            with serving(run) as (port, _):
                page = browser.new_page()
                page.goto(f"http://127.0.0.1:{port}")
                page.locator("#talks").get_by_role("radio").first.wait_for()
                page.get_by_label("Your message").fill("hello")
                pages.append(time.perf_counter() - began)
                page.close()
        browser.close()
    return {"chat_first_token_seconds": firsts[1:], "page_usable_seconds": pages[1:]}


@contextmanager
def serving(run: Path, *options: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """``medtune serve`` in a process of its own, once its port answers."""
    port = free_port()
    command = [sys.executable, "-m", "medtune", "serve", str(run), "--port", str(port), *options]
    store = ["--store", str(run.parent / "feedback.sqlite"), "--requests-per-minute", "0"]
    server = subprocess.Popen([*command, *store], stdout=subprocess.DEVNULL)
    try:
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if server.poll() is not None:
                raise SystemExit("medtune serve did not start")
            time.sleep(0.02)
        yield port, server
    finally:
        server.terminate()
        server.wait(30)


def embedded_run(folder: Path) -> Path:
    """A run on the embedded base whose adapter is not trained: as fast as a trained one."""
    from peft import get_peft_model

    from medtune.model.adapter import lora_config
    from medtune.model.load import load_base, load_tokenizer
    from medtune.recipe import load_recipe
    from medtune.run import Run

    recipe = load_recipe("embedded-qlora")
    run = Run(folder / "runs" / "embedded")
    if not run.adapter.is_dir():
        run.keep(recipe)
        plain = recipe.model.model_copy(update={"quantization": "none", "dtype": "float32"})
        base = load_base(plain)
        get_peft_model(base, lora_config(recipe.adapter, base)).save_pretrained(str(run.adapter))
        load_tokenizer(recipe.model).save_pretrained(run.adapter)
    return run.folder


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def resident_mib(process: int) -> float:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    [line] = [line for line in lines if line.startswith("VmRSS")]
    return round(int(line.split()[1]) / 1024, 1)


PARTS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "decode": decode,
    "clients": clients,
    "storm": storm,
    "start": start,
}


def main() -> None:
    from medtune.run import hardware

    parser = argparse.ArgumentParser(description="Measure chat and serving.")
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=", ".join(PARTS))
    parser.add_argument("--folder", type=Path, help="Keep the models here for the next time.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for part in arguments.parts:
            found = {**PARTS[part](folder), "hardware": hardware()}
            print(part, json.dumps(found, indent=2), flush=True)
            known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
            RESULTS.parent.mkdir(exist_ok=True)
            RESULTS.write_text(json.dumps({**known, part: found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
