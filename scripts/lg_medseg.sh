#!/usr/bin/env bash
# Every figure of docs/results/lg-medseg.md, from the images to the table. Resumable: run it again.
#   scripts/lg_medseg.sh FOLDER_OF_BUSI OUT        about 5 hours on 2 CPU cores
set -euo pipefail
data=$1 out=$2
mkdir -p "$out"
here=$(cd "$(dirname "$0")" && pwd)

samling fetch litemedsam
[ -f "$out/busi.h5" ] || samling prepare "$data" --as folder -o "$out/busi.h5"
samling distill light --data "$out/busi.h5" --teacher litemedsam --out "$out/light"

adapt() { # name, recipe, key=value ...
  local name=$1 recipe=$2
  shift 2
  samling adapt "$recipe" --data "$out/busi.h5" --base "$out/light" --out "$out/$name" "$@"
}
adapt k16 lg-medseg
adapt zoom lg-medseg-zoom
adapt serial serial
adapt k4 lg-medseg adapter.rank=4
adapt k8 lg-medseg adapter.rank=8
adapt k32 lg-medseg adapter.rank=32
adapt focal lg-medseg training.loss.dice=0 training.loss.mask_iou=0 training.loss.boundary=0
adapt dice lg-medseg training.loss.mask_iou=0 training.loss.boundary=0
adapt iou lg-medseg training.loss.boundary=0

measure() { # name, model
  [ -f "$out/test/$1/report.html" ] || samling evaluate "$2" --data "$out/busi.h5" --split test \
    --prompts box,jitter10,point1,auto -o "$out/test/$1"
}
measure litemedsam litemedsam
measure light "$out/light"
for name in k16 zoom serial k4 k8 k32 focal dice iou; do measure "$name" "$out/$name"; done

python "$here/lg_medseg_table.py" "$out"
