"""demo: the whole job on made-up ultrasound, step by step; steps already done are skipped."""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from samling.atomic import atomic_path, write_text
from samling.data.phantom import write_phantom_set
from samling.errors import InputError

Report = Callable[[str], None]
DATA, STORE, FOUND = "phantoms", "phantoms.h5", "predictions"
RUN, SCORES, BUNDLE = "run/adapter.json", "evaluation/report.html", "bundle/card.json"
PROTOCOLS = ("box", "jitter10", "point1", "auto")

REAL_FRAMES = {
    "real_lymph_node.dcm": ("jpeg2k", [[62, 146, 318, 284], [318, 146, 520, 272]]),
    "real_lymph_node_small.dcm": ("rgb_color", [[31, 73, 159, 142], [159, 73, 260, 136]]),
}
"""File name -> name in pydicom.examples and hand-drawn boxes (two halves of one lymph node)."""


@dataclass(frozen=True)
class Plan:
    """How large the demonstration is.

    Args:
        pictures: phantom pictures to learn from; two of each patient.
        size_px: (height, width) of a picture.
        unseen: pictures of further patients to predict.
        recipe: of `adapt`. overrides: of the recipe.
    """

    pictures: int = 160
    size_px: tuple[int, int] = (256, 320)
    unseen: int = 6
    recipe: str = "demo"
    overrides: tuple[str, ...] = ()


@dataclass
class Journal:
    """What was done and how long it took; kept in `steps.json`, so that a second run goes on."""

    path: Path
    facts: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path, settings: dict[str, Any]) -> "Journal":
        """Read the journal, or begin one.

        Raises:
            InputError: the folder holds a demonstration of other settings, or the file is damaged.
        """
        if not path.exists():
            return cls(path, {"settings": settings})
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            journal = cls(path, dict(content["facts"]), dict(content["seconds"]))
        except (ValueError, KeyError, TypeError):
            raise InputError(path, "is damaged", f"delete {path.parent} and start again") from None
        if journal.facts.get("settings") != settings:
            remedy = "choose another --out, or delete that folder"
            raise InputError(path.parent, "holds a demonstration of other settings", remedy)
        return journal

    def save(self) -> None:
        """Write steps.json."""
        content = {"facts": self.facts, "seconds": self.seconds}
        write_text(self.path, json.dumps(content, indent=2) + "\n")


def demo(out: Path, plan: Plan | None = None, *, report: Report = print) -> Path:
    """Make phantoms, prepare, adapt, evaluate, export, predict; end with a page about it.

    Args:
        out: folder of the demonstration.
        plan: how large it is; the default takes under ten minutes on two cores.
        report: told what happens, line by line.

    Returns:
        `out`/report.html.

    Raises:
        InputError: `out` holds another demonstration, or a step cannot be done.
    """
    from samling.recipes.demo_report import write_demo_report

    plan, out = plan or Plan(), Path(out)
    settings = {"pictures": plan.pictures, "size_px": list(plan.size_px), "recipe": plan.recipe}
    journal = Journal.open(out / "steps.json", settings)
    steps = _Work(plan, out, report).steps()
    for number, step in enumerate(steps, start=1):
        head = f"[{number}/{len(steps)}] {step.name}"
        if step.name in journal.seconds and step.product.exists():
            report(f"{head}: done before, in {journal.seconds[step.name]:.1f} s")
            continue
        report(f"{head}: {step.intent}")
        start = time.monotonic()
        step.work()
        journal.seconds[step.name] = round(time.monotonic() - start, 1)
        journal.save()
        report(f"{head}: {journal.seconds[step.name]:.1f} s")
    page = write_demo_report(out, journal.seconds)
    report(f"open {page} in a browser")
    return page


@dataclass(frozen=True)
class _Step:
    name: str
    intent: str
    product: Path
    """Must exist for the step to count as done."""
    work: Callable[[], None]


@dataclass
class _Work:
    """The steps, each a method; recipes are imported when their step begins."""

    plan: Plan
    out: Path
    report: Report

    def steps(self) -> list[_Step]:
        out, count = self.out, self.plan.pictures
        return [
            _Step("draw", f"{count} ultrasound phantoms with exact masks", out / DATA, self.draw),
            _Step("prepare", "check, split by patient, one store", out / STORE, self.prepare),
            _Step("adapt", "train; stop it at will, it resumes", out / RUN, self.adapt),
            _Step("evaluate", "measure on patients not trained on", out / SCORES, self.evaluate),
            _Step("export", "a bundle that needs no PyTorch", out / BUNDLE, self.export),
            _Step("predict", "unseen phantoms and real ultrasound", out / FOUND, self.predict),
        ]

    def draw(self) -> None:
        plan = self.plan
        _fill(self.out / DATA, lambda f: write_phantom_set(f, plan.pictures, size=plan.size_px))

    def prepare(self) -> None:
        from samling.recipes.prepare import prepare

        made = prepare(self.out / DATA, self.out / STORE, "folder", name="phantoms")
        self.report(made.text())

    def adapt(self) -> None:
        from samling.recipes.adapt import adapt

        run, store = self.out / "run", self.out / STORE
        adapt(self.plan.recipe, [store], run, overrides=[*self.plan.overrides], report=self.report)

    def evaluate(self) -> None:
        from samling.recipes.evaluate import evaluate

        run, folder = str(self.out / "run"), (self.out / SCORES).parent
        evaluate(run, self.out / STORE, folder, "val", PROTOCOLS, progress=self.report)

    def export(self) -> None:
        from samling.recipes.export import export

        bundle = (self.out / BUNDLE).parent
        shutil.rmtree(bundle, ignore_errors=True)
        export(str(self.out / "run"), bundle)

    def predict(self) -> None:
        from samling.recipes.predict import predict

        bundle, found = str((self.out / BUNDLE).parent), self.out / FOUND
        shutil.rmtree(found, ignore_errors=True)
        unseen, plan = self.out / "unseen", self.plan
        _fill(unseen, lambda f: write_phantom_set(f, plan.unseen, seed=1, size=plan.size_px))
        pictures = sorted((unseen / "images").glob("*.png"))
        self.report(str(predict(bundle, pictures, found / "automatic", auto=True)))
        frames, boxes = _real_frames(self.out / "real")
        self.report(str(predict(bundle, frames, found / "box", prompts_file=boxes)))


def _fill(target: Path, fill: Callable[[Path], object]) -> None:
    """Fill a folder under a temporary name, so that it is there complete or not at all."""
    partial = target.with_name(f".{target.name}.part")
    for leftover in (partial, target):
        shutil.rmtree(leftover, ignore_errors=True)
    fill(partial)
    partial.rename(target)


def _real_frames(folder: Path) -> tuple[list[Path], Path]:
    """Real ultrasound frames that come with pydicom, and a prompt file with their boxes."""
    from pydicom.examples import get_path

    for name, (example, _) in REAL_FRAMES.items():
        with atomic_path(folder / name) as temporary:
            shutil.copyfile(get_path(example), temporary)
    prompts = {name: [{"box": box} for box in boxes] for name, (_, boxes) in REAL_FRAMES.items()}
    write_text(folder / "boxes.json", json.dumps(prompts, indent=2) + "\n")
    return [folder / name for name in REAL_FRAMES], folder / "boxes.json"
