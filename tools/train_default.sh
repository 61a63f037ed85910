#!/usr/bin/env bash
# Makes the default world model from nothing, in runs/train/default. What is done is not done
# again, but for the adapter's latents, which take a minute; what was stopped goes on.
set -euo pipefail
cd "$(dirname "$0")/.."

data=runs/data features=runs/cache/features latents=runs/cache/latents
adapter=runs/train/default_adapter/model/adapter.safetensors

generate() {
  python -m dexwm_sim.generate --output "$data/$1" "${@:2}"
}
extract() {
  dexwm encode --data "$data/$1" --split "$2" --encoder efficientnet_lite0 --pictures 112x192 \
    --out "$features/$3" --processes "$(nproc)"
}

# What the predictor learns from, and what all is measured on.
generate exploration --episodes 1000 --frames 40
extract exploration train train
extract exploration held_out held_out
# As many other scenes as can be had, for the adapter: another one in each picture, and short episodes.
generate stills --shares stills=1 --episodes 700 --frames 40 --largest-count 5
extract stills all stills
generate glimpses --first-seed 1000 --episodes 600 --frames 20 --fps 2.5
extract glimpses all glimpses

# Scenes for the predictor, in short episodes, as what moves how differs from scene to scene.
generate scenes --first-seed 2000 --episodes 3000 --frames 12 --fps 2.5 --lead 5 \
  --shares noisy_expert=0.6,random_targets=0.35,hand_only=0.05

dexwm train models/recipes/default_adapter.yaml
for split in train held_out; do
  dexwm encode --from-cache "$features/$split" --encoder efficientnet_lite0_adapter \
    --option "projection=$adapter" --out "$latents/$split"
done
dexwm encode --data "$data/scenes" --split all --encoder efficientnet_lite0_adapter \
  --option "projection=$adapter" --out "$latents/scenes" --processes "$(nproc)"
dexwm train models/recipes/default.yaml
dexwm train models/recipes/default_decoder.yaml
