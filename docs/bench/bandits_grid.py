"""How the others are tuned, for each set by itself.

Every setting of the first grid plays some seeds (all of them where a set is small, few where it is large); the best
few are varied in the same way; the best of all play every seed, and the best mean of those stands in the table. A
tuned figure is therefore somewhat flattered.
"""

from bandits_systems import MabWiser, Vw

SMALL, LARGE = 1_500, 5_000


def effort(rounds, seeds):
    """The seeds that settings are screened by, and how many settings then play all seeds."""
    values = rounds.context.size + (0 if rounds.features is None else rounds.features.size)
    if len(rounds.rewards) <= SMALL:
        return seeds, 1
    if len(rounds.rewards) < LARGE and values < 200_000:
        return list(seeds)[:2], 4
    return list(seeds)[:1], 2


EXPLORE = [
    "--epsilon 0.05", "--epsilon 0.02", "--epsilon 0.05 --bag 5", "--epsilon 0 --bag 10 --greedify", "--cover 5",
    "--squarecb --gamma_scale 10", "--squarecb --gamma_scale 100", "--squarecb --gamma_scale 1000",
    "--regcbopt --mellowness 0.1", "--regcbopt --mellowness 0.01", "--regcbopt --mellowness 0.001",
    "--epsilon 0.02 --rnd 3", "--epsilon 0.02 --rnd 3 --rnd_alpha 0.3",
]
CONTEXT_FREE = ["--epsilon 0.02", "--squarecb --gamma_scale 1000"]


def vw_first(rounds):
    if rounds.features is not None:
        return [(e, i, 0.5, True) for e in EXPLORE for i in ("none", "squares")]
    free = [(e, "none", 0.5, True) for e in CONTEXT_FREE]
    # The worlds are linear, with fifty actions: squares of the context can only cost there.
    interactions = ("linear",) if rounds.rewards.shape[1] > 20 else ("linear", "quadratic")
    return free + [(e, i, 0.5, True) for i in interactions for e in EXPLORE]


def vw_varied(setting, rounds):
    explore, interactions, _, _ = setting
    return [(explore, interactions, rate, scaled) for rate in (0.1, 0.5, 2.0, 10.0) for scaled in scales(rounds)]


def scales(rounds):
    """The inputs of the worlds are on one scale as they are."""
    return (True,) if rounds.rewards.shape[1] > 20 else (True, False)


def mabwiser_first(_):
    values = {"LinUCB": (0.01, 0.1, 0.3, 1.0), "LinTS": (0.01, 0.1, 0.3), "LinGreedy": (0.01, 0.05)}
    return [(policy, value, 1.0, True) for policy, grid in values.items() for value in grid]


def mabwiser_varied(setting, rounds):
    policy, value, _, _ = setting
    return [(policy, value, ridge, scaled) for ridge in (0.1, 1.0, 10.0) for scaled in scales(rounds)]


# For each rival: how it is made, what is tried first, how the best of that are varied, and how many are varied.
RIVALS = {
    "vw": (Vw, vw_first, vw_varied, 3),
    "mabwiser": (MabWiser, mabwiser_first, mabwiser_varied, 2),
}


def cannot(rival, rounds):
    """MABWiser knows contexts, but no features of actions."""
    return rival == "mabwiser" and rounds.features is not None


def tune(rival, rounds, play, seeds):
    """`play(label, make, seed)` gives the mean reward. Plays whatever the tuning asks for."""
    made, first, varied, few = RIVALS[rival]

    def label(setting):
        policy, kind, amount, scaled = setting
        name = " ".join(str(part) for part in (policy, kind, amount))
        return f"{rival} {name}{'' if scaled else ' raw'}"

    def make(setting):
        return lambda r, seed: made(r, seed, *setting)

    def mean(setting, over):
        return sum(play(label(setting), make(setting), seed) for seed in over) / len(over)

    screen, finalists = effort(rounds, seeds)
    tried = {s: mean(s, screen) for s in first(rounds)}
    for best in sorted(tried, key=tried.get, reverse=True)[:few]:
        for setting in varied(best, rounds):
            if setting not in tried:
                tried[setting] = mean(setting, screen)
    for setting in sorted(tried, key=tried.get, reverse=True)[:finalists]:
        mean(setting, seeds)
