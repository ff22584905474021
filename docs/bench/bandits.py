"""Kairos beside Vowpal Wabbit and MABWiser: reward in one pass, over public sets and simulated worlds.

    python -m venv venv && venv/bin/pip install numpy scikit-learn river vowpalwabbit mabwiser
    cargo build --release
    venv/bin/python docs/bench/bandits.py play --kairos target/release/kairos
    venv/bin/python docs/bench/bandits.py table

    bandits.py export DIR                   every set as a reward table, for `kairos bandit run --data`
    bandits.py play --kairos BINARY --systems kairos --again     one system anew; --sets iris,wine only those
    bandits.py play --kairos BINARY --systems kairos --policy linucb     another policy, as a column of its own
    bandits.py speed --kairos BINARY        decisions a CPU second, and the latency of an answer

The protocol is the same for all: the rows come in an order that the seed decides, the system chooses, sees the
reward of its choice and nothing else, learns, goes on. Kairos runs on its defaults and on the inputs as they are; the
others are tuned for each set by itself (`bandits_grid.py`). Every cell (set, system, seed) is kept in bandits.json as
soon as it is known, so a run may be stopped and taken up again. One system a process; two may share the file.
"""

import argparse
import fcntl
import json
import os
import tempfile
import time
from pathlib import Path

# One thread: a system is measured, not the number of cores.
for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(threads, "1")

import numpy as np  # noqa: E402

import bandits_grid as grid  # noqa: E402
import bandits_systems as systems  # noqa: E402
import bandits_worlds as worlds  # noqa: E402

HERE = Path(__file__).parent
LINTS_WIDTHS = (0.02, 0.05, 0.1, 0.2, 0.4)


class Cells:
    """set -> system -> seed -> mean reward of a set, regret of a world; in a file, one line a system."""

    def __init__(self, path):
        self.path = path
        self.cells = json.loads(path.read_text()) if path.exists() else {}

    def get(self, set_, system, seed):
        return self.cells.get(set_, {}).get(system, {}).get(str(seed))

    def put(self, set_, system, seed, cell):
        lock = Path(tempfile.gettempdir()) / f"{self.path.name}.lock"
        with open(lock, "w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            # Another process may have added its own since.
            self.cells = json.loads(self.path.read_text()) if self.path.exists() else {}
            self.cells.setdefault(set_, {}).setdefault(system, {})[str(seed)] = cell
            unfinished = self.path.with_suffix(".tmp")
            unfinished.write_text(written(self.cells))
            unfinished.rename(self.path)


def written(cells):
    def systems_of(set_):
        return ",\n".join(f"    {json.dumps(s)}: {json.dumps(cells[set_][s])}" for s in sorted(cells[set_]))

    return "{\n" + ",\n".join(f"  {json.dumps(s)}: {{\n{systems_of(s)}\n  }}" for s in sorted(cells)) + "\n}\n"


def one_pass(system, rounds):
    """Mean reward, and the sum of regrets."""
    reward = regret = 0.0
    for t in range(len(rounds.rewards)):
        action = system.choose(t)
        seen = float(rounds.rewards[t, action])
        reward += seen
        regret += float(rounds.expected[t].max() - rounds.expected[t, action])
        system.learn(seen)
    system.close()
    return round(reward / len(rounds.rewards), 6), round(regret, 2)


def play(options):
    cells = Cells(options.results)
    for name in options.sets:
        if name in worlds.WORLDS:
            made = {}
        else:
            table = worlds.SETS[name]()

        def rounds(seed):
            if name not in worlds.WORLDS:
                return worlds.from_set(table, seed)
            if seed not in made:
                made.clear()
                made[seed] = worlds.WORLDS[name](seed)
            return made[seed]

        def cell(label, make, seed, again=False):
            known = cells.get(name, label, seed)
            if known is None or again:
                played = rounds(seed)
                began = time.monotonic()
                reward, regret = one_pass(make(played, seed), played)
                known = regret if name in worlds.WORLDS else reward
                cells.put(name, label, seed, known)
                print(f"{name:14} {label:50} {seed:3} {known:9.4f} {time.monotonic() - began:6.1f} s", flush=True)
            return -known if name in worlds.WORLDS else known

        seeds = range(options.seeds)
        for system in options.systems:
            if system == "kairos":
                if options.kairos is None:
                    raise SystemExit("where is kairos? say --kairos target/release/kairos")
                label = " ".join(["kairos", *filter(None, [options.policy, options.scaled and "scaled"])])
                arguments = () if options.policy is None else ("--policy", options.policy)

                def kairos(rounds_, seed):
                    return systems.Kairos(rounds_, seed, options.kairos, arguments, options.scaled)

                for seed in seeds:
                    cell(label, kairos, seed, options.again)
            elif system == "lints" and name in worlds.WORLDS:
                for width in LINTS_WIDTHS:
                    for seed in seeds:
                        cell(f"lints {width}", lambda r, s: systems.LinTs(r, s, width), seed, options.again)
            elif system in grid.RIVALS and not grid.cannot(system, rounds(0)):
                grid.tune(system, rounds(0), cell, seeds)
        if name not in worlds.WORLDS:
            for seed in seeds:
                baselines(cells, name, rounds, seed)


def baselines(cells, name, rounds, seed):
    if cells.get(name, "uniform", seed) is None:
        rewards = rounds(seed).rewards
        cells.put(name, "uniform", seed, round(float(rewards.mean()), 6))
        cells.put(name, "constant", seed, round(float(rewards.mean(axis=0).max()), 6))


def best(of, system, seeds, sign):
    """The best mean among the settings of a system that played every seed, with the setting."""
    whole = {name: list(cells.values()) for name, cells in of.items() if len(cells) >= seeds}
    means = {n: float(np.mean(v)) for n, v in whole.items() if n == system or n.startswith(system + " ")}
    setting = max(means, key=lambda n: sign * means[n], default=None)
    return setting and (means[setting], setting)


def table(options):
    cells = Cells(options.results).cells
    played = {system for of in cells.values() for system in of if system.startswith("kairos")}
    # The default first; it is the one that must be better.
    ours = sorted(played | {"kairos"}, key=len)
    settings = []
    for title, names, columns, sign, digits in (
        ("mean reward", worlds.SETS, ["uniform", "constant", "vw", "mabwiser"], 1, 4),
        ("regret", worlds.WORLDS, ["lints", "vw", "mabwiser"], -1, 0),
    ):
        print(f"\n| {title} | {' | '.join(columns + ours)} | better than both by |")
        print("|---|" + "---:|" * (len(columns) + len(ours) + 1))
        for name in names:
            of = cells.get(name, {})
            found = {c: best(of, c, options.seeds, sign) for c in columns}
            means = [float(np.mean(list(of[label].values()))) if label in of else None for label in ours]
            bars = [found[c][0] for c in ("vw", "mabwiser") if found[c]]
            shown = [f"{found[c][0]:.{digits}f}" if found[c] else "" for c in columns]
            shown += ["" if m is None else f"{m:.{digits}f}" for m in means]
            bar = max(bars, key=lambda m: sign * m, default=None)
            shown.append("" if None in (means[0], bar) else f"{sign * (means[0] - bar):+.{digits}f}")
            print(f"| {name} | {' | '.join(shown)} |")
            settings += [f"{name:14} {found[c][1]}" for c in ("lints", "vw", "mabwiser") if found.get(c)]
    print("\nsettings behind the best figures:\n" + "\n".join(settings))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("export")
    command.add_argument("directory", type=Path)
    names = [*worlds.SETS, *worlds.WORLDS]
    listed = {"type": lambda text: text.split(",")}
    for name in ("play", "table"):
        command = commands.add_parser(name)
        command.add_argument("--sets", default=names, **listed)
        command.add_argument("--systems", default=["kairos", "vw", "mabwiser", "lints"], **listed)
        command.add_argument("--kairos", metavar="BINARY")
        command.add_argument("--policy", help="of Kairos, instead of its default")
        command.add_argument("--scaled", action="store_true", help="give Kairos what the others get: inputs scaled beforehand")
        command.add_argument("--seeds", type=int, default=10)
        command.add_argument("--again", action="store_true", help="play cells that are known already")
        command.add_argument("--results", type=Path, default=HERE / "bandits.json")
    command = commands.add_parser("speed")
    command.add_argument("--kairos", metavar="BINARY", required=True)
    command.add_argument("--policy")
    command.add_argument("--decisions", type=int, default=10_000)
    options = parser.parse_args()
    if options.command == "export":
        worlds.export(options.directory)
    elif options.command == "play":
        play(options)
    elif options.command == "table":
        table(options)
    else:
        import bandits_speed

        bandits_speed.measure(options.kairos, options.decisions, options.policy)


if __name__ == "__main__":
    main()
