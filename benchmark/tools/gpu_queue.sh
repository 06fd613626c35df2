#!/usr/bin/env bash
# What only a GPU makes affordable, most valuable first: prints the commands, one a line, with the
# minutes that one H100 and 16 cores should need. They are estimates: 85,000 updates a second at
# batch 256 by a prototype of many runs at once, 0.43 ms a HandReach step on a core, and what the
# plain scripts needed on an H200.
#   python benchmark/tools/run.py benchmark/tools/gpu_queue.sh --jobs 1
# works them off for an hour; called again, also on another machine with the same runs/, it goes on.
# It needs no network, and nothing but requirements.txt.
set -u
if [ $# -gt 0 ]; then
    echo "gpu_queue.sh: '$*' is not one of its words: it has none." >&2
    exit 2
fi
many="python algos/ddpg_her_reengage_many.py --matmul-precision high"

grid() { # d batch-size: a figure's grid at one batch size, 320 runs
    echo "$many --env-id ContinuousSeek$1-v0 --seeds 20 --alpha 0 0.1 0.2 0.3" \
        "--learning-rate 0.00025 0.0005 0.001 0.0015 --batch-size $2" \
        "--run-dir runs/continuous_seek_d$1_batch$2_grid"
}
best() { # learning-rate batch-size alphas: figure 8's best settings, 20 seeds
    echo "$many --env-id ContinuousSeek20-v0 --seeds 20 --learning-rate $1 --batch-size $2" \
        "--alpha ${*:3} --run-dir runs/continuous_seek_d20_batch$2_best"
}
minutes() { # minutes command: the command with its minutes behind it
    echo "${*:2}  # $1 minutes"
}
plain() { # minutes-a-run script words: runs of the plain scripts
    bash "$(dirname "$0")/../experiments/$2.sh" "${@:3}" | sed "s/\$/  # $1 minutes/"
}

# Figure 10's grid, figure 9's grid
minutes 3 "$(grid 5 512)"
minutes 1 "$(grid 5 256)"
minutes 1 "$(grid 5 128)"
minutes 12 "$(grid 10 512)"
minutes 4 "$(grid 10 256)"
minutes 3 "$(grid 10 128)"
# Figure 8 at the best settings, with the weight that finds itself
minutes 5 "$(best 0.0005 128 0.2 auto)"
minutes 3 "$(best 0.0005 256 0)"
# Figure 3: HandReach, 50 epochs, five seeds of DDPG+HER and of alpha 0.1 side by side
minutes 45 "$many --env-id HandReach-v3 --seeds 5 --alpha 0 0.1 --batch-size 4864" \
    "--run-dir runs/hand_reach_many"
# Figures 4, 16 and 17 at full size
plain 40 drive_seek
plain 40 noisy_seek
# Figure 12: SAC at d = 20, batches up to 8192; less a run where several share the GPU (--jobs 5)
plain 150 continuous_seek_sac 20
# Figure 8's grid
minutes 20 "$(grid 20 128)"
minutes 30 "$(grid 20 256)"
minutes 95 "$(grid 20 512)"
# Figure 11a: HandManipulateBlock
plain 800 hand_manipulate_block
