#!/usr/bin/env bash
# What each part of the default world model is for: trains it without one part at a time, and one
# size larger, all equally long, shorter than the default and on the scenes of its longer episodes,
# and evaluates each (paper, section 4.4). Needs the latents of tools/train_default.sh. More arguments go to every
# training: --set engine.threads=1
set -euo pipefail
cd "$(dirname "$0")/.."

features=runs/cache/features latents=runs/cache/latents runs=runs/train
short=(
  --set "data=[{kind: recording, cache: $latents/train, in_memory: true}]"
  --set phases.0.steps=250 --set phases.1.steps=50 --set validation=null "$@"
)

train() {
  local name=$1
  shift
  dexwm train models/recipes/default.yaml --set "name=$name" "${short[@]}" "${@/#/--set=}"
}

evaluate() {
  local suffix=$1 out=$2
  shift 2
  dexwm eval open-loop "$@" --cache "$latents/held_out$suffix" \
    --train-cache "$latents/train$suffix" --out "runs/eval/$out"
}

train ablation_full
# The head still learns from latents of true frames, so that planners can read keypoints.
train ablation_no_hand_consistency loss.hand_consistency.weight=0
no_maps=(model.action.pixels=false model.predictor.hand_maps=null)
train ablation_no_hand_maps "${no_maps[@]}"
train ablation_nwm model.action.subset=nwm "${no_maps[@]}"
train ablation_peva model.action.subset=peva
train ablation_mini model.predictor.size=mini
evaluate '' ablations full=$runs/ablation_full/model \
  no_hand_consistency=$runs/ablation_no_hand_consistency/model \
  no_hand_maps=$runs/ablation_no_hand_maps/model nwm=$runs/ablation_nwm/model peva=$runs/ablation_peva/model \
  mini=$runs/ablation_mini/model

# Nothing but the frozen encoder: principal components of its features in place of the adapter.
pca=$runs/pca.safetensors
dexwm pca --cache "$features/train" --out "$pca"
for split in train held_out; do
  dexwm encode --from-cache "$features/$split" --encoder efficientnet_lite0_pca \
    --option "projection=$pca" --out "$latents/${split}_pca"
done
train ablation_frozen_only encoder.name=efficientnet_lite0_pca \
  "encoder.options.projection=$pca" "data.0.cache=$latents/train_pca"
evaluate _pca ablation_frozen_only frozen_only=$runs/ablation_frozen_only/model
