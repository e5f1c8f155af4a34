#!/usr/bin/env bash
# All methods x six public sets x {tight box, box ± 10 %, one point, automatic}, on validation images, and two controls.
# Resumable: run it again. Writes docs/results/benchmark.md.
#   scripts/benchmark.sh FOLDER OUT           quick: one network for all sets, 128 px, 2 epochs; below an hour on 2 cores
#   scripts/benchmark.sh FOLDER OUT seeds     BUSI alone with three seeds, 128 px, 4 epochs; some two hours
#   scripts/benchmark.sh FOLDER OUT full      one network per set, 256 px, 15 epochs; BUSI with 3 seeds; nights, or a GPU
# FOLDER has a folder per set (images/, masks/, meta.csv). After MINUTES (quick: 50) no further training is begun; what
# is missing then is listed on the page, and made when the script is run again.
set -euo pipefail
data=$1 out=$2 size=${3:-quick}
here=$(cd "$(dirname "$0")" && pwd)
minutes=${MINUTES:-$([ "$size" = quick ] && echo 50 || echo 100000)}
mkdir -p "$out/runs"
trap 'echo "$SECONDS" >>"$out/$size.seconds"' EXIT # a run that broke off took its time, too

declare -A names=([BUSI]=breast_busi [DDTI]=thyroid_ddti [HC18]=fetal_hc18 [nerve]=nerve_usgra [ovary]=ovary_mmotu
  [liver]=ct_msd_liver)
sets=(BUSI DDTI HC18 nerve ovary liver)
networks=(unet nnunet deeplabv3+ unet++ segnet dilated-tree fc-densenet) # the most asked for first
stores=()
for set in "${sets[@]}"; do
  [ -f "$out/$set.h5" ] ||
    samling prepare "$data/${names[$set]}" --as folder --name "${names[$set]}" -o "$out/$set.h5"
  stores+=(--data "$out/$set.h5")
done

begun() { [ -d "$1" ] || [ "$SECONDS" -lt $((60 * minutes)) ]; } # resume what was begun; begin while there is time

if [ "$size" = quick ]; then
  budget=(training.epochs=2 training.batch_size=8)
  begun "$out/runs/adapter" && samling adapt lg-medseg "${stores[@]}" --out "$out/runs/adapter" "${budget[@]}"
  for kind in "${networks[@]}"; do
    wide=()
    [ "$kind" = nnunet ] && wide=(network.width=16) # as costly as the others
    begun "$out/runs/$kind" && samling train "$kind" "${stores[@]}" --out "$out/runs/$kind" \
      network.input_size=128 "${wide[@]}" "${budget[@]}"
  done
  python "$here/benchmark_plan.py" "$out" quick
  samling compare "$out/quick.yaml" -o "$out/quick" || true # what is missing is listed there
elif [ "$size" = seeds ]; then
  budget=(training.epochs=4 training.batch_size=8)
  for seed in 0 1 2; do
    begun "$out/runs/seeds-adapter-$seed" && samling adapt lg-medseg --data "$out/BUSI.h5" \
      --out "$out/runs/seeds-adapter-$seed" "${budget[@]}" seed="$seed"
  done
  for kind in "${networks[@]}"; do
    wide=()
    [ "$kind" = nnunet ] && wide=(network.width=16)
    for seed in 0 1 2; do
      begun "$out/runs/seeds-$kind-$seed" && samling train "$kind" --data "$out/BUSI.h5" \
        --out "$out/runs/seeds-$kind-$seed" network.input_size=128 "${wide[@]}" "${budget[@]}" seed="$seed"
    done
  done
  python "$here/benchmark_plan.py" "$out" seeds
  samling compare "$out/seeds.yaml" -o "$out/seeds" || true
else
  for set in "${sets[@]}"; do
    seeds=(0)
    [ "$set" = BUSI ] && seeds=(0 1 2)
    for seed in "${seeds[@]}"; do
      begun "$out/runs/adapter-$set-$seed" && samling adapt lg-medseg --data "$out/$set.h5" \
        --out "$out/runs/adapter-$set-$seed" seed="$seed"
      for kind in "${networks[@]}"; do
        begun "$out/runs/$kind-$set-$seed" && samling train "$kind" --data "$out/$set.h5" \
          --out "$out/runs/$kind-$set-$seed" seed="$seed"
      done
    done
  done
  python "$here/benchmark_plan.py" "$out" full
  samling compare "$out/full-BUSI.yaml" -o "$out/full-BUSI" || true
  samling compare "$out/full.yaml" -o "$out/full" || true
fi

python "$here/benchmark_controls.py" "$out"
echo "$SECONDS" >>"$out/$size.seconds"
trap - EXIT
python "$here/benchmark_table.py" "$out"
