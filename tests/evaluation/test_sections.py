"""What a report says about given numbers."""

from dataclasses import replace

from samling.evaluation.report import Points
from samling.evaluation.run import Row
from samling.evaluation.sections import Evaluation, lead, meaning, next_steps, sections
from samling.evaluation.tables import summarise


def row(id: int, dice: float, method: str, protocol: str = "box", **changes) -> Row:
    plain = Row(f"c{id}", f"g{id}", "", method, protocol, True, 1)
    return replace(plain, dice=dice, iou=dice / (2 - dice), hd95_px=4.0, n_found=1, **changes)


def evaluation(rows: list[Row], split: str = "val", **changes) -> Evaluation:
    plain = Evaluation(
        "mine", "runs/my run", split, "breast", "a.h5", summarise(rows), rows, [], []
    )
    return replace(plain, **changes)


def measured(own: float, ellipse: float, base: float = 0.5) -> list[Row]:
    wobble = [0.01, -0.01, 0.0, 0.02, 0.01, -0.01, 0.0, 0.02]
    rows = []
    for i, w in enumerate(wobble):
        rows += [row(i, own + w, "mine"), row(i, base, "b without adapter")]
        rows += [row(i, 0.7, "fill the box"), row(i, ellipse, "ellipse in the box")]
    return rows


def advice(found: Evaluation) -> str:
    return " ".join(" ".join(b.items) for b in next_steps(found) if isinstance(b, Points))


def test_the_lead_answers() -> None:
    text = lead(evaluation(measured(0.9, 0.8)))
    assert "8 validation images of breast" in text
    assert "0.905" in text and "4.0 px" in text
    assert "no image" in lead(evaluation([]))


def test_comparisons_are_paired_and_worded() -> None:
    said = " ".join(meaning(evaluation(measured(0.9, 0.8))))
    assert "against ellipse in the box: +10.5 Dice points" in said and "better" in said
    assert "against b without adapter: +40.5" in said
    assert "fill the box" not in said
    assert "not clearly apart" in " ".join(meaning(evaluation(measured(0.8, 0.805))))
    assert "worse" in " ".join(meaning(evaluation(measured(0.7, 0.8))))


def test_jitter_automatic_and_skipped_images() -> None:
    rows = [
        row(1, 0.9, "mine"),
        row(1, 0.85, "mine", "jitter10"),
        row(1, 0.6, "mine", "auto", n_false_alarms=1),
        replace(row(2, 1.0, "mine", "auto"), n_label_objects=0, n_found=0),
        Row("c2", "g2", "", "mine", "box", False, 0),
    ]
    said = " ".join(meaning(evaluation(rows, notes=["a note"])))
    assert "±10% costs 5.0 Dice points" in said
    assert "finds 1 of 1 lesions, with 0.50 false alarms" in said
    assert "Of 1 images without a lesion, 1 stay empty" in said
    assert "1 images without a lesion don't count" in said
    assert said.endswith("a note")


def test_three_patients_prove_nothing() -> None:
    few = [row for row in measured(0.9, 0.5) if row.id in ("c0", "c1", "c2")]
    assert "too few groups to tell" in " ".join(meaning(evaluation(few)))


def test_numbers_that_contradict_each_other_are_named() -> None:
    wrong = [replace(row, iou=0.5) for row in measured(0.9, 0.8)]
    assert "Jensen" in " ".join(meaning(evaluation(wrong)))
    assert "Jensen" not in " ".join(meaning(evaluation(measured(0.9, 0.8))))


def test_clicks_are_told_in_words_and_do_not_lead() -> None:
    rows = [row(1, 0.92, "mine", "noc90", clicks=3), row(1, 0.8, "mine")]
    found = evaluation(rows)
    assert "takes 3.0 clicks until Dice 0.90; 1 of 1 images" in " ".join(meaning(found))
    assert found.main is not None and found.main.protocol == "box"
    assert "Clicks" in [s.title for s in sections(found) if s.blocks]


def test_advice_fits_the_result_and_the_split() -> None:
    assert "has not learnt the outline" in advice(evaluation(measured(0.7, 0.8)))
    assert "has not learnt" not in advice(evaluation(measured(0.9, 0.8)))
    assert "choose between models" in advice(evaluation(measured(0.9, 0.8)))
    assert "nothing is chosen" in advice(evaluation(measured(0.9, 0.8), "test"))


def test_commands_are_quoted() -> None:
    commands = next_steps(evaluation(measured(0.9, 0.8)))[-1].lines
    assert "samling evaluate 'runs/my run' --data a.h5 --split test -o test" in commands


def test_a_page_without_pictures_has_its_sections() -> None:
    titles = [section.title for section in sections(evaluation(measured(0.9, 0.8)))]
    assert titles[0] == "Results" and "Definitions" in titles and "Provenance" in titles
