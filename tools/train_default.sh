#!/usr/bin/env bash
# Makes the default world model from nothing, in runs/train/default. What is done is not done
# again, but for the adapter's latents, which take a minute; what was stopped goes on.
set -euo pipefail
cd "$(dirname "$0")/.."

data=runs/data/exploration features=runs/cache/features latents=runs/cache/latents
adapter=runs/train/default_adapter/model/adapter.safetensors

python -m dexwm_sim.generate --episodes 750 --quality mixed --output "$data"
for split in train held_out; do
  dexwm encode --data "$data" --split "$split" --encoder efficientnet_lite0 --pictures 112x192 \
    --out "$features/$split" --processes "$(nproc)"
done
dexwm train models/recipes/default_adapter.yaml
for split in train held_out; do
  dexwm encode --from-cache "$features/$split" --encoder efficientnet_lite0_adapter \
    --option "projection=$adapter" --out "$latents/$split"
done
dexwm train models/recipes/default.yaml
dexwm train models/recipes/default_decoder.yaml
