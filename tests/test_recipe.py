from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medtune.errors import MedtuneError
from medtune.recipe import Recipe, load_recipe, shipped_recipes


def _file(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_wrong_key_is_named_with_line_and_nearest_right_key(tmp_path: Path) -> None:
    path = _file(tmp_path, "name: mine\ntraining:\n  epochs: 1\n  learning_rte: 1e-4\n")
    with pytest.raises(
        MedtuneError, match=r"line 4: .*'learning_rte' \(did you mean 'learning_rate'"
    ) as e:
        load_recipe(path)
    assert e.value.exit_code == 2


def test_wrong_section_is_named_with_line(tmp_path: Path) -> None:
    path = _file(tmp_path, "name: mine\n\ntrainig: {epochs: 1}\n")
    with pytest.raises(MedtuneError, match=r"line 3: .*'trainig' \(did you mean 'training'"):
        load_recipe(path)


def test_wrong_value_is_named_with_line_and_what_is_allowed(tmp_path: Path) -> None:
    path = _file(tmp_path, "name: mine\nmodel:\n  quantization: nf8\n")
    with pytest.raises(MedtuneError, match=r"line 3: model.quantization cannot be 'nf8'.*'nf4'"):
        load_recipe(path)


def test_validation_and_test_must_leave_training_rows(tmp_path: Path) -> None:
    path = _file(tmp_path, "data: {validation: 0.5, test: 0.5}\n")
    with pytest.raises(MedtuneError, match="leave rows to train on"):
        load_recipe(path)


@pytest.mark.parametrize("text", ["", "\n\n", "# mine, to be written\n"])
def test_an_empty_recipe_is_refused_and_not_a_training_of_the_defaults(
    tmp_path: Path, text: str
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(MedtuneError, match=r"mine\.yaml is empty; `medtune recipes "):
        load_recipe(path)


def test_broken_yaml_is_named_with_line(tmp_path: Path) -> None:
    with pytest.raises(MedtuneError, match="line 2"):
        load_recipe(_file(tmp_path, "name: mine\ndata: {limit: 3]\n"))


def test_section_that_is_a_value_is_explained(tmp_path: Path) -> None:
    with pytest.raises(MedtuneError, match="line 1: 'training' is a section"):
        load_recipe(_file(tmp_path, "training: fast\n"))


def test_missing_recipe_and_unknown_name_are_plain_sentences(tmp_path: Path) -> None:
    with pytest.raises(MedtuneError, match="does not exist"):
        load_recipe(tmp_path / "nothing.yaml")
    with pytest.raises(MedtuneError, match="did you mean 'embedded-qlora'"):
        load_recipe("embeded-qlora")


def test_data_in_place_of_a_recipe_is_told_with_the_command_that_was_meant(tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text('question,answer\n"Is it bad: or not?","No."\n', encoding="utf-8")
    with pytest.raises(MedtuneError, match=r"medtune train own-dialogues data\.source=.*rows\.csv"):
        load_recipe(rows)


def test_overrides_change_single_values_and_keep_the_rest() -> None:
    recipe = load_recipe(
        "embedded-qlora", ["training.learning_rate=1e-4", "data.limit=500", "name=x"]
    )
    plain = load_recipe("embedded-qlora")
    assert recipe.training.learning_rate == 1e-4
    assert recipe.data.limit == 500
    assert recipe.name == "x"
    assert recipe.training.batch_size == plain.training.batch_size


@pytest.mark.parametrize("override", ["nothing", "=3", "training.=1", "training.learning_rte=1"])
def test_broken_override_is_refused(override: str) -> None:
    with pytest.raises(MedtuneError) as e:
        load_recipe("embedded-qlora", [override])
    assert e.value.exit_code == 2


@pytest.mark.parametrize("name", list(shipped_recipes()))
def test_every_shipped_recipe_loads_and_its_name_is_its_file(name: str) -> None:
    assert load_recipe(name).name == name


@given(
    rate=st.floats(1e-7, 1.0),
    rank=st.integers(1, 512),
    source=st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=40),
)
def test_a_written_recipe_reads_back_equal(
    tmp_path_factory: pytest.TempPathFactory, rate: float, rank: int, source: str
) -> None:
    recipe = Recipe.model_validate(
        {
            "name": "r",
            "training": {"learning_rate": rate},
            "adapter": {"rank": rank},
            "data": {"source": source},
        }
    )
    path = tmp_path_factory.mktemp("recipe") / "r.yaml"
    path.write_text(recipe.to_yaml(), encoding="utf-8")
    assert load_recipe(path) == recipe


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data.source=a.csv", "data.mixture=[{source: b.csv}]"], "either source"),
        (["data.mixture=[{source: 'builtin:consultations'}]"], "cannot be mixed"),
        (["data.clean=false", "data.rules_off=[greetings]"], "need clean"),
        (["data.contaminated=remove"], "needs the evaluation files"),
        (["data.near_duplicates=0.2"], "near_duplicates"),
        (["data.filters_off=[too shrt]"], "filters_off"),
        (["data.language=english"], "language"),
        (["data.mixture=[{source: b.csv, wieght: 2}]"], "wieght"),
    ],
)
def test_data_settings_that_contradict_each_other_are_refused(
    overrides: list[str], words: str
) -> None:
    with pytest.raises(MedtuneError, match=words):
        load_recipe("embedded-qlora", overrides)


def test_a_shipped_recipe_may_have_a_dot_in_its_name() -> None:
    assert load_recipe("llama3.2-1b-lora").name == "llama3.2-1b-lora"
    with pytest.raises(MedtuneError, match=r"did you mean 'llama3\.2-1b-lora'"):
        load_recipe("llama3.2-1b-loro")
