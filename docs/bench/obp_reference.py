"""The estimators of Open Bandit Pipeline on a made-up log: the reference that `kairos evaluate --logs` equals.

    python3.10 -m venv venv && venv/bin/pip install obp==0.5.7
    venv/bin/python docs/bench/obp_reference.py pipelines/tests/data/obp

Writes PREFIX.csv, a log of slates with rewards of a model beside it, and PREFIX.json, what OBP estimates from it at
two pairs of thresholds. `--rows N` makes another one; with `--kairos PROGRAM` that is compared at once:

    venv/bin/python docs/bench/obp_reference.py /tmp/log --rows 20000 --seed 7 --kairos target/release/kairos
"""

import argparse
import csv
import json
import subprocess
import sys

import numpy as np
from obp.ope import (
    DirectMethod,
    DoublyRobust,
    InverseProbabilityWeighting,
    OffPolicyEvaluation,
    SelfNormalizedDoublyRobust,
    SelfNormalizedInverseProbabilityWeighting,
    SwitchDoublyRobust,
)

ACTIONS, PLACES, INPUTS = 5, 3, 4


def softmax(scores):
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def make(rows, seed):
    """A log whose places of a slate have policies and rewards of their own; weights go up to some dozens."""
    rng = np.random.default_rng(seed)
    context = rng.normal(size=(rows, INPUTS))
    position = np.arange(rows) % PLACES
    logging = softmax(context @ rng.normal(size=(INPUTS, ACTIONS)))
    # The target has a distribution for each place, as in OBP: rows × actions × places.
    target = np.stack([softmax(context @ rng.normal(size=(INPUTS, ACTIONS))) for _ in range(PLACES)], axis=2)
    action = np.array([rng.choice(ACTIONS, p=p) for p in logging])
    worth = 1 / (1 + np.exp(-(context @ rng.normal(size=(INPUTS, ACTIONS)) - 0.3 * position[:, None])))
    reward = (rng.random(rows) < worth[np.arange(rows), action]).astype(float)
    noise = rng.normal(scale=0.2, size=(rows, ACTIONS, PLACES))
    model = np.clip(worth[:, :, None] + noise, 0.02, 0.98)
    feedback = {
        "n_rounds": rows,
        "n_actions": ACTIONS,
        "context": context,
        "action": action,
        "position": position,
        "reward": reward,
        "pscore": logging[np.arange(rows), action],
    }
    return feedback, target, model


def estimates(feedback, target, model, clip, switch):
    estimators = [
        InverseProbabilityWeighting(estimator_name="ips"),
        InverseProbabilityWeighting(lambda_=clip, estimator_name="clipped_ips"),
        SelfNormalizedInverseProbabilityWeighting(estimator_name="snips"),
        DirectMethod(estimator_name="dm"),
        DoublyRobust(estimator_name="dr"),
        SelfNormalizedDoublyRobust(estimator_name="sndr"),
        SwitchDoublyRobust(lambda_=switch, estimator_name="switch_dr"),
    ]
    evaluation = OffPolicyEvaluation(bandit_feedback=feedback, ope_estimators=estimators)
    values = evaluation.estimate_policy_values(action_dist=target, estimated_rewards_by_reg_model=model)
    return {"clip": clip, "switch": switch, "estimates": {name: float(value) for name, value in values.items()}}


def write(prefix, feedback, target, model):
    names = ["action", "propensity", "reward", "position"]
    names += [f"ctx.x{i}" for i in range(INPUTS)]
    names += [f"{group}.{a}" for group in ("target", "model") for a in range(ACTIONS)]
    with open(f"{prefix}.csv", "w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(names)
        for i in range(feedback["n_rounds"]):
            place = feedback["position"][i]
            row = [feedback["action"][i], float(feedback["pscore"][i]), int(feedback["reward"][i]), place]
            row += [round(float(x), 4) for x in feedback["context"][i]]
            row += [float(x) for x in target[i, :, place]] + [float(x) for x in model[i, :, place]]
            out.writerow(row)


def compare(program, prefix, expected):
    worst = 0.0
    for case in expected:
        flags = ["--clip", str(case["clip"]), "--switch", str(case["switch"]), "--resamples", "100", "--json"]
        found = json.loads(subprocess.check_output([program, "evaluate", "--logs", f"{prefix}.csv", *flags]))
        for estimate in found["estimates"]:
            right = case["estimates"][estimate["estimator"]]
            worst = max(worst, abs(estimate["value"] - right))
            print(f"{estimate['estimator']:<12} {estimate['value']:.12f} {right:.12f}")
    print(f"largest difference: {worst:.1e}")
    return worst <= 1e-6


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prefix")
    parser.add_argument("--rows", type=int, default=240)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kairos")
    arguments = parser.parse_args()
    log = make(arguments.rows, arguments.seed)
    write(arguments.prefix, *log)
    expected = [estimates(*log, clip, switch) for clip, switch in [(10.0, 10.0), (2.0, 1.5)]]
    with open(f"{arguments.prefix}.json", "w") as file:
        json.dump(expected, file, indent=1)
        file.write("\n")
    if arguments.kairos and not compare(arguments.kairos, arguments.prefix, expected):
        sys.exit(1)


if __name__ == "__main__":
    main()
