#!/usr/bin/env bash
# ContinuousSeek with DDPG (figures 2, 8, 9 and 10): prints the training commands, one a line: the best settings of table 2, which
# the scripts know by themselves. `bash benchmark/continuous_seek.sh 5` prints those of d = 5, `grid` the whole search.
if [ "$1" = grid ]; then
    for seed in $(seq 20); do
        for d in 5 10 20; do
            for rate in 0.00025 0.0005 0.001 0.0015; do
                for batch in 128 256 512; do
                    settings="--env-id ContinuousSeek$d-v0 --learning-rate $rate --batch-size $batch --seed $seed --run-dir runs/continuous_seek_grid/d${d}_lr${rate}_batch${batch}"
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
for seed in $(seq 10); do
    for d in ${1:-5 10 20}; do
        echo "python algos/ddpg_her.py --env-id ContinuousSeek$d-v0 --seed $seed --run-dir runs/continuous_seek/d${d}_ddpg_her_$seed"
        for alpha in 0.1 0.2 0.3; do
            echo "python algos/ddpg_her_reengage.py --env-id ContinuousSeek$d-v0 --alpha $alpha --seed $seed --run-dir runs/continuous_seek/d${d}_alpha${alpha}_$seed"
        done
    done
done
