#!/usr/bin/env bash
# ContinuousSeek with SAC (figures 12 to 15): prints the training commands, one a line: the best settings, table 3.
# `bash benchmark/continuous_seek_sac.sh 5` prints those of d = 5, `grid` the whole search.
train() { # d alpha learning-rate batch-size seed folder
    echo "python algos/sac_her_reengage.py --env-id ContinuousSeek$1-v0 --alpha $2 --learning-rate $3 --batch-size $4 --seed $5 --run-dir runs/$6"
}
if [ "$1" = grid ]; then
    for seed in $(seq 10); do
        for d in 5 10 20; do
            for rate in 0.00025 0.0005 0.001 0.0015 0.0025; do
                for batch in 128 256 512 1024 2048 4096 8192; do
                    for alpha in 0 0.1 0.2 0.3; do
                        train $d $alpha $rate $batch "$seed" "continuous_seek_sac_grid/d${d}_alpha${alpha}_lr${rate}_batch${batch}_$seed"
                    done
                done
            done
        done
    done
    exit
fi
for seed in $(seq 10); do
    while read -r d alpha rate batch; do
        if [ "${1:-$d}" = "$d" ]; then
            train "$d" "$alpha" "$rate" "$batch" "$seed" "continuous_seek_sac/d${d}_alpha${alpha}_$seed"
        fi
    done <<END
5   0    0.0025  8192
5   0.1  0.0025  4096
5   0.2  0.0025  2048
5   0.3  0.0025  2048
10  0    0.0015  1024
10  0.1  0.0025  1024
10  0.2  0.0025  512
10  0.3  0.0025  512
20  0    0.0005  4096
20  0.1  0.0025  8192
20  0.2  0.0025  8192
20  0.3  0.0025  8192
END
done
