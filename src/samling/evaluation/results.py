"""Results: what an evaluation found, as JSON for programs and Markdown for people."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from samling.evaluation.formats import markdown
from samling.evaluation.metrics import DEFINITIONS
from samling.evaluation.paired import paired_table
from samling.evaluation.sections import Evaluation
from samling.evaluation.tables import (
    automatic,
    by_category,
    category_table,
    clicks_table,
    details,
    headline,
)
from samling.inference.card import Card

if TYPE_CHECKING:
    from samling.data.store import Store

RESULTS_SCHEMA = 3


def facts_of(card: Card, store: "Store", split: str, seed: int) -> dict[str, Any]:
    """What was measured on what: the head of results.json."""
    return {
        "schema": RESULTS_SCHEMA,
        "model": card.model_dump(mode="json"),
        "store": {
            "name": store.name,
            "content_hash": store.content_hash,
            "licence": store.licence,
            "split": split,
            "split_hash": store.splits.hash,
            "split_rule": store.splits.rule,
        },
        "seed": seed,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def as_json(facts: dict[str, Any], evaluation: Evaluation) -> str:
    """results.json: facts, scores with intervals, scores by category, notes, definitions."""
    divided = by_category(evaluation.rows, evaluation.model, over=evaluation.over)
    content = facts | {
        "method": evaluation.model,
        "means_over": evaluation.over,
        "scores": [asdict(score) for score in evaluation.scores],
        "by_category": {name: [asdict(s) for s in scores] for name, scores in divided.items()},
        "paired_tests": [asdict(test) for test in evaluation.tests],
        "notes": [*evaluation.caveats, *evaluation.notes],
        "definitions": DEFINITIONS,
    }
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def as_markdown(evaluation: Evaluation) -> str:
    """table.md: what flatters the figures, the report's tables, notes."""
    divided = by_category(evaluation.rows, evaluation.model, over=evaluation.over)
    tables = [
        headline(evaluation.scores, evaluation.model, evaluation.over),
        details(evaluation.scores, evaluation.model, evaluation.over),
        clicks_table(evaluation.scores, evaluation.model, evaluation.over),
        paired_table(evaluation.tests, evaluation.over),
        automatic(evaluation.scores),
        evaluation.damage,
        category_table(divided),
    ]
    parts = [f"{caveat}\n" for caveat in evaluation.caveats]
    parts += [markdown(table) for table in tables if table]
    if evaluation.notes:
        parts.append("".join(f"- {note}\n" for note in evaluation.notes))
    return "\n".join(parts)


def provenance(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Facts (with `seconds` and `environment`) as names and values for the report."""
    model, store, machine = facts["model"], facts["store"], facts["environment"]
    versions = ", ".join(f"{name} {value}" for name, value in machine["versions"].items() if value)
    seconds = ", ".join(f"{name} {value:.1f} s" for name, value in facts["seconds"].items())
    adapter = model["adapter"] or {}
    return [
        ("Model", f"{model['name']}, base {model['base']}"),
        ("Base weights", f"sha256 {model['base_sha256']}"),
        ("Adapter", ", ".join(f"{key} {value}" for key, value in adapter.items()) or "none"),
        ("Mask threshold", f"{model['mask_threshold']:+.2f} (logit)"),
        ("Trained on", ", ".join(model["trained_on"]) or "not stated"),
        ("Licence of the model", model["licence"]),
        ("Data", f"{store['name']}, content {store['content_hash']}"),
        ("Licence of the data", store["licence"]),
        ("Split", f"{store['split']}, hash {store['split_hash']}. {store['split_rule']}"),
        ("Seed", str(facts["seed"])),
        ("Time to measure", seconds),
        ("Machine", f"{machine['machine']}, Python {machine['python']}"),
        ("Versions", versions),
        ("Commit", machine["git_commit"] or "unknown"),
        ("When", facts["when"]),
    ]
