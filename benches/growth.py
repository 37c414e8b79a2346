#!/usr/bin/env python3
"""Measures how cost grows: with the entries that a catalog has, and with the size of one file.

    benches/growth.py             # up to 1,000,000 entries and 100 GiB; some minutes
    benches/growth.py --quick     # up to 100,000 entries and 1 GiB

Prints two Markdown tables. The remote is a folder in memory, so what is measured is dewfs.
"""
import argparse, os, random, shutil, signal, statistics, sys

from rows import find
from world import MIB, World, drop, may_drop, timed, wait_for

HERE = os.path.dirname(os.path.abspath(__file__))


def many(world, entries):
    """The costs with so many entries: milliseconds, microseconds an entry, MiB."""
    remote, state, each = os.path.join(world.memory, "growth"), world.fresh("state"), min(entries, 1000)
    for folder in range(entries // each):
        place = os.path.join(remote, "d%04d" % folder)
        os.makedirs(place)
        for number in range(each):
            os.close(os.open(os.path.join(place, "file-%04d" % number), os.O_CREAT | os.O_WRONLY, 0o644))
    with world.mount(remote, state) as mount:
        cold = find(mount.at, entries)
    with world.mount(remote, state, "write_back_delay=60s") as mount:
        first, _ = timed(os.listdir, mount.path("d0000"))
        warm = find(mount.at, entries)
        names = ["d%04d/file-%04d" % (random.randrange(entries // each), random.randrange(each)) for _ in range(500)]
        if may_drop():
            drop(2)
        looked, _ = timed(lambda: [os.stat(mount.path(name)) for name in names])
        os.mkdir(mount.path("new"))
        made, _ = timed(lambda: [open(mount.path("new", "n%d" % number), "wb").close() for number in range(300)])
        memory, size = mount.resident(peak=False), sum(os.path.getsize(os.path.join(state, name)) for name in os.listdir(state)
                                                       if name.startswith("catalog.db")) / MIB
        yield from (mount.took * 1000 + first * 1000, cold / entries * 1e6, warm / entries * 1e6, looked / 500 * 1e6,
                    made / 300 * 1e6, memory, size)
    shutil.rmtree(remote)


def large(world, mebibytes):
    """The costs with a file of so many MiB that is not here: milliseconds, and MiB fetched."""
    remote, state = os.path.join(world.memory, "large"), world.fresh("state")
    os.makedirs(remote)
    with open(os.path.join(remote, "file"), "wb") as file:
        file.truncate(mebibytes * MIB)
    with world.mount(remote, state, "write_back_delay=600s") as mount:
        path = mount.path("file")
        os.stat(path)
        with open(path, "rb", buffering=0) as file:
            begin, _ = timed(os.pread, file.fileno(), 4096, 0)
            end, _ = timed(os.pread, file.fileno(), 4096, mebibytes * MIB - 4096)
        kept = lambda: os.stat(path).st_blocks * 512 / MIB
        fetched = kept()
        cut, _ = timed(os.truncate, path, mebibytes * MIB // 2)
        moved, _ = timed(os.rename, path, mount.path("moved"))
        yield from (begin * 1000, end * 1000, fetched, cut * 1000, moved * 1000, mount.resident())
    shutil.rmtree(remote)


def table(world, what, sizes, names, measure, runs):
    print("\n| %s | %s |\n| --- |%s" % (what, " | ".join(names), " --- |" * len(names)))
    for size, shown in sizes:
        figures = [list(measure(world, size)) for _ in range(runs)]
        print("| %s | %s |" % (shown, " | ".join("%.3g" % statistics.median(column) for column in zip(*figures))), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--dewfs", default=os.path.join(HERE, "..", "target", "release", "dewfs"), help="the program")
    parser.add_argument("--quick", action="store_true", help="without the largest")
    parser.add_argument("--runs", type=int, default=1, metavar="N", help="the median of so many")
    asked = parser.parse_args()
    entries = [(10 ** power, "{:,}".format(10 ** power)) for power in range(3, 6 if asked.quick else 7)]
    sizes = [(1, "1 MiB"), (32, "32 MiB"), (1024, "1 GiB")] + ([] if asked.quick else [(16 << 10, "16 GiB"), (100 << 10, "100 GiB")])
    # Ended from outside, it still unmounts and clears away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with World(os.path.realpath(asked.dewfs), 64) as world:
        table(world, "entries", entries,
              ("mount to first `ls`, ms", "cold `find`, µs an entry", "warm `find`, µs an entry", "`stat`, µs", "create, µs",
               "memory, MiB", "catalog, MiB"), many, asked.runs)
        table(world, "one file", sizes,
              ("first 4 KiB, ms", "last 4 KiB, ms", "fetched, MiB", "cut to half, ms", "rename, ms", "memory, MiB"),
              large, asked.runs)


if __name__ == "__main__":
    main()
