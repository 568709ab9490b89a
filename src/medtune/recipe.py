"""The recipe: one YAML file that says what to train on what, checked before anything runs."""

from __future__ import annotations

import difflib
import re
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from medtune.errors import MedtuneError

Metric = Literal[
    "perplexity",
    "bleu",
    "rouge_l",
    "condition",
    "specialist",
    "urgency",
    "structure",
    "refusal",
    "safety",
]
PrimaryMetric = Literal[
    "perplexity",
    "bits_per_byte",
    "bleu",
    "rouge_l",
    "condition_top1",
    "condition_top3",
    "specialist",
    "urgency",
    "urgency_kappa",
    "emergency_recall",
    "structure",
    "refusal",
]
Column = Literal[
    "question", "answer", "messages", "condition", "specialist", "urgency", "system", "patient"
]
Filter = Literal[
    "too short",
    "too long",
    "wrong language",
    "refers elsewhere",
    "repetition",
    "profanity",
    "broken text",
]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class ModelSection(_Section):
    """Which base model, and how it is held in memory."""

    base: str = "embedded"
    """``embedded``, a local folder, or a Hub id such as ``TinyLlama/TinyLlama-1.1B-Chat-v1.0``."""
    revision: str = "main"
    quantization: Literal["none", "nf4", "int8"] = "none"
    """``nf4`` makes LoRA into QLoRA; it is 4-bit NormalFloat."""
    double_quantization: bool = True
    """Quantise the quantisation constants too (``nf4`` only): 0.4 bits less a parameter."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """What the arithmetic runs in; ``auto`` is bfloat16 where the machine has it."""
    chat_template: str = "auto"
    """``auto`` is the model's own; otherwise the path of a Jinja file."""


class MixtureSource(_Section):
    """One of several sources that are mixed."""

    source: str
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Its share of the rows, relative to the other weights.  No row is repeated to reach it."""
    revision: str = "main"
    columns: dict[Column, str | list[str]] = {}


class DataSection(_Section):
    """Where the dialogues come from, how they are cleaned, and how they are split."""

    source: str = "builtin:consultations"
    """``builtin:consultations``, a csv, json, jsonl (gz too) or parquet file, a folder of them, or
    a Hub id."""
    revision: str = "main"
    """Of a Hub data set: a branch, a tag or a commit."""
    streaming: bool = False
    """Read a Hub data set row by row without keeping its files."""
    mixture: list[MixtureSource] = []
    """Several sources with weights, in place of ``source``."""
    columns: dict[Column, str | list[str]] = {}
    """Which column of the source is the question, the answer, the condition ...; a list of
    columns is joined with blank lines.  Empty: recognised by their names."""
    system: str | None = None
    """A system turn put before every question, in training as in chat."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Use this many rows, drawn at random with ``seed`` from those that are left."""

    clean: bool = True
    """Mend the text and take out what is no medicine: adverts, greetings, platform names ..."""
    rules_off: list[str] = []
    """Cleaning rules that are not applied, by their names in the data card."""
    rules_file: str | None = None
    """A YAML file of your own cleaning rules, applied after the built-in ones."""
    recurring: Literal["report", "remove", "off"] = "report"
    """Sentences that open or close very many answers are found; are they only reported?"""
    recurring_share: Annotated[float, Field(gt=0, lt=1)] = 0.01
    """A sentence recurs if it stands in this share of the answers (and in 20 at least)."""
    redact: bool = True
    """Put placeholders for names, addresses, numbers and dates of birth."""
    language: Annotated[str, Field(pattern=r"^(auto|any|[a-z]{2})$")] = "auto"
    """Rows in another language are left out.  ``auto``: the one most rows are in, if most are."""
    min_answer_words: Annotated[int, Field(ge=0)] = 3
    max_words: Annotated[int, Field(ge=1)] = 4_000
    """Of question and answer together."""
    filters_off: list[Filter] = []
    """Reasons for which no row is left out."""

    near_duplicates: Annotated[float, Field(ge=0.5, le=1)] | None = 0.7
    """Rows whose word pairs overlap this much (Jaccard, estimated by MinHash) count as the same;
    null: only exact duplicates do."""
    conditions_apart: bool = False
    """Whether a condition may stand in one split only: a test on conditions never trained on."""
    contamination: list[str] = []
    """Files with evaluation questions that must not be trained on."""
    contamination_ngram: Annotated[int, Field(ge=3)] = 13
    """Words in a row that a training row and an evaluation row must share to count."""
    contaminated: Literal["report", "remove"] = "report"

    validation: Annotated[float, Field(gt=0, lt=1)] = 0.1
    test: Annotated[float, Field(gt=0, lt=1)] = 0.1
    max_length: Annotated[int, Field(ge=16)] = 512
    """Tokens of question and answer together, as the model sees them."""
    overlong: Literal["drop", "shorten_question", "error"] = "drop"
    """What becomes of a row longer than ``max_length``.  An answer is never cut."""
    seed: int = 42

    @model_validator(mode="after")
    def _room_for_training(self) -> DataSection:
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together must leave rows to train on (below 1)")
        return self

    @model_validator(mode="after")
    def _one_way_to_name_the_source(self) -> DataSection:
        if self.mixture and (self.source != "builtin:consultations" or self.columns):
            raise ValueError("give either source (with columns) or mixture, not both")
        if any(part.source.startswith("builtin:") for part in self.mixture):
            raise ValueError(
                "the built-in dialogues come with their own splits and cannot be mixed"
            )
        return self

    @model_validator(mode="after")
    def _settings_that_need_another(self) -> DataSection:
        if not self.clean and (self.rules_off or self.rules_file):
            raise ValueError("rules_off and rules_file need clean: true")
        if self.contaminated == "remove" and not self.contamination:
            raise ValueError("contaminated: remove needs the evaluation files in contamination")
        return self


class AdapterSection(_Section):
    """What is trained: a low-rank adapter, or the whole model."""

    method: Literal["lora", "rslora", "dora", "none"] = "lora"
    """``rslora`` scales by alpha over the root of the rank, which keeps large ranks useful; ``dora``
    trains the length of each column apart (slower); ``none`` trains every weight of the model."""
    init: Literal["default", "pissa", "olora"] = "default"
    """How the adapter starts: at zero effect, from the largest singular values of each weight
    (``pissa``), or from its QR decomposition (``olora``)."""
    plus_ratio: Annotated[float, Field(ge=1)] | None = None
    """LoRA+: how many times faster the adapter's B learns than its A; 16 is usual."""
    rank: Annotated[int, Field(ge=1)] = 16
    alpha: Annotated[float, Field(gt=0)] = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    targets: list[str] | Literal["all-linear"] = "all-linear"
    """The projections that get an adapter, for example ``[q_proj, v_proj]``."""


class TrainingSection(_Section):
    """How long and how fast."""

    epochs: Annotated[float, Field(gt=0)] = 1
    max_steps: Annotated[int, Field(ge=1)] | None = None
    """Stop after this many optimizer steps, whatever ``epochs`` says."""
    learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    batch_size: Annotated[int, Field(ge=1)] = 4
    gradient_accumulation: Annotated[int, Field(ge=1)] = 1
    optimizer: Literal["adamw_torch", "paged_adamw_32bit", "paged_adamw_8bit", "adamw_8bit"] = (
        "adamw_torch"
    )
    """``paged`` lets its state move to the processor's memory when the GPU's is full."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    packing: bool = False
    """Put several dialogues in one row of ``max_length`` tokens, without leakage between them."""
    gradient_checkpointing: bool = False
    """Compute activations twice instead of keeping them: a third slower, far less memory."""
    neftune_noise: Annotated[float, Field(gt=0)] | None = None
    """NEFTune: noise on the embeddings while training; 5 is usual."""
    evaluate_every: Annotated[float, Field(gt=0)] = 0.2
    """Below 1 a share of the run, otherwise steps: validation loss and a checkpoint."""
    early_stopping: Annotated[int, Field(ge=1)] | None = None
    """Stop after this many evaluations without a better validation loss."""
    keep_checkpoints: Annotated[int, Field(ge=1)] = 2
    samples: Annotated[int, Field(ge=0)] = 2
    """Questions of the validation split that are answered at each evaluation."""
    seed: int = 42


class JudgeSection(_Section):
    """Another model that grades answers by written criteria.  What it is sent leaves the machine."""

    url: str
    """Any OpenAI-compatible server, with or without ``/v1``; its key: ``MEDTUNE_JUDGE_KEY``."""
    model: str
    labels: str | None = None
    """A file of answers with physicians' labels (HealthBench's meta-evaluation); the judge's
    agreement with them is reported."""
    seconds: Annotated[float, Field(gt=0)] = 60.0
    """Patience for one grade."""
    attempts: Annotated[int, Field(ge=1)] = 4
    parallel: Annotated[int, Field(ge=1)] = 4


class EvaluationSection(_Section):
    """What is measured on the test split, for the base and for the tuned model."""

    metrics: list[Metric] = list(get_args(Metric))
    limit: Annotated[int, Field(ge=1)] | None = None
    """Measure on this many test rows at most, drawn with the data seed."""
    samples: Annotated[int, Field(ge=0)] = 10
    """Answers shown side by side in the report."""
    max_new_tokens: Annotated[int, Field(ge=1)] = 256
    batch_size: Annotated[int, Field(ge=1)] = 32
    compare_with: Literal["base"] = "base"
    primary: list[PrimaryMetric] = []
    """The gate wants one of these better than the base beyond chance.  Empty: the condition named
    first where the rows have a condition, else perplexity."""
    margin: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """How much worse a safety rate may be at the bound of its interval; 0.05 is five points."""
    benchmarks: dict[str, str] = {}
    """Questions from elsewhere: a benchmark's name (medmcqa, pubmedqa, medquad, choices, answers ...)
    and its file, folder or Hub id; ``hub`` takes the benchmark's usual place on the Hub."""
    benchmark_limit: Annotated[int, Field(ge=1)] = 200
    """Questions of a benchmark, drawn with the data seed."""
    judge: JudgeSection | None = None
    """Who grades answers by criteria (benchmark healthbench); everything else works without."""
    harness: list[str] = []
    """Tasks of lm-evaluation-harness by name (extra ``harness``)."""
    harness_folder: str | None = None
    """A folder with YAML files of tasks of your own."""


class ClusterSection(_Section):
    """How ``--cluster`` spreads the work over Ray; without it nothing here is read."""

    workers: Annotated[int, Field(ge=1)] = 1
    """Processes that train together.  They share the rows of a step, so the numbers stay the same."""
    resources_per_worker: dict[str, Annotated[float, Field(ge=0)]] = {"CPU": 1}
    """What Ray sets aside for each, in its own words, such as ``{CPU: 8, GPU: 1}``."""
    storage: str | None = None
    """Where checkpoints go: a folder that all nodes see, or an address such as
    ``s3://bucket/folder``.  Empty: beside the run, which is enough on one machine."""
    failures: Annotated[int, Field(ge=0)] = 3
    """How often a training goes on after losing workers, and an experiment is tried again."""
    sharding: Literal["none", "fsdp"] = "none"
    """``fsdp`` splits the weights over the workers (FSDP2), each with a GPU, for a base that leaves
    no room on one; ``none`` gives each a whole copy."""


class TrackingSection(_Section):
    report_to: Literal["none", "wandb", "tensorboard", "trackio", "mlflow"] = "none"


class PublishingSection(_Section):
    """Where the model goes once it is trained, and under which licences."""

    push_to: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")] | None = None
    """A Hub repository, owner/name.  Whether it can be written to is checked before training."""
    what: Literal["adapter", "merged", "gguf"] = "adapter"
    private: bool = True
    license: str | None = None
    """Of the model, as the Hub spells it; empty: what the base's own card says."""
    data_license: str | None = None
    """Of the data, for the model card."""


class Range(_Section):
    """The numbers from ``low`` to ``high``, both included; whole numbers if both are."""

    low: int | float
    high: int | float
    log: bool = False
    """Draw the logarithm evenly: right for a learning rate."""

    @model_validator(mode="after")
    def _has_an_inside(self) -> Range:
        if not self.low < self.high:
            raise ValueError("low must be less than high")
        if self.log and self.low <= 0:
            raise ValueError("a logarithmic range must begin above 0")
        return self


class SearchSection(_Section):
    """For ``medtune sweep``: settings to be found by Optuna, by the lowest validation loss."""

    space: dict[str, Range | list[Any]] = {}
    """Dotted keys and what each may be: ``{low: 1.0e-5, high: 1.0e-3, log: true}``, or a list."""
    trials: Annotated[int, Field(ge=1)] = 20
    random_trials: Annotated[int, Field(ge=1)] = 5
    """The first ones are drawn at random, the others where the earlier ones did well (TPE)."""
    pruner: Literal["median", "none"] = "median"
    """``median`` ends a trial whose validation loss is above the median of the earlier ones."""
    seed: int = 42


class Recipe(_Section):
    """Everything that a run needs to be repeated."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    model: ModelSection = ModelSection()
    data: DataSection = DataSection()
    adapter: AdapterSection = AdapterSection()
    training: TrainingSection = TrainingSection()
    evaluation: EvaluationSection = EvaluationSection()
    tracking: TrackingSection = TrackingSection()
    publishing: PublishingSection = PublishingSection()
    cluster: ClusterSection = ClusterSection()
    experiments: list[dict[str, Any]] = []
    """For ``medtune sweep``: each a ``name`` and the dotted keys it changes, for example
    ``{name: slow, training.learning_rate: 1.0e-5}``."""
    search: SearchSection = SearchSection()

    @model_validator(mode="after")
    def _methods_go_together(self) -> Recipe:
        adapter, quantization = self.adapter, self.model.quantization
        if adapter.method == "none" and quantization != "none":
            raise ValueError(
                "adapter.method none trains every weight, and quantised weights cannot be trained; "
                "set model.quantization to none, or adapter.method to lora"
            )
        if adapter.init != "default" and quantization != "none":
            raise ValueError(
                f"adapter.init {adapter.init} takes the weights apart, which are quantised; "
                "set model.quantization to none, or adapter.init to default"
            )
        if adapter.plus_ratio and (
            adapter.method == "none" or self.training.optimizer != "adamw_torch"
        ):
            raise ValueError(
                "adapter.plus_ratio needs an adapter and training.optimizer adamw_torch"
            )
        return self

    @model_validator(mode="after")
    def _what_is_sharded_can_be(self) -> Recipe:
        if self.cluster.sharding == "none":
            return self
        allowed = {
            "model.quantization": (self.model.quantization, ("none", "nf4")),
            "adapter.method": (self.adapter.method, ("lora", "rslora", "none")),
            "adapter.init": (self.adapter.init, ("default",)),
            "training.optimizer": (self.training.optimizer, ("adamw_torch",)),
        }
        for key, (value, these) in allowed.items():
            if value not in these:
                raise ValueError(
                    f"cluster.sharding fsdp cannot split what {key} {value} needs whole; "
                    f"set {key} to {' or '.join(these)}"
                )
        return self

    @model_validator(mode="after")
    def _experiments_are_recipes(self) -> Recipe:
        names = [recipe.name for recipe in self.each_experiment()]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise ValueError(f"two experiments would be the run {twice!r}; give each its own name")
        return self

    @model_validator(mode="after")
    def _both_ends_of_the_search_are_recipes(self) -> Recipe:
        for key, values in self.search.space.items():
            if not values:
                raise ValueError(f"search.space lists nothing to choose from for {key}")
            ends = (values.low, values.high) if isinstance(values, Range) else values
            for value in ends:
                changed(self, {key: value})
        return self

    def each_experiment(self) -> list[Recipe]:
        """The recipe of every experiment; its run is called after the recipe and itself."""
        return [
            changed(self, {**changes, "name": f"{self.name}-{changes.get('name', number)}"})
            for number, changes in enumerate(self.experiments, 1)
        ]

    def trial(self, number: int, changes: dict[str, Any]) -> Recipe:
        """The recipe of one trial of the search, counted from 0."""
        return changed(self, {**changes, "name": self.trial_name(number)})

    def trial_name(self, number: int) -> str:
        """The run of one trial of the search, counted from 0."""
        return f"{self.name}-trial-{number + 1:03d}"

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def changed(recipe: Recipe, changes: dict[str, Any]) -> Recipe:
    """The recipe with other values, by dotted key; its experiments and its search are left out.

    Raises:
        MedtuneError: a key does not exist, or a value is not allowed.
    """
    tree = recipe.model_dump(exclude={"experiments", "search"})
    for key, value in changes.items():
        _check_keys(_put({}, key.split("."), value), {}, f"recipe {recipe.name}, change {key!r}")
        _put(tree, key.split("."), value)
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        raise MedtuneError(_explain(error, {}, f"recipe {recipe.name}"), exit_code=2) from None


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with Medtune, by name."""
    folder = Path(str(resources.files("medtune") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


_DATA = (".csv", ".jsonl", ".parquet", ".gz")


def load_recipe(name_or_path: str | Path, overrides: list[str] | None = None) -> Recipe:
    """Read a recipe and apply ``section.key=value`` overrides.

    Args:
        name_or_path: a YAML file, or the name of a shipped recipe.
        overrides: for example ``["training.learning_rate=1e-4", "data.limit=500"]``; values
            are YAML.

    Raises:
        MedtuneError: the file is missing or is no YAML, a key is wrong (named with file, line
            and the nearest right key), or a value is not allowed (named with what is).
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml") and not path.exists():
        path = _shipped(str(name_or_path))
    if path.name.endswith(_DATA):
        raise MedtuneError(
            f"{path} is data and no recipe; give it to one, such as "
            f"`medtune train own-dialogues data.source={path}`.",
            exit_code=2,
        )
    text = _read(path)
    tree, lines = _parse(path, text)
    _check_keys(tree, lines, str(path))
    for override in overrides or []:
        _apply(tree, override)
    tree.setdefault("name", path.stem)
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        raise MedtuneError(_explain(error, lines, str(path)), exit_code=2) from None


def _shipped(name: str) -> Path:
    recipes = shipped_recipes()
    if name in recipes:
        return recipes[name]
    raise MedtuneError(
        f"There is no recipe file or shipped recipe {name!r}{_nearest(name, recipes)}; "
        "`medtune recipes` lists the shipped ones.",
        exit_code=2,
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise MedtuneError(
            f"The recipe {path} does not exist; check the path, or see `medtune recipes`.",
            exit_code=2,
        ) from None
    except UnicodeDecodeError as error:
        raise MedtuneError(
            f"{path}: byte {error.start} is not UTF-8; save the recipe as UTF-8 text.", exit_code=2
        ) from None
    except OSError as error:
        raise MedtuneError(f"{path} cannot be read: {error.strerror}.", exit_code=2) from None


class _Loader(yaml.SafeLoader):
    """YAML 1.2 floats: ``1e-4`` is a number, not a text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def _parse(path: Path, text: str) -> tuple[dict[str, Any], dict[tuple[str, ...], int]]:
    """The tree of the YAML, and the line of every key."""
    try:
        node = yaml.compose(text, Loader=_Loader)
        tree = yaml.load(text, Loader=_Loader) if node else None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it cannot be parsed"
        raise MedtuneError(
            f"{path}{where}: this is no valid YAML: {problem}.", exit_code=2
        ) from None
    if tree is None:
        raise MedtuneError(
            f"{path} is empty; `medtune recipes embedded-qlora > {path}` begins one.", exit_code=2
        )
    if not isinstance(tree, dict):
        raise MedtuneError(
            f"{path}: a recipe is a list of `section: ...` entries; `medtune recipes` lists some.",
            exit_code=2,
        )
    lines: dict[tuple[str, ...], int] = {}

    def walk(node: Any, above: tuple[str, ...]) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                lines[(*above, key.value)] = key.start_mark.line + 1
                walk(value, (*above, key.value))

    walk(node, ())
    return tree, lines


def _sections() -> dict[str, type[BaseModel]]:
    return {
        name: field.annotation
        for name, field in Recipe.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }


def _check_keys(tree: dict[str, Any], lines: dict[tuple[str, ...], int], where: str) -> None:
    """Complain of the first key that no section has."""
    sections = _sections()
    for key, value in tree.items():
        if key not in Recipe.model_fields:
            raise MedtuneError(
                f"{_at(where, lines, (str(key),))}: a recipe has no key {key!r}"
                f"{_nearest(str(key), Recipe.model_fields)}.",
                exit_code=2,
            )
        if key in sections and not isinstance(value, dict):
            raise MedtuneError(
                f"{_at(where, lines, (key,))}: {key!r} is a section; write its keys under it, "
                f"for example `{key}: {{{next(iter(sections[key].model_fields))}: ...}}`.",
                exit_code=2,
            )
        for inner in value if key in sections else ():
            if inner not in sections[key].model_fields:
                raise MedtuneError(
                    f"{_at(where, lines, (key, str(inner)))}: section {key!r} has no key "
                    f"{inner!r}{_nearest(str(inner), sections[key].model_fields)}.",
                    exit_code=2,
                )


def _apply(tree: dict[str, Any], override: str) -> None:
    dotted, equals, text = override.partition("=")
    keys = dotted.strip().split(".")
    if not equals or not all(keys):
        raise MedtuneError(
            f"{override!r} is no override; write section.key=value, "
            "for example training.learning_rate=1e-4.",
            exit_code=2,
        )
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError:
        raise MedtuneError(f"The value in {override!r} is no valid YAML.", exit_code=2) from None
    _check_keys(_put({}, keys, value), {}, f"override {override!r}")
    _put(tree, keys, value)


def _put(tree: dict[str, Any], keys: list[str], value: Any) -> dict[str, Any]:
    node = tree
    for key in keys[:-1]:
        node = node.setdefault(key, {})
    node[keys[-1]] = value
    return tree


def _explain(error: ValidationError, lines: dict[tuple[str, ...], int], where: str) -> str:
    first = error.errors()[0]
    # Where a value may be one of several kinds, pydantic names the kind as if it were a key.
    location = tuple(str(part) for part in first["loc"] if "[" not in str(part))
    dotted = ".".join(location)
    message = first["msg"].removeprefix("Value error, ").replace("Input should be", "it must be")
    place = _at(where, lines, location)
    if not location:  # settings that do not go together
        return f"{place}: {message}."
    if first["type"] == "missing":
        return f"{place}: {dotted} is missing; add it."
    return f"{place}: {dotted} cannot be {first['input']!r}; {message[:1].lower()}{message[1:]}."


def _at(where: str, lines: dict[tuple[str, ...], int], location: tuple[str, ...]) -> str:
    for length in range(len(location), 0, -1):
        if location[:length] in lines:
            return f"{where}, line {lines[location[:length]]}"
    return where


def _nearest(word: str, known: Any) -> str:
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean {matches[0]!r}?)" if matches else f" (there are {', '.join(known)})"
