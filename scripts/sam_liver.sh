#!/usr/bin/env bash
# Every figure of docs/results/sam-liver.md, from the images to the page. Resumable: run it again.
#   scripts/sam_liver.sh FOLDER OUT        about an hour on 2 CPU cores; most important runs first
# FOLDER holds ct_msd_liver, ct_ircadb_slices (images/, masks/, meta.csv) and dicom/3Dircadb1/3Dircadb1.17 (as distributed).
# SPLIT=test measures the test patients instead: once, at the end. EPOCHS and EXTRA (key=value ...) are for trying it out.
set -euo pipefail
data=$1 out=$2
split=${SPLIT:-val} epochs=${EPOCHS:-15} extra=${EXTRA:-}
mkdir -p "$out"
here=$(cd "$(dirname "$0")" && pwd)
patient=$data/dicom/3Dircadb1/3Dircadb1.17

for set in ct_msd_liver ct_ircadb_slices; do
  [ -f "$out/$set.h5" ] || samling prepare "$data/$set" --as folder --name $set -o "$out/$set.h5"
done
for by in block slice; do # one patient: both leak, blocks less
  [ -f "$out/one-$by.h5" ] || samling prepare "$patient" --as 3dircadb --name one-$by --split-by $by -o "$out/one-$by.h5"
done

liver() { # name, key=value ...: liver alone, on images that were windowed before they came here
  local name=$1
  shift
  samling adapt sam-liver --data "$out/ct_msd_liver.h5" --data "$out/ct_ircadb_slices.h5" --out "$out/$name" \
    classes.names=[liver] intensity.window=null training.epochs=$epochs $extra "$@"
  for set in ct_msd_liver ct_ircadb_slices; do measure "$name" "$out/$name" $set --class liver; done
}
network() { # name, recipe, epochs, key=value ...: a network from scratch, without a foundation model
  local name=$1 recipe=$2 rounds=$3
  shift 3
  samling train "$recipe" --data "$out/ct_msd_liver.h5" --data "$out/ct_ircadb_slices.h5" --out "$out/$name" \
    training.epochs="$rounds" "$@"
  for set in ct_msd_liver ct_ircadb_slices; do measure "$name" "$out/$name" $set --class liver; done
}
few() { # number of patients
  samling adapt sam-liver --data "$out/ct_msd_liver.h5" --out "$out/few-$1" groups=$1 training.batch_size=4 \
    classes.names=[liver] intensity.window=null training.epochs=$epochs $extra
  for set in ct_msd_liver ct_ircadb_slices; do measure few-$1 "$out/few-$1" $set --class liver; done
}
tumour() { # name, block|slice, key=value ...: liver and tumour of the one patient
  local name=$1 by=$2
  shift 2
  samling adapt sam-liver --data "$out/one-$by.h5" --out "$out/$name" training.epochs=$epochs $extra "$@"
  measure "$name" "$out/$name" one-$by --class liver
  measure "$name-tumour" "$out/$name" one-$by --class "liver tumour"
}
measure() { # name, model, store, options ...
  local folder=$out/$split/$1--$3 model=$2 store=$out/$3.h5
  shift 3
  [ -f "$folder/report.html" ] || samling evaluate "$model" --data "$store" --split "$split" \
    --prompts box,jitter10,auto --mean patient -o "$folder" "$@"
}
volume() { # name, model, options ...: the one patient as a whole
  local folder=$out/volumes/$1 model=$2
  shift 2
  [ -f "$folder/volumes.csv" ] || samling predict "$model" "$patient/PATIENT_DICOM.zip" -o "$folder" "$@"
}
whole="largest,holes,closing=3"
see="--auto --window abdomen"

for set in ct_msd_liver ct_ircadb_slices; do measure base base $set; done
liver liver
volume liver "$out/liver" $see
network unet unet "$epochs"
network unet-long unet $((4 * epochs)) network.input_size=128
volume liver-clean "$out/liver" $see --clean $whole
tumour tumour-block block
tumour tumour-slice slice
liver no-fusion fusion=false
few 1
few 5
few 20
liver no-clahe intensity.clahe=null
liver second seed=1
volume liver-flips "$out/liver" $see --flips
volume liver-ensemble "$out/liver" $see --with "$out/second" --flips
volume liver-ensemble-clean "$out/liver" $see --with "$out/second" --flips --clean $whole
liver no-anatomy anatomy=false
liver encoder-adapted adapter.kind=lr
tumour tumour-25d block intensity.slices=3
volume box base --window abdomen --box 85,60,330,345 --slice 80
volume box-clean base --window abdomen --box 85,60,330,345 --slice 80 --clean $whole

python "$here/sam_liver_table.py" "$out" "$split" "$patient" > "$out/sam-liver.md"
cat "$out/sam-liver.md"
