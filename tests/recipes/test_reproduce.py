"""reproduce: the papers' figures as data, and a page that says what was rerun and what was not."""

import json
from pathlib import Path

import pytest

from samling.config import AdaptRecipe, TrainRecipe, load_recipe
from samling.data.store import Store
from samling.errors import InputError
from samling.evaluation.statistics import jensen
from samling.recipes.papers import Paper, listing, papers, read_paper
from samling.recipes.reproduce import reproduce

ROWS = [
    (paper, name, row)
    for paper in papers()
    for name, table in read_paper(paper).tables.items()
    for row in table.rows
]


def test_every_table_of_the_three_papers_is_there() -> None:
    assert set(papers()) == {"lg-medseg", "sam-liver", "uniultra"}
    assert set(read_paper("lg-medseg").tables) == {f"table-{n}" for n in (1, 2, 3, 4)}


@pytest.mark.parametrize(("paper", "table", "row"), ROWS, ids=lambda v: getattr(v, "method", v))
def test_every_row_that_can_be_rerun_has_a_recipe_that_exists(paper, table, row) -> None:
    if row.ours is not None and row.ours.verb != "model":
        kind = AdaptRecipe if row.ours.verb == "adapt" else TrainRecipe
        load_recipe(kind, row.ours.what, list(row.ours.changes))


def test_the_list_names_every_table_and_what_it_needs() -> None:
    every = listing().splitlines()
    assert sum(not line.startswith(" ") for line in every) == len(papers())
    assert len(listing("lg-medseg").splitlines()) == 5
    (third,) = [line for line in listing("lg-medseg").splitlines() if "table-3" in line]
    assert "(--data BUSI=STORE.h5" in third
    with pytest.raises(InputError, match="is no paper"):
        listing("medsam")


def test_two_published_pairs_break_jensens_bound() -> None:
    rows = [row for _, _, row in ROWS if row.dice and row.iou]
    broken = {row.method for row in rows if not jensen(row.dice, row.iou, 0.00005)}
    assert "focal" in broken and "with LRAdapter" not in broken


def test_without_data_it_says_so(tmp_path) -> None:
    text = reproduce("lg-medseg", "table-3", {}, tmp_path).read_text()
    assert "| with LRAdapter | BUSI | 93.08 | – | – | 87.35 | – | – |" in text
    assert "give --data BUSI=STORE.h5" in text and "Prompt and unit of the split" in text
    private = reproduce("lg-medseg", "table-1", {}, tmp_path / "b").read_text()
    assert "USEFD is private" in private


def test_with_data_the_figures_stand_side_by_side(tiny_store, tmp_path) -> None:
    small = ["network.input_size=32", "network.width=2", "training.epochs=0"]
    page = reproduce("sam-liver", "comparison", {"3Dircadb": tiny_store}, tmp_path, small, say=str)
    row = next(line for line in page.read_text().splitlines() if line.startswith("| U-Net |"))
    cells = [cell.strip() for cell in row.split("|")]
    assert cells[6] == "92.00" and cells[7] != "–" and cells[8].startswith("-")
    assert (tmp_path / "compare" / "report.html").is_file()
    assert "SAM of the thesis on 3Dircadb: the paper's own figure" in page.read_text()


def test_unknown_names_are_refused(tmp_path, tiny_store) -> None:
    with pytest.raises(InputError, match="is no paper"):
        reproduce("medsam", "table-1", {}, tmp_path)
    with pytest.raises(InputError, match="is no table"):
        reproduce("lg-medseg", "table-9", {}, tmp_path)
    with pytest.raises(InputError, match="is no data set of table-3"):
        reproduce("lg-medseg", "table-3", {"KITTI": tiny_store}, tmp_path)


def cells(page: Path, method: str, number: int) -> list[str]:
    """A line of the first (0) or second table of a page."""
    lines = [line for line in page.read_text().splitlines() if line.startswith(f"| {method} |")]
    return [cell.strip() for cell in lines[number].split("|")]


def test_weights_are_counted_without_data(tmp_path) -> None:
    """63,360 weights of the adapter: the recipe's head says so, by hand from the blocks' widths."""
    pytest.importorskip("torch")
    ranks = reproduce("lg-medseg", "table-2", {}, tmp_path)
    assert cells(ranks, "k = 16", 1)[3:5] == ["71.4", "63.4"]
    # a rank is clamped to min(d, r): four times the weights of rank 4 are more than rank 16 has
    assert float(cells(ranks, "k = 4", 1)[4]) * 4 >= 63.4
    costs = reproduce("lg-medseg", "table-1", {}, tmp_path / "b")
    plain, adapted = (float(cells(costs, name, 1)[4]) for name in ("LG-MedSeg", "+ serial adapter"))
    assert adapted - plain == pytest.approx(0.19, abs=0.03)  # 189,440, less folded norms
    assert cells(costs, "LG-MedSeg", 1)[5:9] == ["12.8", "–", "15.3", "–"]
    assert cells(costs, "SAM-Med2D", 1)[3:5] == ["271.24", "–"]


def test_costs_and_outlines_stand_beside_the_papers(tiny_store, tmp_path, monkeypatch) -> None:
    """Of a table that measures the base alone, so that nothing is trained."""
    pytest.importorskip("torch")
    row = {"method": "LG-MedSeg", "store": "USEFD", "ours": {"verb": "model", "what": "base"},
           "other": {"params M": 13.08, "GFLOPs": 12.8, "ms": 15.3, "HD": 7.2, "percent": 1.5}}  # fmt: skip
    table = {"title": "t", "source": "s", "rows": [row], "difference": "d"}
    paper = Paper.model_validate({"title": "p", "reference": "r", "tables": {"one": table}})
    monkeypatch.setattr("samling.recipes.reproduce.read_paper", lambda name: paper)
    page = reproduce("p", "one", {"USEFD": tiny_store}, tmp_path, say=str)
    content = json.loads((tmp_path / "compare" / "comparison.json").read_text())["stores"]["USEFD"]
    cost, (score, *_) = content["costs"]["LG-MedSeg"], content["scores"]
    images = len(Store.open(tiny_store).splits.val.ids)
    assert f"USEFD is here the store tiny (tiny.h5), {images} images." in page.read_text()
    found = cells(page, "LG-MedSeg", 1)
    assert found[4] == f"{cost['parameters'] / 1e6:.2f}"
    assert found[6] == f"{cost['macs'] / 5e8:.1f}" and float(found[6]) > 1
    assert float(found[8]) == pytest.approx(cost["encode_ms"] + cost["decode_ms"], abs=0.06)
    assert found[10].startswith(f"{score['hd_px']['mean']:.1f} px")
    assert found[12] == "–"
    assert (
        "1 GMAC = 2 GFLOPs" in page.read_text() and "the machine that measured" in page.read_text()
    )
    assert str(tiny_store) not in (tmp_path / "plan.yaml").read_text()
