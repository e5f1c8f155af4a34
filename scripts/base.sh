#!/usr/bin/env bash
# The base that comes with samling and every figure of docs/results/base.md. Resumable: run it again.
#   scripts/base.sh FOLDER_OF_SETS OUT        about an hour and a half on 2 CPU cores
set -euo pipefail
data=$1 out=$2
mkdir -p "$out/stores"
here=$(cd "$(dirname "$0")" && pwd)
trained="breast_busi thyroid_ddti thyroid_tg3k fetal_hc18 nerve_usgra ovary_mmotu ct_msd_liver"
unseen="ct_ircadb_slices" # non-commercial: measured, never trained on

samling fetch litemedsam
for set in $trained $unseen; do
  [ -f "$out/stores/$set.h5" ] || samling prepare "$data/$set" --as folder -o "$out/stores/$set.h5"
done
stores=()
for set in $trained; do stores+=(--data "$out/stores/$set.h5"); done
samling distill base "${stores[@]}" --teacher litemedsam --out "$out/base"

measure() { # model, name, protocols
  for set in $trained $unseen; do
    [ -f "$out/val/$2/$set/report.html" ] || samling evaluate "$1" --data "$out/stores/$set.h5" \
      --split val --prompts "$3" -o "$out/val/$2/$set"
  done
}
measure "$out/base" base box,jitter10,point1,auto
measure litemedsam litemedsam box,jitter10

python "$here/base_table.py" "$out"
