"""What `serving.py` says: how far it is, and what it found."""

import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

_started = time.monotonic()


def seconds_so_far() -> float:
    """Since the program began."""
    return time.monotonic() - _started


def told(text: str) -> None:
    """Say on standard error how far it is."""
    print(f"{seconds_so_far():7.1f} s  {text}", file=sys.stderr)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and greatest."""
    return {"median": statistics.median(values), "least": min(values), "greatest": max(values)}


def divided(a: Sequence[float], b: Sequence[float]) -> list[float]:
    """Element by element."""
    return [x / y for x, y in zip(a, b, strict=True)]


def at_half_load(found: dict[str, Any]) -> str:
    """Of a case, its percentiles at half of its peak, where they were measured."""
    of = found.get("milliseconds_at_half_load", {})
    return "".join(f"  {label} {value['median']:.2f} ms at half load" for label, value in of.items())


def show(report: dict[str, Any]) -> None:
    """Print for people."""
    for part in ("peak", "peak_of_two"):
        for case, found in report.get(part, {}).items():
            rate, ratio = found["requests_per_second"][case], found["of_constant"]["constant"]
            cost = found["processor_microseconds"][case]["median"]
            print(
                f"{part:12} {case:15} {rate['median']:7.0f}/s  {cost:5.0f} µs  of constant {ratio['median']:.2f}"
                f" ({ratio['least']:.2f} to {ratio['greatest']:.2f})"
                + (f"  {found['records_lost']} records lost" if found["records_lost"] else "")
                + at_half_load(found)
            )
    for case, latency in report.get("latency", {}).items():
        print(f"{case} at {latency['requests_per_second']:.0f}/s, milliseconds:")
        for name, of in latency["milliseconds"].items():
            print(f"  telemetry {name:8}", "  ".join(f"{label} {v['median']:.3f}" for label, v in of.items()))
        for name in ("on", "stalled"):
            ratio = latency[f"p99_{name}_over_off"]
            print(f"  p99 {name} / off: {ratio['median']:.2f} ({ratio['least']:.2f} to {ratio['greatest']:.2f})")
        print(f"  failed {latency['failed']}; records lost while stalled {latency['lost_while_stalled']}")
        if not latency["generator_kept_up"]:
            print("  the generator was late itself: this machine is too busy for these latencies")
    for case, found in report.get("steps", {}).items():
        steps = ", ".join(f"{step} {value:.1f}" for step, value in found["steps"].items())
        print(f"steps of {case}: {found['whole']:.1f} µs: {steps}")
    if "fold_ins_per_second" in report:
        print(f"fold-ins: {report['fold_ins_per_second']['median']:.0f}/s")
    print(f"took {report['seconds']:.0f} s")
