"""Specs: what is read, and what is said of one that cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from elluminate_async import InputError
from elluminate_async.cli.spec import Spec, checked_spec, read_spec


def read(folder: Path, name: str, content: str) -> Spec:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return checked_spec(read_spec(str(path)), name)


def test_yaml_and_toml_are_the_same(tmp_path: Path) -> None:
    """Paths are beside the file; one file of results is a list of one."""
    yaml = read(
        tmp_path,
        "s.yaml",
        "data: r.csv\nprompt: '{{a}}'\nmodels: [x, {name: y, temperature: 1}]\nout: r.xml\n"
        "gate: {pass_rate: 1}\ncriteria: [one, {criterion: two, label: b}]\n",
    )
    toml = read(
        tmp_path,
        "s.toml",
        'data = "r.csv"\nprompt = "{{a}}"\nmodels = ["x", {name = "y", temperature = 1.0}]\n'
        'out = ["r.xml"]\ncriteria = ["one", {criterion = "two", label = "b"}]\n'
        "[gate]\npass_rate = 1.0\n",
    )

    assert yaml == toml
    assert yaml.data == str(tmp_path / "r.csv")
    assert yaml.out == [str(tmp_path / "r.xml")]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("promt: hi\n", "no such key as promt, did you mean 'prompt'? there are data, prompt"),
        ("Prompt: hi\n", "no such key as Prompt, did you mean 'prompt'? there are data, prompt"),
        ("gate: {Pass_rate: 1}\n", "no such key as gate.Pass_rate, did you mean 'pass_rate'?"),
        ("name: 2024-13-45\n", "no YAML: "),
        ("? [a, b]\n: c\n", "no YAML: "),
        (f"epochs: 1{'0' * 5000}\n", "no YAML: "),
        (
            "gate: {pass_rat: 1}\n",
            "gate.pass_rat, did you mean 'pass_rate'? there are pass_rate",
        ),
        (
            "models: [{name: x, temprature: 1}]\n",
            "temprature, did you mean 'temperature'?",
        ),
        ("gate: {threshold: 1}\n", "no such key as gate.threshold: there are pass_rate"),
        ("models: [{name: x, api_key: s}]\n", "a key does not belong into a file"),
        ("models: [{nam: x}]\n", "no such key as models.0.nam, did you mean 'name'?"),
        ("models: [{}]\n", "models.0.name: Field required"),
        ("models: [{name: x, temperature: hot}]\n", "models.0.temperature: Input should be a"),
        ("epochs: '3'\n", "epochs: Input should be a valid integer"),
        ("criteria: [NO]\n", "criteria.0: Input should be a valid string"),
        ("gate: {pass_rate: 80}\n", "gate.pass_rate: Input should be less than or equal to 1"),
        ("rating_mode: quick\n", "rating_mode: Input should be 'detailed' or 'fast'"),
        ("prompt: [{rol: user, content: x}]\n", "prompt.0"),
        ("gate: 0.8\n", "gate: "),
        ("prompt: a\nprompt: b\n", "line 3: the key 'prompt' is there twice"),
        ("prompt: [a\n", "line 3: no YAML"),
        ("prompt: !!python/object:os.system {}\n", "line 2: no YAML"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, content: str, text: str) -> None:
    """An unknown key with those that there are; YAML that is none with its line."""
    with pytest.raises(InputError) as caught:
        read(tmp_path, "s.yaml", f"data: r.csv\n{content}")

    assert text in str(caught.value)
    assert "s.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("s.toml", "data = \n", "no TOML: .* line 1"),
        ("s.toml", f"epochs = 1{'0' * 5000}\n", "no TOML: "),
        ("s.yaml", "- a\n", "must be a mapping with the keys data, prompt"),
        ("s.yaml", "prompt: a\n", "data: Field required"),
        ("s.yaml", "", "must be a mapping"),
    ],
)
def test_what_is_no_spec_is_told(tmp_path: Path, name: str, content: str, text: str) -> None:
    """Whatever the format."""
    with pytest.raises(InputError, match=text):
        read(tmp_path, name, content)


def test_a_spec_that_is_not_there_is_told(tmp_path: Path) -> None:
    """As rows are."""
    with pytest.raises(InputError, match=r"cannot read .*none.yaml: No such file"):
        read_spec(str(tmp_path / "none.yaml"))
    (tmp_path / "s.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"s.yaml, line 1: not UTF-8, but UTF-16: save"):
        read_spec(str(tmp_path / "s.yaml"))
