#!/usr/bin/env bash
# Four methods, three seeds, one after the other; then results.csv and figure.png.
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS=1
out=${1:-outputs/miniature}
for seed in 0 1 2; do
    fit() {
        .venv/bin/luffy-pl fit --config conf/quickstart.yaml --seed_everything "$seed" \
            --run_dir "$out/$1_$seed" --overwrite true "${@:2}"
    }
    fit luffy
    fit no_shaping --config conf/ablation/no_shaping.yaml
    fit clip_off_policy --config conf/ablation/clip_off_policy.yaml
    fit on_policy --config conf/recipe/on_policy.yaml
done
.venv/bin/python experiments/miniature/collect.py "$out"
