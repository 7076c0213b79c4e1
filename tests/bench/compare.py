#!/usr/bin/env python3
"""compare.py DIR: the results of `run` as one Markdown table, with the ratios that are aimed at."""

import glob
import json
import os
import statistics
import sys

# What is compared: its name, the scenario, the place of the figure, and the aim: a ratio to Synapse's ("/"), or an
# upper bound of our own figure.
FIGURES = [
    ("A message sent, CPU ms", "many_rooms", "send.cpu_ms_per_op", ("/", 40)),
    ("A delivery, CPU ms", "send_fanout", "cpu_ms_per_delivery", ("/", 15)),
    ("A delivery, p99 ms", "send_fanout", "delivery.ms.p99", ("/", 20)),
    ("Deliveries lost", "send_fanout", "lost", ("max", 0)),
    ("Deliveries doubled", "send_fanout", "duplicated", ("max", 0)),
    ("A room with 4 members, CPU ms", "many_rooms", "create_with_4_members.cpu_ms_per_op", ("/", 40)),
    ("A message into a room of 1,000, CPU ms", "big_room", "send.cpu_ms_per_op", ("/", 100)),
    ("An idle long poll, KiB", "incremental_sync_idle", "kib_per_poll", ("max", 16)),
    ("Memory at the end, MiB", None, "server.rss_mb.end", ("max", 200)),
    ("Sends a second over 50 rooms", "many_rooms", "send.per_s", None),
    ("… p50 ms", "many_rooms", "send.ms.p50", None),
    ("… p99 ms", "many_rooms", "send.ms.p99", None),
    ("Sends a second, 100 members syncing", "send_fanout", "send.per_s", None),
    ("… delivery p50 ms", "send_fanout", "delivery.ms.p50", None),
    ("Waking one of 1,000 polls, p50 ms", "incremental_sync_idle", "wake_by_room_ms.p50", ("max", 3)),
    ("… by a message to a device, p50 ms", "incremental_sync_idle", "wake_by_device_ms.p50", ("max", 3)),
    ("A join of a room of 1,000, CPU ms", "big_room", "join_last.cpu_ms_per_op", None),
    ("Its /members, CPU ms", "big_room", "members.cpu_ms_per_op", None),
    ("A sync after a gap, CPU ms", "big_room", "gappy_sync.cpu_ms_per_op", None),
    ("A page of 100 messages, CPU ms", "big_room", "messages_page_of_100.cpu_ms_per_op", None),
    ("A mix of reads, CPU ms", "read_mix", "mix.cpu_ms_per_op", ("/", 20)),
    ("… p99 ms", "read_mix", "mix.ms.p99", ("max", 20)),
    ("First sync of 200 rooms, CPU ms", "initial_sync", "full.cpu_ms_per_op", ("/", 50)),
    ("… with lazy members, CPU ms", "initial_sync", "lazy_load_members.cpu_ms_per_op", ("/", 50)),
    ("… sliding, first 20 rooms, CPU ms", "initial_sync", "sliding.cpu_ms_per_op", ("/", 20)),
    ("Uploading device keys, CPU ms", "e2ee", "keys_upload_50_otks.cpu_ms_per_op", ("/", 20)),
    ("A registration, CPU ms", "register_login", "register.cpu_ms_per_op", None),
    ("A login, CPU ms", "register_login", "login.cpu_ms_per_op", None),
    ("The cheapest request, CPU ms", "register_login", "whoami.cpu_ms_per_op", None),
]


def at(value, path):
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, (int, float)) else None


def read(directory):
    """Of each server, the results of its runs: [(scenario, figures)], and the failures."""
    results, failures = {}, []
    for path in sorted(glob.glob(os.path.join(directory, "*.json"))):
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
        for name, figures in document["scenarios"].items():
            results.setdefault(document["label"], []).append((name, figures))
            for first in figures.get("first_failures") or []:
                failures.append(f"{os.path.basename(path)}: {name}: {first}")
    return results, failures


def figure(results, scenario, path):
    """The median over the passes (over all scenarios, the largest), or None."""
    found = [(name, at(figures, path)) for name, figures in results if scenario in (None, name)]
    found = [value for _, value in found if value is not None]
    if not found:
        return None
    return statistics.median(found) if scenario else max(found)


def show(value):
    if value is None:
        return "–"
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 100 else f"{value:.3g}"


def main():
    results, failures = read(sys.argv[1])
    print("| Figure | Synapse | Chancery | Ratio | Aim | |\n|---|---|---|---|---|---|")
    for name, scenario, path, aim in FIGURES:
        theirs, ours = (figure(results.get(label, []), scenario, path) for label in ("synapse", "chancery"))
        ratio = theirs / ours if theirs and ours else None
        wanted, verdict = "", ""
        if aim and aim[0] == "/":
            wanted = f"1/{aim[1]}"
            verdict = "" if ratio is None else "met" if ratio >= aim[1] else "missed"
        elif aim:
            wanted = f"≤ {aim[1]}"
            verdict = "" if ours is None else "met" if ours <= aim[1] else "missed"
        shown = "" if ratio is None else f"1/{ratio:.3g}" if ratio >= 1 else f"{1 / ratio:.3g}"
        print(f"| {name} | {show(theirs)} | {show(ours)} | {shown} | {wanted} | {verdict} |")
    for failure in failures:
        print(f"\nFAILED, so its figures do not count: {failure}")


main()
