#!/usr/bin/env python3
"""Shows where the daemon's time goes in W1 or W7: a small flame graph and the functions of dewfs that take most of it.

    benches/flame.py small_writes docs/flame-w7.svg
    benches/flame.py sequential docs/flame-w1.svg

Needs perf, and what the bench needs. Parts below one per cent are left out, and what they call.
"""
import argparse, collections, html, os, re, signal, subprocess, sys, time

import rows
from world import Mount, World

HERE = os.path.dirname(os.path.abspath(__file__))
WIDTH, HEIGHT, LEAST = 1000, 15, 0.01


class Recorded(Mount):
    """A mount whose daemon is recorded while it lives."""

    def __init__(self, world, *more):
        super().__init__(world, *more)
        self.perf = subprocess.Popen(
            ["perf", "record", "-q", "-F", "499", "--call-graph", "dwarf,16384", "-p", str(self.process.pid), "-o", world.recording],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(1)  # perf says nothing when it has begun

    def end(self):
        if self.perf.poll() is None:
            self.perf.send_signal(signal.SIGINT)
            self.perf.wait()
        super().end()


def short(symbol):
    """A name that a person can read: without arguments, types and hashes."""
    symbol = re.sub(r"\+0x[0-9a-f]+$| \(inlined\)$", "", symbol)
    for _ in range(8):
        symbol = re.sub(r"[\w:]*<impl ([^<>]*)>", r"\1", symbol)
        symbol = re.sub(r"<[^<>]*>", "", symbol)
    return re.sub(r"::\{\{?closure\}?\}|::\{closure#\d+\}|::\{async_fn#\d+\}|::\{impl#\d+\}", "", symbol).strip(":") or "?"


PLUMBING = re.compile(r"^(core|alloc|std|tokio|futures_util|__rust|_?start_thread|clone3|run$|call_once|poll|do_call|catch_unwind|"
                      r"with|block_on|enter|set|try_with|new::thread_start|\?|main|\{|hyper|Box|FnOnce|F::|T::)")


def stacks(recording):
    """Stacks from the thread down, each with how often it was seen."""
    said = subprocess.run(["perf", "script", "--no-inline", "-i", recording, "-F", "comm,ip,sym"], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True).stdout
    counted = collections.Counter()
    for block in said.split("\n\n"):
        lines = block.strip().split("\n")
        if len(lines) < 2:
            continue
        frames = [short(line.strip().split(" ", 1)[-1]) for line in lines[1:]]
        frames = [frame for frame in reversed(frames) if not PLUMBING.match(frame)]
        thread = re.sub(r"-\d+$", "", lines[0].split()[0])
        kept = [frame for at, frame in enumerate(frames) if at == 0 or frames[at - 1] != frame]
        counted[(thread,) + tuple(kept)] += 1
    return counted


def tree(counted):
    root = {"count": 0, "below": {}}
    for stack, count in counted.items():
        node = root
        node["count"] += count
        for frame in stack:
            node = node["below"].setdefault(frame, {"count": 0, "below": {}})
            node["count"] += count
    return root


def draw(root, title):
    total, boxes, deepest = root["count"], [], 0
    def lay(node, x, depth):
        nonlocal deepest
        deepest = max(deepest, depth)
        for name, below in sorted(node["below"].items()):
            width = below["count"] / total
            if width >= LEAST:
                boxes.append((x, depth, width, name, below["count"]))
                lay(below, x, depth + 1)
            x += width
    lay(root, 0.0, 0)
    tall = (deepest + 2) * HEIGHT
    out = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="monospace" font-size="10">' % (WIDTH, tall),
           '<text x="4" y="11">%s</text>' % html.escape(title)]
    for x, depth, width, name, count in boxes:
        kernel = 25 if name.startswith(("do_", "__", "ext4", "fuse_", "vfs_", "ksys", "entry_", "sys_", "x64")) else 45
        out.append('<g transform="translate(%.1f %d)"><rect width="%.1f" height="%d" fill="hsl(%d 80%% %d%%)" stroke="#fff"/>'
                   '<title>%s %.1f %%</title>' % (x * WIDTH, (depth + 1) * HEIGHT, width * WIDTH, HEIGHT - 1, kernel,
                                                  60 + hash_of(name) % 15, html.escape(name), 100 * count / total))
        room = int(width * WIDTH / 6.1)
        if room > 4:
            label = name.split("::")[-2:] if "::" in name else [name]
            out.append('<text x="2" y="11">%s</text>' % html.escape("::".join(label)[:room]))
        out.append("</g>")
    return "\n".join(out + ["</svg>", ""])


def hash_of(name):
    return sum(map(ord, name))


def top(counted, most=12):
    """Which functions of dewfs are on the stack how often."""
    total, inside = sum(counted.values()), collections.Counter()
    for stack, count in counted.items():
        for frame in {frame for frame in stack if frame.startswith("dewfs::")}:
            inside[frame] += count
    print("| function | of all samples |\n| --- | --- |")
    for name, count in inside.most_common(most):
        print("| `%s` | %.0f %% |" % (name.removeprefix("dewfs::"), 100 * count / total))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("row", choices=[row.__name__ for row in rows.ROWS])
    parser.add_argument("svg", help="where the graph goes")
    parser.add_argument("--dewfs", default=os.path.join(HERE, "..", "target", "release", "dewfs"), help="the program")
    asked = parser.parse_args()
    with World(os.path.realpath(asked.dewfs), 1) as world:
        world.recording = world.path("perf.data")
        world.mount = lambda remote=None, state=None, options="": Recorded(
            world, remote or world.server.url, state or world.fresh("state"), options)
        list(getattr(rows, asked.row)(world))
        counted = stacks(world.recording)
    with open(asked.svg, "w") as file:
        file.write(draw(tree(counted), "%s: %d samples of the daemon, by thread" % (asked.row, sum(counted.values()))))
    top(counted)


if __name__ == "__main__":
    main()
