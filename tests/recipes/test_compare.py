"""compare: a grid of simple methods over phantom stores, its cache, its failures, its pages."""

import csv
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file

from samling.data.store import Store
from samling.errors import InputError
from samling.evaluation.baselines import BASELINES
from samling.evaluation.cost import WARM_RUNS
from samling.inference.card import Card
from samling.inference.regions import box_around
from samling.inference.segmenter import Object
from samling.recipes.compare import compare
from samling.recipes.sweep import read_plan

pytest.importorskip("h5py")
pytest.importorskip("matplotlib")


class Dark:
    """Calls the dark pixels in the box its object; counts what it was asked to encode.

    Args:
        share: how much of the box's width, from the left, it looks at.
    """

    def __init__(self, share: float, **changes: object) -> None:
        plain = {"name": "dark", "base": "none", "base_sha256": "0" * 64, "embedding_size": 16,
                 "prompts": ("box",)}  # fmt: skip
        self.card = Card.model_validate(plain | changes)
        self.share = share
        self.encoded = 0

    def encode(self, image: np.ndarray) -> np.ndarray:
        self.encoded += 1
        return image

    def segment_encoded(self, image: np.ndarray, prompts) -> list[Object]:
        found = []
        for prompt in prompts:
            mask = np.zeros(image.shape, dtype=bool)
            x0, y0, x1, y1 = np.rint(prompt.box).astype(int).clip(0)
            mask[y0:y1, x0 : x0 + max(1, round(self.share * (x1 - x0)))] = True
            found.append(Object(mask, 0.9, 0.8, None, box_around(mask), "object"))
        return found

    def decode_square(self, image, prompts):
        raise NotImplementedError

    def foreground(self, image: np.ndarray, prompts) -> None:
        return None


TIMED = WARM_RUNS + 1
"""Images that a method is timed on."""


@pytest.fixture
def models() -> dict[str, Dark]:
    return {"good": Dark(0.9), "poor": Dark(0.4), "s0": Dark(0.9), "s1": Dark(0.7)}


@pytest.fixture
def load(models):
    def by_name(name: str) -> Dark:
        last = Path(name).name
        if last == "broken":
            raise RuntimeError("a fault of ours\nover two lines")
        if last not in models:
            raise InputError(name, "does not exist", "train it")
        return models[last]

    return by_name


@pytest.fixture
def write(write_plan):
    methods = {"good one": "good", "poor": "poor"}
    return partial(write_plan, name="a comparison", methods=methods)


def found(out: Path) -> dict:
    return json.loads((out / "comparison.json").read_text(encoding="utf-8"))


def test_everything_is_written_and_the_page_is_complete_in_itself(write, out, load) -> None:
    said: list[str] = []
    summary = compare(write(), out, load=load, say=said.append)
    assert summary.failures == () and summary.report == out / "report.html"
    names = {path.name for path in out.iterdir()}
    assert names >= {
        "report.html", "tables.md", "tables.tex", "results.csv", "comparison.json", "cells",
        "boxes_tiny.png", "overlays_tiny.png", "cost_tiny.png", "robustness_tiny.png",
        "table_tiny-results.csv", "table_tiny-cost.csv", "table_tiny-against-the-others.csv",
    }  # fmt: skip
    html = summary.report.read_text(encoding="utf-8")
    assert html.count("data:image/") == 4 and 'src="http' not in html and 'href="http' not in html
    assert "ellipse in the box has the highest mean Dice of 4 methods" in html
    assert "1/4 good one on tiny, seed 0" in said
    latex = (out / "tables.tex").read_text(encoding="utf-8")
    assert (
        latex.count("toprule") == latex.count("bottomrule") == latex.count("label{tab:tiny-") == 4
    )
    assert "\\caption{tiny: Results. Means over images" in latex
    markdown = (out / "tables.md").read_text(encoding="utf-8")
    for text in (html, markdown, latex):
        assert "larger of the two directed 95th percentiles" in text


def test_numbers_are_those_of_the_rows(write, out, load) -> None:
    compare(write(), out, load=load)
    lines = list(csv.DictReader((out / "results.csv").open(encoding="utf-8")))
    scores = found(out)["stores"]["tiny"]["scores"]
    assert {(s["method"], s["protocol"]) for s in scores} == {
        (method, protocol)
        for method in ("good one", "poor", "fill the box", "ellipse in the box")
        for protocol in ("box", "jitter10")
    }
    for score in scores:
        dice = [
            float(line["dice"]) for line in lines
            if (line["method"], line["protocol"]) == (score["method"], score["protocol"])
            and line["counted"] == "1"
        ]  # fmt: skip
        assert score["dice"]["mean"] == pytest.approx(np.mean(dice), abs=1e-5)
    tests = found(out)["stores"]["tiny"]["paired_tests"]
    assert len(tests) == 6 and {test["method"] for test in tests} == {"good one"}
    assert {test["family"] for test in tests} == {6}


def test_folds_are_measured_each_by_its_own_model_and_put_together(
    write, out, load, models
) -> None:
    models |= {f"f{fold}": Dark(0.2 + fold / 5) for fold in (1, 2, 3)}
    plan = write(folds=3, split="test", methods={"mine": "f{fold}", "poor": "poor"})
    assert compare(plan, out, load=load).failures == ()
    lines = list(csv.DictReader((out / "results.csv").open(encoding="utf-8")))
    mine = [line for line in lines if (line["method"], line["protocol"]) == ("mine", "box")]
    store = Store.open(yaml.safe_load(plan.read_text())["stores"]["tiny"])
    assert sorted(line["id"] for line in mine) == sorted(
        (*store.splits.train.ids, *store.splits.val.ids)
    ), "every image once, but for those of the test part"
    assert not (out / "test_touched.json").exists()
    folds = [Store.open(f"{store.path}@{fold}of3").splits.test.ids for fold in (1, 2, 3)]
    text = (out / "tables.md").read_text(encoding="utf-8")
    row = next(line for line in text.splitlines() if line.startswith("| tight box | mine | 0.") and
               line.count("|") == 7)  # fmt: skip
    for ids, shown in zip(folds, row.split("|")[3:6], strict=True):
        dice = [float(line["dice"]) for line in mine if line["id"] in ids and line["dice"]]
        assert float(shown) == pytest.approx(np.mean(dice), abs=6e-4)
    means = [float(shown) for shown in row.split("|")[3:6]]
    assert means == sorted(means) and means[0] < means[2] - 0.2, "a third, or four fifths of a box"


def test_a_method_that_lacks_a_fold_is_left_out(write, out, load, models) -> None:
    models |= {f"f{fold}": Dark(0.9) for fold in (1, 3)}
    plan = write(folds=3, split="test", methods={"mine": "f{fold}", "poor": "poor"})
    failures = compare(plan, out, load=load).failures
    assert len(failures) == 1 and failures[0].startswith("mine on tiny, fold 2, seed 0: ")
    methods = {score["method"] for score in found(out)["stores"]["tiny"]["scores"]}
    assert "poor" in methods and "mine" not in methods


def test_a_second_run_measures_nothing_and_says_the_same(write, out, load, models) -> None:
    compare(write(), out, load=load)
    kept = (out / "results.csv").read_bytes(), (out / "tables.md").read_bytes()
    encoded = models["good"].encoded
    compare(write(), out, load=load)
    assert models["good"].encoded == encoded
    assert ((out / "results.csv").read_bytes(), (out / "tables.md").read_bytes()) == kept


def test_only_what_is_new_is_measured(write, out, load, models) -> None:
    compare(write(), out, load=load)
    encoded = models["good"].encoded
    compare(write(methods={"good one": "good", "poor": "poor", "third": "s1"}), out, load=load)
    assert models["good"].encoded == encoded + TIMED  # all are timed again, in one go
    assert models["s1"].encoded == encoded
    encoded = models["good"].encoded
    compare(write(prompts=["box", "jitter10", "jitter20"]), out, load=load)
    assert models["good"].encoded > encoded
    assert "jitter20" in {s["protocol"] for s in found(out)["stores"]["tiny"]["scores"]}


def test_another_model_under_the_same_name_is_measured_again(write, out, load, tmp_path) -> None:
    run = tmp_path / "good"
    run.mkdir()
    save_file({"adapter.up": np.zeros(3)}, run / "adapter.safetensors")
    compare(write(), out, load=load)
    before = (out / "results.csv").read_bytes()
    save_file({"adapter.up": np.ones(3)}, run / "adapter.safetensors")
    compare(write(), out, load=lambda name: Dark(0.5))
    assert (out / "results.csv").read_bytes() != before


def test_published_checkpoints_are_named_in_every_way(write, out, load, models, tmp_path) -> None:
    """Beside the plan, with the family before and the size behind; by a family's name alone."""
    asked: list[str] = []

    def note(name: str) -> Dark:
        asked.append(name)
        return models["good"]

    methods = {"a": "w/m.pth@512", "b": "medsam:w/m.pth", "c": "sam-vit-b", "d": "medsam@256"}
    compare(write(methods=methods, baselines=["fill the box"]), out, load=note)
    placed = tmp_path / "w" / "m.pth"
    # measured, then timed
    assert asked == 2 * [f"{placed}@512", f"medsam:{placed}", "sam-vit-b", "medsam@256"]


def test_failures_are_listed_and_the_others_go_on(write, out, load) -> None:
    methods = {"gone": "gone", "broken": "broken", "poor": "poor"}
    summary = compare(write(methods=methods), out, load=load)
    assert len(summary.failures) == 2
    assert summary.failures[0].startswith("gone on tiny, seed 0: ")
    assert "RuntimeError: a fault of ours over two lines" in summary.failures[1]
    html = summary.report.read_text(encoding="utf-8")
    assert "What could not be measured" in html and "a fault of ours" in html
    assert {s["method"] for s in found(out)["stores"]["tiny"]["scores"]} == {
        "poor", "fill the box", "ellipse in the box",
    }  # fmt: skip


def test_a_stopped_comparison_goes_on_where_it_was(write, out, models) -> None:
    def stopped(name: str) -> Dark:
        if Path(name).name == "poor":
            raise KeyboardInterrupt
        return models[Path(name).name]

    with pytest.raises(KeyboardInterrupt):
        compare(write(), out, load=stopped)
    encoded = models["good"].encoded
    assert encoded > 0
    compare(write(), out, load=lambda name: models[Path(name).name])
    assert models["good"].encoded == models["poor"].encoded == encoded + TIMED


def test_a_damaged_cell_is_measured_again(write, out, load, models) -> None:
    compare(write(), out, load=load)
    before = (out / "results.csv").read_bytes()
    for cell in (out / "cells").iterdir():
        cell.write_text(cell.read_text(encoding="utf-8")[:100], encoding="utf-8")
    compare(write(), out, load=load)
    assert (out / "results.csv").read_bytes() == before


def test_a_planted_leak_is_refused(write, out, tiny_store: Path) -> None:
    leaky = Dark(0.9, trained_on=("tiny",), split_hash="f" * 64)
    summary = compare(write(methods={"leaky": "leaky"}), out, load=lambda name: leaky)
    assert len(summary.failures) == 1 and "may be among those" in summary.failures[0]
    assert leaky.encoded == 0


def test_seeds_repeat_what_they_change(write, out, load, models) -> None:
    plan = write(methods={"runs": "s{seed}", "fixed": "good"}, seeds=[0, 1])
    compare(plan, out, load=load)
    lines = list(csv.DictReader((out / "results.csv").open(encoding="utf-8")))
    seeds = {(line["method"], line["protocol"], line["seed"]) for line in lines}
    assert {("runs", "box", "1"), ("fixed", "jitter10", "1"), ("fixed", "box", "0")} <= seeds
    assert ("fixed", "box", "1") not in seeds  # a tight box is the same with every seed
    markdown = (out / "tables.md").read_text(encoding="utf-8")
    assert "SD of seeds" in markdown
    scores = found(out)["stores"]["tiny"]["scores"]
    (mean,) = [s["dice"]["mean"] for s in scores if (s["method"], s["protocol"]) == ("runs", "box")]
    per_seed = [
        np.mean([float(line["dice"]) for line in lines if line["counted"] == "1"
                 and (line["method"], line["protocol"], line["seed"]) == ("runs", "box", seed)])
        for seed in "01"
    ]  # fmt: skip
    assert mean == pytest.approx(np.mean(per_seed), abs=1e-5) and per_seed[0] > per_seed[1]


def test_every_baseline_runs_on_phantoms(write, out) -> None:
    pytest.importorskip("skimage")
    plan = write(
        methods={}, baselines=list(BASELINES), prompts=["box", "boxclicks1", "point1", "auto"]
    )
    assert compare(plan, out).failures == ()
    scores = {
        (s["method"], s["protocol"]): s["dice"]["mean"]
        for s in found(out)["stores"]["tiny"]["scores"]
        if s["dice"]
    }
    assert {method for method, protocol in scores if protocol == "box"} == set(BASELINES)
    for asked in ("point1", "boxclicks1"):
        assert {method for method, protocol in scores if protocol == asked} == {"region growing"}
    in_a_box = {method: dice for (method, protocol), dice in scores.items() if protocol == "box"}
    assert all(0.7 < dice < 1 for dice in in_a_box.values())


def test_several_stores_are_one_family_of_tests(write, out, load, tiny_store) -> None:
    plan = write(stores={"one": str(tiny_store), "two": str(tiny_store)}, prompts=["box"])
    compare(plan, out, load=load)
    stores = found(out)["stores"]
    assert list(stores) == ["one", "two"]
    assert {test["family"] for part in stores.values() for test in part["paired_tests"]} == {6}


def test_looking_at_the_test_set_is_recorded(write, out, load) -> None:
    compare(write(split="test", baselines=[]), out, load=load)
    record = json.loads((out / "test_touched.json").read_text(encoding="utf-8"))
    assert [entry["model"] for entry in record] == ["good one", "poor"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"baselines": ["magic"]}, "magic"), ({"stores": {}}, "stores"),
        ({"methods": {}, "baselines": []}, "methods"), ({"reference": "nobody"}, "nobody"),
        ({"methods": {"fill the box": "good"}}, "twice"),
        ({"prompts": ["boxes"]}, r"plan\.yaml prompts: .*boxes"),
        ({"stores": {"x": "no.h5"}}, "no.h5"), ({"split": "train"}, "split"),
        ({"method": {}}, "is no setting"),
    ],
)  # fmt: skip
def test_unusable_plans_are_refused_before_anything_runs(write, out, load, changes, words) -> None:
    with pytest.raises(InputError, match=words):
        compare(write(**changes), out, load=load)
    assert not out.exists()


def test_the_plan_in_the_documentation_is_one(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "compare.md").read_text(encoding="utf-8")
    (tmp_path / "plan.yaml").write_text(text.split("```yaml")[1].split("```")[0], encoding="utf-8")
    plan = read_plan(tmp_path / "plan.yaml")
    assert plan.seeds == (0, 1, 2) and set(plan.baselines) == set(BASELINES)


def test_what_flatters_stands_beside_the_answer_also_of_a_resumed_comparison(
    write, out, load, models
) -> None:
    seen = {"trained_on": ("busi", "ddti")}
    models |= {"base": Dark(0.9, **seen), "adapted": Dark(0.8, **seen), "fresh": Dark(0.7)}
    plan = write(methods={"light base": "base", "adapted": "adapted", "scratch": "fresh"})
    said = "light base, adapted were trained on busi, ddti: if images of those sets are in tiny"

    def pages() -> None:
        html = (out / "report.html").read_text(encoding="utf-8")
        lead = html.partition('<p class="lead">')[2].partition("</p>")[0]
        assert (
            "has the highest mean" in lead and lead.count(said) == 1 and "scratch were" not in lead
        )
        text = (out / "tables.md").read_text(encoding="utf-8")
        assert text.index(said) < text.index("##")
        assert found(out)["caveats"][0].startswith(said)

    compare(plan, out, load=load)
    pages()
    measured = {name: model.encoded for name, model in models.items()}
    compare(plan, out, load=load)
    pages()
    assert {name: model.encoded for name, model in models.items()} == measured


def test_a_run_that_is_not_finished_is_named_with_its_seed(write, out, load, tmp_path) -> None:
    for seed, done in ((0, 1), (1, 2)):
        run = tmp_path / f"s{seed}"
        run.mkdir()
        (run / "config.yaml").write_text("training: {epochs: 2}\n", encoding="utf-8")
        (run / "metrics.jsonl").write_text('{"epoch": 1}\n' * done, encoding="utf-8")
    plan = write(methods={"mine": "s{seed}", "good": "good"}, seeds=[0, 1])
    compare(plan, out, load=load)
    (said,) = [text for text in found(out)["caveats"] if "not finished" in text]
    assert "mine on tiny, seed 0 (1 of 2 epochs) is not finished" in said


def test_a_split_that_leaks_is_named(write, out, load, tiny_store, tmp_path) -> None:
    from samling.data.splits import Splits
    from samling.data.store import Store, write_store

    store = Store.open(tiny_store)
    ids = list(store.ids)
    cases = [replace(store.case(id), group="one patient") for id in ids]
    splits = Splits.of({"train": ids[:2], "val": ids[2:5], "test": ids[5:]})
    leaky = tmp_path / "leaky.h5"
    write_store(leaky, cases, splits, name="x", classes=store.classes, licence="CC0")
    compare(write(stores={"mine": str(leaky)}), out, load=load)
    for name in ("report.html", "tables.md"):
        text = (out / name).read_text(encoding="utf-8")
        assert "1 groups (patients) of mine are in several parts of its split" in text
