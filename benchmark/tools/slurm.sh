#!/usr/bin/env bash
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%A_%a.log
#SBATCH --signal=B:USR1@120
# Trains one of the commands that a shell script prints, on SLURM: line SLURM_ARRAY_TASK_ID of them,
# counted from 1. Submit all of them where algos/ is, on a file system that the nodes share:
#   script=benchmark/experiments/bit_flip.sh
#   sbatch --array=1-$(bash $script | wc -l) --time=1:00:00 benchmark/tools/slurm.sh $script
# Two minutes before its time limit a job lets its run write a checkpoint and queues itself again;
# SLURM requeues a job that is preempted or whose node fails. Either way the same command goes on.
set -u
if [ $# -eq 0 ] || [ -z "${SLURM_ARRAY_TASK_ID:-}" ]; then
    echo "slurm.sh: submit it with sbatch --array=1-N, and name a script that prints N lines." >&2
    exit 2
fi
line=$(bash "$@" | sed -n "${SLURM_ARRAY_TASK_ID}p")
if [ -z "$line" ]; then
    echo "slurm.sh: $* prints no line $SLURM_ARRAY_TASK_ID." >&2
    exit 2
fi
run_dir=$(sed 's/.*--run-dir \([^ ]*\).*/\1/' <<<"$line")
begin=$(date +%s)
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
bash -c "exec $line" &
run=$!

is_warned=no
trap 'is_warned=yes; kill -TERM $run' USR1
trap : TERM # which SLURM sends to the run as well: its checkpoint is waited for
wait $run
code=$?
while kill -0 $run 2>/dev/null; do # a signal ends a wait
    wait $run
    code=$?
done
if [ $is_warned = yes ] && [ -n "$(find "$run_dir/checkpoint.pt" -newermt "@$begin")" ]; then
    scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
fi
exit $code
