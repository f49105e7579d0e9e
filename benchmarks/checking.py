"""`afterglow check` of a shop with 500 flow files of 20 steps, beside `yaml.safe_load` of the same files.

Each is a process of its own, in turns, so that both see the same machine; what counts is its whole life, imports
included.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from benchmarks import rig

FLOWS: Final = 500
ROUNDS: Final = 3
#: What is measured beside: what a short program of one's own would do with every file.
_READING: Final = """
import sys
import yaml
from pathlib import Path
for file in sorted(Path(sys.argv[1]).rglob("*.yaml")):
    yaml.safe_load(file.read_text())
"""
_WORDS: Final = {
    "checking": ("-m", "workers.cli", "check"),
    "reading": ("-c", _READING),
}

#: Twenty steps as people write them: mails, waits of all kinds, choices and notes.
_FLOW = """\
flow: care-{n}
about: What customer {n} of many hears after an order
status: live
owner: retention
starts: {{event: order.paid, when: order.total >= {n}}}
once_per: order.id
stops: {{event: order.refunded, same: order.id}}
goal: {{event: order.paid, within: 60 days}}
topic: coffee-care
only_if: not customer.open_ticket
steps:
  - send: email/thank-you
  - id: arrival
    wait_for: order.delivered
    same: order.id
    for_up_to: 10 days
    timed_out:
      - notify: customer-care
        about: "Order {{{{ order.id }}}} of {n} has not arrived."
  - id: first-cups
    wait: 3 days
    at: "10:00"
  - id: weekend
    until: {{weekday: saturday, at: "10:00"}}
  - id: answer
    wait_for: survey.answered
    for_up_to: 7 days
    arrived:
      - id: unhappy
        if: answer.score <= 2
        then:
          - id: call
            notify: customer-care
            about: "Rated {{{{ answer.score }}}} out of 5 by {{{{ customer.first_name | default('them') }}}}."
        else:
          - send: email/brew-tips
    timed_out:
      - id: quiet
        wait: 36 hours
      - id: tips-later
        send: email/brew-tips
  - id: regulars
    if: customer.orders >= 10
    then:
      - send: email/thank-you-again
    elif:
      - if: customer.orders >= 4 and order.total > {n}
        then:
          - id: tip-four
            send: email/tip-water
    else:
      - id: tip
        split:
          - {{weight: 2, name: water, steps: [{{id: tip-two, send: email/tip-water}}]}}
          - {{weight: 1, name: scale, steps: [{{send: email/tip-scale}}]}}
  - id: settle
    wait: 2 days
  - id: morning
    until: {{between: "08:00-11:00"}}
  - stop: the rest is up to them
"""


def files() -> dict[str, str]:
    """The sample shop, and beside its flows as many of twenty steps as are measured."""
    return rig.shop_files() | {f"flows/care-{n}.yaml": _FLOW.format(n=n) for n in range(FLOWS)}


def run() -> dict[str, Any]:
    """Seconds on the clock and of the processor: the least of some rounds, and the least ratio of a pair."""
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in _WORDS}
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files().items():
            file = Path(folder, name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        for _ in range(ROUNDS):
            for name, words in _WORDS.items():
                took[name].append(_process([sys.executable, *words, folder]))
    pairs = zip(took["checking"], took["reading"], strict=True)
    return {
        "flows": FLOWS,
        **{
            name: {"wall_s": round(min(w for w, _ in times), 2), "cpu_s": round(min(c for _, c in times), 2)}
            for name, times in took.items()
        },
        "checking_to_reading_cpu": round(min(ours[1] / theirs[1] for ours, theirs in pairs), 2),
    }


def _process(words: list[str]) -> tuple[float, float]:
    """Runs a process to its end: seconds on the clock, and of the processor."""
    before, began = os.times(), time.perf_counter()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - began, cpu


if __name__ == "__main__":
    rig.show(run())
