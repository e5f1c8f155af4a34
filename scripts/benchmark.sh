#!/usr/bin/env bash
# All methods x six public sets x {tight box, box ± 10 %, one point, automatic}, on validation images, and two controls.
# Resumable: run it again. Writes docs/results/benchmark.md, the quick one benchmark-quick.md.
#   scripts/benchmark.sh FOLDER OUT           quick: one network for all sets, shown 1,800 images; half an hour on 2 cores
#   scripts/benchmark.sh FOLDER OUT full      one network per set, every one shown as many images as four epochs of BUSI
#                                             have (2,248), BUSI with 3 seeds; some five hours on 2 cores
# FOLDER has a folder per set (images/, masks/, meta.csv). LANES=2 trains two at once, each on its share of the cores. After
# MINUTES (quick: 50) no further training is begun; what is missing then is listed on the page, and made when the script is
# run again. With a GPU to spare, PX=256 EPOCHS=15 (in another OUT) is a larger full grid; the page states what was run.
set -euo pipefail
export data=$1 out=$2 size=${3:-quick}
case $size in quick | full) ;; *) sed -n '2,9p' "$0" >&2 && exit 2 ;; esac
here=$(cd "$(dirname "$0")" && pwd)
lanes=${LANES:-1}
export deadline=$(($(date +%s) + 60 * ${MINUTES:-$([ "$size" = quick ] && echo 50 || echo 100000)}))
mkdir -p "$out/runs"
trap 'echo "$SECONDS" >>"$out/$size.seconds"' EXIT # a run that broke off took its time, too

declare -A names=([BUSI]=breast_busi [DDTI]=thyroid_ddti [HC18]=fetal_hc18 [nerve]=nerve_usgra [ovary]=ovary_mmotu
  [liver]=ct_msd_liver)
sets=(BUSI DDTI HC18 nerve ovary liver)
methods=(unet adapter nnunet deeplabv3+ unet++ segnet dilated-tree fc-densenet) # the most asked for first
for set in "${sets[@]}"; do
  [ -f "$out/$set.h5" ] ||
    samling prepare "$data/${names[$set]}" --as folder --name "${names[$set]}" -o "$out/$set.h5"
done

learn() { # NAME METHOD SEED SET...: train it or go on with it; nothing is begun after the deadline
  local name=$1 method=$2 seed=$3 options=(training.batch_size=8)
  shift 3
  [ -d "$out/runs/$name" ] || [ "$(date +%s)" -lt "$deadline" ] || return 0
  for set in "$@"; do options+=(--data "$out/$set.h5"); done
  [ "$size" = quick ] && options+=(training.epochs=2 training.images_per_epoch=900) || options+=(training.epochs="${EPOCHS:-4}" seed="$seed")
  [ "$size" = full ] && [ "$1" != BUSI ] && options+=(training.images_per_epoch=562) # as many as BUSI has
  [ "$method" = nnunet ] && options+=(network.width=16) # as costly as the others
  local verb=(train "$method" network.input_size="${PX:-128}")
  [ "$method" = adapter ] && verb=(adapt lg-medseg)
  samling "${verb[@]}" --out "$out/runs/$name" "${options[@]}" 2>&1 | sed -u "s|^|$name: |"
}
export -f learn

for method in "${methods[@]}"; do
  if [ "$size" = quick ]; then
    echo "$method $method 0 ${sets[*]}"
    continue
  fi
  for set in "${sets[@]}"; do
    for seed in 0 $([ "$set" = BUSI ] && echo 1 2); do echo "full-$method-$set-$seed $method $seed $set"; done
  done
done | OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(($(nproc) / lanes > 0 ? $(nproc) / lanes : 1))} \
  xargs -P "$lanes" -I{} bash -euo pipefail -c 'learn {}' ||
  echo 'not every run was finished: the page lists what is missing, another call goes on with it' >&2

python "$here/benchmark_plan.py" "$out" "$size"
for plan in $([ "$size" = full ] && echo full-BUSI) "$size"; do
  samling compare "$out/$plan.yaml" -o "$out/$plan" || true # what is missing is listed there
done
python "$here/benchmark_controls.py" "$out"
echo "$SECONDS" >>"$out/$size.seconds"
trap - EXIT
python "$here/benchmark_table.py" "$out" "$size"
