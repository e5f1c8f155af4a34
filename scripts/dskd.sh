#!/usr/bin/env bash
# UniUltra's distillation (DSKD): an adapted run of ours -> a mini Hiera; tables into docs/results/dskd.md. Resumable: run it again.
#   scripts/dskd.sh OUT_OF_UNIULTRA OUT       about 25 minutes on 2 idle CPU cores for one student
#   FORMS="outputs parts none" scripts/dskd.sh ...   both forms of the loss, and the student without a teacher: an hour
#   EPOCHS=100 TUNING=50 scripts/dskd.sh ...  about the paper's number of epochs (some four hours)
# OUT_OF_UNIULTRA is the OUT of scripts/uniultra.sh: its stores, and runs/universal as the teacher.
set -euo pipefail
given=$(realpath "$1") epochs=${EPOCHS:-8} tuning=${TUNING:-3} forms=${FORMS:-outputs}
mkdir -p "$2/plans"
out=$(realpath "$2")
here=$(cd "$(dirname "$0")" && pwd)
sets="breast_busi thyroid_ddti fetal_hc18 nerve_usgra ovary_mmotu"
teacher="$given/runs/universal"
stores=()
for set in $sets; do stores+=(--data "$given/stores/$set.h5"); done

measure() {
  local set form
  for set in $sets; do
    {
      echo "{name: $set, stores: {$set: $given/stores/$set.h5}, prompts: [box, jitter10, point1],"
      echo " reference: teacher, baselines: [ellipse in the box], methods: {teacher: $teacher,"
      for form in outputs parts none; do
        [ ! -f "$out/$form/base.json" ] || echo "  $form: $out/$form,"
      done
      echo " }}"
    } >"$out/plans/$set.yaml"
    samling compare "$out/plans/$set.yaml" -o "$out/compare/$set"
  done
  python "$here/dskd_table.py" "$out" "$teacher"
}

for form in $forms; do
  case $form in
    none) stage=(embedding.epochs=0) ;;
    *) stage=("embedding.epochs=$epochs" "embedding.supervise=$form") ;;
  esac
  [ -f "$out/$form/base.json" ] || samling distill dskd "${stores[@]}" --teacher "$teacher" \
    --out "$out/$form" "${stage[@]}" decoder.epochs="$tuning" "decoder.prompts=[box,points]"
  measure
done
