import json
from pathlib import Path

import numpy as np
import pytest

from samling.errors import InputError
from samling.inference.card import Card
from samling.recipes.prompt_source import prompt_source, read_prompts

CARD = Card(
    name="m",
    base="b",
    base_sha256="0" * 64,
    embedding_size=16,
    prompts=("box", "points", "automatic"),
)


def test_every_key_is_optional_and_pixels_are_kept(tmp_path):
    path = tmp_path / "p.json"
    entry = {"box": [1, 2.5, 30, 40], "points": [[3, 4], [5.5, 6, 0]], "class": "object"}
    path.write_text(json.dumps({"a.png": [entry, {}, {"box": None, "points": []}]}))
    full, empty, also_empty = read_prompts(path, CARD.classes)["a.png"]
    assert full.prompt.box.tolist() == [1, 2.5, 30, 40]
    assert full.prompt.points.tolist() == [[3, 4], [5.5, 6]]
    assert full.prompt.point_labels.tolist() == [1, 0]
    assert full.class_name == "object"
    assert empty.prompt.automatic
    assert also_empty.prompt.automatic


@pytest.mark.parametrize(
    "text, place, reason",
    [
        ("", "p.json", "not valid JSON"),
        ("[1, 2", "p.json", "not valid JSON"),
        ("[" * 100_000, "p.json", "not valid JSON"),
        ("[]", "p.json", "not a table of file names"),
        ('{"a.png": {"box": [1, 2, 3, 4]}}', "p.json, a.png", "not a list"),
        ('{"a.png": [[1, 2, 3, 4]]}', "a.png, object 1", "not a table"),
        ('{"a.png": [{}, {"bbox": [1, 2, 3, 4]}]}', "a.png, object 2, bbox", "no known key"),
        ('{"a.png": [{"box": [1, 2, 3]}]}', "object 1, box", "is not 4 numbers"),
        ('{"a.png": [{"box": "1,2,3,4"}]}', "object 1, box", "is not 4 numbers"),
        ('{"a.png": [{"box": [1, 2, 3, "4"]}]}', "object 1, box", "finite numbers"),
        ('{"a.png": [{"box": [1, 2, 3, true]}]}', "object 1, box", "finite numbers"),
        ('{"a.png": [{"box": [1, 2, 3, 1e999]}]}', "object 1, box", "finite numbers"),
        ('{"a.png": [{"box": [1, 2, 3, NaN]}]}', "p.json", "NaN"),
        ('{"a.png": [{"points": [1, 2]}]}', "points, point 1", "is not 2 or 3 numbers"),
        ('{"a.png": [{"points": {"x": 1}}]}', "object 1, points", "not a list"),
        ('{"a.png": [{"points": [[1, 2], [3, 4, 2]]}]}', "points, point 2", "label 2"),
        ('{"a.png": [{"points": [[3, 4, 0]]}]}', "object 1, points", "where the object is not"),
        ('{"a.png": [{"class": "tumour"}]}', "object 1, class", "not a class of this model"),
        ('{"a.png": [{"class": []}]}', "object 1, class", "not a class of this model"),
        ('{"a.png": [], "a.png": []}', "p.json", "stands twice"),
        ('{"a.png": [{"box": [1, 2, 3, 4], "box": [1, 2, 3, 5]}]}', "p.json", "stands twice"),
    ],
)
def test_errors_name_the_file_the_entry_and_the_field(tmp_path, text, place, reason):
    path = tmp_path / "p.json"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_prompts(path, CARD.classes)
    assert place in caught.value.where
    assert reason in caught.value.problem


def test_a_missing_or_binary_file_is_an_input_error(tmp_path):
    (tmp_path / "p.json").write_bytes(b"\xff\xfe\x00\x01")
    for path in (tmp_path / "p.json", tmp_path / "none.json", tmp_path):
        with pytest.raises(InputError):
            read_prompts(path, CARD.classes)


def test_a_point_outside_needs_one_inside_or_a_box():
    with pytest.raises(InputError, match="--point: only say where the object is not"):
        prompt_source(CARD, points=[(3, 4, 0), (5, 6, 0)])
    with pytest.raises(InputError, match="--prompts FILE.json"):  # not an object of its own
        prompt_source(CARD, boxes=[(1, 1, 5, 5)], points=[(3, 4, 0)])
    (asked,) = prompt_source(CARD, points=[(3, 4, 0), (5, 6)]).of(Path("any.png"))
    assert asked.prompt.point_labels.tolist() == [0, 1]


def test_nothing_given_means_automatic_where_the_model_has_it():
    (asked,) = prompt_source(CARD).of(Path("any.png"))
    assert asked.prompt.automatic
    with pytest.raises(InputError, match="give --box or --point"):
        prompt_source(CARD.model_copy(update={"prompts": ("box", "points")}))


def test_contradictions_and_odd_values_are_refused(tmp_path):
    box = (1, 1, 5, 5)
    for arguments in (
        {"boxes": [box], "auto": True},
        {"points": [(1, 1)], "auto": True},
        {"boxes": [box], "prompts_file": tmp_path / "p.json"},
        {"boxes": [(1, 2, 3)]},
        {"boxes": [(1, 2, 3, np.inf)]},
        {"points": [(1, 2, 5)]},
        {"points": [(1,)]},
    ):
        with pytest.raises(InputError):
            prompt_source(CARD, **arguments)
