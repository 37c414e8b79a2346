"""The rows of the bench. Each takes the world and yields figures."""
import hashlib, os, random, shutil, signal, statistics, subprocess, tarfile, threading, time
from collections import namedtuple

from world import EACH, MIB, Far, drop, may_drop, run, timed, wait_for, write

# `ratio` is the measured value by the limit (or the value itself); `goal` what it should be, `<=` or `>=`.
Figure = namedtuple("Figure", "row what value limit ratio goal")
ENV = dict(os.environ, LC_ALL="C", GIT_CONFIG_NOSYSTEM="1", GIT_TERMINAL_PROMPT="0", HOME="/nonexistent")


def times(row, what, value, limit, goal):
    """Times as long as the limit."""
    return Figure(row, what, "%.3f s" % value, "%.3f s" % limit, value / limit, goal)


def share(row, what, value, limit, goal):
    """Speed as a share of the limit's, from two durations of the same work."""
    return Figure(row, what, "%.3f s" % value, "%.3f s" % limit, limit / value, goal)


def plain(row, what, value, unit, goal):
    return Figure(row, what, "%.4g %s" % (value, unit), "", value, goal)


def read_all(path):
    buffer, total = bytearray(MIB), 0
    with open(path, "rb", buffering=0) as file:
        while got := file.readinto(buffer):
            total += got
    return total


def read_places(path, places, length):
    with open(path, "rb", buffering=0) as file:
        for place in places:
            if len(os.pread(file.fileno(), length, place)) != length:
                raise RuntimeError("a short read")


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "blake2b").digest() if hasattr(hashlib, "file_digest") else \
            hashlib.blake2b(file.read()).digest()


def curl_list(world, lines):
    """Runs many transfers by one curl, eight at a time."""
    listed = world.fresh("curl")
    write(listed, "".join(lines).encode())
    return timed(run, "curl", "-sSf", "-Z", "--parallel-max", "8", "-K", listed)[0]


def beside(places, native, ours):
    """How long the same reads of 4 KiB take there and here."""
    return timed(read_places, native, places, 4096)[0], timed(read_places, ours, places, 4096)[0]


def by_turns(native, ours):
    """How long both take to read when the kernel has forgotten them: what else keeps bytes below us gets no favourite."""
    took = {native: [], ours: []}
    for path in (native, ours, ours, native):
        drop(1)
        took[path].append(timed(read_all, path)[0])
    return min(took[native]), min(took[ours])


def sequential(world):
    """W1, W2, W3: one big file from front to back, cold and again, and here and there of it."""
    url, native = world.server.url + "data/big", os.path.join(world.native, "data", "big")
    curl, _ = timed(run, "curl", "-sSf", "-o", "/dev/null", url)
    with world.mount() as mount:
        big, before = mount.path("data", "big"), mount.cpu()
        cold, _ = timed(read_all, big)
        yield share("W1", "cold sequential read, speed of curl's", cold, curl, ">= 0.45")
        spent = (mount.cpu() - before) * (1 << 30) / world.big
        yield plain("W1", "client CPU", spent, "s/GiB", "<= 1.3")
        # What has just come goes past the daemon when the catalog knows that all of it is here.
        mount.record()
        read_all(big), read_all(native)
        limit, warm = timed(read_all, native)[0], timed(read_all, big)[0]
        yield share("W2", "warm sequential read, speed of native", warm, limit, world.goal(">= 0.9", ">= 0.45"))
        chance = random.Random(3)
        places = [chance.randrange(world.big // 4096) * 4096 for _ in range(20_000)]
        limit, warm = beside(places, native, big)
        yield share("W3", "20,000 random reads of 4 KiB, warm, speed of native", warm, limit, world.goal(">= 0.9", ">= 0.8"))
        if may_drop():
            limit, dropped = by_turns(native, big)
            yield share("W2", "the same, page cache dropped", dropped, limit, world.goal(">= 0.9", ">= 0.6"))
            drop(1)
            limit, dropped = beside(places[:2000], native, big)
            yield share("W3", "2,000 of them, page cache dropped", dropped, limit, world.goal(">= 0.9", ">= 0.45"))
        if digest(big) != digest(os.path.join(world.root, "data", "big")):
            raise RuntimeError("WRONG BYTES")
        yield plain("W11", "memory after reading it", mount.resident(), "MiB", "<= 64")


def random_reads(world):
    """W4: 200 reads of 64 KiB here and there."""
    chance = random.Random(4)
    places = [chance.randrange((world.big - 65536) // 4096) * 4096 for _ in range(200)]
    limit, _ = timed(get_ranges, world, places, 65536)
    with world.mount() as mount:
        os.stat(mount.path("data", "big"))
        mark = world.server.mark()
        took, _ = timed(read_places, mount.path("data", "big"), places, 65536)
        wait_for("the log", lambda: world.server.since(mark)[0] > 0, 5)
        sent = world.server.all_since(mark)[1]
        yield times("W4", "200 random 64 KiB reads, of HTTP", took, limit, "<= 2")
        yield Figure("W4", "bytes fetched of asked", "%.1f MiB" % (sent / MIB), "12.5 MiB", sent / MIB / 12.5, "<= 1.3")


def get_ranges(world, places, length):
    connection = world.server.connection()
    for place in places:
        connection.request("GET", "/data/big", headers={"Range": "bytes=%d-%d" % (place, place + length - 1)})
        connection.getresponse().read()
    connection.close()


def ends(world):
    """W5: the first and the last 4 KiB of a cold big file."""
    limit, _ = timed(get_ranges, world, [0], 4096)
    for what, place in (("first", 0), ("last", world.big - 4096)):
        took = []
        for _ in range(3):
            with world.mount() as mount:
                os.stat(mount.path("data", "big"))
                took.append(timed(read_places, mount.path("data", "big"), [place], 4096)[0] * 1000)
        yield Figure("W5", "%s 4 KiB of a cold file" % what, "%.2f ms" % statistics.median(took),
                     "%.2f ms" % (limit * 1000), statistics.median(took), "<= 1.5 ms")


def propfinds(world, folders):
    connection, seen = world.server.connection(), 0
    for folder in folders:
        connection.request("PROPFIND", "/data/%s/" % folder, headers={"Depth": "1"})
        seen += connection.getresponse().read().count(b"<D:href>") - 1
    connection.close()
    return seen


def find(path, entries):
    took, said = timed(lambda: run("find", path, "-printf", "%s %T@ %p\\n"))
    if said.count(b"\n") < entries:
        raise RuntimeError("find: only %d lines" % said.count(b"\n"))
    return took


def of_bare(row, what, value, bare):
    """Times as long as a FUSE program takes that has nothing behind it."""
    return times(row, what + ", of a FUSE program with nothing behind it", value, bare, "")


def storm(places):
    begun = time.perf_counter()
    for place in places:
        os.stat(place)
    return time.perf_counter() - begun


def names(world):
    """W6: listings cold, warm, after the kernel forgot, and after a remount without a server."""
    folders = ["tree/d%03d" % number for number in range(world.folders)]
    flat_limit, tree_limit = timed(propfinds, world, ["flat"])[0], timed(propfinds, world, folders)[0]
    entries = world.folders * EACH
    inside = ["data/%s/f%03d" % (folder, number) for folder in folders for number in range(EACH)]
    random.Random(6).shuffle(inside)
    state, native = world.fresh("state"), os.path.join(world.native, "data", "tree")
    with world.mount(state=state) as mount:
        os.stat(mount.path("data"))
        took, _ = timed(lambda: run("ls", "-l", mount.path("data", "flat"), env=ENV))
        yield times("W6", "cold ls -l of %d, of a PROPFIND" % world.flat, took, flat_limit, "<= 6")
        os.stat(mount.path("data", "tree"))
        yield times("W6", "cold find of %d in %d folders, of PROPFINDs" % (entries, world.folders),
                    find(mount.path("data", "tree"), entries), tree_limit, "<= 4")
        find(native, entries)
        limit = statistics.median(find(native, entries) for _ in range(3))
        warm = statistics.median(find(mount.path("data", "tree"), entries) for _ in range(3))
        yield times("W6", "warm find, of native", warm, limit, "<= 1.2")
        with world.bare(os.path.join(world.native, "data")) as bare:
            find(bare.path("tree"), entries)
            at_least = statistics.median(find(bare.path("tree"), entries) for _ in range(3))
            yield of_bare("W6", "warm find", warm, at_least)
            yield from storms(world, mount, bare, inside)
    world.server.stop()
    try:
        with world.mount(state=state) as mount:
            after = find(mount.path("data", "tree"), entries)
            yield times("W6", "find after remount, server stopped, of native", after, limit, "")
    finally:
        world.server.start()


def storms(world, mount, bare, inside):
    ours = [mount.path(name) for name in inside]
    bares = [bare.path(name.removeprefix("data/")) for name in inside]
    theirs = [os.path.join(world.native, name) for name in inside]
    storm(ours), storm(theirs)
    yield share("W6", "stat storm, warm, speed of native", storm(ours), storm(theirs), "")
    if not may_drop():
        return
    drop(2)
    limit = storm(theirs)
    drop(2)
    mark = world.server.mark()
    took = storm(ours)
    yield share("W6", "stat storm after dropping names, speed of native", took, limit, ">= 0.35")
    drop(2)
    yield of_bare("W6", "stat storm after dropping names", took, storm(bares))
    yield plain("W6", "requests for it", world.server.since(mark)[0], "", "<= 0")


def write_files(folder, count, content):
    os.makedirs(folder)
    for number in range(count):
        with open(os.path.join(folder, "n%04d" % number), "wb", buffering=0) as file:
            file.write(content)


def all_there(folder, sizes):
    """Whether the server's side holds every file of `sizes` with its size."""
    for name in list(sizes):
        try:
            if os.stat(os.path.join(folder, name)).st_size != sizes[name]:
                return False
        except FileNotFoundError:
            return False
        del sizes[name]
    return True


def small_writes(world):
    """W7: 1,000 files of 4 KiB."""
    count, content = 1000 // world.scale, os.urandom(4096)
    sources = world.fresh("native")
    limit, _ = timed(write_files, sources, count, content)
    lines = ["upload-file = %s/n%04d\nurl = %sput/n%04d\n" % (sources, number, world.server.url, number)
             for number in range(count)]
    curl = curl_list(world, lines)
    with world.bare() as bare:
        at_least, _ = timed(write_files, bare.path("w7"), count, content)
    with world.mount() as mount:
        begun = time.perf_counter()
        write_files(mount.path("w7"), count, content)
        closed = time.perf_counter() - begun
        wait_for("all are sent", lambda left={"n%04d" % n: 4096 for n in range(count)}:
                 all_there(os.path.join(world.root, "w7"), left), 120)
        arrived = time.perf_counter() - begun
        yield times("W7", "%d x 4 KiB: closes return, of native" % count, closed, limit, world.goal("<= 9", "<= 12"))
        yield of_bare("W7", "closes return", closed, at_least)
        yield times("W7", "all on the remote, of curl, 8 at a time (1 s delay taken off)", arrived - 1, curl, "<= 3")


def write_big(path, mebibytes):
    block = os.urandom(MIB)
    with open(path, "wb", buffering=0) as file:
        for _ in range(mebibytes):
            file.write(block)


def big_write(world):
    """W8: one file of 512 MiB."""
    mebibytes, source = 512 // world.scale, world.fresh("native")
    limit, _ = timed(write_big, source, mebibytes)
    curl, _ = timed(run, "curl", "-sSf", "-T", source, world.server.url + "put/large")
    with world.mount() as mount:
        begun = time.perf_counter()
        write_big(mount.path("large"), mebibytes)
        closed = time.perf_counter() - begun
        wait_for("it is sent", lambda: all_there(world.root, {"large": mebibytes * MIB}), 120)
        arrived = time.perf_counter() - begun
        yield times("W8", "write %d MiB: close returns, of native" % mebibytes, closed, limit, world.goal("<= 1.5", "<= 6"))
        yield times("W8", "complete on the remote, of curl (1 s delay taken off)", arrived - 1, curl, world.goal("<= 1.3", "<= 1.5"))
        yield plain("W11", "memory after writing it", mount.resident(), "MiB", "<= 64")


def trees(world):
    """W9: a tree of small files copied out cold, and one unpacked."""
    source = os.path.join(world.root, "data", "source")
    every = [os.path.relpath(os.path.join(at, name), world.root) for at, _, names in os.walk(source) for name in names]
    curl = curl_list(world, ["url = %s%s\noutput = /dev/null\n" % (world.server.url, name) for name in every])
    with world.mount() as mount:
        out = world.fresh("copy")
        took, _ = timed(run, "cp", "-r", mount.path("data", "source"), out)
        run("diff", "-r", out, source)
        yield times("W9", "cp -r of %d cold files, of curl, 8 at a time" % len(every), took, curl, "<= 2")
    place = world.fresh("native")
    os.mkdir(place)
    limit, _ = timed(run, "tar", "xf", world.path("source.tar"), "--no-same-owner", "-C", place)
    with world.bare() as bare:
        at_least, _ = timed(run, "tar", "xf", world.path("source.tar"), "--no-same-owner", "-C", bare.at)
    with tarfile.open(world.path("source.tar")) as archive:
        left = {os.path.normpath(entry.name): entry.size for entry in archive if entry.isfile()}
    with world.mount() as mount:
        os.mkdir(mount.path("tar"))
        begun = time.perf_counter()
        run("tar", "xf", world.path("source.tar"), "--no-same-owner", "-C", mount.path("tar"))
        took = time.perf_counter() - begun
        wait_for("all are sent", lambda: all_there(os.path.join(world.root, "tar"), left), 180)
        yield times("W9", "tar x, of native", took, limit, world.goal("<= 5", "<= 6"))
        yield of_bare("W9", "tar x", took, at_least)
        yield plain("W9", "tar x, all on the remote", time.perf_counter() - begun, "s", "")


def far(world):
    """W12: a server 20 ms away: folders listed and small files copied out, cold."""
    away = Far(world.server, 0.02)
    try:
        with world.mount(away.url) as mount:
            tree = mount.path("data", "tree")
            os.stat(tree)
            yield plain("W12", "20 ms away: cold find in %d folders" % world.folders, find(tree, world.folders * EACH), "s", "<= 0.7")
        source = os.path.join(world.root, "data", "source", "p0")
        count = sum(len(names) for _, _, names in os.walk(source))
        with world.mount(away.url) as mount:
            out = world.fresh("copy")
            took, _ = timed(run, "cp", "-r", mount.path("data", "source", "p0"), out)
            run("diff", "-r", out, source)
            yield plain("W12", "20 ms away: cp -r of %d cold files" % count, took, "s", "<= 2")
    finally:
        away.stop()


def git(world):
    """W10: git clone and git status, a folder as remote."""
    def clone(to):
        return timed(lambda: run("git", "-c", "safe.directory=*", "clone", "-q", "file://" + world.repository, to, env=ENV))[0]

    def status(at):
        def once():
            said = run("git", "-c", "safe.directory=*", "-C", at, "status", "--porcelain", env=ENV)
            if said:
                raise RuntimeError("git status is not clean: %r" % said[:100])
        once()
        return statistics.median(timed(once)[0] for _ in range(5))
    native = world.fresh("native")
    clone_limit, status_limit = clone(native), status(native)
    with world.bare() as bare:
        clone_at_least, status_at_least = clone(bare.path("clone")), status(bare.path("clone"))
    remote = os.path.join(world.memory, "git")
    os.mkdir(remote)
    with world.mount(remote) as mount:
        took = clone(mount.path("clone"))
        yield times("W10", "git clone into the mount, of native", took, clone_limit, world.goal("<= 1.25", "<= 1.4"))
        yield of_bare("W10", "git clone", took, clone_at_least)
        warm = status(mount.path("clone"))
        yield times("W10", "warm git status, of native", warm, status_limit, "<= 1.5")
        yield of_bare("W10", "warm git status", warm, status_at_least)
        run("git", "-c", "safe.directory=*", "-C", mount.path("clone"), "fsck", env=ENV)


def streaming(world):
    """W11: memory while 4 GiB stream through."""
    size = (4 << 30) // world.scale
    with open(os.path.join(world.root, "stream"), "wb") as file:
        file.truncate(size)
    # Not of this very second: what may still change under its version is kept until it is read once more.
    os.utime(os.path.join(world.root, "stream"), (1e9, 1e9))
    with world.mount() as mount:
        if read_all(mount.path("stream")) != size:
            raise RuntimeError("a short read")
        yield plain("W11", "memory, streaming %d MiB" % (size // MIB), mount.resident(), "MiB", "<= 64")
    os.unlink(os.path.join(world.root, "stream"))


def million(world):
    """W11: memory with 1,000,000 listed entries; mounting such a catalog again."""
    each = 1000
    folders, remote, state = 1000 // world.scale, os.path.join(world.memory, "million"), world.fresh("state")
    for folder in range(folders):
        place = os.path.join(remote, "d%04d" % folder)
        os.makedirs(place)
        for number in range(each):
            os.close(os.open(os.path.join(place, "file-%04d" % number), os.O_CREAT | os.O_WRONLY, 0o644))
    with world.mount(remote, state) as mount:
        took = find(mount.at, folders * each)
        yield plain("W11", "find of %d cold entries of a folder remote" % (folders * each), took, "s", "")
        yield plain("W11", "memory after it, at most", mount.resident(), "MiB", "<= 64")
    with world.mount(remote, state) as mount:
        took, _ = timed(os.listdir, mount.path("d0000"))
        yield plain("-", "mount to first ls with that catalog", mount.took + took, "s", "<= 0.3")
        find(mount.at, folders * each)
        yield plain("W11", "memory after a warm walk, at most", mount.resident(), "MiB", "<= 40")
        for words in (["find", mount.at, "file-0500"], ["find", mount.at, "d0001/*"], ["largest", mount.at], ["recent", mount.at],
                      ["du", "-s", mount.at]):
            took, _ = timed(run, world.dewfs, *words)
            yield plain("P5", "dewfs %s over %d entries" % (words[0], folders * each), took, "s", "<= 0.7")
    shutil.rmtree(remote)


def states(world):
    """P4: reading the state of 10,000 files as extended attributes, with nothing and with much pending; wake-ups at rest."""
    count, remote = 10_000 // world.scale, os.path.join(world.memory, "states")
    os.makedirs(remote)
    for number in range(count):
        write(os.path.join(remote, "n%05d" % number), b"x")
    with world.mount(remote, world.fresh("state"), "write_back_delay=60s") as mount:
        names = [mount.path(name) for name in os.listdir(mount.at)]
        read = lambda: [os.getxattr(name, "user.dewfs.state") for name in names]
        read()
        yield plain("P4", "%d reads of user.dewfs.state" % count, timed(read)[0], "s", "<= 0.5")
        for name in names[:1000 // world.scale]:
            write(name, b"yy")
        yield plain("P4", "the same with %d pending" % (1000 // world.scale), timed(read)[0], "s", "<= 0.5")
        folder = lambda: [os.getxattr(mount.at, "user.dewfs.pending_below") for _ in range(count)]
        yield plain("P4", "%d reads of user.dewfs.pending_below" % count, timed(folder)[0], "s", "<= 0.5")
    with world.mount(remote, world.fresh("state")) as mount:
        os.listdir(mount.at)
        time.sleep(3)
        before = mount.switches()
        time.sleep(10)
        yield plain("P4", "wake-ups in 10 s with nothing to do", mount.woken_since(before), "", "<= 10")
    shutil.rmtree(remote)


def pending(world):
    """W11: memory with 10,000 files that wait for the server."""
    count = 10_000 // world.scale
    with world.mount() as mount:
        os.listdir(mount.at)
        world.server.stop()
        try:
            write_files(mount.path("pending"), count, b"x" * 1000)
            yield plain("W11", "memory with %d pending files" % count, mount.resident(), "MiB", "<= 64")
        finally:
            world.server.start()
        left = {"n%04d" % number: 1000 for number in range(count)}
        begun = time.perf_counter()
        wait_for("all are sent", lambda: all_there(os.path.join(world.root, "pending"), left), 300, 0.1)
        yield plain("W7", "%d pending files sent once the server is back" % count, time.perf_counter() - begun, "s", "")
        yield plain("W11", "memory afterwards, at most", mount.resident(), "MiB", "<= 64")


def frozen(world):
    """300 reads that wait for a frozen server must not stop a read of what is here."""
    here = "data/flat/file-00000.txt"
    with world.mount() as mount:
        read_all(mount.path(here))
        os.stat(mount.path("data", "big"))
        world.server.signal(signal.SIGSTOP)
        try:
            stuck = [subprocess.Popen(["dd", "if=" + mount.path("data", "big"), "of=/dev/null", "bs=4096", "count=1",
                                       "skip=%d" % (number * (world.big // 300) // 4096)],
                                      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for number in range(300)]
            wait_for("300 reads wait", lambda: sum(blocked(each.pid) for each in stuck) >= 300, 30)
            slowest = 0.0
            for _ in range(20):
                if may_drop():
                    drop_pages_of(mount.path(here))
                slowest = max(slowest, timed(read_all, mount.path(here))[0])
            yield plain("-", "slowest of 20 local reads beside 300 stuck ones", slowest * 1000, "ms", "<= 50")
        finally:
            world.server.signal(signal.SIGCONT)
        for each in stuck:
            if each.wait(60):
                raise RuntimeError("a read that was stuck failed")


def drop_pages_of(path):
    with open(path, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def blocked(pid):
    """Whether a process waits inside a read of the mount."""
    try:
        with open("/proc/%d/wchan" % pid) as file:
            return any(word in file.read() for word in ("folio", "page", "fuse", "request_wait"))
    except OSError:
        return False


ROWS = [sequential, random_reads, ends, names, small_writes, big_write, trees, far, git, frozen, streaming, pending, states, million]
