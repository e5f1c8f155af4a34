"""What the page of a comparison says beside its figures: doubts, gaps, where everything is from."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from samling.data.store import Store
from samling.evaluation.baselines import Baseline, baseline
from samling.recipes.compare import compare

pytest.importorskip("h5py")
pytest.importorskip("matplotlib")


def model(**changes: object) -> Baseline:
    """Fills the box, with the card of a model."""
    made = baseline("fill the box")
    known = {"name": "filler", "base": "light", "base_sha256": "b" * 64}
    made.card = made.card.model_copy(update=known | changes)
    return made


@pytest.fixture
def write(write_plan):
    return partial(write_plan, name="a page")


def found(out: Path) -> dict[str, Any]:
    return json.loads((out / "comparison.json").read_text(encoding="utf-8"))


def pages(out: Path) -> tuple[str, str]:
    """report.html and tables.md."""
    return (out / "report.html").read_text("utf-8"), (out / "tables.md").read_text("utf-8")


def test_means_that_cannot_be_are_named_first(write, out) -> None:
    """A cell whose IoU is not that of its Dice, as a fault in a metric would leave it."""
    compare(write(), out)
    assert found(out)["contradictions"] == []
    assert "Jensen's bound" not in (out / "tables.md").read_text(encoding="utf-8")
    (cell,) = (out / "cells").glob("tiny-fill-*.json")
    content = json.loads(cell.read_text())
    for row in content["rows"]["jitter10"]:
        row["iou"] = row["dice"] / 3
    cell.write_text(json.dumps(content))
    said: list[str] = []
    compare(write(), out, say=said.append)
    assert found(out)["contradictions"] == [
        {"store": "tiny", "method": "fill the box", "protocol": "jitter10"}
    ]
    sentence = "fill the box on tiny, box, sides moved by up to ±10%: mean Dice"
    html, text = pages(out)
    assert any(line.startswith(sentence) for line in said)
    assert html.count(sentence) == 1 and html.index(sentence) < html.index("<table>")
    assert text.index(sentence) < text.index("##")
    assert "Some figures below cannot be" in html.partition('<p class="lead">')[2][:80]


def test_it_says_what_was_measured_on_what(write, out, tiny_store: Path) -> None:
    trained = {"trained_on": ("busi", "ddti"), "prompts": ("box",), "licence": "MIT"}
    kept = write(methods={"mine": "runs/mine"}, baselines=["fill the box"])
    compare(kept, out, load=lambda name: model(**trained))
    store, html = Store.open(tiny_store), pages(out)[0]
    ids = store.splits.val.ids
    (data,) = found(out)["stores"]["tiny"]["data"]
    assert data == {
        "data": "tiny", "set_name": "tiny", "fold": 0, "content_hash": store.content_hash,
        "licence": store.licence, "split": "val", "split_hash": store.splits.hash,
        "split_rule": store.splits.rule, "images": len(ids),
        "groups": len({store.meta(id).group for id in ids}),
    }  # fmt: skip
    mine, filled = found(out)["methods"]
    assert mine == {
        "method": "mine", "data": ["tiny"], "card": "filler", "base": "light",
        "base_sha256": "b" * 64, "weights": [], "trained_on": ["busi", "ddti"], "prompts": ["box"],
        "licence": "MIT",
    }  # fmt: skip
    assert (filled["card"], filled["base"], filled["trained_on"]) == (
        "fill the box",
        "no model",
        [],
    )
    end = html[html.index("<h2>Provenance") :]
    for cell in (store.content_hash[:12], store.splits.hash[:12], store.splits.rule, store.licence,
                 f"light, {'b' * 12}", "busi, ddti", "nothing", "MIT"):  # fmt: skip
        assert f">{cell}</td>" in end


def test_the_weights_of_every_seed_are_told_apart(write, out, tmp_path) -> None:
    for seed in range(5):
        run = tmp_path / f"run{seed}"
        run.mkdir()
        save_file({"adapter.up": np.full(3, seed)}, run / "adapter.safetensors")
    plan = write(
        methods={"mine": "run{seed}"}, baselines=[], seeds=[0, 1, 2, 3, 4], prompts=["box"]
    )
    compare(plan, out, load=lambda name: model())
    (mine,) = found(out)["methods"]
    assert len(set(mine["weights"])) == 5 and {len(one) for one in mine["weights"]} == {64}
    assert f"{mine['weights'][2][:12]}, … (5)</td>" in pages(out)[0]


def test_folds_have_their_own_splits_of_one_content(write, out, tiny_store: Path) -> None:
    compare(write(folds=3, split="test", prompts=["box"]), out)
    data = found(out)["stores"]["tiny"]["data"]
    store = Store.open(tiny_store)
    assert [one["fold"] for one in data] == [1, 2, 3]
    assert {one["content_hash"] for one in data} == {store.content_hash}
    assert len({one["split_hash"] for one in data}) == 3
    ids = [*store.splits.train.ids, *store.splits.val.ids]  # folds leave the store's test part out
    assert sum(one["images"] for one in data) == len(ids)
    assert sum(one["groups"] for one in data) == len({store.meta(id).group for id in ids})
    assert "tiny, fold 3" in pages(out)[0]


def test_no_page_shows_where_files_lie(write, out, tmp_path) -> None:
    methods = {
        "gone": "runs/gone",
        "mine": str(tmp_path / "mine"),
        "sam": f"medsam:{tmp_path}/x.pth",
    }

    def load(name: str) -> Baseline:
        if name.endswith("mine"):
            return model(base=str(tmp_path / "there" / "light"))
        raise FileNotFoundError(f"no {name}, nor {tmp_path}/other.h5")

    summary = compare(write(methods=methods), out, load=load)
    assert len(summary.failures) == 2 and str(tmp_path) in summary.failures[0]
    for name in ("report.html", "tables.md", "comparison.json"):
        text = (out / name).read_text(encoding="utf-8")
        assert str(tmp_path) not in text and "other.h5" in text, name
    assert found(out)["methods"][0]["base"] == "light"


def test_means_over_fewer_seeds_than_planned_say_so(write, out) -> None:
    def load(name: str) -> Baseline:
        if name.endswith("s1"):
            raise FileNotFoundError("the second run is not there yet")
        return model()

    plan = write(methods={"mine": "s{seed}"}, seeds=[0, 1, 2])
    assert len(compare(plan, out, load=load).failures) == 1
    note = "Seeds that could be measured: mine 2 of 3; of the rest all."
    text = pages(out)[1]
    results = text.partition("## tiny: Results")[2].partition("##")[0]
    assert note in results and note in (out / "tables.tex").read_text("utf-8")
    assert note not in text.partition("## tiny: Cost")[2]
    missing = found(out)["stores"]["tiny"]["seeds_missing"]
    assert missing == [
        {"protocol": protocol, "method": "mine", "measured": 2, "planned": 3}
        for protocol in ("box", "jitter10")
    ]
    compare(plan, out, load=lambda name: model())
    assert "Seeds that could" not in pages(out)[1]


def test_only_the_prompts_that_lack_a_seed_are_named(write, out) -> None:
    """A tight box is measured with the first seed alone: it lacks none."""
    asked: list[str] = []

    def load(name: str) -> Baseline:
        asked.append(name)
        if len(asked) == 2:
            raise FileNotFoundError("gone for a moment")
        return model()

    compare(write(methods={"mine": "one"}, seeds=[0, 1]), out, load=load)
    assert "mine 1 of 2 (box, sides moved by up to ±10%); of the rest all." in pages(out)[1]


def test_prompts_without_the_reference_are_named(write, out) -> None:
    pytest.importorskip("skimage")
    plan = write(baselines=["fill the box", "region growing"], prompts=["box", "point1"])
    compare(plan, out)
    sentence = "fill the box has no answer under 1 point inside on tiny: there, nothing is tested"
    html, text = pages(out)
    lead = html.partition('<p class="lead">')[2].partition("</p>")[0]
    assert sentence in lead and "Tested against fill the box: 0 of 1 differences are clear." in lead
    assert text.index(sentence) < text.index("##")
    compare(write(baselines=["region growing", "fill the box"], prompts=["box", "point1"]), out)
    assert "nothing is tested" not in pages(out)[1]


def test_a_reference_that_failed_is_named(write, out) -> None:
    compare(write(methods={"gone": "gone"}, reference="gone"), out)
    html, text = pages(out)
    assert "gone has no answer on tiny: there, nothing is tested against it." in text
    assert "The others are tested" not in html


def test_published_figures_are_checked(write, out) -> None:
    figures = [
        {"method": "focal", "source": "a paper, Table 4", "dice": 0.852, "iou": 0.738},
        {"method": "all", "source": "a paper, Table 4", "dice": 0.9085, "iou": 0.845},
    ]
    html = compare(write(published=figures), out).report.read_text(encoding="utf-8")
    assert html.count("impossible (Jensen)") == 1 and "a paper, Table 4" in html
