#!/usr/bin/env bash
# ContinuousSeek with SAC at the best settings of table 3 (figure 12): prints the training commands, one a line.
# `bash benchmark/continuous_seek_sac.sh | xargs -P 2 -I {} sh -c "{}"` runs two at a time.
script="python algos/sac_her_reengage.py"
for seed in 1 2 3 4 5; do
    echo "$script --env-id ContinuousSeek5-v0 --alpha 0 --batch-size 8192 --seed $seed --run-dir runs/continuous_seek_sac/d5_sac_her_$seed"
    echo "$script --env-id ContinuousSeek5-v0 --alpha 0.3 --seed $seed --run-dir runs/continuous_seek_sac/d5_reengage_$seed"
    echo "$script --env-id ContinuousSeek10-v0 --alpha 0 --learning-rate 0.0015 --seed $seed --run-dir runs/continuous_seek_sac/d10_sac_her_$seed"
    echo "$script --env-id ContinuousSeek10-v0 --alpha 0.1 --seed $seed --run-dir runs/continuous_seek_sac/d10_reengage_$seed"
done
