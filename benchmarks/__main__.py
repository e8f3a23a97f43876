"""python -m benchmarks [--json FILE] [--rounds N] [--batch-size N] [--threads N] [--images N]"""

import argparse
from pathlib import Path

import torch

from benchmarks import bench_pgd, harness


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=bench_pgd.__doc__)
    parser.add_argument("--json", type=Path, help="also write every round to this file")
    default = bench_pgd.Setting()
    for name in ("rounds", "batch-size", "threads", "images"):
        value = getattr(default, name.replace("-", "_"))
        parser.add_argument(f"--{name}", type=int, default=value, help=f"default: {value or 'all'}")
    given = vars(parser.parse_args())
    path = given.pop("json")
    setting = bench_pgd.Setting(**given)
    torch.set_num_threads(setting.threads)
    results = {}
    for network in bench_pgd.LIMITS:
        results[network] = bench_pgd.measure(network, setting)
        print(bench_pgd.report(network, results[network], setting), end="\n\n", flush=True)
    facts = bench_pgd.facts(setting)
    print("versions:", ", ".join(f"{k} {v}" for k, v in facts["versions"].items()))
    print("machine:", ", ".join(f"{k} {v}" for k, v in harness.machine().items()))
    if path:
        harness.save(path, results, **facts)


if __name__ == "__main__":
    main()
