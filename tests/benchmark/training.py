"""A stand-in for the scripts in algos/, without PyTorch: a folder, a lock, metrics, checkpoints.

    python training.py --run-dir DIR [--total-timesteps N] [--alpha A] [--fault NAME]
    python training.py --resume DIR [--total-timesteps N]

A step takes 0.05 s, or none where the working directory has a file named `quick`. What it is told
to do wrong: `crash`, `deaf` (SIGTERM does nothing), `forgetful` (writes no checkpoint).
"""

import argparse
import fcntl
import json
import os
import signal
import sys
import time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--run-dir")
parser.add_argument("--resume")
parser.add_argument("--env-id", default="HandReach-v3")
parser.add_argument("--total-timesteps", type=int)
parser.add_argument("--alpha", type=float, default=0.1)
parser.add_argument("--hidden-dims", type=int, nargs="+", default=[64, 64])
parser.add_argument("--normalize", action=argparse.BooleanOptionalAction, default=False)
parser.add_argument("--cuda", action=argparse.BooleanOptionalAction, default=False)
parser.add_argument("--num-threads", type=int, default=2)
parser.add_argument("--fault", default="")
args = parser.parse_args()

run_dir = Path(args.resume or args.run_dir)
metrics, checkpoint = run_dir / "metrics.csv", run_dir / "checkpoint.pt"
first_step = 0
if args.resume:
    try:
        first_step = 1 + int(checkpoint.read_text())
    except (OSError, ValueError):
        print(f"{checkpoint} is damaged or not there.", file=sys.stderr)
        sys.exit(2)
    asked = args.total_timesteps
    settings = json.loads((run_dir / "args.json").read_text())
    vars(args).update(settings | {"total_timesteps": asked or settings["total_timesteps"]})
else:
    args.total_timesteps = args.total_timesteps or 20
    try:
        run_dir.mkdir()
    except FileExistsError:
        print(f"{run_dir} is there already.", file=sys.stderr)
        sys.exit(2)
try:
    fcntl.flock(os.open(run_dir, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print(f"{run_dir} belongs to another process.", file=sys.stderr)
    sys.exit(2)

received = []
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda number, frame: received.append(number))
(run_dir / "args.json").write_text(json.dumps(vars(args)))
print("training", run_dir, "from step", first_step, "threads", args.num_threads, flush=True)
if first_step == 0:
    metrics.write_text("global_step,success_rate\n")
for step in range(first_step, args.total_timesteps + 1):
    with open(metrics, "a") as file:  # by the path: an orphan would write into a new folder
        file.write(f"{step},{step / args.total_timesteps}\n")
    if args.fault != "forgetful":
        (run_dir / "new").write_text(str(step))
        (run_dir / "new").replace(checkpoint)
    if args.fault == "crash":
        sys.exit("no more memory")
    if received and args.fault != "deaf":
        time.sleep(0.3)  # an episode's end is awaited; a second signal meanwhile ends it at once
        if len(received) > 1:
            os._exit(1)
        print("stopped at step", step)
        sys.exit(128 + received[0])
    time.sleep(0 if Path("quick").exists() else 0.05)
