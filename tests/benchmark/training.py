"""A stand-in for the scripts in algos/, without PyTorch: repeating a command resumes its run.

    python training.py --run-dir DIR [--total-timesteps N] [--alpha A] [--fault NAME]

A step takes 0.05 s, or none if the working directory has a file named `quick`. The faults: `crash`,
and `deaf` (the first SIGTERM does nothing).
"""

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--run-dir", type=Path)
parser.add_argument("--total-timesteps", type=int, default=20)
parser.add_argument("--alpha", type=float, default=0.1)
parser.add_argument("--fault", default="")
args = parser.parse_args()
settings = {name: value for name, value in vars(args).items() if name not in ("run_dir", "fault")}

args.run_dir.mkdir(exist_ok=True)
recorded, metrics = args.run_dir / "args.json", args.run_dir / "metrics.csv"
if recorded.exists() and json.loads(recorded.read_text()) != settings:
    print(f"{args.run_dir} has other settings.", file=sys.stderr)
    sys.exit(2)
recorded.write_text(json.dumps(settings))
checkpoint = args.run_dir / "checkpoint.pt"
first_step = 1 + int(checkpoint.read_text()) if checkpoint.exists() else 0
if first_step == 0:
    metrics.write_text("global_step,success_rate\n")

received = []
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda number, frame: received.append(number))
print("training from step", first_step, "threads", os.environ["OMP_NUM_THREADS"], flush=True)
for step in range(first_step, args.total_timesteps + 1):
    with open(metrics, "a") as file:  # by the path: an orphan would write into a new folder
        file.write(f"{step},{step / args.total_timesteps}\n")
    (args.run_dir / "new").write_text(str(step))
    (args.run_dir / "new").replace(checkpoint)
    if args.fault == "crash":
        sys.exit("no more memory")
    if len(received) > 1:
        os._exit(128 + received[1])
    if received and args.fault != "deaf":
        print("stopped at step", step, flush=True)
        sys.exit(128 + received[0])
    time.sleep(0 if Path("quick").exists() else 0.05)
