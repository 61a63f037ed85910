#!/usr/bin/env bash
# What each part of the default world model is for: trains it without one part at a time, all
# equally long, and evaluates each. Run tools/train_default.sh first; it makes data and latents.
set -euo pipefail
cd "$(dirname "$0")/.."

steps=${STEPS:-300} rollout_steps=${ROLLOUT_STEPS:-100}
features=runs/cache/features latents=runs/cache/latents
short=(--set "phases.0.steps=$steps" --set "phases.1.steps=$rollout_steps" --set validation=null)

train() {
  local name=$1
  shift
  dexwm train models/recipes/default.yaml --set "name=$name" "${short[@]}" "${@/#/--set=}"
}

train ablation_full
# The keypoint head still learns from the encoder's own latents, so that it can be read.
train ablation_no_hand_consistency loss.hand_consistency.weight=0
train ablation_no_object_consistency \
  loss.object_consistency.weight=0 loss.object_consistency.true_latents_weight=0
train ablation_nwm model.action.subset=nwm
train ablation_peva model.action.subset=peva
runs=runs/train
dexwm eval open-loop full=$runs/ablation_full/model \
  no_hand_consistency=$runs/ablation_no_hand_consistency/model \
  no_object_consistency=$runs/ablation_no_object_consistency/model \
  nwm=$runs/ablation_nwm/model peva=$runs/ablation_peva/model \
  --cache "$latents/held_out" --train-cache "$latents/train" --out runs/eval/ablations

# Nothing but the frozen encoder: principal components of its features in place of the adapter.
pca=runs/train/pca.safetensors
dexwm pca --cache "$features/train" --out "$pca"
for split in train held_out; do
  dexwm encode --from-cache "$features/$split" --encoder efficientnet_lite0_pca \
    --option "projection=$pca" --out "$latents/${split}_pca"
done
train ablation_frozen_only encoder.name=efficientnet_lite0_pca \
  "encoder.options.projection=$pca" "data.0.cache=$latents/train_pca"
dexwm eval open-loop frozen_only=$runs/ablation_frozen_only/model \
  --cache "$latents/held_out_pca" --train-cache "$latents/train_pca" --out runs/eval/frozen_only
