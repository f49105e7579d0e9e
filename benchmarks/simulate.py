"""Days of made-up customers lived through a second, on one core: the roastery's longest flows over ninety days."""

import time
from typing import Any

from afterglow import ROOT
from afterglow.simulate import Plan, made_up, simulate
from benchmarks import rig
from workers.testing import shop_under_test

FLOWS = ("first-order", "welcome", "win-back")
CUSTOMERS = 1_000
DAYS = 90
_BAR = 20_000


def run(customers: int = CUSTOMERS) -> dict[str, Any]:
    """The figures. CPU time is the time on one core, whatever else the machine does."""
    shop = shop_under_test(ROOT)
    figures: dict[str, Any] = {"bar_customer_days_per_s": _BAR}
    for flow in FLOWS:
        plan = Plan(shop=shop, flow=flow, starts=rig.START, days=DAYS, answers=0.5, stops=0.1)
        simulate(plan, made_up(plan, range(1, 50)))
        began, cpu = time.perf_counter(), time.process_time()
        found = simulate(plan, made_up(plan, range(1, customers + 1)))
        took, busy = time.perf_counter() - began, time.process_time() - cpu
        figures[flow] = {
            "mails": sum(found.mails),
            "customer_days_per_s": round(customers * DAYS / took),
            "customer_days_per_cpu_s": round(customers * DAYS / busy),
        }
    return figures


if __name__ == "__main__":
    rig.show(run())
