#!/usr/bin/env bash
# ContinuousSeek with DDPG (figures 2, 8, 9 and 10): prints the training commands, one a line. By default the best settings of
# table 2, which the scripts know by themselves; `bash benchmark/continuous_seek.sh grid` prints the whole search.
if [ "$1" = grid ]; then
    for seed in $(seq 20); do
        for d in 5 10 20; do
            for lr in 0.00025 0.0005 0.001 0.0015; do
                for batch in 128 256 512; do
                    settings="--env-id ContinuousSeek$d-v0 --learning-rate $lr --batch-size $batch --seed $seed --run-dir runs/continuous_seek_grid/d${d}_lr${lr}_batch${batch}"
                    echo "python algos/ddpg_her.py ${settings}_ddpg_her_$seed"
                    for alpha in 0.1 0.2 0.3; do
                        echo "python algos/ddpg_her_reengage.py --alpha $alpha ${settings}_alpha${alpha}_$seed"
                    done
                done
            done
        done
    done
    exit
fi
for seed in 1 2 3 4 5; do
    for d_alpha in "5 0.1" "10 0.2" "20 0.2"; do
        read -r d alpha <<<"$d_alpha"
        echo "python algos/ddpg_her.py --env-id ContinuousSeek$d-v0 --seed $seed --run-dir runs/continuous_seek/d${d}_ddpg_her_$seed"
        echo "python algos/ddpg_her_reengage.py --env-id ContinuousSeek$d-v0 --alpha $alpha --seed $seed --run-dir runs/continuous_seek/d${d}_reengage_$seed"
    done
done
