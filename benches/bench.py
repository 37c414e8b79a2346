#!/usr/bin/env python3
"""Measures dewfs against two limits inside one run: the native file system, and curl against the same server.

    benches/bench.py                     # everything; some minutes
    benches/bench.py names small_writes  # only these rows
    benches/bench.py --quick             # an eighth of the sizes
    benches/bench.py --runs 3            # three times over; the medians, with the least and the most
    benches/bench.py --fallback          # without passthrough, with the goals for that
    benches/bench.py --json FILE         # the figures for programs, too

Ratios are what counts: seconds of different runs or machines mean nothing beside each other. Needs nginx with its WebDAV
modules, curl, git and FUSE; rows that make the kernel forget need root, and as root everything runs at a high priority, so that
others on the machine disturb less. Leaves nothing behind.
"""
import argparse, json, os, platform, signal, sys, time, traceback

import rows
from world import World, log

HERE = os.path.dirname(os.path.abspath(__file__))


def reached(figure):
    """Whether a figure reaches its goal; nothing where it has none."""
    if not figure.goal:
        return ""
    sign, goal = figure.goal.split()[:2]
    return "yes" if (figure.ratio <= float(goal) if sign == "<=" else figure.ratio >= float(goal)) else "NO"


def print_figure(figure):
    cells = (figure.row, figure.what, figure.value, figure.limit, "%.2f" % figure.ratio, figure.goal, reached(figure))
    print("| " + " | ".join(cells) + " |", flush=True)


def once(asked, chosen, told):
    """Runs these rows in a world of their own; answers the figures, and whether a row failed."""
    figures, failed = [], False
    with World(os.path.realpath(asked.dewfs), 8 if asked.quick else 1, asked.fallback) as world:
        for row in chosen:
            log(row.__doc__)
            try:
                for figure in row(world):
                    figures.append(figure)
                    told(figure)
            except Exception as error:  # one row that fails must not take the others with it
                failed = True
                traceback.print_exc()
                print("| | %s FAILED: %s | | | | | NO |" % (row.__name__, error), flush=True)
    return figures, failed


def medians(runs):
    """One figure for all of its kind: the run in the middle, with the least and the most."""
    kinds = {}
    for figure in (figure for run in runs for figure in run):
        kinds.setdefault((figure.row, figure.what), []).append(figure)
    for same in kinds.values():
        same.sort(key=lambda figure: figure.ratio)
        middle = same[(len(same) - 1) // 2]
        yield middle._replace(what="%s (%.2f–%.2f)" % (middle.what, same[0].ratio, same[-1].ratio))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(row.__name__ for row in rows.ROWS))
    parser.add_argument("--dewfs", default=os.path.join(HERE, "..", "target", "release", "dewfs"), help="the program")
    parser.add_argument("--quick", action="store_true", help="an eighth of the sizes")
    parser.add_argument("--fallback", action="store_true", help="without passthrough, as older kernels and ordinary users have it")
    parser.add_argument("--runs", type=int, default=1, metavar="N", help="so often; shows medians")
    parser.add_argument("--json", metavar="FILE", help="write the figures there as well")
    asked = parser.parse_args()
    unknown = set(asked.rows) - {row.__name__ for row in rows.ROWS}
    if unknown:
        parser.error("no such row: " + ", ".join(sorted(unknown)))
    chosen = [row for row in rows.ROWS if not asked.rows or row.__name__ in asked.rows]
    # Ended from outside, it still unmounts and clears away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if os.getuid() == 0:
        os.nice(-19)
    print("Linux %s, %d cores, %s, load %.1f" % (
        platform.release(), os.cpu_count(), time.strftime("%Y-%m-%d %H:%M"), os.getloadavg()[0]))
    print("\n| row | what | dewfs | limit | ratio | goal | reached |\n| --- | --- | --- | --- | --- | --- | --- |", flush=True)
    told = print_figure if asked.runs == 1 else lambda figure: log(figure.row, figure.what, "%.2f" % figure.ratio)
    runs = [once(asked, chosen, told) for _ in range(asked.runs)]
    figures, failed = runs[0][0], any(failed for _, failed in runs)
    if asked.runs > 1:
        figures = list(medians([figures for figures, _ in runs]))
        for figure in figures:
            print_figure(figure)
    if asked.json:
        with open(asked.json, "w") as file:
            json.dump([figure._asdict() for figure in figures], file, indent=1)
    sys.exit(failed)


if __name__ == "__main__":
    main()
