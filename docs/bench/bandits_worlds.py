"""What the bandits play on: public classification sets, and simulated worlds.

A *set* is a table of contexts with the reward of every action; rows come in an order that the seed decides, and
only the chosen action's reward is seen. A *world* makes its rounds from the seed, with expected rewards beside the
noisy ones, so that regret can be told.
"""

from dataclasses import dataclass

import numpy as np

MOST_ROWS = 10_000
ROUNDS, INPUTS, ACTIONS, NOISE = 10_000, 20, 50, 0.1


@dataclass
class Rounds:
    """One pass: `context` (rounds x inputs), `rewards` and `expected` (rounds x actions).

    `features` (rounds x actions x inputs) where what is known lies in the actions, which are then new each round.
    """

    context: np.ndarray
    rewards: np.ndarray
    expected: np.ndarray
    features: np.ndarray | None = None


# ---- sets ------------------------------------------------------------------------------------------------------


def one_hot(labels):
    _, at = np.unique(np.asarray(labels), return_inverse=True)
    return np.eye(at.max() + 1)[at]


def bundled(name):
    from sklearn import datasets

    data = getattr(datasets, f"load_{name}")()
    return data.data.astype(float), one_hot(data.target)


def river(name, labels=one_hot):
    from river import datasets

    rows = list(getattr(datasets, name)())
    names = sorted(rows[0][0])
    return np.array([[float(x[n]) for n in names] for x, _ in rows]), labels([y for _, y in rows])


def many_labels(rows):
    names = sorted(rows[0])
    return np.array([[float(y[n]) for n in names] for y in rows])


SETS = {
    "iris": lambda: bundled("iris"),
    "wine": lambda: bundled("wine"),
    "breast-cancer": lambda: bundled("breast_cancer"),
    "phishing": lambda: river("Phishing"),
    "digits": lambda: bundled("digits"),
    "segments": lambda: river("ImageSegments"),
    "yeast": lambda: river("Yeast", many_labels),
    "bananas": lambda: river("Bananas"),
    "shuttle": lambda: river("Shuttle"),
}


def from_set(table, seed):
    context, rewards = table
    order = np.random.default_rng(seed).permutation(len(context))[:MOST_ROWS]
    return Rounds(context[order], rewards[order], rewards[order])


# ---- worlds ----------------------------------------------------------------------------------------------------


def on_sphere(rng, *shape):
    v = rng.standard_normal(shape)
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


def noisy(rng, context, expected, features=None):
    return Rounds(context, expected + NOISE * rng.standard_normal(expected.shape), expected, features)


def separate(seed):
    """Every action has weights of its own over the context."""
    rng = np.random.default_rng(1_000 + seed)
    context, weights = on_sphere(rng, ROUNDS, INPUTS), on_sphere(rng, ACTIONS, INPUTS)
    return noisy(rng, context, context @ weights.T)


def drifting(seed):
    """The same, and all weights are drawn anew halfway."""
    rng = np.random.default_rng(2_000 + seed)
    context, half = on_sphere(rng, ROUNDS, INPUTS), ROUNDS // 2
    before, after = on_sphere(rng, ACTIONS, INPUTS), on_sphere(rng, ACTIONS, INPUTS)
    return noisy(rng, context, np.vstack([context[:half] @ before.T, context[half:] @ after.T]))


def shared(seed):
    """One vector of weights over the features of the actions, which are new every round."""
    rng = np.random.default_rng(3_000 + seed)
    features, weights = on_sphere(rng, ROUNDS, ACTIONS, INPUTS), on_sphere(rng, INPUTS)
    return noisy(rng, np.zeros((ROUNDS, 0)), features @ weights, features)


WORLDS = {"separate": separate, "shared": shared, "drifting": drifting}


# ---- tables ----------------------------------------------------------------------------------------------------


def write_table(path, context, rewards):
    names = [f"f{i}" for i in range(context.shape[1])] + [f"r{i}" for i in range(rewards.shape[1])]
    table = np.hstack([context, rewards])
    np.savetxt(path, table, delimiter=",", header=",".join(names), comments="", fmt="%.10g")


def export(directory):
    """Writes every set, and seed 0 of the worlds whose actions are the same every round, as reward tables."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, load in SETS.items():
        write_table(directory / f"{name}.csv", *load())
    for name in ("separate", "drifting"):
        rounds = WORLDS[name](0)
        write_table(directory / f"{name}.csv", rounds.context, rounds.rewards)
