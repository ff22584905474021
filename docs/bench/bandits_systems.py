"""The systems that play: Vowpal Wabbit, MABWiser, Kairos, and plain linear Thompson sampling as a reference.

Each has `choose(round)` and `learn(reward)`; a system sees its own action's reward only. The libraries of the others
draw from seeds of their own, so that every cell can be run again.
"""

import json
import subprocess

import numpy as np


def standardised(rounds):
    """The whole pass standardised beforehand: a favour that a stream does not grant, given to the others only."""
    spread = rounds.context.std(axis=0)
    return (rounds.context - rounds.context.mean(axis=0)) / np.where(spread > 0, spread, 1.0)


def words(values):
    return " ".join(f"{i}:{v:.6g}" for i, v in enumerate(values) if v != 0.0)


class Vw:
    """`--cb_explore_adf`, with the true propensities; cost is the reward below zero."""

    INTERACTIONS = {"none": "", "linear": "-q xa", "quadratic": "-q xa --interactions xxa", "squares": "-q aa"}

    def __init__(self, rounds, seed, explore, interactions="linear", rate=0.5, scaled=True):
        import vowpalwabbit

        self.label = vowpalwabbit.LabelType.CONTEXTUAL_BANDIT
        self.vw = vowpalwabbit.Workspace(
            f"--cb_explore_adf --quiet --random_seed {seed + 1} -l {rate} {explore} {self.INTERACTIONS[interactions]}"
        )
        self.rng = np.random.default_rng(seed)
        self.actions = rounds.rewards.shape[1]
        self.context = standardised(rounds) if scaled else rounds.context
        self.features = rounds.features
        self.names = [f"|a a{i}" for i in range(self.actions)]

    def lines(self, t):
        if self.features is None:
            return ["shared |x " + words(self.context[t])] + self.names
        return ["shared |x"] + ["|a " + words(f) for f in self.features[t]]

    def choose(self, t):
        self.asked = self.lines(t)
        examples = self.vw.parse(self.asked, self.label)
        p = np.asarray(self.vw.predict(examples), dtype=float)
        self.vw.finish_example(examples)
        # Where several actions tie, regcb gives each of them 1.
        p /= p.sum()
        self.action = int(self.rng.choice(self.actions, p=p))
        self.propensity = p[self.action]
        return self.action

    def learn(self, reward):
        lines = list(self.asked)
        lines[1 + self.action] = f"0:{-reward:.6g}:{self.propensity:.6g} {lines[1 + self.action]}"
        examples = self.vw.parse(lines, self.label)
        self.vw.learn(examples)
        self.vw.finish_example(examples)

    def close(self):
        self.vw.finish()


class MabWiser:
    """Its linear policies, a constant added to the context."""

    def __init__(self, rounds, seed, policy, value, ridge=1.0, scaled=True):
        from mabwiser.mab import MAB, LearningPolicy

        made = getattr(LearningPolicy, policy)
        wide = {"epsilon" if policy == "LinGreedy" else "alpha": value}
        self.mab = MAB(list(range(rounds.rewards.shape[1])), made(l2_lambda=ridge, **wide), seed=seed + 1)
        context = standardised(rounds) if scaled else rounds.context
        self.context = np.hstack([context, np.ones((len(context), 1))])
        self.first = int(np.random.default_rng(seed).integers(rounds.rewards.shape[1]))
        self.taught = False

    def choose(self, t):
        self.row = self.context[t : t + 1]
        self.action = int(self.mab.predict(self.row)) if self.taught else self.first
        return self.action

    def learn(self, reward):
        teach = self.mab.partial_fit if self.taught else self.mab.fit
        teach([self.action], [reward], self.row)
        self.taught = True

    def close(self):
        pass


class Kairos:
    """`kairos bandit --stdio` as another process; nothing is set but the seed."""

    def __init__(self, rounds, seed, binary, arguments=(), scaled=False):
        command = [binary, "bandit", "--stdio", "--seed", str(seed), *arguments]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        context = standardised(rounds) if scaled else rounds.context
        self.context = [{f"f{i}": v for i, v in enumerate(row)} for row in context.tolist()]
        self.features = rounds.features
        self.ids = [{"id": i} for i in range(rounds.rewards.shape[1])]

    def actions(self, t):
        if self.features is None:
            return self.ids
        rows = self.features[t].tolist()
        return [{"id": i, "features": {f"f{j}": v for j, v in enumerate(row)}} for i, row in enumerate(rows)]

    def send(self, line):
        self.process.stdin.write(json.dumps(line) + "\n")

    def choose(self, t):
        self.round = t
        self.send({"round": t, "context": self.context[t], "actions": self.actions(t)})
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        if "error" in answer:
            raise RuntimeError(answer["error"])
        self.policy = answer["policy"]
        return answer["action"]

    def learn(self, reward):
        self.send({"round": self.round, "reward": reward})

    def close(self):
        self.process.stdin.close()
        if self.process.wait() != 0:
            raise RuntimeError("kairos stopped with an error")


class LinTs:
    """Plain linear Thompson sampling without intercept, ridge 1: what regret is held against."""

    def __init__(self, rounds, seed, width):
        self.rng = np.random.default_rng(seed)
        self.rounds, self.width = rounds, width
        self.joint = rounds.features is not None
        models = 1 if self.joint else rounds.rewards.shape[1]
        inputs = (rounds.features if self.joint else rounds.context).shape[-1]
        self.inverse = np.tile(np.eye(inputs), (models, 1, 1))
        self.moments = np.zeros((models, inputs))
        self.weights = np.zeros((models, inputs))

    def choose(self, t):
        if self.joint:
            rows = self.rounds.features[t]
            root = np.linalg.cholesky(self.inverse[0])
            drawn = self.weights[0] + self.width * (root @ self.rng.standard_normal(len(root)))
            self.action = int(np.argmax(rows @ drawn))
            self.model, self.x = 0, rows[self.action]
        else:
            # Actions share nothing, so drawing each score is drawing each vector of weights.
            self.x = self.rounds.context[t]
            error = np.sqrt(np.einsum("i,kij,j->k", self.x, self.inverse, self.x))
            drawn = self.weights @ self.x + self.width * error * self.rng.standard_normal(len(error))
            self.model = self.action = int(np.argmax(drawn))
        return self.action

    def learn(self, reward):
        k, x = self.model, self.x
        ax = self.inverse[k] @ x
        self.inverse[k] -= np.outer(ax, ax) / (1.0 + x @ ax)
        self.moments[k] += reward * x
        self.weights[k] = self.inverse[k] @ self.moments[k]

    def close(self):
        pass
