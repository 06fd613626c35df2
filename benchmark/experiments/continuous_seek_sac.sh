#!/usr/bin/env bash
# ContinuousSeek with SAC (figures 12 to 15): prints the training commands, one per line.
#   continuous_seek_sac.sh                 the best settings of table 3
#   continuous_seek_sac.sh 5 | 10 | 20     those of d = 5, 10 or 20 alone
#   continuous_seek_sac.sh grid            the whole search
set -u
[[ "$*" =~ ^(5|10|20|grid)?$ ]] ||
    { echo "continuous_seek_sac.sh: unknown argument '$*' (known: 5, 10, 20, grid)." >&2; exit 2; }

train() { # d seed method alpha learning-rate batch-size
    echo "python algos/sac_her_reengage.py --env-id ContinuousSeek$1-v0 --alpha $4" \
        "--learning-rate $5 --batch-size $6 --seed $2 --run-dir runs/continuous_seek_sac_d$1/$3/$2"
}

if [ "$*" = grid ]; then
    for seed in $(seq 10); do
        for d in 5 10 20; do
            for rate in 0.00025 0.0005 0.001 0.0015 0.0025; do
                for batch in 128 256 512 1024 2048 4096 8192; do
                    for alpha in 0 0.1 0.2 0.3; do
                        train $d "$seed" "lr${rate}_batch${batch}_alpha$alpha" $alpha $rate $batch
                    done
                done
            done
        done
    done
    exit
fi

for seed in $(seq 10); do
    while read -r d method alpha rate batch; do
        if [ "${*:-$d}" = "$d" ]; then
            train "$d" "$seed" "$method" "$alpha" "$rate" "$batch"
        fi
    done <<END
5   sac_her   0    0.0025  8192
5   alpha0.1  0.1  0.0025  4096
5   alpha0.2  0.2  0.0025  2048
5   alpha0.3  0.3  0.0025  2048
10  sac_her   0    0.0015  1024
10  alpha0.1  0.1  0.0025  1024
10  alpha0.2  0.2  0.0025  512
10  alpha0.3  0.3  0.0025  512
20  sac_her   0    0.0005  4096
20  alpha0.1  0.1  0.0025  8192
20  alpha0.2  0.2  0.0025  8192
20  alpha0.3  0.3  0.0025  8192
END
done
