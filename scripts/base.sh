#!/usr/bin/env bash
# What comes with samling, the base and the tiny encoder before its decoder, and the first tables of docs/results/base.md,
# which names the commands of the others, as base-training.md does. Resumable: run it again. One training made anew: remove what was made of it, too
# (half and decoder of boxes, packed of all, tiny).
#   scripts/base.sh FOLDER_OF_SETS OUT [STUDENT]        some four hours on 2 CPU cores; STUDENT: lean, or tiny
# What is measured is what ships: the packed, 16-bit weights. `python scripts/pack_base.py OUT --ship` puts them in place,
# `python scripts/calibrate_base.py OUT/calibration OUT/stores/{...}.h5` (the trained sets) adds how sure it is;
# then the same for the tiny one: `pack_base.py OUT/tiny --ship tiny`, `calibrate_base.py ... --model tiny`.
set -euo pipefail
data=$1 out=$2 student=${3:-lean}
mkdir -p "$out/stores"
here=$(cd "$(dirname "$0")" && pwd)
trained="breast_busi thyroid_ddti thyroid_tg3k fetal_hc18 nerve_usgra ovary_mmotu ct_msd_liver"
unseen="ct_ircadb_slices" # non-commercial: measured, these pictures never trained on
kept="breast_busi thyroid_tg3k nerve_usgra ct_msd_liver" # of the run that leaves whole sets out
left_out="thyroid_ddti fetal_hc18 ovary_mmotu"

stores_of() { for set in "$@"; do printf -- '--data %s/stores/%s.h5 ' "$out" "$set"; done; }

samling fetch litemedsam
for set in $trained $unseen; do
  [ -f "$out/stores/$set.h5" ] || samling prepare "$data/$set" --as folder -o "$out/stores/$set.h5"
done

make_base() { # folder, sets ...: the base of these sets, FOLDER/packed
  local into=$1 stores
  shift
  stores=$(stores_of "$@")
  # shellcheck disable=SC2086
  {
    samling distill base $stores --teacher litemedsam --out "$into/base" student="$student"
    [ -f "$into/start/parts.json" ] || python "$here/pack_base.py" "$into" start
    samling adapt whole $stores --base "$into/start" --out "$into/boxes" \
      training.prompts='[box]' training.epochs=20 training.augment.zoom_chance=0
    [ -f "$into/half/parts.json" ] || python "$here/pack_base.py" "$into" half start boxes
    samling adapt whole $stores --base "$into/half" --out "$into/decoder" train_encoder=false \
      training.prompts='[box,box,points,clicks,automatic]' training.epochs=8 training.augment.zoom_chance=0.1
    [ -f "$into/packed/parts.json" ] || python "$here/pack_base.py" "$into" packed start half decoder decoder
  }
}
# shellcheck disable=SC2086
make_base "$out" $trained
mkdir -p "$out/left-out"
ln -sfn ../stores "$out/left-out/stores"
# shellcheck disable=SC2086
make_base "$out/left-out" $kept

tiny="$out/tiny" # the same sets again, for the decoder of what was just made; not before a tiny base with its own
if [ "$student" = lean ]; then
  mkdir -p "$tiny/val"
  ln -sfn ../stores "$tiny/stores"
  # shellcheck disable=SC2046,SC2086
  samling distill tiny $(stores_of $trained) --teacher "$out/packed" --out "$tiny/base"
  [ -f "$tiny/packed/parts.json" ] || python "$here/pack_base.py" "$tiny" packed
fi

measured() { # folder, model: whether its results are there, and of these weights
  [ -f "$1/report.html" ] || return 1
  [ ! -f "$2/base.json" ] || grep -qF "$(grep '"base_sha256"' "$2/base.json" | tr -d ' ,')" <(tr -d ' ,' <"$1/results.json")
}
measure() { # model, folder of results, protocols, sets ...
  local model=$1 results=$2 protocols=$3
  shift 3
  for set in "$@"; do
    measured "$results/$set" "$model" || samling evaluate "$model" --data "$out/stores/$set.h5" \
      --split val --prompts "$protocols" -o "$results/$set"
  done
}
# shellcheck disable=SC2086
{
  measure "$out/packed" "$out/val/base" box,jitter10,point1,auto $trained $unseen
  measure litemedsam "$out/val/litemedsam" box,jitter10 $trained $unseen
  measure "$out/left-out/packed" "$out/val/left-out" box,jitter10,point1,auto $left_out
}
python "$here/base_table.py" "$out"
if [ -d "$tiny" ]; then
  # shellcheck disable=SC2086
  measure "$tiny/packed" "$tiny/val/base" box,jitter10,point1,auto,boxclicks3 $trained $unseen
  ln -sfn ../../val/litemedsam "$tiny/val/litemedsam"
  python "$here/base_table.py" "$tiny"
fi
