"""The features of `kairos bench stream` as one batch in Polars: a reference for the cost of streaming.

    python -m venv venv && venv/bin/pip install polars
    kairos bench stream --reference "venv/bin/python docs/bench/polars_reference.py"

Takes the directory of rows that the bench writes (`--rows DIR` keeps it): one Parquet file a table, and
`at.json` with the instant. Prints how many values came out, and as its last line JSON with `seconds`: the best of
three runs over rows in memory, every view and window planned together and run on all cores.
"""

import json
import sys
import time
from datetime import timedelta
from pathlib import Path

import polars as pl

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SHORT = {"1h": HOUR, "24h": DAY, "7d": 7 * DAY}
LONG = {"24h": DAY, "7d": 7 * DAY, "28d": 28 * DAY}
c = pl.col


def count(where=None):
    return pl.len().cast(pl.Int64) if where is None else where.fill_null(False).sum().cast(pl.Int64)


def distinct(column):
    return c(column).drop_nulls().n_unique()


def last(column, skip_null=False):
    """By (time, source, id), as ties are broken."""
    kept = c(column).filter(c(column).is_not_null()) if skip_null else c(column)
    order = [c(k).filter(c(column).is_not_null()) if skip_null else c(k) for k in ("time", "source", "id")]
    return kept.sort_by(order).last()


def total(column, where=None):
    kept = c(column) if where is None else c(column).filter(where)
    # Nothing but NULLs is NULL, not 0.
    return pl.when(kept.count() > 0).then(kept.sum())


HIGH = c("priority").is_in(["high", "urgent"])
MEETING = c("kind") == "meeting"
HOUR_OF_DAY = c("time").dt.hour()

VIEWS = [
    ("task_activity", "task_completed", SHORT, None, {
        "completed": count(), "minutes": total("minutes"), "projects": distinct("project"),
        "latest_project": last("project"),
    }),
    ("task_load", "task_created", SHORT, None, {
        "created": count(), "important": count(HIGH), "due_within_day": count(c("due") <= c("time") + DAY),
        "without_due": count(c("due").is_null()), "estimate_minutes": total("estimate_minutes"),
        "projects": distinct("project"), "latest_project": last("project", skip_null=True),
    }),
    ("task_snoozes", "task_snoozed", SHORT, None, {
        "snoozed": count(), "tasks": distinct("task"), "important": count(HIGH), "most_times": c("times").max(),
        "latest_project": last("project", skip_null=True),
    }),
    ("movement", "steps_counted", SHORT, c("steps").is_not_null(), {
        "steps": total("steps"), "counts": count(), "still_counts": count(c("steps") < 100),
        "most_steps": c("steps").max(), "latest_steps": last("steps"),
    }),
    ("mood_trend", "mood_reported", LONG, c("mood").is_between(1, 5), {
        "reports": count(), "mood": c("mood").mean(), "lowest_mood": c("mood").min(), "latest_mood": last("mood"),
        "low_reports": count(c("mood") <= 2), "high_reports": count(c("mood") >= 4),
    }),
    ("stress", "mood_reported", LONG, c("stress").is_between(1, 5), {
        "reports": count(), "calm": c("stress").mean(), "lowest_calm": c("stress").min(),
        "latest_calm": last("stress"), "stressed_reports": count(c("stress") <= 2),
    }),
    ("calendar_density", "calendar_event", SHORT, c("status").is_null() | (c("status") == "booked"), {
        "booked": count(), "minutes": total("minutes"), "meetings": count(MEETING),
        "meeting_minutes": total("minutes", MEETING), "focus_minutes": total("minutes", c("kind") == "focus"),
        "large_meetings": count(c("attendees") >= 6), "long_entries": count(c("minutes") >= 60),
        "starting_within_day": count(c("start") <= c("time") + DAY),
    }),
    ("code_rhythm", "code_pushed", SHORT, None, {
        "pushes": count(), "commits": total("commits"), "files": total("files"), "largest_files": c("files").max(),
        "repos": distinct("repo"), "late_pushes": count((HOUR_OF_DAY >= 22) | (HOUR_OF_DAY < 5)),
        "weekend_pushes": count(c("time").dt.weekday() >= 6), "latest_repo": last("repo"),
    }),
    ("inbox", "mail_received", SHORT, None, {
        "received": count(), "important": count(c("importance") == "high"), "bulk": count(c("bulk")),
        "replies": count(c("reply")), "senders": distinct("sender_domain_hash"),
    }),
    ("listening", "listen_played", SHORT, None, {
        "tracks": count(), "minutes": total("minutes"), "artists": distinct("artist"), "genres": distinct("genre"),
        "skipped": count(c("skipped")), "latest_genre": last("genre", skip_null=True),
    }),
]


def plans(tables, at):
    for _, table, windows, where, features in VIEWS:
        for span in windows.values():
            rows = tables[table].lazy().filter((c("time") > at - span) & (c("time") <= at))
            if where is not None:
                rows = rows.filter(where)
            yield rows.group_by("subject").agg(**features)


def main(directory):
    at_ms = json.loads((directory / "at.json").read_text())["at_ms"]
    at = pl.select(pl.from_epoch(pl.lit(at_ms), time_unit="ms").dt.replace_time_zone("UTC")).item()
    tables = {table: pl.read_parquet(directory / f"{table}.parquet") for table in {v[1] for v in VIEWS}}
    best = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        answers = pl.collect_all(list(plans(tables, at)))
        best = min(best, time.perf_counter() - began)
    values = sum(a.height * (a.width - 1) for a in answers)
    print(f"Polars {pl.__version__}, {pl.thread_pool_size()} threads: {values} values in {best:.3f} s")
    print(json.dumps({"seconds": best}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
