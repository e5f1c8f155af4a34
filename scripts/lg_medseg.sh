#!/usr/bin/env bash
# Every figure of docs/results/lg-medseg.md, from the images to the table. Resumable: run it again.
#   scripts/lg_medseg.sh FOLDER_OF_BUSI OUT        about 2 hours on 2 CPU cores
# Starts from the base that comes with samling; scripts/base.sh makes that one.
set -euo pipefail
data=$1 out=$2
mkdir -p "$out"
here=$(cd "$(dirname "$0")" && pwd)

samling fetch litemedsam
[ -f "$out/busi.h5" ] || samling prepare "$data" --as folder --name breast_busi -o "$out/busi.h5"

adapt() { # name, recipe, key=value ...
  local name=$1 recipe=$2
  shift 2
  samling adapt "$recipe" --data "$out/busi.h5" --out "$out/$name" "$@"
}
short="training.epochs=3"
boxes="$short training.prompts=[box]" # the losses one by one: boxes alone
adapt k16 lg-medseg
for k in 4 8 16 32; do adapt "short-k$k" lg-medseg adapter.rank=$k $short; done
adapt short-serial serial $short
adapt focal lg-medseg $boxes training.loss.dice=0 training.loss.mask_iou=0 training.loss.boundary=0
adapt dice lg-medseg $boxes training.loss.mask_iou=0 training.loss.boundary=0
adapt iou lg-medseg $boxes training.loss.boundary=0
adapt boundary lg-medseg $boxes

measure() { # name, model
  [ -f "$out/test/$1/report.html" ] || samling evaluate "$2" --data "$out/busi.h5" --split test \
    --prompts box,jitter10,point1,auto -o "$out/test/$1"
}
measure litemedsam litemedsam
measure base base
for name in k16 short-serial short-k4 short-k8 short-k16 short-k32 focal dice iou boundary; do
  measure "$name" "$out/$name"
done

python "$here/lg_medseg_table.py" "$out"
