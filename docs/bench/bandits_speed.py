"""Decisions a CPU second of Vowpal Wabbit's command line and of `kairos bandit --stdio`, on the same data: fifty
actions, ten values of the context and twenty-five of each action. And how long one answer takes to come.

Both read text, learn from every decision, and nothing else runs. VW's command line is `python -m vowpalwabbit`, its
driver reading a file; what Python takes to start is measured with an empty file and taken off.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ACTIONS, SHARED, OWN = 50, 10, 25

VW = [
    ("epsilon, no interactions", "--epsilon 0.05"),
    ("epsilon, context x action", "--epsilon 0.05 -q xa"),
    ("squarecb, context x action", "--squarecb -q xa"),
    ("bag of 5, context x action", "--bag 5 -q xa"),
]


def rounds(count):
    rng = np.random.default_rng(1)
    for _ in range(count):
        shared = np.round(rng.standard_normal(SHARED), 4).tolist()
        own = np.round(rng.standard_normal((ACTIONS, OWN)), 4).tolist()
        yield shared, own, int(rng.integers(ACTIONS)), float(rng.integers(2))


def child_seconds(command, **pipes):
    """Seconds of CPU a command took, all its threads and children together, and what it printed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, check=True, capture_output=True, **pipes)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def words(values):
    return " ".join(f"{i}:{v}" for i, v in enumerate(values))


def vw_text(data):
    for shared, own, chosen, reward in data:
        yield "shared |x " + words(shared) + "\n"
        for i, features in enumerate(own):
            label = f"0:{-reward}:{1 / ACTIONS} " if i == chosen else ""
            yield f"{label}|a {words(features)}\n"
        yield "\n"


def stdio_rounds(data):
    for t, (shared, own, _, reward) in enumerate(data):
        actions = [{"id": i, "features": named(features, "a")} for i, features in enumerate(own)]
        line = {"round": t, "context": named(shared, "x"), "actions": actions}
        yield json.dumps(line) + "\n", json.dumps({"round": t, "reward": reward}) + "\n"


def named(values, letter):
    return {f"{letter}{i}": v for i, v in enumerate(values)}


def vw_rates(folder, data):
    text, nothing = folder / "rounds.vw", folder / "empty.vw"
    text.write_text("".join(vw_text(data)))
    nothing.write_text("")
    for name, arguments in VW:
        def command(file):
            of = f"--cb_explore_adf --quiet --no_stdin -d {file} {arguments}"
            return [sys.executable, "-m", "vowpalwabbit", *of.split()]

        seconds = child_seconds(command(text))[0] - child_seconds(command(nothing))[0]
        yield f"vw {name}", len(data) / seconds


def kairos_rate(binary, folder, data, policy):
    file = folder / "rounds.jsonl"
    file.write_text("".join(line + reward for line, reward in stdio_rounds(data)))
    command = [binary, "bandit", "--stdio", *(["--policy", policy] if policy else [])]
    with open(file) as lines:
        seconds, out = child_seconds(command, stdin=lines)
    with open(os.devnull) as nothing:
        seconds -= child_seconds(command, stdin=nothing)[0]
    assert out.count(b"\n") == len(data), out[-300:]
    return len(data) / seconds


def latency(binary, lines, policy):
    """Microseconds from writing a round to having read its answer, one at a time; rewards in between."""
    command = [binary, "bandit", "--stdio", *(["--policy", policy] if policy else [])]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    out = process.stdout.fileno()
    took = []
    for line, reward in lines:
        line = line.encode()
        began = time.perf_counter()
        process.stdin.write(line)
        answer = b""
        while not answer.endswith(b"\n"):
            answer += os.read(out, 1 << 16)
        took.append((time.perf_counter() - began) * 1e6)
        process.stdin.write(reward.encode())
        # So that learning does not fall into the next answer.
        time.sleep(0.0002)
    process.stdin.close()
    process.wait()
    return np.percentile(took[len(took) // 10 :], [50, 99])


def plain_rounds(count, actions=10, values=10):
    rng = np.random.default_rng(2)
    for t in range(count):
        context = named(np.round(rng.standard_normal(values), 4).tolist(), "x")
        line = {"round": t, "context": context, "actions": [{"id": i} for i in range(actions)]}
        yield json.dumps(line) + "\n", json.dumps({"round": t, "reward": float(rng.integers(2))}) + "\n"


def echo_latency(lines):
    """The same through `cat`, which answers every line with itself: what pipes and Python cost alone."""
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    out = process.stdout.fileno()
    took = []
    for line, _ in lines:
        line = line.encode()
        began = time.perf_counter()
        process.stdin.write(line)
        read = 0
        while read < len(line):
            read += len(os.read(out, 1 << 16))
        took.append((time.perf_counter() - began) * 1e6)
        time.sleep(0.0002)
    process.stdin.close()
    process.wait()
    return np.percentile(took[len(took) // 10 :], [50, 99])


def measure(binary, count, policy):
    data = list(rounds(count))
    label = f"kairos {policy or ''}".strip()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        ours = kairos_rate(binary, folder, data, policy)
        print(f"decisions a CPU second, learning included, {ACTIONS} actions x ({SHARED} + {OWN}) values, as text")
        print(f"  {label:36} {ours:10,.0f}")
        for name, rate in vw_rates(folder, data):
            print(f"  {name:36} {rate:10,.0f}   kairos has {ours / rate:.1f} times as many")
    few = data[: min(len(data), 3_000)]
    print("microseconds from a round written to its answer read, p50 and p99")
    for name, lines in (
        ("10 actions, 10 values of context", list(plain_rounds(len(few)))),
        ("50 actions, 32 values of context", list(plain_rounds(len(few), 50, 32))),
        (f"{ACTIONS} actions x ({SHARED} + {OWN}) values", list(stdio_rounds(few))),
    ):
        p50, p99 = latency(binary, lines, policy)
        e50, e99 = echo_latency(lines)
        print(f"  {name:36} {p50:8.1f} {p99:8.1f}   through cat {e50:8.1f} {e99:8.1f}")
