#!/usr/bin/env bash
# Makes the default world model from nothing, in runs/train/default_decoder/model. What is done is
# not done again, but for the adapter's latents, which take a minute; what was stopped goes on.
# QUICK=1: a two-hundredth of the data and two steps of each training, to see that all of it runs;
# the tests do, in a folder of their own.
set -euo pipefail
cd "$(dirname "$0")/.."

data=runs/data features=runs/cache/features latents=runs/cache/latents
adapter=runs/train/default_adapter/model/adapter.safetensors
divisor=1 short=()
if [[ ${QUICK:-} == 1 ]]; then
  divisor=200
  short=(--set "phases=[{steps: 2, batch_size: 4, learning_rate: 1.0e-3, final_learning_rate: 0.0}]")
fi

generate() { # FOLDER EPISODES ...
  python -m dexwm_sim.generate --output "$data/$1" --episodes "$(($2 / divisor))" "${@:3}"
}
extract() {
  dexwm encode --data "$data/$1" --split "$2" --encoder efficientnet_lite0 --pictures 112x192 \
    --out "$features/$3" --processes "$(nproc)"
}
train() { # RECIPE
  dexwm train "models/recipes/$1.yaml" "${short[@]}"
}

# What the predictor learns from, and what all is measured on.
generate exploration 1000
extract exploration train train
extract exploration held_out held_out
# As many other scenes as can be had, for the adapter: another one in each picture, and short episodes.
generate stills 700 --shares stills=1 --largest-count 5
extract stills all stills
generate glimpses 600 --first-seed 1000 --frames 20 --fps 2.5
extract glimpses all glimpses

# Scenes for the predictor, in short episodes, as what moves how differs from scene to scene.
generate scenes 3000 --first-seed 2000 --frames 12 --fps 2.5 --lead 5 \
  --shares noisy_expert=0.6,random_targets=0.35,hand_only=0.05

train default_adapter
for split in train held_out; do
  dexwm encode --from-cache "$features/$split" --encoder efficientnet_lite0_adapter \
    --option "projection=$adapter" --out "$latents/$split"
done
dexwm encode --data "$data/scenes" --split all --encoder efficientnet_lite0_adapter \
  --option "projection=$adapter" --out "$latents/scenes" --processes "$(nproc)"
train default
train default_decoder
