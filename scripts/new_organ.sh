#!/usr/bin/env bash
# Does an adapter help on an organ that the base has never seen? Tables into docs/results/new-organ.md. Resumable: run it again.
#   scripts/new_organ.sh BASE STORES OUT       some 40 minutes on 2 idle CPU cores
# BASE: left-out/packed of scripts/base.sh, which has not seen these sets. STORES: folder of thyroid_ddti.h5 and fetal_hc18.h5.
set -euo pipefail
base=$(realpath "$1") stores=$(realpath "$2") epochs=${EPOCHS:-5}
mkdir -p "$3/plans"
out=$(realpath "$3")
here=$(cd "$(dirname "$0")" && pwd)
sets="thyroid_ddti fetal_hc18"

adapt() { # name, recipe, key=value ...
  local name=$1 recipe=$2 set
  shift 2
  for set in $sets; do
    [ -f "$out/$name/$set/curves.png" ] || samling adapt "$recipe" --data "$stores/$set.h5" --base "$base" \
      --out "$out/$name/$set" training.epochs="$epochs" "$@"
  done
}
adapt lr lg-medseg
adapt full lg-medseg adapter.kind=none train_encoder=true train_decoder=true training.optimiser.rate=1.0e-4
adapt decoder lg-medseg adapter.kind=none train_decoder=true
adapt serial serial
adapt ch uniultra-small
adapt lora lora

for set in $sets; do
  {
    echo "{name: $set, stores: {$set: $stores/$set.h5}, prompts: [box, jitter10, point1, auto], reference: not adapted,"
    echo " baselines: [ellipse in the box], methods: {not adapted: $base,"
    for name in decoder lr serial ch lora full; do
      [ ! -f "$out/$name/$set/curves.png" ] || echo "  $name: $out/$name/$set,"
    done
    echo "  the shipped base: base}}"
  } >"$out/plans/$set.yaml"
  samling compare "$out/plans/$set.yaml" -o "$out/compare/$set"
done
python "$here/new_organ_table.py" "$out"
