#!/usr/bin/env bash
# Tasks that are not the paper's, with nothing tuned: --alpha auto beside --alpha 0. Prints the
# training commands, one a line; the shortest come first. FetchPush is in auto_alpha.sh long.
set -u
[ $# -eq 0 ] || { echo "where_it_helps.sh takes no arguments, but got '$*'." >&2; exit 2; }

compare() { # task seeds script flags
    for seed in $(seq "$2"); do
        for method in alpha0 auto; do
            echo "python algos/$3.py ${*:4} --alpha ${method#alpha} --seed $seed" \
                "--run-dir runs/where_it_helps/$1/$method/$seed"
        done
    done
}

ddpg="ddpg_her_reengage --env-id"
parking="benchmark.studies.parking:DifferentiableParking-v0 --max-episode-steps 100"
compare point_maze_medium 3 $ddpg PointMaze_Medium-v3 --eval-frequency 5000 --eval-episodes 50
compare parking 3 $ddpg $parking --eval-frequency 5000 --eval-episodes 20
compare panda_push 2 $ddpg panda_gym:PandaPush-v3 --total-timesteps 200000 --eval-frequency 10000
compare sac_fetch_push 2 sac_her_reengage --env-id FetchPush-v4 --total-timesteps 950000 \
    --num-threads 1
fetch="--total-timesteps 1900000 --num-threads 1"
compare fetch_pick_and_place 2 $ddpg FetchPickAndPlace-v4 $fetch
compare fetch_slide 2 $ddpg FetchSlide-v4 $fetch
block="HandManipulateBlockRotateZ-v1 --total-timesteps 4750000 --num-threads 1"
compare block_rotate_z 2 $ddpg $block
