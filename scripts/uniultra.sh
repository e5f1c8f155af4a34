#!/usr/bin/env bash
# Every figure of docs/results/uniultra.md, from the images to the page. Resumable run by run: run it again.
#   scripts/uniultra.sh FOLDER_OF_SETS OUT        about an hour on 2 idle CPU cores, 17 runs, the most telling first
#   EPOCHS=50 IMAGES=1514 scripts/uniultra.sh ... the paper's number of epochs (more than a day)
#   BASE=runs/mine scripts/uniultra.sh ...        another base, e.g. one that has not seen these sets
# FOLDER_OF_SETS has a folder, or a prepared store NAME.h5, for each of the sets below.
set -euo pipefail
data=$(realpath "$1") epochs=${EPOCHS:-3} images=${IMAGES:-480} base=${BASE:-base}
mkdir -p "$2"
out=$(realpath "$2")
mkdir -p "$out/stores" "$out/runs" "$out/plans"
[ ! -d "$base" ] || base=$(realpath "$base")
here=$(cd "$(dirname "$0")" && pwd)
sets="breast_busi thyroid_ddti fetal_hc18 nerve_usgra ovary_mmotu"

for set in $sets; do
  if [ -f "$data/$set.h5" ]; then ln -sf "$data/$set.h5" "$out/stores/$set.h5"; fi
  [ -f "$out/stores/$set.h5" ] || samling prepare "$data/$set" --as folder -o "$out/stores/$set.h5"
done

adapt() { # name, sets, key=value ...: the same number of images for every run
  local name=$1 stores=() set
  for set in $2; do stores+=(--data "$out/stores/$set.h5"); done
  shift 2
  [ -f "$out/runs/$name/curves.png" ] || samling adapt uniultra-small "${stores[@]}" --base "$base" \
    --out "$out/runs/$name" training.epochs="$epochs" training.images_per_epoch="$images" \
    "training.prompts=[box,points]" "$@"
}
measure() { # whatever is trained so far, on the validation images of every set; then the page
  local set run
  for set in $sets; do
    {
      echo "{name: $set, stores: {$set: $out/stores/$set.h5}, prompts: [box, jitter10, point1],"
      echo " reference: base, baselines: [ellipse in the box], methods: {base: $base,"
      for run in universal "organ/$set" "without/$set" decoder full lr serial lora med2d; do
        [ ! -f "$out/runs/$run/curves.png" ] || echo "  ${run%%/*}: $out/runs/$run,"
      done
      echo " }}"
    } >"$out/plans/$set.yaml"
    samling compare "$out/plans/$set.yaml" -o "$out/compare/$set"
  done
  python "$here/uniultra_table.py" "$out"
}

adapt universal "$sets" # CH-Adapters and the mask decoder: the recipe as it is
measure
mkdir -p "$out/runs/organ" "$out/runs/without"
for set in $sets; do adapt "organ/$set" "$set"; done
measure
for set in $sets; do adapt "without/$set" "${sets/$set/}"; done
measure
# The same base, data and budget, the mask decoder tuned in all of them; the first one has no adapter at all
adapt decoder "$sets" adapter.kind=none
adapt lora "$sets" adapter.kind=lora "adapter.sites=[block,mlp]" adapter.rank=8
adapt lr "$sets" adapter.kind=lr adapter.reduction=8
measure
adapt serial "$sets" adapter.kind=serial adapter.reduction=8
adapt full "$sets" adapter.kind=none train_encoder=true training.optimiser.rate=1.0e-4
adapt med2d "$sets" adapter.kind=med2d
measure
