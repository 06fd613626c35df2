#!/usr/bin/env bash
# ContinuousSeek with the best settings of table 2, which the scripts know by themselves (figures 2, 9 and 10): prints the
# training commands, one a line. `bash benchmark/continuous_seek.sh | xargs -P 2 -I {} sh -c "{}"` runs two at a time.
for seed in 1 2 3 4 5; do
    for d_alpha in "5 0.1" "10 0.2"; do
        read -r d alpha <<<"$d_alpha"
        echo "python algos/ddpg_her.py --env-id ContinuousSeek$d-v0 --seed $seed --run-dir runs/continuous_seek/d${d}_ddpg_her_$seed"
        echo "python algos/ddpg_her_reengage.py --env-id ContinuousSeek$d-v0 --alpha $alpha --seed $seed --run-dir runs/continuous_seek/d${d}_reengage_$seed"
    done
done
