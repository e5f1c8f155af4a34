#!/usr/bin/env bash
# What distillation, warm start, skips and size are worth: docs/results/trade-off.md. Resumable: run it again.
#   scripts/trade_off.sh FOLDER_OF_BUSI OUT        about an hour on 2 CPU cores
# One data set and a small, equal budget for all: differences count, not the level. One point alone: name it as third argument.
set -euo pipefail
data=$1 out=$2 only=${3:-}
mkdir -p "$out"
busi="$out/busi.h5"

samling fetch litemedsam
[ -f "$busi" ] || samling prepare "$data" --as folder --name breast_busi -o "$busi"

point() { # name, key=value ...
  local name=$1
  shift
  [ -z "$only" ] || [ "$only" = "$name" ] || return 0
  samling distill base --data "$busi" --teacher litemedsam --out "$out/$name" \
    embedding.epochs=2 decoder.epochs=3 "$@"
}
point lean
point no-distillation embedding.epochs=0
point tiny student=tiny
point no-warm-start warm_start=false
point neither embedding.epochs=0 warm_start=false
point bare student=lean-bare
point encoder-frozen tunes=decoder
point mask-term embedding.masks=0.5
point mse-only embedding.cosine=0
point deep-supervision embedding.levels=1
point fine student=fine

plan="$out/plan.yaml"
{
  echo "name: trade-off"
  echo "stores: {BUSI: $busi}"
  echo "methods:"
  echo "  LiteMedSAM: litemedsam"
  echo "  shipped base: base"
  echo "  base-tiny: base-tiny"
  for run in "$out"/*/base.json; do
    folder=$(dirname "$run")
    echo "  $(basename "$folder"): $folder"
  done
  echo "baselines: [ellipse in the box]"
  echo "prompts: [box, jitter10, point1, auto]"
} >"$plan"
samling compare "$plan" -o "$out/compare"
